"""What each reference learns from a batch with labels and one without, in the words of its paper.

Shapes: B labelled images, U unlabelled ones, K classes. `Batch.predict` gives the logits of views, all in one forward pass. `ramp` rises
from 0 to 1 over the first 0.4 of the training, as Oliver et al. 2018 have it for the consistency losses.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from coterie.augment import Augment
from coterie.learning.losses import fixmatch

Predict = Callable[..., tuple[Tensor, ...]]


@dataclass
class Batch:
    """taught (B, 3, H, W), labels (B,), unlabelled (U, 3, H, W); `predict`: the student's logits, in train mode, of each of its arguments;
    `teacher`: its running average, in eval mode."""

    taught_B3HW: Tensor
    labels_B: Tensor
    unlabelled_U3HW: Tensor
    predict: Predict
    teacher: nn.Module
    weak: Augment
    strong: Augment
    ramp: float
    rng: Generator

    def views(self, *more: Tensor) -> tuple[Tensor, ...]:
        """Logits of a weak view of the labelled images, and of the views given."""
        return self.predict(self.weak(self.taught_B3HW, self.rng), *more)

    def weakly(self) -> Tensor:
        return self.weak(self.unlabelled_U3HW, self.rng)


def supervised(batch: Batch) -> Tensor:
    """The labels alone."""
    (taught_BK,) = batch.views()
    return F.cross_entropy(taught_BK, batch.labels_B)


def pseudo_label(batch: Batch, threshold: float = 0.95) -> Tensor:
    """Lee 2013: an image's most probable class is its label. Only where it is sure: Oliver et al. 2018."""
    taught_BK, one_UK = batch.views(batch.weakly())
    return F.cross_entropy(taught_BK, batch.labels_B) + batch.ramp * fixmatch(one_UK, one_UK, threshold)[0]


def pi_model(batch: Batch, weight: float = 20.0) -> Tensor:
    """Laine and Aila 2017: two views of an image have the same probabilities. Weight: Oliver et al. 2018."""
    taught_BK, one_UK, other_UK = batch.views(batch.weakly(), batch.weakly())
    return F.cross_entropy(taught_BK, batch.labels_B) + batch.ramp * weight * apart(one_UK, other_UK.detach().softmax(-1))


def mean_teacher(batch: Batch, weight: float = 8.0) -> Tensor:
    """Tarvainen and Valpola 2017: the student has the probabilities that its running average has of another view. Weight: as above."""
    taught_BK, one_UK = batch.views(batch.weakly())
    with torch.no_grad():
        target_UK = batch.teacher(batch.weakly()).softmax(-1)
    return F.cross_entropy(taught_BK, batch.labels_B) + batch.ramp * weight * apart(one_UK, target_UK)


def uda(batch: Batch, threshold: float = 0.8, temperature: float = 0.4) -> Tensor:
    """Xie et al. 2020: the strong view has the sharpened probabilities of the weak one, where that is sure. Numbers: the paper's."""
    taught_BK, weak_UK, strong_UK = batch.views(batch.weakly(), batch.strong(batch.unlabelled_U3HW, batch.rng))
    return F.cross_entropy(taught_BK, batch.labels_B) + fixmatch(weak_UK, strong_UK, threshold, temperature)[0]


def fix_match(batch: Batch) -> Tensor:
    """Sohn et al. 2020: the strong view has the most probable class of the weak one as its label, where that is sure (0.95)."""
    taught_BK, weak_UK, strong_UK = batch.views(batch.weakly(), batch.strong(batch.unlabelled_U3HW, batch.rng))
    return F.cross_entropy(taught_BK, batch.labels_B) + fixmatch(weak_UK, strong_UK)[0]


def mix_match(batch: Batch, weight: float = 20.0, temperature: float = 0.5, alpha: float = 0.75) -> Tensor:
    """Berthelot et al. 2019: images without labels get the sharpened mean of two views' probabilities; all are mixed with others of the
    batch, and so are their labels. Numbers: the paper's for CIFAR-10, but the weight: its 75 is for a million updates, and in a hundred
    or so it leaves some classes without any image (pictures of the tests, seeds 0 to 3)."""
    one, other = batch.weakly(), batch.weakly()
    with torch.no_grad():
        guess_UK = sharpened(torch.stack([logits.softmax(-1) for logits in batch.predict(one, other)]).mean(0), temperature)
    truth_BK = F.one_hot(batch.labels_B, guess_UK.shape[1]).to(guess_UK)
    pixels, targets = torch.cat([batch.weak(batch.taught_B3HW, batch.rng), one, other]), torch.cat([truth_BK, guess_UK, guess_UK])
    share = share_of(alpha, len(pixels), batch.rng).to(pixels)
    partner = torch.randperm(len(pixels), generator=batch.rng).to(pixels.device)
    mixed, mixed_targets = mix(pixels, pixels[partner], share), mix(targets, targets[partner], share)
    (logits,) = batch.predict(mixed)
    b = len(truth_BK)
    return F.cross_entropy(logits[:b], mixed_targets[:b]) + batch.ramp * weight * apart(logits[b:], mixed_targets[b:])


LOSSES: dict[str, Callable[[Batch], Tensor]] = {
    "supervised": supervised,
    "pseudo-label": pseudo_label,
    "pi-model": pi_model,
    "mean-teacher": mean_teacher,
    "mixmatch": mix_match,
    "uda": uda,
    "fixmatch": fix_match,
}


def apart(logits_UK: Tensor, target_UK: Tensor) -> Tensor:
    """Mean squared difference of the probabilities from the target, over images and classes."""
    return (logits_UK.softmax(-1) - target_UK).square().mean()


def sharpened(p_UK: Tensor, temperature: float) -> Tensor:
    """p ** (1 / temperature), summing to 1 again."""
    high_UK = p_UK ** (1 / temperature)
    return high_UK / high_UK.sum(-1, keepdim=True)


def share_of(alpha: float, n: int, rng: Generator) -> Tensor:
    """n draws from Beta(alpha, alpha), of x and 1 - x the larger: the image itself stays the most of its mixture."""
    # two gamma variables by the generator: x / (x + y) is a beta variable; Jöhnk's way, which rejects, needs no other draws
    found = torch.empty(0)
    while len(found) < n:
        x, y = (torch.rand(4 * n, generator=rng) ** (1 / alpha) for _ in range(2))
        kept = (x + y <= 1) & (x + y > 0)
        found = torch.cat([found, (x / (x + y))[kept]])
    return torch.maximum(found[:n], 1 - found[:n])


def mix(mine: Tensor, theirs: Tensor, share_N: Tensor) -> Tensor:
    share = share_N.view(-1, *[1] * (mine.ndim - 1))
    return share * mine + (1 - share) * theirs
