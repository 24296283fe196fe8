"""Images: a set of pictures addressed by id. N images, B batch, H x W pixels."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from coterie.errors import InputError
from coterie.images import decode
from coterie.run import machine

Original = Callable[[int, int, str], Image.Image]  # (item, longest side, digest) -> RGB; raises Unreadable when it is gone or has changed


class Problem(NamedTuple):
    """A picture that was set aside: its path as in `Images.paths`, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Batch:
    """Some images: `index_B` int64 on the CPU, their ids; `pixels_B3HW` float32 in [0, 1], channels_last, on the device of the store."""

    index_B: Tensor
    pixels_B3HW: Tensor


@dataclass(frozen=True, repr=False)
class Images:
    """A set of pictures at one working size, without labels. Row i of everything belongs to image i.

    `pixels` uint8 (N, H, W, 3), in memory or mapped from the cache; `paths` valid Unicode, see `names.real_path` for the file;
    `digests` and `sizes` of the content; `items` the position of each image in its source, pictures set aside included; `fingerprint`
    of paths, sizes and contents of the whole source, the same at any working size and wherever the source lies; `passed` names all items,
    so that results can be given one row per item (`ids_of_items`).
    """

    pixels: Tensor
    paths: list[str]
    digests: list[str]
    sizes: list[int]
    items: list[int]
    name: str
    kind: str  # folder, zip, list, array, parquet, named, dataset
    fingerprint: str
    problems: list[Problem] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)  # counts of files left out by kind, such as video and raw
    n_classes: int | None = None  # of a named set, where it is public knowledge
    original: Original | None = None
    max_pixels: int = 100_000_000
    remarks: list[Problem] = field(default_factory=list)  # what decoders said of pictures that were read nevertheless
    levels: dict[str, tuple[float, float]] = field(default_factory=dict)  # black and white of deep pictures, by kind of numbers (deep.py)
    notes: list[str] = field(default_factory=list)  # what a person should know about the whole set
    doubts: list[str] = field(default_factory=list)  # what about it may spoil a result
    passed: list[str] | None = None  # paths of all items of the source in its order, those set aside included; None: those of the images

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        height, width = self.size
        return f"Images({self.name!r}, {len(self):,} of {height} x {width}, {len(self.problems)} problems)"

    @property
    def ids(self) -> range:
        return range(len(self))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels.shape[1], self.pixels.shape[2]

    @property
    def ids_of_items(self) -> np.ndarray:
        """The id of each item's image, int64; -1 for those set aside. For images taken from a set, just their ids."""
        if self.passed is None:
            return np.arange(len(self))
        ids = np.full(len(self.passed), -1)
        ids[self.items] = np.arange(len(self))
        return ids

    @property
    def n_duplicates(self) -> int:
        """Images whose exact content already appeared under a smaller id."""
        return len(self) - len(set(self.digests))

    def __getitem__(self, index: Tensor | Sequence[int] | slice) -> "Images":
        """The images of these ids, numbered anew in the order given; problems stay with the whole set."""
        chosen = torch.arange(len(self))[index].flatten()
        rows = chosen.tolist()
        paths, digests = [self.paths[i] for i in rows], [self.digests[i] for i in rows]
        sizes, items = [self.sizes[i] for i in rows], [self.items[i] for i in rows]
        pixels = self.pixels[index] if isinstance(index, slice) else self.pixels[chosen.to(self.pixels.device)]
        return replace(
            self,
            pixels=pixels,
            paths=paths,
            digests=digests,
            sizes=sizes,
            items=items,
            fingerprint=fingerprint(paths, sizes, digests),
            problems=[],
            skipped={},
            remarks=[],
            notes=[],
            doubts=[],
            passed=None,
        )

    def to(self, device: torch.device | str) -> "Images":
        """The same images with their pixels on `device`; batches are then made there."""
        return replace(self, pixels=self.pixels.to(device))

    def batch(self, index_B: Tensor) -> Batch:
        """The images of `index_B`, int64 (B,) ids."""
        rows = self.pixels[index_B.to(self.pixels.device)]
        return Batch(index_B, rows.permute(0, 3, 1, 2).to(torch.float32).div_(255))  # the permuted rows are channels_last already

    def batches(
        self, size: int, generator: torch.Generator | None = None, ids: Tensor | Sequence[int] | None = None, drop_last: bool = False
    ) -> Iterator[Batch]:
        """Each image, or each of `ids`, once, in batches of `size`: in order, or in a permutation drawn from a CPU `generator`.

        The last batch may be smaller; `drop_last` leaves such a one out. ValueError when `size` < 1.
        """
        if size < 1:
            raise ValueError(f"size={size}: a batch has at least 1 image")
        order = torch.arange(len(self)) if ids is None else torch.as_tensor(ids, dtype=torch.int64).cpu()
        if generator is not None:
            order = order[torch.randperm(len(order), generator=generator)]
        last = len(order) - len(order) % size if drop_last else len(order)
        for start in range(0, last, size):
            yield self.batch(order[start : start + size])

    @cached_property
    def _spoken_of(self) -> set[int]:
        said = {remark.path for remark in self.remarks}
        return {i for i, path in enumerate(self.paths) if path in said} if said else set()

    def thumbnails(self, ids: Sequence[int], size: int) -> list[np.ndarray]:
        """Small pictures, uint8 (h, w, 3), longest side at most `size`, never enlarged: the whole original while it can still be read
        and has not changed, else the square of the store."""
        with decode.strict_pillow(self.max_pixels), ThreadPoolExecutor(machine.cores()) as pool:
            return list(pool.map(lambda i: np.array(self._thumbnail(int(i), size)), ids))

    def _thumbnail(self, i: int, size: int) -> Image.Image:
        if self.original is not None and i not in self._spoken_of:  # libtiff would say it again, to the terminal
            try:
                return self.original(self.items[i], size, self.digests[i])
            except decode.Unreadable:  # gone or changed since it was stored: the store still has it
                pass
        return decode.fit_inside(Image.fromarray(self.pixels[i].cpu().numpy()), size)


