"""An encoder and its features. The only file that knows timm.

Names: "small" and "small-32" (ResNet-9 of width 16 and 32), "resnet18-cifar", "resnet34-cifar", "resnet18-stl", "resnet34-stl",
"wrn-28-2", "wrn-28-8", "wrn-37-2" (FixMatch's wide residual networks: CIFAR-10, CIFAR-100, and STL-10 at 96 px),
"alexnet", "vgg16" (DeepCluster's networks, made for 224 px), "pixels" (no network: the pixels themselves), "precomputed" (no network
and no images: features as given), or any timm model. "-sobel" behind any of them but the last two puts DeepCluster's Sobel filters in
front of the network: "alexnet-sobel", "small-sobel".

Shapes: N images, B batch, D feature.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from coterie.errors import InputError
from coterie.images import Images
from coterie.networks.backbones.alexnet import Classic, alexnet, vgg16
from coterie.networks.backbones.cifar_resnet import CifarResNet
from coterie.networks.backbones.resnet9 import ResNet9, stem_stride
from coterie.networks.backbones.sobel import CHANNELS, Sobel
from coterie.networks.backbones.wide_resnet import WideResNet
from coterie.networks.heads import UnitLinear
from coterie.run import checkpoint

if TYPE_CHECKING:
    from coterie.run import Run

PRECOMPUTED = "precomputed"
SOBEL = "-sobel"
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
        self.register_buffer("mean", torch.full((3,), 0.5))
        self.register_buffer("deviation", torch.full((3,), 0.25))

    def standardise(self, mean_3: Tensor, deviation_3: Tensor) -> None:
        """Takes mean and deviation of each colour channel, in [0, 1]."""
        self.mean.copy_(mean_3)
        self.deviation.copy_(deviation_3)

    def forward(self, pixels_B3HW: Tensor) -> Tensor:
        return self.projection(self.backbone(pixels_B3HW if self.spec.name == PRECOMPUTED else self.standardised(pixels_B3HW)))

    def standardised(self, pixels_B3HW: Tensor) -> Tensor:
        """What the backbone gets."""
        x = (pixels_B3HW - self.mean.view(1, 3, 1, 1)) / self.deviation.view(1, 3, 1, 1)
        return self.front(x).contiguous(memory_format=torch.channels_last)

    def maps(self, pixels_B3HW: Tensor) -> Tensor | None:
        """The last convolutional maps (B, D, h, w); None where there are none (transformers, pixels, precomputed features)."""
        found = getattr(self.backbone, "maps", None) or getattr(self.backbone, "forward_features", None)
        maps = None if found is None else found(self.standardised(pixels_B3HW))
        if not (isinstance(maps, Tensor) and maps.ndim == 4):
            return None
        return self.projection.places(maps) if isinstance(self.projection, UnitLinear) else maps


class Flat(nn.Module):
    """No network: an image's own pixels in a row, or features as they were given."""

    def forward(self, x: Tensor) -> Tensor:
        return x.contiguous().flatten(1)


def build(spec: EncoderSpec) -> Encoder:
    """An encoder with untrained weights. Raises InputError for a name neither Coterie nor timm knows."""
    return Encoder(spec)


