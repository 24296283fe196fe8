"""`predict` and `features` of a very large source, as parts of a folder: pictures are decoded, seen and let go, block by block."""

import itertools
import os
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch

from coterie.errors import InputError
from coterie.fitting import assignments, features, parts, presets
from coterie.fitting.encoders import AUTO
from coterie.fitting.new_pictures import FALSE_ALARMS, Known, check_rate
from coterie.fitting.parts import Layout
from coterie.fitting.planning import config_of
from coterie.images import Images
from coterie.images.named import is_named
from coterie.images.remote import is_url
from coterie.images.stream import BLOCK, Stream, open_stream
from coterie.methods import pretext
from coterie.methods.pretext import PretextConfig
from coterie.networks import encoder as networks
from coterie.networks.encoder import STATISTICS_FROM
from coterie.networks.model import FILE, load
from coterie.networks.weights import encoder_of_run, weights_file
from coterie.run import Run, manifest
from coterie.run.devices import Devices, unwrap
from coterie.run.progress import Silent


@dataclass(frozen=True)
class Work:
    """What is done to each block, and the stream it comes from; `settings` are written beside the parts, for whoever continues."""

    stream: Stream
    layout: Layout
    make: parts.Made
    settings: dict[str, Any]
    about: dict[str, Any]  # what --json tells besides the counts


class Wish(NamedTuple):
    """What a command asks of a folder of parts: which share of them to make."""

    folder: Path
    shard: tuple[int, int] = (0, 1)


class Recipe(NamedTuple):
    """How any process makes the `Work` of a command: `predict` or `of_encoder`, what they take, and the words for its devices."""

    verb: str
    given: dict[str, Any]
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None

    def work(self) -> Work:
        make = predict if self.verb == "predict" else of_encoder
        return make(**self.given, devices=Devices(self.device, self.precision, self.threads))

    def anywhere(self) -> "Recipe":
        """The same with whole paths, for a process in another folder."""
        return self._replace(given={name: in_full(name, value) for name, value in self.given.items()})


def predict(
    folder: Path, source: str, false_alarms: float = FALSE_ALARMS, devices: Devices | None = None, cache: Path | None = None,
    part_size: int | None = None,
) -> Work:  # fmt: skip
    """The rows that `coterie predict` writes, of a stream. InputError as for a file."""
    devices = devices or Devices()
    check_rate(false_alarms)
    _alone(devices)
    model, made = load(folder, devices), config_of(folder)
    if model.precomputed:
        raise InputError(f"{folder} was fitted on features, not on pictures; in Python, coterie.load(...).predict takes such features")
    max_pixels = made["settings"].get("max_pixels", PretextConfig.max_pixels)
    stream = open_stream(source, model.image_size, max_pixels, made["source"].get("levels"), cache)
    layout, known = parts.layout(stream, part_size), Known(folder, false_alarms, devices.device)
    run = Run(devices=devices)

    def make(images: Images) -> tuple[pa.Table, dict[str, int]]:
        z_BD = model.features(images, run) if len(images) else torch.empty(0, model.n_features, device=devices.device)
        found = known(z_BD)
        rows = assignments.table(images.paths, model.probabilities(z_BD), novel=found.novel_M, novelty=found.scores_M)
        return rows, {"n_novel": int(found.novel_M.sum())}

    settings = {"model": manifest.digest(folder / FILE), "false-alarms": false_alarms}
    return Work(stream, layout, make, settings, {"false_alarms": known.false_alarms})


def of_encoder(
    source: str, encoder: str = AUTO, weights: Path | None = None, image_size: int | None = None, devices: Devices | None = None,
    cache: Path | None = None, network: bool = False, part_size: int | None = None,
) -> Work:  # fmt: skip
    """The rows that `coterie features` writes, of a stream. InputError as for a file.

    Where the encoder takes mean and deviation of the colours from the pictures (`pixels`, and weights of our own networks that are no
    run's), they are those of at most 10,000 items spread evenly over the source, fewer where these would take more than 64 MB.
    """
    devices = devices or Devices()
    _alone(devices)
    stand_in = np.zeros((1, 32, 32, 3), np.uint8)  # of the settings of an encoder that is frozen none depends on the pictures
    _, config = features.frozen(stand_in, encoder, weights, image_size, network, presets.of_source(source))
    stream = open_stream(source, config.image_size, config.max_pixels, cache=cache)
    layout = parts.layout(stream, part_size)
    told = config.pretrained or (config.weights and encoder_of_run(Path(config.weights)) is not None)
    some = _some(stream, 1 if told else min(STATISTICS_FROM, max(1, BLOCK // (3 * config.image_size**2))))
    run = Run(devices=devices)
    net = pretext.train(some, config, run)
    width: int = unwrap(net).n_features  # type: ignore[assignment]

    def make(images: Images) -> tuple[pa.Table, dict[str, int]]:
        z_BD = networks.features(net, images, run) if len(images) else torch.empty(0, width)
        return features.rows_of(z_BD.cpu().numpy(), images.paths), {}

    settings = {"encoder": config.encoder, "image_size": config.image_size}
    settings |= {"weights": manifest.digest(weights_file(config.weights))} if config.weights else {}
    return Work(stream, layout, make, settings, {"encoder": config.encoder, "dimensions": width})


def work(verb: str, wish: Wish, todo: Work, progress: Silent | None = None) -> dict[str, Any]:
    """Makes the wished share of the parts, or what is missing of it; returns what --json tells."""
    mine = todo.layout.share(wish.shard)
    parts.begin(wish.folder, verb, todo.stream, todo.layout, todo.settings)
    counts = parts.fill(wish.folder, todo.stream, todo.layout, mine, todo.make, progress)
    items = [todo.layout.of(mine.start).start, todo.layout.of(mine.stop - 1).stop] if mine else [0, 0]
    told = {"output": str(wish.folder), "items": items, "of_items": todo.layout.total, **counts, **todo.about}
    return told | {"parts_left": parts.left(wish.folder, todo.layout)}


def _some(stream: Stream, count: int) -> Images:
    """Pictures of at most `count` items spread evenly over the stream, where any of them can be read; else the first that can."""
    step = max(1, stream.count // count)
    spread = (range(i, i + 1) for i in range(0, step * min(count, stream.count), step))
    found = [images for images in stream.blocks(spread) if len(images)]
    if not found:
        with closing(stream.blocks(range(i, i + 1) for i in range(stream.count))) as each:
            found = list(itertools.islice((one for one in each if len(one)), 1))
    if not found:
        raise InputError(f"{stream.name}: none of its {stream.count:,} pictures can be read")
    return replace(found[0], pixels=torch.cat([one.pixels for one in found]), paths=[path for one in found for path in one.paths])


def in_full(name: str, value: Any) -> Any:
    """A path in full. Of words the source alone may be one, unless it is the name of a set, or a url."""
    if isinstance(value, Path) or (name == "source" and not is_named(value) and not is_url(value)):
        return type(value)(os.path.abspath(os.path.expanduser(value)))
    return value


def _alone(devices: Devices) -> None:
    if devices.world > 1:
        raise InputError("parts of a folder are made by single processes: start it without torchrun, and give each a share, --shard I/N")
