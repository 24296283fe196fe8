"""Where a run computes: device, ranks, precision. The only file that knows them, and the only one that imports accelerate.

A single process needs no accelerate at all, so that predicting one picture stays quick; several processes
(`accelerate launch` or `torchrun`, which set WORLD_SIZE) get their process group and their collectives from it.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from coterie.errors import InputError, RankLost
from coterie.run import machine

SIDE, TRIES, FASTER = 768, 6, 1.25  # of the product by which a CPU is tried, and what makes bf16 worth its three digits less


class Devices:
    """One process's place: `device`, `precision` ("bf16" or "fp32"), `rank` of `world`.

    device     "auto" (CUDA, else MPS, else CPU), "cpu", "cuda" or "mps"
    precision  "auto" (bf16 where the device computes it natively, else fp32), "bf16" or "fp32"
    threads    CPU threads of torch; None: the cores of the container
    Raises InputError for a device that is not there or an unknown word.
    """

    def __init__(self, device: str = "auto", precision: str = "auto", threads: int | None = None):
        if threads is not None and threads < 1:
            raise InputError(f"--threads must be at least 1, not {threads}")
        torch.set_num_threads(threads or machine.cores())
        kind = _resolve_device(device)
        if kind == "cpu":
            machine.keep_memory()
        self.rank, self.world = 0, 1
        index = ""
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            from accelerate import PartialState

            state = PartialState(cpu=kind == "cpu")
            self.rank, self.world = state.process_index, state.num_processes
            index = f":{state.local_process_index}" if kind == "cuda" else ""
        self.device = torch.device(kind + index)
        self.precision = _resolve_precision(precision, kind)
        if self.world > 1:  # a trial may end differently on each
            self.precision = "bf16" if self.broadcast(torch.tensor(float(self.precision == "bf16"), device=self.device)) else "fp32"
        if kind == "cuda":  # same seed, same bits, also where cuDNN could choose a faster kernel that adds in another order
            torch.backends.cudnn.deterministic = True
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True

    def autocast(self) -> AbstractContextManager:
        """The context in which networks run: bf16 where that is the precision. Losses belong outside it, in float32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def place(self, module: nn.Module) -> nn.Module:
        """The module on this device, convolutions in channels_last, wrapped for gradient exchange where there are several ranks."""
        module = module.to(self.device)
        if any(isinstance(part, nn.Conv2d) for part in module.modules()):
            module = module.to(memory_format=torch.channels_last)
        if self.world > 1 and any(p.requires_grad for p in module.parameters()):
            module = Shared(nn.SyncBatchNorm.convert_sync_batchnorm(module) if self.device.type == "cuda" else module)
        return module

    def share(self, batch: int, n: int) -> int:
        """How many images of a batch this rank sees, of `n` in all. The ranks share each batch, so that there are as many updates, of as
        many images, whatever their number."""
        return max(1, min(batch, n) // self.world)

    def sum(self, x: Tensor) -> Tensor:
        """The tensor summed over all ranks, the same on each; on one rank the tensor itself."""
        return self._over_ranks("reduce", x, reduction="sum")

    def gather(self, rows: Tensor) -> Tensor:
        """Rows (n, ...) of all ranks, one rank after another, the same on each (every rank must hold n rows)."""
        return self._over_ranks("gather", rows)

    def broadcast(self, x: Tensor) -> Tensor:
        """The tensor as rank 0 holds it."""
        return self._over_ranks("broadcast", x)

    def wait(self) -> None:
        """Until every rank is here."""
        if self.world > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()

    def _over_ranks(self, name: str, x: Tensor, **options) -> Tensor:
        if self.world == 1:
            return x
        from accelerate.utils import operations

        return getattr(operations, name)(x.contiguous(), **options)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Inside it the end of another rank is a RankLost, which says so, and not what the library of the collectives makes of it."""
        try:
            yield
        except RuntimeError as error:
            if self.world == 1 or not (isinstance(error, torch.distributed.DistError) or "gloo" in str(error)):
                raise
            raise RankLost(
                f"another process of this fit ended, or cannot be reached (noticed by rank {self.rank} of {self.world}); what it "
                "said tells why; the same command continues, with as many processes or with another number"
            ) from error


class Shared(nn.parallel.DistributedDataParallel):
    """A module whose gradients are averaged over the ranks; whatever else it can do, it still can."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)


def unwrap(module: nn.Module) -> nn.Module:
    """The module without its wrapper for several ranks."""
    return module.module if isinstance(module, Shared) else module


def _resolve_device(device: str) -> str:
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return next(kind for kind, found in there.items() if found)
    if device not in there:
        raise InputError(f"no device is called {device!r}; there are auto, cpu, cuda, mps")
    if not there[device]:
        raise InputError(f"--device {device}: no such device here; --device auto takes what there is")
    return device


def _resolve_precision(precision: str, kind: str) -> str:
    if precision in ("bf16", "fp32"):
        return precision
    if precision != "auto":
        raise InputError(f"no precision is called {precision!r}; there are auto, bf16, fp32")
    native: dict[str, Callable[[], bool]] = {
        "cuda": lambda: torch.cuda.get_device_capability() >= (8, 0),
        "cpu": _cpu_computes_bf16,
        "mps": lambda: False,
    }
    return "bf16" if native[kind]() else "fp32"


@cache
def _cpu_computes_bf16() -> bool:
    """Whether bf16 is worth it on this CPU. One that has AVX512-bf16 without AMX may compute it four times as fast as float32, or half as
    fast: that is tried, in 0.1 s; the bar lies where no kind comes near it (docs/adr/0009)."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    return "amx_bf16" in flags or ("avx512_bf16" in flags and _faster_in_bf16())


def _faster_in_bf16() -> bool:
    square = torch.linspace(-1, 1, SIDE * SIDE).view(SIDE, SIDE)
    sides, threads = (square, square.bfloat16()), torch.get_num_threads()
    torch.set_num_threads(1)
    times = [[_seconds(side) for side in sides] for _ in range(TRIES)]  # in turns, the least of each, on one core: other work is no matter
    torch.set_num_threads(threads)
    single, half = (min(column) for column in zip(*times))
    return single > FASTER * half


def _seconds(square: Tensor) -> float:
    begun = time.perf_counter()
    square @ square
    return time.perf_counter() - begun
