"""The label-free task that trains the encoder first; any of them serves any system (`--set pretext=...`)."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from torch import Tensor, nn

from coterie.errors import InputError
from coterie.images import Images
from coterie.networks import kept
from coterie.networks.encoder import PRECOMPUTED, Encoder, EncoderSpec, build, colour_statistics, features
from coterie.networks.weights import load_pretrained, load_weights
from coterie.run import Run

PRETEXTS = (
    "simclr",
    "moco",
    "byol",
    "rotation",
    "instance",
    "spreading",
    "anchors",
)  # each a file of this folder; and "frozen", which trains nothing


@dataclass(frozen=True)
class PretextConfig:
    """Settings every system shares: the encoder, and the task that trains it."""

    n_clusters: int = 10
    image_size: int = 32  # px, the working size of the decoded store
    max_pixels: int = 100_000_000  # a picture with more is set aside as a problem
    encoder: str = "small"  # small, resnet18-cifar, ..., lite0, dinov2-small, ... (`coterie encoders`), any timm name, or auto
    weights: str = ""  # a local safetensors file to start from, or the folder of a run
    pretrained: bool = False  # start from published weights: of a package, of the hub's cache here, or, named in this command, of the hub
    trains: str = "all"  # of the encoder; last: its last block alone, which given weights can bear and two cores too
    augment: str = "photos"  # photos, moco (with blur), glyphs or garments: what may change without changing the kind
    view_size: int = 0  # px of the pretext's views, 0: image_size; crops enlarge, so that 3/4 shows things as large as they are later
    pretext: str = "simclr"  # simclr, moco, byol, rotation, instance, spreading, anchors, or frozen: the given weights as they are
    pretext_epochs: int = 60
    pretext_batch: int = 256  # images; each gives two views
    pretext_optimizer: str = "adamw"  # or sgd: momentum 0.9, as the papers
    pretext_rate: float = 4e-3  # peak of the one-cycle schedule
    pretext_decay: float = 0.01  # weight decay
    pretext_temperature: float = 0.2
    queue: int = 4096  # keys that MoCo remembers (65,536 in the paper, for ImageNet); never more than there are images
    momentum: float = 0.99  # of the slow copy of MoCo and BYOL, per update (0.999 and 0.996 in the papers, for 100 times the updates)
    projection: int = 128  # dimensions of the contrastive space (SimCLR sec. 4.2)
    bank_momentum: float = 0.5  # of a feature in the memory bank of instance, anchors and PCP (Wu et al. 2018)
    negatives: int = 0  # of instance: images drawn for noise-contrastive estimation (4,096 in the published code); 0: the softmax over all
    anchor_rounds: int = 5  # of anchors, within pretext_epochs: the first without any (AND: 1 + 4)
    anchor_neighbors: int = 1  # of anchors: neighbours of each (AND's best; its table has 1, 5, 10, 20)


def train(images: Images, config: PretextConfig, run: Run) -> nn.Module:
    """The encoder after its pretext task; with `frozen`, as its weights came."""
    if config.pretext not in (*PRETEXTS, "frozen"):
        raise InputError(f"no pretext is called {config.pretext!r}; there are {', '.join(PRETEXTS)}, frozen")
    if config.encoder == PRECOMPUTED and config.pretext != "frozen":
        raise InputError(
            f"encoder=precomputed gives features, and pretext={config.pretext} would have to train an encoder; use pretext=frozen"
        )
    if config.pretext == "frozen" and not (config.weights or config.pretrained or config.encoder in ("pixels", PRECOMPUTED)):
        raise InputError("pretext=frozen needs trained weights: give --weights FILE, or --set pretrained=true with a timm --encoder")
    if config.trains not in ("all", "last"):
        raise InputError(f"trains={config.trains}: there are all, last")
    encoder = run.new("encoder", _start, images, config)
    if config.pretext != "frozen" and config.pretext_epochs:
        if len(images) < 2:
            raise InputError(f"{config.pretext} needs at least 2 images, there is {len(images)}")
        import_module(f"coterie.methods.pretext.{config.pretext}").train(encoder, images, config, run)
    return encoder


def features_of(encoder: nn.Module, images: Images, config: PretextConfig, run: Run) -> Tensor:
    """Features (N, D) of the pretext's encoder; of a frozen one from the cache, where another fit of these pictures left them."""
    if config.pretext != "frozen" or config.encoder in ("pixels", PRECOMPUTED):
        return run.once("features", features, encoder, images, run)
    return run.once("features", kept.features, encoder, images, run)


def _start(images: Images, config: PretextConfig) -> Encoder:
    encoder = build(EncoderSpec(config.encoder, config.image_size))
    if not (config.encoder == PRECOMPUTED or config.pretrained):  # published weights bring the colours they were trained with
        encoder.standardise(*colour_statistics(images))
    if config.pretrained:
        load_pretrained(encoder)
    if config.weights:
        load_weights(encoder, Path(config.weights))
    if config.trains == "last":
        encoder.hold()
    return encoder
