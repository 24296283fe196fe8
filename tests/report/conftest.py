import numpy as np
import pytest

from .fake_run import blobs, drawings, fake_run, metrics

HOSTILE = [
    "<script>alert(1)</script>.png",
    "\"><img src=x onerror='alert(2)'>.png",
    "{{ 7 * 7 }}{% raw %}.png",
    "a'b\"c & d.png",
    "deep/er/é ñ 漢字 \\xff.png",
    "</title></style></script><!--.png",
    "=1+1.png",
    "[red]bold.png",
]


@pytest.fixture(scope="session")
def labels():
    return np.arange(60) % 4


@pytest.fixture(scope="session")
def plain_run(tmp_path_factory, labels):
    """60 small pictures in 4 clusters, not evaluated."""
    features, p = blobs(labels, 4)
    paths = [f"kind{label}/{i:03d}.png" for i, label in enumerate(labels)]
    return fake_run(tmp_path_factory.mktemp("plain") / "run", paths, drawings(labels, 24), labels, p, features)


@pytest.fixture(scope="session")
def looked_at_run(tmp_path_factory, labels):
    """As plain_run, with attention maps of 4 x 3 places and with reliable images: two of every three, none of cluster 3."""
    features, p = blobs(labels, 4)
    reliable = (np.arange(60) % 3 > 0) & (labels != 3)
    folder = tmp_path_factory.mktemp("looked") / "run"
    return fake_run(folder, [f"{i}.png" for i in range(60)], drawings(labels, 40), labels, p, features, places=(4, 3), reliable_N=reliable)


@pytest.fixture(scope="session")
def hostile_run(tmp_path_factory, labels):
    """Names, classes, warnings and reasons that try to get out of their place; evaluated; larger pictures."""
    features, p = blobs(labels, 4, seed=1)
    paths = HOSTILE + [f"plain {i}.jpg" for i in range(len(HOSTILE), len(labels))]
    truth = np.where(np.arange(60) % 9 == 0, (labels + 1) % 4, labels)
    return fake_run(
        tmp_path_factory.mktemp("hostile") / "run",
        paths,
        drawings(labels, 100),
        labels,
        p,
        features,
        source={
            "name": "<b>photos</b> {{ x }}",
            "path": "/home/someone/secret/photos",
            "skipped": {"video": 3, "raw": 1},
            "n_duplicates": 2,
        },
        measured=metrics(labels, truth, ["<i>cat</i>", "dog", "{{ bird }}", '"fish"']),
        health=["cluster 3 is nearly empty in /home/someone/secret/photos/x <script>alert(3)</script>"],
        problems=[
            ("bad/<b>.png", "cannot identify /home/someone/secret/photos/bad/x.png"),
            *((f"{i}.png", "cut short") for i in range(60)),
        ],
    )
