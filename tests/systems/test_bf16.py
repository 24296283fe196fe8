"""Every method and every pretext in bf16, as a GPU and some CPUs compute by default: nothing but the networks' inside is rounded."""

from typing import get_args

import numpy as np
import pytest

from coterie.methods.pretext import Pretext
from coterie.run.files import read_tensors

from .runs import fit, outcome
from .test_blindness import FITS, SHORT

pytestmark = pytest.mark.systems


@pytest.mark.parametrize("method, settings", FITS, ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value)))
def test_a_fit_in_bf16(drawn, tmp_path, method, settings):
    fit(drawn(48, 16), tmp_path / "run", method, precision="bf16", **SHORT[method] | {"image_size": 16} | settings)
    whole(tmp_path / "run")


@pytest.mark.parametrize("pretext", get_args(Pretext)[:-1])
def test_a_pretext_in_bf16(drawn, tmp_path, pretext):
    settings = SHORT["scan"] | {"image_size": 16, "pretext": pretext, "anchor_rounds": 1}
    fit(drawn(48, 16), tmp_path / "run", "scan", precision="bf16", **settings)
    whole(tmp_path / "run")


def whole(run) -> None:
    labels, p = outcome(run)
    assert len(labels) == 48 and np.isfinite(p).all() and np.allclose(p.sum(1), 1, atol=1e-4)
    assert np.isfinite(read_tensors(run / "features.safetensors", "features")["features"]).all()
