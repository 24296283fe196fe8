"""Features remembered from earlier batches: by image id (MemoryBank), or the latest ones (Queue).

Shapes: N images, B batch, D feature, M queue.
"""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn


class MemoryBank(nn.Module):
    """One unit feature per image, (N, D) float32, read and written by id."""

    all_ND: Tensor

    def __init__(self, features_ND: Tensor):
        super().__init__()
        self.register_buffer("all_ND", F.normalize(features_ND.float(), dim=1))
        self._proposed: tuple[Tensor, Tensor, float] | None = None

    def read(self, index_B: Tensor) -> Tensor:
        return self.all_ND[index_B.to(self.all_ND.device)]

    @torch.no_grad()
    def write(self, index_B: Tensor, z_BD: Tensor, momentum: float = 0.0) -> None:
        """momentum * old + (1 - momentum) * new, brought back to unit length; `index_B` holds different ids."""
        index_B = index_B.to(self.all_ND.device)
        self.all_ND[index_B] = F.normalize(torch.lerp(z_BD.float(), self.all_ND[index_B], momentum), dim=1)

    def propose(self, index_B: Tensor, z_BD: Tensor, momentum: float = 0.0) -> None:
        """What `accept` writes: not before the gradient, which stands on the rows as they are, is taken."""
        self._proposed = index_B, z_BD.detach(), momentum

    def accept(self) -> None:
        """Writes what was proposed last, once."""
        if self._proposed:
            self.write(*self._proposed)
        self._proposed = None


class Queue(nn.Module):
    """The latest M unit features, (M, D) float32, and whose they are, (M,) int64; at the start random directions of nobody, -1."""

    rows_MD: Tensor
    ids_M: Tensor
    next: Tensor

    def __init__(self, size: int, n_features: int, generator: Generator):
        super().__init__()
        self.register_buffer("rows_MD", F.normalize(torch.randn(size, n_features, generator=generator), dim=1))
        self.register_buffer("ids_M", torch.full((size,), -1))
        self.register_buffer("next", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, index_B: Tensor, z_BD: Tensor) -> None:
        """The batch takes the place of the oldest rows; of a batch longer than the queue its last M rows stay."""
        size = len(self.rows_MD)
        places = (self.next + torch.arange(len(z_BD), device=z_BD.device)) % size
        self.rows_MD[places[-size:]] = z_BD.float()[-size:]
        self.ids_M[places[-size:]] = index_B.to(self.ids_M)[-size:]
        self.next.copy_((self.next + len(z_BD)) % size)
