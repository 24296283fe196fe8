"""Pictures below an fsspec url, such as s3://bucket/photos, gs://..., file:///... or memory://...: the only file that knows fsspec.

What its file systems raise is of almost any class (their own, their clients', OSError); so around their calls, and only there, every
Exception means that the url, or an object below it, cannot be had.
"""

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from coterie.errors import InputError, words
from coterie.images import kinds
from coterie.images.decode import NotNow
from coterie.images.names import shown
from coterie.images.sources import Files, Item, Reader, Source

HERE, NEAR = "file", ("file", "memory")  # the protocol of this machine's files; those that answer at once
AT_ONCE = 32  # requests to any other, which spend their time waiting
STAMPS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "updated", "created")  # what file systems call that which changes


def is_url(name: str) -> bool:
    return re.match(r"[A-Za-z][\w+.-]*://", name) is not None


def below(url: str) -> Source:
    """Every picture below `url`, by the same rules as in a folder; names are relative to it. Credentials are those that the url's library
    finds by itself. InputError when it cannot be reached, is no folder, or holds no picture."""
    name = shown(url)
    files, root, listed = _listed(url, name)
    if root in listed:
        raise InputError(f"{name} is one file; name the folder that holds the pictures, or copy the file here and name that")
    there = {path[len(root) :].strip("/"): path for path in listed}
    named = {relative: kinds.by_name(relative) for relative in there}
    unknown = [relative for relative, kind in named.items() if kind == "unknown"]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        told = pool.map(lambda relative: _is_picture(files, there[relative]), unknown)
        inside = {relative for relative, picture in zip(unknown, told) if picture}
    pictures = sorted((relative for relative, kind in named.items() if kind == "picture" or relative in inside), key=shown)
    skipped = Counter(kind for kind in named.values() if kind in ("video", "raw"))
    if not pictures:
        raise InputError(f"{name} holds no pictures, or is not there; name a folder with pictures in it")
    items = [_item(relative, listed[there[relative]]) for relative in pictures]
    spoken, paths = [files.protocol] if isinstance(files.protocol, str) else files.protocol, [there[relative] for relative in pictures]
    reader: Reader = Files(paths) if HERE in spoken else Objects(files, paths)  # a file is read sooner without fsspec
    return Source(name, "url", items, reader, name.rstrip("/"), dict(skipped), 0 if set(spoken) & set(NEAR) else AT_ONCE)


class Objects:
    """Reads objects whole; positions as in `paths`."""

    def __init__(self, files: Any, paths: list[str]):
        self._files, self._paths = files, paths

    def __call__(self, i: int) -> bytes:
        try:
            return bytes(self._files.cat_file(self._paths[i]))
        except Exception as error:  # see above; another time it may be there
            raise NotNow(f"cannot be read ({words(error)})") from error


def _listed(url: str, name: str) -> tuple[Any, str, dict[str, dict[str, Any]]]:
    """The file system, the path of the url in it, and what it tells of each file below."""
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise InputError(f"{name} is a url; to read it: pip install coterie[cloud]") from None
    try:
        files, root = url_to_fs(url)
        return files, root.rstrip("/"), files.find(root, detail=True)
    except ImportError as error:
        raise InputError(f"{name} needs a library of its own ({words(error)}); s3:// is read by s3fs, gs:// by gcsfs") from error
    except ValueError as error:
        raise InputError(
            f"{name} is no url that can be read ({words(error)}); s3://, gs://, file:// and what else fsspec knows are"
        ) from error
    except Exception as error:  # see above
        raise InputError(f"{name} cannot be reached ({words(error)}); check its name and your credentials") from error


def _is_picture(files: Any, path: str) -> bool:
    try:
        return kinds.told_by(bytes(files.cat_file(path, end=kinds.HEAD)))
    except Exception:  # see above; as in a folder, a file without a telling name that cannot be opened is none
        return False


def _item(relative: str, info: dict[str, Any]) -> Item:
    size = info.get("size")
    stamp = next((str(info[name]) for name in STAMPS if info.get(name) is not None), "")
    return Item(shown(relative), size if isinstance(size, int) else -1, stamp)
