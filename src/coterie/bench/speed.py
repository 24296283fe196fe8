"""What a fit costs beside its network: `coterie bench speed`. Ours and the bare network take turns in one process; pictures are random.

training   an epoch as a fit trains it (batches, views, network, loss, optimizer, what the method does between epochs), against forward and
           backward of the same encoder and head on as many ready views in the same batches, and a forward pass of as many as the method
           has for its teacher, clusters or scores: no loss, no optimizer. Target: ratio of the seconds, bare / ours, at least 0.95
features   `encoder.features`, and `predict` of a run, which also loads its model, against the forward pass. Target: at least 0.95
heads      SCAN's clustering stage and SPICE's prototypes on random features, ten heads against one: ten / one. Target: at most 1.3

The first turn warms up and is no row. `ratio` is of wall time, `cpu_ratio` of what the process computed, which says less about who else
was there; `load` is the machine's in the last minute, in processes that wanted a core.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from coterie import fitting
from coterie.bench import OWN, Asked, Table
from coterie.bench.place import place
from coterie.bench.rows import Rows
from coterie.bench.speed_page import LEAST, MOST, PLACE, text
from coterie.bench.turns import Pairs, Timed, alternate, spent
from coterie.errors import InputError
from coterie.images import Images, open_images
from coterie.images.collection import open_rows
from coterie.methods import deepcluster, pcp, pretext, scan, spice
from coterie.methods.fitted import Fitted
from coterie.networks.encoder import PRECOMPUTED, EncoderSpec, build, features
from coterie.networks.heads import Heads, Projector
from coterie.run import Run
from coterie.run.devices import Devices

TURNS = 3  # at least; more with --seeds
EPOCH = 2.5  # seconds of the bare network's forward and backward, at most: where one is slow it has fewer steps
KINDS, FEATURES = 10, 128


@dataclass(frozen=True)
class Case:
    """A network, and how much of it is an epoch: `steps` updates of `views` views."""

    encoder: str
    size: int
    views: int
    steps: int

    @property
    def name(self) -> str:
        return f"{self.encoder}:{self.size}"


CPU = (Case("small", 32, 512, 4), Case("small", 96, 256, 4), Case("resnet18-cifar", 32, 64, 2))  # seconds an epoch on two cores
GPU = (Case("small", 32, 1024, 40), Case("small", 96, 512, 40), Case("resnet18-cifar", 32, 1024, 40), Case("resnet18-cifar", 96, 256, 40))


@dataclass(frozen=True)
class Training:
    """A stage that trains. `images`: how many an update has, in parts of its views; `views`: how many of these there are, in parts of the
    case's; `looks`: whether each image also gets a forward pass."""

    train: Callable[[Case, Images, nn.Module, int, Run], object]
    images: float
    looks: bool = True
    views: float = 1
    projects: bool = False


