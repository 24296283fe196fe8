"""Parts of a folder made by the workers of a Ray cluster: the only file that knows ray (the extra `ray`).

Each worker opens the source and loads the model once, then makes the parts it is asked for. A worker that dies is started again and
asked again, for the part it was at. A part takes its name when it is whole, and two that make the same one write the same rows: none is
lost, none is there twice. Source, run and folder must have the same paths on all machines.
"""

from collections import deque
from pathlib import Path
from typing import Any

from coterie.errors import InputError, words
from coterie.fitting import parts, streaming
from coterie.fitting.streaming import Recipe, Wish
from coterie.run.progress import Silent

LOCAL = "local"
RETRIES = 3  # of a part whose worker died
AHEAD = 2  # parts that a worker has been asked for, so that it need not wait for the next


class Worker:
    """What runs in a process of the cluster."""

    def __init__(self, recipe: Recipe, folder: str):
        self._work, self._folder = recipe.work(), Path(folder)

    def make(self, part: int) -> dict[str, int]:
        """The counts of a part, made if it is not there."""
        return parts.fill(self._folder, self._work.stream, self._work.layout, [part], self._work.make)


def work(address: str, wish: Wish, recipe: Recipe, progress: Silent | None = None) -> dict[str, Any]:
    """As `streaming.work`, on the cluster at `address` (ray://HOST:PORT), or on one that is started on this machine for it ("local").

    A worker takes as many cores as the recipe has threads, 1 where it does not say, or a GPU where the cluster has any and the device is
    not cpu. InputError: ray is missing, the address cannot be reached, or what `Recipe.work` raises.
    """
    try:
        import ray
    except ImportError:
        raise InputError(f"--on {address} needs ray: pip install coterie[ray]") from None
    if address != LOCAL and not address.startswith("ray://"):
        raise InputError(f"--on {address}: wanted local, or the address of a cluster, ray://HOST:PORT")
    recipe = recipe.anywhere()
    todo = recipe.work()  # what is wrong with the command is found here, before anything is started
    parts.begin(wish.folder, recipe.verb, todo.stream, todo.layout, todo.settings)
    missing = [part for part in todo.layout.share(wish.shard) if parts.whole(wish.folder, todo.layout, part) is None]
    made = _made(ray, address, missing, recipe, str(wish.folder.absolute()), progress or Silent()) if missing else 0
    told = streaming.work(recipe.verb, wish, todo)  # counts them all, and finds none that is missing
    return told | {"parts_made": told["parts_made"] + made}


def _made(ray: Any, address: str, missing: list[int], recipe: Recipe, folder: str, progress: Silent) -> int:
    alone = {"include_dashboard": False, "log_to_driver": False} if address == LOCAL else {}
    try:
        ray.init(address, **alone)
    except (ConnectionError, TimeoutError, ValueError, RuntimeError) as error:
        raise InputError(f"--on {address}: no cluster answers there ({error})") from error
    try:
        there, cores = ray.cluster_resources(), recipe.threads or 1
        gpus = int(there.get("GPU", 0)) if recipe.device != "cpu" else 0
        count = min(len(missing), gpus or max(1, int(there.get("CPU", 1)) // cores))
        wanted = {"num_gpus": 1} if gpus else {"num_cpus": cores}
        hired = ray.remote(**wanted, max_restarts=-1, max_task_retries=RETRIES)(Worker)
        workers = [hired.remote(recipe._replace(threads=cores), folder) for _ in range(count)]
        left, asked, made = deque(missing), {}, 0
        for worker in [worker for _ in range(AHEAD) for worker in workers]:
            if left:
                asked[worker.make.remote(left.popleft())] = worker
        while asked:
            (done,), _ = ray.wait(list(asked), num_returns=1)
            worker = asked.pop(done)
            made += ray.get(done)["parts_made"]
            if left:
                asked[worker.make.remote(left.popleft())] = worker
            progress.advance("parts", len(missing) - len(left) - len(asked), len(missing))
        return made
    except ray.exceptions.RayActorError as error:
        raise InputError(
            f"--on {address}: a part ended its worker {RETRIES + 1} times, as when memory runs out ({words(error)}); what was made is "
            "kept, and the same command continues; with --threads N a worker takes N cores, so that there are fewer"
        ) from error
    finally:
        ray.shutdown()
