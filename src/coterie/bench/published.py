"""What papers report for a method and a set: landmarks beside our rows, of larger networks and hundreds of times the computing.

ACC from SPICE's Tables II and III (k-means, DeepCluster, SPICE) and SCAN's table of ten runs (SCAN). whole: trained and scored on train and
test together; split: trained on train, scored on test.
"""

PAPERS = {
    ("kmeans", "cifar10"): "0.229, whole",
    ("kmeans", "cifar20"): "0.130, whole",
    ("deepcluster", "cifar10"): "0.374, whole",
    ("deepcluster", "cifar20"): "0.189, whole",
    ("scan", "cifar10"): "0.876, split",
    ("scan", "cifar20"): "0.459, split",
    ("spice", "cifar10"): "0.926, whole",
    ("spice", "cifar20"): "0.538, whole",
}


def paper(method: str, name: str) -> str:
    """`(paper: 0.876, split)` for a method and a set (without its number of pictures); "" where none is known."""
    found = PAPERS.get((method, name.partition(":")[0]), "")
    return f"(paper: {found})" if found else ""
