"""Updates of weights, and how many of an epoch were not what the loss asked for: shortened, or left out."""

from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

MAX_BAD_STEPS = 10  # updates with a loss that is not finite, skipped before the run gives up


class Updates:
    """The updates of an epoch. `clip`: the longest gradient (norm over all weights that are updated), longer ones are shortened to it; 0:
    as long as they come."""

    def __init__(self, clip: float):
        self.clip = clip
        self.begin()

    def begin(self) -> None:
        """An epoch begins."""
        self.taken = self.clipped = self.bad = 0

    @property
    def clipped_share(self) -> float:
        """Of the updates of this epoch, those that were shortened."""
        return self.clipped / max(1, self.taken)

    def take(self, loss: Tensor, optimizers: tuple[Optimizer, ...]) -> None:
        """Backward, clipping, optimizers. An update whose loss or gradient is not finite is skipped and counted; too many of an epoch raise
        FloatingPointError."""
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        weights = [w for optimizer in optimizers for group in optimizer.param_groups for w in group["params"]]
        norm = float(clip_grad_norm_(weights, self.clip or float("inf")))
        if abs(norm) < float("inf"):
            for optimizer in optimizers:
                optimizer.step()
            self.taken += 1
            self.clipped += 0 < self.clip < norm
            return
        self.bad += 1
        if self.bad > MAX_BAD_STEPS:
            raise FloatingPointError(f"the loss was not finite in {self.bad} updates of one epoch; a lower learning rate may help")
