"""The instance-level systems PCP is compared with: a pretext task on images one by one, then the last step that PCP has here.

    IR   instance discrimination (Wu et al. 2018)              pretext/instance.py
    IS   invariant and spreading features (Ye et al. 2019)     pretext/spreading.py
    AND  anchor neighbourhood discovery (Huang et al. 2019)    pretext/anchors.py
    IDFD instance discrimination, and columns that differ (Tao et al. 2021; compared with SPICE)    pretext/instance.py

The first three do not say how to cluster; PCP's comparison (fig. 5) takes k-means (final=k-means), as IDFD does, which on features that
spread images apart is worse than on pixels. Shapes: N images, D feature.
"""

from dataclasses import dataclass

from coterie.errors import InputError
from coterie.images import Images
from coterie.methods import pretext
from coterie.methods.bounds import Amount, Positive
from coterie.methods.final import Config as FinalConfig
from coterie.methods.final import assign
from coterie.methods.fitted import Fitted
from coterie.methods.pretext import Pretext
from coterie.networks.encoder import PRECOMPUTED
from coterie.run import Run


@dataclass(frozen=True)
class Config(FinalConfig):
    """Settings of instance discrimination, and what all three share."""

    pretext: Pretext = "instance"
    pretext_temperature: Positive = 0.1  # all three papers


@dataclass(frozen=True)
class SpreadingConfig(Config):
    """Settings of IS."""

    pretext: Pretext = "spreading"


@dataclass(frozen=True)
class AnchorConfig(Config):
    """Settings of AND."""

    pretext: Pretext = "anchors"


@dataclass(frozen=True)
class DecorrelatedConfig(Config):
    """Settings of IDFD."""

    decorrelation: Amount = 1.0  # the paper's alpha
    pretext_temperature: Positive = 1.0  # the paper's tau: images that are alike may stay near one another


def fit(images: Images, config: Config, run: Run) -> Fitted:
    if config.encoder == PRECOMPUTED:
        raise InputError("encoder=precomputed gives features, and this method is what trains an encoder; --method kmeans clusters features")
    return assign(pretext.train(images, config, run), images, config, run)


class IR:
    """Instance discrimination."""

    Config, fit = Config, staticmethod(fit)


class IS:
    """Invariant and spreading features."""

    Config, fit = SpreadingConfig, staticmethod(fit)


class AND:
    """Anchor neighbourhood discovery."""

    Config, fit = AnchorConfig, staticmethod(fit)


class IDFD:
    """Instance discrimination and feature decorrelation."""

    Config, fit = DecorrelatedConfig, staticmethod(fit)
