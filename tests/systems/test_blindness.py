"""No system sees a true label: a named set brings its labels along, and what they are changes no bit of any fit."""

import numpy as np
import pytest

from coterie.images import named
from coterie.methods import METHODS

from .runs import TINY, bits, fit

pytestmark = pytest.mark.systems
SHORT = {"scan": {"pretext_epochs": 1, "cluster_epochs": 1, "cluster_steps": 2, "selflabel_epochs": 1}}
SHORT |= {"spice": {"pretext_epochs": 1, "head_epochs": 1, "head_steps": 1, "joint_epochs": 1}}
SHORT |= {name: {"pretext_epochs": 1, "epochs": 1, "steps": 2} for name in ("temi", "turtle")}
SHORT |= {"deepcluster": {"epochs": 1, "restarts": 1, "draws": 1.0}, "pcp": {"epochs": 2}}
SHORT |= {name: {"pretext_epochs": 1, "restarts": 1} for name in ("ir", "is", "and", "idfd")} | {"kmeans": {}}
SHORT |= {name: {"epochs": 1} for name in ("iic", "cc", "pica", "sela", "dec", "idec")}
SHORT |= {name: {} for name in ("spectral", "agglomerative", "gmm")}
FITS = [*((method, {}) for method in METHODS), ("deepcluster", {"variant": "v2", "n_heads": 2})]


class Unreadable:
    """Labels that fail whoever looks at them."""

    def __getattr__(self, name):
        raise AssertionError("a fit looked at the labels")

    __array__ = __len__ = __getitem__ = __iter__ = lambda *_: Unreadable().asked


@pytest.mark.parametrize("method, settings", FITS, ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value)))
def test_true_labels_change_no_bit(monkeypatch, tmp_path, method, settings):
    """Noise in their place gives the same fit, and labels that cannot be read at all too."""
    honest = named.load_named("digits")
    for i, labels in enumerate((honest.labels, np.random.default_rng(0).permutation(honest.labels), Unreadable())):
        monkeypatch.setattr("coterie.images.opening.load_named", lambda name, y=labels: named.NamedSet(honest.pictures[:100], y, 10))
        fit("digits", tmp_path / str(i), method, clusters=None, **SHORT[method] | {"image_size": 8} | settings)
    assert len({bits(tmp_path / name) for name in "012"}) == 1


def test_every_method_is_here():
    assert set(SHORT) == set(TINY) == set(METHODS)
