"""What of a stage goes to disk and comes back: modules, optimizers, tensors, dicts; and the named results of whole-dataset steps."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from coterie.run.devices import unwrap


def state_of(value: Any) -> Any:
    """What is saved of a module, an optimizer, or plain data."""
    if isinstance(value, nn.Module):
        return unwrap(value).state_dict()
    return value.state_dict() if hasattr(value, "state_dict") else value


def restore(value: Any, saved: Any) -> None:
    """Puts what was saved back, in place: loops hold on to these objects."""
    if isinstance(value, nn.Module):
        unwrap(value).load_state_dict(saved)
    elif hasattr(value, "load_state_dict"):
        value.load_state_dict(saved)
    elif isinstance(value, Tensor):
        value.copy_(saved)
    else:
        assert isinstance(value, dict), f"{type(value)} cannot be restored in place"
        value.clear()
        value.update(saved)


def named_tuples() -> dict[str, Callable[..., Any]]:
    """The results that `Run.once` keeps with their names."""
    from coterie.clustering.kmeans import Clustering
    from coterie.clustering.neighbours import Neighbours
    from coterie.clustering.spaces import Reduced

    return {"Clustering": Clustering, "Neighbours": Neighbours, "Reduced": Reduced}