def simclr(case: Case, images: Images, encoder: nn.Module, epochs: int, run: Run, task: str = "simclr", part: int = 2) -> None:
    names: dict[str, Any] = {"pretext": task, "pretext_epochs": epochs}
    pretext.train(images, pretext.PretextConfig(**settings(case), **names, pretext_batch=case.views // part), run)


def moco(case: Case, images: Images, encoder: nn.Module, epochs: int, run: Run) -> None:
    simclr(case, images, encoder, epochs, run, "moco", 1)


def network_stage(case: Case, images: Images, encoder: nn.Module, epochs: int, run: Run) -> None:
    config = scan.Config(**settings(case), network_epochs=epochs, network_batch=case.views // 2)
    scan.cluster_network(*clustered(images, encoder, run), images, config, run)


def self_labelling(case: Case, images: Images, encoder: nn.Module, epochs: int, run: Run) -> None:
    """Every image is confident, and it does not stop before its last epoch."""
    config = scan.Config(**settings(case), selflabel_epochs=epochs, selflabel_batch=case.views, threshold=0.0, patience=epochs + 1)
    scan.self_label(*clustered(images, encoder, run), images, config, run)


def fixmatch(case: Case, images: Images, encoder: nn.Module, epochs: int, run: Run) -> None:
    config = spice.Config(**settings(case), joint_epochs=epochs, joint_batch=case.views // 16)
    found, neighbours_NK = clustered(images, encoder, run)
    spice.learn_together(found, found.p_NK.argmax(1), neighbours_NK, images, config, run)


def deep_clustering(case: Case, images: Images, encoder: nn.Module, epochs: int, run: Run) -> None:
    config = deepcluster.settled(deepcluster.Config(**settings(case), epochs=epochs, batch=case.views))
    deepcluster.learn_classes(encoder, images, config, run)


def purification(case: Case, images: Images, encoder: nn.Module, epochs: int, run: Run) -> None:
    """In the warm-up, with two views of an image."""
    pcp.fit(images, pcp.Config(**settings(case), pretext_epochs=0, epochs=epochs, rounds=1, warm_up=1.0, batch=case.views // 2), run)


TRAINING = {
    "simclr": Training(simclr, 1 / 2, looks=False, projects=True),
    "moco": Training(moco, 1, projects=True),
    "network-stage": Training(network_stage, 1 / 2),
    "self-labelling": Training(self_labelling, 1),
    "fixmatch": Training(fixmatch, 7 / 16, views=15 / 16),
    "deepcluster": Training(deep_clustering, 1),
    "pcp": Training(purification, 1 / 2, projects=True),
}
Measure = Callable[[int, Devices], tuple[int, Pairs]]  # of turns; images, seconds
FORWARD, HEADS = ("features", "predict"), ("scan-heads", "spice-heads")


def training(name: str, case: Case, turns: int, devices: Devices) -> tuple[int, Pairs]:
    """How many images an epoch has, and the seconds of epochs, ours and the bare network's."""
    one, place_of = TRAINING[name], Run(devices=devices)
    images = pictures(int(one.images * case.views) * case.steps, case.size)
    encoder = place_of.new("encoder", build, EncoderSpec(case.encoder, case.size))
    width = encoder.n_features
    last = place_of.new("last", Projector, width, FEATURES) if one.projects else place_of.new("last", Heads, width, KINDS)
    bare = nn.Sequential(place_of.new("bare", build, EncoderSpec(case.encoder, case.size)), last)
    views = ready(place_of, images, int(one.views * case.views))

    def other() -> None:
        bare.train()
        for _ in range(case.steps):
            bare.zero_grad()
            with place_of.autocast():
                z = bare(views)
            z.float().sum().backward()
        if one.looks:
            forward(bare.eval(), views, len(images), place_of)

    run = Timed(devices, other)
    one.train(case, images, encoder, turns + 1, run)
    run.close()
    return len(images), run.pairs[1:]


def looking(name: str, case: Case, folder: Path, turns: int, devices: Devices) -> tuple[int, Pairs]:
    """As `training`, of what only looks."""
    run, n = Run(devices=devices), 4 * case.views * case.steps
    images, batch = pictures(n, case.size), min(n, 512)
    encoder = run.new("encoder", build, EncoderSpec(case.encoder, case.size)).eval()
    views = ready(run, images, batch)

    def ours() -> object:
        return features(encoder, images, run) if name == "features" else fitting.predict(fitted(case, devices, folder), images, devices)

    return n, alternate(ours, lambda: forward(encoder, views, n, run), turns, devices)


def fitted(case: Case, devices: Devices, folder: Path) -> Path:
    """A run whose network was never trained."""
    made = folder / f"speed-{case.encoder}-{case.size}"
    if not fitting.is_finished(made):
        options = {"encoder": case.encoder, "image_size": case.size, "pretext_epochs": 0}
        fitting.fit(
            *fitting.plan(pictures(64, case.size), "deepcluster", clusters=2, settings=options | {"epochs": 0}), made, devices=devices
        )
    return made


def heads(name: str, turns: int, devices: Devices, n: int = 10_000) -> tuple[int, Pairs]:
    """As `training`, ten heads and one."""
    z_ND = torch.randn(n, FEATURES, generator=torch.Generator().manual_seed(0))
    rows, neighbours_NK = open_rows(z_ND), torch.randint(n, (n, 20), generator=torch.Generator().manual_seed(1)).to(devices.device)
    z_ND = z_ND.to(devices.device)

    def learned(n_heads: int) -> None:
        run = Run(devices=devices)
        if name == "scan-heads":
            scan.cluster(z_ND, neighbours_NK, scan.Config(n_heads=n_heads, cluster_epochs=5, start="random"), run)
        else:
            config = spice.Config(encoder=PRECOMPUTED, n_heads=n_heads, head_epochs=2)
            spice.learn_prototypes(run.new("encoder", build, EncoderSpec(PRECOMPUTED, 0)), z_ND, neighbours_NK, rows, config, run)
        run.close()

    return n, alternate(lambda: learned(10), lambda: learned(1), turns, devices)


# ---- what they need


def measured(name: str, case: Case, folder: Path, turns: int, devices: Devices) -> tuple[int, Pairs]:
    case = within(case, devices)
    return training(name, case, turns, devices) if name in TRAINING else looking(name, case, folder, turns, devices)


@cache
def within(case: Case, devices: Devices, seconds: float = EPOCH) -> Case:
    """With fewer steps where so many would take longer than that on this machine, by the second of two."""
    run = Run(devices=devices)
    network, images = run.new("bare", build, EncoderSpec(case.encoder, case.size)), pictures(case.views, case.size)
    views = ready(run, images, case.views)

    def step() -> None:
        with run.autocast():
            z = network(views)
        z.float().sum().backward()

    step()
    each, _ = spent(step, devices)
    return replace(case, steps=max(1, min(case.steps, round(seconds / each))))


def settings(case: Case) -> dict[str, Any]:
    return {"encoder": case.encoder, "image_size": case.size, "n_clusters": KINDS}


def clustered(images: Images, encoder: nn.Module, run: Run) -> tuple[Fitted, Tensor]:
    """Clusters that no neighbours agree with, so that no stage does worse and stops."""
    width = int(encoder.n_features)  # type: ignore[arg-type]
    head: Heads = run.new("head", Heads, width, KINDS)  # type: ignore[assignment]
    n, device = len(images), run.devices.device
    labels_N = torch.arange(n, device=device) % KINDS
    p_NK = nn.functional.one_hot(labels_N, KINDS).float()
    neighbours_NK = (torch.arange(n, device=device)[:, None] + 1 + torch.arange(5, device=device)) % n
    return Fitted(encoder, head, torch.randn(n, width, generator=run.rng("z")).to(device), p_NK), neighbours_NK


def pictures(n: int, size: int) -> Images:
    return open_images(np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8))


def ready(run: Run, images: Images, n: int) -> Tensor:
    """So many pictures on the device, float (n, 3, S, S)."""
    return next(run.batches(images, n, ids=torch.arange(n) % len(images))).pixels_B3HW


@torch.inference_mode()
def forward(network: nn.Module, views: Tensor, n: int, run: Run) -> None:
    for begin in range(0, n, len(views)):
        with run.autocast():
            network(views[: n - begin])


# ---- rows


def lines(asked: Asked) -> Iterator[tuple[dict[str, Any], float, Measure]]:
    """What tells a line's rows apart, its target, and what measures it in so many turns."""
    cases = GPU if asked.devices.device.type == "cuda" else CPU
    if asked.budget is not None or asked.preset != OWN:
        raise InputError("speed times a few steps of its own, so it takes no --budget and no --preset")
    known = (*TRAINING, *FORWARD, *HEADS)
    if wrong := [name for name in asked.methods if name not in known]:
        raise InputError(f"nothing that is timed is called {wrong[0]!r}; there are {', '.join(known)}")
    if wrong := [name for name in asked.sets if name not in [case.name for case in cases]]:
        raise InputError(f"no network that is timed is called {wrong[0]!r}; there are {', '.join(case.name for case in cases)}")
    for case in cases if not asked.sets else [case for case in cases if case.name in asked.sets]:
        for name in (*TRAINING, *FORWARD):
            yield (
                {"what": name, "encoder": case.encoder, "size": case.size, "batch": case.views},
                LEAST,
                partial(measured, name, case, asked.keep),
            )
    for name in HEADS:
        yield {"what": name, "encoder": "", "size": "", "batch": 1000}, MOST, partial(heads, name)


def fill(asked: Asked, rows: Rows) -> None:
    """Makes the rows that are not there, a line at a time; `--methods` and `--sets` choose what and which networks."""
    turns, at = max(TURNS, len(asked.seeds)), place(asked.devices)
    wanted = [one for one in lines(asked) if not asked.methods or one[0]["what"] in asked.methods]
    for number, (key, target, measure) in enumerate(wanted, start=1):
        missing = [turn for turn in range(turns) if not rows.has(key | {"pair": turn} | {name: at[name] for name in PLACE})]
        if not missing:
            continue
        asked.say(f"{number} of {len(wanted)}: {key['what']} {key['encoder']} {key['size']}".rstrip())
        n, pairs = measure(len(missing), asked.devices)
        for turn, ((ours, our_cpu), (other, other_cpu)) in zip(missing, pairs, strict=True):
            ratio, cpu = (ours / other, our_cpu / other_cpu) if target == MOST else (other / ours, other_cpu / our_cpu)
            row = key | {"images": n, "pair": turn, "seconds": f"{ours:.4g}", "other_seconds": f"{other:.4g}", "ratio": round(ratio, 3)}
            row |= {"cpu_ratio": round(cpu, 3), "target": target, "images_per_second": round(n / ours), "load": round(load(), 1)}
            rows.append(row | at)


def load() -> float:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")


TABLE = Table("speed", "Speed", fill=fill, text=text)
