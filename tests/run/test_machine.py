"""What the machine is asked for."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from coterie.run import machine
if sys.argv[1] == "kept":
    assert machine.keep_memory()
for _ in range(20):  # until the heap has grown to what they need
    torch.ones(1 << 24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(1 << 24)  # 64 MB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_memory_that_is_kept_is_not_asked_for_again():
    def faults(how: str) -> int:
        return int(
            subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True, env=dict(os.environ)).stdout
        )

    assert faults("kept") < faults("as it comes") / 4


def test_another_c_library_is_left_alone(monkeypatch):
    from coterie.run import machine

    monkeypatch.setattr(platform, "libc_ver", lambda: ("musl", "1.2"))
    assert not machine.keep_memory()
