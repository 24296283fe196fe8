"""Work on a Ray cluster: the only file that knows ray (the extra `ray`). Source, run and folder must have the same paths on all machines.

parts   of a folder of predictions or features: each worker opens the source and loads the model once, then makes the parts it is asked
        for. A worker that dies is started again and asked again, for the part it was at. A part takes its name when it is whole, and two
        that make the same one write the same rows: none is lost, none is there twice
fit     the workers are the ranks of one fit, as processes of torchrun are. When one dies the others are ended too, and as many start
        again from the last checkpoint
"""

import json
import os
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from coterie.errors import InputError, RankLost, words
from coterie.fitting import parts, streaming
from coterie.fitting.planning import plan, schedule_of
from coterie.fitting.running import fit as fit_here
from coterie.fitting.streaming import Recipe, Wish, in_full
from coterie.run.devices import Devices
from coterie.run.progress import Silent

LOCAL = "local"
RETRIES = 3  # of a part whose worker died; of a fit
AHEAD = 2  # parts that a worker has been asked for, so that it need not wait for the next
LOOK = 1.0  # seconds between two looks at how far a fit came


class Fit(NamedTuple):
    """How any process makes its share of a fit: the folder, what `planning.plan` takes, and what `running.fit` does."""

    folder: Path
    given: dict[str, Any]
    device: str = "auto"
    precision: str = "auto"
    time_budget: float | None = None
    cache: Path | None = None

    def anywhere(self) -> "Fit":
        """The same with whole paths, for a process in another folder."""
        given = {name: in_full(name, value) for name, value in self.given.items()}
        return self._replace(folder=in_full("folder", self.folder), given=given, cache=in_full("cache", self.cache))

    def fit(self, threads: int) -> dict[str, Any]:
        devices = Devices(self.device, self.precision, threads)
        gpu = schedule_of(self.folder, devices.device.type == "cuda")
        images, planned = plan(**self.given, gpu=gpu, cache=self.cache)
        return fit_here(images, planned, self.folder, devices=devices, time_budget=self.time_budget, cache=self.cache)


class Worker:
    """What runs in a process of the cluster. Nothing is done before it is asked: what is wrong then is told as what it is."""

    def __init__(self) -> None:
        self._work: streaming.Work | None = None

    def make(self, recipe: Recipe, folder: str, part: int) -> dict[str, int]:
        """The counts of a part, made if it is not there."""
        self._work = self._work or recipe.work()
        return parts.fill(Path(folder), self._work.stream, self._work.layout, [part], self._work.make)

    def place(self) -> dict[str, str]:
        """Where the ranks of a fit may meet, on the machine of the first of them."""
        import ray

        with socket.socket() as door:
            door.bind(("", 0))
            return {"MASTER_ADDR": ray.util.get_node_ip_address(), "MASTER_PORT": str(door.getsockname()[1])}

    def fit(self, asked: Fit, threads: int, **place: str) -> dict[str, Any]:
        """A rank of a fit; its summary."""
        os.environ.update(place)
        return asked.fit(threads)


def work(address: str, wish: Wish, recipe: Recipe, progress: Silent | None = None) -> dict[str, Any]:
    """As `streaming.work`, on the cluster at `address` (ray://HOST:PORT), or on one that is started on this machine for it ("local").

    A worker takes as many cores as the recipe has threads, 1 where it does not say, or a GPU where the cluster has any and the device is
    not cpu. InputError: ray is missing, the address cannot be reached, or what `Recipe.work` raises.
    """
    ray, recipe = _ray(address), recipe.anywhere()
    todo = recipe.work()  # what is wrong with the command is found here, before anything is started
    parts.begin(wish.folder, recipe.verb, todo.stream, todo.layout, todo.settings)
    missing = [part for part in todo.layout.share(wish.shard) if parts.whole(wish.folder, todo.layout, part) is None]
    made = _made(ray, address, missing, recipe, str(wish.folder.absolute()), progress or Silent()) if missing else 0
    told = streaming.work(recipe.verb, wish, todo)  # counts them all, and finds none that is missing
    return told | {"parts_made": told["parts_made"] + made}


