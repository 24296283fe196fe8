"""Which precision a CPU gets under `--precision auto`."""

from pathlib import Path

import pytest
import torch

from coterie.run import devices
from coterie.run.devices import Devices


@pytest.fixture
def cpu(monkeypatch):
    """A CPU with these flags, on which a product takes these seconds in float32 and in bf16, whatever stands here."""

    def made(flags: str, single: float = 1.0, half: float = 1.0) -> str:
        monkeypatch.setattr(Path, "read_text", lambda path: f"processor : 0\nflags : fpu avx2 {flags}\n")
        monkeypatch.setattr(devices, "_seconds", lambda square: half if square.dtype == torch.bfloat16 else single)
        devices._cpu_computes_bf16.cache_clear()
        return Devices("cpu").precision

    yield made
    devices._cpu_computes_bf16.cache_clear()


def test_without_the_instructions_it_is_float32_untried(cpu, monkeypatch):
    monkeypatch.setattr(devices, "_faster_in_bf16", lambda: pytest.fail("AVX2 alone takes twenty times as long in bf16"))
    assert cpu("avx512f") == "fp32"


def test_amx_is_bf16_untried(cpu, monkeypatch):
    monkeypatch.setattr(devices, "_faster_in_bf16", lambda: pytest.fail("no trial is needed"))
    assert cpu("avx512_bf16 amx_bf16") == "bf16"


@pytest.mark.parametrize(("half", "expected"), [(0.24, "bf16"), (0.79, "bf16"), (0.81, "fp32"), (1.6, "fp32")])
def test_with_avx512_bf16_alone_the_trial_decides(cpu, half, expected):
    assert cpu("avx512_bf16", 1.0, half) == expected


def test_one_slow_moment_decides_nothing(cpu, monkeypatch):
    assert cpu("avx512_bf16", 1.0, 0.3) == "bf16"
    seconds = iter([9.0, 0.3, 1.0, 9.0] + [1.0, 0.3] * devices.TRIES)
    monkeypatch.setattr(devices, "_seconds", lambda square: next(seconds))
    assert devices._faster_in_bf16()


def test_threads_stay_as_they_were():
    before = torch.get_num_threads()
    devices._faster_in_bf16()
    assert torch.get_num_threads() == before


def test_what_was_asked_for_is_taken(cpu):
    cpu("avx512_bf16")
    assert (Devices("cpu", "bf16").precision, Devices("cpu", "fp32").precision) == ("bf16", "fp32")
