"""Trained weights into an encoder: from a local file, from an installed package, from the hub's cache on this machine, or from the hub."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from coterie.errors import InputError
from coterie.networks import published
from coterie.networks.encoder import OWN, SOBEL, Encoder, EncoderSpec, build, hub_of, of_timm, published_colours
from coterie.run import checkpoint


def load_weights(encoder: Encoder, file: Path) -> None:
    """Loads a local safetensors file into the backbone: a state_dict of it or of a whole encoder, or a run (its folder, or the
    model.safetensors in it), then with the run's colour statistics; for timm models those they were trained with. InputError says what
    does not fit."""
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    file = weights_file(file)
    if file.exists() and not file.is_file():  # a pipe would be waited for without end, whatever signal comes
        raise InputError(f"--weights {file}: a pipe or a device, not a file; write what it gives to a file")
    try:
        with safe_open(file, "pt") as opened:
            of_a_run = "tree" in (opened.metadata() or {})
        state = checkpoint.load(file)["encoder_state"] if of_a_run else load_file(file)
    except InputError:
        raise
    except (OSError, SafetensorError) as error:
        raise InputError(f"--weights {file}: not a readable safetensors file ({error})") from error
    except (RecursionError, LookupError, ValueError, TypeError, AttributeError) as error:  # a stranger's, with a right checksum
        raise InputError(f"--weights {file}: not a model that a fit wrote ({type(error).__name__})") from error
    if not isinstance(state, dict) or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()):
        raise InputError(f"--weights {file}: not a model that a fit wrote, its encoder is not a list of tensors")
    if of_a_run:
        colours = [state.get(name, torch.empty(0)) for name in ("mean", "deviation")]
        if any(colour.shape != (3,) for colour in colours):
            raise InputError(f"--weights {file}: not a model that a fit wrote, it lacks the mean and deviation of three colours")
        encoder.standardise(*colours)
    state = {key.removeprefix("encoder.").removeprefix("backbone."): value for key, value in state.items()}
    wanted = encoder.backbone.state_dict()
    missing = sorted(key for key in wanted if key not in state or state[key].shape != wanted[key].shape)
    if missing:
        raise InputError(
            f"--weights {file}: {len(missing)} of {len(wanted)} tensors of {encoder.spec.name} are not in it (first: {missing[0]})"
        )
    encoder.backbone.load_state_dict({key: state[key] for key in wanted})
    if encoder.spec.network not in OWN and not of_a_run:
        encoder.standardise(*published_colours(encoder.backbone))


def weights_file(file: str | Path) -> Path:
    """What --weights names: a file, or that of the run whose folder it is."""
    return Path(file) / "model.safetensors" if Path(file).is_dir() else Path(file)


def encoder_of_run(file: Path) -> tuple[str, int] | None:
    """The name of the encoder that a run (its folder, or the model.safetensors in it) holds, and the px it saw pictures at; None for any
    other file."""
    file = weights_file(file)
    try:
        state = checkpoint.load(file)
        return state["encoder"], state["image_size"]
    except (
        OSError,
        InputError,
        LookupError,
        TypeError,
        ValueError,
        RecursionError,
        AttributeError,
    ):  # no run's: whoever loads it says what is wrong
        return None


def load_pretrained(encoder: Encoder, network: bool = False) -> None:
    """Loads the published weights of each part of the encoder, with the colours they were trained with: from an installed package, else
    from the hub's cache, else, if `network`, from the hub. InputError says what to do where they are not to be had."""
    for part in encoder.parts:
        _load_published(part, network)


def is_here(name: str) -> bool:
    """Whether the published weights of an encoder lie on this machine, all parts of it."""
    return all(published.in_package(part) or published.in_hub_cache(hub_of(part)) for part in published.parts(name))


def fetch(name: str, image_size: int) -> None:
    """Brings the published weights to this machine, over the network, unless they are here."""
    if not is_here(name):
        load_pretrained(build(EncoderSpec(name, image_size)), network=True)


def _load_published(encoder: Encoder, network: bool) -> None:
    name = encoder.spec.network
    if name in OWN:
        raise InputError(
            f"encoder {name!r} has no published weights; give a local file with --weights, or name a timm model with --encoder"
        )
    if encoder.spec.name.endswith(SOBEL):
        raise InputError(
            f"encoder {encoder.spec.name!r} sees edges, and published weights were trained on colours; leave {SOBEL} out, or train it"
        )
    if file := published.in_package(name):
        _take_in_order(encoder, file, published.PUBLISHED[name].sha256)
        return
    cached = published.in_hub_cache(hub_of(name))
    if not (cached or network):
        raise InputError(f"the weights of {name!r} are not on this machine; {published.how_to_get(name)}")
    try:
        source = of_timm(encoder.spec, weights=cached or True)
    except InputError:
        raise
    except Exception as error:  # whatever way the hub fails, the person offline needs the same advice
        raise InputError(f"the weights of {name!r} could not be loaded ({type(error).__name__}); {published.how_to_get(name)}") from error
    encoder.backbone.load_state_dict(source.state_dict())
    encoder.standardise(*published_colours(encoder.backbone))


def _take_in_order(encoder: Encoder, file: Path, sha256: str) -> None:
    """The tensors of a package's file fit timm's network one by one, in order, under other names; its classifier is left out."""
    if hashlib.sha256(file.read_bytes()).hexdigest() != sha256:
        raise InputError(f"{file.name} is not the file that belongs there (its sha256 differs); install its package again")
    given: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    whole: nn.Module = of_timm(encoder.spec, n_classes=1000)
    wanted = whole.state_dict()
    assert [value.shape for value in given.values()] == [value.shape for value in wanted.values()], f"{file.name} does not fit"
    taken = dict(zip(wanted, given.values()))
    encoder.backbone.load_state_dict({key: taken[key] for key in encoder.backbone.state_dict()})
    encoder.standardise(*published_colours(encoder.backbone))
