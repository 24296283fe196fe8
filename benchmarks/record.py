"""Every measurement is a row in benchmarks/results/<table>.csv, with what it was measured on."""

import csv
import platform
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch

from coterie.run import machine
from coterie.run.devices import Devices

RESULTS = Path(__file__).parent / "results"


def record(table: str, row: dict) -> None:
    """Append `row` to the table, with date, device, cores and versions. The first row fixes the columns; ValueError when they differ."""
    cpu = f"{platform.machine()} cpu {torch.backends.cpu.get_cpu_capability()}, {Devices('cpu', threads=torch.get_num_threads()).precision}"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else cpu
    versions = {"python": platform.python_version(), "torch": torch.__version__, "coterie": version("coterie")}
    whole = {"date": date.today().isoformat(), "device": device, "cores": machine.cores(), **versions, **row}
    path = RESULTS / f"{table}.csv"
    path.parent.mkdir(exist_ok=True)
    fresh = not path.exists()
    if not fresh:
        with path.open(newline="") as file:
            columns = next(csv.reader(file))
        if set(columns) != set(whole):
            raise ValueError(f"{table}.csv has the columns {columns}, this row {list(whole)}; move the old table away")
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(whole) if fresh else columns, lineterminator="\n")
        if fresh:
            writer.writeheader()
        writer.writerow(whole)


def done(table: str, key: dict) -> bool:
    """Whether the table has a row with these values, so that an interrupted table continues where it stopped."""
    path = RESULTS / f"{table}.csv"
    if not path.exists():
        return False
    with path.open(newline="") as file:
        return any(all(row.get(name) == str(value) for name, value in key.items()) for row in csv.DictReader(file))
