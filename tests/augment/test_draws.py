"""What every recipe draws, against the numbers it was published with (photos, moco) or that its set is described by: ranges, rates, shapes.

What is drawn is read off the arguments of the functions that do the work: `warp`'s matrix, `colour`'s factors, the blur's sigma.
"""

import math

import numpy as np
import pytest
import torch

from coterie import augment
from coterie.augment import recipe
from coterie.augment.operations import FIXMATCH, Shifted, Strong
from coterie.augment.recipe import Draws, Recipe

N = 10_000
NOTHING = {"shift": None, "rotate": 0, "shear": 0, "flip": 0.5, "jitter": 0, "factors": (0, 0, 0, 0), "grey": 0, "blur": 0, "hole": 0}
PHOTOS = NOTHING | {"area": (0.2, 1), "jitter": 0.8, "factors": (0.4, 0.4, 0.4, 0.1), "grey": 0.2}
GLYPHS = NOTHING | {"area": (0.4, 1.2), "shift": 0.1, "rotate": 20, "flip": 0, "jitter": 1, "factors": (0.4, 0, 0, 0)}
PLAIN = {"jitter": 0, "factors": (0, 0, 0, 0)}
DRAWN = {  # by strength and set; shift: None where the crop lies inside the image
    "pretext photos": PHOTOS,
    "pretext moco": PHOTOS | {"blur": 0.5},
    "pretext glyphs": GLYPHS,
    "pretext garments": GLYPHS | {"rotate": 6, "flip": 0.5},
    "weak photos": NOTHING | {"area": (0.8, 1)},
    "weak moco": NOTHING | {"area": (0.8, 1)},
    "weak glyphs": GLYPHS | PLAIN | {"area": (0.8, 1.1), "shift": 0.05, "rotate": 10},
    "weak garments": GLYPHS | PLAIN | {"area": (0.8, 1.1), "shift": 0.05, "rotate": 3, "flip": 0.5},
    "strong glyphs": GLYPHS | {"shear": 0.2, "hole": 0.5},
    "strong garments": GLYPHS | {"rotate": 6, "flip": 0.5, "shear": 0.2, "hole": 0.5},
}


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def view_of(words: str) -> Recipe:
    strength, name = words.split()
    return getattr(augment, strength)(name)


@pytest.fixture
def spied(monkeypatch):
    """(view, seed) -> what the view hands to `warp`, `colour`, `gaussian_blur` and `cut_hole` for N tiny images, without the pixels."""

    def run(view: Recipe, seed: int = 0) -> dict[str, list]:
        seen: dict[str, list] = {}

        def spy(name: str, work):
            def call(x, *given, **named):
                seen[name] = list(given)
                return work(x, *given, **named)

            monkeypatch.setattr(recipe, name, call)

        for name in ("warp", "colour", "gaussian_blur", "cut_hole"):
            spy(name, getattr(recipe, name))
        view(torch.rand(N, 3, 2, 2, generator=rng(9)), rng(seed))
        monkeypatch.undo()
        return seen

    return run


def taken_apart(matrix_N23: torch.Tensor) -> dict[str, np.ndarray]:
    """Width and height as shares, mirror +-1, degrees, shear, centre: the matrix read backwards."""
    (a, b, x), (c, d, y) = matrix_N23.double().permute(1, 2, 0).numpy()
    mirror = np.sign(a * d - b * c)
    width, angle = np.hypot(a, c), np.arctan2(mirror * c, mirror * a)
    height = abs(a * d - b * c) / width
    shear = (b * np.cos(angle) + d * np.sin(angle)) / height
    return {"width": width, "height": height, "mirror": mirror, "angle": np.degrees(angle), "shear": shear, "x": x, "y": y}


def is_rate(found: np.ndarray, probability: float) -> None:
    assert abs(found.mean() - probability) <= 4 * math.sqrt(probability * (1 - probability) / len(found)), found.mean()


def is_even(found: np.ndarray, low: float, high: float) -> None:
    """Uniform from low to high: Kolmogorov-Smirnov at 0.1 %; all the same where the two are."""
    if low == high:
        np.testing.assert_allclose(found, low, atol=1e-5)
        return
    steps = low + (high - low) * (np.arange(len(found)) + 0.5) / len(found)
    furthest = np.abs(np.sort(found) - steps).max() / (high - low)
    assert furthest < 1.95 / math.sqrt(len(found)), f"{furthest} from uniform in {low}, {high}"


