"""The ONNX file says what the run says, or is not written."""

import json
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from tests.report.fake_run import blobs, drawings, fake_run

from coterie import fitting
from coterie.clustering.rows import unit
from coterie.errors import InputError
from coterie.export import export
from coterie.networks.encoder import EncoderSpec, build
from coterie.networks.heads import Centroids, Heads, MlpHeads, UnitCentroids, UnitHeads
from coterie.networks.model import Model, load, recut
from coterie.run.devices import Devices
from coterie.run.edits import append

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra coterie[onnx] is not installed")
pytest.importorskip("onnxscript", reason="the extra coterie[onnx] is not installed")

LABELS = np.arange(24) % 4


def made(folder, encoder, size, n_features, kind=Heads, temperature=0.7):
    """A run whose model has random weights."""
    features, p = blobs(LABELS, 4, d=n_features)
    run = fake_run(folder / "run", [f"{i}.png" for i in range(24)], drawings(LABELS, 24), LABELS, p, features)
    torch.manual_seed(0)
    network, head = build(EncoderSpec(encoder, size)), kind(n_features, 4)
    if isinstance(head, UnitHeads):
        head.space.copy_(torch.arange(n_features) // (n_features // 2))
    if isinstance(head, Centroids):
        head.centroids.normal_(generator=torch.Generator().manual_seed(1))
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.5, 0.5), layer.running_var.uniform_(0.5, 2)
    Model(network.eval(), head, size, n_features, 4, temperature=temperature).save(run / "model.safetensors")
    return run


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A run with a network of its own whose clusters 1 and 3 a person merged, and its file."""
    folder = tmp_path_factory.mktemp("onnx")
    run = made(folder, "small", 32, build(EncoderSpec("small", 32)).n_features)
    append(run, {"act": "merge", "clusters": [1, 3], "into": 3})
    append(run, {"act": "rename", "cluster": 3, "name": "both"})
    export(run, "onnx", folder / "model.onnx")
    return run, folder / "model.onnx"


@pytest.mark.parametrize("n", [1, 2, 7])
def test_it_says_what_the_run_says(exported, n):
    run, file = exported
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    assert given.name == "pixels" and given.shape[1:] == [3, 32, 32] and isinstance(given.shape[0], str)
    pixels = np.stack(drawings(LABELS[:n], 32, seed=n)).transpose(0, 3, 1, 2).astype(np.float32) / 255
    p, features = session.run(["probabilities", "features"], {"pixels": pixels})
    model = load(run, Devices("cpu", "fp32", 1))
    with torch.no_grad():
        wanted_z = model.encoder(torch.from_numpy(pixels))
        p_NK = model.probabilities(wanted_z).numpy()
    np.testing.assert_allclose(p, np.stack([p_NK[:, 0], p_NK[:, 2], p_NK[:, 1] + p_NK[:, 3]], 1), atol=1e-4)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(features, wanted_z.numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("encoder, temperature", [("vit_tiny_patch16_224", 0.7), ("small+lite0", 0.02)])
def test_networks_of_others_say_what_predict_says(encoder, temperature, tmp_path):
    """A transformer; two networks side by side, of which predict folds the normalisations of one."""
    run = made(tmp_path, encoder, 32, build(EncoderSpec(encoder, 32)).n_features, temperature=temperature)
    np.save(tmp_path / "new.npy", np.stack(drawings(LABELS[:6], 32, seed=5)))
    _, z_MD, p_MK = fitting.predict(run, tmp_path / "new.npy", Devices("cpu", "fp32", 1), tmp_path / "cache")
    export(run, "onnx", tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    pixels = np.load(tmp_path / "new.npy").transpose(0, 3, 1, 2).astype(np.float32) / 255
    p, features = session.run(["probabilities", "features"], {"pixels": pixels})
    np.testing.assert_allclose(p, p_MK.numpy(), atol=1e-4)
    assert np.ptp(p, axis=0).max() > 20e-4, "a head that says the same of all would prove nothing"
    np.testing.assert_allclose(unit(torch.from_numpy(features)).numpy(), unit(z_MD).numpy(), atol=1e-4)


def test_it_tells_how_pictures_are_made_ready(exported):
    told = onnxruntime.InferenceSession(str(exported[1]), providers=["CPUExecutionProvider"]).get_modelmeta().custom_metadata_map
    assert json.loads(told["classes"]) == ["cluster_00", "cluster_02", "both"] and json.loads(told["clusters"]) == [0, 2, 3]
    assert "32 x 32 px" in told["preprocessing"] and "RGB" in told["preprocessing"] and told["encoder"] == "small"


def test_the_same_run_gives_the_same_file_and_nothing_is_overwritten(exported, tmp_path):
    run, file = exported
    before = file.read_bytes()
    export(run, "onnx", file)
    assert file.read_bytes() == before
    with pytest.raises(InputError, match="differs"):
        export(run, "onnx", file, edits=False)
    assert file.read_bytes() == before
    with pytest.raises(InputError, match="is a folder"):
        export(run, "onnx", tmp_path)


@pytest.mark.parametrize("kind", [Heads, UnitHeads, MlpHeads, Centroids, UnitCentroids])
def test_every_head(tmp_path, kind):
    run = made(tmp_path, "precomputed", 1, 16, kind)
    export(run, "onnx", tmp_path / "heads.onnx")
    _says_the_same(run, tmp_path / "heads.onnx")


def _says_the_same(run, file):
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    rows = np.random.default_rng(1).normal(size=(50, 16)).astype(np.float32)
    p = session.run(["probabilities"], {"rows": rows})[0]
    wanted = load(run, Devices("cpu", "fp32", 1)).probabilities(torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(p, wanted, atol=1e-4)
    assert np.ptp(wanted, axis=0).max() > 0.01, "a head that says the same of all would prove nothing"


def test_a_recut_run_on_features(tmp_path):
    run = made(tmp_path, "precomputed", 1, 16)
    layer = {"of": torch.tensor([0, 1, 2, 3, 3]), "into": torch.tensor([0, 0, 1, 2, 3]), "which": torch.tensor([3, 4])}
    layer |= {"weight": torch.randn(2, 16, generator=torch.Generator().manual_seed(0)), "bias": torch.zeros(2)}
    recut(run / "model.safetensors", tmp_path / "new", layer, 4)
    (tmp_path / "new").rename(run / "model.safetensors")
    export(run, "onnx", tmp_path / "heads.onnx")
    _says_the_same(run, tmp_path / "heads.onnx")


def test_a_file_that_would_lie_is_not_written(tmp_path, monkeypatch):
    """A weight that is a little off in the file, as of an operation that the exporter gets wrong."""
    from coterie.export import onnx

    build_it = onnx._built

    def off(*words):
        model = build_it(*words)
        weights = next(one for one in model.graph.initializer if len(one.dims) == 3)
        weights.raw_data = (np.frombuffer(weights.raw_data, np.float32) * np.float32(1.01)).tobytes()
        return model

    monkeypatch.setattr(onnx, "_built", off)
    run = made(tmp_path, "precomputed", 1, 16)
    with pytest.raises(InputError, match="differs from the run's"):
        export(run, "onnx", tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists() and not list(tmp_path.glob(".coterie-*"))


@pytest.mark.parametrize("name", ["onnx", "onnxruntime", "onnxscript"])
def test_what_is_missing_is_named(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r"pip install 'coterie\[onnx\]'"):
        export(made(tmp_path, "precomputed", 1, 16), "onnx", tmp_path / "model.onnx")


@pytest.mark.parametrize("suffix, size, most", [(".png", (48, 36), 1 / 255), (".jpg", (400, 300), 3 / 255)])
def test_the_recipe_of_the_docs_makes_what_coterie_sees(tmp_path, suffix, size, most):
    from PIL import Image, ImageOps

    from coterie.images import open_images

    soft = Image.fromarray(np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    (tmp_path / "photos").mkdir()
    soft.save(tmp_path / "photos" / f"x{suffix}")
    images = open_images(tmp_path / "photos", 32, tmp_path / "cache")
    seen = next(iter(images.batches(1))).pixels_B3HW.numpy()
    image = ImageOps.exif_transpose(Image.open(tmp_path / "photos" / f"x{suffix}")).convert("RGB")
    made = np.asarray(ImageOps.fit(image, (32, 32), Image.Resampling.BICUBIC), np.float32).transpose(2, 0, 1)[None] / 255
    assert np.abs(seen - made).mean() <= most and np.abs(seen - made[..., ::-1]).mean() > 10 * most


def test_predict_sorts_by_the_file_without_torch(exported, tmp_path):
    """Every picture of the run goes where `predict RUN` sends it, merged clusters counted as one; broken ones are set aside."""
    run, file = exported
    rng = np.random.default_rng(3)
    folder = tmp_path / "new"
    folder.mkdir()
    for i in range(70):
        Image.fromarray(rng.integers(0, 256, (40 + i, 50, 3), np.uint8)).save(folder / f"{i:02d}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    Image.fromarray(rng.integers(0, 65536, (40, 40), np.uint16)).save(folder / "deep.png")
    script = (
        "import sys; from coterie.cli import main; sys.argv[1:] = sys.argv[1:]\n"
        "try: main()\nexcept SystemExit as end: assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    out = tmp_path / "out.parquet"
    done = subprocess.run(
        [sys.executable, "-c", script, "predict", file, folder, "-o", out, "--json"], check=True, capture_output=True, text=True
    )
    assert json.loads(done.stdout) | {"output": "", "model": ""} == {"model": "", "output": "", "n_images": 70, "n_problems": 2}
    assert "more than 8 bits" in done.stderr and "broken.png" in done.stderr
    found = pq.read_table(out).to_pydict()
    (folder / "deep.png").unlink()
    images, _, p_NK = fitting.predict(run, str(folder), Devices("cpu", "fp32"), tmp_path / "cache")
    assert found["path"] == images.paths and found["id"] == list(range(70))
    merged = torch.stack([p_NK[:, 0], p_NK[:, 2], p_NK[:, 1] + p_NK[:, 3]], 1)
    np.testing.assert_allclose(np.array(found["p"]), merged.numpy(), atol=1e-4)
    assert found["cluster"] == [(0, 2, 3)[i] for i in merged.argmax(1).tolist()]
    np.testing.assert_allclose(found["confidence"], merged.max(1).values.numpy(), atol=1e-4)


def test_predict_refuses_what_is_no_exported_model(exported, tmp_path):
    from coterie.fitting.exported import Exported

    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(InputError, match="cannot be read by onnxruntime"):
        Exported(tmp_path / "text.onnx")
    with pytest.raises(InputError, match="is no file"):
        Exported(tmp_path / "none.onnx")
    with pytest.raises(InputError, match="holds no pictures"):
        Exported(exported[1]).predict(str(tmp_path))
