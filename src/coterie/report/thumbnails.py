"""Small encoded pictures, packed into the tensors of pictures.safetensors and out again, and the attention maps of some of them.

Those that tell most (choice.py) are kept larger, all others small. M pictures, P maps of h x w places. Every picture is encoded from bare
pixels, so no metadata of the original (place, camera, author) gets in.
"""

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from coterie.run.machine import cores

BUDGET = 2_700_000  # bytes of all pictures together; base64 makes it 3.6 MB, which leaves room in a page of 5 MB
TINY = 32  # pixels of the longer side up to which a picture is kept without loss and shown with visible pixels
LADDER = ((192, 80), (176, 76), (160, 74), (144, 70), (128, 66), (112, 60), (96, 52), (80, 44), (64, 36))  # longest side, WebP quality
SMALL = ((128, 56), (112, 52), (96, 48), (80, 42), (64, 36))  # the same of the others
EACH, MANY, LEAST = 2_200, 22_000_000, 800  # bytes of each of the others, of all while they are 10,000, and of each however many there are
PROBE = 48  # pictures that are encoded to guess which rung fits
OTHERS = (SMALL, EACH, MANY, LEAST, PROBE)  # what the small ones follow from, besides the pictures
OVERLAY = 32  # pixels on a side of a map laid over a picture; the browser draws it larger, and soft
HEAT, OPAQUE = (255, 84, 0), 0.72  # its colour, and the most that it hides
KINDS = ((b"\xff\xd8\xff", "image/jpeg"), (b"\x89PNG\r\n\x1a\n", "image/png"), (b"RIFF", "image/webp"))


@dataclass(frozen=True)
class Picture:
    """One encoded picture: its bytes, their media type, and its width and height in pixels."""

    data: bytes
    mime: str
    width: int
    height: int

    @property
    def tiny(self) -> bool:
        return max(self.width, self.height) <= TINY


def pack(ids: Sequence[int], arrays: Sequence[np.ndarray], budget: int = BUDGET) -> dict[str, np.ndarray]:
    """Encode pictures as small as `budget` (bytes, all together) asks.

    ids: M different integers, in any order; arrays: uint8 (h, w, 3), any sizes. Pictures of at most 32 pixels stay lossless, larger ones
    become WebP of at most 192 pixels, step by step smaller and coarser until they fit; the last step is taken whether it fits or not.
    Returns `id` int64 (M,) ascending, `offset` int64 (M + 1,) and `jpeg` uint8 (bytes,): picture i is jpeg[offset[i]:offset[i + 1]].
    ValueError when ids repeat or an array is no picture.
    """
    if len(ids) != len(arrays) or len(set(ids)) != len(ids):
        raise ValueError(f"ids must be different, one per array; got {len(ids)} ids for {len(arrays)} arrays")
    for array in arrays:
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
            raise ValueError(f"a picture must be uint8 (h, w, 3), got {array.dtype} {array.shape}")
    order = np.argsort(np.asarray(ids, np.int64))
    encoded = _fit([arrays[i] for i in order], budget)
    return {
        "id": np.asarray(ids, np.int64)[order],
        "offset": np.cumsum([0, *map(len, encoded)], dtype=np.int64),
        "jpeg": np.frombuffer(b"".join(encoded), np.uint8),
    }


