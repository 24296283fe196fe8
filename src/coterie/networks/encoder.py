"""An encoder and its features. The only file that knows timm.

Names: "small" and "small-32" (ResNet-9 of width 16 and 32), "resnet18-cifar", "resnet34-cifar", "resnet18-stl", "resnet34-stl",
"wrn-28-2", "wrn-28-8", "wrn-37-2" (FixMatch's wide residual networks: CIFAR-10, CIFAR-100, and STL-10 at 96 px),
"alexnet", "vgg16" (DeepCluster's networks, made for 224 px), "pixels" (no network: the pixels themselves), "precomputed" (no network
and no images: features as given), a short name of published.py ("lite0"), or any timm model. "-sobel" behind any of them but "pixels" and
"precomputed" puts DeepCluster's Sobel filters in front of the network: "alexnet-sobel", "small-sobel". "+" between two names puts their
unit features side by side: "lite0+lite1".

Shapes: N images, B batch, D feature.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coterie.errors import InputError
from coterie.images import Images
from coterie.networks import published
from coterie.networks.backbones.alexnet import Classic, alexnet, vgg16
from coterie.networks.backbones.cifar_resnet import CifarResNet
from coterie.networks.backbones.resnet9 import ResNet9, stem_stride
from coterie.networks.backbones.sobel import CHANNELS, Sobel
from coterie.networks.backbones.wide_resnet import WideResNet
from coterie.networks.folding import folded
from coterie.networks.heads import UnitLinear

if TYPE_CHECKING:
    from coterie.run import Run

PRECOMPUTED = "precomputed"
SOBEL = "-sobel"
BATCH_PIXELS = 1 << 20  # of a batch through a network from timm: 40 pictures of 160 px
STATISTICS_FROM = 10_000  # images that mean and deviation of the colours are taken from


@dataclass(frozen=True)
class EncoderSpec:
    """All that is needed to build the same network again. `image_size` in px; `projection`: dimensions of a linear layer on the backbone,
    whose unit outputs are the features then; 0: none."""

    name: str
    image_size: int
    projection: int = 0

    @property
    def network(self) -> str:
        """The name without what stands in front of the network."""
        return self.name.removesuffix(SOBEL)


class Encoder(nn.Module):
    """Pixels (B, 3, S, S) in [0, 1] -> features (B, D): colours are standardised, edges found if asked; then the backbone, a projection."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, spec: EncoderSpec):
        super().__init__()
        self.spec = spec
        self.front = Sobel() if spec.name.endswith(SOBEL) else nn.Identity()
        self.backbone, width = _backbone(spec, CHANNELS if spec.name.endswith(SOBEL) else 3)
        self.projection: nn.Module = UnitLinear(width, spec.projection) if spec.projection else nn.Identity()
        self.ends_before_relu: bool = getattr(self.backbone, "ends_before_relu", False)  # what learns on these features puts a ReLU first
        self.n_features = spec.projection or width
        alone = not isinstance(self.backbone, SideBySide)  # else each of them standardises for itself
        self.register_buffer("mean", torch.full((3,), 0.5 if alone else 0.0))
        self.register_buffer("deviation", torch.full((3,), 0.25 if alone else 1.0))
        self.still: list[nn.Module] = []  # parts that no longer learn, whose normalisations keep their statistics

    def standardise(self, mean_3: Tensor, deviation_3: Tensor) -> None:
        """Takes mean and deviation of each colour channel, in [0, 1]."""
        if isinstance(self.backbone, SideBySide):
            for part in self.parts:
                part.standardise(mean_3, deviation_3)
            return
        self.mean.copy_(mean_3)
        self.deviation.copy_(deviation_3)

    @property
    def parts(self) -> list["Encoder"]:
        """The encoders whose features stand side by side; itself where it is one."""
        return list(self.backbone.encoders) if isinstance(self.backbone, SideBySide) else [self]  # type: ignore[arg-type]

    def hold(self) -> None:
        """From here on only the last block of each backbone, and what stands behind it, learns; the rest stays as it is."""
        for part in self.parts:
            blocks = blocks_of(part.backbone)
            part.backbone.requires_grad_(False)
            for block in blocks[-1:]:
                block.requires_grad_(True)
            self.still += blocks[:-1]

    def train(self, mode: bool = True) -> "Encoder":
        super().train(mode)
        for part in self.still:
            part.eval()
        return self

    def forward(self, pixels_B3HW: Tensor) -> Tensor:
        return self.projection(self.backbone(pixels_B3HW if self.spec.name == PRECOMPUTED else self.standardised(pixels_B3HW)))

    def standardised(self, pixels_B3HW: Tensor) -> Tensor:
        """What the backbone gets."""
        x = (pixels_B3HW - self.mean.view(1, 3, 1, 1)) / self.deviation.view(1, 3, 1, 1)
        return self.front(x).contiguous(memory_format=torch.channels_last)

    def maps(self, pixels_B3HW: Tensor) -> Tensor | None:
        """The last convolutional maps (B, D, h, w); None where there are none (transformers, pixels, precomputed features), or where the
        projection takes what connected layers made of them (AlexNet, VGG-16) and no place of its own."""
        found = getattr(self.backbone, "maps", None) or getattr(self.backbone, "forward_features", None)
        maps = None if found is None else found(self.standardised(pixels_B3HW))
        if not (isinstance(maps, Tensor) and maps.ndim == 4):
            return None
        if not isinstance(self.projection, UnitLinear):
            return maps
        return self.projection.places(maps) if maps.shape[1] == self.projection.linear.in_features else None


