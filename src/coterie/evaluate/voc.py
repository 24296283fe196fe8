"""Pictures with boxes and masks in the layout of Pascal VOC 2007: ImageSets, Annotations, JPEGImages, SegmentationClass.

A folder or a .zip, of VOCdevkit, of VOC2007, or of any set laid out so. What is wrong with a picture or a box is a problem with one line,
and is left out or mended; the rest serves. Labels, so this stands in evaluate.

Shapes: N pictures, C classes, G boxes of a picture, H and W pixels.
"""

import json
import xml.etree.ElementTree as ElementTree
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from coterie.errors import InputError, printable
from coterie.evaluate.voc_metrics import UNJUDGED, Boxes
from coterie.images import decode
from coterie.images.collection import Problem
from coterie.images.layouts import home
from coterie.images.named import data_root

# Of VOC2007, in the order of their numbers in masks, which begin at 1.
CLASSES = [
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
]  # fmt: skip
MAX_PIXELS = 100_000_000  # of a picture, as everywhere in Coterie
ENDINGS = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")
PROBE = 32  # px at which each picture is decoded once, to know that it can be


@dataclass(frozen=True)
class Annotated:
    """A picture: `name` as in ImageSets, `file` inside the set, `width` and `height` in px, its true boxes in these pixels, and a
    `digest` of its file and mask."""

    name: str
    file: str
    width: int
    height: int
    boxes: Boxes
    digest: str


@dataclass(frozen=True)
class VocSet:
    """One part of a set ("trainval", "test"): `classes` the C names, `images` the N pictures that can be used, `problems` a line each."""

    root: Any  # a Path, or a zipfile.Path
    part: str
    classes: list[str]
    images: list[Annotated]
    problems: list[Problem]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def notes(self) -> list[str]:
        """How many problems of each kind there are, the first of each named."""
        first = {problem.reason: problem.path for problem in reversed(self.problems)}
        counted = Counter(problem.reason for problem in self.problems)
        return [f"{count:,} x {reason} (first: {first[reason]})" for reason, count in counted.items()]

    @property
    def fingerprint(self) -> str:
        """Of the pictures, boxes, masks and classes: 32 hex digits."""
        parts = [[i.name, i.digest, i.boxes.corners.tolist(), i.boxes.labels.tolist(), i.boxes.difficult.tolist()] for i in self.images]
        return decode.digest(json.dumps([self.classes, parts]).encode())

    def present(self) -> np.ndarray:
        """int64 (N, C): 1 where a picture has an object of the class, -1 where only difficult ones (it does not count), else 0."""
        found = np.zeros((len(self.images), len(self.classes)), np.int64)
        for row, image in zip(found, self.images):
            row[image.boxes.labels[image.boxes.difficult]] = -1
            row[image.boxes.labels[~image.boxes.difficult]] = 1
        return found

    def picture(self, i: int, size: int) -> Tensor:
        """Picture i whole, float32 (3, h, w) in [0, 1], its longest side at most `size` px; never enlarged. InputError: it cannot be read
        any more."""
        image = self.images[i]
        try:
            with decode.strict_pillow(MAX_PIXELS):
                shown = decode.thumbnail((self.root / image.file).read_bytes(), size, MAX_PIXELS)
        except (OSError, KeyError, decode.Unreadable) as error:
            raise InputError(f"{image.file}: cannot be read any more ({error})") from error
        return torch.from_numpy(np.array(shown)).permute(2, 0, 1).float() / 255

    def mask(self, i: int) -> np.ndarray:
        """Mask i, uint8 (H, W): 0 ground, 1 .. C the classes, 255 not judged; for sets read with masks=True. InputError as `picture`."""
        image = self.images[i]
        found = _mask(self.root, image.name)
        if isinstance(found, str):
            raise InputError(f"{image.name}: {found}")
        return found


def read(source: str | Path, part: str, classes: list[str] | None = None, masks: bool = False) -> VocSet:
    """The pictures of a part, in the order of its list.

    classes  None: VOC2007's twenty where all names are among them, else the names that occur, by the alphabet. For a test part give those
             of training: boxes of another class are problems and left out.
    masks    whether pictures need a mask: the list is then ImageSets/Segmentation's, where there is one
    source   a folder or .zip, or "voc2007", which is looked for in COTERIE_DATA
    InputError: no such layout, no such list, no picture that can be used.
    """
    root = _root(home(str(source), data_root()))
    listed = [root / "ImageSets" / room / f"{part}.txt" for room in (("Segmentation", "Main") if masks else ("Main",))]
    file = next((file for file in listed if file.is_file()), None)
    if file is None:
        raise InputError(f"{source}: no ImageSets/Main/{part}.txt")
    try:
        names = [line.split()[0] for line in file.read_text(encoding="utf-8").splitlines() if line.split()]
    except UnicodeDecodeError as error:
        raise InputError(f"{source}: ImageSets list {part}.txt is not text") from error
    problems: list[Problem] = []
    found = []
    for name in dict.fromkeys(names):
        taken = _one(root, name, problems)
        if taken is None:
            continue
        mask = _mask(root, name) if masks else None
        if isinstance(mask, str):
            problems.append(Problem(name, mask))
        elif mask is not None and mask.shape != (taken[2], taken[1]):
            problems.append(Problem(name, "its mask is of another size than the picture; left out"))
        else:
            found.append((*taken, decode.digest(mask.tobytes()) if mask is not None else ""))
    if classes is None:
        seen = {word for *_, objects, _ in found for word, _, _ in objects}
        classes = CLASSES if seen <= set(CLASSES) else sorted(seen)
    number = {word: i for i, word in enumerate(classes)}
    images = []
    for name, width, height, path, digest, objects, of_mask in found:
        known = [(number[word], corners, hard) for word, corners, hard in objects if word in number]
        problems += [Problem(name, f"no class is called {printable(word)}; box left out") for word, _, _ in objects if word not in number]
        boxes = Boxes(
            np.array([corners for _, corners, _ in known], np.float64).reshape(-1, 4),
            np.array([label for label, _, _ in known], np.int64),
            difficult=np.array([hard for *_, hard in known], bool),
        )
        images.append(Annotated(name, path, width, height, boxes, digest + of_mask))
    if not images:
        told = f"; {printable(problems[0].path)}: {problems[0].reason}" if problems else ""
        raise InputError(f"{source}: no picture of {part} can be used{told}")
    return VocSet(root, part, list(classes), images, problems)