def pack_others(ids: Sequence[int], picture: Callable[[int], np.ndarray]) -> dict[str, np.ndarray]:
    """As `pack`, of pictures that are made one by one, for there may be many: `others_id`, `others_offset`, `others_jpeg`.

    picture: id -> uint8 (h, w, 3). About 2.2 kB each, 22 MB of 10,000 and more, down to 0.8 kB each; pictures of at most 32 pixels stay
    lossless where that is no more. Nothing where `ids` is empty.
    """
    if not ids:
        return {}
    each = min(EACH, max(LEAST, MANY // len(ids)))
    probe = [picture(i) for i in ids[:: max(1, len(ids) // PROBE)]]
    rungs = [(*SMALL[0], True), *((side, quality, False) for side, quality in SMALL)]
    rung = next((rung for rung in rungs if sum(len(_encode(a, *rung)) for a in probe) <= each * len(probe)), rungs[-1])
    with ThreadPoolExecutor(cores()) as pool:
        encoded = list(pool.map(lambda i: _encode(picture(i), *rung), ids))
    offset, data = np.cumsum([0, *map(len, encoded)], dtype=np.int64), np.frombuffer(bytearray().join(encoded), np.uint8)
    return {"others_id": np.asarray(ids, np.int64), "others_offset": offset, "others_jpeg": data}


def others_of(packed: dict[str, np.ndarray], ids: Sequence[int]) -> dict[str, np.ndarray]:
    """`pack_others` of these `ids`, ascending, out of what it made of more. ValueError when one is not among them."""
    of, offset, data = packed["others_id"], packed["others_offset"], packed["others_jpeg"]
    at = np.searchsorted(of, ids)
    if len(ids) and (at[-1] == len(of) or not np.array_equal(of[at], ids)):
        raise ValueError("ids of which no small picture was made")
    kept = np.concatenate([data[offset[i] : offset[i + 1]] for i in at])
    return {"others_id": of[at], "others_offset": np.cumsum([0, *(offset[at + 1] - offset[at])], dtype=np.int64), "others_jpeg": kept}


def unpack_others(tensors: dict[str, np.ndarray]) -> dict[int, Picture]:
    """The small pictures by id; none in runs of versions that kept none. ValueError as `unpack`."""
    names = {name: f"others_{name}" for name in ("id", "offset", "jpeg")}
    if not any(name in tensors for name in names.values()):
        return {}
    return unpack({name: tensors[kept] for name, kept in names.items()})


def unpack(tensors: dict[str, np.ndarray]) -> dict[int, Picture]:
    """The pictures by id. ValueError when the tensors do not fit together or hold anything but JPEG, PNG or WebP."""
    ids, offset, data = tensors["id"], tensors["offset"], tensors["jpeg"].tobytes()
    if len(offset) != len(ids) + 1 or offset[0] != 0 or offset[-1] != len(data) or np.any(np.diff(offset) <= 0):
        raise ValueError("offsets and bytes do not fit together")
    return {int(i): _picture(data[start:end]) for i, start, end in zip(ids, offset[:-1].tolist(), offset[1:].tolist())}


def pixels(picture: Picture, side: int) -> np.ndarray:
    """The picture decoded, uint8 (h, w, 3), its longest side at most `side`. ValueError when it is damaged."""
    try:
        with Image.open(io.BytesIO(picture.data)) as image:
            small = image.convert("RGB")
    except OSError as error:
        raise ValueError(f"a picture is damaged: {error}") from error
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.asarray(small)


def shrunk(picture: Picture, side: int, quality: int = 60) -> Picture:
    """The picture encoded anew, its longest side at most `side`. ValueError when it is damaged."""
    return _picture(_encode(pixels(picture, side), side, quality, lossless=False))


def pack_maps(ids: Sequence[int], maps_Phw: np.ndarray) -> dict[str, np.ndarray]:
    """Attention maps, uint8 (P, h, w) of 0 (least like the centroid) to 255 (most), as `attention`, and `attention_id` int64 (P,)."""
    return {"attention_id": np.asarray(ids, np.int64), "attention": maps_Phw}


def unpack_maps(tensors: dict[str, np.ndarray]) -> dict[int, np.ndarray]:
    """The maps, uint8 (h, w), by id; none where a run keeps none. ValueError when the tensors do not fit together."""
    if "attention" not in tensors:
        return {}
    ids, maps_Phw = tensors.get("attention_id", np.zeros(0)), tensors["attention"]
    if maps_Phw.ndim != 3 or maps_Phw.dtype != np.uint8 or 0 in maps_Phw.shape[1:] or ids.shape != maps_Phw.shape[:1]:
        raise ValueError("attention maps and their ids do not fit together")
    return dict(zip(ids.tolist(), maps_Phw))


def pack_rounds(maps_RPhw: np.ndarray) -> dict[str, np.ndarray]:
    """The maps of the same pictures after each round, uint8 (R, P, h, w), as `attention_rounds`."""
    return {"attention_rounds": maps_RPhw}


def unpack_rounds(tensors: dict[str, np.ndarray]) -> dict[int, np.ndarray]:
    """The maps of all rounds, uint8 (R, h, w), by id; none where a run keeps none. ValueError when the tensors do not fit together."""
    if "attention_rounds" not in tensors:
        return {}
    ids, maps_RPhw = tensors.get("attention_id", np.zeros(0)), tensors["attention_rounds"]
    if maps_RPhw.ndim != 4 or maps_RPhw.dtype != np.uint8 or 0 in maps_RPhw.shape or ids.shape != maps_RPhw.shape[1:2]:
        raise ValueError("attention maps of the rounds and their ids do not fit together")
    return dict(zip(ids.tolist(), maps_RPhw.swapaxes(0, 1)))


def overlay(map_hw: np.ndarray) -> Picture:
    """A map to lay over its picture: clear where it is 0, the heat colour where it is 255, with soft changes between the places."""
    strength = Image.fromarray(map_hw).resize((OVERLAY, OVERLAY), Image.Resampling.BILINEAR)
    image = Image.new("RGBA", strength.size, (*HEAT, 0))
    image.putalpha(strength.point(lambda value: round(value * OPAQUE)))
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return Picture(file.getvalue(), "image/png", OVERLAY, OVERLAY)


def _fit(arrays: list[np.ndarray], budget: int) -> list[bytes]:
    probe = arrays[:: max(1, len(arrays) // PROBE)]
    for rung, (side, quality) in enumerate(LADDER):
        last = rung == len(LADDER) - 1
        lossless = rung < len(LADDER) // 2  # tiny pictures give way only when nothing else is left to squeeze
        guess = sum(len(_encode(a, side, quality, lossless)) for a in probe) * len(arrays) / max(1, len(probe))
        if guess > 1.05 * budget and not last:
            continue
        encoded = [_encode(a, side, quality, lossless) for a in arrays]
        if last or sum(map(len, encoded)) <= budget:
            return encoded
    raise AssertionError("the last rung returns")


def _encode(array: np.ndarray, side: int, quality: int, lossless: bool) -> bytes:
    image = Image.fromarray(array)
    file = io.BytesIO()
    if max(image.size) <= TINY and lossless:
        image.save(file, "WEBP", lossless=True, quality=100)
    else:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        image.save(file, "WEBP", quality=quality, method=2)  # 4, as by default, takes half as long again and saves 3 % of the bytes
    return file.getvalue()


def _picture(data: bytes) -> Picture:
    mime = next((mime for start, mime in KINDS if data.startswith(start)), None)
    if mime is None:
        raise ValueError("a picture is neither JPEG nor PNG nor WebP")
    try:
        with Image.open(io.BytesIO(data)) as image:  # reads the header only
            return Picture(data, mime, *image.size)
    except (OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"a picture is damaged: {error}") from error
