"""Protocol voc-detection: what is where; torchvision's Faster R-CNN (Ren et al., 2015) on our encoder, mAP at IoU 0.5 (Pascal VOC 2007).

The encoder gives maps of 16 pixels a place (`beginning.Maps`). On AlexNet and VGG-16 the boxes are judged by their own connected layers, as
in Fast R-CNN; on others by two new layers of 1,024 behind a 1 x 1 convolution to 256 channels. No weights but the encoder's are loaded.

Shapes: N pictures, B batch, C classes, G true boxes, M boxes found.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from coterie.evaluate.beginning import Connected, Maps, batches, check_parts, learned, of_classes, set_rate
from coterie.evaluate.task import Task
from coterie.evaluate.voc import VocSet
from coterie.evaluate.voc_metrics import Boxes
from coterie.evaluate.voc_metrics import detection as score
from coterie.evaluate.voc_task import Learn, on_voc
from coterie.run import Run

STAGE = "voc-detection"
BATCH, RATE, DECAY, MOMENTUM = 4, 0.005, 5e-4, 0.9  # 0.00125 a picture, torchvision's reference for Faster R-CNN; decay as Ren 2015
DROPS = (2 / 3, 8 / 9)  # of the time; the rate is a tenth from there on (torchvision: epochs 16 and 22 of 26, nearly)
SIDES = (600, 1000)  # px of a picture, the shorter at least and the longer at most; Fast R-CNN's, for size=600
ROIS, PROPOSALS = 64, 300  # boxes judged of a picture, to learn (Fast R-CNN, 2015, sec. 2.3) and to find (Ren 2015, sec. 3.3)
ANCHORS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)  # sides, of the shorter side of a picture; each in three shapes
WIDTH, SIDE, HIDDEN = 256, 7, 1024  # channels, places along a box, width of its layers, as in torchvision's FPN; but AlexNet's and VGG-16's


@dataclass(frozen=True)
class Settings:
    learn: Learn = "all"
    size: int = 600
    epochs: int = 26
    train_part: str = "trainval"  # the lists of ImageSets
    test_part: str = "test"


def judge(task: Task, settings: Settings) -> None:
    """Scores the encoder on the set that `--on` names, learned on `--train`, or on the same."""
    on_voc(task, STAGE, settings, detection)


class Narrow(nn.Module):
    """An encoder's maps in 256 channels."""

    def __init__(self, maps: Maps):
        super().__init__()
        self.maps, self.narrow, self.out_channels = maps, nn.Conv2d(maps.out_channels, WIDTH, 1), WIDTH

    def forward(self, pixels_B3HW: Tensor) -> Tensor:
        return self.narrow(self.maps(pixels_B3HW))


def faster_rcnn(encoder: Any, n_classes: int, learn: str, size: int) -> nn.Module:
    """torchvision's FasterRCNN: pictures [(3, h, w), ..] in [0, 1] of any sizes -> boxes; 0 is the ground, the classes are 1 .. C.

    size: px of the shorter side that a picture is brought to, the longer one at most 5 / 3 of it. InputError as `beginning.Maps`.
    """
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    from torchvision.models.detection.rpn import AnchorGenerator
    from torchvision.ops import MultiScaleRoIAlign

    maps = Maps(encoder, learn, size)
    backbone: nn.Module = maps if maps.classic else Narrow(maps)
    if maps.classic:
        connected = Connected(encoder, learn)
        head, side, width = connected, connected.side, connected.width
    else:
        head, side, width = TwoMLPHead(WIDTH * SIDE**2, HIDDEN), SIDE, HIDDEN
    return FasterRCNN(
        backbone,
        min_size=size,
        max_size=size * SIDES[1] // SIDES[0],
        image_mean=[0.0] * 3,  # the encoder standardises for itself
        image_std=[1.0] * 3,
        rpn_anchor_generator=AnchorGenerator((tuple(round(share * size) for share in ANCHORS),), ((0.5, 1.0, 2.0),)),
        box_batch_size_per_image=ROIS,
        rpn_post_nms_top_n_test=PROPOSALS,
        box_roi_pool=MultiScaleRoIAlign(["0"], side, 2),
        box_head=head,
        box_predictor=FastRCNNPredictor(width, n_classes + 1),
    )


