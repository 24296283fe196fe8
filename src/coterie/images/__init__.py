"""Pictures in: the only room that reads picture files. Any source becomes `Images`, a uint8 store addressed by id.

The names are imported when they are first used, so that a decoding process (workers.py) starts without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coterie.images.collection import Batch, Images, Problem
    from coterie.images.names import real_path
    from coterie.images.opening import open_images
    from coterie.images.store import cache_entries, clear_cache, default_cache

__all__ = ["Batch", "Images", "Problem", "cache_entries", "clear_cache", "default_cache", "open_images", "real_path"]

_ROOMS = {"Batch": "collection", "Images": "collection", "Problem": "collection", "real_path": "names", "open_images": "opening"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS.get(name, 'store')}"), name)
