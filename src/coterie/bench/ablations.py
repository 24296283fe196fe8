"""The papers' ablations: one part of a method replaced by another, everything else as it is.

Lines of SCAN and SPICE share a pretext, one for each seed, as the method's preset has it, whose encoder each takes as it came and whose
features k-means sorts, too; those of PCP and DeepCluster train their own.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from coterie.bench import OWN, Asked, Table, page
from coterie.bench.fits import Fit
from coterie.bench.listed import listed
from coterie.errors import InputError

SETS = ("digits", "fashion_mnist:10000")
QUICK = ("digits", "fashion_mnist:2000")  # of any other preset than the sets' own


@dataclass(frozen=True)
class Ablation:
    """`lines`: what is changed, by the name of the line. `shared`: lines begin with one pretext, whose features k-means sorts too."""

    title: str
    about: str
    method: str
    lines: dict[str, dict[str, Any]]
    shared: bool = False
    always: dict[str, Any] = field(default_factory=dict)  # of every line

    def options(self, line: str) -> dict[str, Any]:
        return self.always | self.lines[line]


HEADS = {"selflabel_epochs": 0}  # SCAN without its last stage
SELF = {"joint_epochs": 0}  # SPICE without its third stage
ABLATIONS = {
    "scan-ablation": Ablation(
        "SCAN, part by part",
        "Table 1 of the paper: k-means on the pretext, SCAN's loss, self-labelling; and what is ours beside it.", "scan",
        {
            "SCAN's loss, a head that begins anywhere": HEADS | {"n_heads": 1, "start": "random"},
            "SCAN's loss, the best of heads that begin anywhere": HEADS | {"start": "random"},
            "SCAN's loss, half of them from clusterings": HEADS,
            "SCAN's loss, neighbours among features as they are": HEADS | {"neighbor_components": 0},
            "and self-labelling, by the network itself at 0.99": {"threshold": 0.99, "average_epochs": 0.0},
            "and self-labelling": {},
        },
        shared=True,
    ),
    "scan-pretext": Ablation(
        "SCAN, by pretext", "Table 2 of the paper: what the encoder learned before. Each pretext has the epochs of the preset.", "scan",
        {name: {"pretext": name} for name in ("simclr", "moco", "byol", "swav", "instance", "spreading", "rotation", "autoencoder")},
    ),
    "scan-neighbours": Ablation(
        "SCAN, by the number of neighbours", "Figure 7 of the paper: how many neighbours share a cluster. SCAN's loss alone.", "scan",
        {f"{k} neighbours": HEADS | {"n_neighbors": k} for k in (5, 10, 20, 30, 50)},
        shared=True,
    ),
    "scan-overcluster": Ablation(
        "SCAN, with more clusters than kinds",
        "The over-clustering of the paper: twice as many, each counted for its most frequent kind (many-to-one).", "scan",
        {f"{k} clusters": {"n_clusters": k} for k in (10, 20, 40)},
        shared=True,
    ),
    "spice-main": Ablation(
        "SPICE, stage by stage", "Table IV of the paper: the prototypes alone, and joint training after them.", "spice",
        {"SPICE-self": SELF, "SPICE": {}},
        shared=True,
    ),
    "spice-ablation": Ablation(
        "SPICE, part by part", "Table VII of the paper: one part of the second stage replaced by another; the third is left out.", "spice",
        {
            "SPICE-self": {},
            "no overlap": {"overlap": False},
            "the entropy as well": {"entropy_above": 1},
            "cross-entropy": {"double_softmax": False},
            "cross-entropy at 0.2": {"double_softmax": False, "temperature": 0.2},
            "features as they are": {"components": 0},
            "joint, one head": {"train_encoder": True, "n_heads": 1},
            "joint, ten heads": {"train_encoder": True},
        },
        shared=True, always=SELF,
    ),
    "spice-augment": Ablation(
        "SPICE, by views", "Table VIII of the paper: of what pseudo-labels are made, and of what they are learned.", "spice",
        {
            f"{label}, {train}": {"label_view": label, "train_view": train}
            for label, train in (("weak", "strong"), ("weak", "weak"), ("strong", "weak"), ("strong", "strong"), ("clean", "clean"))
        },
        shared=True, always=SELF,
    ),
    "spice-heads": Ablation(
        "SPICE, by the number of heads", "Figure 6 of the paper: of how many heads the best is chosen.", "spice",
        {f"{n} heads": {"n_heads": n} for n in (1, 2, 5, 10, 20)},
        shared=True, always=SELF,
    ),
    "spice-reliable": Ablation(
        "SPICE, by what is reliable", "Figure 7 of the paper: which pseudo-labels teach the network.", "spice",
        {
            "95 of 100 neighbours agree": {},
            "90 of 100": {"reliable_ratio": 0.9},
            "50 of 100": {"reliable_ratio": 0.5},
            "all images": {"select_reliable": False},
            "the published code's": {"reliable_ratio": 0.9, "reliable_bar": 0.99, "reliable_balance": True},
        },
        shared=True,
    ),
    "pcp-components": Ablation(
        "PCP, part by part", "The paper's table of components: clusters that grow, the two filters, the warm-up.", "pcp",
        {
            "PCP with the warm-up": {},
            "no warm-up": {"warm_up": 0.0},
            "clusters do not grow": {"progressive": False},
            "no votes": {"vote": False},
            "no filter": {"vote": False, "keep_share": 1.0},
        },
    ),
    "pcp-filter": Ablation(
        "PCP, by what is kept of a cluster", "Which share of each cluster, the nearest to its centre, is learned.", "pcp",
        {f"{share:g} of it": {"keep_share": share} for share in (0.25, 0.5, 0.75, 1.0)},
    ),
    "pcp-clusters": Ablation(
        "PCP, by the least clusters", "How many clusters there are at the end of the growth.", "pcp",
        {f"{n} clusters": {"floor": n} for n in (10, 36, 100, 300)},
    ),
    "deepcluster-clusters": Ablation(
        "DeepCluster, by the number of clusters", "Figure 2 (c) of the paper: how many clusters the network learns from.", "deepcluster",
        {f"{n} clusters": {"pseudo_clusters": n} for n in (10, 30, 90, 180, 400)},
    ),
}  # fmt: skip


def runs(asked: Asked, ablation: Ablation) -> Iterator[Fit]:
    """Seed by seed, so that a table that was interrupted has something of everything."""
    if asked.methods:
        raise InputError("--methods chooses lines of overview, last-step and speed; an ablation is of one method")
    for seed in asked.seeds:
        for name in asked.sets or (SETS if asked.preset == OWN else QUICK):
            pretext = Fit("kmeans", name, seed, pretext_of=ablation.method) if ablation.shared else None
            if pretext:
                yield pretext
            for line in ablation.lines:
                yield Fit(ablation.method, name, seed, ablation.options(line), features=pretext)


def named(row: page.Row, ablation: Ablation) -> str:
    """What a line is called."""
    if row["method"] != ablation.method:
        return "the pretext's features under k-means"
    names = {json.dumps(ablation.options(line), sort_keys=True): line for line in ablation.lines}
    return names.get(row["options"]) or page.options(row)


def table(name: str, ablation: Ablation) -> Table:
    about = f"Made by `coterie bench {name}`. {ablation.about}"
    if ablation.shared:
        about += "\nThe lines of one seed begin with the encoder of one pretext; what follows may go on to train it."
    return listed(name, ablation.title, about, partial(runs, ablation=ablation), partial(named, ablation=ablation))


TABLES = {name: table(name, ablation) for name, ablation in ABLATIONS.items()}
