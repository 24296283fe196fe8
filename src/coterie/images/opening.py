"""open_images: any source of pictures -> Images."""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from coterie.errors import InputError, printable
from coterie.images import decode, deep
from coterie.images.array_files import load_array
from coterie.images.arrays import DEFAULT_SIZE, from_array
from coterie.images.collection import Images, Problem, fingerprint
from coterie.images.deep import Levels, Wanted
from coterie.images.named import is_named, load_named
from coterie.images.names import shown
from coterie.images.pictures import from_pictures
from coterie.images.remote import below, is_url
from coterie.images.sources import Source, kind_of_file, open_source, paths_list
from coterie.images.store import Progress, default_cache, stored


def open_images(
    source: Any,
    size: int | None = None,
    cache: str | Path | None = None,
    max_pixels: int = 100_000_000,
    progress: Progress | None = None,
    white: float = 0.0,
    levels: Levels | None = None,
    download: bool = True,
) -> Images:
    """Any source of pictures as Images.

    `source`: the path of a folder, .zip, .txt list, .npy, .npz or .parquet file; the url of a folder, such as s3://...; `digits`,
    `torchvision:NAME/split` or `hf:NAME/split` (a folder of such a name is written ./digits); an array or tensor; a list of paths or
    pictures, kept in its order; a torch or HF dataset; or Images. `size`: side of the working square in pixels; None means 96 for files
    and the native size for arrays. `cache`: folder of the decoded store. A file with more than `max_pixels` is a problem, as is whatever
    else in a list or dataset is no picture.
    `progress(stage, done, total)` is called while files are decoded. `white`: the value of white in pictures of more than 8 bits, 0 is
    black then; 0.0 takes both from the set, `levels` from another one (`Images.levels`). `download`: whether a named set may be fetched;
    say False for a name that the user did not give. InputError, with the name, when there is nothing to read or it makes no sense.
    """
    if isinstance(source, Images):
        if size is not None and source.size != (size, size):
            raise InputError(f"size={size}: these images have {source.size[0]} x {source.size[1]} pixels already; open {source.name} again")
        return source
    if size is not None and size < 1:
        raise InputError(f"size={size}: a picture is at least 1 pixel wide")
    if isinstance(source, (str, os.PathLike)):
        return _from_name(os.fspath(source), size, _folder(cache), max_pixels, progress, Wanted(white, levels), download)
    if getattr(source, "ndim", 0) == 1 and (hasattr(source, "iloc") or (isinstance(source, np.ndarray) and source.dtype.kind in "OU")):
        source = source.tolist()  # paths or pictures in a column of a data frame, or in an array of objects
    if isinstance(source, (np.ndarray, torch.Tensor)):
        return from_array(source, "array", "array", size)
    if isinstance(source, (list, tuple)) and _are_paths(source):
        return _from_files(paths_list(source, "list"), size, _folder(cache), max_pixels, progress, Wanted(white, levels))
    if hasattr(source, "__len__") and hasattr(source, "__getitem__") and not isinstance(source, (dict, bytes, bytearray)):
        kind = "array" if isinstance(source, Sequence) else "dataset"
        return from_pictures(source, type(source).__name__, kind, size, max_pixels, wanted=Wanted(white, levels))
    raise InputError(f"{type(source).__name__} is not a source of pictures; give a path, an array, a list or a dataset")


def _from_name(
    name: str, size: int | None, cache: Path, max_pixels: int, progress: Progress | None, wanted: Wanted, download: bool
) -> Images:
    if (files := files_named(name)) is not None:
        return _from_files(files, size, cache, max_pixels, progress, wanted)
    if not is_named(name):
        return from_array(load_array(Path(os.path.expanduser(name)), shown(name)), shown(name), "array", size)
    known = load_named(name, download)
    if isinstance(known.pictures, np.ndarray):
        return from_array(known.pictures, name, "named", size, known.n_classes)
    return from_pictures(known.pictures, name, "named", size, max_pixels, known.n_classes, wanted)


def files_named(name: str) -> Source | None:
    """The source of picture files that a name stands for; None where it is a named set or the file of an array. InputError when it is
    nothing of these."""
    if is_named(name):
        return None
    if is_url(name):
        return below(name)
    if not name:
        raise InputError("the source has an empty name; name a folder or a file, or . for the current folder")
    path = Path(os.path.expanduser(name))
    if path.suffix.lower() in (".npy", ".npz") and stat.S_ISREG(kind_of_file(path, shown(name))):
        return None
    return open_source(path, shown(name))


def _from_files(source: Source, size: int | None, cache: Path, max_pixels: int, progress: Progress | None, wanted: Wanted) -> Images:
    store = stored(source, size or DEFAULT_SIZE, max_pixels, cache, progress, wanted)
    paths = [item.path for item in source.items]
    good = [i for i, read in enumerate(store.reads) if not read.reason]
    problems = [Problem(paths[i], read.reason) for i, read in enumerate(store.reads) if read.reason]
    if not good:
        raise InputError(
            f"{source.name}: none of its {len(paths)} pictures can be read; {printable(_why(problems))}"
        )  # a name may hold line breaks
    ranges = [read.range for read in store.reads if read.range is not None]
    return Images(
        pixels=store.pixels,
        paths=[paths[i] for i in good],
        digests=[store.reads[i].digest for i in good],
        sizes=[store.reads[i].size for i in good],
        items=good,
        name=source.name,
        kind=source.kind,
        fingerprint=fingerprint(paths, [read.size for read in store.reads], [read.digest for read in store.reads]),
        problems=problems,
        skipped=source.skipped,
        original=FileOriginals(source, max_pixels, store.levels),
        max_pixels=max_pixels,
        remarks=[Problem(path, read.said) for path, read in zip(paths, store.reads) if read.said],
        levels=store.levels,
        notes=deep.told(ranges, store.levels, wanted),
        doubts=deep.doubts(ranges, store.levels),
        passed=paths,
    )


@dataclass(frozen=True)
class FileOriginals:
    """The files behind a store, for thumbnails."""

    source: Source
    max_pixels: int
    levels: Levels

    def __call__(self, item: int, size: int, expected: str) -> Image.Image:
        data = self.source.read(item, decode.most_bytes(self.max_pixels))
        if decode.digest(data) != expected:
            raise decode.Unreadable("changed since it was decoded")
        return decode.thumbnail(data, size, self.max_pixels, self.levels)


def _why(problems: list[Problem]) -> str:
    """The reasons, the most frequent first, each with the first file it holds for."""
    files: dict[str, list[str]] = {}
    for path, reason in problems:
        files.setdefault(reason, []).append(path)
    most = sorted(files.items(), key=lambda one: -len(one[1]))[:3]
    told = [f"{paths[0]}: {reason}" + (f" ({len(paths)} such files)" if len(paths) > 1 else "") for reason, paths in most]
    return "; ".join(told) + (f"; and {len(files) - 3} other reasons" if len(files) > 3 else "")


def _are_paths(entries: Sequence[Any]) -> bool:
    """Whether all are paths but for some None; the caller's rows are the entries, so None stays one, as a problem."""
    given = [one for one in entries if one is not None]
    return bool(given) and all(isinstance(one, (str, os.PathLike)) for one in given)


def _folder(cache: str | Path | None) -> Path:
    return default_cache() if cache is None else Path(cache).expanduser()
