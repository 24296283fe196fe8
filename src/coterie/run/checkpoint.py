"""State on disk: one safetensors file holds a nested state, with a checksum; written whole or not at all, never a pickle.

A state is any nesting of dicts, lists, tensors, numbers, strings and None (so every `state_dict()`).
The nesting travels as JSON in the file's header; dict keys keep their type (optimizers use integers).
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from coterie.errors import InputError
from coterie.run.disk import write

FORMAT = "1"
SPENT = "seconds.txt"
_RESTORE = "restore it from a copy, or fit again into a new folder"


class Damaged(InputError):
    """A file that is not what was written."""


def save(path: Path, state: Any, keep_previous: bool = True) -> None:
    """Writes `state` to `path`. The file that stood there stays as `<path>.previous` until, and after, the new one is whole."""
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(_flatten(state, tensors))
    write(path, to_bytes(tensors, {"format": FORMAT, "tree": tree, "checksum": _checksum(tensors, tree)}), keep_previous)


def spent(work: Path) -> float:
    """Seconds that earlier parts of a fit took, as `keep_spent` wrote them; 0 where it did not, or where the file is damaged: nothing but
    the time that is told rests on it."""
    try:
        return float((work / SPENT).read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return 0.0


def keep_spent(work: Path, seconds: float) -> None:
    write(work / SPENT, f"{seconds:.2f}\n".encode())


def load(path: Path) -> Any:
    """The state saved at `path`, tensors on the CPU. InputError naming the file when it is damaged, FileNotFoundError when absent."""
    if not path.exists():
        raise FileNotFoundError(path)
    if not path.is_file():  # a pipe would be waited for without end, whatever signal comes
        raise Damaged(f"{path.name} is a pipe or a device, not a file; {_RESTORE}")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise Damaged(f"{path.name} is damaged ({error}); {_RESTORE}") from error
    if header.get("format") != FORMAT:
        raise InputError(f"{path.name} has format {header.get('format')!r}; this version of coterie reads format {FORMAT!r}")
    if header.get("checksum") != _checksum(tensors, header.get("tree", "")):
        raise Damaged(f"{path.name} is damaged (its checksum differs); {_RESTORE}")
    return _unflatten(json.loads(header["tree"]), tensors)


def glance(path: Path, name: str) -> Any:
    """The entry `name`, one without tensors, of the state saved at `path`, from the header alone: quick however large the file is, and
    nothing is compared. None where it is not there, or cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            tree = json.loads((file.metadata() or {})["tree"])
        return _unflatten(dict(map(tuple, tree["dict"]))[name], {})
    except (SafetensorError, OSError, LookupError, TypeError, ValueError):
        return None


def load_latest(path: Path) -> Any | None:
    """The newest undamaged state of `path` and `<path>.previous`; None when there is none of either. Raises Damaged when none is whole."""
    lost = None
    for candidate in (path, path.with_name(path.name + ".previous")):
        try:
            return load(candidate)
        except FileNotFoundError:
            continue
        except Damaged as error:
            lost = error
    if lost is not None:
        raise lost
    return None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One writer at a time: holds the folder while inside, lets go when the process dies. Raises InputError when another holds it."""
    try:
        import fcntl
    except ImportError:  # Windows has no flock; there the second writer is not kept out
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise InputError(f"another process is writing {folder}; wait for it, or choose another folder") from None
    try:
        yield
    finally:
        os.close(handle)


def fingerprint(*values: Any) -> str:
    """32 hex digits that change when any tensor, module (its weights), number or string in `values` changes."""
    tensors: dict[str, Tensor] = {}
    plain = [value.state_dict() if hasattr(value, "state_dict") else getattr(value, "fingerprint", value) for value in values]
    return _checksum(tensors, json.dumps(_flatten(plain, tensors)))[:32]


def _flatten(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        key = f"{len(tensors):05d}"
        # Dense and of its own storage: safetensors stores neither strides nor shared memory.
        tensors[key] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": key}
    if isinstance(value, dict):
        return {"dict": [[key, _flatten(item, tensors)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        return {"list": [_flatten(item, tensors) for item in value]}
    assert value is None or isinstance(value, (bool, int, float, str)), f"{type(value)} has no place in a checkpoint"
    return value


def _unflatten(tree: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(tree, dict):
        return tree
    ((kind, content),) = tree.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _unflatten(item, tensors) for key, item in content}
    return [_unflatten(item, tensors) for item in content]


def _checksum(tensors: dict[str, Tensor], tree: str) -> str:
    digest = hashlib.sha256(tree.encode())
    for key in sorted(tensors):
        tensor = tensors[key]
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()
