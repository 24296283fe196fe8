"""What a row was made on: the date, device, versions, the commit where there is one; and how much memory it took."""

import platform
import subprocess
from datetime import date
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import coterie
from coterie.run import machine
from coterie.run.devices import Devices

HOME = Path(coterie.__file__).parent
MB = 1 << 20


def place(devices: Devices) -> dict[str, Any]:
    """The columns date, device, cores, threads, precision, python, torch, coterie, commit."""
    named = torch.cuda.get_device_name() if devices.device.type == "cuda" else f"{platform.machine()} {devices.device.type}"
    made = {"date": date.today().isoformat(), "device": named, "cores": machine.cores(), "threads": torch.get_num_threads()}
    made |= {"precision": devices.precision, "python": platform.python_version(), "torch": torch.__version__}
    return made | {"coterie": version("coterie"), "commit": commit()}


@cache
def commit() -> str:
    """The commit of the checkout that this process began from, with + behind it where files differ from it; "" where it is installed."""
    top = _git("rev-parse", "--show-toplevel")
    if not top or Path(top) / "src" / "coterie" != HOME:
        return ""
    return _git("rev-parse", "--short=12", "HEAD") + ("+" if _git("status", "--porcelain", "--", str(HOME)) else "")


def _git(*words: str) -> str:
    try:
        return subprocess.run(["git", "-C", str(HOME), *words], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git here, or no checkout
        return ""


class Peak:
    """The most memory between its making and `mb()`, in MiB: of the GPU where the fit is on one, else of this process."""

    def __init__(self, devices: Devices):
        self.on_gpu = devices.device.type == "cuda"
        self.known = machine.forget_peak()
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()

    def mb(self) -> int | str:
        """ "" where the system does not tell."""
        if self.on_gpu:
            return round(torch.cuda.max_memory_allocated() / MB)
        return round(machine.peak_memory() / MB) if self.known else ""
