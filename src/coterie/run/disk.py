"""Files that outlast a power loss: what is in a file is on the disk before the file takes its name, and then the name is."""

import errno
import os
import secrets
from collections.abc import Callable
from pathlib import Path

_NOT_OFFERED = (errno.EINVAL, errno.ENOTSUP)  # what a file system says whose folders cannot be synced


def write(path: Path, content: bytes, keep_previous: bool = False) -> None:
    """`content` at `path`, atomically: a reader, or a crash, sees the old file or the new one, whole.

    keep_previous: the file that stood there stays as `<path>.previous`.
    """
    make_folder(path.parent)
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if keep_previous and path.exists():
        os.replace(path, path.with_name(path.name + ".previous"))
    os.replace(part, path)
    sync(path.parent)


def write_atomically(path: Path, fill: Callable[[Path], object], durable: bool = True) -> None:
    """Let `fill` write a new file beside `path`, then move it there: a reader sees the old file or the whole new one.

    durable: so does who looks after a power loss. That costs two waits for the disk a file, which is much where there are thousands.
    """
    make_folder(path.parent)
    new = path.parent / f".coterie-{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        fill(new)
        if durable:
            sync(new)
        os.replace(new, path)
        if durable:
            sync(path.parent)
    finally:
        new.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """`folder` and what is missing above it, each name on the disk."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in missing:
        sync(one.parent)


def sync(path: Path) -> None:
    """Waits until a file's content, or a folder's names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NOT_OFFERED:
            raise
    finally:
        os.close(handle)
