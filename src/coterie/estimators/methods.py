"""One estimator for each method, and the one of a finished run."""

from pathlib import Path

from coterie import fitting
from coterie.errors import InputError
from coterie.estimators.clusterer import ImageClusterer
from coterie.methods import summaries


class SCAN(ImageClusterer):
    __doc__ = f"SCAN (Van Gansbeke et al. 2020): pretext, neighbours, clustering, self-labelling.\n\n{ImageClusterer.__doc__}"
    method = "scan"


class SPICE(ImageClusterer):
    __doc__ = f"SPICE (Niu et al. 2022): pretext, prototype pseudo-labels, joint training on the reliable ones.\n\n{ImageClusterer.__doc__}"
    method = "spice"


class TEMI(ImageClusterer):
    __doc__ = f"TEMI (Adaloglou et al. 2023): mutual-information heads with a teacher, on frozen features.\n\n{ImageClusterer.__doc__}"
    method = "temi"


class TURTLE(ImageClusterer):
    __doc__ = f"TURTLE (Gadetsky et al. 2024): the labelling to which linear classifiers generalise best.\n\n{ImageClusterer.__doc__}"
    method = "turtle"


class DeepCluster(ImageClusterer):
    __doc__ = f"DeepCluster (Caron et al. 2018; v2: 2020): the encoder learns its own clusters, epoch by epoch.\n\n{ImageClusterer.__doc__}"
    method = "deepcluster"


class PCP(ImageClusterer):
    __doc__ = f"PCP (Zhang et al. 2020): clusters grow as the features do, purified before they are learned.\n\n{ImageClusterer.__doc__}"
    method = "pcp"


class IR(ImageClusterer):
    __doc__ = f"Instance discrimination (Wu et al. 2018), then k-means on its features.\n\n{ImageClusterer.__doc__}"
    method = "ir"


class IS(ImageClusterer):
    __doc__ = f"Invariant and spreading features (Ye et al. 2019), then k-means on them.\n\n{ImageClusterer.__doc__}"
    method = "is"


class AND(ImageClusterer):
    __doc__ = f"Anchor neighbourhood discovery (Huang et al. 2019), then k-means on its features.\n\n{ImageClusterer.__doc__}"
    method = "and"


class IDFD(ImageClusterer):
    __doc__ = f"Instance discrimination and feature decorrelation (Tao et al. 2021).\n\n{ImageClusterer.__doc__}"
    method = "idfd"


class IIC(ImageClusterer):
    __doc__ = f"Invariant information clustering (Ji et al. 2019): two views share their cluster.\n\n{ImageClusterer.__doc__}"
    method = "iic"


class CC(ImageClusterer):
    __doc__ = f"Contrastive clustering (Li et al. 2021): images and clusters are contrasted at once.\n\n{ImageClusterer.__doc__}"
    method = "cc"


class PICA(ImageClusterer):
    __doc__ = f"Partition confidence maximisation (Huang et al. 2020): clusters that are sure and unlike.\n\n{ImageClusterer.__doc__}"
    method = "pica"


class SeLa(ImageClusterer):
    __doc__ = f"Self-labelling by optimal transport (Asano et al. 2020), then diffusion on its features.\n\n{ImageClusterer.__doc__}"
    method = "sela"


class DEC(ImageClusterer):
    __doc__ = f"Deep embedded clustering (Xie et al. 2016): an autoencoder whose clusters sharpen themselves.\n\n{ImageClusterer.__doc__}"
    method = "dec"


class IDEC(ImageClusterer):
    __doc__ = f"Improved deep embedded clustering (Guo et al. 2017): DEC that keeps drawing its images.\n\n{ImageClusterer.__doc__}"
    method = "idec"


class Spectral(ImageClusterer):
    __doc__ = f"Spectral clustering (Ng, Jordan and Weiss 2001) on pixels, or on an encoder's features.\n\n{ImageClusterer.__doc__}"
    method = "spectral"


class Agglomerative(ImageClusterer):
    __doc__ = f"Agglomerative clustering (Ward 1963) on pixels, or on an encoder's features.\n\n{ImageClusterer.__doc__}"
    method = "agglomerative"


class GaussianMixture(ImageClusterer):
    __doc__ = f"A Gaussian mixture on pixels, or on an encoder's features.\n\n{ImageClusterer.__doc__}"
    method = "gmm"


class KMeans(ImageClusterer):
    __doc__ = f"k-means on pixels, or on an encoder's features: the baseline.\n\n{ImageClusterer.__doc__}"
    method = "kmeans"


ALL = (
    SCAN, SPICE, TEMI, TURTLE, DeepCluster, PCP, IR, IS, AND, IDFD, IIC, CC, PICA, SeLa, DEC, IDEC, Spectral, Agglomerative,
    GaussianMixture, KMeans,
)  # fmt: skip
OF_METHOD: dict[str, type[ImageClusterer]] = {cls.method: cls for cls in ALL}


def load(folder: str | Path) -> ImageClusterer:
    """The estimator of a finished run folder, made by `save` or by `coterie fit`."""
    folder = Path(folder)
    made = fitting.config_of(folder)
    settings = made["settings"]
    model = _kind(folder, made["method"])(
        settings["n_clusters"], preset=made["preset"], settings=settings, random_state=made["seed"], seeds=made.get("seeds", 1)
    )
    return model._take(folder)


def _kind(folder: Path, name: str) -> type[ImageClusterer]:
    """The estimator of a method: ours, one that a package has made, or one that is made here for a package's method."""
    if name in OF_METHOD:
        return OF_METHOD[name]
    if name not in summaries():
        raise InputError(f"{folder} holds a fit by {name!r}, which this version of coterie does not know; open it with its own")
    theirs = [cls for cls in ImageClusterer.__subclasses__() if cls.method == name]
    return theirs[0] if theirs else type(name, (ImageClusterer,), {"method": name, "__doc__": ImageClusterer.__doc__})
