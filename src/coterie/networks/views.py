"""Features of two views of each image, one that gives it its label and one that learns it, while heads are trained on an encoder.

Shapes: N images, B batch, D feature, H heads, M rows of the batch.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from coterie.augment import Augment
from coterie.images import Images
from coterie.networks.encoder import features

if TYPE_CHECKING:
    from coterie.run import Run

CHUNK = 512  # views that pass the encoder at once

Learned = Callable[[Tensor], Tensor]  # numbers of rows of a batch, (H, M) -> features of their second views, (H, M, D)


class Seen:
    """`looks`: the two augmentations. Both ways of going through `batches` (ids) give, for each, the first views' features (B, D) float32,
    from the encoder in eval mode, and `Learned`."""

    def __init__(self, encoder: nn.Module, images: Images, looks: tuple[Augment, Augment], run: "Run", draws: int):
        self.encoder, self.images, self.looks, self.run, self.draws = encoder, images, looks, run, draws
        self._drawn: list[tuple[Tensor, Tensor]] = []

    def frozen(self, batches: tuple[Tensor, ...], epoch: int) -> Iterator[tuple[Tensor, Learned]]:
        """Of an encoder that does not change and so sees each view once: `draws` pairs of views of every image take turns from epoch to
        epoch, and stay in memory (2 * draws * N * D * 4 bytes), and on disk until the fit ends."""
        if not self._drawn:
            self._drawn = [(self._all(draw, 0), self._all(draw, 1)) for draw in range(self.draws)]
        first_ND, second_ND = self._drawn[epoch % self.draws]
        for index_B in batches:
            index_B = index_B.to(first_ND.device)
            yield first_ND[index_B], second_ND[index_B].__getitem__

    def anew(self, batches: tuple[Tensor, ...], epoch: int) -> Iterator[tuple[Tensor, Learned]]:
        """Of an encoder that learns with the heads: fresh views, the second ones in train mode when they are asked for."""
        rng = self.run.rng("views", epoch, self.run.rank)
        for batch in self.run.batches(self.images, len(batches[0]), ids=torch.cat(batches)):
            first_B3HW, second_B3HW = (look(batch.pixels_B3HW, rng) for look in self.looks)

            def learned(rows_HM: Tensor, view_B3HW: Tensor = second_B3HW) -> Tensor:
                once_M, place_HM = rows_HM.unique(return_inverse=True)  # what several heads chose passes the encoder once
                with self.run.autocast():
                    return self.encoder.train()(view_B3HW[once_M]).float()[place_HM]

            self.encoder.eval()
            with torch.no_grad(), self.run.autocast():
                first_BD = torch.cat([self.encoder(some) for some in first_B3HW.split(CHUNK)]).float()
            yield first_BD, learned

    def _all(self, draw: int, which: int) -> Tensor:
        look, rng = self.looks[which], self.run.rng("views", draw, which, self.run.rank)
        seen = partial(features, view=lambda pixels_B3HW: look(pixels_B3HW, rng))
        every: Tensor = self.run.once(f"features-view-{draw}-{which}", seen, self.encoder, self.images, self.run)
        return every
