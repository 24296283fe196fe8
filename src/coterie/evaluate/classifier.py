"""Multinomial logistic regression on features that stay as they are, found in two ways: L-BFGS, and SGD as DeepCluster's classifier.

Shapes: N rows, D numbers of a row, C classes, B batch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from coterie.errors import InputError
from coterie.evaluate.task import stratified

L2 = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)  # what is tried, strongest first: each starts where the one before it ended
HELD_OUT = 0.2  # of the training rows of each class: l2 is chosen on them
PATIENCE = 2  # of these in a row that are no better, and no weaker one is tried
ITERATIONS, TOLERANCE = 200, 1e-4  # of L-BFGS: at most; the largest number of the gradient at which it ends (scikit-learn's `tol`)
BATCH, MOMENTUM = 256, 0.9  # of SGD (DeepCluster, 2018, its linear classifiers)
Told = Callable[[float, float], None]  # (done, of how many)


@dataclass(frozen=True)
class Classifier:
    """Rows (N, D) -> probabilities (N, C): logits of standardised rows are weight_CD and bias_C."""

    mean_D: Tensor
    deviation_D: Tensor
    weight_CD: Tensor
    bias_C: Tensor
    l2: float

    def probabilities(self, rows_ND: Tensor) -> Tensor:
        """float32 (N, C) on the CPU."""
        device, found = self.weight_CD.device, []
        for rows_BD in rows_ND.split(1 << 14):
            z_BD = (rows_BD.to(device) - self.mean_D) / self.deviation_D
            found.append((z_BD @ self.weight_CD.T + self.bias_C).softmax(1).cpu())
        return torch.cat(found)


def lbfgs(
    rows_ND: Tensor, labels_N: np.ndarray, n_classes: int, generator: torch.Generator, told: Told = lambda done, total: None
) -> Classifier:
    """The least mean cross entropy + l2 / 2 |weights|^2 on standardised rows, the bias free; l2 by the accuracy on a fifth of the training
    rows, of equals the strongest, then all rows.

    rows_ND    float32; standardised in place, by mean and deviation of all of them, so that they lie in memory once
    labels_N   0 .. C-1
    generator  of the fifth
    """
    mean_D, deviation_D = standardise(rows_ND)
    held_N = torch.from_numpy(~stratified(labels_N, 1 - HELD_OUT, generator))
    y_N = torch.from_numpy(labels_N).to(rows_ND.device)
    best_l2, most = L2[0], -1.0
    if held_N.any() and len(L2) > 1:
        fit_ND, fit_N = rows_ND[~held_N], y_N[~held_N]
        held_MD, held_M = rows_ND[held_N], y_N[held_N]
        start = rows_ND.new_zeros(n_classes, rows_ND.shape[1] + 1)
        since = 0
        for i, l2 in enumerate(L2):
            start = _descend(fit_ND, fit_N, l2, start)
            right = float(((held_MD @ start[:, :-1].T + start[:, -1]).argmax(1) == held_M).float().mean())
            since += 1
            if right > most:
                best_l2, most, best, since = l2, right, start, 0
            told(i + 1, len(L2) + 1)
            if since == PATIENCE:  # weaker ones take the most iterations
                break
        del fit_ND, held_MD
    else:  # no class has a row to spare
        best_l2, best = L2[min(2, len(L2) - 1)], rows_ND.new_zeros(n_classes, rows_ND.shape[1] + 1)
    found = _descend(rows_ND, y_N, best_l2, best)
    told(len(L2) + 1, len(L2) + 1)
    return Classifier(mean_D, deviation_D, found[:, :-1].contiguous(), found[:, -1].contiguous(), best_l2)


def _descend(rows_ND: Tensor, y_N: Tensor, l2: float, start: Tensor) -> Tensor:
    """(C, D + 1), the last column the bias."""
    found = start.clone().requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        [found], max_iter=ITERATIONS, tolerance_grad=TOLERANCE, tolerance_change=1e-9, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        weight_CD = found[:, :-1].contiguous()  # of a view the gradient is taken in the other order, which takes ten times as long
        value = F.cross_entropy(F.linear(rows_ND, weight_CD, found[:, -1]), y_N) + 0.5 * l2 * weight_CD.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return found.detach()


def sgd(
    rows_ND: Tensor, labels_N: np.ndarray, n_classes: int, generator: torch.Generator, told: Told = lambda done, total: None,
    epochs: int = 90, lr: float = 0.01, weight_decay: float = 1e-4,
) -> Classifier:  # fmt: skip
    """As DeepCluster's linear classifiers are trained (published code): 90 epochs of batches of 256, momentum 0.9, weight decay 1e-4, the
    rate lr / sqrt(1 + lr * weight decay * t) at update t. Rows are standardised in place, which there they are not; the weights that the
    last epoch leaves are taken, never those that a test set likes best."""
    mean_D, deviation_D = standardise(rows_ND)
    y_N = torch.from_numpy(labels_N).to(rows_ND.device)
    weight_CD = rows_ND.new_zeros(n_classes, rows_ND.shape[1]).requires_grad_(True)
    bias_C = rows_ND.new_zeros(n_classes).requires_grad_(True)
    optimizer = torch.optim.SGD([weight_CD, bias_C], lr=lr, momentum=MOMENTUM, weight_decay=weight_decay)
    step = 0
    for epoch in range(epochs):
        for index_B in torch.randperm(len(rows_ND), generator=generator).split(BATCH):
            optimizer.param_groups[0]["lr"] = lr / (1 + lr * weight_decay * step) ** 0.5
            index_B = index_B.to(rows_ND.device)
            loss = F.cross_entropy(rows_ND[index_B] @ weight_CD.T + bias_C, y_N[index_B])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
        told(epoch + 1, epochs)
    if not bool(torch.isfinite(weight_CD).all()):
        raise InputError(f"the classifier did not converge at lr={lr:g}; give a smaller one with --set lr=")
    return Classifier(mean_D, deviation_D, weight_CD.detach(), bias_C.detach(), weight_decay)


def standardise(rows_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and deviation (D,) of the rows, 1 where they do not differ; the rows are standardised in place."""
    mean_D = rows_ND.mean(0)
    rows_ND -= mean_D
    deviation_D = rows_ND.square().mean(0).sqrt()
    deviation_D = torch.where(deviation_D > 1e-6 * (1 + mean_D.abs()), deviation_D, torch.ones_like(deviation_D))
    rows_ND /= deviation_D
    return mean_D, deviation_D
