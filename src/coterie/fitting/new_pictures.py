"""What of new pictures fits nowhere in a finished run: compared with its features, at a rate of false alarms that was asked for."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from coterie.clustering import novelty as distance
from coterie.errors import InputError
from coterie.fitting.planning import config_of
from coterie.images.parts import parts
from coterie.run.files import read_assignments, read_features

FALSE_ALARMS = 0.05
MOST = 100_000  # fitted rows that new ones are compared with; of more, so many evenly spread: their own scores are then those among these


class Novelty(NamedTuple):
    """Of M new pictures: scores (M,) float32, and whether each is above the threshold (M,) bool; the rate that the threshold stands for,
    above the one asked for where so few pictures were fitted that no lower one can be told."""

    scores_M: Tensor
    novel_M: Tensor
    threshold: float
    false_alarms: float


def check_rate(false_alarms: float) -> None:
    """InputError unless it is a share above 0 and below 1."""
    if not 0 < false_alarms < 1:
        raise InputError(f"--false-alarms {false_alarms:g}: wanted a share above 0 and below 1, such as 0.05")


def n_fitted(made: dict[str, Any]) -> int:
    """How many of a run's images, the first ones, were fitted; the others came by updates. made: its config.json."""
    return int(parts(made["source"])[0]["n_images"])


def novelty(folder: Path, z_MD: Tensor, false_alarms: float = FALSE_ALARMS) -> Novelty:
    """How far new features (M, D) are from those of the run in `folder`; on their device. See coterie.clustering.novelty.
    What an update left in no cluster is not known by that: more pictures like it are novel, too.

    InputError: a rate that is none, a run whose features are missing or damaged.
    """
    return Known(folder, false_alarms, z_MD.device, once=True)(z_MD)


class Known:
    """What a run knows, for new features that come a block at a time, or `once`. Raises as `novelty`."""

    def __init__(self, folder: Path, false_alarms: float, device: torch.device, once: bool = False):
        check_rate(false_alarms)
        made = config_of(folder)
        fitted_ND = torch.from_numpy(read_features(folder, made["source"]["n_images"])).to(device)
        if len(parts(made["source"])) > 1:
            known_N = torch.from_numpy(read_assignments(folder)["cluster"].to_numpy() >= 0)
            known_N[: n_fitted(made)] = True
            fitted_ND = fitted_ND[known_N.to(device)]
        if len(fitted_ND) > MOST:
            fitted_ND = fitted_ND[torch.linspace(0, len(fitted_ND) - 1, MOST, dtype=torch.float64).long().to(device)]
        own_S = distance.own_novelty(fitted_ND)
        self._fitted_ND, self._usual = fitted_ND, None if once else distance.Usual(fitted_ND)
        self._threshold = distance.threshold(own_S, false_alarms)
        self.false_alarms = max(false_alarms, distance.lowest_rate(own_S))

    def __call__(self, z_MD: Tensor) -> Novelty:
        scores_M = distance.novelty(self._fitted_ND, z_MD, usual=self._usual)
        return Novelty(scores_M, scores_M > self._threshold, self._threshold, self.false_alarms)
