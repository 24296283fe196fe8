"""Named settings: what to change in a method's defaults for a kind of pictures, on a CPU and on a GPU.

A preset is a function of the number of images and of whether there is a GPU; it returns settings by name. Those for a CPU are ours: they
make the best of about ten minutes on two cores, where a stage costs (images) x (epochs). For a GPU they are, where something was published
for the set, its numbers, as far as there are settings for them:

    SCAN         cifar10, cifar20, stl10: the pretext's epochs, batch, SGD, rate, decay and temperature; epochs, batch and rate of the
                 network stage and of self-labelling, and its bar. Ours: one cycle and cosines, heads before the network stage, the teacher.
                 imagenet50 to 1000: neighbours, heads, epochs and batches; ours: optimisers and rates
    SPICE        cifar10, cifar20, stl10: MoCo's epochs, momentum, temperature, and rate for four times the batch; the heads' epochs and
                 batches, also of imagenet10 and imagenet-dogs. Ours: ResNet-18 for all, the heads' rate and cores, stage 3 in 200 epochs
    DeepCluster  imagenet: v1 whole. Ours: its 500 epochs for any other set, with a ResNet-18
    PCP          cifar10, cifar10-rounds, imagenet100: whole but for what is stated in docs/methods/pcp.md. cifar100 takes cifar10's
    IR, IS, AND  epochs, SGD, batch, temperature, for any set

Ours altogether: glyphs, garments, photos, cub200, tiny-imagenet; cifar100 with SCAN and SPICE, which takes cifar20's.
"""

from collections.abc import Callable
from typing import Any

from coterie import methods
from coterie.errors import InputError
from coterie.fitting import recipes

Preset = Callable[[int, bool], dict[str, Any]]


def _digits(n: int, gpu: bool) -> dict[str, Any]:
    return {"image_size": 16, "view_size": 12, "augment": "glyphs", "pretext_epochs": 54}


def _glyphs(n: int, gpu: bool) -> dict[str, Any]:
    if gpu:
        return {"image_size": 28, "augment": "glyphs", "pretext_epochs": _epochs(n, 2_400_000, 20, 200)}
    return {"image_size": 20, "augment": "glyphs", "pretext_epochs": _epochs(n, 240_000, 4, 100)}


def _garments(n: int, gpu: bool) -> dict[str, Any]:
    if gpu:
        return _glyphs(n, gpu) | {"augment": "garments"}
    return {"image_size": 28, "view_size": 20, "augment": "garments", "pretext_epochs": _epochs(n, 360_000, 6, 100)}


def _cifar10(n: int, gpu: bool) -> dict[str, Any]:
    if gpu:
        return {"image_size": 32, "encoder": "resnet18-cifar", **SIMCLR}
    return {"image_size": 32, "view_size": 24, "encoder": "small", "pretext_epochs": _epochs(n, 360_000, 6, 200)}


def _stl10(n: int, gpu: bool) -> dict[str, Any]:
    return {"image_size": 96, "encoder": "resnet18-stl", **SIMCLR} if gpu else _photos(n, gpu)


def _tiny(n: int, gpu: bool) -> dict[str, Any]:
    return _stl10(n, gpu) | {"image_size": 64}


def _imagenet(n: int, gpu: bool) -> dict[str, Any]:
    """The published runs start from weights of MoCo v2, which `--weights` names."""
    return {"image_size": 224, "encoder": "resnet50", "pretext": "frozen"}


def _birds(n: int, gpu: bool) -> dict[str, Any]:
    return _photos(n, gpu) | ({"image_size": 224} if gpu else {})


def _photos(n: int, gpu: bool) -> dict[str, Any]:
    if gpu:
        return {"image_size": 96, "encoder": "resnet18-stl", "pretext_epochs": _epochs(n, 5_000_000, 50, 800)}
    return {"image_size": 64, "encoder": "small", "pretext_epochs": _epochs(n, 400_000, 10, 300)}


def _folder(n: int, gpu: bool) -> dict[str, Any]:
    """As `_photos`, where no pretrained encoder is to be had."""
    return _photos(n, gpu) | {"encoder": "auto"}


def _quick(n: int, gpu: bool) -> dict[str, Any]:
    return {"image_size": 32, "pretext_epochs": QUICK, "pretext_batch": 64, "pretext_rate": 2e-3}


QUICK, MOST_TIMES = 8, 3.0  # epochs of what `quick` trains, on views of 32 px; as many times more where smaller views cost less
QUICK_MUON = {"pretext_optimizer": "muon", "pretext_rate": 0.02}  # of SCAN and SPICE: chosen on digits, seeds 0 to 3
LOOKS = "image_size", "view_size", "augment"  # how pictures are seen: `quick` leaves these as the set's own preset has them

