"""The door for Python: scikit-learn's shape over the methods.

clusterer.py is what they share, methods.py has a class of two lines for each, views.py is how a fitted one looks: as a data frame, as
plots, in a notebook.
"""

from coterie.estimators.clusterer import ImageClusterer
from coterie.estimators.methods import AND, IR, IS, OF_METHOD, PCP, SCAN, SPICE, TEMI, TURTLE, DeepCluster, KMeans, load

__all__ = [
    "AND", "IR", "IS", "OF_METHOD", "PCP", "SCAN", "SPICE", "TEMI", "TURTLE", "DeepCluster", "ImageClusterer", "KMeans", "load",
]  # fmt: skip
