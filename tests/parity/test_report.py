"""The report's prototypes against what the reference implementation computed."""

import numpy as np

from coterie.report.choice import choose, prototype


def test_scan_prototypes(golden):
    z = golden("scan_prototypes")
    p_NK, features_ND, topk = z["probabilities"], z["features"], int(z["topk"])
    labels_N = p_NK.argmax(1)
    for cluster, wanted in enumerate(z["proto_indices"].tolist()):
        ids = np.flatnonzero(labels_N == cluster)
        assert ids[prototype(p_NK[ids, cluster], features_ND[ids], topk)] == wanted
    picks = choose(p_NK, labels_N, features_ND).clusters
    assert [picks[cluster].prototypes[0] for cluster in sorted(picks)] == z["proto_indices"].tolist()
