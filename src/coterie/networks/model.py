"""A fitted model: an encoder and a head, saved as one file, that sorts new pictures into the clusters that exist."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from coterie.errors import InputError, words
from coterie.images import Images
from coterie.learning.calibration import COLDEST, HOTTEST
from coterie.networks.encoder import PRECOMPUTED, Encoder, EncoderSpec, build, features
from coterie.networks.heads import Centroids, Heads, MlpHeads, RowHeads, StudentHead, UnitCentroids, UnitHeads
from coterie.networks.recut import Recut
from coterie.run import Run, checkpoint, manifest
from coterie.run.devices import Devices, unwrap

KINDS = Heads, UnitHeads, RowHeads, MlpHeads, Centroids, UnitCentroids, StudentHead
HEADS: dict[str, type[nn.Module]] = {kind.__name__: kind for kind in KINDS}
RECUT = Recut.__name__  # stands around another head, perhaps several times
LAYERS = 64  # at most
FILE = "model.safetensors"
SIZES = {"projection": (0, 1 << 16), "image_size": (1, 1 << 12), "n_features": (1, 1 << 30), "n_clusters": (1, 1 << 30)}  # least, most


@dataclass
class Model:
    """`encoder` (B, 3, S, S) -> (B, D); `head` (B, D) -> logits (1, B, K)."""

    encoder: nn.Module
    head: nn.Module
    image_size: int
    n_features: int
    n_clusters: int
    temperature: float = 1.0  # what logits are divided by (fitting/confidence.py)

    @property
    def precomputed(self) -> bool:
        """Whether it was fitted on features and takes features."""
        encoder = unwrap(self.encoder)
        return isinstance(encoder, Encoder) and encoder.spec.name == PRECOMPUTED

    def features(self, images: Images, run: Run) -> Tensor:
        """Features (N, D) float32 of new images."""
        return features(self.encoder, images, run)

    @torch.no_grad()
    def probabilities(self, features_ND: Tensor) -> Tensor:
        """Probabilities (N, K) float32 of features."""
        return (self.head(features_ND)[0].float() / self.temperature).softmax(1)

    def save(self, path: Path) -> None:
        encoder = unwrap(self.encoder)
        assert isinstance(encoder, Encoder)
        state: dict[str, Any] = {
            "encoder": encoder.spec.name,
            "projection": encoder.spec.projection,
            "encoder_state": encoder.state_dict(),
            **_names(unwrap(self.head), self.n_clusters),
            "head_state": unwrap(self.head).state_dict(),
            "image_size": self.image_size,
            "n_features": self.n_features,
            "n_clusters": self.n_clusters,
            "temperature": self.temperature,
        }
        checkpoint.save(path, state, keep_previous=False)


def load(folder: Path, devices: Devices) -> Model:
    """The model of a run folder, on the device. Raises InputError naming what is missing or damaged, or was never written by a fit."""
    path = Path(folder) / FILE
    manifest.check(path)
    state = _state(path)
    spec = EncoderSpec(state["encoder"], state["image_size"], state["projection"])
    n_features, n_clusters = state["n_features"], state["n_clusters"]
    encoder = _filled(path, lambda: build(spec), state["encoder_state"])
    head = _filled(path, lambda: _head(state), state["head_state"])
    if not all(layer.fits() for layer in head.modules() if isinstance(layer, Recut)):
        raise InputError(f"{path} is not a model that a fit wrote: its parts of clusters lead nowhere")
    if getattr(encoder, "n_features", 0) not in (0, n_features):
        raise InputError(f"{path} is not a model that a fit wrote: the head takes {n_features} features, {spec.name} has others")
    placed = devices.place(encoder.eval().requires_grad_(False)), devices.place(head.requires_grad_(False))
    return Model(*placed, spec.image_size, n_features, n_clusters, state["temperature"])


def recut(path: Path, new: Path, layer: dict[str, Tensor], n_clusters: int) -> None:
    """Writes the model at `path` to `new` with a `Recut` of these tensors around its head. The encoder is not built for it."""
    manifest.check(path)
    state = _state(path)
    inner = {f"before.{key}": value for key, value in state["head_state"].items()}
    within = [[state["head"], state["n_clusters"]], *state["within"]]
    if len(within) > LAYERS:
        raise InputError(f"{path} was recut {LAYERS} times already; recut an earlier run")
    layer = layer | {"temperature": torch.tensor(state["temperature"])}  # of the head within; what is made of it is as sure
    changed = {"head": RECUT, "within": within, "head_state": layer | inner, "n_clusters": n_clusters, "temperature": 1.0}
    checkpoint.save(new, state | changed, keep_previous=False)


def refit(path: Path, new: Path, head: nn.Module, n_clusters: int, temperature: float) -> None:
    """Writes the model at `path` to `new` with `head` in place of its own. The encoder is not built for it."""
    manifest.check(path)
    state = _state(path) | {"within": [], **_names(head, n_clusters), "head_state": head.state_dict()}
    checkpoint.save(new, state | {"n_clusters": n_clusters, "temperature": temperature}, keep_previous=False)


def _names(head: nn.Module, n_clusters: int) -> dict[str, Any]:
    """`head`: its name; `within`, of a recut one: name and number of clusters of each head that stands in another, the outer first."""
    within: list[list[Any]] = []
    inner = head
    while isinstance(inner, Recut):
        within.append([type(unwrap(inner.before)).__name__, inner.n_before])
        inner = unwrap(inner.before)
    return {"head": type(head).__name__, **({"within": within} if within else {})}


def _head(state: dict[str, Any]) -> nn.Module:
    """The head that a state names, with the sizes that its tensors have."""
    tensors, n_features = state["head_state"], state["n_features"]
    layers = [(state["head"], state["n_clusters"]), *state["within"]]
    hidden = tensors.get("before." * (len(layers) - 1) + "hidden.weight")  # of two layers; those of earlier runs may be wider than today's
    name, k = layers.pop()
    wide = {"width": hidden.shape[1]} if name == "MlpHeads" and isinstance(hidden, Tensor) and hidden.ndim == 3 else {}
    head = HEADS[name](n_features, k, **wide)
    while layers:
        _, more = layers.pop()
        parts, divided = (_length(tensors.get("before." * len(layers) + key)) for key in ("of", "which"))
        head, k = Recut(head, n_features, k, more, parts, divided), more
    return head


def _length(tensor: Any) -> int:
    return tensor.numel() if isinstance(tensor, Tensor) else 0


def _state(path: Path) -> dict[str, Any]:
    """What `Model.save` wrote. The file may be a stranger's, with a right checksum over anything: its nesting and types are checked."""
    try:
        state = checkpoint.load(path)
    except InputError:
        raise
    except (RecursionError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is not a model that a fit wrote ({type(error).__name__}); restore it from a copy, or fit again"
        ) from error
    kinds = {"encoder": str, "head": str, "encoder_state": dict, "head_state": dict} | dict.fromkeys(SIZES, int) | {"temperature": float}
    state = {"projection": 0, "within": [], "temperature": 1.0, **state} if isinstance(state, dict) else {}  # earlier runs have none
    wrong = [name for name, kind in kinds.items() if type(state.get(name)) is not kind]
    wrong += [name for name, (least, most) in SIZES.items() if name not in wrong and not least <= state[name] <= most]
    wrong += ["temperature"] if "temperature" not in wrong and not COLDEST <= state["temperature"] <= HOTTEST else []
    if wrong or not _nests(state):
        raise InputError(
            f"{path} is not a model that a fit wrote: its {(wrong or ['head'])[0]} cannot be; restore it from a copy, or fit again"
        )
    return state


