"""The batched blur against torchvision, Pillow and a loop over pixels, in float64."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torchvision.transforms.functional import gaussian_blur as reference

from coterie.augment.blur import RADIUS, SIGMA, gaussian_blur

SIGMAS = torch.linspace(*SIGMA, 8, dtype=torch.float64)


def pixels(b: int, h: int, w: int) -> torch.Tensor:
    return torch.rand(b, 3, h, w, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def naive(image: np.ndarray, sigma: float) -> np.ndarray:
    """(3, H, W) float64: both axes at once, pixel by pixel."""
    offsets = np.arange(-RADIUS, RADIUS + 1)
    kernel = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * sigma**2))
    padded = np.pad(image.astype(np.float64), ((0, 0), (RADIUS, RADIUS), (RADIUS, RADIUS)), mode="reflect")
    out = np.empty(image.shape)
    for y in range(image.shape[1]):
        for x in range(image.shape[2]):
            out[:, y, x] = (padded[:, y : y + len(offsets), x : x + len(offsets)] * kernel).sum((1, 2)) / kernel.sum()
    return out


@pytest.mark.parametrize("size", [(9, 9), (20, 31), (32, 32), (96, 96)])
def test_each_image_is_torchvision_s_at_its_own_sigma(size):
    x = pixels(8, *size)
    side = [2 * RADIUS + 1] * 2
    want = torch.stack([reference(image, side, [float(sigma)] * 2) for image, sigma in zip(x, SIGMAS)])
    torch.testing.assert_close(gaussian_blur(x, SIGMAS), want, rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 12)])
def test_images_smaller_than_the_kernel_are_reflected_as_often_as_needed(size):
    got = gaussian_blur(pixels(8, *size), SIGMAS)
    for image, sigma, blurred in zip(pixels(8, *size), SIGMAS, got):
        np.testing.assert_allclose(blurred, naive(image.numpy(), float(sigma)), atol=1e-9)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 1.5, 2.0])
def test_inside_it_is_near_pillow_s(sigma):
    """Pillow, which MoCo's code blurs with, stacks three box blurs and repeats the edge: within 5 of 255 levels away from the border."""
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    want = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma)), float)
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    got = (gaussian_blur(x, torch.tensor([sigma]))[0].permute(1, 2, 0) * 255).numpy()
    inside = slice(RADIUS, -RADIUS)
    assert np.abs(got - want)[inside, inside].max() < 5 < np.abs(image - want)[inside, inside].mean(), "and the blur itself moves far more"


def test_the_radius_is_large_enough():
    beyond = torch.arange(RADIUS + 1, 100)
    assert 2 * torch.exp(-0.5 * (beyond / SIGMA[1]) ** 2).sum() / (SIGMA[1] * (2 * torch.pi) ** 0.5) < 6e-5


def test_least_sigma_one_colour_and_the_input_stay():
    x = pixels(3, 10, 10)
    torch.testing.assert_close(gaussian_blur(x, torch.full((3,), SIGMA[0])), x, rtol=0, atol=1e-9)
    flat = torch.full((2, 3, 9, 9), 0.3, dtype=torch.float64)
    torch.testing.assert_close(gaussian_blur(flat, torch.tensor([1.0, 2.0])), flat, rtol=0, atol=1e-9)
    assert gaussian_blur(torch.ones(8, 3, 32, 32), SIGMAS).max() <= 1
    assert gaussian_blur(x[:0], SIGMAS[:0]).shape == (0, 3, 10, 10), "a batch of which nothing is blurred"
    gaussian_blur(x, SIGMAS[:3])
    assert torch.equal(x, pixels(3, 10, 10))
    torch.testing.assert_close(
        gaussian_blur(x.to(memory_format=torch.channels_last), SIGMAS[:3]), gaussian_blur(x, SIGMAS[:3]), rtol=0, atol=1e-9
    )