def load_weights(encoder: Encoder, file: Path) -> None:
    """Loads a local safetensors file into the backbone: a state_dict of it or of a whole encoder, or a run (its folder, or the
    model.safetensors in it), then with the run's colour statistics; for timm models those they were trained with. InputError says what
    does not fit."""
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    file = file / "model.safetensors" if file.is_dir() else file
    try:
        with safe_open(file, "pt") as opened:
            of_a_run = "tree" in (opened.metadata() or {})
        state = checkpoint.load(file)["encoder_state"] if of_a_run else load_file(file)
    except InputError:
        raise
    except (OSError, SafetensorError) as error:
        raise InputError(f"--weights {file}: not a readable safetensors file ({error})") from error
    except (RecursionError, LookupError, ValueError, TypeError, AttributeError) as error:  # a stranger's, with a right checksum
        raise InputError(f"--weights {file}: not a model that a fit wrote ({type(error).__name__})") from error
    if not isinstance(state, dict) or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()):
        raise InputError(f"--weights {file}: not a model that a fit wrote, its encoder is not a list of tensors")
    if of_a_run:
        colours = [state.get(name, torch.empty(0)) for name in ("mean", "deviation")]
        if any(colour.shape != (3,) for colour in colours):
            raise InputError(f"--weights {file}: not a model that a fit wrote, it lacks the mean and deviation of three colours")
        encoder.standardise(*colours)
    state = {key.removeprefix("encoder.").removeprefix("backbone."): value for key, value in state.items()}
    wanted = encoder.backbone.state_dict()
    missing = sorted(key for key in wanted if key not in state or state[key].shape != wanted[key].shape)
    if missing:
        raise InputError(
            f"--weights {file}: {len(missing)} of {len(wanted)} tensors of {encoder.spec.name} are not in it (first: {missing[0]})"
        )
    encoder.backbone.load_state_dict({key: state[key] for key in wanted})
    if encoder.spec.network not in OWN and not of_a_run:
        _take_published_colours(encoder)


def load_pretrained(encoder: Encoder) -> None:
    """Loads the weights timm publishes for this model, from its cache or the hub; sets the colour statistics they were trained with."""

    name = encoder.spec.name
    if encoder.spec.network in OWN:
        raise InputError(
            f"encoder {name!r} has no published weights; give a local file with --weights, or name a timm model with --encoder"
        )
    if name.endswith(SOBEL):
        raise InputError(f"encoder {name!r} sees edges, and published weights were trained on colours; leave {SOBEL} out, or train it")
    try:
        source = _timm(encoder.spec, 3, pretrained=True)
    except Exception as error:  # whatever way the hub fails, the person offline needs the same advice
        raise InputError(
            f"the weights of {name!r} could not be loaded ({type(error).__name__}); with no network, download its model.safetensors from "
            f"huggingface.co/timm on another machine and pass it with --weights FILE"
        ) from error
    encoder.backbone.load_state_dict(source.state_dict())
    _take_published_colours(encoder)


def _take_published_colours(encoder: Encoder) -> None:
    """Trained weights want the colours they were trained with: the mean and deviation that timm publishes for the model."""
    import timm

    config = timm.data.resolve_model_data_config(encoder.backbone)
    encoder.standardise(torch.tensor(config["mean"]), torch.tensor(config["std"]))


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
        for pixels_B3HW in _share(images, run, batch_size):
            with run.autocast():
                z_BD = encoder(view(pixels_B3HW) if view else pixels_B3HW).float()
            if not filled:  # once, so that the features lie in memory once; outside inference mode, whose tensors autograd would refuse
                with torch.inference_mode(False):
                    mine = torch.empty(-(-len(images) // run.world), z_BD.shape[1], device=z_BD.device)
            mine[filled : filled + len(z_BD)] = z_BD
            filled += len(z_BD)
    encoder.train(was_training)
    return mine if run.world == 1 else run.gather(mine)[: len(images)]


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
    if spec.network in OWN:
        own = OWN[spec.network](spec.image_size, channels)
        return own, own.n_features
    backbone: Any = _timm(spec, channels, pretrained=False)
    return backbone, backbone.num_features


def _timm(spec: EncoderSpec, channels: int, pretrained: bool) -> nn.Module:
    import timm

    if not timm.is_model(spec.network):
        raise InputError(
            f"no encoder is called {spec.name!r}; there are {', '.join(OWN)}, pixels, and the models of timm (timm.list_models()), "
            f"each also with {SOBEL} behind its name"
        )
    config = timm.get_pretrained_cfg(spec.network)
    more: dict[str, Any] = {"img_size": spec.image_size} if config is not None and config.fixed_input_size else {}
    more |= {"in_chans": channels} if channels != 3 else {}
    return timm.create_model(spec.network, pretrained=pretrained, num_classes=0, **more)
