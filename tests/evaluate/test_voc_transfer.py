import copy

import pytest
import torch

from coterie.errors import InputError
from coterie.evaluate import voc_classification, voc_detection, voc_segmentation
from coterie.evaluate.beginning import Connected, Features, Maps, batches
from coterie.evaluate.voc import read
from coterie.networks.encoder import EncoderSpec, build
from coterie.run import Run
from coterie.run.devices import Devices
from coterie.run.seeding import forked, generator
from tests.evaluate.voc_files import write

SIZE = 64
PROTOCOLS = {
    "classification": (voc_classification.classification, "map", 40),
    "detection": (voc_detection.detection, "map_50", 6),
    "segmentation": (voc_segmentation.segmentation, "mean_iou", 8),
}


def encoder(name="small", size=SIZE):
    with forked(0, "encoder"):
        return build(EncoderSpec(name, size)).eval()


def run(folder=None):
    return Run(folder, devices=Devices("cpu", "fp32", 1))


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    home = write(tmp_path_factory.mktemp("voc"))
    train = read(home, "trainval", masks=True)
    return train, read(home, "test", train.classes, masks=True)
