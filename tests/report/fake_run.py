"""A finished run folder made from numpy: what a fit leaves behind, without a fit."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw
from safetensors.numpy import save_file

from coterie.report.choice import attended, central
from coterie.report.data import choose
from coterie.report.thumbnails import pack, pack_maps, pack_others

EVIDENCE = {"returned": "scan", "replaced": False, "score": 0.91, "other_score": 0.88, "agreement": 0.9, "agreement_cloud": 0.35}
EVIDENCE |= {"seeds": 0.87, "between": 0.04, "features": 0.95, "stability": 0.8, "stability_cloud": 0.15}
EVIDENCE |= {"thumbnail": 0.26, "colour": 0.12, "colour_spread": 0.1, "like_thumbnails": 0.1, "thumbnails_beyond": 0.2}
SHAPES = ("disc", "bar", "cross", "ring", "checker")


def drawings(labels_N: np.ndarray, size: int, seed: int = 0) -> list[np.ndarray]:
    """One small picture per label, uint8 (size, size, 3): a shape in a colour of its own on noise."""
    rng = np.random.default_rng(seed)
    pictures = []
    for label in labels_N.tolist():
        image = Image.fromarray(rng.integers(0, 70, (size, size, 3), np.uint8))
        draw = ImageDraw.Draw(image)
        colour = tuple(int(c) for c in rng.integers(120, 255, 3))
        a, b = sorted((int(rng.integers(1, size // 3)), int(rng.integers(size // 2, size - 1))))
        kind = SHAPES[label % len(SHAPES)]
        if kind in ("disc", "ring"):
            draw.ellipse((a, a, b, b), fill=colour if kind == "disc" else None, outline=colour, width=max(1, size // 12))
        elif kind == "bar":
            draw.rectangle((a, size // 3, b, size // 2), fill=colour)
        elif kind == "cross":
            draw.line((a, a, b, b), fill=colour, width=max(1, size // 10))
            draw.line((a, b, b, a), fill=colour, width=max(1, size // 10))
        else:
            for step in range(0, size, max(2, size // 5)):
                draw.line((step, 0, step, size), fill=colour, width=max(1, size // 12))
        pictures.append(np.asarray(image))
    return pictures


def blobs(labels_N: np.ndarray, k: int, d: int = 16, spread: float = 0.35, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Unit features float32 (N, D) around k centres, and probabilities float32 (N, K) whose largest is the label's."""
    rng = np.random.default_rng(seed)
    centres_KD = rng.normal(size=(k, d))
    features_ND = centres_KD[labels_N] + spread * rng.normal(size=(len(labels_N), d)) * rng.uniform(0.3, 2, (len(labels_N), 1))
    features_ND /= np.linalg.norm(features_ND, axis=1, keepdims=True)
    logits_NK = 8 * features_ND @ (centres_KD / np.linalg.norm(centres_KD, axis=1, keepdims=True)).T
    logits_NK[np.arange(len(labels_N)), labels_N] = logits_NK.max(1) + rng.uniform(0, 4, len(labels_N))
    p_NK = np.exp(logits_NK - logits_NK.max(1, keepdims=True))
    return features_ND.astype(np.float32), (p_NK / p_NK.sum(1, keepdims=True)).astype(np.float32)


def write_assignments(path: Path, paths: Sequence[str], labels_N: np.ndarray, p_NK: np.ndarray) -> None:
    columns = {
        "id": pa.array(np.arange(len(paths))),
        "path": pa.array(list(paths)),
        "cluster": pa.array(labels_N.astype(np.int32)),
        "confidence": pa.array(p_NK.max(1) if p_NK.size else np.zeros(len(paths), np.float32)),
        "p": pa.array(list(p_NK), pa.list_(pa.float32())),
    }
    pq.write_table(pa.table(columns), path)


def history(k: int, epochs: int = 12) -> list[dict[str, Any]]:
    """Two stages that get better."""
    lines = []
    for stage in ("pretext", "clustering"):
        for epoch in range(epochs):
            done = (epoch + 1) / epochs
            line = {"stage": stage, "epoch": epoch, "total": epochs, "loss": 4 - 3 * done, "images_per_second": 900.0, "seconds": 0.2}
            if stage == "clustering":
                line |= {"confident": 0.9 * done, "changed": 0.5 * (1 - done), "entropy": float(np.log(k)) * (0.7 + 0.29 * done)}
                line |= {"sizes": [10] * k, "empty": 0, "score": 0.4 + 0.5 * done}
            lines.append(line)
    return lines


