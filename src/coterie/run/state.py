"""What of a stage goes to disk and comes back: modules, optimizers, tensors, dicts; and the named results of whole-dataset steps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from coterie.errors import InputError
from coterie.run import checkpoint
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


def newest(path: Path, say: Callable[[str], None], lost: str) -> Any | None:
    """The newest undamaged state at `path`; None when there is none, and `lost` is said when there was one."""
    try:
        return checkpoint.load_latest(path)
    except checkpoint.Damaged:
        say(lost)
        return None


def save_result(path: Path, value: Any) -> None:
    """Writes the result of a whole-dataset step: a tensor, or a NamedTuple of tensors and numbers."""
    kind = type(value).__name__ if isinstance(value, tuple) else ""
    checkpoint.save(path, {"kind": kind, "value": list(value) if kind else value}, keep_previous=False)


def saved_result(path: Path) -> Any | None:
    """What `save_result` wrote; None when it is not there or cannot be read, as it is made again then."""
    try:
        told = checkpoint.load(path)
    except (FileNotFoundError, InputError):
        return None
    return named_tuples()[told["kind"]](*told["value"]) if told["kind"] else told["value"]


def named_tuples() -> dict[str, Callable[..., Any]]:
    """The results that `Run.once` keeps with their names."""
    from coterie.clustering.kmeans import Clustering
    from coterie.clustering.neighbours import Neighbours
    from coterie.clustering.spaces import Reduced

    return {"Clustering": Clustering, "Neighbours": Neighbours, "Reduced": Reduced}
