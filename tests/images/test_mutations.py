"""Archives, tables, arrays and lists with bits turned and pieces cut: each is read, in part or whole, or refused in one line."""

import csv
import warnings
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from coterie.errors import InputError
from coterie.evaluate.labels import labels_of
from coterie.images import open_images

TIMES = 200


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One small file of each kind, by its ending."""
    place = tmp_path_factory.mktemp("made")
    pictures = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    files = [place / f"{i}.png" for i in range(4)]
    for file, picture in zip(files, pictures):
        Image.fromarray(picture).save(file)
    with zipfile.ZipFile(place / "a.zip", "w") as archive:
        for i, file in enumerate(files):
            archive.write(file, f"kind/ä{i}.png", zipfile.ZIP_DEFLATED if i % 2 else zipfile.ZIP_STORED)
    rows = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
    pq.write_table(pa.table({"image": rows, "label": [0, 1, 0, 1]}), place / "a.parquet", row_group_size=2)
    np.savez(place / "a.npz", pictures=pictures, names=np.array(["a", None], object), labels=np.arange(4))
    np.save(place / "a.npy", pictures)
    (place / "a.txt").write_text("".join(f"{file}\n" for file in files))
    with open(place / "a.csv", "w", newline="") as out:
        csv.writer(out).writerows([("path", "label"), *((f"#{i}", f'kind {i % 2}, "x"') for i in range(4))])
    return place


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """`content` after one to three accidents: a bit turned, a byte changed, a cut, a piece doubled, zeroed or taken out."""
    for _ in range(int(rng.integers(1, 4))):
        at, length = int(rng.integers(len(content))), int(rng.integers(1, 40))
        how, piece, rest = int(rng.integers(6)), content[at : at + length], content[at + length :]
        if how < 2:
            byte = content[at] ^ (1 << int(rng.integers(8))) if how == 0 else int(rng.integers(256))
            content = content[:at] + bytes([byte]) + content[at + 1 :]
        else:
            content = content[:at] + (b"", piece * 2 + rest, bytes(len(piece)) + rest, rest)[how - 2]
        if not content:
            return b"\0"
    return content


@pytest.mark.parametrize("ending", ["zip", "parquet", "npz", "npy", "txt", "csv"])
def test_no_mutation_is_a_traceback(made, tmp_path, ending):
    rng = np.random.default_rng(len(ending) + ord(ending[0]))
    content, path = (made / f"a.{ending}").read_bytes(), tmp_path / f"a.{ending}"
    outcomes = {"read": 0, "refused": 0}
    for turn in range(TIMES):
        path.write_bytes(mutated(content, rng))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if ending == "csv":
                    labels_of({"kind": "array", "name": "a"}, [f"#{i}" for i in range(4)], str(path))
                else:
                    images = open_images(path, 8, tmp_path / f"cache{turn}")
                    assert len(images.ids_of_items) >= len(images) > 0
            outcomes["read"] += 1
        except InputError as error:
            assert f"a.{ending}" in str(error) and (ending == "txt" or "\n" not in str(error)), str(error)  # a name may hold a line break
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 5, f"the mutations are all of one kind: {outcomes}"
