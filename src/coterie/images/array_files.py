"""The array of pictures in an .npy or .npz file, whatever else is in it. Never unpickles."""

import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from coterie.errors import InputError, words

_NAMES = ("images", "x", "train_images", "x_train", "data", "arr_0")


class Header(NamedTuple):
    """What the header of an array says."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def load_array(path: Path, name: str) -> np.ndarray:
    """The array of an .npy file, mapped, or the one of an .npz that holds images. InputError when there is none that is whole.

    numpy raises almost any class on hostile bytes (MemoryError for a header that promises too much, TypeError for a shape of True); so
    around its calls, and only there, every Exception means that the file is broken.
    """
    plain = path.suffix.lower() == ".npy"
    try:
        opened = np.load(path, mmap_mode="c" if plain else None, allow_pickle=False)
    except OSError as error:
        raise InputError(f"{name} cannot be read ({words(error)}); check its permissions, or save it again with numpy.save") from error
    except Exception as error:  # see above
        raise _broken(name, error) from error
    if isinstance(opened, np.ndarray):
        return opened
    with opened:
        key = _image_key(_headers(opened, name), name)
        try:
            return opened[key]
        except Exception as error:  # see above
            raise _broken(f"{name}: {key}", error) from error


def _headers(opened: Any, name: str) -> dict[str, Header | None]:
    """Of each member its header, read without the array; None for one that is no array, or is broken."""
    found: dict[str, Header | None] = {}
    for key in opened.files:
        try:
            with _member(opened.zip, key) as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(file)
            found[key] = Header(shape, dtype)
        except Exception:  # as load_array says; one that is chosen although it is broken is read whole, and named
            found[key] = None
    return found


def _member(archive: zipfile.ZipFile, key: str) -> Any:
    return archive.open(f"{key}.npy" if f"{key}.npy" in archive.namelist() else key)


def _image_key(headers: dict[str, Header | None], name: str) -> str:
    """The array that holds images: by its name, or as the only one of their shape."""
    alike = [key for key, header in headers.items() if header and len(header.shape) in (3, 4) and not header.dtype.hasobject]
    by_name = {key.lower(): key for key in alike}
    if known := [by_name[key] for key in _NAMES if key in by_name]:
        return known[0]
    if len(alike) == 1:
        return alike[0]
    if len(headers) == 1 or (named := [key for key in headers if key.lower() in _NAMES and not alike]):
        key = next(iter(headers)) if len(headers) == 1 else named[0]
        if header := headers[key]:
            if header.dtype.hasobject:
                raise InputError(
                    f"{name} holds Python objects in {key}, which are never unpickled; save the pictures as one array of uint8"
                )
            return key  # of another shape: whoever takes it says which shape pictures have
        raise InputError(f"{name}: {key} is not a whole array of plain numbers; save it again with numpy.savez")
    raise InputError(f"{name} holds {', '.join(headers) or 'nothing'}; save its images as `images`, of shape (N, H, W) or (N, H, W, 3)")


def _broken(name: str, error: Exception) -> InputError:
    return InputError(f"{name} is not a whole array file of plain numbers ({words(error)}); save it again with numpy.save")
