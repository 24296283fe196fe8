"""What a fit returns, and how it is written: one row per image, and the files of a run folder that people and reports read."""

import csv
import io
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
import torch.nn.functional as F
from safetensors.numpy import save as numpy_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from coterie.clustering.kmeans import kmeans
from coterie.clustering.sampling import sample
from coterie.export.tables import rows, write_table
from coterie.fitting.small import encoded, small
from coterie.images import Images, items
from coterie.images.kinds import WAY_OUT
from coterie.learning.evidence import axes, seen
from coterie.networks.attention import attention_maps
from coterie.networks.model import Model
from coterie.run import Run, checkpoint, machine, manifest, seeding
from coterie.run.files import STABILITY
from coterie.run.lines import check_table_name as check_table_name
from coterie.run.manifest import TABLE as TABLE

THUMBNAIL = 192  # px, longest side of the pictures kept for the report
BASELINE_RESTARTS = 3
BASELINE_WHOLE, BASELINE_AXES = 1 << 30, 256  # N D K up to which every number of a picture counts, 5 seconds on two cores; axes above it


@dataclass
class Assignments:
    """Row i is image i: probabilities (N, K) float32, labels (N,) int64, features (N, D) float32."""

    probabilities_NK: Tensor
    features_ND: Tensor
    model: Model
    health: list[str] = field(default_factory=list)
    maps_RNhw: Tensor | None = None  # attention maps of all images after each round of the training
    verdict: str = ""  # a sentence, and the numbers it rests on
    evidence: dict[str, Any] = field(default_factory=dict)
    unsure_N: Tensor | None = None  # bool, the images that are left out of the clusters
    confidence: dict[str, Any] = field(default_factory=dict)  # how the probabilities were calibrated
    duplicates: dict[str, Any] = field(default_factory=dict)  # near-duplicates among the pictures
    stability_N: Tensor | None = None  # share of several fits that agree
    baseline_N: Tensor | None = None  # k-means on the pixels, where that is known already
    place_N: Tensor | None = None  # of each image the row of the traces, where near-duplicates were learned from once

    @property
    def labels_N(self) -> Tensor:
        """The likeliest cluster of each image; -1 where it is left out."""
        labels_N = self.probabilities_NK.argmax(1).cpu()
        return labels_N if self.unsure_N is None else labels_N.masked_fill(self.unsure_N.cpu(), -1)


def table(paths: list[str], p_NK: Tensor, labels_N: Tensor | None = None, **more_N: Tensor) -> pa.Table:
    """The columns id, path, cluster, confidence, p of the contract, and after them `more_N` by name. labels_N: -1 where an image is in no
    cluster; None: the likeliest."""
    p = p_NK.cpu().float().numpy()
    clusters = p.argmax(1) if labels_N is None else labels_N.numpy()
    return rows(paths, p, clusters, **{name: column_N.cpu().numpy() for name, column_N in more_N.items()})


