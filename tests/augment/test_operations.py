"""Each strong operation against Pillow, here and now, and how those of an image are drawn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from coterie import augment
from coterie.augment.operations import FIXMATCH, GEOMETRY, OPERATIONS, VALUES, Shifted, Strong
from coterie.augment.recipe import Draws, cut_hole, warp

RANGE = {name: (low, high) for name, low, high in FIXMATCH}  # the wider of the two lists
STRONG = {"scan": augment.strong("photos"), "fixmatch": augment.fixmatch_strong("photos")}


def picture(kind: str, size: tuple[int, int] = (32, 32)) -> np.ndarray:
    rng, (h, w) = np.random.default_rng(3), size
    y, x = np.mgrid[:h, :w]
    smooth = np.stack([x * 255 / w, y * 255 / h, (x + y) * 127 / max(h, w)], -1)
    made = {
        "smooth": smooth,
        "noise": rng.integers(0, 256, (h, w, 3)),
        "dull": rng.integers(90, 130, (h, w, 3)),
        "flat": np.full((h, w, 3), 77),
        "one flat channel": np.where([True, False, True], smooth, 200),
        "few levels": rng.integers(0, 3, (h, w, 3)) * 100,
    }
    return made[kind].astype(np.uint8)


def affine(image: Image.Image, *six: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, six)


PILLOW = {  # the magnitudes as SCAN's list gives them; geometry with Pillow's default, the nearest pixel
    "AutoContrast": lambda image, _: ImageOps.autocontrast(image),
    "Equalize": lambda image, _: ImageOps.equalize(image),
    "Solarize": lambda image, v: ImageOps.solarize(image, v),
    "Posterize": lambda image, v: ImageOps.posterize(image, int(v)),
    "Color": lambda image, v: ImageEnhance.Color(image).enhance(v),
    "Contrast": lambda image, v: ImageEnhance.Contrast(image).enhance(v),
    "Brightness": lambda image, v: ImageEnhance.Brightness(image).enhance(v),
    "Sharpness": lambda image, v: ImageEnhance.Sharpness(image).enhance(v),
    "Rotate": lambda image, v: image.rotate(v),
    "ShearX": lambda image, v: affine(image, 1, v, 0, 0, 1, 0),
    "ShearY": lambda image, v: affine(image, 1, 0, 0, v, 1, 0),
    "TranslateX": lambda image, v: affine(image, 1, 0, v * image.size[0], 0, 1, 0),
    "TranslateY": lambda image, v: affine(image, 1, 0, 0, 0, 1, v * image.size[1]),
}


def tensor(*pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def levels(x: torch.Tensor) -> np.ndarray:
    return (x.permute(0, 2, 3, 1) * 255).round().numpy()


def test_the_lists_are_whole():
    assert len(OPERATIONS) == 14 == len(RANGE) and set(RANGE) == {"Identity", *VALUES, *GEOMETRY} and set(PILLOW) == {*VALUES, *GEOMETRY}
    enhanced, moved = ("Brightness", "Color", "Contrast", "Sharpness"), ("ShearX", "ShearY", "TranslateX", "TranslateY")
    published = {"Posterize": (4, 8), "Rotate": (-30, 30), "Solarize": (0, 256)}
    for table, reach in ((OPERATIONS, 0.1), (FIXMATCH, 0.3)):
        ranges = {name: (low, high) for name, low, high in table if name not in ("Identity", "AutoContrast", "Equalize")}
        assert ranges == published | dict.fromkeys(enhanced, (0.05, 0.95)) | dict.fromkeys(moved, (-reach, reach))


@pytest.mark.parametrize("kind", ["smooth", "noise", "dull", "flat", "one flat channel", "few levels"])
@pytest.mark.parametrize("name", VALUES)
def test_values_as_pillow(name, kind):
    low, high = RANGE[name]
    image = picture(kind)
    for magnitude in np.linspace(low, high, 7):
        got = levels(VALUES[name](tensor(image), torch.tensor([magnitude]).float().view(-1, 1, 1, 1)))[0]
        want = np.asarray(PILLOW[name](Image.fromarray(image), magnitude), float)
        assert np.abs(got - want).max() <= 1, f"{name} {magnitude} on {kind}: {np.abs(got - want).max()} levels apart"


@pytest.mark.parametrize("size", [(32, 32), (20, 33)])
@pytest.mark.parametrize("name", GEOMETRY)
def test_geometry_as_pillow(name, size):
    if name.startswith(("Rotate", "Shear")) and size[0] != size[1]:
        pytest.skip("angles are those of the square store; Coterie has no other")
    low, high = RANGE[name]
    image = picture("noise", size)
    for magnitude in np.linspace(low, high, 8):
        got = levels(warp(tensor(image), GEOMETRY[name](torch.tensor([magnitude]).float())[:, :2], padding="zeros", mode="nearest"))[0]
        want = np.asarray(PILLOW[name](Image.fromarray(image), magnitude), float)
        apart = (np.abs(got - want) > 1).any(-1).mean()
        assert apart <= 0.01, f"{name} {magnitude}: {apart:.1%} of the pixels come from elsewhere"  # ties of the nearest pixel


@pytest.mark.parametrize("name", [*VALUES, *GEOMETRY])
def test_a_batch_is_each_image_at_its_own_magnitude(name):
    low, high = RANGE[name]
    images, magnitude = tensor(*(picture(kind) for kind in ("smooth", "noise", "dull"))), torch.linspace(low, high, 3)

    def apply(x, m):
        if name in VALUES:
            return VALUES[name](x, m.view(-1, 1, 1, 1))
        return warp(x, GEOMETRY[name](m)[:, :2], padding="zeros")

    together = apply(images, magnitude)
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], apply(images[i : i + 1], magnitude[i : i + 1]), rtol=0, atol=1e-6)
    assert together.min() >= 0 and together.max() <= 1


# ---- how they are drawn


def spied(monkeypatch, strong: Strong, n: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """How often each operation is drawn for n images, and at which magnitudes."""
    seen: dict[str, list[torch.Tensor]] = {name: [] for name in (*VALUES, *GEOMETRY)}
    for table in (VALUES, GEOMETRY):
        for name, function in list(table.items()):

            def spy(*given, name=name, function=function):
                seen[name].append(given[-1].flatten())
                return function(*given)

            monkeypatch.setitem(table, name, spy)
    strong(torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(1)), torch.Generator().manual_seed(0))
    magnitudes = {name: torch.cat(values).numpy() for name, values in seen.items()}
    drawn = [len(magnitudes[name]) for name in RANGE if name != "Identity"]
    return np.array([n * strong.count - sum(drawn), *drawn]), magnitudes


@pytest.mark.parametrize("kind, count", [("scan", 4), ("fixmatch", 3)])
def test_operations_are_drawn_evenly(kind, count, monkeypatch):
    counts, _ = spied(monkeypatch, STRONG[kind], 14_000)
    expected = 1000 * count
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert chi_squared < 34.5, counts  # the 99.9 % quantile of chi-squared with 13 degrees of freedom


@pytest.mark.parametrize("kind, table", [("scan", OPERATIONS), ("fixmatch", FIXMATCH)])
def test_magnitudes_are_drawn_evenly(kind, table, monkeypatch):
    _, magnitudes = spied(monkeypatch, STRONG[kind], 14_000)
    for name, low, high in table:
        if name == "Identity":
            continue
        share = np.sort((magnitudes[name] - low) / (high - low))
        steps = (np.arange(len(share)) + 0.5) / len(share)
        assert np.abs(share - steps).max() < 1.95 / np.sqrt(len(share)), name  # Kolmogorov-Smirnov at 0.1 %


def test_the_weak_augmentation_comes_after_the_operations():
    """Pillow shears, then the picture is mirrored: a shear about the left edge is one about the right edge afterwards."""
    image = picture("noise")
    shear_then_flip = Strong((("ShearY", 0.3, 0.3),), count=1, flip=0, weak=Shifted(flip=1, shift=0), cutout=0)
    got = shear_then_flip(tensor(image), torch.Generator())
    want = warp(tensor(image), GEOMETRY["ShearY"](torch.tensor([0.3]))[:, :2], padding="zeros").flip(3)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-4)
    flip_then_shear = Strong((("ShearY", 0.3, 0.3),), count=1, flip=1, cutout=0)(tensor(image), torch.Generator())
    assert (flip_then_shear - want).abs().max() > 0.1, "SCAN flips first"


def test_without_operations_the_pair_differs_by_the_hole_only():
    x = tensor(*[picture("noise")] * 40) / 4  # darker than the hole
    strong, generator = replace(STRONG["fixmatch"], count=0), torch.Generator().manual_seed(3)
    torch.rand(40, generator=generator)  # the coin of the flip before, which never falls
    out, weak = strong(x, torch.Generator().manual_seed(3)), Shifted()(x, generator)
    hole = out == 0.5
    assert 0.02 < hole.float().mean() < 0.12 and (hole.all(1) == hole.any(1)).all()
    torch.testing.assert_close(out[~hole], weak[~hole], rtol=0, atol=1e-5)


@pytest.mark.parametrize("view", [*STRONG.values(), Shifted()], ids=[*STRONG, "shifted"])
def test_each_image_has_draws_of_its_own(view):
    same = tensor(picture("noise")).expand(64, -1, -1, -1)
    out = view(same, torch.Generator().manual_seed(0))
    distinct = len({image.numpy().tobytes() for image in out})
    assert distinct == 64 or (view == Shifted() and distinct > 40)  # of 162 there are


@pytest.mark.parametrize("view", [*STRONG.values(), Shifted()], ids=[*STRONG, "shifted"])
def test_same_generator_same_bits_and_the_batch_is_not_touched(view):
    x = tensor(picture("noise"), picture("smooth"))
    before = x.clone()
    one, two, other = (view(x, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert torch.equal(one, two) and not torch.equal(one, other) and torch.equal(x, before)
    assert one.shape == x.shape and one.min() >= 0 and one.max() <= 1


def test_no_draw_from_the_global_generator():
    before = torch.get_rng_state()
    for view in STRONG.values():
        view(tensor(picture("noise")), torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_nothing_drawn_changes_nothing():
    x = tensor(picture("noise"), picture("smooth"))
    torch.testing.assert_close(Strong(count=0, flip=0, cutout=0)(x, torch.Generator()), x, rtol=0, atol=1e-5)
    torch.testing.assert_close(Strong(count=0, flip=1, cutout=0)(x, torch.Generator()), x.flip(3), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (2, 3, 8, 8), (3, 3, 20, 31), (1, 3, 1, 1)])
def test_any_shape(shape):
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
    for view in (*STRONG.values(), Shifted()):
        out = view(x, torch.Generator().manual_seed(0))
        assert out.shape == x.shape and out.isfinite().all()


# ---- the hole


def holes(n: int, size: int, largest: float) -> torch.Tensor:
    """Where each image has its hole: a gradient never equals its own mean but there."""
    ramp = torch.linspace(0, 1, size * size + 1)[: size * size].view(1, 1, size, size).expand(n, 3, -1, -1)
    out = cut_hole(ramp, Draws(n, torch.Generator().manual_seed(2)), largest)
    assert torch.allclose(out[out != ramp], ramp[0].mean(), atol=1e-6)
    return (out != ramp)[:, 0]


def test_a_hole_is_a_square_of_the_mean_colour():
    x = torch.rand(50, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    out = cut_hole(x, Draws(50, torch.Generator().manual_seed(1)), 0.5)
    for image, cut in zip(x, out):
        changed = (image != cut).any(0)
        rows, columns = changed.any(1).nonzero().flatten(), changed.any(0).nonzero().flatten()
        if len(rows):
            assert changed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all() and changed.sum() == len(rows) * len(columns)
            torch.testing.assert_close(cut[:, rows[0], columns[0]], image.mean((1, 2)))


def test_a_hole_may_have_a_grey_of_its_own_at_the_same_place():
    x = torch.rand(200, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    by_mean, grey = (cut_hole(x, Draws(200, torch.Generator().manual_seed(1)), 0.5, fill) for fill in (None, 0.5))
    assert (grey[by_mean != x] == 0.5).all() and torch.equal(grey[by_mean == x], x[by_mean == x])


@pytest.mark.parametrize("largest", [0.5, 0.33])
def test_sides_of_holes_are_uniform_up_to_the_largest(largest):
    size = 64
    found = holes(3000, size, largest)
    inside = ~(found[:, 0].any(1) | found[:, -1].any(1) | found[:, :, 0].any(1) | found[:, :, -1].any(1))
    height = found.any(2).sum(1)[inside]
    width = found.any(1).sum(1)[inside]
    assert ((height - width).abs() <= 1).all(), "a square, to a pixel"
    assert int(found.any(2).sum(1).max()) in range(int(largest * size) - 3, int(largest * size) + 2)
    # A side s lies inside with probability (1 - s)^2; undo that, and the share of each side is even.
    side = (height.double() + width) / 2 / size
    weight = 1 / (1 - side) ** 2
    shares = torch.histogram(side, 6, range=(0.0, largest), weight=weight).hist / weight.sum()
    assert (shares - 1 / 6).abs().max() < 0.045, shares


def test_centres_of_holes_are_everywhere():
    share = holes(6000, 16, 0.5).double().mean(0)
    middle = share[4:12, 4:12]
    assert (middle / middle.mean() - 1).abs().max() < 0.25
    assert share.min() > 0 and share[0, 0] < middle.mean()


def test_the_operations_are_pure():
    for name in VALUES:
        x = tensor(picture("noise"))
        before = x.clone()
        VALUES[name](x, torch.tensor([RANGE[name][1]]).view(-1, 1, 1, 1))
        assert torch.equal(x, before), f"{name} writes into its input"
    assert Strong() == Strong(OPERATIONS, count=4, flip=0.5, weak=None, cutout=0.5, fill=None)
