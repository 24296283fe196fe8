"""The page of the table `speed`, made of its rows alone."""

from statistics import median

from coterie.bench.page import Row, grouped
from coterie.errors import InputError
from coterie.report.wording import count

LEAST, MOST = 0.95, 1.3  # targets: of the bare network's speed; of the time of one head
PLACE = ("device", "cores", "threads", "precision", "coterie", "torch")
ABOUT = f"""\
Made by `coterie bench speed`; rows: `speed.csv`. What a fit costs beside its network: ours and the bare network in turns, in one process,
on random pictures. *ratio*: the bare network's time / ours; of heads the time of ten / of one. The median of the turns, and their range.
*by CPU time*: the same of what the process computed, which says less about who else was there. Load: processes that wanted a core.
Targets: at least {LEAST}; heads at most {MOST}. A line that missed its own is marked so, by the median of the ratio.
"""


def text(rows: list[Row], pairs: list[Row]) -> str:
    """The page. Raises InputError where the rows have other columns than those of this table."""
    if missing := {"what", "ratio", "cpu_ratio", "target", "load", *PLACE} - set(rows[0]):
        raise InputError(f"speed.csv has no column {', '.join(sorted(missing))}; move it away")
    parts = ["# Speed\n", ABOUT]
    for at, some in grouped(rows, PLACE).items():
        device, cores, threads, precision, ours, torch_version = at
        loads = [float(row["load"]) for row in some]
        parts += [f"## {device}, {count(int(cores), 'core')}, {count(int(threads), 'thread')}, {precision}\n"]
        parts += [f"coterie {ours}, torch {torch_version}. Load {min(loads):g} to {max(loads):g} (`speed.csv`).\n"]
        parts += ["| | network | px | turns | ratio | by CPU time | target | images a second |", "|---|---|---|---|---|---|---|---|"]
        parts += [_line(line) for line in grouped(some, ("what", "encoder", "size", "batch")).values()] + [""]
    return "\n".join(parts)


def _line(rows: list[Row]) -> str:
    first, ratio, cpu, each = rows[0], *([float(row[name]) for row in rows] for name in ("ratio", "cpu_ratio", "images_per_second"))
    target = float(first["target"])
    met = median(ratio) >= target if target < 1 else median(ratio) <= target
    wanted = f"{'at least' if target < 1 else 'at most'} {target:g}, {'met' if met else 'missed'}"
    cells = [first["what"], first["encoder"], first["size"], str(len(rows)), *(_told(values) for values in (ratio, cpu)), wanted]
    return f"| {' | '.join(cells)} | {median(each):,.0f} |" if first["encoder"] else f"| {' | '.join(cells)} | |"


def _told(values: list[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
