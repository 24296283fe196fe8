"""Instance discrimination (Wu et al. 2018): each image is a class of its own, and a memory bank of one feature an image is the classifier.

IR in PCP's tables. Over all images, or noise-contrastive against `negatives` of them. The bank starts from the encoder's own features,
where the published code has random ones. With `decorrelation`, the columns of the features are told apart as well (IDFD, Tao et al. 2021).
Shapes: N images, B batch, D projection, M negatives.
"""

import torch
from torch import Generator, Tensor, nn

from coterie import augment
from coterie.images import Batch, Images
from coterie.learning.instance_losses import bank_cross_entropy, decorrelation, noise_contrastive, softmax_normaliser
from coterie.methods.pretext import PretextConfig
from coterie.methods.pretext.loop import descend
from coterie.networks.bank import MemoryBank
from coterie.networks.encoder import features
from coterie.networks.heads import UnitLinear
from coterie.run import Run
from coterie.run.devices import unwrap


def train(encoder: nn.Module, images: Images, config: PretextConfig, run: Run) -> None:
    """Trains `encoder` in place."""
    projector = projector_of(encoder, config, run)
    network = nn.Sequential(encoder, projector)
    bank = bank_of(network, images, run)
    normaliser = torch.zeros((), device=bank.all_ND.device)  # of the noise-contrastive loss; from the first batch on, as in the paper
    view, temperature = augment.pretext(config.augment, config.view_size), config.pretext_temperature

    def loss(batch: Batch, rng: Generator) -> Tensor:
        with run.autocast():
            z_BD = network(view(batch.pixels_B3HW, rng))
        remember(bank, batch, z_BD, config, run)
        apart = config.decorrelation * decorrelation(z_BD) if config.decorrelation else 0.0
        return apart + told(batch, z_BD, rng)

    def told(batch: Batch, z_BD: Tensor, rng: Generator) -> Tensor:
        """Each image from all others, or from some."""
        if not config.negatives:
            return bank_cross_entropy(z_BD, batch.index_B, bank.all_ND, temperature)
        noise_BM = torch.randint(len(images), (len(z_BD), config.negatives), generator=rng)
        if not normaliser:
            normaliser.copy_(run.broadcast(softmax_normaliser(z_BD, batch.index_B, bank.all_ND, noise_BM, temperature)))
        return noise_contrastive(z_BD, batch.index_B, bank.all_ND, noise_BM, temperature, normaliser)

    kept = {"bank": bank, "normaliser": normaliser}
    descend(loss, images, config, run, {"encoder": encoder, "projector": projector}, kept, after=bank.accept)


def projector_of(encoder: nn.Module, config: PretextConfig, run: Run, name: str = "projector") -> nn.Module:
    """A linear layer to unit rows, in which images are compared."""
    plain = unwrap(encoder)
    return run.new(name, UnitLinear, plain.n_features, config.projection, plain.ends_before_relu)


def bank_of(network: nn.Module, images: Images, run: Run) -> MemoryBank:
    """A bank of the clean images' features as they are now."""
    return MemoryBank(run.once("bank", features, network, images, run))


def remember(bank: MemoryBank, batch: Batch, z_BD: Tensor, config: PretextConfig, run: Run) -> None:
    """The features of a batch, and those of the other ranks', are to go into the bank after the update."""
    bank.propose(run.gather(batch.index_B.to(z_BD.device)), run.gather(z_BD.detach()), config.bank_momentum)
