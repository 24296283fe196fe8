"""Presets: the numbers that were published, and schedules that no set is too large for."""

import pytest

from coterie import methods
from coterie.fitting import config, presets
from coterie.methods.spice import batches_of
from coterie.run import Run
from coterie.run.devices import Devices

SETS = {  # images and classes of the sets that presets are named after
    "cifar10": (50_000, 10), "cifar10-rounds": (50_000, 10), "cifar20": (50_000, 20), "cifar100": (50_000, 100), "stl10": (13_000, 10),
    "glyphs": (60_000, 10), "garments": (60_000, 10), "imagenet10": (13_000, 10), "imagenet-dogs": (19_500, 15),
    "tiny-imagenet": (100_000, 200), "imagenet50": (64_000, 50), "imagenet100": (128_000, 100), "imagenet200": (256_000, 200),
    "imagenet1000": (1_281_167, 1000), "cub200": (5994, 200), "photos": (10_000, 30), "quick": (1000, 40), "digits": (1797, 10),
}  # fmt: skip


def made(method: str, preset: str, gpu: bool):
    n, k = SETS[preset]
    return config.change(methods.method(method).Config(), presets.settings(method, preset, n, gpu) | {"n_clusters": k})


@pytest.mark.parametrize(
    "preset, pretext, network, labelling",
    [
        ("cifar10", (500, 512, 0.4), (50, 128, 1e-4), (200, 1000, 1e-4, 0.99)),
        ("cifar20", (500, 512, 0.4), (100, 512, 1e-4), (200, 1000, 1e-4, 0.99)),
        ("stl10", (500, 512, 0.4), (100, 128, 1e-4), (100, 1000, 1e-4, 0.99)),
    ],
)
def test_what_scan_published_for_a_gpu(preset, pretext, network, labelling):
    c = made("scan", preset, True)
    assert (c.pretext_epochs, c.pretext_batch, c.pretext_rate) == pretext and c.pretext_optimizer == "sgd"
    assert (c.pretext_decay, c.pretext_temperature, c.n_neighbors, c.entropy_weight) == (1e-4, 0.1, 20, 5)
    assert (c.network_epochs, c.network_batch, c.network_rate) == network
    assert (c.selflabel_epochs, c.selflabel_batch, c.selflabel_rate, c.threshold) == labelling


@pytest.mark.parametrize("preset, epochs, batch", [("cifar10", 30, 5000), ("cifar20", 100, 10_000), ("stl10", 100, 5000)])
def test_what_spice_published_for_a_gpu(preset, epochs, batch):
    c = made("spice", preset, True)
    assert (c.pretext, c.augment, c.pretext_epochs, c.pretext_temperature, c.momentum) == ("moco", "moco", 1000, 0.2, 0.999)
    assert c.pretext_rate / c.pretext_batch == pytest.approx(0.015 / 128), "the published rate for its batch"
    assert (c.head_epochs, c.head_batch) == (epochs, batch)
    assert [made("spice", p, True).head_batch for p in ("imagenet10", "imagenet-dogs")] == [5000, 8000]


def test_what_deepcluster_and_pcp_published_for_a_gpu():
    c = made("deepcluster", "imagenet1000", True)
    assert (c.encoder, c.image_size, c.epochs, c.pseudo_clusters, c.batch, c.rate or 0.05) == ("alexnet-sobel", 224, 500, 10_000, 256, 0.05)
    for preset, floor, mix_to in (("cifar10", 1000, 0.5), ("imagenet100", 10_000, 0.45)):
        c = made("pcp", preset, True)
        assert (c.epochs, c.floor, c.mix_to, c.rate, c.batch, c.vote_window) == (200, floor, mix_to, 0.03, 128, 15)
    assert made("pcp", "cifar10-rounds", True).rounds == 5


@pytest.mark.parametrize("preset", [preset for preset in SETS if preset not in ("quick", "digits")])
def test_a_gpu_gets_no_shorter_a_schedule(preset):
    """Three epochs of self-labelling are what a CPU's ten minutes allow."""
    for gpu in ("scan", "selflabel_epochs", 25), ("spice", "head_epochs", 6), ("deepcluster", "epochs", 500), ("pcp", "epochs", 200):
        method, name, least = gpu
        on_gpu, on_cpu = (getattr(made(method, preset, at), name) for at in (True, False))
        assert on_gpu >= max(least, on_cpu if name != "head_epochs" else 0), f"{method} {name}"


@pytest.mark.parametrize("gpu", [False, True], ids=["cpu", "gpu"])
@pytest.mark.parametrize("preset", SETS)
def test_a_prototype_of_spice_has_images_to_be_the_mean_of(preset, gpu):
    n, k = SETS[preset]
    batches = batches_of(n, made("spice", preset, gpu), Run(devices=Devices("cpu", "fp32", 1)), 0)
    assert len(batches[0]) // k >= min(20, n // k)


def test_every_preset_has_a_size_here():
    assert set(SETS) == set(presets.KINDS)


def test_quick_sees_a_named_set_as_its_own_preset_does_at_the_same_cost():
    """Sizes and augmentations are the set's; at views of 12 px three times the epochs cost less than the plain ones at 32 px."""
    plain, digits = presets.settings("scan", "quick", 1797, False), presets.settings("scan", "quick", 1797, False, "digits")
    own = presets.settings("scan", "digits", 1797, False)
    assert {name: digits[name] for name in presets.LOOKS} == {name: own[name] for name in presets.LOOKS}
    assert digits["pretext_epochs"] == 3 * plain["pretext_epochs"] < own["pretext_epochs"]
    assert presets.settings("deepcluster", "quick", 1797, False, "digits")["pretext_epochs"] == 0
    assert presets.settings("scan", "quick", 5000, False, "photos") == presets.settings("scan", "quick", 5000, False)
    assert presets.settings("scan", "digits", 1797, False, "cifar10") == own


@pytest.mark.parametrize("preset", ["quick", "cifar10", "cifar20", "cifar100", "photos"])
def test_simclr_learns_by_muon_where_that_was_tried(preset):
    """Of SCAN and SPICE on a CPU. On a GPU, and for what learns otherwise, things are as published or as they were found."""
    assert all(made(method, preset, False).pretext_optimizer == "muon" for method in ("scan", "spice"))
    assert preset == "quick" or all(made(method, preset, True).pretext_optimizer != "muon" for method in methods.METHODS)
    assert all(made(method, preset, False).pretext_optimizer == "adamw" for method in ("ir", "and", "idfd", "cc", "iic", "dec"))
