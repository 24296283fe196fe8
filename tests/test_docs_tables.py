"""The lines of the README's tables of accuracies, and those of docs/verdict.md, made again from the rows of benchmarks/results."""

import csv
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

HOME = Path(__file__).parents[1]
README = (HOME / "README.md").read_text()
PAGE = (HOME / "docs" / "verdict.md").read_text()
SETS = {
    "Caltech-101, ten classes, Lite0, mean of 5 draws": "caltech_lite0_160 10 classes",
    "Caltech-101, fifty classes, Lite0": "caltech_lite0_160",
    "digits, from scratch": "digits_scratch",
    "Caltech-101, 22 classes, from scratch": "c22",
    "Fashion-MNIST, from scratch": "fashion_scratch",
    "CIFAR-10, from scratch": "cifar_scratch",
    "CIFAR-10, Lite0": "cifar10_lite0_160",
    "Imagenette, Lite0": "imagenette_lite0_160",
}
SCORES = ("score", "agreement", "score, raw cosine", "score, whitened", "score, thumbnails", "silhouette")
COPIES = ("shuffled", "merged", "thumbnails")  # neither heads nor k-means on features


def rows_of(name: str, /, **where: str) -> list[dict[str, str]]:
    with (HOME / "benchmarks" / "results" / f"{name}.csv").open(newline="") as file:
        found = [row for row in csv.DictReader(file) if where.items() <= row.items()]
    assert found, f"{name}.csv has no row with {where}"
    return found


def draws(name: str) -> list[list[dict[str, str]]]:
    """The rows of a set, a list for each draw."""
    rows = rows_of("evidence", set=name)
    return [[row for row in rows if row["draw"] == draw] for draw in sorted({row["draw"] for row in rows})]


def column(rows: list[dict[str, str]], name: str) -> np.ndarray:
    return np.array([float(row[name]) for row in rows])


def mean_and_worst(rows: list[dict[str, str]], name: str = "acc") -> str:
    return f"{column(rows, name).mean():.3f} ({column(rows, name).min() + 1e-9:.3f})"


def mean(rows: list[dict[str, str]], name: str = "features_kmeans_acc") -> str:
    return f"{column(rows, name).mean():.3f}"


def test_the_table_of_methods_is_that_of_the_rows():
    scan, spice, seen = (
        rows_of("digits", method="scan"),
        rows_of("digits", method="spice"),
        rows_of("earlier/digits_seen_seeds", method="pcp"),
    )
    pcp, v1, v2 = rows_of("digits", method="pcp"), rows_of("digits", method="deepcluster", set=""), rows_of("digits", set="variant=v2")
    pretexts = [rows_of("digits", method=method) for method in ("ir", "is", "and")]
    assert [len(rows) for rows in (scan, spice, pcp, v1, v2, *pretexts)] == [20, 20, 4, 3, 5, 3, 3, 3]
    assert all(int(row["seed"]) >= 100 for row in (*scan, *spice, *pcp, *v1))
    assert f"| heads | {mean_and_worst(scan)} of 20 unseen seeds | {mean(scan)} |\n" in README
    assert f"| heads | {mean_and_worst(spice)} of 20 unseen seeds | {mean(spice)} |\n" in README
    assert f"| diffusion | {mean_and_worst(pcp)} of 4 unseen seeds | {mean(pcp)} |\n" in README
    deepcluster = f"{mean_and_worst(v1)} of 3 unseen seeds; v2 {mean_and_worst(v2)} of 5 seen ones"
    assert f"| diffusion | {deepcluster} | {mean(v1)}; v2 {mean(v2)} |\n" in README
    assert f"| k-means | {', '.join(map(mean_and_worst, pretexts))}, of 3 seeds | {', '.join(map(mean, pretexts))} |\n" in README
    assert f"| k-means | {mean_and_worst(seen, 'baseline_acc')} of 5 | |\n" in README


def test_the_table_of_last_steps_is_that_of_the_rows():
    def told(features: str, step: str) -> str:
        rows = rows_of("last_step", features=features, settings="", step=step)
        assert len(rows) == 5
        return mean(rows, "acc")

    for name in ("IS", "PCP"):
        whitened, plain = ([told(name.lower(), step + end) for step in ("k-means", "heads")] for end in ("", " as they are"))
        assert f"| {name}, whitened, as it has them | {' | '.join(whitened)} | {told(name.lower(), 'diffusion')} |\n" in README
        assert f"| {name}, as they are | {' | '.join(plain)} | |\n" in README


