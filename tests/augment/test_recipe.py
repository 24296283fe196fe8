"""One composed matrix and one grid against the operations one by one. B batch, H x W pixels."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as reference

from coterie import augment
from coterie.augment.recipe import Draws, Recipe, colour, places, warp
from coterie.errors import InputError

NOTHING = Recipe(area=(1, 1), aspect=(1, 1), flip=0, jitter=0, grey=0)
W = np.array([0.299, 0.587, 0.114])


def pixels(b: int = 4, h: int = 12, w: int = 12, low: float = 0.0, high: float = 1.0, seed: int = 0) -> torch.Tensor:
    return low + (high - low) * torch.rand(b, 3, h, w, generator=torch.Generator().manual_seed(seed))


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---- geometry


@pytest.mark.parametrize("h, w", [(1, 1), (7, 9), (32, 32)])
def test_places_as_a_loop(h, w):
    """A pixel's middle through the matrix; corners of the image are at -1 and 1."""
    matrix = torch.randn(3, 2, 3, generator=rng())
    grid = places(matrix, h, w)
    for b in range(3):
        for i in range(h):
            for j in range(w):
                middle = [(2 * j + 1) / w - 1, (2 * i + 1) / h - 1, 1.0]
                wanted = [sum(float(matrix[b, axis, k]) * middle[k] for k in range(3)) for axis in range(2)]
                assert grid[b, i, j].tolist() == pytest.approx(wanted, abs=2e-6)
    torch.testing.assert_close(grid, F.affine_grid(matrix, [3, 3, h, w], align_corners=False))


# ---- colour


def factors(b: int, **given) -> list[torch.Tensor]:
    """brightness, contrast, saturation, hue: those given, the others without effect."""
    start = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0} | given
    return [torch.as_tensor(value, dtype=torch.float32).expand(b) for value in start.values()]