# SimCLR on 32 and 96 px as SCAN's published settings have it
SIMCLR: dict[str, Any] = {"pretext_epochs": 500, "pretext_batch": 512, "pretext_optimizer": "sgd", "pretext_rate": 0.4}
SIMCLR |= {"pretext_decay": 1e-4, "pretext_temperature": 0.1}


def _epochs(n: int, images: int, least: int, most: int) -> int:
    """Epochs that show about `images` images in all, within bounds."""
    return max(least, min(most, images // max(1, n)))


PRETEXT: dict[str, tuple[str, Preset]] = {
    "digits": ("scikit-learn's 8 px digits", _digits),
    "glyphs": ("drawn signs, MNIST: no flips, no colour", _glyphs),
    "garments": ("Fashion-MNIST: upright, flips but little turning", _garments),
    "cifar10": ("32 px photographs, CIFAR-10", _cifar10),
    "cifar20": ("32 px photographs, the 20 superclasses of CIFAR-100", _cifar10),
    "cifar10-rounds": ("CIFAR-10 in five rounds (PCP)", _cifar10),
    "cifar100": ("32 px photographs, the 100 classes of CIFAR-100", _cifar10),
    "stl10": ("96 px photographs, STL-10", _stl10),
    "imagenet10": ("10 classes of ImageNet, from given weights", _imagenet),
    "imagenet-dogs": ("15 kinds of dogs of ImageNet, from given weights", _imagenet),
    "tiny-imagenet": ("200 classes of ImageNet at 64 px", _tiny),
    "imagenet50": ("50 classes of ImageNet, from given weights", _imagenet),
    "imagenet100": ("100 classes of ImageNet, from given weights", _imagenet),
    "imagenet200": ("200 classes of ImageNet, from given weights", _imagenet),
    "imagenet1000": ("all of ImageNet, from given weights", _imagenet),
    "cub200": ("200 kinds of birds, CUB-200", _birds),
    "photos": ("a folder of photographs, the default", _folder),
    "quick": ("the smallest sensible setting, for trying out", _quick),
}


def _scan(preset: str, n: int, gpu: bool) -> dict[str, Any]:
    if preset == "quick":
        return {"n_heads": 4, "cluster_epochs": 6, "cluster_steps": 20, "selflabel_epochs": 2, "selflabel_batch": 64, **QUICK_MUON}
    if preset == "digits":
        return {"selflabel_epochs": 24}
    if preset.startswith("imagenet"):
        batch = 512 if preset == "imagenet50" else 1024
        own: dict[str, Any] = {"n_neighbors": 50, "n_heads": 10, "cluster_epochs": 100, "cluster_batch": batch}
        return own | {"selflabel_epochs": 25 if gpu else 0, "selflabel_batch": 512, "selflabel_rate": 1e-4}
    if gpu and (preset.startswith("cifar") or preset == "stl10"):  # CIFAR-100 as its superclasses: nothing is published for the classes
        network = {"cifar10": (50, 128), "cifar10-rounds": (50, 128), "stl10": (100, 128)}.get(preset, (100, 512))
        own = {"n_neighbors": 20, "network_epochs": network[0], "network_batch": network[1], "threshold": 0.99, "selflabel_rate": 1e-4}
        return own | {"selflabel_epochs": 100 if preset == "stl10" else 200, "selflabel_batch": 1000}
    if gpu:
        return {"selflabel_epochs": _epochs(n, 5_000_000, 25, 100), "average_epochs": min(2.5, 24_000 / n)}
    views = 300_000 if preset == "glyphs" else 150_000  # MNIST gains from each epoch, others little
    return {"selflabel_epochs": _epochs(n, views, 3, 30), "average_epochs": min(2.5, 24_000 / n)} | _muon(preset, n, gpu)


def _spice(preset: str, n: int, gpu: bool) -> dict[str, Any]:
    if preset == "quick":
        return {"head_epochs": 10, "joint_epochs": 2 if n < 1000 else 4, "joint_batch": 8, "joint_ratio": 4, **QUICK_MUON}
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
    own = {"head_epochs": _epochs(n, 600_000, 6, 30), "head_repeats": _epochs(n, 60_000, 1, 8)}
    own |= {} if gpu else {"joint_batch": 16}  # four times the updates of FixMatch's 64, at no cost on a CPU
    return own | {"joint_epochs": _epochs(n, 120_000, 2, 30), "average_epochs": min(2.0, 24_000 / n)} | _muon(preset, n, gpu)


def _muon(preset: str, n: int, gpu: bool) -> dict[str, Any]:
    """SCAN's and SPICE's SimCLR as chosen on CIFAR-10, seed 0 (shorter.csv has unseen ones); CIFAR-100 takes it over, untried."""
    if gpu or preset not in ("cifar10", "cifar20", "cifar100"):
        return {}
    return {"pretext_optimizer": "muon", "pretext_rate": 0.04, "pretext_temperature": 0.5, "pretext_epochs": _epochs(n, 900_000, 6, 100)}


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
        own |= {"encoder": "alexnet-sobel"} if gpu else _photos(n, gpu) | own
    if gpu:
        return own | {"epochs": 500, "pseudo_clusters": 10_000 if preset == "imagenet1000" and n >= 200_000 else 0}
    own |= {"image_size": 24, "view_size": 0} if preset == "garments" else {}  # views as large as what is clustered
    own |= {} if preset == "glyphs" else {"views": "pretext"}  # colours that change keep clusters from being about them
    views = {"glyphs": 1_000_000, "garments": 440_000, "cifar10": 450_000, "cifar20": 450_000}.get(preset, 270_000)
    draws = 2 if n < 20_000 else 1  # for this and for batches of 64: an epoch's new classifier must come far enough to teach the network
    return own | {"batch": 64, "draws": float(draws), "epochs": _epochs(n * draws, views, 6, 100), "schedule": "cosine"}


def _pcp(preset: str, n: int, gpu: bool) -> dict[str, Any]:
    rounds = 5 if preset == "cifar10-rounds" else 1
    own: dict[str, Any] = {"pretext": "simclr", "pretext_epochs": 0, "rounds": rounds}  # given weights are no need: it trains from scratch
    if preset in ALEXNET:
        size = PRETEXT[preset][1](n, gpu)["image_size"]
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
    return _epochs(n, views, least, most)


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


def _joint(preset: str, n: int, gpu: bool) -> dict[str, Any]:
    """IIC, CC, PICA, SeLa, DEC and IDEC: no pretext; as many epochs as one would have and what stands on it together."""
    epochs = PRETEXT[preset][1](n, gpu).get("pretext_epochs", 60)
    return {"pretext": "simclr", "pretext_epochs": 0, "epochs": epochs if preset == "quick" else 2 * epochs}


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
    **dict.fromkeys(("iic", "cc", "pica", "sela", "dec", "idec"), _joint),
    **dict.fromkeys(("spectral", "agglomerative", "gmm", "kmeans"), _kmeans),
}  # what a method adds to the shared part

OF_SOURCE = {
    "digits": "digits",
    "torchvision:MNIST": "glyphs",
    "torchvision:KMNIST": "glyphs",
    "torchvision:FashionMNIST": "garments",
    "torchvision:CIFAR10": "cifar10",
    "torchvision:CIFAR100": "cifar10",
    "torchvision:STL10": "stl10",
}


def of_source(source: str) -> str:
    """The preset that belongs to a named set; "photos" for anything else."""
    return OF_SOURCE.get(source.partition("/")[0], "photos")


def settings(method: str, preset: str, n_images: int, gpu: bool, own: str = "photos") -> dict[str, Any]:
    """The settings of `preset` for `method`; `own`: the preset that belongs to the set. Raises InputError for a name that is none.

    A method of a package has the shared part of our presets, and over it, and under names of its own, what its PRESETS say.
    """
    if preset in recipes.RECIPES:
        return recipes.settings(method, preset)
    known = OWN.get(method) or _of_package(method)
    if preset not in PRETEXT and preset not in (names := [] if method in OWN else list(_package_presets(method))):
        raise InputError(f"no preset is called {preset!r}; there are {', '.join([*PRETEXT, *names, *recipes.RECIPES])}")
    shared = PRETEXT[preset][1](n_images, gpu) if preset in PRETEXT else {}
    made = {**shared, **known(preset, n_images, gpu)}
    return made | _small(made, PRETEXT[own][1](n_images, gpu)) if preset == "quick" and own != "photos" else made


def _small(made: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """What `quick` changes for a set whose looks are known: these, and as many epochs as cost what its own number does at 32 px."""
    seen = {name: own[name] for name in LOOKS if name in own}
    times = min(MOST_TIMES, (32 / (seen.get("view_size") or seen["image_size"])) ** 2)
    return seen | {name: round(made[name] * times) for name in ("pretext_epochs", "epochs") if name in made}


def _of_package(method: str) -> Callable[[str, int, bool], dict[str, Any]]:
    return lambda preset, n, gpu: _package_presets(method).get(preset, {})


def _package_presets(method: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = getattr(methods.method(method), "PRESETS", {})
    return found
