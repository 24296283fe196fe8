"""Runs of the same pictures side by side: how far they agree, what moved, and what is known of each. Plain numbers, no torch.

The agreement of two runs is measured with what scores a run against labels (evaluate/metrics.py): the clusters of one stand in the place of
the classes. No true label is read here but the scores that `evaluate` left in metrics.json.
"""

from coterie.compare.agreement import Moved, Pair, pair, shared
from coterie.compare.page import page, write
from coterie.compare.runs import Sorting, read, told

__all__ = ["Moved", "Pair", "Sorting", "page", "pair", "read", "shared", "told", "write"]
