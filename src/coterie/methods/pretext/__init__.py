"""The label-free task that trains the encoder first; any of them serves any system (`--set pretext=...`)."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from coterie.errors import InputError
from coterie.images import Images
from coterie.learning.schedule import Schedule
from coterie.methods.bounds import Amount, BelowOne, Count, Dimensions, Pixels, PixelsOrSame, Positive, Whole
from coterie.networks import kept
from coterie.networks.encoder import OWN, PRECOMPUTED, Encoder, EncoderSpec, build, colour_statistics, features
from coterie.networks.weights import load_pretrained, load_weights
from coterie.run import Run

# each but the last a file here
Pretext = Literal["simclr", "moco", "byol", "swav", "rotation", "instance", "spreading", "anchors", "autoencoder", "frozen"]
Views = Literal["photos", "moco", "glyphs", "garments"]


@dataclass(frozen=True)
class PretextConfig:
    """Settings every system shares: the encoder, and the task that trains it."""

    n_clusters: Count = 10
    image_size: Pixels = 32  # px, the working size of the decoded store
    max_pixels: Count = 100_000_000  # a picture with more is set aside as a problem
    white: Amount = 0.0  # value of white in pictures of more than 8 bits (12-bit values in 16 bits, floats); 0: found from the set
    encoder: str = "small"  # small, resnet18-cifar, ..., lite0, dinov2-small, ... (`coterie encoders`), any timm name, or auto
    weights: str = ""  # a local safetensors file to start from, or the folder of a run
    pretrained: bool = False  # start from published weights: of a package, of the hub's cache here, or, named in this command, of the hub
    trains: Literal["all", "last"] = "all"  # of the encoder; last: its last block alone, which given weights can bear and two cores too
    augment: Views = "photos"  # what may change without changing the kind; moco: photos, with blur
    view_size: PixelsOrSame = 0  # px of the pretext's views, 0: image_size; crops enlarge: 3/4 shows things as large as they are later
    pretext: Pretext = "simclr"  # what trains the encoder first; frozen: the given weights as they are
    pretext_epochs: Whole = 60  # 0: the weights as they start
    pretext_batch: Count = 256  # images; each gives two views
    pretext_optimizer: Literal["adamw", "muon", "sgd"] = "adamw"  # muon: learning/muon.py; sgd: momentum 0.9, as the papers
    pretext_rate: Positive = 4e-3  # peak of the schedule
    pretext_schedule: Schedule = "one-cycle"  # a tenth of warm-up, then a cosine; or cosine, constant, steps (a tenth from 0.6 and 0.8 on)
    pretext_decay: Amount = 0.01  # weight decay
    pretext_temperature: Positive = 0.2
    pretext_anchors: Literal["both", "first"] = "both"  # of SimCLR: the views that look for the other one (SCAN's published code: first)
    queue: Count = 4096  # keys that MoCo remembers (65,536 in the paper, for ImageNet); never more than there are images
    momentum: BelowOne = 0.99  # of the slow copy of MoCo and BYOL, per update (0.999 and 0.996 in the papers, for 100 times the updates)
    projection: Dimensions = 128  # dimensions of the contrastive space (SimCLR sec. 4.2)
    bank_momentum: BelowOne = 0.5  # of a feature in the memory bank of instance, anchors and PCP (Wu et al. 2018)
    negatives: Whole = 0  # of instance: images drawn for noise-contrastive estimation (the published code: 4,096); 0: the softmax over all
    decorrelation: Amount = 0.0  # of instance: weight of the loss that tells the columns of the features apart (IDFD: 1)
    anchor_rounds: Count = 5  # of anchors, within pretext_epochs: the first without any (AND: 1 + 4)
    anchor_neighbors: Count = 1  # of anchors: neighbours of each (AND's best; its table has 1, 5, 10, 20)
    prototypes: Count = 100  # of swav (3,000 in the paper, for ImageNet)
    pretext_noise: BelowOne = 0.0  # of autoencoder: share of the pixels that are hidden, and drawn all the same (denoising: 0.25 to 0.5)
    unsure: BelowOne = 0.0  # share of the images, the least certain, that are left out of the clusters (-1)
    duplicates: Literal["all", "once"] = "all"  # once: of near-duplicates one is learned from, and the others go where it goes
    clip: Amount = 10.0  # longest gradient of an update, of any stage; a longer one is shortened to it, and counted. 0: none is


def train(images: Images, config: PretextConfig, run: Run) -> nn.Module:
    """The encoder after its pretext task; with `frozen`, as its weights came."""
    if config.encoder == PRECOMPUTED and config.pretext != "frozen":
        raise InputError(
            f"encoder=precomputed gives features, and pretext={config.pretext} would have to train an encoder; use pretext=frozen"
        )
    if config.pretext == "frozen" and not (config.weights or config.pretrained or config.encoder in ("pixels", PRECOMPUTED)):
        raise InputError("pretext=frozen needs trained weights: give --weights FILE, or --set pretrained=true with a timm --encoder")
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


def from_scratch(config: PretextConfig) -> bool:
    """Whether a pretext made the features out of these pictures alone, or of weights of one of our own networks, of which none are
    published; not frozen weights, not those of timm."""
    known = bool(config.weights) and EncoderSpec(config.encoder, config.image_size).network not in OWN
    return config.pretext != "frozen" and not config.pretrained and not known


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
