"""Protocol voc-segmentation: the class of each pixel, mean IoU over the classes and the ground (Pascal VOC 2007).

A fully convolutional head (Long et al., 2015; torchvision's FCNHead) on the encoder's maps of 16 pixels a place, enlarged bilinearly.

Shapes: N pictures, B batch, C classes without the ground, S side of a learned picture, H and W pixels.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coterie.evaluate.beginning import Maps, batches, check_parts, learned, of_classes, set_rate
from coterie.evaluate.task import Task
from coterie.evaluate.voc import VocSet, judged
from coterie.evaluate.voc_metrics import UNJUDGED, confusion, mean_iou
from coterie.evaluate.voc_task import Learn, on_voc
from coterie.run import Run

STAGE = "voc-segmentation"
BATCH, RATE, DECAY, MOMENTUM = 8, 0.01, 1e-4, 0.9  # torchvision's reference for FCN: 0.02 for 32 pictures, halved as batches are smaller
POWER = 0.9  # of the falling rate, as there


@dataclass(frozen=True)
class Settings:
    learn: Learn = "all"
    size: int = 480
    epochs: int = 30
    train_part: str = "trainval"  # the lists of ImageSets
    test_part: str = "test"


def judge(task: Task, settings: Settings) -> None:
    """Scores the encoder on the set that `--on` names, learned on `--train`, or on the same."""
    on_voc(task, STAGE, settings, segmentation, masks=True)


class Segmenter(nn.Module):
    """Pictures (B, 3, H, W) in [0, 1] -> logits (B, 1 + C, H, W)."""

    def __init__(self, encoder: Any, n_classes: int, learn: str, size: int):
        super().__init__()
        from torchvision.models.segmentation.fcn import FCNHead

        self.maps = Maps(encoder, learn, size)
        self.head = FCNHead(self.maps.out_channels, 1 + n_classes)

    def forward(self, pixels_B3HW: Tensor) -> Tensor:
        logits = self.head(self.maps(pixels_B3HW))
        return F.interpolate(logits.float(), pixels_B3HW.shape[2:], mode="bilinear", align_corners=False)


def segmentation(
    run: Run, encoder: nn.Module, train: VocSet, test: VocSet, learn: str = "all", size: int = 480, epochs: int = 30
) -> dict[str, float]:
    """Learns on `train`, scores on `test`, both read with masks=True; continues where a run in the same folder was stopped.

    learn   "fc6-8" (the encoder stays) or "all"
    size    px of the longest side, and of the square that pictures are laid on to learn
    epochs  torchvision's 30; a time budget of the run ends it sooner
    Returns mean_iou over the classes and the ground and IoU of each that occurs, in [0, 1], and the pictures learned from and scored
    (n_train, n_test).
    InputError: the parts have other classes, a mask that cannot be read any more, an encoder without maps.
    """
    check_parts(train, test)
    n_classes = len(train.classes)
    network = run.new(STAGE, Segmenter, encoder, n_classes, learn, size)
    optimizer = torch.optim.SGD(learned(network), RATE, momentum=MOMENTUM, weight_decay=DECAY)
    for epoch in run.epochs(f"{STAGE}-{learn}", epochs, network=network, optimizer=optimizer):
        network.train()
        draw, losses = run.rng(STAGE, epoch), []
        for part, index_B in batches(len(train), BATCH, draw):
            set_rate(optimizer, RATE * (1 - run.done(epoch + part, epochs)) ** POWER)
            mirrored_B = (torch.rand(len(index_B), generator=draw) < 0.5).tolist()
            pairs = [_example(train, int(i), size, mirrored) for i, mirrored in zip(index_B, mirrored_B)]
            truth_BSS = torch.stack([mask for _, mask in pairs]).to(run.devices.device)
            if bool((truth_BSS == UNJUDGED).all()):  # nothing to learn from
                continue
            with run.autocast():
                logits = network(torch.stack([picture for picture, _ in pairs]).to(run.devices.device))
            loss = F.cross_entropy(logits, truth_BSS, ignore_index=UNJUDGED)
            run.step(loss, optimizer)
            losses.append(float(loss.detach()))
            run.progress.advance(f"{STAGE}-{learn}", epoch + part, epochs)
        run.log(loss=float(np.mean(losses)) if losses else 0.0)
    table = predict(run, network, test, size)
    mean, each = mean_iou(table)
    return {"mean_iou": mean, "n_train": len(train), "n_test": len(test), **of_classes("IoU", ["ground", *test.classes], each)}


def _example(train: VocSet, i: int, size: int, mirrored: bool) -> tuple[Tensor, Tensor]:
    """A picture (3, S, S) and its mask (S, S) int64, in the upper left corner; the rest is black and not judged."""
    picture = train.picture(i, size)
    mask = torch.from_numpy(judged(train.mask(i), len(train.classes)))
    small = F.interpolate(mask[None, None].float(), picture.shape[1:], mode="nearest-exact")[0, 0].long()
    if mirrored:
        picture, small = picture.flip(2), small.flip(1)
    free = (0, size - picture.shape[2], 0, size - picture.shape[1])
    return F.pad(picture, free), F.pad(small, free, value=UNJUDGED)


def predict(run: Run, network: nn.Module, test: VocSet, size: int) -> np.ndarray:
    """Counts (1 + C, 1 + C) of the pixels of all masks, at their own size: rows true, columns found."""
    network.eval()
    n = 1 + len(test.classes)
    table = np.zeros((n, n), np.int64)
    with torch.inference_mode():
        for i in range(len(test)):
            mask = judged(test.mask(i), len(test.classes))
            with run.autocast():
                logits = network(test.picture(i, size)[None].to(run.devices.device))
            whole = F.interpolate(logits, mask.shape, mode="bilinear", align_corners=False)
            table += confusion(mask, whole[0].argmax(0).cpu().numpy(), n)
            run.progress.advance(f"{STAGE}: scoring", i + 1, len(test))
    return table