class Rows(Images):
    """Features (N, D) in place of images, for methods that need no pictures: `pixels` holds them, a batch is some rows."""

    @property
    def size(self) -> tuple[int, int]:
        return (1, 1)

    def batch(self, index_B: Tensor) -> Batch:
        return Batch(index_B, self.pixels[index_B.to(self.pixels.device)].float())

    def _thumbnail(self, i: int, size: int) -> Image.Image:
        raise AssertionError("features have no pictures")


def open_rows(features_ND: Any) -> Rows:
    """Features (N, D), an array or tensor of finite numbers, as Rows. Raises InputError for anything else."""
    try:
        given = features_ND.detach().float().cpu() if isinstance(features_ND, Tensor) else features_ND  # numpy has no bfloat16
        rows = torch.from_numpy(np.require(given, np.float32, ["C", "W"]))  # a read-only array is copied: torch has none such
    except (TypeError, ValueError) as error:
        raise InputError(f"features: wanted numbers of shape (N, D) ({error})") from error
    if rows.ndim != 2 or 0 in rows.shape:
        raise InputError(f"features: wanted the shape (N, D), not {tuple(rows.shape)}")
    if not bool(rows.isfinite().all()):
        raise InputError("features: NaN or infinity among them; leave such rows out")
    digests = [hashlib.blake2b(row.numpy().tobytes(), digest_size=16).hexdigest() for row in rows]
    paths, sizes = [f"#{i}" for i in range(len(rows))], [4 * rows.shape[1]] * len(rows)
    return Rows(rows, paths, digests, sizes, list(range(len(rows))), "features", "features", fingerprint(paths, sizes, digests))


def fingerprint(paths: Sequence[str], sizes: Sequence[int], digests: Sequence[str]) -> str:
    """A hash of paths, sizes and content hashes, sorted by path: 32 hex digits."""
    return hashlib.blake2b(json.dumps(sorted(zip(paths, sizes, digests))).encode(), digest_size=16).hexdigest()
