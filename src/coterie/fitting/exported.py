"""`coterie predict MODEL.onnx SOURCE`: pictures sorted by an exported model, without torch, so that a new process answers at once.

Pictures are read by the same rules as for a run. What only a run knows stays out: which pictures fit nowhere (`novel`), and sources that
are no picture files. Shapes: B batch, S working size, K outputs.
"""

import json
from contextlib import closing
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.errors import InputError, words
from coterie.images import development, reading, sources
from coterie.run import disk, lines, machine

WANTED = ("clusters", "classes", "image_size", "levels", "max_pixels", "precomputed")  # of the file's metadata


@dataclass(frozen=True)
class Sorted:
    """Of N pictures the paths, probabilities (N, K) and clusters (N,), as the run numbers them; problems: (path, reason)."""

    paths: list[str]
    p_NK: NDArray[np.float32]
    clusters_N: NDArray[np.int32]
    problems: list[tuple[str, str]]

    def write(self, output: Path) -> None:
        """The table of the contract as .csv or .parquet, atomically. InputError for any other ending."""
        if output.suffix != ".csv":
            from coterie.export.tables import rows, write_table  # pyarrow takes as long to load as a picture to sort

            write_table(rows(self.paths, self.p_NK, self.clusters_N), output)
            return
        each = zip(range(len(self.paths)), self.paths, self.clusters_N, self.p_NK.max(1), self.p_NK, repeat(()))
        disk.write_atomically(output, lambda new: lines.write(new, self.p_NK.shape[1], (), each))


class Exported:
    """A file that `coterie export RUN --to onnx` wrote. InputError without onnxruntime, for another file, or one of a run on features."""

    def __init__(self, file: Path, threads: int | None = None):
        try:
            import onnxruntime
        except ImportError:
            raise InputError(f"{file} wants onnxruntime: pip install 'coterie[onnx]'") from None
        if not file.is_file():
            raise InputError(f"{file} is no file")
        wish = onnxruntime.SessionOptions()
        wish.intra_op_num_threads = threads or machine.cores()
        try:
            self._session = onnxruntime.InferenceSession(str(file), wish, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has a dozen classes for a file it cannot load, and no name for all of them
            raise InputError(f"{file} cannot be read by onnxruntime ({words(error)})") from error
        told = self._session.get_modelmeta().custom_metadata_map
        if missing := [name for name in WANTED if name not in told]:
            raise InputError(f"{file} does not say its {missing[0]}: export it again, `coterie export RUN --to onnx {file}`")
        about: dict[str, Any] = {name: json.loads(told[name]) for name in WANTED}
        if about["precomputed"]:
            raise InputError(f"{file} was fitted on features, not on pictures")
        self._clusters = np.array(about["clusters"], np.int32)
        self._size, self._max_pixels, self._levels = about["image_size"], about["max_pixels"], about["levels"]

    def predict(self, source: str) -> Sorted:
        """Sorts the pictures of a folder, a .zip, a .txt list or a .parquet file, some at a time."""
        files = sources.open_source(Path(source).expanduser(), source)
        step, count = reading.together(self._size), len(files.items)
        pieces = [range(start, min(start + step, count)) for start in range(0, count, step)]
        paths, found, problems = [], [np.zeros((0, len(self._clusters)), np.float32)], []
        with closing(reading.in_order(files, pieces, self._size, self._max_pixels, count)) as chunks:
            for piece, chunk in zip(pieces, chunks):
                names = [item.path for item in files.items[piece.start : piece.stop]]
                pixels, good, reasons = development.readable(chunk, self._size, self._levels)
                problems += [(names[place], reason) for place, reason in reasons.items()]
                if good:
                    paths += [names[place] for place in good]
                    found.append(self._probabilities(np.frombuffer(pixels, np.uint8).reshape(len(good), self._size, self._size, 3)))
        p_NK = np.concatenate(found)
        return Sorted(paths, p_NK, self._clusters[p_NK.argmax(1)], problems)

    def _probabilities(self, pixels_BSS3: NDArray[np.uint8]) -> NDArray[np.float32]:
        x_B3SS = np.ascontiguousarray(pixels_BSS3.transpose(0, 3, 1, 2), np.float32) / 255
        p_BK: NDArray[np.float32] = self._session.run(["probabilities"], {"pixels": x_B3SS})[0]
        return p_BK
