"""The pictures of a source as they lie there now, for whoever wants them whole again: `export`.

Nothing outside the source is ever opened: a path of a run counts only when opening the source gives an item of that name.
"""

import io
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coterie.errors import InputError
from coterie.images import decode
from coterie.images.names import real_path
from coterie.images.sources import Source, open_source, paths_list

MOST_BYTES = 1 << 40  # it was read at the fit, whatever its size
WHOLE = 1 << 20  # px of the longest side: a picture in its own size


@dataclass(frozen=True)
class Original:
    """One picture of the source. parts: its path there, in pieces; file: where it lies, None in an archive or array; read: its bytes, or
    a PNG of it; digest: of its content now, as the fit took it. Both raise decode.Unreadable."""

    path: str
    parts: tuple[str, ...]
    file: Path | None
    read: Callable[[], bytes]
    digest: Callable[[], str]


def originals(source: dict[str, Any], at: Path | None, paths: Sequence[str]) -> list[Original]:
    """The pictures behind `paths` of a source (as config.json describes it), in that order; `at`: where it lies now, if it has moved.

    InputError when the source or one of them is gone, or a path leaves it. The network is not used.
    """
    kind = str(source.get("kind"))
    given = str(at or source.get("path") or "")
    if kind == "list" and not given:  # given in Python: nothing but the run names its files, and the digests show whether they are those
        return _items(paths_list(paths, "list", Path()), paths, "the list")
    if kind == "url" and at is None:
        raise InputError(
            f"the pictures of this run lie at {given}, and this command uses no network; copy them here and say with --source where they "
            "lie, or use --to csv or parquet"
        )
    if kind not in ("url", "folder", "list", "zip", "parquet"):
        return _arrays(str(source.get("name")) if kind == "named" else given, paths)
    root = Path(given)
    if not given or not root.exists():
        raise _gone(paths[0] if len(paths) else "", str(root))
    return _items(open_source(root, given), paths, given)


def _items(source: Source, paths: Sequence[str], root: str) -> list[Original]:
    position = {item.path: i for i, item in enumerate(source.items)}
    found = []
    for path in paths:
        if path not in position:
            raise _gone(path, root)
        i = position[path]
        file = Path(source.reader.paths[i]) if source.kind in ("folder", "list") else None  # type: ignore[attr-defined]
        parts = tuple(path.split("/")) if source.kind == "zip" else real_path("", path).parts

        def read(i: int = i) -> bytes:
            return source.read(i, MOST_BYTES)

        if source.kind == "parquet":
            parts = (_row_name(path) + _suffix(read()),)
        found.append(Original(path, parts, file, read, lambda read=read: decode.digest(read())))  # type: ignore[misc]
    return found


def _gone(path: str, root: str) -> InputError:
    parts = real_path("", path).parts
    if ".." in parts or os.path.isabs(os.path.join("", *parts)):
        return InputError(f"{path} is not among the pictures of {root}: it leaves the source, and nothing outside of it is read")
    return InputError(f"{path} is no longer in {root}; bring it back, or say with --source where the pictures lie now")


def _arrays(root: str, paths: Sequence[str]) -> list[Original]:
    from coterie.images import open_images
    from coterie.images.named import is_named

    if not is_named(root) and not Path(root).is_file():
        raise InputError(
            f"the pictures of this run were given as {Path(root).name or 'an array in memory'}, which is not there; use --to csv or parquet"
        )
    images: Any = open_images(root, download=False)
    position = {path: i for i, path in enumerate(images.paths)}
    if not set(paths) <= set(position):
        raise InputError(f"{root} holds other pictures now than at the fit; bring the old ones back, or use --to csv or parquet")

    def png(path: str) -> bytes:
        from PIL import Image

        file = io.BytesIO()
        Image.fromarray(images.thumbnails([position[path]], WHOLE)[0]).save(file, "PNG")
        return file.getvalue()

    return [
        Original(path, (_row_name(path) + ".png",), None, lambda path=path: png(path), lambda path=path: images.digests[position[path]])  # type: ignore[misc]
        for path in paths
    ]


def _row_name(path: str) -> str:
    row = re.fullmatch(r"#(\d+)", path)
    return f"row_{int(row[1]):06d}" if row else re.sub(r"[^\w.-]", "_", path)


def _suffix(data: bytes) -> str:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as image:
            kind = str(image.format).lower()
    except UnidentifiedImageError:  # it was read at the fit, so by the one reader that Pillow has not built in
        return ".heic"
    return {"jpeg": ".jpg", "mpo": ".jpg"}.get(kind, f".{kind}")