def blocks_of(backbone: nn.Module) -> list[nn.Module]:
    """The parts of a network in the order they were made, a row of blocks block by block; the last holds all from the last block on."""
    rows = [list(part) if isinstance(part, (nn.Sequential, nn.ModuleList)) and len(part) > 1 else [part] for part in backbone.children()]
    parts = [part for row in rows for part in row]
    last = max((i for i, part in enumerate(parts) if any(len(row) > 1 and part is row[-1] for row in rows)), default=0)
    return [*parts[:last], nn.ModuleList(parts[last:])]


class SideBySide(nn.Module):
    """Several encoders that look at the same pictures: pixels (B, 3, S, S) -> their unit features in a row (B, sum of their D)."""

    def __init__(self, encoders: list[Encoder]):
        super().__init__()
        self.encoders = nn.ModuleList(encoders)

    def forward(self, pixels_B3HW: Tensor) -> Tensor:
        return torch.cat([F.normalize(encoder(pixels_B3HW).float(), dim=1) for encoder in self.encoders], 1)


class Flat(nn.Module):
    """No network: an image's own pixels in a row, or features as they were given."""

    def forward(self, x: Tensor) -> Tensor:
        return x.contiguous().flatten(1)


def build(spec: EncoderSpec) -> Encoder:
    """An encoder with untrained weights. Raises InputError for a name neither Coterie nor timm knows."""
    return Encoder(spec)


def colour_statistics(images: Images) -> tuple[Tensor, Tensor]:
    """Mean (3,) and deviation (3,), at least 1/8, of each channel in [0, 1], from at most 10,000 evenly spread images."""
    ids = torch.linspace(0, len(images) - 1, min(len(images), STATISTICS_FROM)).long()
    total, square, count = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64), 0
    for batch in images.batches(512, ids=ids):
        x = batch.pixels_B3HW.double()
        total += x.sum((0, 2, 3)).cpu()
        square += x.square().sum((0, 2, 3)).cpu()
        count += x.shape[0] * x.shape[2] * x.shape[3]
    mean = total / count
    return mean.float(), (square / count - mean**2).clamp(min=0).sqrt().clamp(min=1 / 8).float()


