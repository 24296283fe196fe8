"""What a method adds to the shared part of a preset (presets.py)."""

from collections.abc import Callable
from typing import Any

from coterie.fitting.kinds_of_pictures import KINDS, epochs_for, photos

MUON = {
    "pretext_optimizer": "muon",
    "pretext_rate": 0.02,
}  # of SCAN and SPICE: by `quick`, chosen on digits, and on photographs


def _scan(preset: str, n: int, gpu: bool) -> dict[str, Any]:
    if preset == "quick":
        return {"n_heads": 4, "cluster_epochs": 6, "cluster_steps": 20, "selflabel_epochs": 2, "selflabel_batch": 64, **MUON}
    if preset == "digits":
        return {"selflabel_epochs": 24, "selflabel_rate": 1e-3, "average_epochs": 5.0}
    if preset.startswith("imagenet"):
        batch = 512 if preset == "imagenet50" else 1024
        own: dict[str, Any] = {"n_neighbors": 50, "n_heads": 10, "cluster_epochs": 100, "cluster_batch": batch}
        return own | {"selflabel_epochs": 25 if gpu else 0, "selflabel_batch": 512, "selflabel_rate": 1e-4}
    if gpu and (preset.startswith("cifar") or preset == "stl10"):  # CIFAR-100 as its superclasses: nothing is published for the classes
        network = {"cifar10": (50, 128), "cifar10-rounds": (50, 128), "stl10": (100, 128)}.get(preset, (100, 512))
        own = {"n_neighbors": 20, "network_epochs": network[0], "network_batch": network[1], "threshold": 0.99, "selflabel_rate": 1e-4}
        return own | {"selflabel_epochs": 100 if preset == "stl10" else 200, "selflabel_batch": 1000}
    if gpu:
        return {"selflabel_epochs": epochs_for(n, 5_000_000, 25, 100), "average_epochs": min(2.5, 24_000 / n)}
    views = 300_000 if preset == "glyphs" else 150_000  # MNIST gains from each epoch, others little
    return {"selflabel_epochs": epochs_for(n, views, 3, 30), "average_epochs": min(2.5, 24_000 / n)} | _muon(preset, n, gpu)


def _spice(preset: str, n: int, gpu: bool) -> dict[str, Any]:
    if preset == "quick":
        return {"head_epochs": 10, "joint_epochs": 2 if n < 1000 else 4, "joint_batch": 8, "joint_ratio": 4, **MUON}
    if preset == "digits":
        return {"head_epochs": 15, "head_repeats": 4, "joint_batch": 16}
    if preset.startswith("imagenet"):
        return {"head_epochs": 100, "head_batch": BATCHES.get(preset, 0), "joint_epochs": 100 if gpu else 0}
    if gpu and preset in ("cifar10", "cifar20", "cifar100", "stl10", "tiny-imagenet"):
        moco = {"pretext": "moco", "augment": "moco", "pretext_epochs": 1000, "pretext_rate": 0.06, "queue": 12_800, "momentum": 0.999}
        return moco | {
            "pretext_temperature": 0.2,
            "head_epochs": 30 if preset == "cifar10" else 100,
            "head_batch": BATCHES.get(preset, 0),
            "joint_epochs": 200,
        }
    own = {"head_epochs": epochs_for(n, 600_000, 6, 30), "head_repeats": epochs_for(n, 60_000, 1, 8)}
    own |= {} if gpu else {"joint_batch": 16}  # four times the updates of FixMatch's 64, at no cost on a CPU
    return own | {"joint_epochs": epochs_for(n, 120_000, 2, 30), "average_epochs": min(2.0, 24_000 / n)} | _muon(preset, n, gpu)


def _muon(preset: str, n: int, gpu: bool) -> dict[str, Any]:
    """SCAN's and SPICE's SimCLR as chosen on seed 0 of CIFAR-10 (shorter.csv has unseen ones) and of imagenette at 64 px; CIFAR-100 and
    sets of photographs with presets of their own take it over, untried."""
    if gpu or preset in ("glyphs", "garments"):  # there AdamW was better (docs/methods/scan.md)
        return {}
    if not preset.startswith("cifar"):
        return MUON
    return {"pretext_optimizer": "muon", "pretext_rate": 0.04, "pretext_temperature": 0.5, "pretext_epochs": epochs_for(n, 900_000, 6, 100)}


# images whose pseudo-labels SPICE's published settings make together; where none are published: 100 a cluster
BATCHES = {"cifar10": 5000, "cifar20": 10_000, "stl10": 5000, "imagenet10": 5000, "imagenet-dogs": 8000}