def detection(
    run: Run, encoder: nn.Module, train: VocSet, test: VocSet, learn: str = "all", size: int = 600, epochs: int = 26
) -> dict[str, float]:
    """Learns on `train`, scores on `test`; continues where a run in the same folder was stopped.

    learn   "fc6-8" (the encoder's convolutions stay) or "all"
    size    px of the shorter side; 600 in the papers
    epochs  torchvision's 26; a time budget of the run ends it sooner
    Returns mAP at IoU 0.5 (VOC2007's 11 points), mAP_all_points and AP of each class that occurs (11 points), in [0, 1], and the pictures
    learned from and scored (n_train, n_test). Difficult boxes are not learned.
    InputError: the parts have other classes, no class has a box in the test part, `faster_rcnn`.
    """
    check_parts(train, test)
    network = run.new(STAGE, faster_rcnn, encoder, len(train.classes), learn, size)
    optimizer = torch.optim.SGD(learned(network), RATE, momentum=MOMENTUM, weight_decay=DECAY)
    for epoch in run.epochs(f"{STAGE}-{learn}", epochs, network=network, optimizer=optimizer):
        network.train()
        draw, losses = run.rng(STAGE, epoch), []
        for part, index_B in batches(len(train), BATCH, draw):
            done = run.done(epoch + part, epochs)
            set_rate(optimizer, RATE * 0.1 ** sum(done >= drop for drop in DROPS))
            mirrored_B = (torch.rand(len(index_B), generator=draw) < 0.5).tolist()
            pairs = [_example(train, int(i), size, mirrored, run.devices.device) for i, mirrored in zip(index_B, mirrored_B)]
            loss = sum(network([picture for picture, _ in pairs], [true for _, true in pairs]).values())
            run.step(loss, optimizer)
            losses.append(float(loss.detach()))
            run.progress.advance(f"{STAGE}-{learn}", epoch + part, epochs)
        run.log(loss=float(np.mean(losses)))
    found = predict(run, network, test, size)
    truth = [image.boxes for image in test.images]
    map_11, each_C = score(truth, found, len(test.classes), 11)
    map_all, _ = score(truth, found, len(test.classes), None)
    return {"mAP": map_11, "mAP_all_points": map_all, "n_train": len(train), "n_test": len(test), **of_classes("AP", test.classes, each_C)}


def _example(train: VocSet, i: int, size: int, mirrored: bool, device: torch.device) -> tuple[Tensor, dict[str, Tensor]]:
    """A picture and its true boxes that are not difficult, as torchvision wants them: in px of this picture, classes from 1."""
    picture, boxes = train.picture(i, size * SIDES[1] // SIDES[0]), train.images[i].boxes
    corners = torch.from_numpy(boxes.corners[~boxes.difficult] * picture.shape[2] / train.images[i].width).float()
    if mirrored:
        picture = picture.flip(2)
        corners[:, [0, 2]] = picture.shape[2] - corners[:, [2, 0]]
    labels = torch.from_numpy(boxes.labels[~boxes.difficult]) + 1
    return picture.to(device), {"boxes": corners.to(device), "labels": labels.to(device)}


def predict(run: Run, network: nn.Module, test: VocSet, size: int) -> list[Boxes]:
    """The boxes found in each picture, in its own pixels, classes from 0."""
    network.eval()
    found = []
    with torch.inference_mode():
        for i, image in enumerate(test.images):
            picture = test.picture(i, size * SIDES[1] // SIDES[0])
            (seen,) = network([picture.to(run.devices.device)])
            corners = seen["boxes"].cpu().double().numpy() * image.width / picture.shape[2]
            found.append(Boxes(corners, seen["labels"].cpu().numpy() - 1, seen["scores"].cpu().numpy()))
            run.progress.advance(f"{STAGE}: scoring", i + 1, len(test))
    return found