def features(
    encoder: nn.Module, images: Images, run: "Run", batch_size: int = 512, view: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Features (N, D) float32 of the clean images, or of views of them, in eval mode; row i = image i. On several ranks each computes its
    part; all get all."""
    was_training = encoder.training
    encoder.eval()
    mine, filled = torch.empty(0), 0
    with torch.inference_mode():
        seen, batch_size = as_quick(encoder, images, batch_size)
        for pixels_B3HW in _share(images, run, batch_size):
            with run.autocast():
                z_BD = seen(view(pixels_B3HW) if view else pixels_B3HW).float()
            if not filled:  # once, so that the features lie in memory once; outside inference mode, whose tensors autograd would refuse
                with torch.inference_mode(False):
                    mine = torch.empty(-(-len(images) // run.world), z_BD.shape[1], device=z_BD.device)
            mine[filled : filled + len(z_BD)] = z_BD
            filled += len(z_BD)
    encoder.train(was_training)
    return mine if run.world == 1 else run.gather(mine)[: len(images)]


def as_quick(encoder: nn.Module, images: Images, batch_size: int) -> tuple[nn.Module, int]:
    """What computes the same features sooner: of a network from timm the normalisations are folded into the convolutions (1.2 to 1.4 times
    the images/s on a CPU) where that changes nothing, and batches are small enough for maps to stay near the cores."""
    plain = encoder.module if hasattr(encoder, "module") else encoder
    if not isinstance(plain, Encoder) or all(part.spec.network in OWN or isinstance(part.backbone, Flat) for part in plain.parts):
        return encoder, batch_size
    quick = folded(plain)
    probe_13HW = torch.linspace(0, 1, 3 * images.size[0] * images.size[1], device=plain.mean.device).view(1, 3, *images.size)
    told, wanted = quick(probe_13HW).float(), plain(probe_13HW).float()
    if (told - wanted).norm() > 1e-3 * wanted.norm():  # an unusual network, in which they do not stand behind one another
        quick = plain
    return quick, min(batch_size, max(16, BATCH_PIXELS // (images.size[0] * images.size[1])))


def _share(images: Images, run: "Run", batch_size: int) -> Iterable[Tensor]:
    """This rank's contiguous part of the set, padded with the last image so that every rank has the same number of rows."""
    each = -(-len(images) // run.world)
    ids = torch.arange(run.rank * each, (run.rank + 1) * each).clamp(max=len(images) - 1)
    for batch in run.place(images).batches(batch_size, ids=ids):
        yield batch.pixels_B3HW


OWN: dict[str, Callable[[int, int], ResNet9 | CifarResNet | WideResNet | Classic]] = {  # of image size and channels
    "small": lambda size, channels: ResNet9(16, stem_stride(size), channels),
    "small-32": lambda size, channels: ResNet9(32, stem_stride(size), channels),
    "resnet18-cifar": lambda size, channels: CifarResNet(18, channels=channels),
    "resnet34-cifar": lambda size, channels: CifarResNet(34, channels=channels),
    "resnet18-stl": lambda size, channels: CifarResNet(18, pool_stem=True, channels=channels),
    "resnet34-stl": lambda size, channels: CifarResNet(34, pool_stem=True, channels=channels),
    "wrn-28-2": lambda size, channels: WideResNet(2, channels=channels),
    "wrn-28-8": lambda size, channels: WideResNet(8, channels=channels),
    "wrn-37-2": lambda size, channels: WideResNet(2, strides=(2, 2, 2, 2), channels=channels),
    "alexnet": alexnet,
    "vgg16": vgg16,
}


def _backbone(spec: EncoderSpec, channels: int) -> tuple[nn.Module, int]:
    if spec.network == "pixels":
        return Flat(), channels * spec.image_size**2
    if spec.name == PRECOMPUTED:
        return Flat(), 0  # whatever is given
    if len(published.parts(spec.name)) > 1:
        both = [Encoder(EncoderSpec(name, spec.image_size)) for name in published.parts(spec.name)]
        return SideBySide(both), sum(one.n_features for one in both)
    if spec.network in OWN:
        own = OWN[spec.network](spec.image_size, channels)
        return own, own.n_features
    backbone: Any = of_timm(spec, channels)
    return backbone, backbone.num_features


def of_timm(spec: EncoderSpec, channels: int = 3, n_classes: int = 0, weights: Path | bool = False) -> nn.Module:
    """The network as timm makes it, without a classifier unless asked; `weights`: untrained, those of a local file, or (True) those that
    timm finds, on the hub if it must. Raises InputError for a name or a size that timm refuses."""
    import timm

    name = published.timm_name(spec.network)
    if not timm.is_model(name):
        raise InputError(
            f"no encoder is called {spec.name!r}; there are {', '.join((*published.PUBLISHED, *OWN))}, pixels, and the models of timm "
            f"(timm.list_models()), each also with {SOBEL} behind its name"
        )
    config = timm.get_pretrained_cfg(name)
    more: dict[str, Any] = {"img_size": spec.image_size} if config is not None and config.fixed_input_size else {}
    more |= {"in_chans": channels} if channels != 3 else {}
    more |= {"pretrained_cfg_overlay": {"file": str(weights)}} if isinstance(weights, Path) else {}
    try:
        return timm.create_model(name, pretrained=bool(weights), num_classes=n_classes, **more)
    except AssertionError as error:  # a size that is no multiple of a transformer's patches
        raise InputError(f"encoder {spec.name!r} at image_size={spec.image_size}: {error}") from error


def published_colours(network: nn.Module) -> tuple[Tensor, Tensor]:
    """Mean (3,) and deviation (3,) of the colours that timm's weights were trained with, in [0, 1]."""
    import timm

    config = timm.data.resolve_model_data_config(network)
    return torch.tensor(config["mean"]), torch.tensor(config["std"])


def hub_of(name: str) -> str | None:
    """The hub's repository of a model's weights; None where timm knows none."""
    import timm

    config = timm.get_pretrained_cfg(published.timm_name(name)) if timm.is_model(published.timm_name(name)) else None
    return config.hf_hub_id if config is not None else None
