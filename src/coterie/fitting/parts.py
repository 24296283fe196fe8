"""A result too large for one file: a folder of parts, each a Parquet table of the same number of items of the source, one after another.

    part-00000.parquet ...   the rows of its items; `id` is the item's place in the source, those set aside counted
    _problems-00000.csv      what of these items was set aside, and why; only where anything was
    _parts.json              what the parts are of: source, model, settings, items of a part

A part takes its name when it is whole, so a killed process loses one part at most, and the same command continues: it makes those that are
missing. Which items a part holds is decided by the source alone, so it does not matter who makes it: shards, one after another or all
at once, on any number of machines, fill the same folder. Names with _ are passed over by whoever reads the folder as one table.
"""

import errno
import itertools
import json
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from coterie.errors import InputError
from coterie.fitting.assignments import write_problems
from coterie.images import Images
from coterie.images.stream import Stream, block_of
from coterie.run import disk
from coterie.run.progress import Silent

ITEMS = 4096  # of a part: seconds of work at 32 px, minutes at 224 px
ABOUT = "_parts.json"
COUNTS = b"coterie"  # in the metadata of a part's schema
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)  # what file systems say that have none
Made = Callable[[Images], tuple[pa.Table, dict[str, int]]]  # pictures of a block -> their rows, and what to count of them


class Layout(NamedTuple):
    """`total` items of a source in parts of `items` each."""

    total: int
    items: int = ITEMS

    @property
    def parts(self) -> range:
        return range(-(-self.total // self.items))

    def of(self, part: int) -> range:
        """The items of a part."""
        return range(part * self.items, min((part + 1) * self.items, self.total))

    def share(self, shard: tuple[int, int]) -> range:
        """The parts of shard I of N: one after another, as many as any other shard has, or one more or less."""
        i, n = shard
        return range(i * len(self.parts) // n, (i + 1) * len(self.parts) // n)


def read_shard(text: str) -> tuple[int, int]:
    """(I, N) of "I/N". InputError unless 0 <= I < N."""
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if not found or not int(found[1]) < int(found[2]):
        raise InputError(f"--shard {text}: wanted I/N, such as 0/3, 1/3 or 2/3 of three shards")
    return int(found[1]), int(found[2])


def layout(stream: Stream, items: int | None) -> Layout:
    """The parts of a stream. InputError unless a part has an item or more."""
    if items is not None and items < 1:
        raise InputError(f"--part-size {items}: a part has at least 1 picture")
    return Layout(stream.count, items or ITEMS)


def begin(folder: Path, verb: str, stream: Stream, plan: Layout, settings: dict[str, Any]) -> None:
    """Make the folder, and write down what its parts are of; or compare it with what is there. InputError, naming what differs, when it
    holds parts of something else, or is in use for something else."""
    source = {"kind": stream.kind, "items": stream.count, "names and sizes": stream.fingerprint}
    told = {"verb": verb, "source": source, "part-size": plan.items, **settings}
    try:
        disk.make_folder(folder)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"-o {folder}: a file, or lies in one; name another folder") from None
    path = folder / ABOUT
    if not path.exists():
        if any(not one.name.startswith(".coterie-") for one in folder.iterdir()) and not path.exists():
            raise InputError(f"-o {folder}: not empty, and no folder of parts; name another folder")
        new = folder / f".coterie-{os.getpid()}-{secrets.token_hex(4)}.tmp"
        try:
            disk.write(new, (json.dumps(told, indent=1) + "\n").encode())
            os.link(new, path)  # the first of several shards that start at once; the others compare
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            os.replace(new, path)
        finally:
            new.unlink(missing_ok=True)
        disk.sync(folder)
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged; delete the folder, or name another one") from error
    differs = [name for name in {**told, **(there if isinstance(there, dict) else {})} if _of(there, name) != told.get(name)]
    if differs:
        words = "; ".join(f"{name}: {_short(_of(there, name))}, now {_short(told.get(name))}" for name in differs)
        raise InputError(f"-o {folder}: holds parts of something else ({words}); repeat that, or name another folder")


def fill(folder: Path, stream: Stream, plan: Layout, parts: Iterable[int], make: Made, progress: Silent | None = None) -> dict[str, int]:
    """Makes those of the parts that are not there yet, in order. Returns counts over all of them: `parts`, `parts_made`, `n_images`,
    `n_problems`, and what `make` counted. Memory: a block of decoded pictures, those that are decoded ahead, the rows of a part."""
    total: dict[str, int] = {"parts": 0, "parts_made": 0, "n_images": 0, "n_problems": 0}
    wanted: list[int] = []
    for part in parts:
        total["parts"] += 1
        if (found := whole(folder, plan, part)) is None:
            wanted.append(part)
        else:
            _add(total, found)
    size, shown = block_of(stream.size), progress or Silent()
    spans = (span for part in wanted for span in _spans(plan.of(part), size))
    with closing(stream.blocks(spans)) as blocks:
        for number, part in enumerate(wanted):
            shown.advance("parts", number, len(wanted))
            _add(total, _make(folder, part, plan.of(part), itertools.islice(blocks, sum(1 for _ in _spans(plan.of(part), size))), make))
            _add(total, {"parts_made": 1})
    if wanted:
        shown.advance("parts", len(wanted), len(wanted))
    return total


def _make(folder: Path, part: int, items: range, blocks: Iterable[Images], make: Made) -> dict[str, int]:
    """Writes a part, and what was set aside of it before it; returns what was counted."""
    tables: list[pa.Table] = []
    problems: list[tuple[str, str]] = []
    counts = {"n_images": 0, "n_problems": 0}
    for images in blocks:
        rows, more = make(images)
        tables.append(rows.set_column(0, "id", pa.array(images.items, pa.int64())))
        problems += images.problems
        _add(counts, more | {"n_images": len(images), "n_problems": len(images.problems)})
    aside = f"_problems-{part:05d}.csv"
    if problems:
        write_problems(folder, problems, aside)
    else:
        (folder / aside).unlink(missing_ok=True)  # of a part that is made again
    about = json.dumps({"items": [items.start, items.stop], **counts}).encode()
    whole_part = pa.concat_tables(tables).combine_chunks().replace_schema_metadata({COUNTS: about})
    disk.write_atomically(_file(folder, part), lambda new: pq.write_table(whole_part, new))
    return counts


def whole(folder: Path, plan: Layout, part: int) -> dict[str, int] | None:
    """What was counted in a part that is there and whole; None for any other, which is made again."""
    try:
        told = pq.read_metadata(_file(folder, part))
        counts = json.loads((told.metadata or {})[COUNTS])
        here = counts.pop("items")
        right = here == [plan.of(part).start, plan.of(part).stop] and counts["n_images"] == told.num_rows
        return counts if right and all(type(count) is int for count in counts.values()) else None
    except (OSError, pa.ArrowException, LookupError, ValueError, TypeError, AttributeError, RecursionError):
        return None


def left(folder: Path, plan: Layout) -> int:
    """How many parts of the whole are not there."""
    return sum(not _file(folder, part).exists() for part in plan.parts)


def _file(folder: Path, part: int) -> Path:
    return folder / f"part-{part:05d}.parquet"


def _spans(items: range, size: int) -> Iterator[range]:
    return (range(start, min(start + size, items.stop)) for start in range(items.start, items.stop, size))


def _add(total: dict[str, int], more: dict[str, int]) -> None:
    for name, count in more.items():
        total[name] = total.get(name, 0) + count


def _of(there: Any, name: str) -> Any:
    return there.get(name) if isinstance(there, dict) else None


def _short(value: Any) -> str:
    return json.dumps(value)[:120]
