"""How well scores without labels rank partitions: `python -m benchmarks.evidence NAME.npz|RUN ... [--classes 10 --draws 3]`.

Of each set many partitions are made, good and bad: k-means of several kinds on its features, their whitened or fewest axes and its
thumbnails, SCAN heads early and late and with too little entropy, a run's own heads, and copies that are shuffled, merged and split.
Each becomes a row with its scores and its accuracy; what is printed is the rank correlation (Spearman) over the set, over its better half,
and the accuracy of the partition that a score puts first.

NAME.npz holds x (N, D) features, y (N,) labels, t (N, 3, 4, 4) or (N, 48) thumbnails. RUN is the folder of a finished run whose source is
still there. Settings are chosen on classes 0 to 49 of Caltech-101 and on rows 0 to 4,999 of CIFAR-10 and Imagenette.

Shapes: N images, D feature, d axes, K clusters or neighbours, B batch.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor
from torch.optim import Adam

from benchmarks.record import done, record
from coterie.clustering.kmeans import kmeans, pca_whiten
from coterie.clustering.neighbours import nearest
from coterie.evaluate.labels import labels_of
from coterie.evaluate.metrics import accuracy
from coterie.fitting.verdict import TINY, finding
from coterie.images import open_images
from coterie.learning import evidence
from coterie.learning.diagnose import agreement
from coterie.learning.losses import scan_loss
from coterie.networks.heads import Heads
from coterie.run.files import read_json, read_tensors
from coterie.run.seeding import forked, generator

MOST = 5000
STEPS = (3, 10, 30, 80, 240)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--classes", type=int, default=0, help="of those there, drawn")
    parser.add_argument("--draws", type=int, default=1)
    options = parser.parse_args()
    for path in options.sets:
        for draw in range(options.draws):
            name = path.stem + (f" {options.classes} classes" if options.classes else "")
            if not done("evidence", {"set": name, "draw": draw}):
                measure(name, draw, *drawn(*load(path), options.classes, draw))


def load(path: Path) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
    """Features, labels, thumbnails, and partitions that a run kept."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            x_ND, y_N, t = (torch.from_numpy(file[name])[:MOST] for name in "xyt")
        return x_ND.float(), y_N.long(), t.float().view(len(t), -1, TINY, TINY), {}
    config = read_json(path / "config.json")
    images = open_images(config["source"].get("path") or config["source"]["name"], config["settings"]["image_size"])
    tiny = torch.cat([F.adaptive_avg_pool2d(batch.pixels_B3HW, TINY) for batch in images.batches(1024)])
    x_ND = torch.from_numpy(read_tensors(path / "features.safetensors")["features"]).float()
    kept = {}
    for key, labels_HN in read_tensors(path / "trace.safetensors").items():
        if key.startswith(("clustering-", "self-labelling-")) and int(key.split("-")[-1]) % 6 == 0:
            kept |= {f"{key}-{h}": torch.from_numpy(labels_HN[h]).long() for h in range(0, len(labels_HN), 7)}
    return x_ND, torch.from_numpy(labels_of(config["source"], images.paths, None).values), tiny, kept


def drawn(x_ND: Tensor, y_N: Tensor, t: Tensor, kept: dict[str, Tensor], classes: int, draw: int):
    if not classes:
        return x_ND, y_N, t, kept
    there = y_N.unique()
    some = there[torch.randperm(len(there), generator=generator(draw, "classes"))[:classes]].sort().values
    mine_N = torch.isin(y_N, some)
    return x_ND[mine_N], torch.searchsorted(some, y_N[mine_N]), t[mine_N], {}


