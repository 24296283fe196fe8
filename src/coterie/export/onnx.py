"""Encoder and head of a run as one ONNX file, compared with what they compute here before it is left on the disk.

Merges and names that a person gave are in it. Clusters that came from a split, and single pictures that were moved, are not: the network
knows the clusters that were fitted, and `coterie refine` is what teaches it others. The one file of this room that knows torch.
"""

import io
import json
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coterie import __version__
from coterie.errors import InputError, words
from coterie.export.pictures import Exported, write_once
from coterie.export.result import Result
from coterie.networks.model import Model, load
from coterie.run.devices import Devices
from coterie.run.files import read_json, read_tensors

TOLERANCE = 1e-4  # of probabilities, and of the parts of unit features
PROBED = (1, 3)  # pictures at once, so that the number of them is seen to be free
MOST_PIXELS = 100_000_000  # of runs before there was a setting for it
PREPROCESSING = (
    "RGB, upright by its EXIF orientation; the largest centre square, resized to {size} x {size} px (bicubic, antialiased), "
    "as float32 in 0..1 (value / 255), channels first. The colours are standardised inside."
)


class Whole(nn.Module):
    """Pixels (B, 3, S, S) in 0..1, or features (B, D) of a run that was fitted on such -> probabilities (B, J), features (B, D).

    into_K: the output that each cluster of the method is counted in.
    """

    into_KJ: Tensor

    def __init__(self, model: Model, into_K: list[int]):
        super().__init__()
        self.encoder, self.head, self.temperature = model.encoder, model.head, model.temperature
        self.register_buffer("into_KJ", torch.eye(max(into_K) + 1)[torch.tensor(into_K)])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z_BD = self.encoder(x).float()
        p_BK = (self.head(z_BD)[0].float() / self.temperature).softmax(1)
        return p_BK @ self.into_KJ, z_BD


def write_onnx(result: Result, dest: Path) -> Exported:
    """Writes the file. Input: `pixels` (B, 3, S, S), or `rows` (B, D) of features; outputs: `probabilities` (B, J), `features` (B, D).

    InputError without the packages of the extra, or when the file would not say what the run says: nothing is written then.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  (torch's exporter wants it)
    except ImportError as error:
        raise InputError(f"--to onnx wants the package {error.name}: pip install 'coterie[onnx]'") from None
    if dest.is_dir():
        raise InputError(f"{dest} is a folder; name a file, such as {dest / 'model.onnx'}")
    model = load(result.run, Devices("cpu", "fp32", None))
    clusters, into_K = merged(result)
    whole = Whole(model, into_K).eval()
    probes = [_probe(result.run, model, n) for n in PROBED]
    built = _built(whole, probes[-1], "rows" if model.precomputed else "pixels")
    onnx.helper.set_model_props(built, _told(result, model, clusters))
    content = built.SerializeToString()
    try:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        off = max(_difference(whole, session, probe) for probe in probes)
    except Exception as error:  # onnxruntime has a dozen classes for what it cannot load or run, and no name for all of them
        raise InputError(f"this encoder cannot be written as ONNX, onnxruntime does not run it: {words(error)}") from error
    if not off <= TOLERANCE:
        raise InputError(f"the ONNX model differs from the run's by {off:.2g}, more than {TOLERANCE:g}: it is not written")
    write_once(dest, content)
    return Exported(len(result.table), [])


def merged(result: Result) -> tuple[list[int], list[int]]:
    """The clusters of the outputs, ascending, and of each cluster of the method the output it is counted in, after a person's merges."""
    now = list(range(result.k))
    for act in result.edits.applied if result.edits else []:
        if act["act"] == "merge":
            now = [act["into"] if cluster in act["clusters"] else cluster for cluster in now]
    clusters = sorted(set(now))
    return clusters, [clusters.index(cluster) for cluster in now]


def _built(whole: nn.Module, example: Tensor, name: str) -> Any:
    """torch's own exporter, with a free number of pictures; what it prints is kept from the terminal."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            made = torch.onnx.export(
                whole, (example,), dynamo=True, external_data=False, verbose=False, input_names=[name],
                output_names=["probabilities", "features"], dynamic_shapes=({0: torch.export.Dim("batch")},),
            )  # fmt: skip
        except torch.onnx.OnnxExporterError as error:  # an operation of an encoder that ONNX does not know
            raise InputError(f"this encoder cannot be written as ONNX: {words(error)}") from error
    assert made is not None
    return made.model_proto


def _told(result: Result, model: Model, clusters: list[int]) -> dict[str, str]:
    """What a reader of the file must know; texts, as ONNX has it."""
    made = read_json(result.run / "config.json", method=str, settings=dict, source=dict)
    given = result.edits.names if result.edits else {}
    told: dict[str, Any] = {
        "coterie": __version__, "method": made["method"], "encoder": made["settings"]["encoder"],
        "classes": json.dumps([result.names.get(cluster, given.get(cluster, f"cluster_{cluster:02d}")) for cluster in clusters]),
        "clusters": json.dumps(clusters),
        "not_kinds": json.dumps(sorted(result.edits.not_kinds & set(clusters)) if result.edits else []),
        "preprocessing": "features as the run was fitted on" if model.precomputed else PREPROCESSING.format(size=model.image_size),
        "image_size": str(model.image_size), "precomputed": json.dumps(model.precomputed),
        "levels": json.dumps(made["source"].get("levels") or {}), "max_pixels": json.dumps(made["settings"].get("max_pixels", MOST_PIXELS)),
    }  # fmt: skip
    return told


def _probe(run: Path, model: Model, n: int) -> Tensor:
    """n inputs to compare with: features of the run, or soft patches of colour under noise, which reach every part of a network."""
    rng = np.random.default_rng(n)
    if model.precomputed:
        rows = read_tensors(run / "features.safetensors", "features")["features"]
        return torch.from_numpy(rows[rng.integers(0, len(rows), n)].astype(np.float32))
    size = model.image_size
    smooth = F.interpolate(torch.from_numpy(rng.random((n, 3, 8, 8), np.float32)), (size, size), mode="bilinear")
    return (0.8 * smooth + 0.2 * torch.from_numpy(rng.random((n, 3, size, size), np.float32))).clamp(0, 1)


@torch.no_grad()
def _difference(whole: nn.Module, session: Any, x: Tensor) -> float:
    """The largest difference of a probability, and of a part of the unit features."""
    wanted = [out.numpy() for out in whole(x)]
    found = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    wanted[1], found[1] = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in (wanted[1], found[1]))
    if any(one.shape != other.shape for one, other in zip(wanted, found)):
        return float("inf")
    return max(float(np.abs(one - other).max()) for one, other in zip(wanted, found))
