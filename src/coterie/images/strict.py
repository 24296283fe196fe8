"""Pillow with its switches set for strangers' files, and what it and the libraries below it say meanwhile."""

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, ImageFile

MOST_SAID = 300  # characters
_pillow = threading.Lock()


class _Ear(logging.Handler):
    """Takes what Pillow logs, apart for each thread, so that it reaches the reason and not the terminal."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said, self.file = threading.local(), -1

    def emit(self, record: logging.LogRecord) -> None:
        self.said.lines = [*getattr(self.said, "lines", []), record.getMessage()]


_ear = _Ear()


@contextmanager
def strict_pillow(max_pixels: int, stderr: int = -1) -> Iterator[None]:
    """Set Pillow's switches for strangers' files, and put them back after: our pixel limit, no half-read pictures, no warnings, its log to
    `remarks`; and what C libraries write into the file `stderr`, a descriptor, where this process has such a file for it.

    One holder at a time: the switches belong to the process. Pillow refuses above twice MAX_IMAGE_PIXELS.
    """
    with _pillow, warnings.catch_warnings():
        before, log = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES), logging.getLogger("PIL")
        aloud, log.propagate = log.propagate, False
        log.addHandler(_ear)
        _ear.file = stderr
        warnings.filterwarnings("ignore", module="PIL")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        Image.init()
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = -(-max_pixels // 2), False
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = before
            log.removeHandler(_ear)
            _ear.file = -1
            log.propagate = aloud


def remarks() -> str:
    """What Pillow has said to its log in this thread, and C libraries to their file, since the last call: in one line, each sentence once,
    cut where it gets long; "" for nothing."""
    said, _ear.said.lines = getattr(_ear.said, "lines", []), []
    if _ear.file >= 0 and (length := os.lseek(_ear.file, 0, os.SEEK_CUR)):
        said += os.pread(_ear.file, min(length, 1 << 16), 0).decode(errors="replace").replace("tempfile.tif: ", "").splitlines()
        os.ftruncate(_ear.file, 0)
        os.lseek(_ear.file, 0, os.SEEK_SET)
    text = "; ".join(dict.fromkeys(" ".join(line.split()) for line in said if line.strip()))
    return text if len(text) <= MOST_SAID else f"{text[: MOST_SAID - 4]} ..."
