"""Sets of picture files in the folders that their authors publish, below a root: CUB-200-2011, classes of ImageNet by a list of wnids, and
those that protocols learn from or rank, Pascal VOC 2007, Oxford and Paris.

They are never downloaded. N images.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from coterie.errors import InputError

CUB, IMAGENET = "CUB_200_2011", "imagenet"
PARTS = ("train", "test", "all")
HOMES = {"voc2007": "VOCdevkit/VOC2007", "oxford5k": "oxford5k/jpg", "paris6k": "paris6k/jpg"}
TRUTHS = {"oxford5k": "oxford5k/gnd", "paris6k": "paris6k/gnd"}  # the text files of their queries
ENDINGS = (".jpeg", ".jpg", ".png")


class Files(NamedTuple):
    """Paths of N files, labels (N,) int64, and the number of classes."""

    paths: list[str]
    labels: np.ndarray
    n_classes: int


def home(name: str, root: Path, of: dict[str, str] = HOMES) -> Path:
    """The folder of a set that is called by its name, below `root`; any other name is a path. InputError where it is not there."""
    if name not in of:
        return Path(name)
    if not (root / of[name]).is_dir():
        raise InputError(f"{name}: there is no folder {root / of[name]}; unpack the set there, or name the folder above in COTERIE_DATA")
    return root / of[name]


def cub200(name: str, part: str, root: Path) -> Files:
    """The images of `root`/CUB_200_2011 in the order of images.txt, by the split of train_test_split.txt; class c of the file is c - 1.
    InputError for a part that is not train, test or all, a file that is missing, and lists that do not fit each other."""
    if part not in PARTS:
        raise InputError(f"{name}: {part} is none of {', '.join(PARTS)}")
    home = root / CUB
    if not home.is_dir():
        raise InputError(f"{name}: there is no folder {home}; unpack CUB_200_2011.tgz into {root}, or name its folder in COTERIE_DATA")
    path_of, class_of, train_of = (_table(home / file) for file in ("images.txt", "image_class_labels.txt", "train_test_split.txt"))
    if not set(path_of) == set(class_of) == set(train_of):
        raise InputError(f"{name}: the lists of {home} do not name the same images; unpack it again")
    chosen = [i for i in path_of if part == "all" or (train_of[i] == "1") == (part == "train")]
    paths = [str(home / "images" / path_of[i]) for i in chosen]
    if missing := [path for path in paths if not Path(path).is_file()]:
        raise InputError(f"{name}: {len(missing):,} of its {len(paths):,} images are missing, the first is {missing[0]}; unpack it again")
    try:
        labels = np.array([int(class_of[i]) - 1 for i in chosen], np.int64)
    except ValueError:
        raise InputError(f"{name}: a class in {home / 'image_class_labels.txt'} is no number; unpack it again") from None
    return Files(paths, labels, int(max(int(c) for c in class_of.values())))


def wnids(name: str, rest: str, root: Path) -> Files:
    """`wnids:FILE/part`: the classes of ImageNet that a text file lists, a wnid a line, in its order; what stands behind it on a line is a
    remark. The images of `root`/imagenet/part/<wnid>, by name. part: train or val. InputError for a list or a class that is not there."""
    listed, _, part = rest.rpartition("/")
    if part not in ("train", "val") or not listed:
        raise InputError(f"{name}: wanted wnids:FILE/train or wnids:FILE/val")
    try:
        lines = Path(listed).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{name}: {listed} cannot be read ({error}); wanted a text file, a wnid a line") from error
    classes = [line.split()[0] for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not classes or len(set(classes)) < len(classes) or not all(one[0] == "n" and one[1:].isdigit() for one in classes):
        raise InputError(f"{name}: {listed} is no list of wnids such as n02085620, each once")
    home, paths, labels = root / IMAGENET / part, list[str](), list[int]()
    for c, wnid in enumerate(classes):
        found = sorted(str(path) for path in (home / wnid).glob("*") if path.suffix.lower() in ENDINGS)
        if not found:
            raise InputError(f"{name}: there are no images in {home / wnid}; name the folder that has imagenet/{part} in COTERIE_DATA")
        paths += found
        labels += [c] * len(found)
    return Files(paths, np.array(labels, np.int64), len(classes))


def _table(file: Path) -> dict[str, str]:
    """id -> the rest of the line."""
    try:
        rows = [line.split(maxsplit=1) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read ({error}); unpack the set again") from error
    if not rows or any(len(row) != 2 for row in rows):
        raise InputError(f"{file} is damaged: a line is not an id and a value; unpack the set again")
    return {row[0]: row[1].strip() for row in rows}
