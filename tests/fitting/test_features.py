import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from coterie.errors import InputError
from coterie.fitting.features import check_name, features, write
from coterie.networks.encoder import EncoderSpec, build
from coterie.networks.heads import Heads
from coterie.networks.model import Model
from coterie.run.devices import Devices

DEVICES = Devices("cpu", "fp32", 1)


@pytest.fixture
def made(tmp_path, drawn):
    Model(build(EncoderSpec("small", 16)), Heads(128, 3), 16, 128, 3).save(tmp_path / "model.safetensors")
    return features(drawn(9, 16), weights=tmp_path, image_size=16, devices=DEVICES, cache=tmp_path / "cache")


@pytest.mark.parametrize("ending", [".npy", ".safetensors", ".parquet"])
def test_rows_with_their_ids_and_paths(made, tmp_path, ending):
    write(made, tmp_path / f"features{ending}")
    if ending == ".parquet":
        table = pq.read_table(tmp_path / "features.parquet")
        rows, ids, paths = np.stack(table["features"].to_numpy()), table["id"].to_pylist(), table["path"].to_pylist()
    else:
        read = {".npy": lambda path: np.load(path, allow_pickle=False), ".safetensors": lambda path: load_file(path)["features"]}[ending]
        rows = read(tmp_path / f"features{ending}")
        lines = [line.split(",") for line in (tmp_path / "features.csv").read_text().splitlines()[1:]]
        ids, paths = [int(line[0]) for line in lines], [line[1].strip('"') for line in lines]
    np.testing.assert_array_equal(rows, made.features_ND)
    assert ids == list(range(9)) and paths == made.paths == [f"#{i}" for i in range(9)] and made.encoder == "small"


def test_the_weights_of_a_run_see_pictures_at_their_own_size(made, tmp_path, drawn):
    plain = features(drawn(9, 16), weights=tmp_path, devices=DEVICES, cache=tmp_path / "other")
    np.testing.assert_array_equal(plain.features_ND, made.features_ND)
    larger = features(drawn(9, 16), weights=tmp_path, image_size=24, devices=DEVICES, cache=tmp_path / "other")
    assert abs(larger.features_ND - made.features_ND).max() > 1e-4


def test_an_untrained_encoder_is_refused(drawn):
    with pytest.raises(InputError, match="untrained"):
        features(drawn(4, 16), "small", image_size=16, devices=DEVICES)


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"\.npy, \.parquet, \.safetensors"):
        check_name(tmp_path / "features.txt")
