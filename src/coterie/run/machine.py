"""What this container really has, cores and memory, not those of the host; and how memory is kept. Standard library only."""

import ctypes
import os
import platform
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
TRIM, MMAP = -1, -3  # numbers of glibc's mallopt
KEPT, WHOLE = 1 << 30, 1 << 29  # bytes at the end of the heap, and of one piece, up to which memory is kept


def cores() -> int:
    """Processors this process may use: the affinity mask, cut to the container's quota; at least 1."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _words(CGROUP / "cpu.max")  # "max 100000" or "150000 100000": microseconds per period
    if len(quota) == 2 and quota[0] != "max":
        count = min(count, max(1, int(quota[0]) // int(quota[1])))
    return count


def memory() -> int:
    """Bytes of memory this process may use: the machine's, cut to the container's limit."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 8 << 30
    for limit in (CGROUP / "memory.max", CGROUP / "memory" / "memory.limit_in_bytes"):
        words = _words(limit)
        if words and words[0].isdigit():
            total = min(total, int(words[0]))
    return total


def keep_memory() -> bool:
    """Lets this process keep memory it has freed, up to 1 GiB, for its next batch; whether the C library (glibc) can be told so.

    Left to itself it gives every large map back, and the next one is new pages again, one by one: 5 to 14 % of the images/s of a
    network on two cores (benchmarks/results/encoding.csv, ways "folded" and "kept").
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(MMAP, WHOLE)) and bool(mallopt(TRIM, KEPT))


def forget_peak() -> bool:
    """Lets `peak_memory` begin anew; whether the system (Linux) can be told so."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak_memory() -> int:
    """Bytes of memory this process has had at most since it began, or since `forget_peak`; 0 where the system does not tell (not Linux)."""
    words = _words(Path("/proc/self/status"))
    return int(words[words.index("VmHWM:") + 1]) * 1024 if "VmHWM:" in words else 0


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
