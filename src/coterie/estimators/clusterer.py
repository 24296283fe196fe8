"""The methods in scikit-learn's shape: fit, predict, predict_proba, transform, score, get_params, clone, pickle, Pipeline.

The fitted state of an estimator is a run folder, as the command line makes it; `save` copies it, `load` opens one.
"""

import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from coterie import fitting
from coterie.errors import InputError
from coterie.estimators import views
from coterie.evaluate import metrics
from coterie.fitting.arguments import seed as seed_of
from coterie.fitting.arguments import whole
from coterie.fitting.how_many import left_open
from coterie.images import Images, Problem, default_cache, open_images
from coterie.images.arrays import as_numpy
from coterie.images.collection import open_rows
from coterie.images.items import read_items
from coterie.networks.encoder import PRECOMPUTED
from coterie.networks.model import Model
from coterie.networks.model import load as load_model
from coterie.report import page
from coterie.run import Run
from coterie.run.devices import Devices
from coterie.run.files import STABILITY, probabilities, read_assignments, read_features, read_history, read_json, read_rows
from coterie.run.progress import choose


class ImageClusterer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):
    """What the estimators share. X is anything `open_images` takes: a folder, a zip, an array (N, H, W[, 3]) uint8, paths, Images.

    n_clusters    kinds to find; "auto": as many as there seem to be, "A:B": within these bounds
    preset        named settings (`coterie presets`); None: those of a named set, else "photos"
    encoder       small, small-32, resnet18-cifar, ..., any timm name; None: the preset's; "precomputed": X is features (N, D)
    settings      any other setting by name, as `--set` on the command line
    random_state  seed of every random draw: an int, None for 0, or a numpy RandomState or Generator to draw it from
    device, precision, threads   where to compute, as on the command line
    time_budget   seconds; the fit ends in time with the best result so far
    run           folder to keep the run in (and to continue it from); None: a temporary one
    seeds         fits under as many seeds from random_state on; their consensus is the result
    verbose       True: says how far it is, on a terminal, in a notebook or in a log

    After fit, with a row for each of the N items that were passed, those that could not be read too: labels_ (N,) int64, -1 where
    unreadable or unsure; probabilities_ (N, K) float32 and features_ (N, D), NaN where unreadable; paths_ (N); ids_ (N,) int64, the row in
    the run's tables, or -1. Also problems_ (path and reason of what was set aside), n_images_ (those that were read), n_clusters_, history_
    (list of dicts), health_ (list of warnings), verdict_ (a sentence), stability_ (N,), the share of seeds that agree, None of one.
    N is len(X) where X has a length; of a folder it counts the pictures in it.
    Raises InputError (a ValueError) for what cannot work.
    """

    method = ""

    def __init__(
        self, n_clusters: int | str = 8, *, preset: str | None = None, encoder: str | None = None, settings: dict[str, Any] | None = None,
        random_state: int = 0, device: str = "auto", precision: str = "auto", threads: int | None = None,
        time_budget: float | None = None, run: str | None = None, seeds: int = 1, verbose: bool = False,
    ):  # fmt: skip
        self.n_clusters = n_clusters
        self.preset = preset
        self.encoder = encoder
        self.settings = settings
        self.random_state = random_state
        self.device = device
        self.precision = precision
        self.threads = threads
        self.time_budget = time_budget
        self.run = run
        self.seeds = seeds
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> "ImageClusterer":
        """Sorts the images of X into kinds; y is ignored."""
        devices = self._devices()
        changes = {**(self.settings or {}), **({"encoder": self.encoder} if self.encoder else {})}
        gpu = devices.device.type == "cuda"
        if changes.get("encoder") == PRECOMPUTED:
            X = self._rows(X, fitting=True)
        clusters, seed = left_open(self.n_clusters) or whole("n_clusters", self.n_clusters), seed_of(self.random_state)
        folder, progress = Path(self.run) if self.run else Path(self._fresh_folder()), choose(quiet=not self.verbose)
        try:
            images, plan = fitting.plan(
                X, self.method, clusters=clusters, preset=self.preset, settings=changes, seed=seed, seeds=whole("seeds", self.seeds),
                gpu=gpu, progress=progress,
            )  # fmt: skip
            fitting.fit(images, plan, folder, devices=devices, time_budget=self.time_budget, progress=progress, cache=default_cache())
        finally:
            progress.close()
        return self._take(folder, images)

    def predict(self, X: Any) -> np.ndarray:
        """The cluster of each item of X, (N,) int64; -1, with a warning, where one could not be read."""
        return _labels(self.predict_proba(X))

    def fit_predict(self, X: Any, y: Any = None, **kwargs: Any) -> np.ndarray:
        return self.fit(X).labels_

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities (N, K) float32, rows sum to 1; NaN, with a warning, where an item could not be read."""
        model, z_ND, ids = self._features(X)
        return _at(ids, model.probabilities(z_ND).cpu().numpy())

    def transform(self, X: Any) -> np.ndarray:
        """Features (N, D) float32 of the items of X; NaN, with a warning, where one could not be read."""
        _, z_ND, ids = self._features(X)
        return _at(ids, z_ND.cpu().numpy())

    def novelty(self, X: Any) -> np.ndarray:
        """How far each item of X is from all that were fitted, (N,) float32, at least 0; NaN, with a warning, where one could not be read.

        `coterie predict` writes the same scores, and marks those above a threshold. Compare them within one model only.
        """
        _, z_ND, ids = self._features(X)
        return _at(ids, fitting.novelty(self._folder, z_ND).scores_M.cpu().numpy())

    def score(self, X: Any, y: Any) -> float:
        """ACC of the prediction for X against the true labels y (N,): Hungarian matching, in [0, 1]; of the items that could be read."""
        found = self.predict(X)
        return metrics.accuracy(y, found) if (found >= 0).all() else metrics.accuracy(np.asarray(y)[found >= 0], found[found >= 0])

    def save(self, folder: str | Path) -> None:
        """Copies the run folder to a place of its own."""
        check_is_fitted(self)
        folder = Path(folder)
        if folder.exists() and any(folder.iterdir()):
            raise InputError(f"{folder} is not empty; choose another folder")
        shutil.copytree(self._folder, folder, dirs_exist_ok=True)

    def report(self, file: str | Path) -> Path:
        """Writes the report, one self-contained html file."""
        check_is_fitted(self)
        return page.write(self._folder, Path(file))

    def frame(self, edits: bool = True) -> Any:
        """A pandas data frame, a row for each item that was passed: path, cluster, name, confidence, unsure (views.frame)."""
        return views.frame(self, edits)

    def plot_map(self, ax: Any = None, edits: bool = True) -> Any:
        """The 2-D map of the report, drawn by matplotlib; returns the axes (views.plot_map)."""
        return views.plot_map(self, ax, edits)

    def plot_kinds(self, n: int = 8, edits: bool = True) -> Any:
        """A row of `n` pictures for each cluster, drawn by matplotlib; returns the figure (views.plot_kinds)."""
        return views.plot_kinds(self, n, edits)

    def _repr_html_inner(self) -> str:
        """In a notebook: the kinds at a glance; before the fit what scikit-learn shows."""
        return views.html(self) if self.__sklearn_is_fitted__() else super()._repr_html_inner()

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        told = super()._repr_mimebundle_(**kwargs)
        return told | ({"text/html": self._repr_html_inner()} if "text/html" in told else {})

    @property
    def _n_features_out(self) -> int:
        return self.features_.shape[1]

    def _devices(self) -> Devices:
        return Devices(self.device, self.precision, self.threads)

    def _features(self, X: Any) -> tuple[Model, Tensor, np.ndarray]:
        """The model, the features of the images of X, and of each item of X its image, or -1."""
        check_is_fitted(self)
        devices = self._devices()
        model = load_model(self._folder, devices)
        images = open_rows(self._rows(X)) if model.precomputed else self._opened(X, model.image_size)
        ids = np.arange(len(images)) if isinstance(X, Images) else images.ids_of_items
        if bad := int((ids < 0).sum()):
            first = images.problems[0]
            warnings.warn(f"{bad} of {len(ids)} items could not be read; the first, {first.path}: {first.reason}", stacklevel=4)
        run = Run(devices=devices)
        try:
            return model, model.features(images, run), ids
        finally:
            run.close()

    def _opened(self, X: Any, size: int) -> Images:
        """X as the fitted pictures were opened: the same size in pixels, limit, and white of deep pictures."""
        made = fitting.config_of(self._folder)
        return open_images(X, size, max_pixels=made["settings"]["max_pixels"], levels=made["source"].get("levels"))

    def _rows(self, X: Any, fitting: bool = False) -> np.ndarray:
        """Features (N, D) float32, checked as scikit-learn does; at least 2 to fit on, later of the width that was fitted."""
        X = as_numpy(X, "features") if isinstance(X, Tensor) else X
        try:
            return validate_data(self, X, dtype=np.float32, reset=fitting, ensure_min_samples=2 if fitting else 1)
        except ValueError as error:
            raise InputError(f"features: {error}") from error

    def _fresh_folder(self) -> str:
        self._temporary = tempfile.TemporaryDirectory(prefix="coterie-")
        return self._temporary.name

    def _take(self, folder: Path, images: Images | None = None) -> "ImageClusterer":
        """Reads the fitted attributes from a finished run folder; their rows are those of `images`, else of the fit that made it."""
        self._folder = Path(folder)
        rows = read_assignments(folder)
        items = read_items(folder, len(rows))
        if images is not None:
            self.ids_, self.paths_ = images.ids_of_items, list(images.paths if images.passed is None else images.passed)
        else:
            passed = rows if items is None else items
            self.ids_, self.paths_ = passed["id"].to_numpy(), passed["path"].to_pylist()
        told = [Problem(row["path"] or "", row["reason"] or "") for row in read_rows(folder / "problems.csv")]
        self.problems_ = [one for one in told if not one.reason.startswith(("read, but", "skipped: "))]
        self.probabilities_ = _at(self.ids_, probabilities(rows))
        self.labels_ = _at(self.ids_, rows["cluster"].to_numpy().astype(np.int64), -1)
        self.stability_ = _at(self.ids_, rows[STABILITY].to_numpy()) if STABILITY in rows.column_names else None
        self.n_images_ = len(rows)
        self.n_clusters_ = self.probabilities_.shape[1]
        self.history_ = read_history(folder)
        environment = read_json(folder / "environment.json", health=list)
        self.health_, self.verdict_ = environment["health"], environment.get("verdict", "")
        if fitting.config_of(folder)["settings"]["encoder"] == PRECOMPUTED:
            self.n_features_in_ = self.features_.shape[1]
        return self

    @property
    def features_(self) -> np.ndarray:
        """Unit features (N, D) float16 of the fitted items, NaN where one could not be read."""
        check_is_fitted(self)
        return _at(self.ids_, read_features(self._folder, self.n_images_))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "labels_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]  # everything is computed in it
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state = {key: value for key, value in super().__getstate__().items() if key not in ("_folder", "_temporary")}
        if hasattr(self, "_folder"):
            state["_files"] = {path.name: path.read_bytes() for path in self._folder.iterdir() if path.is_file()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        files = state.pop("_files", None)
        super().__setstate__(state)
        if files is not None:
            self._folder = Path(self._fresh_folder())
            for name, content in files.items():
                (self._folder / name).write_bytes(content)


def _at(ids: np.ndarray, rows: np.ndarray, empty: float = np.nan) -> np.ndarray:
    """A row for each item: that of its image, or `empty` where it has none."""
    if np.array_equal(ids, np.arange(len(rows))):
        return rows
    spread = np.full((len(ids), *rows.shape[1:]), empty, rows.dtype)
    spread[ids >= 0] = rows[ids[ids >= 0]]
    return spread


def _labels(p_NK: np.ndarray) -> np.ndarray:
    """The most probable cluster of each row, -1 where there is none."""
    return np.where(np.isnan(p_NK[:, 0]), -1, p_NK.argmax(1))