def write_json(folder: Path, name: str, value: Any) -> None:
    """`value` as a json file of a run folder, atomically."""
    checkpoint.write(Path(folder) / name, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def write_scores(folder: Path, name: str, scores: dict[str, Any]) -> None:
    """What `evaluate` found, as a json file that a finished run keeps."""
    write_json(folder, name, scores)
    manifest.record(Path(folder) / name)


def write_run(folder: Path, images: Images, result: Assignments, run: Run) -> None:
    """The files of the run folder; the table comes last, before the manifest."""
    from coterie.report.choice import attended, central, choose, left_out, twins
    from coterie.report.thumbnails import pack, pack_maps, pack_rounds

    if run.rank:
        return
    p, z = result.probabilities_NK.cpu(), F.normalize(result.features_ND.cpu())
    result.model.save(folder / "model.safetensors")
    write_tensors(folder / "features.safetensors", {"features": z.half()})
    baseline_N = result.baseline_N
    if baseline_N is None:
        baseline_N = baseline_labels(small(images), result.model.n_clusters, run.seed)
    traces = run.traces()
    if result.place_N is not None:
        traces = {name: labels[..., result.place_N] for name, labels in traces.items()}
    write_tensors(folder / "trace.safetensors", traces | {"baseline-pixels": baseline_N})
    labels_N = result.labels_N
    chosen = choose(p.numpy(), labels_N.numpy(), z.numpy())
    others = left_out(p.numpy(), labels_N.numpy()) + sum(twins(result.duplicates), [])
    ids = sorted({*chosen.ids.tolist(), *others}) if images.kind != "features" else []
    pictures = pack(ids, images.thumbnails(ids, THUMBNAIL))
    rest = sorted(set(range(len(p))) - set(ids)) if ids else []
    pictures |= encoded(images, rest, run)
    looked_at = attended(central(chosen, labels_N.numpy(), z.numpy()), labels_N.numpy())
    maps = attention_maps(result.model.encoder, images, looked_at, labels_N, z)
    if maps is not None:
        pictures |= pack_maps(looked_at, maps.numpy())
        if result.maps_RNhw is not None:
            pictures |= pack_rounds(result.maps_RNhw[:, looked_at].numpy())
    checkpoint.write(folder / "pictures.safetensors", numpy_bytes(pictures))
    (folder / "history.jsonl").touch()  # of a method without a stage it has no line
    write_problems(folder, problems_of(images))
    write_table(items.items_table(images), folder / items.FILE)
    told = {"verdict": result.verdict, "evidence": result.evidence, "confidence": result.confidence}
    told |= {"duplicates": result.duplicates} if result.duplicates else {}
    write_json(folder, "environment.json", environment(run) | {"n_problems": len(images.problems), "health": result.health} | told)
    more = {} if result.stability_N is None else {STABILITY: result.stability_N}
    write_table(table(images.paths, p, labels_N, **more), folder / TABLE)


def environment(run: Run) -> dict[str, Any]:
    """Versions, device, cores and wall time per stage."""
    devices = run.devices
    return {
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("coterie", "torch", "numpy", "pillow", "timm", "scikit-learn")},
        },
        "device": torch.cuda.get_device_name() if devices.device.type == "cuda" else devices.device.type,
        "cores": machine.cores(),
        "ranks": devices.world,
        "precision": devices.precision,
        "seconds": round(run.seconds, 2),
        "stages": {name: round(value, 2) for name, value in run.stages.items()},
    }


def baseline_labels(small_NCHW: Tensor, n_clusters: int, seed: int) -> Tensor:
    """k-means on small pictures: the labels (N,) everything must beat, for `evaluate` to score without the source.

    Of many pictures in many clusters on 256 principal axes: as good, in a quarter of the time (benchmarks/results/baseline.csv).
    """
    generator = seeding.generator(seed, "baseline")
    rows_ND = small_NCHW.flatten(1)
    if rows_ND.numel() * n_clusters > BASELINE_WHOLE and rows_ND.shape[1] > BASELINE_AXES:
        some_SD = rows_ND[sample(len(rows_ND), generator)]
        rows_ND = seen(rows_ND, *axes(some_SD, generator, BASELINE_AXES))
    return kmeans(rows_ND, n_clusters, generator, iters=50, init="k-means++", restarts=BASELINE_RESTARTS).labels_N


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    checkpoint.write(path, to_bytes({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}))


def problems_of(images: Images) -> list[tuple[str, str]]:
    """(path, reason) of what was set aside, then what decoders said of others, then what was passed over."""
    told = [(path, reason) for path, reason in images.problems]
    told += [(path, f"read, but the decoder said: {said}") for path, said in images.remarks]
    return told + [(f"({count} files)", f"skipped: {kind}; {WAY_OUT[kind]}") for kind, count in images.skipped.items()]


def write_problems(folder: Path, problems: Sequence[tuple[str, str]], name: str = "problems.csv") -> None:
    """A csv with a row for each (path, reason)."""
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["path", "reason"])
    rows.writerows(problems)
    checkpoint.write(folder / name, text.getvalue().encode())