def _nests(state: dict[str, Any]) -> bool:
    """Whether the heads named are known, and only a recut one stands around another."""
    within = state["within"]
    if not isinstance(within, list) or len(within) > LAYERS or not all(isinstance(one, list) and len(one) == 2 for one in within):
        return False
    names, (least, most) = [state["head"], *(name for name, _ in within)], SIZES["n_clusters"]
    known = all(name == RECUT for name in names[:-1]) and isinstance(names[-1], str) and names[-1] in HEADS
    return known and all(type(k) is int and least <= k <= most for _, k in within)


def _filled(path: Path, make: Callable[[], nn.Module], state: dict[str, Any]) -> nn.Module:
    """The module that `make` builds, with the weights of a file. It is built without memory and compared with them, so that a name or a
    size in the file takes no more room than the file itself, and no weight is drawn that the file replaces."""
    try:
        with torch.device("meta"), _Undrawn():
            module = make()
    except InputError:
        raise
    except Exception as error:  # a size no network can have makes torch and timm raise almost any class
        if "meta" not in str(error):  # as older timm says of a few of its models: they are compared once they are built
            raise InputError(f"{path} is not a model that a fit wrote: it cannot be built ({words(error)})") from error
        module = make()
    wanted = module.state_dict()
    differs = [key for key in {**wanted, **state} if key not in wanted or not _alike(state.get(key), wanted[key])]
    if differs:
        raise InputError(f"{path} is not a model that a fit wrote: its network and its weights differ (first: {differs[0]})")
    module.load_state_dict({key: tensor.clone() for key, tensor in state.items()}, assign=True)
    if not _has_memory(module):  # what no file holds, such as places that timm numbers when it builds
        module = make()
        module.load_state_dict(state)
    return module


class _Undrawn(TorchFunctionMode):
    """Leaves out normal draws. For tensors without memory torch has no kernel of them, and imports for seconds what can say their shape."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func is Tensor.normal_ else func(*args, **(kwargs or {}))


def _has_memory(module: nn.Module) -> bool:
    held = [*module.parameters(), *module.buffers(), *(value for part in module.modules() for value in vars(part).values())]
    return not any(isinstance(one, Tensor) and one.is_meta for one in held)


def _alike(found: Any, wanted: Tensor) -> bool:
    return isinstance(found, Tensor) and found.shape == wanted.shape and found.dtype == wanted.dtype
