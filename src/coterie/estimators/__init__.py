"""The door for Python: scikit-learn's shape over the methods.

clusterer.py is what they share, methods.py has a class of two lines for each, views.py is how a fitted one looks: as a data frame, as
plots, in a notebook.
"""

from coterie.estimators.clusterer import ImageClusterer
from coterie.estimators.methods import (
    AND,
    CC,
    DEC,
    IDEC,
    IDFD,
    IIC,
    IR,
    IS,
    OF_METHOD,
    PCP,
    PICA,
    SCAN,
    SPICE,
    TEMI,
    TURTLE,
    Agglomerative,
    DeepCluster,
    GaussianMixture,
    KMeans,
    SeLa,
    Spectral,
    load,
)  # fmt: skip

__all__ = [
    "AND", "CC", "DEC", "IDEC", "IDFD",
    "IIC", "IR", "IS", "OF_METHOD", "PCP", "PICA", "SCAN", "SPICE", "TEMI", "TURTLE", "Agglomerative", "DeepCluster",
    "GaussianMixture", "ImageClusterer", "KMeans", "SeLa", "Spectral", "load",
]  # fmt: skip