def test_every_recipe_is_here():
    recipes = {f"{strength} {name}" for strength in ("pretext", "weak", "strong") for name in augment.SETS}
    assert recipes - set(DRAWN) == {"strong photos", "strong moco"}, "which are Strong: see test_operations"


@pytest.mark.parametrize("words", DRAWN)
def test_places(words, spied):
    want, found = DRAWN[words], taken_apart(spied(view_of(words))["warp"][0])
    width, height, (low, high) = found["width"], found["height"], want["area"]
    is_rate(found["mirror"] < 0, want["flip"])
    is_even(found["angle"], -want["rotate"], want["rotate"])
    is_even(found["shear"], -want["shear"], want["shear"])
    if want["shift"] is not None:
        is_even(width * height, low, high)
        is_even(np.log(width / height), -math.log(4 / 3), math.log(4 / 3))
        for centre in (found["x"], found["y"]):
            is_even(centre / 2, -want["shift"], want["shift"])
        return
    # Inside the image a crop that does not fit is clamped: no side above 1, and of an area of 0.8 at an aspect of 4/3 0.775 is left.
    least = min(low, math.sqrt(low * 3 / 4))
    assert (width * height > least - 1e-6).all() and width.max() <= 1 + 1e-6 and height.max() <= 1 + 1e-6
    area, aspect = np.meshgrid(np.linspace(low, high, 801), np.exp(np.linspace(-1, 1, 801) * math.log(4 / 3)))
    clamped = np.sqrt(area * aspect).clip(max=1) * np.sqrt(area / aspect).clip(max=1)
    assert abs((width * height).mean() - clamped.mean()) < 4 * clamped.std() / math.sqrt(N)
    assert clamped.mean() == pytest.approx({0.2: 0.593, 0.8: 0.871}[low], abs=1e-3)
    ratio = width / height
    assert (
        ratio.min() >= 3 / 4 - 1e-5 and ratio.max() <= 4 / 3 + 1e-5 and abs(np.log(ratio).mean()) < 4 * np.log(ratio).std() / math.sqrt(N)
    )
    for side, centre in ((width, found["x"]), (height, found["y"])):
        room = 1 - side
        is_even(centre[room > 1e-3] / room[room > 1e-3], -1, 1)


@pytest.mark.parametrize("words", DRAWN)
def test_colours(words, spied):
    want, seen = DRAWN[words], spied(view_of(words))
    assert ("colour" in seen) == bool(want["jitter"]), "what draws no colour does not touch them"
    if not want["jitter"]:
        return
    brightness, contrast, saturation, hue = (factor.double().numpy() for factor in seen["colour"])
    on, grey = brightness != 1, saturation == 0
    is_rate(on, want["jitter"])
    is_rate(grey, want["grey"])
    for factor, reach in zip((brightness, contrast, saturation), want["factors"]):
        assert (factor[~on & ~grey] == 1).all(), "the four come together"
        is_even(factor[on & ~grey], 1 - reach, 1 + reach)
    assert (hue[~on] == 0).all()
    is_even(hue[on] / (2 * math.pi), -want["factors"][3], want["factors"][3])


@pytest.mark.parametrize("words", DRAWN)
def test_blurs_and_holes(words, spied):
    want, seen = DRAWN[words], spied(view_of(words))
    assert ("cut_hole" in seen) == bool(want["hole"]) and ("gaussian_blur" in seen) == bool(want["blur"])
    if want["hole"]:
        assert seen["cut_hole"][1:] == [want["hole"]]
    if want["blur"]:
        sigma = seen["gaussian_blur"][0].double().numpy()
        assert abs(len(sigma) - N * want["blur"]) < 4 * math.sqrt(N / 4)
        is_even(sigma, 0.1, 2.0)


@pytest.mark.parametrize("words", DRAWN)
def test_no_draw_follows_another(words, spied):
    """Two things drawn from the same random number would be correlated."""
    seen = spied(view_of(words))
    found = taken_apart(seen["warp"][0])
    width, height = found.pop("width"), found.pop("height")
    columns = [width * height, width / height, *found.values(), *(factor.double().numpy() for factor in seen.get("colour", []))]
    columns = [column for column in columns if column.std() > 1e-4]
    correlation = np.corrcoef(columns) - np.eye(len(columns))
    assert abs(correlation).max() < 4.5 / math.sqrt(N), correlation.round(3)


