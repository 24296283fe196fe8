"""A view is the same where a network sees it in bf16: nothing of it is rounded on the way."""

import pytest
import torch

from coterie import augment
from coterie.run.seeding import generator

KINDS = {name: getattr(augment, name) for name in ("pretext", "crops", "weak", "strong", "fixmatch_weak", "fixmatch_strong")}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", augment.SETS)
def test_a_view_does_not_mind_autocast(kind, name):
    x, view = torch.rand(8, 3, 24, 24, generator=generator(0, "x")), KINDS[kind](name)
    plain = view(x, generator(1, "view"))
    with torch.autocast("cpu", torch.bfloat16):
        assert (x.flatten(1) @ x.flatten(1).T).dtype == torch.bfloat16, "autocast does nothing here, and the test would not fail"
        seen = view(x, generator(1, "view"))
    assert seen.dtype == torch.float32 and torch.equal(seen, plain) and not torch.equal(seen, x)
