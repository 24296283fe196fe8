"""What the blocks of an encoder see: conv1 .. conv5 of AlexNet, the stages of a residual network, the stages or blocks of a timm model.

Nothing of a network is built anew: its own modules are listened to, with the weights that they have.
Shapes: N images, B batch, C channels, T tokens, D numbers of a block.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coterie.images import Images
from coterie.networks.backbones.alexnet import Classic
from coterie.networks.backbones.cifar_resnet import CifarResNet
from coterie.networks.backbones.resnet9 import ResNet9
from coterie.networks.backbones.wide_resnet import WideResNet
from coterie.networks.encoder import Encoder, as_quick

if TYPE_CHECKING:
    from coterie.run import Run

WIDEST = 9600  # numbers of a block: the widest that is judged of AlexNet (its conv1, conv3 and conv4: 10 x 10 x 96 and 5 x 5 x 384)
BATCH = 256
LAST = "features"  # the block behind all others: what the encoder gives


class Block(NamedTuple):
    """A module, and whether what it gets is meant, or what it gives."""

    module: nn.Module
    before: bool = False


class _Enough(Exception):
    """The rest of the network need not be computed."""


def blocks(encoder: Encoder) -> dict[str, Block]:
    """The blocks of an encoder by name, in their order; "features", what the encoder gives, is the last, and of some the only one."""
    backbone: Any = encoder.backbone
    found: dict[str, Block] = {}
    if isinstance(backbone, Classic):
        found = {f"conv{i}": Block(relu) for i, relu in enumerate((m for m in backbone.convolutions if isinstance(m, nn.ReLU)), 1)}
    elif isinstance(backbone, ResNet9):
        found = {"stem": Block(backbone.stem), "first": Block(backbone.middle, before=True), "middle": Block(backbone.middle)}
    elif isinstance(backbone, CifarResNet | WideResNet):
        found = {"stem": Block(backbone.stem)} | {f"stage{i}": Block(end) for i, end in enumerate(_ends(backbone.blocks), 1)}
    elif told := getattr(backbone, "feature_info", None):  # timm's own list of what `features_only` gives
        names = [one["module"] for one in (told if isinstance(told, list) else told.info) if one.get("module")]
        found = {name: Block(backbone.get_submodule(name)) for name in names}
    return found | {LAST: Block(encoder)}


def _ends(row: nn.Sequential) -> list[nn.Module]:
    """The last residual block of each width."""
    widths = [[part.out_channels for part in block.body if isinstance(part, nn.Conv2d)][-1] for block in row]  # type: ignore[union-attr]
    return [block for block, here, after in zip(row, widths, [*widths[1:], 0]) if here != after]


def pooled(maps: Tensor, channels_last: bool = False, prefix: int = 0) -> Tensor:
    """(B, D) float32 of what a block gives. Maps (B, C, h, w) are averaged to the largest square of at most 9,600 numbers, for AlexNet the
    sizes that DeepCluster is judged at: 10, 6, 5, 5, 6 to a side. Of tokens (B, T, C) the first `prefix`, and the mean of the others."""
    if maps.ndim == 4:
        maps = maps.permute(0, 3, 1, 2) if channels_last else maps
        side = max(1, math.isqrt(WIDEST // maps.shape[1]))
        return F.adaptive_avg_pool2d(maps.float(), (min(side, maps.shape[2]), min(side, maps.shape[3]))).flatten(1)
    if maps.ndim == 3:
        return torch.cat([maps[:, :prefix].float(), maps[:, prefix:].float().mean(1, keepdim=True)], 1).flatten(1)
    return maps.float().flatten(1)


def block_features(
    encoder: Encoder, name: str, images: Images, run: "Run", view: Callable[[Tensor], Tensor] | None = None, stage: str = ""
) -> Tensor:
    """What block `name` gives, pooled: float32 (N, D) on the CPU; row i = image i. The network is in eval mode, and computed no further
    than that block. view: of pixels (B, 3, H, W), what is seen of them; stage: the progress is shown under this name."""
    found: list[Tensor] = []
    form = {"channels_last": getattr(encoder.backbone, "output_fmt", "") == "NHWC"}
    form |= {"prefix": getattr(encoder.backbone, "num_prefix_tokens", 0) or 0}

    def listen(module: nn.Module, given: Any, gives: Any = None) -> None:
        found.append(pooled(given[0] if block.before else gives, **({} if last else form)))
        raise _Enough

    was_training = encoder.training
    encoder.eval()
    with torch.inference_mode():
        seen, batch_size = as_quick(encoder, images, BATCH)
    block = blocks(seen)[name]  # type: ignore[arg-type]
    last = block.module is seen
    handle = block.module.register_forward_pre_hook(listen) if block.before else block.module.register_forward_hook(listen)
    rows_ND, filled = torch.empty(0), 0
    try:
        with torch.inference_mode():
            for batch in run.place(images).batches(batch_size):
                pixels_B3HW = batch.pixels_B3HW.to(encoder.mean.device)
                try:
                    with run.autocast():
                        seen(view(pixels_B3HW) if view else pixels_B3HW)
                except _Enough:
                    pass
                z_BD = found.pop()
                if not filled:
                    with torch.inference_mode(False):
                        rows_ND = torch.empty(len(images), z_BD.shape[1])
                rows_ND[filled : filled + len(z_BD)] = z_BD.cpu()
                filled += len(z_BD)
                if stage:
                    run.progress.advance(stage, filled, len(images))
    finally:
        handle.remove()
        encoder.train(was_training)
    return rows_ND