def measure(name: str, draw: int, x_ND: Tensor, y_N: Tensor, t: Tensor, kept: dict[str, Tensor]) -> None:
    k = int(y_N.max()) + 1
    rows_ND = F.normalize(x_ND)
    rows_Nd = evidence.seen(rows_ND, *evidence.axes(rows_ND, generator(draw, "axes")))
    judge = Judge(rows_Nd, rows_ND, t, k)
    found = {}
    for partition, labels_N in (partitions(rows_ND, t, k, draw) | kept).items():
        found[partition] = judge.scores(labels_N) | {"acc": accuracy(y_N.numpy(), labels_N.numpy())}
    result = evidence.evidence(rows_Nd, judge.near, evidence.partition(rows_Nd, k, generator(draw))[0], k, generator(draw, "evidence"), t)
    acc = np.array([row["acc"] for row in found.values()])
    print(f"\n{name}, draw {draw}: {len(x_ND)} images, k = {k}, {len(found)} partitions, ACC {acc.min():.3f} to {acc.max():.3f}")
    print(f"    k-means on the features, ACC {found['k-means']['acc']:.3f}: {finding(result)}")
    for score in (column for column in next(iter(found.values())) if column != "acc"):
        values, better = np.array([row[score] for row in found.values()]), acc >= np.median(acc)
        ranks = [spearmanr(values[some], acc[some]).statistic for some in (acc >= 0, better)]
        print(f"    {score:<22} all {ranks[0]:6.3f}   better half {ranks[1]:6.3f}   puts first {acc[values.argmax()]:.3f}")
    floor = found["k-means"]
    ahead = [(floor["score"] - row["score"], floor["acc"] - row["acc"]) for other, row in found.items() if other != "k-means"]
    for margin in (0.0, 0.01, 0.03, 0.1):
        gains = [gain for lead, gain in ahead if lead > margin] or [0.0]
        print(f"    ahead by {margin:<4} k-means replaces {len(gains):2d} of {len(ahead)}: ACC {sum(gains) / len(gains):+.3f} in the mean")
    for partition, row in found.items():
        record(
            "evidence",
            {"set": name, "draw": draw, "n": len(x_ND), "k": k, "partition": partition, **{c: round(v, 4) for c, v in row.items()}},
        )


class Judge:
    """Scores of partitions of one set that need no labels."""

    def __init__(self, rows_Nd: Tensor, rows_ND: Tensor, t: Tensor, k: int):
        self.k, self.rows_Nd = k, rows_Nd
        n = evidence.how_many(len(rows_Nd), k)
        self.near, self.raw = evidence.close(rows_Nd, n), nearest(rows_ND, n).index_NK
        self.white = nearest(pca_whiten(rows_ND, evidence.AXES), n).index_NK
        self.tiny = evidence.close(t.flatten(1), n)

    def scores(self, labels_N: Tensor) -> dict[str, float]:
        return {
            "score": evidence.score(labels_N, self.near, self.k),
            "agreement": agreement(labels_N, self.near),
            "score, 3 neighbours": evidence.score(labels_N, self.near[:, :3], self.k),
            "score, raw cosine": evidence.score(labels_N, self.raw, self.k),
            "score, whitened": evidence.score(labels_N, self.white, self.k),
            "score, thumbnails": evidence.score(labels_N, self.tiny, self.k),
            "vote": evidence.explained(labels_N, self.near, self.k),
            "not between": 1 - evidence.between(labels_N, self.near, self.k),
            "silhouette": silhouette(self.rows_Nd, labels_N, self.k),
        }


def silhouette(rows_Nd: Tensor, labels_N: Tensor, k: int) -> float:
    """The simplified one: distances to means instead of to members."""
    sizes_K = labels_N.bincount(minlength=k)
    means_Kd = rows_Nd.new_zeros(k, rows_Nd.shape[1]).index_add_(0, labels_N, rows_Nd) / sizes_K.clamp(min=1)[:, None]
    far_NK = torch.cdist(rows_Nd, means_Kd)
    far_NK[:, sizes_K == 0] = 1e9
    own_N = far_NK.gather(1, labels_N[:, None]).squeeze(1)
    next_N = far_NK.scatter(1, labels_N[:, None], 1e9).amin(1)
    return float(((next_N - own_N) / torch.maximum(next_N, own_N)).mean())