def test_the_tables_of_numbers_are_those_of_the_rows():
    for rows in (rows_of("digits", method="scan"), rows_of("photos", set="scratch", asked="default")):
        quick = [row for row in rows if "AVX512" in row["device"]]  # of two of digits, the machine was busy
        seconds = column(quick or rows, "fit_seconds")
        took = f"{seconds.min():,.0f} to {seconds.max():,.0f}" + ("" if quick else ", of one core without AVX-512")
        assert f"| {len(rows)} | {mean_and_worst(rows)} | {mean(rows, 'baseline_acc')} | {took} |\n" in README
    for told, name, count in [
        ("MNIST", "mnist", "60,000"),
        ("Fashion-MNIST", "fashion_mnist", "60,000"),
        ("CIFAR-10, twice the preset's epochs", "cifar10", "50,000"),
    ]:
        scan, spice = (rows_of("headline", set=name, method=method, images="all")[0] for method in ("scan", "spice"))
        large = "earlier/headline_deepcluster_large_batches" if name == "mnist" else "headline"
        deep = rows_of(large, set=name, method="deepcluster")
        accs = " | ".join(f"{float(row['acc']):.3f}" for row in (scan, spice, *deep))
        took = f"{int(scan['fit_seconds']):,} | {int(spice['fit_seconds']):,}"
        assert f"| {told} | {count} | {accs} | {float(scan['baseline_acc']):.3f} | {took} |\n" in README


def test_the_rank_correlations_are_those_of_the_rows():
    for told, name in SETS.items():
        cells = []
        for score in SCORES:
            ranks = []
            for rows in draws(name):
                acc = column(rows, "acc")
                better = acc >= np.median(acc)
                ranks.append([spearmanr(column(rows, score)[some], acc[some]).statistic for some in (acc >= 0, better)])
            cells.append("{:.2f} ({:.2f})".format(*np.mean(ranks, axis=0)))
        assert f"| {told} | {' | '.join(cells)} |\n" in PAGE


def test_what_returning_k_means_gains_is_that_of_the_rows():
    count, found = 0, []
    for rows in (rows for name in SETS.values() for rows in draws(name)):
        own = next(row for row in rows if row["partition"] == "k-means")
        others = [row for row in rows if row is not own and not row["partition"].startswith(COPIES)]
        count += len(others)
        found += list(zip(float(own["score"]) - column(others, "score"), float(own["acc"]) - column(others, "acc"), strict=True))
    lead, gain = np.array(found).T
    ahead, any_lead = gain[lead > 0.03], gain[lead > 0]
    assert f"Of the {count} heads and other k-means on features among them, k-means is ahead of {len(ahead)} by more than 0.03." in PAGE
    assert f"gains {ahead.mean():.3f} of ACC in the mean; it is the worse one of the two in {(ahead < 0).sum()}.\n" in PAGE
    assert f"it would be ahead of {len(any_lead)}, and the worse one in {(any_lead < 0).sum()}." in PAGE


def test_the_scores_of_k_means_are_those_of_the_rows():
    def told(name: str, which: str = "acc", partition: str = "k-means") -> str:
        found = [float(row[which]) for rows in draws(name) for row in rows if row["partition"] == partition]
        return f"{np.mean(found):.3f}"

    plain = " ".join(PAGE.split())
    for words, name in [("ten classes of Caltech-101", "caltech_lite0_160 10 classes"), ("fifty", "caltech_lite0_160"),
                        ("Imagenette", "imagenette_lite0_160"), ("CIFAR-10", "cifar10_lite0_160"), ("digits", "digits_scratch"),
                        ("Fashion-MNIST", "fashion_scratch"), ("CIFAR-10", "cifar_scratch")]:  # fmt: skip
        assert f"{words} {told(name)}" in plain
    assert f"and {told('c22')} on the 22 classes" in plain
    assert f"a score of {told('c22', 'score', 'thumbnails')} against {told('c22', 'score')} on the 22 classes" in plain
    assert f"ACC is {told('c22', 'acc', 'thumbnails')} against {told('c22')})" in plain


def test_the_table_of_photographs_is_that_of_the_rows():
    page = (HOME / "docs" / "photos.md").read_text()
    for told, name in [
        ("ten classes, 300", "ten"),
        ("five classes, 150", "five"),
        ("twenty classes, 600", "twenty"),
        ("fifty classes, 1,500", "fifty"),
        ("all hundred classes, 3,000", "all"),
        ("10,000", "large"),
    ]:
        rows = rows_of("photos", set=name, asked="default")
        acc = mean_and_worst(rows) if len(rows) > 1 else mean(rows, "acc")
        seconds = column(rows, "fit_seconds")
        took = f"{seconds.min():.1f} to {seconds.max():.1f}" if len(rows) > 1 else f"{seconds[0]:.1f}"
        assert f"| {told} photographs | {len(rows)} | {acc} | {mean(rows)} | {mean(rows, 'baseline_acc')} | {took} |\n" in page