def _deepcluster(preset: str, n: int, gpu: bool) -> dict[str, Any]:
    """The defaults are the published settings of v1; a GPU gets their 500 epochs, a CPU what ten minutes allow."""
    own: dict[str, Any] = {"pretext_epochs": 0}
    if preset == "quick":
        return own | {"epochs": 8, "batch": 32, "draws": 2.0, "schedule": "cosine"}
    if preset == "digits":
        return own | {"view_size": 0, "epochs": 40, "batch": 64, "draws": 2.0, "schedule": "cosine", "components": 64, "restarts": 50}
    if preset.startswith("imagenet"):
        own |= {"pretext": "simclr", "restarts": 3}  # no epochs of it: random weights
        own |= {"encoder": "alexnet-sobel"} if gpu else photos(n, gpu) | own
    if gpu:
        return own | {"epochs": 500, "pseudo_clusters": 10_000 if preset == "imagenet1000" and n >= 200_000 else 0}
    own |= {"image_size": 24, "view_size": 0} if preset == "garments" else {}  # views as large as what is clustered
    own |= {} if preset == "glyphs" else {"views": "pretext"}  # colours that change keep clusters from being about them
    views = {"glyphs": 1_000_000, "garments": 440_000, "cifar10": 450_000, "cifar20": 450_000}.get(preset, 270_000)
    draws = 2 if n < 20_000 else 1  # for this and for batches of 64: an epoch's new classifier must come far enough to teach the network
    return own | {"batch": 64, "draws": float(draws), "epochs": epochs_for(n * draws, views, 6, 100), "schedule": "cosine"}


def _pcp(preset: str, n: int, gpu: bool) -> dict[str, Any]:
    rounds = 5 if preset == "cifar10-rounds" else 1
    own: dict[str, Any] = {"pretext": "simclr", "pretext_epochs": 0, "rounds": rounds}  # given weights are no need: it trains from scratch
    if preset in ALEXNET:
        size = KINDS[preset][1](n, gpu)["image_size"]
        own |= {"encoder": "alexnet", "image_size": max(64, size)} if gpu else {"encoder": "small", "image_size": min(64, size)}
    if gpu and preset.startswith("cifar"):
        return own | {"epochs": 200, "floor": 1000}
    if gpu and preset == "imagenet100":
        return own | {"epochs": 200, "floor": 10_000, "mix_to": 0.45}
    return own | {"epochs": max(5, _instance_epochs(preset, n, gpu) // rounds)} | ({"batch": 64} if preset == "quick" else {})


ALEXNET = ("cifar100", "imagenet100", "cub200")  # what PCP's paper trained on them


def _instance_epochs(preset: str, n: int, gpu: bool) -> int:
    """Epochs of PCP and of what it is compared with, so that they cost alike."""
    if preset in ("quick", "digits"):
        return 12 if preset == "quick" else 60
    if gpu:
        return 200  # all of these papers
    views, least, most = {"glyphs": (300_000, 5, 100), "garments": (300_000, 5, 100)}.get(preset, (260_000, 5, 200))
    return epochs_for(n, views, least, most)


def _instance(pretext: str, temperature: float = 0.1) -> Callable[[str, int, bool], dict[str, Any]]:
    """IR, IS, AND and IDFD."""

    def own(preset: str, n: int, gpu: bool) -> dict[str, Any]:
        same = {name: value for name, value in _pcp(preset, n, gpu).items() if name in ("encoder", "image_size")}
        epochs = _instance_epochs(preset, n, gpu) * (5 if gpu and pretext == "anchors" else 1)  # AND's five rounds have 200 epochs each
        published = {"pretext_optimizer": "sgd", "pretext_rate": 0.03, "pretext_decay": 5e-4, "pretext_batch": 128} if gpu else {}
        return same | {"pretext": pretext, "pretext_epochs": epochs, "pretext_temperature": temperature} | published

    return own


def _frozen(preset: str, n: int, gpu: bool) -> dict[str, Any]:
    """TEMI and TURTLE: the same everywhere, in seconds; the encoder and its pretext are the preset's."""
    return {"epochs": 3} if preset == "quick" else {}


def _joint(preset: str, n: int, gpu: bool, times: float = 2.0) -> dict[str, Any]:
    """IIC, CC, PICA, DEC and IDEC: no pretext; as many epochs as one would have, and as many more as what stands on it would cost."""
    epochs = KINDS[preset][1](n, gpu).get("pretext_epochs", 60)
    return {"pretext": "simclr", "pretext_epochs": 0, "epochs": epochs if preset == "quick" else round(times * epochs)}


def _sela(preset: str, n: int, gpu: bool) -> dict[str, Any]:
    """Fewer epochs, of small batches: with more it learns its first labels by heart (digits, seeds 0 and 1)."""
    return _joint(preset, n, gpu, times=0.55) | {"pretext_batch": 64, "pretext_rate": 2e-3}


def _kmeans(preset: str, n: int, gpu: bool) -> dict[str, Any]:
    return {"encoder": "auto" if preset == "photos" else "pixels", "pretext": "frozen"}


OWN: dict[str, Callable[[str, int, bool], dict[str, Any]]] = {
    "scan": _scan,
    "spice": _spice,
    "temi": _frozen,
    "turtle": _frozen,
    "deepcluster": _deepcluster,
    "pcp": _pcp,
    "ir": _instance("instance"),
    "is": _instance("spreading"),
    "and": _instance("anchors"),
    "idfd": _instance("instance", 1.0),
    **dict.fromkeys(("iic", "cc", "pica", "dec", "idec"), _joint),
    "sela": _sela,
    **dict.fromkeys(("spectral", "agglomerative", "gmm", "kmeans"), _kmeans),
}  # what a method adds to the shared part