def _root(source: Path) -> Any:
    """The folder that holds ImageSets: the source, or up to two folders down."""
    if source.is_file():
        try:
            top: Any = zipfile.Path(zipfile.ZipFile(source))
        except (OSError, zipfile.BadZipFile) as error:
            raise InputError(f"{source}: neither a folder nor a readable .zip") from error
    elif source.is_dir():
        top = source
    else:
        raise InputError(f"{source}: there is no such folder or .zip")
    places = [top]
    for _ in range(3):
        for place in places:
            if (place / "ImageSets").is_dir():
                return place
        places = [inner for place in places for inner in sorted(place.iterdir(), key=str) if inner.is_dir()]
    raise InputError(f"{source}: no folder ImageSets in it; wanted Pascal VOC's layout")


def _one(root: Any, name: str, problems: list[Problem]) -> Any:
    """(name, width, height, file, digest, objects) of a picture, or None; its problems are added."""

    def problem(reason: str, what: str = "") -> None:
        problems.append(Problem(printable(f"{name} {what}".strip()), reason))

    paths = [f"JPEGImages/{name}{ending}" for ending in ENDINGS]
    path = next((path for path in paths if (root / path).is_file()), None) if "/" not in name and "\\" not in name else None
    if path is None:
        return problem("no picture of this name in JPEGImages; left out")
    try:
        with decode.strict_pillow(MAX_PIXELS):
            data = (root / path).read_bytes()
            width, height = decode.shown_size(data)
            decode.thumbnail(data, PROBE, MAX_PIXELS)
    except (OSError, KeyError, zipfile.BadZipFile, decode.Unreadable):
        return problem("the picture cannot be read; left out")
    try:
        tree = ElementTree.fromstring((root / "Annotations" / f"{name}.xml").read_bytes())
    except (OSError, KeyError, zipfile.BadZipFile):
        return problem("no annotation; left out")
    except (ElementTree.ParseError, ValueError, LookupError):  # the last two: an encoding that is not known
        return problem("its annotation is broken XML; left out")
    told = (_number(tree.findtext("size/width")), _number(tree.findtext("size/height")))
    if None not in told and 0 not in told and told != (width, height):
        return problem("its annotation is of a picture of another size; left out")
    objects = []
    for i, entry in enumerate(tree.findall("object"), 1):
        corners = [_number(entry.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")]
        word = " ".join((entry.findtext("name") or "").split())
        if None in corners or not word:
            problem("an object without a name or without four numbers; left out", f"object {i}")
            continue
        left, top, right, bottom = (float(side) for side in corners)  # type: ignore[arg-type]
        whole = np.array([left - 1, top - 1, right, bottom])  # the first pixel is 1, and the last belongs to the box
        inside = np.clip(whole, 0, [width, height, width, height])
        if inside[0] >= inside[2] or inside[1] >= inside[3]:
            problem("a box with nothing inside the picture; left out", f"object {i}")
            continue
        if (np.abs(whole - inside) > 1).any():  # one pixel: sets that count from 0
            problem("a box that reaches outside the picture; clipped", f"object {i}")
        objects.append((word, inside, (entry.findtext("difficult") or "0").strip() == "1"))
    return name, width, height, path, decode.digest(data), objects


def _mask(root: Any, name: str) -> np.ndarray | str:
    """The mask, or the reason why not."""
    try:
        with decode.strict_pillow(MAX_PIXELS):
            return decode.class_numbers((root / "SegmentationClass" / f"{name}.png").read_bytes(), MAX_PIXELS)
    except decode.Unreadable:
        return "its mask cannot be read; left out"
    except (OSError, KeyError, zipfile.BadZipFile):
        return "no mask in SegmentationClass; left out"


def judged(mask: np.ndarray, n_classes: int) -> np.ndarray:
    """The mask as int64, what it calls neither ground nor one of the classes as not judged."""
    return np.where(mask <= n_classes, mask, UNJUDGED).astype(np.int64)


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if np.isfinite(value) else None
