"""SimCLR (Chen et al. 2020): two augmented views of an image attract each other, all other images repel.

Differences from SCAN's use of it: both views are anchors, AdamW with a one-cycle schedule (fewer epochs reach the same loss
than SGD with cosine), temperature 0.2, projector of the feature's width. Shapes: B batch, V = 2 views, D projection.
"""

import torch
from torch import nn
from torch.optim import AdamW

from coterie import augment
from coterie.errors import InputError
from coterie.heads import Projector
from coterie.images import Images
from coterie.losses import nt_xent
from coterie.methods.pretext import PretextConfig
from coterie.run import Run
from coterie.run.devices import unwrap
from coterie.schedule import one_cycle, set_rate


def train(encoder: nn.Module, images: Images, config: PretextConfig, run: Run) -> None:
    """Trains `encoder` in place."""
    if len(images) < 2:
        raise InputError(f"SimCLR needs at least 2 images, there is {len(images)}")
    batch_size = min(config.pretext_batch, len(images) // run.world)
    projector = run.new("projector", Projector, unwrap(encoder).n_features, config.projection)
    weights = [*encoder.parameters(), *projector.parameters()]
    optimizer = AdamW(weights, weight_decay=config.pretext_decay)
    view = augment.pretext(config.augment)
    steps = len(images) // run.world // batch_size or 1

    state = {"encoder": encoder, "projector": projector, "optimizer": optimizer}
    for epoch in run.epochs("pretext", config.pretext_epochs, share=0.7, **state):
        encoder.train()
        rng, total = run.rng("pretext", epoch, run.rank), torch.zeros((), device=run.devices.device)
        order = run.rng("pretext-order", epoch)
        for step, batch in enumerate(run.batches(images, batch_size, order, drop_last=True)):
            set_rate(optimizer, one_cycle(run.done(epoch + step / steps, config.pretext_epochs), config.pretext_rate))
            views = torch.cat([view(batch.pixels_B3HW, rng), view(batch.pixels_B3HW, rng)])
            with run.autocast():
                z = projector(encoder(views))
            loss = nt_xent(torch.stack(z.chunk(2), 1), config.pretext_temperature, symmetric=True)
            run.step(loss, optimizer)
            total += loss.detach()
        run.log(loss=total / (step + 1))