def metrics(labels_N: np.ndarray, truth_N: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    confusion = np.zeros((len(classes), int(labels_N.max()) + 1), int)
    np.add.at(confusion, (truth_N, labels_N), 1)
    match = {str(k): int(c) for k, c in enumerate(confusion.argmax(0)) if confusion[c].argmax() == k}
    return {
        "acc": float(confusion.max(0).sum() / len(labels_N)),
        "nmi": 0.91,
        "ari": 0.88,
        "n_images": len(labels_N),
        "n_classes": len(classes),
        "n_clusters": confusion.shape[1],
        "baseline_acc": 0.41,
        "features_kmeans_acc": 0.77,
        "classes": list(classes),
        "confusion": confusion.tolist(),
        "match": match,
    }


def fake_run(
    run: Path,
    paths: Sequence[str],
    pictures: Sequence[np.ndarray],
    labels_N: np.ndarray,
    p_NK: np.ndarray,
    features_ND: np.ndarray,
    source: dict[str, Any] | None = None,
    measured: dict[str, Any] | None = None,
    health: Sequence[str] = (),
    problems: Sequence[tuple[str, str]] = (),
    method: str = "scan",
    stages: Sequence[dict[str, Any]] | None = None,
    places: tuple[int, int] | None = None,
    reliable_N: np.ndarray | None = None,
    finding: str = "solid",
) -> Path:
    """Write a run folder; pictures[i] is the thumbnail of image i; places: height and width of attention maps. Returns `run`."""
    run.mkdir(parents=True, exist_ok=True)
    k = p_NK.shape[1]
    known = {"kind": "folder", "name": "photos", "path": "/nowhere/photos", "fingerprint": "0" * 32, "n_images": len(paths)}
    known |= {"n_duplicates": 0, "skipped": {}} | (source or {})
    settings = {"n_clusters": k, "image_size": 32, "encoder": "small", "weights": None, "epochs": {"pretext": 12, "clustering": 12}}
    config = {"coterie": "0.1.0", "method": method, "preset": "quick", "seed": 0, "source": known, "settings": settings}
    environment = {
        "versions": {"python": "3.11.7", "torch": "2.9.0", "numpy": "2.0.0"},
        "device": "cpu",
        "cores": 2,
        "precision": "bf16",
        "seconds": 41.2,
        "stages": {"pretext": 30.1, "clustering": 9.4},
        "health": list(health),
        "verdict": f"Verdict: {finding}.",
        "evidence": EVIDENCE | {"finding": finding, "n_clusters": k, "n_images": len(paths)},
        "notes": [],
    }
    picked = choose(p_NK, labels_N, features_ND)
    chosen = picked.ids
    write_assignments(run / "assignments.parquet", paths, labels_N, p_NK)
    save_file({"features": features_ND.astype(np.float16)}, run / "features.safetensors")
    packed = pack(chosen.tolist(), [pictures[i] for i in chosen])
    packed |= pack_others(sorted(set(range(len(paths))) - set(chosen.tolist())), lambda i: pictures[i]) if len(chosen) else {}
    if places is not None:
        ids = attended(central(picked, labels_N, features_ND), labels_N)
        packed |= pack_maps(ids, np.random.default_rng(0).integers(0, 256, (len(ids), *places), np.uint8))
    save_file(packed, run / "pictures.safetensors")
    if reliable_N is not None:
        save_file({"joint-00000": labels_N[None], "reliable": reliable_N.astype(np.uint8)}, run / "trace.safetensors")
    (run / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (run / "environment.json").write_text(json.dumps(environment), encoding="utf-8")
    (run / "history.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in (history(k) if stages is None else stages)), encoding="utf-8"
    )
    rows = "".join(f'"{path}","{reason}"\n' for path, reason in problems)
    (run / "problems.csv").write_text("path,reason\n" + rows, encoding="utf-8")
    if measured is not None:
        (run / "metrics.json").write_text(json.dumps(measured), encoding="utf-8")
    return run
