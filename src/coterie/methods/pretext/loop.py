"""The epochs every pretext task shares; a task says what is trained and what its loss is."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from coterie.images import Batch, Images
from coterie.learning.muon import Muon
from coterie.learning.schedule import SCHEDULES, set_rate
from coterie.methods.pretext import PretextConfig
from coterie.run import Run

SHARE = 0.7  # of a time budget
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"adamw": AdamW, "sgd": partial(SGD, momentum=0.9), "muon": Muon}


def descend(
    loss_of: Callable[[Batch, Generator], Tensor],
    images: Images,
    config: PretextConfig,
    run: Run,
    trained: dict[str, nn.Module],
    kept: dict[str, Any] | None = None,
    stage: str = "pretext",
    epochs: int | None = None,
    share: float = SHARE,
    after: Callable[[], None] | None = None,
) -> None:
    """Trains the modules `trained` in place on `loss_of(batch, generator)`, whole batches only.

    `kept` is further state (a queue, a teacher) to save and restore; `loss_of` keeps it up to date itself, or `after`, called when an
    update was made and its gradient needs nothing any more. `stage`, its `epochs` (None: all of the config's), its share of a time budget:
    for a task that has several.
    """
    total_epochs = config.pretext_epochs if epochs is None else epochs
    batch_size = run.devices.share(config.pretext_batch, len(images))
    steps = len(images) // run.world // batch_size
    weights = [weight for module in trained.values() for weight in module.parameters()]
    optimizer = OPTIMIZERS[config.pretext_optimizer](weights, weight_decay=config.pretext_decay)
    rate_at = SCHEDULES[config.pretext_schedule]
    state: dict[str, Any] = {**trained, **(kept or {}), "optimizer": optimizer}
    for epoch in run.epochs(stage, total_epochs, share, **state):
        for module in trained.values():
            module.train()
        rng, total = run.rng(stage, epoch, run.rank), torch.zeros((), device=run.devices.device)
        order = run.rng(f"{stage}-order", epoch)
        for step, batch in enumerate(run.batches(images, batch_size, order, drop_last=True)):
            set_rate(optimizer, rate_at(run.done(epoch + step / steps, total_epochs), config.pretext_rate))
            loss = loss_of(batch, rng)
            run.step(loss, optimizer)
            if after:
                after()
            total += loss.detach()
        run.log(loss=total / (step + 1))