def partitions(rows_ND: Tensor, t: Tensor, k: int, draw: int) -> dict[str, Tensor]:
    n, tiny_Nt = len(rows_ND), t.flatten(1)

    def clusters(name: str, rows: Tensor, clusters: int = k, iters: int = 50, **settings) -> Tensor:
        return kmeans(rows, clusters, generator(draw, name), iters, **settings).labels_N

    axes_8, axes_2 = (evidence.seen(rows_ND, *evidence.axes(rows_ND, generator(draw, "few"), most)) for most in (8, 2))
    best = {"init": "k-means++", "restarts": 3}
    made = {
        "k-means": clusters("k-means", rows_ND, **best),
        "k-means, random start": clusters("random", rows_ND),
        "k-means, 2 iterations": clusters("short", rows_ND, iters=2),
        "whitened": clusters("whitened", pca_whiten(rows_ND, min(128, n // 4)), **best),
        "8 axes": clusters("8", axes_8, **best),
        "2 axes": clusters("2", axes_2, **best),
        "thumbnails": clusters("thumbnails", tiny_Nt, **best),
        "thumbnails, random start": clusters("tiny", tiny_Nt),
    }
    if 2 * k < n // 4:
        made["2 k, joined by chance"] = torch.randperm(2 * k, generator=generator(draw, "join"))[clusters("2 k", rows_ND, 2 * k)] % k
    for share in (0.05, 0.15, 0.3, 0.5, 0.8):
        rng, labels_N = generator(draw, "shuffle", int(100 * share)), made["k-means"].clone()
        mine_N = torch.rand(n, generator=rng) < share
        labels_N[mine_N] = labels_N[torch.randperm(n, generator=rng)][mine_N]
        made[f"shuffled {share}"] = labels_N
    for times in (1, 2, 3):
        merged_N, split_N = made["k-means"].clone(), made["k-means"].clone()
        rng = generator(draw, "merge", times)
        for _ in range(times):
            a, b = torch.randperm(k, generator=rng)[:2].tolist()
            merged_N[merged_N == a], split_N[split_N == a] = b, b
            (largest,) = (split_N == split_N.bincount().argmax()).nonzero(as_tuple=True)
            split_N[largest[torch.randperm(len(largest), generator=rng)[: len(largest) // 2]]] = a
        made |= {f"merged {times}": merged_N, f"merged and split {times}": split_N}
    return made | heads(rows_ND, k, draw, 5.0, STEPS, 6) | heads(rows_ND, k, draw, 1.2, (60,), 3)


def heads(rows_ND: Tensor, k: int, draw: int, entropy: float, steps: tuple[int, ...], n_heads: int) -> dict[str, Tensor]:
    near_NK = nearest(rows_ND, min(20, len(rows_ND) - 1)).index_NK
    with forked(draw, "heads", str(entropy)):
        found = Heads(rows_ND.shape[1], k, n_heads)
    found.standardise(rows_ND)
    optimizer, rng, made = Adam(found.parameters(), 5e-3), generator(draw, "heads", str(entropy)), {}
    for step in range(max(steps) + 1):
        if step in steps:
            with torch.no_grad():
                made |= {f"scan {entropy} {step} {h}": labels_N for h, labels_N in enumerate(found(rows_ND).argmax(-1))}
        some_B = torch.randperm(len(rows_ND), generator=rng)[:1000]
        others_B = near_NK[some_B, torch.randint(near_NK.shape[1], (len(some_B),), generator=rng)]
        optimizer.zero_grad()
        scan_loss(found(rows_ND[some_B]), found(rows_ND[others_B]), entropy)[0].sum().backward()
        optimizer.step()
    return made


if __name__ == "__main__":
    main()
