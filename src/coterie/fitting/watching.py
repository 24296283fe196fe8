"""`coterie predict --watch`: pictures are sorted as they arrive in a folder, by a model that stays loaded.

A row is appended to a csv file for each; the file tells what was sorted, so that the same command goes on after an end of any kind.
"""

import csv
import io
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from coterie.errors import InputError
from coterie.export import write_csv
from coterie.fitting import assignments
from coterie.fitting.new_pictures import FALSE_ALARMS, Known
from coterie.fitting.planning import config_of
from coterie.images import Problem
from coterie.images.sources import Item, Source, folder
from coterie.images.stream import Files, block_of
from coterie.methods.pretext import PretextConfig
from coterie.networks.model import load
from coterie.run import Run
from coterie.run.devices import Devices
from coterie.run.lines import path_of


class Watch:
    """What a run says of the pictures below `place`, as they arrive; into the csv file `output`.

    InputError: no folder, another ending than .csv, a file that is no csv of predictions of this run, a run that is damaged, or was
    fitted on features.
    """

    def __init__(self, run: Path, place: str, output: Path, false_alarms: float = FALSE_ALARMS, devices: Devices | None = None):
        if not Path(place).is_dir():
            raise InputError(f"--watch: {place} is no folder")
        if output.suffix != ".csv":
            raise InputError(f"--watch -o {output}: wanted a name ending in .csv, to which rows can be added")
        devices = devices or Devices()
        self._known, self._model, made = Known(run, false_alarms, devices.device), load(run, devices), config_of(run)
        if self._model.precomputed:
            raise InputError(f"{run} was fitted on features, not on pictures")
        self._max_pixels = made["settings"].get("max_pixels", PretextConfig.max_pixels)
        self._levels, self._run = made["source"].get("levels") or {}, Run(devices=devices)
        self._place, self._output = place, output
        self._sorted = set(_names(output, self._model.n_clusters)) if output.exists() else set()
        self.count = len(self._sorted)
        self._refused: dict[str, Item] = {}
        self._seen: dict[str, Item] = {}

    def look(self) -> Iterator[tuple[pa.Table, list[Problem]]]:
        """Sorts what has come since, block by block: the rows that were added, and what cannot be read.

        A file that changed since the look before is still being written, and is left for the next; one that cannot be read is tried
        again when it changes.
        """
        source = folder(Path(self._place), self._place)
        now = {item.path: item for item in source.items}
        ready = [
            place
            for place, (path, item) in enumerate(now.items())
            if path not in self._sorted and self._seen.get(path) == item and self._refused.get(path) != item
        ]
        self._seen = now
        most = block_of((self._model.image_size,) * 2)
        for start in range(0, len(ready), most):
            yield self._sort(source, ready[start : start + most])

    def _sort(self, source: Source, places: list[int]) -> tuple[pa.Table, list[Problem]]:
        items = [source.items[place] for place in places]
        some = replace(source, items=items, reader=lambda i: source.reader(places[i]))
        (images,) = Files(some, self._model.image_size, self._max_pixels, self._levels).blocks([range(len(items))])
        by_path = {item.path: item for item in items}
        self._refused |= {path: by_path[path] for path, _ in images.problems}
        if not len(images):
            return assignments.table([], torch.empty(0, self._model.n_clusters)), images.problems
        z_BD = self._model.features(images, self._run)
        found = self._known(z_BD)
        rows = assignments.table(images.paths, self._model.probabilities(z_BD), novel=found.novel_M, novelty=found.scores_M)
        rows = rows.set_column(0, "id", pa.array(np.arange(self.count, self.count + len(rows)), pa.int64()))
        _append(rows, self._output)
        self.count += len(rows)
        self._sorted |= set(images.paths)
        return rows, images.problems


def _append(rows: pa.Table, output: Path) -> None:
    """Adds the rows, and the header to a file that is new."""
    with tempfile.TemporaryDirectory() as place:
        write_csv(rows, Path(place) / "rows.csv")
        header, _, text = (Path(place) / "rows.csv").read_bytes().partition(b"\n")
    with output.open("ab") as file:
        file.write(text if file.tell() else header + b"\n" + text)
        file.flush()
        os.fsync(file.fileno())


def _names(output: Path, k: int) -> list[str]:
    """The paths that have a row. A last row that was cut short by the end of the process is cut off, of a file of ours alone."""
    found = output.read_bytes()
    whole = found[: found.rfind(b"\n") + 1]
    ours = ["id", "path", "cluster", "confidence", *(f"p_{i}" for i in range(k)), "novel", "novelty"]
    header, *rows = csv.reader(io.StringIO(whole.decode("utf-8", "replace"), newline="")) if whole else [[]]
    cut_header = not whole and ",".join(ours).encode().startswith(found)
    if not cut_header and (header != ours or any(len(row) != len(ours) for row in rows)):
        raise InputError(f"--watch -o {output}: it holds no predictions of this run; name a new file")
    os.truncate(output, len(whole))
    return [path_of(row[1]) for row in rows]
