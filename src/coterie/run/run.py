"""A run: where and how a system computes, and how it survives being killed.

Three invariants make an interrupted run end with the same bits as an uninterrupted one; systems keep them:
after an epoch loop read only from its `state`; `epochs` reseeds at each epoch from (seed, stage, epoch); modules are made through `new`.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from coterie.run import checkpoint, seeding
from coterie.run.devices import Devices
from coterie.run.history import History
from coterie.run.progress import Silent
from coterie.run.state import newest, restore, save_result, saved_result, state_of
from coterie.run.updates import Updates

if TYPE_CHECKING:
    from coterie.images import Batch, Images

MAX_GRADIENT_NORM = 10.0  # far above what these losses show in health; only an explosion is cut
OFTEN, LONG = 0.5, 5  # share of updates that are cut, over so many epochs, from which it is no explosion but how the loss is
SAVE_SHARE = 1 / 20  # at most this share of the time goes into checkpoints
MAX_TRACED = 40  # epochs of assignments kept for curves that need labels later


class Run:
    """One fit's seed, place and memory.

    folder       the run folder: state goes to `folder/work`, the history to `folder/history.jsonl`; None: a temporary folder
    seed         of every random draw
    devices      where to compute; None: the default device of this machine
    time_budget  seconds from `started` after which training stops with the best result so far; None: no limit
    started      a time.monotonic(); None: now
    progress     what shows the progress; None: nothing
    clip         longest gradient of an update; 0: as long as they come
    cache        folder where features of frozen encoders are kept, for other runs; None: nowhere
    """

    def __init__(
        self, folder: Path | None = None, *, seed: int = 0, devices: Devices | None = None, time_budget: float | None = None,
        progress: Silent | None = None, started: float | None = None, clip: float = MAX_GRADIENT_NORM, cache: Path | None = None,
    ):  # fmt: skip
        self._temporary = tempfile.TemporaryDirectory(prefix="coterie-") if folder is None else None
        self.folder = Path(self._temporary.name) if self._temporary else Path(folder)  # type: ignore[arg-type]
        self.seed, self.cache = seed, cache
        self.devices = devices or Devices()
        self.progress = progress or Silent()
        self._file = History(self.folder / "history.jsonl", writes=self.devices.rank == 0)
        self.history = self._file.rows  # the same list for good
        self.warnings: list[str] = []
        self.stages: dict[str, float] = {}
        self._started = started or time.monotonic()
        self.ends, self._deadline = float("inf") if time_budget is None else self._started + time_budget, float("inf")
        self._stage, self._epoch, self._total = "", 0, 1
        self._stage_start = self._epoch_start = self._started
        self._before = checkpoint.spent(self.folder / "work")
        self._updates, self._seen = Updates(clip), 0
        self._placed: tuple[Images, Images] | None = None

    # ---- randomness

    def rng(self, *keys: str | int) -> torch.Generator:
        """A fresh CPU generator, a function of (seed, keys) alone."""
        return seeding.generator(self.seed, *keys)

    def new(self, key: str, make: Callable[..., nn.Module], *args: Any, **settings: Any) -> nn.Module:
        """`make(*args, **settings)` with initial weights that depend on (seed, key) only; placed on the device."""
        with seeding.forked(self.seed, "new", key):
            module = make(*args, **settings)
        return self.devices.place(module)

    # ---- the alternation: epochs, and whole-dataset steps between them

    def epochs(self, stage: str, total: int, share: float = 1.0, **state: Any) -> Iterator[int]:
        """Yields the epochs of `stage` still to do, out of `total`.

        `state` (modules, optimizers, tensors, anything with a state_dict) is restored first and saved after an epoch, atomically.
        `share` is the part of the remaining time budget this stage may take; at least one epoch is always done.
        """
        path = self.folder / "work" / f"{stage}.safetensors"
        saved, first = newest(path, self.progress.message, f"{stage} begins anew: what was saved of it is damaged"), 0
        if saved:
            for name, value in state.items():
                restore(value, saved["state"][name])
            first, self.warnings, self.stages = saved["epoch"], saved["warnings"], self.stages | saved["stages"]
        self._file.rewrite(saved["history"] if saved else self.history)  # lines of epochs that will be done again go
        spent_before = self.stages.get(stage, 0.0)
        self._stage, self._total = stage, total
        self._stage_start = time.monotonic()
        self._deadline = self._stage_start + share * (self.ends - self._stage_start)
        last_save, save_cost = float("-inf"), 0.0
        with torch.random.fork_rng():
            for epoch in range(first, total):
                torch.manual_seed(seeding.seed_of(self.seed, stage, epoch))
                self._epoch, self._seen, self._epoch_start = epoch, 0, time.monotonic()
                self._updates.begin()
                yield epoch
                self._agree(state)
                now = time.monotonic()
                self.stages[stage] = spent_before + now - self._stage_start
                over = bool(self._of_first_rank(now + (now - self._epoch_start) > self._deadline))
                if over and epoch + 1 < total:
                    self.note(f"{stage} stopped at epoch {epoch + 1} of {total}: the time budget is used up")
                if over or epoch + 1 == total or self._first(now - last_save >= save_cost / SAVE_SHARE):
                    self._save_stage(path, total if over else epoch + 1, state)
                    last_save, save_cost = time.monotonic(), time.monotonic() - now
                if over:
                    break
        self._deadline = float("inf")

    def end(self, stage: str, **state: Any) -> None:
        """Ends `stage` at the epoch just yielded (call it, then `break`): a continued run will not do its other epochs."""
        self._agree(state)
        self.stages[stage] = self.stages.get(stage, 0.0) + time.monotonic() - self._stage_start
        self._save_stage(self.folder / "work" / f"{stage}.safetensors", 1 << 30, state)
        self._deadline = float("inf")

    def done(self, epochs: float, total: int) -> float:
        """How far a stage is, in [0, 1], for schedules: `epochs` (also a fraction of one) of `total`, or the share of its time."""
        if self._deadline == float("inf"):
            return min(1.0, epochs / total)
        spent = self._of_first_rank((time.monotonic() - self._stage_start) / max(1e-9, self._deadline - self._stage_start))
        return min(1.0, max(epochs / total, spent))

    def once(self, name: str, make: Callable[..., Any], *inputs: Any, **settings: Any) -> Any:
        """`make(*inputs, **settings)`, kept on disk under the fingerprint of what went in; a tensor or a NamedTuple of tensors and numbers.

        What is damaged there is made again. `self` among the inputs is passed on but is no part of the fingerprint.
        """
        key = checkpoint.fingerprint(*[value for value in inputs if value is not self], *sorted(settings.items()))
        path = self.folder / "work" / f"{name}-{key[:16]}.safetensors"
        value = saved_result(path)
        if self._first(value is not None):
            self.devices.wait()  # as the rank that wrote it does below
            return value
        begun = time.monotonic()
        value = make(*inputs, **settings)
        self.stages[name] = self.stages.get(name, 0.0) + time.monotonic() - begun
        if self.devices.rank == 0:
            save_result(path, value)
            checkpoint.keep_spent(self.folder / "work", self.seconds)
        self.devices.wait()
        return value

    # ---- inside an epoch

    def batches(
        self, images: "Images", size: int, generator: torch.Generator | None = None, drop_last: bool = False, ids: Tensor | None = None
    ) -> Iterator["Batch"]:
        """Batches of `images` on the device, in order or (with a generator) shuffled; on several ranks each takes every world-th image.

        `ids`: these, each rank its own. Inside a stage with a time budget the last batch comes at its deadline.
        """
        images, world = self.place(images), self.devices.world
        if world > 1 and ids is None:
            order = torch.arange(len(images)) if generator is None else torch.randperm(len(images), generator=generator)
            ids, generator = order[self.devices.rank :: world], None
            ids = ids[: len(images) // world] if drop_last else ids
        for batch in images.batches(size, generator=generator, ids=ids, drop_last=drop_last):
            yield batch
            self._seen += len(batch.index_B) * world
            self.progress.advance(self._stage, self._epoch + min(0.99, self._seen / len(images)), self._total)
            if self._of_first_rank(time.monotonic() > self._deadline):
                return

    def place(self, images: "Images") -> "Images":
        """`images` with their pixels on the device when they fit in half its free memory (CUDA only); the same object each time."""
        if self.devices.device.type != "cuda":
            return images
        if self._placed is None or self._placed[0] is not images:
            free, _ = torch.cuda.mem_get_info(self.devices.device)
            self._placed = (images, images.to(self.devices.device) if images.pixels.numel() < free // 2 else images)
        return self._placed[1]

    def autocast(self) -> AbstractContextManager:
        """Networks run inside it, losses outside."""
        return self.devices.autocast()

    def step(self, loss: Tensor, *optimizers: Optimizer) -> None:
        """One update: backward, gradient clipping, optimizers. An update whose loss or gradient is not finite is skipped and counted."""
        self._updates.take(loss, optimizers)

    # ---- ranks

    def sum(self, x: Tensor) -> Tensor:
        return self.devices.sum(x)

    def broadcast(self, x: Tensor) -> Tensor:
        return self.devices.broadcast(x)

    def gather(self, rows: Tensor) -> Tensor:
        return self.devices.gather(rows)

    @property
    def rank(self) -> int:
        return self.devices.rank

    @property
    def world(self) -> int:
        return self.devices.world

    @property
    def seconds(self) -> float:
        """Wall time since the start, and what earlier parts of a continued fit took until their last checkpoint."""
        return self._before + time.monotonic() - self._started

    # ---- what is written down

    def log(self, **scalars: Any) -> None:
        """One line of history for the epoch under way: numbers, strings, lists; tensors of one element become numbers."""
        seconds = time.monotonic() - self._epoch_start
        row: dict[str, Any] = {"stage": self._stage, "epoch": self._epoch, "total": self._total, "seconds": seconds}
        if self._seen:
            row["images_per_second"] = self._seen / max(1e-9, seconds)
        if self._updates.clipped:
            row["clipped"] = self._updates.clipped_share
        row |= {name: value.item() if isinstance(value, Tensor) else value for name, value in scalars.items()}
        self._file.add({name: round(value, 6) if isinstance(value, float) else value for name, value in row.items()})
        cut = [row.get("clipped", 0.0) for row in self.history if row["stage"] == self._stage]  # of a continued stage, too
        if len(cut) >= LONG and sum(cut) > OFTEN * len(cut):
            told = f"{self._stage}: most gradients were longer than clip={self._updates.clip:g} and were shortened to it"
            self.warn(f"{told}; --set clip=0 leaves them as they are, a lower rate may do as well")
        shown = [f"{name} {row[name]:.3g}" for name in ("loss", "confident", "changed") if name in row]
        speed = [f"{row['images_per_second']:,.0f} images/s"] if "images_per_second" in row else []
        self.progress.advance(self._stage, self._epoch + 1, self._total, "  ".join([*shown, *speed, *self.warnings[-1:]]))

    def trace(self, labels_HN: Tensor, name: str = "") -> None:
        """Keeps the assignments of the epoch under way (at most 40 of a stage, evenly spread, the last one always), or, under another
        `name` than the stage's, other small whole numbers."""
        stride = max(1, -(-(self._total - 1) // (MAX_TRACED - 1)))
        if self._epoch % stride == 0 or self._epoch + 1 == self._total:
            self.keep(f"{name or self._stage}-{self._epoch:05d}", labels_HN)

    def keep(self, name: str, whole_N: Tensor) -> None:
        """Keeps a small whole number for each image, such as whether it is reliable, for the report."""
        if self.rank == 0:
            small = torch.uint8 if whole_N.max() < 256 else torch.int32
            checkpoint.save(self.folder / "work" / "trace" / f"{name}.safetensors", whole_N.to(small))

    def traces(self) -> dict[str, Tensor]:
        """What `trace` and `keep` kept: "stage-epoch" -> (H, N), or the name."""
        lost = "the trace {} was damaged, and no curve shows it; to have it, fit again into a new folder"
        files = sorted((self.folder / "work" / "trace").glob("*.safetensors"))
        found = {path.stem: newest(path, self.warn, lost.format(path.stem)) for path in files}
        return {name: labels for name, labels in found.items() if labels is not None}

    def warn(self, text: str) -> None:
        """A health warning: shown once, kept for the report. It says what to try."""
        if text not in self.warnings:
            self.warnings.append(text)
            self.progress.message(f"health: {text}")

    def note(self, text: str, shown: bool = False) -> None:
        """Something worth knowing that is no warning: a line of history, and of the terminal unless it was `shown` there before."""
        self._file.add({"stage": "note", "text": text})
        if not shown:
            self.progress.message(text)

    def adopt(self, rows: list[dict[str, Any]]) -> None:
        """The history of another run in the place of its own."""
        self._file.rewrite(rows)

    def close(self) -> None:
        """Removes the state of a finished run."""
        if self.rank == 0:
            shutil.rmtree(self.folder / "work", ignore_errors=True)
        if self._temporary:
            self._temporary.cleanup()

    # ---- inside

    def _of_first_rank(self, value: float) -> float:
        """A number read from the clock, as rank 0 read it, so that all ranks stop, and learn, alike; without a deadline nobody asks."""
        return value if self._deadline == float("inf") else self._first(value)

    def _first(self, value: float) -> float:
        return value if self.world == 1 else float(self.broadcast(torch.tensor(float(value), device=self.devices.device)))

    def _agree(self, state: dict[str, Any]) -> None:
        """Gives all ranks the first one's batch-norm statistics, which each took from its own batches."""
        for module in state.values() if self.world > 1 else ():
            for buffer in module.buffers() if isinstance(module, nn.Module) else ():
                buffer.copy_(self.broadcast(buffer.clone()))

    def _save_stage(self, path: Path, epoch: int, state: dict[str, Any]) -> None:
        if self.rank == 0:
            plain = {name: state_of(value) for name, value in state.items()}
            kept = {"epoch": epoch, "history": self.history, "warnings": self.warnings, "stages": self.stages, "state": plain}
            checkpoint.save(path, kept)
            checkpoint.keep_spent(self.folder / "work", self.seconds)
        self.devices.wait()
