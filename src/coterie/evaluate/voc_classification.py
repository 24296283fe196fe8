"""Protocol voc-classification: which of the classes are in a picture, one classifier for all of them, mAP (Pascal VOC 2007).

As DeepCluster judges (sec. 4.4; its published evaluation where the paper is silent): random square crops of 0.1 to 0.5 of a picture's area,
mirrored half of the time; at the end the mean over 10 random crops. "fc6-8" learns what stands behind the convolutions, "all" everything.
Of a network without AlexNet's connected layers "fc6-8" is a linear classifier on its features, normalised.

Shapes: N pictures, B batch, C classes.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coterie.evaluate.beginning import Features, batches, check_parts, learned, of_classes, set_rate
from coterie.evaluate.task import Task
from coterie.evaluate.voc import VocSet
from coterie.evaluate.voc_metrics import mean_average_precision
from coterie.evaluate.voc_task import Learn, on_voc
from coterie.run import Run

STAGE = "voc-classification"
BATCH, RATE, DECAY, MOMENTUM = 16, 0.003, 1e-6, 0.9  # DeepCluster's published evaluation; 80,000 such batches are 255 epochs of VOC2007
HALVINGS = 16  # of the rate: it halves after each 5,000 of 80,000 batches there
SHARES = (0.1, 0.5)  # of the area
CROPS = 10  # at the end
WHOLE = 2.25  # longest side of a picture over the side of a crop: VOC's 500 px to 224


@dataclass(frozen=True)
class Settings:
    learn: Learn = "fc6-8"
    size: int = 224
    epochs: int = 255
    train_part: str = "trainval"  # the lists of ImageSets
    test_part: str = "test"


def judge(task: Task, settings: Settings) -> None:
    """Scores the encoder on the set that `--on` names, learned on `--train`, or on the same."""
    on_voc(task, STAGE, settings, classification)


class Classifier(nn.Module):
    """Crops (B, 3, S, S) in [0, 1] -> logits (B, C)."""

    def __init__(self, encoder: Any, n_classes: int, learn: str, size: int):
        super().__init__()
        self.features = Features(encoder, learn, size)
        width = self.features.n_features
        self.even = nn.Identity() if self.features.classic else nn.BatchNorm1d(width, affine=False)  # features come in any scale
        self.top = nn.Linear(width, n_classes)

    def forward(self, pixels_B3SS: Tensor) -> Tensor:
        return self.top(self.even(self.features(pixels_B3SS)))


def classification(
    run: Run, encoder: nn.Module, train: VocSet, test: VocSet, learn: str = "fc6-8", size: int = 224, epochs: int = 255
) -> dict[str, float]:
    """Learns on `train`, scores on `test`; continues where a run in the same folder was stopped.

    learn   "fc6-8" or "all"
    size    of a crop, px
    epochs  255 are the paper's 80,000 batches on VOC2007; a time budget of the run ends it sooner
    Returns mAP (VOC2007's 11 points), mAP_all_points and AP of each class that occurs (11 points), in [0, 1], and the pictures learned from
    and scored (n_train, n_test).
    InputError: the two parts have other classes, no class occurs in the test part, `learn`.
    """
    check_parts(train, test)
    present_NC = torch.from_numpy(train.present())
    network = run.new(STAGE, Classifier, encoder, len(train.classes), learn, size)
    optimizer = torch.optim.SGD(learned(network), RATE, momentum=MOMENTUM, weight_decay=DECAY)
    for epoch in run.epochs(f"{STAGE}-{learn}", epochs, network=network, optimizer=optimizer):
        network.train()
        draw, losses = run.rng(STAGE, epoch), []
        for part, index_B in batches(len(train), BATCH, draw):
            set_rate(optimizer, RATE * 0.5 ** math.floor(HALVINGS * run.done(epoch + part, epochs)))
            pixels = torch.stack([crop(train.picture(int(i), round(WHOLE * size)), size, draw) for i in index_B])
            with run.autocast():
                logits_BC = network(pixels.to(run.devices.device))
            loss = loss_of(logits_BC.float(), present_NC[index_B].to(logits_BC.device))
            run.step(loss, optimizer)
            losses.append(float(loss.detach()))
        run.log(loss=float(np.mean(losses)))
    scores_NC = predict(run, network, test, size).numpy()
    map_11, each_C = mean_average_precision(test.present(), scores_NC, 11)
    map_all, _ = mean_average_precision(test.present(), scores_NC)
    return {"mAP": map_11, "mAP_all_points": map_all, "n_train": len(train), "n_test": len(test), **of_classes("AP", test.classes, each_C)}


def loss_of(logits_BC: Tensor, present_BC: Tensor) -> Tensor:
    """Binary cross-entropy, of a picture the mean over the classes that count (present is not -1), summed over the batch."""
    counts_BC = (present_BC >= 0).float()
    each_BC = F.binary_cross_entropy_with_logits(logits_BC, (present_BC == 1).float(), reduction="none")
    return ((each_BC * counts_BC).sum(1) / counts_BC.sum(1).clamp(min=1)).sum()


def crop(picture_3hw: Tensor, size: int, draw: torch.Generator) -> Tensor:
    """A random square of 0.1 to 0.5 of the area, within the picture, mirrored half of the time, as (3, size, size)."""
    _, height, width = picture_3hw.shape
    share, down, right, mirrored = torch.rand(4, generator=draw).tolist()
    side = min(height, width, max(1, round(math.sqrt((SHARES[0] + share * (SHARES[1] - SHARES[0])) * height * width))))
    top, left = round(down * (height - side)), round(right * (width - side))
    square = picture_3hw[None, :, top : top + side, left : left + side]
    resized = F.interpolate(square, (size, size), mode="bilinear", antialias=True, align_corners=False)[0]
    return resized.flip(2) if mirrored < 0.5 else resized


def predict(run: Run, network: nn.Module, test: VocSet, size: int) -> Tensor:
    """Mean logits (N, C) of 10 random crops of each picture, float32 on the CPU."""
    network.eval()
    found = []
    with torch.inference_mode():
        for i in range(len(test)):
            draw, whole = run.rng(STAGE, "test", i), test.picture(i, round(WHOLE * size))
            crops = torch.stack([crop(whole, size, draw) for _ in range(CROPS)])
            with run.autocast():
                found.append(network(crops.to(run.devices.device)).float().mean(0).cpu())
            run.progress.advance(f"{STAGE}: scoring", i + 1, len(test))
    return torch.stack(found)