def fit(address: str, asked: Fit, threads: int | None = None, progress: Silent | None = None) -> dict[str, Any]:
    """As `running.fit`, with a rank on each worker; as many workers as `work` takes. The first of them tells the summary.

    InputError: ray is missing, the address cannot be reached, what `plan` and `running.fit` raise, or workers that end again and again.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(f"--on {address} starts the ranks itself: give the command without torchrun")
    ray, asked, progress = _ray(address), asked.anywhere(), progress or Silent()
    with _cluster(ray, address):
        for left in reversed(range(RETRIES + 1)):
            each, wanted = _workers(ray, asked.device, threads)
            hired = [ray.remote(**wanted)(Worker).remote() for _ in range(each)]
            try:
                place = ray.get(hired[0].place.remote()) | {"WORLD_SIZE": str(each), "LOCAL_RANK": "0"}
                ranks = [worker.fit.remote(asked, threads or 1, RANK=str(rank), **place) for rank, worker in enumerate(hired)]
                return _first(ray, ranks, asked.folder, progress)
            except (ray.exceptions.RayActorError, RankLost) as error:
                if not left:
                    raise _ended(address, "the fit", error) from error
                progress.message("a worker of the fit ended; all begin again at the last checkpoint")
            finally:
                for worker in hired:
                    ray.kill(worker)
    raise AssertionError  # the loop returns or raises


def _first(ray: Any, ranks: list[Any], folder: Path, progress: Silent) -> dict[str, Any]:
    """What the first rank tells, when all have ended well. While it waits it shows the last line of the fit's history."""
    left, shown = list(ranks), 0
    while left:
        done, left = ray.wait(left, num_returns=1, timeout=LOOK)
        for one in done:
            _answer(ray, one)
        rows = _epochs(folder / "history.jsonl")
        if len(rows) > shown:
            progress.advance(rows[-1]["stage"], rows[-1]["epoch"] + 1, rows[-1].get("total", rows[-1]["epoch"] + 1))
        shown = len(rows)
    told: dict[str, Any] = _answer(ray, ranks[0])
    return told


def _epochs(history: Path) -> list[dict[str, Any]]:
    """The epochs in the history of a fit that goes on, of which the last line may be half written."""
    text = history.read_text(encoding="utf-8") if history.exists() else ""
    rows = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    return [row for row in rows if "epoch" in row]


def _made(ray: Any, address: str, missing: list[int], recipe: Recipe, folder: str, progress: Silent) -> int:
    with _cluster(ray, address):
        most, wanted = _workers(ray, recipe.device, recipe.threads)
        hired = ray.remote(**wanted, max_restarts=-1, max_task_retries=RETRIES)(Worker)
        recipe = recipe._replace(threads=recipe.threads or 1)
        workers = [hired.remote() for _ in range(min(len(missing), most))]
        left, asked, made = deque(missing), {}, 0
        for worker in [worker for _ in range(AHEAD) for worker in workers]:
            if left:
                asked[worker.make.remote(recipe, folder, left.popleft())] = worker
        while asked:
            (done,), _ = ray.wait(list(asked), num_returns=1)
            worker = asked.pop(done)
            try:
                made += _answer(ray, done)["parts_made"]
            except ray.exceptions.RayActorError as error:
                raise _ended(address, "a part", error) from error
            if left:
                asked[worker.make.remote(recipe, folder, left.popleft())] = worker
            progress.advance("parts", len(missing) - len(left) - len(asked), len(missing))
        return made


# ---- ray


def _ray(address: str) -> Any:
    try:
        import ray
    except ImportError:
        raise InputError(f"--on {address} needs ray: pip install coterie[ray]") from None
    if address != LOCAL and not address.startswith("ray://"):
        raise InputError(f"--on {address}: wanted local, or the address of a cluster, ray://HOST:PORT")
    return ray


@contextmanager
def _cluster(ray: Any, address: str) -> Iterator[None]:
    alone = {"include_dashboard": False, "log_to_driver": False} if address == LOCAL else {}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else a cluster that is started here tells Ray's makers of itself
    try:
        ray.init(address, **alone)
    except (ConnectionError, TimeoutError, ValueError, RuntimeError) as error:
        raise InputError(f"--on {address}: no cluster answers there ({error})") from error
    try:
        yield
    finally:
        ray.shutdown()


def _workers(ray: Any, device: str, threads: int | None) -> tuple[int, dict[str, Any]]:
    """How many workers the cluster has room for, and what each takes of it."""
    there, cores = ray.cluster_resources(), threads or 1
    gpus = int(there.get("GPU", 0)) if device != "cpu" else 0
    return gpus or max(1, int(there.get("CPU", 1)) // cores), {"num_gpus": 1} if gpus else {"num_cpus": cores}


def _answer(ray: Any, reference: Any) -> Any:
    """What a worker was asked for; what it raised, as if it had been raised here where the user can mend it."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise error.cause from None
        raise


def _ended(address: str, what: str, error: Exception) -> InputError:
    return InputError(
        f"--on {address}: {what} ended its worker {RETRIES + 1} times, as when memory runs out ({words(error)}); what was made is "
        "kept, and the same command continues; with --threads N a worker takes N cores, so that there are fewer"
    )
