"""DEC: Deep Embedded Clustering (Xie, Girshick and Farhadi, ICML 2016), and IDEC, which keeps drawing (Guo et al., IJCAI 2017).

    1. draw        an autoencoder: few dimensions (10 in the paper) must be enough to draw the image again
    2. k-means     its centroids in these dimensions are where the clusters begin
    3. sharpen     q: how near an image is to each centroid, by Student's t. Its target p is q squared, less for clusters that many are in.
                   Encoder and centroids follow: KL(p || q); so what is sure becomes surer, and draws what is like it along
                   DEC lets go of the drawing; IDEC goes on with it, so that features keep telling what the image is

docs/methods/dec.md has every difference from the papers. Shapes: N images, B batch, D feature, d dimensions of the embedding, K clusters.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam

from coterie.clustering.kmeans import kmeans
from coterie.errors import InputError
from coterie.images import Images
from coterie.learning.diagnose import vital_signs
from coterie.methods import pretext
from coterie.methods.bounds import Amount, BelowOne, Count, Positive, Whole
from coterie.methods.final import Config as FinalConfig
from coterie.methods.final import Final, assign
from coterie.methods.fitted import Fitted
from coterie.methods.pretext.autoencoder import drawing
from coterie.methods.pretext.loop import descend
from coterie.networks.decoder import Decoder
from coterie.networks.encoder import PRECOMPUTED, features
from coterie.networks.heads import StudentHead, Students, embedded
from coterie.run import Run
from coterie.run.devices import unwrap


@dataclass(frozen=True)
class Config(FinalConfig):
    """Settings of DEC. Batch, optimiser, rate and decay of step 1 are the pretext's."""

    pretext_epochs: Whole = 0  # of a pretext task before; the papers have none
    epochs: Whole = 90  # of step 1 (the paper: 50,000 updates a layer, then 100,000)
    noise: BelowOne = 0.2  # share of the pixels that are hidden in step 1 (the paper: a dropout of 0.2 in each layer)
    sharpen_epochs: Whole = 30  # of step 3; the paper goes on until less than 0.1 % of the labels change
    sharpen_rate: Positive = 1e-3  # of Adam (IDEC; DEC: SGD, 0.01)
    clustering: Amount = 1.0  # weight of KL(p || q)
    drawing: Amount = 0.0  # weight of the drawing in step 3
    starts: Count = 20  # of k-means, of which the best is kept (the paper)
    final: Final = "heads"  # its own; or diffusion, k-means, on the features that they end with


@dataclass(frozen=True)
class KeptConfig(Config):
    """Settings of IDEC."""

    clustering: Amount = 0.1  # the paper's gamma
    drawing: Amount = 1.0


def fit(images: Images, config: Config, run: Run) -> Fitted:
    if config.encoder == PRECOMPUTED:
        raise InputError("encoder=precomputed gives features, and DEC is what trains an encoder; --method scan learns heads on features")
    encoder = pretext.train(images, config, run)
    n_features, width = unwrap(encoder).n_features, embedded(config.n_clusters)
    embed = run.new("embedding", nn.Linear, n_features, width)
    students = run.new("centroids", Students, width, config.n_clusters)
    decoder = run.new("decoder", Decoder, width, images.size[0])
    through = nn.Sequential(embed, decoder)
    if config.epochs:
        trained = {"encoder": encoder, "embedding": embed, "decoder": decoder}
        descend(drawing(encoder, through, config.noise, run), images, config, run, trained, stage="drawing", epochs=config.epochs)
    z_ND = run.once("features-drawn", features, encoder, images, run)
    with torch.no_grad():
        unwrap(students).load_state_dict({"centroids": run.once("k-means", _centroids, embed(z_ND), config.n_clusters, config.starts, run)})
    if config.sharpen_epochs:
        sharpen(encoder, through, students, images, config, run)
    if config.final != "heads":
        return assign(encoder, images, config, run)
    head = StudentHead(z_ND.shape[1], config.n_clusters).to(z_ND.device)
    head.embed.load_state_dict(unwrap(embed).state_dict())
    head.students.load_state_dict(unwrap(students).state_dict())
    return Fitted.from_parts(encoder, head, run.once("features", features, encoder, images, run))


def sharpen(encoder: nn.Module, through: nn.Sequential, students: nn.Module, images: Images, config: Config, run: Run) -> None:
    """Step 3: trains all in place; the target is made anew for each epoch. `through`: embedding, and decoder."""
    embed, trained = through[0], nn.ModuleList([encoder, through, students])
    optimizer = Adam(trained.parameters(), config.sharpen_rate)
    size = run.devices.share(config.pretext_batch, len(images))
    for epoch in run.epochs("sharpening", config.sharpen_epochs, share=0.3, trained=trained, optimizer=optimizer):
        z_ND = features(encoder, images, run)
        with torch.no_grad():
            q_NK = students(embed(z_ND))[0].softmax(1)
        p_NK, total, count = target(q_NK), torch.zeros((), device=q_NK.device), 0
        trained.train()
        for batch in run.batches(images, size, run.rng("sharpening-order", epoch), drop_last=True):
            with run.autocast():
                z_BD = encoder(batch.pixels_B3HW)
            p_BK = p_NK[batch.index_B.to(p_NK.device)]
            loss = config.clustering * divergence(p_BK, students(embed(z_BD.float()))[0])
            if config.drawing:
                with run.autocast():
                    drawn_B3SS = through(z_BD)
                loss = loss + config.drawing * F.mse_loss(drawn_B3SS.float(), batch.pixels_B3HW)
            run.step(loss, optimizer)
            total, count = total + loss.detach(), count + 1
        run.trace(q_NK.argmax(1)[None].cpu())
        run.log(loss=total / count, **vital_signs(q_NK))


def divergence(p_BK: Tensor, logits_BK: Tensor) -> Tensor:
    """KL(p || q) of the images of a batch, their mean; q: the softmax of the logits."""
    return F.kl_div(logits_BK.log_softmax(1), p_BK, reduction="batchmean")


def target(q_NK: Tensor) -> Tensor:
    """p of the paper's eq. 3: q^2 over the cluster's sum of q, each image's to one. (N, K)."""
    weight_NK = q_NK.square() / q_NK.sum(0).clamp(min=1e-12)
    return weight_NK / weight_NK.sum(1, keepdim=True)


def _centroids(z_Nd: Tensor, k: int, starts: int, run: Run) -> Tensor:
    return kmeans(z_Nd, k, run.rng("k-means"), 100, "k-means++", run=run, restarts=starts).centroids_KD


class DEC:
    """Deep embedded clustering."""

    Config, fit = Config, staticmethod(fit)


class IDEC:
    """Improved deep embedded clustering."""

    Config, fit = KeptConfig, staticmethod(fit)