def test_the_blur_is_drawn_last_and_only_where_there_is_one(spied):
    """moco's other draws are those of photos to the bit, and its blur's are what the generator gives after them."""
    photos, moco, x, after = augment.pretext("photos"), augment.pretext("moco"), torch.rand(N, 3, 2, 2, generator=rng(9)), rng(4)
    plain, blurred = photos(x, after), moco(x, rng(4))
    counted = rng(4)
    for _ in range(13):  # seven for the place, six for the colours: one more would change every fit there has been
        torch.rand(N, generator=counted)
    assert torch.equal(after.get_state(), counted.get_state())
    on = torch.rand(N, generator=after) < 0.5
    sigma = 0.1 + 1.9 * torch.rand(N, generator=after)
    torch.testing.assert_close(spied(moco, 4)["gaussian_blur"][0], sigma[on], rtol=0, atol=1e-6)
    assert torch.equal(blurred[~on], plain[~on])
    assert ((blurred - plain)[on & (sigma > 0.5)].abs().amax((1, 2, 3)) > 1e-3).double().mean() > 0.99


# ---- colours


@pytest.mark.parametrize("name", ["glyphs", "garments"])
@pytest.mark.parametrize("strength", ["pretext", "weak", "strong", "fixmatch_weak", "fixmatch_strong"])
def test_glyphs_and_garments_keep_the_ratio_of_colours(strength, name):
    flat = torch.tensor([0.2, 0.3, 0.5]).view(1, 3, 1, 1).expand(500, 3, 8, 8)
    out = getattr(augment, strength)(name)(flat, rng())
    assert out.min() > 0.1, "no black moves in"
    torch.testing.assert_close(out / out[:, :1], flat / flat[:, :1], rtol=5e-3, atol=0)  # YIQ's four digits
    turned = augment.pretext("photos")(flat, rng())
    assert ((turned / turned[:, :1] - flat / flat[:, :1]).abs().amax((1, 2, 3)) > 0.05).double().mean() > 0.5, "photos do not"


# ---- the pair of FixMatch


def test_the_pair_of_each_set():
    for name in ("photos", "moco"):
        assert augment.strong(name) == Strong()
        assert augment.fixmatch_weak(name) == Shifted(flip=0.5, shift=1 / 8)
        assert augment.fixmatch_strong(name) == Strong(FIXMATCH, count=3, flip=0, weak=Shifted(), cutout=0.5, fill=0.5)
    for name in ("glyphs", "garments"):
        assert augment.fixmatch_weak(name) == augment.weak(name) and augment.fixmatch_strong(name) == augment.strong(name)


def test_a_shift_is_a_crop_of_the_padded_image():
    """Every view is one of the 2 x 9 x 9 that a flip and a crop out of a frame of 4 zeros can give at 32 px."""
    images = torch.rand(60, 3, 32, 32, generator=rng())
    for image, view in zip(images, Shifted()(images, rng(1))):
        padded = torch.nn.functional.pad(torch.stack([image, image.flip(2)]), (4, 4, 4, 4))
        crops = padded.unfold(2, 32, 1).unfold(3, 32, 1).permute(0, 2, 3, 1, 4, 5).reshape(2 * 9 * 9, 3, 32, 32)
        assert int(((crops - view).abs().amax((1, 2, 3)) < 2e-5).sum()) == 1


def test_shifts_and_flips_are_all_as_likely():
    h, w = 16, 24  # 2 and 3 px at most
    matrix = Shifted().matrix(Draws(N, rng()), h, w).numpy()
    mirror = matrix[:, 0, 0]
    place = np.stack([(mirror + 1) / 2, matrix[:, 0, 2] * w / 2 + 3, matrix[:, 1, 2] * h / 2 + 2])
    np.testing.assert_allclose(place, place.round(), atol=1e-5)
    cells = np.ravel_multi_index(place.round().astype(int), (2, 7, 5))
    expected = N / 70
    assert ((np.bincount(cells, minlength=70) - expected) ** 2 / expected).sum() < 111.1  # 99.9 % of chi-squared, 69 degrees of freedom
    assert (Shifted(flip=0).matrix(Draws(N, rng()), h, w)[:, 0, 0] == 1).all()