def naive_colour(image: np.ndarray, brightness: float, contrast: float, saturation: float, hue: float) -> np.ndarray:
    """(3, H, W) float64: hue turned in YIQ, then saturation, contrast, brightness, one after the other and pixel by pixel."""
    yiq = np.array([W, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
    turn = np.array([[1, 0, 0], [0, math.cos(hue), -math.sin(hue)], [0, math.sin(hue), math.cos(hue)]])
    mean = sum(float(W @ image[:, y, x]) for y in range(image.shape[1]) for x in range(image.shape[2])) / image[0].size
    out = np.empty_like(image, dtype=np.float64)
    for y in range(image.shape[1]):
        for x in range(image.shape[2]):
            rgb = np.linalg.inv(yiq) @ turn @ yiq @ image[:, y, x].astype(np.float64)
            rgb = saturation * rgb + (1 - saturation) * (W @ rgb)
            rgb = contrast * rgb + (1 - contrast) * mean
            out[:, y, x] = np.clip(brightness * rgb, 0, 1)
    return out


def test_colour_equals_the_operations_one_by_one():
    x = pixels(6, 5, 7)
    draws = [
        torch.linspace(0.6, 1.4, 6),
        torch.linspace(1.4, 0.6, 6),
        torch.tensor([0, 0.5, 1, 1.4, 0.8, 0.0]),
        torch.linspace(-0.6, 0.6, 6),
    ]
    got = colour(x, *draws)
    for i in range(6):
        want = naive_colour(x[i].numpy(), *(float(draw[i]) for draw in draws))
        np.testing.assert_allclose(got[i], want, atol=2e-3)  # YIQ's published four digits do not invert to the luma exactly


def test_factors_of_one_change_nothing():
    torch.testing.assert_close(colour(pixels(), *factors(4)), pixels(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "name, function",
    [("brightness", reference.adjust_brightness), ("contrast", reference.adjust_contrast), ("saturation", reference.adjust_saturation)],
)
@pytest.mark.parametrize("factor", [0.6, 0.9, 1.2, 1.4])
def test_one_colour_operation_is_torchvision_s(name, function, factor):
    x = pixels(low=0.35, high=0.65)  # nothing clips
    want = torch.stack([function(image, factor) for image in x])
    torch.testing.assert_close(colour(x, *factors(4, **{name: factor})), want, rtol=0, atol=2e-4)


def test_all_three_in_a_row_are_torchvision_s():
    x = pixels(low=0.4, high=0.6)
    want = reference.adjust_brightness(reference.adjust_contrast(reference.adjust_saturation(x[:1], 0.7), 1.3), 1.2)
    torch.testing.assert_close(colour(x[:1], *factors(1, brightness=1.2, contrast=1.3, saturation=0.7)), want, rtol=0, atol=5e-4)


@pytest.mark.parametrize("turns", [-0.03, -0.01, 0.01, 0.03])
def test_small_hues_are_near_torchvision_s(turns):
    """YIQ against HSV: a step as long (5 % more or less), but across: at 0.65 from the same direction, and with the other sign."""
    x = pixels(low=0.3, high=0.7)
    want = torch.stack([reference.adjust_hue(image, turns) for image in x])
    got = colour(x, *factors(4, hue=2 * math.pi * turns))
    ours, theirs = (got - x).flatten(), (want - x).flatten()
    assert float(ours.norm() / theirs.norm()) == pytest.approx(1, abs=0.05)
    assert float(ours @ theirs / ours.norm() / theirs.norm()) == pytest.approx(-0.65, abs=0.06)


def test_hue_keeps_the_luma_and_a_whole_turn_comes_back():
    x = pixels(low=0.4, high=0.6)
    luma = torch.tensor(W, dtype=torch.float32).view(1, 3, 1, 1)
    for turns in (0.1, 0.37):
        torch.testing.assert_close((colour(x, *factors(4, hue=2 * math.pi * turns)) * luma).sum(1), (x * luma).sum(1), rtol=0, atol=2e-3)
    torch.testing.assert_close(colour(x, *factors(4, hue=2 * math.pi)), x, rtol=0, atol=1e-5)


def test_no_saturation_is_grey():
    out = colour(pixels(), *factors(4, saturation=0.0, hue=1.0))
    want = (pixels() * torch.tensor(W, dtype=torch.float32).view(1, 3, 1, 1)).sum(1, keepdim=True).expand(-1, 3, -1, -1)
    torch.testing.assert_close(out, want, rtol=0, atol=2e-3)


def test_grey_pictures_stay_grey_and_everything_is_clipped():
    grey = pixels()[:, :1].expand(-1, 3, -1, -1)
    out = colour(grey, *factors(4, saturation=1.4, hue=0.5, brightness=1.4))
    torch.testing.assert_close(out[:, 0], out[:, 1], rtol=0, atol=2e-3)
    wild = colour(pixels(), *factors(4, brightness=3.0, contrast=3.0, saturation=5.0))
    assert wild.min() >= 0 and wild.max() == 1


def test_colour_writes_nothing_into_its_input():
    x = pixels()
    colour(x, *factors(4, brightness=1.3))
    assert torch.equal(x, pixels())


# ---- the whole recipe


def test_the_recipe_of_nothing_changes_nothing():
    for shape in ((4, 12, 12), (1, 8, 8), (2, 9, 14), (3, 1, 1)):
        torch.testing.assert_close(NOTHING(pixels(*shape), rng()), pixels(*shape), rtol=0, atol=1e-5)


def test_a_flip_alone():
    torch.testing.assert_close(replace(NOTHING, flip=1)(pixels(), rng()), pixels().flip(3), rtol=0, atol=1e-5)
    ramp = torch.linspace(0, 1, 12).expand(4000, 3, 12, 12)
    flipped = replace(NOTHING, flip=0.5)(ramp, rng())[:, 0, 0, 0] > 0.5
    assert abs(float(flipped.float().mean()) - 0.5) < 4 * 0.5 / math.sqrt(4000)


def test_grey_and_jitter_come_as_often_as_asked():
    x = torch.tensor([0.6, 0.4, 0.3]).view(1, 3, 1, 1).expand(4000, 3, 2, 2)
    out = replace(NOTHING, grey=0.2)(x, rng())
    grey = (out[:, 0] - out[:, 1]).abs().amax((1, 2)) < 5e-3
    assert abs(float(grey.float().mean()) - 0.2) < 4 * 0.4 / math.sqrt(4000)
    out = replace(NOTHING, jitter=0.8, hue=0)(x, rng())
    same = (out - x).abs().amax((1, 2, 3)) < 1e-5
    assert abs(float(same.float().mean()) - 0.2) < 4 * 0.4 / math.sqrt(4000)


def test_a_turn_is_a_turn():
    """90 degrees, forced: the image as torch.rot90 gives it, counter-clockwise or clockwise."""
    x = pixels(1, 9, 9)

    class Quarter(Draws):
        def uniform(self, low, high):
            return torch.full((self.size,), float(high))

    matrix = replace(NOTHING, rotate=90)._geometry(Quarter(1, rng()))
    out = warp(x, matrix)
    assert any(torch.allclose(out, torch.rot90(x, k, (2, 3)), atol=1e-5) for k in (1, 3))


@pytest.mark.parametrize("name", augment.SETS)
@pytest.mark.parametrize("make", [augment.pretext, augment.weak, augment.strong, augment.fixmatch_weak, augment.fixmatch_strong])
def test_every_set_and_strength(name, make):
    view, x = make(name), pixels(5, 16, 16)
    one, two, other = view(x, rng(3)), view(x, rng(3)), view(x, rng(4))
    assert one.shape == x.shape and one.dtype == torch.float32 and one.min() >= 0 and one.max() <= 1
    assert torch.equal(one, two), "the generator decides everything"
    assert not torch.equal(one, other) and torch.equal(x, pixels(5, 16, 16))
    assert view(x[:1], rng()).shape == (1, 3, 16, 16)
    assert view(pixels(2, 10, 15), rng()).shape == (2, 3, 10, 15)
    generator = rng(3)
    view(x, generator)
    assert not torch.equal(view(x, generator), one), "the next batch is drawn anew"


@pytest.mark.parametrize("view", [augment.pretext(name) for name in augment.SETS] + [augment.weak("garments"), augment.strong("glyphs")])
def test_each_image_has_draws_of_its_own(view):
    out = view(pixels(1, 16, 16).expand(32, -1, -1, -1), rng())
    assert len({image.numpy().tobytes() for image in out}) == 32


def test_no_draw_from_the_global_generator():
    before = torch.get_rng_state()
    for name in augment.SETS:
        augment.pretext(name)(pixels(), rng()), augment.strong(name)(pixels(), rng())
    assert torch.equal(torch.get_rng_state(), before)


def test_glyphs_are_never_mirrored_nor_coloured():
    recipe = augment.pretext("glyphs")
    assert recipe.flip == 0 and recipe.hue == recipe.saturation == recipe.grey == 0
    grey = pixels(20, 16, 16)[:, :1].expand(-1, 3, -1, -1)
    out = recipe(grey, rng())
    torch.testing.assert_close(out[:, 0], out[:, 2], rtol=0, atol=1e-3)


def test_weak_keeps_the_colours():
    flat = torch.tensor([0.2, 0.5, 0.8]).view(1, 3, 1, 1).expand(50, 3, 8, 8)
    for name in augment.SETS:
        torch.testing.assert_close(augment.weak(name)(flat, rng()), flat, rtol=0, atol=1e-5)


def test_clean_is_the_image_and_an_unknown_set_is_refused():
    assert torch.equal(augment.clean(pixels(), rng()), pixels())
    for make in (augment.pretext, augment.weak, augment.strong, augment.fixmatch_weak, augment.fixmatch_strong):
        with pytest.raises(InputError, match="augment=nothing.*photos, glyphs, garments, moco"):
            make("nothing")


# ---- crops


def boxes(recipe: Recipe, n: int, seed: int = 0) -> np.ndarray:
    """Width, height and centre (x, y) of n crops, as shares of the image; recipes without turns."""
    matrix = recipe._geometry(Draws(n, rng(seed))).double().numpy()
    assert np.allclose(matrix[:, 0, 1], 0) and np.allclose(matrix[:, 1, 0], 0)
    return np.stack([abs(matrix[:, 0, 0]), matrix[:, 1, 1], matrix[:, 0, 2] / 2 + 0.5, matrix[:, 1, 2] / 2 + 0.5], 1)


def furthest(one: np.ndarray, other: np.ndarray) -> float:
    """The Kolmogorov-Smirnov distance of two samples."""
    at = np.sort(np.concatenate([one, other]))
    return abs(np.searchsorted(np.sort(one), at, "right") / len(one) - np.searchsorted(np.sort(other), at, "right") / len(other)).max()


def test_crops_lie_inside():
    width, height, x, y = boxes(Recipe(), 5000).T
    assert (x - width / 2 >= -1e-6).all() and (x + width / 2 <= 1 + 1e-6).all()
    assert (y - height / 2 >= -1e-6).all() and (y + height / 2 <= 1 + 1e-6).all()
    assert (width * height <= 1 + 1e-6).all() and (width * height >= 0.2 - 1e-6).all()


def test_areas_are_uniform_where_every_crop_fits():
    """Up to an area of 3/4 any aspect fits, so nothing is clamped and the area must be exactly uniform."""
    width, height, *_ = boxes(Recipe(area=(0.2, 0.75)), 20_000).T
    area = np.sort(width * height)
    uniform = 0.2 + 0.55 * (np.arange(20_000) + 0.5) / 20_000
    assert abs(area - uniform).max() / 0.55 < 1.95 / math.sqrt(20_000)  # Kolmogorov-Smirnov at 0.1 %
    aspect = np.sort(np.log(width / height))
    even = math.log(3 / 4) + math.log(16 / 9) * (np.arange(20_000) + 0.5) / 20_000
    assert abs(aspect - even).max() / math.log(16 / 9) < 1.95 / math.sqrt(20_000)


def test_crops_are_almost_those_of_random_resized_crop():
    """Clamping against drawing again: larger crops, 0.59 of the image on average and not 0.54; everything else is close."""
    torch.manual_seed(0)
    image = torch.zeros(3, 400, 400)
    theirs = np.array([RandomResizedCrop.get_params(image, [0.2, 1.0], [3 / 4, 4 / 3]) for _ in range(6000)]) / 400
    width, height, x, y = boxes(Recipe(), 6000).T
    assert np.mean(width * height) - np.mean(theirs[:, 2] * theirs[:, 3]) == pytest.approx(0.054, abs=0.01)
    assert furthest(width * height, theirs[:, 2] * theirs[:, 3]) < 0.15
    assert furthest(width, theirs[:, 3]) < 0.12 and furthest(height, theirs[:, 2]) < 0.12
    assert furthest(x, theirs[:, 1] + theirs[:, 3] / 2) < 0.08 and furthest(y, theirs[:, 0] + theirs[:, 2] / 2) < 0.08


def test_a_crop_shows_that_part():
    """A ramp tells where each pixel came from: left and right edges of the view lie where the matrix says."""
    ramp = ((torch.arange(100) + 0.5) / 100).expand(50, 3, 100, 100)
    recipe = Recipe(flip=0, jitter=0, grey=0)
    out = recipe(ramp, rng())[:, 0, 50]
    width, _, x, _ = boxes(recipe, 50).T
    np.testing.assert_allclose((out[:, 0] + out[:, -1]) / 2, x, atol=0.01)
    np.testing.assert_allclose((out[:, -1] - out[:, 0]) * 100 / 99, width, atol=0.02)


def test_free_crops_move_by_the_shift_only():
    width, _, x, y = boxes(Recipe(inside=False, area=(0.5, 1.2), shift=0.1), 5000).T
    assert 0.39 < x.min() < 0.41 and 0.59 < x.max() < 0.61 and abs(y.mean() - 0.5) < 0.01
    assert width.max() > 1, "zooming out is allowed"


@pytest.mark.parametrize("size", [12, 16, 40])
def test_a_view_of_another_size_shows_the_same(size):
    """The draws are those of a full view; what is sampled is the same place, as torch resizes it."""
    x = torch.rand(4, 3, 24, 24, generator=rng())
    still = Recipe(area=(1, 1), aspect=(1, 1), flip=0, jitter=0, grey=0)
    small = replace(still, size=size)(x, rng())
    torch.testing.assert_close(small, F.interpolate(x, (size, size), mode="bilinear", align_corners=False), rtol=0, atol=1e-5)
    after = rng(3), rng(3)
    assert replace(Recipe(), size=size)(x, after[0]).shape == (4, 3, size, size) and Recipe()(x, after[1]).shape == x.shape
    assert torch.equal(after[0].get_state(), after[1].get_state())


@pytest.mark.parametrize("name", ["photos", "moco", "glyphs", "garments"])
def test_crops_are_the_geometry_alone(name):
    """Of a picture of one colour nothing changes; of any other it is the pretext's view without colours and blur."""
    flat = torch.full((6, 3, 12, 12), 0.3)
    torch.testing.assert_close(augment.crops(name)(flat, rng()), flat)
    assert not torch.allclose(augment.pretext(name)(flat, rng()), flat, atol=1e-3)
    views = augment.crops(name, 8)(pixels(b=20), rng())
    assert views.shape == (20, 3, 8, 8) and views.flatten(1).std(0).min() > 0
    assert augment.crops(name).area == ((0.08, 1.0) if name in ("photos", "moco") else augment.SETS[name].area)


@pytest.mark.parametrize("name", ["photos", "moco", "glyphs", "garments"])
def test_details_show_less_than_any_whole_view(name):
    """On a ramp the spread of a crop says how much of the picture it shows."""
    ramp = torch.linspace(0, 1, 32).view(1, 1, 1, 32).expand(200, 3, 32, 32)
    spreads = [
        replace(view, flip=0, jitter=0, grey=0, blur=0, rotate=0)(ramp, rng()).std(3).mean()
        for view in (augment.details(name, 16), augment.crops(name, 16))
    ]
    assert spreads[0] < 0.9 * spreads[1] and augment.details(name, 16)(ramp, rng()).shape == (200, 3, 16, 16)
