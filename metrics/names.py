"""The metrics by name: what a name says, what it takes, and which way is better. Light, so that --help can ask it.

fid50k_full: 50,000 generated images against the whole dataset; any number may stand there (fid2k_full, fid500_full).
Without _full, as in the older names, against at most so many real images, mirrored as in training. Names that show no
number take --num, and may show one as well (swd2k).
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch_utils.errors import UserError

_COUNTED = {"real": "{} real", "fake": "{} generated", "floor": "halves of {} for the floor",
            "unseen": "{} to know chance by", "planted": "{} planted copies"}
PANEL = ("swd", "rfd", "pfd32", "prdc32")


@dataclass(frozen=True)
class Kind:
    """name: with {n} for the number of generated images where names show it, usual: as it is usually written.

    count: generated images unless told otherwise. detectors: whose features of real and generated images it takes.
    weights: files it stands on. judges: whether a network can be better by it than another; likeness and variety
    should be those of the data, neither more nor less. real_most, trained_mirror: of the older names.
    """

    name: str
    usual: str
    title: str
    count: int
    detectors: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    lower_is_better: bool = True
    judges: bool = True
    real_most: int | None = None
    trained_mirror: bool = False


KINDS = (
    Kind("swd{n}",         "swd",         "sliced Wasserstein distance of patches, by scale", 8192),
    Kind("rfd{n}",         "rfd",         "Frechet distance of random features", 8192, ("random_v1",)),
    Kind("pfd32",          "pfd32",       "Frechet distance of images at 32x32 pixels", 2048, ("pixels32",)),
    Kind("prdc32",         "prdc32",      "precision, recall, density, coverage at 32x32 pixels", 2048, ("pixels32",),
         lower_is_better=False),
    Kind("msssim",         "msssim",      "likeness of random pairs (MS-SSIM)", 500, judges=False),
    Kind("vendi",          "vendi",       "effective number of different images (Vendi)", 2000, ("pixels32",),
         lower_is_better=False, judges=False),
    Kind("tone",           "tone",        "brightness and contrast: distance of histograms", 1000),
    Kind("spectrum",       "spectrum",    "detail by size: difference of power spectra, in decibels", 1000),
    Kind("memorization",   "memorization", "copies of training images among generated ones", 2000, judges=False),
    Kind("fid{n}_full",    "fid50k_full", "Frechet Inception distance to all of the data", 50000, ("inception",),
         ("inception",)),
    Kind("kid{n}_full",    "kid50k_full", "kernel Inception distance to all of the data", 50000, ("inception",),
         ("inception",)),
    Kind("pr{n}3_full",    "pr50k3_full", "precision and recall, VGG16 features", 50000, ("vgg16",), ("vgg16",),
         lower_is_better=False, real_most=200000),
    Kind("dc{n}5_full",    "dc50k5_full", "density and coverage, Inception features", 50000, ("inception",),
         ("inception",), lower_is_better=False),
    Kind("is{n}",          "is50k",       "Inception score", 50000, ("inception",), ("inception",),
         lower_is_better=False),
    Kind("fid{n}_inf",     "fid_inf",     "FID extrapolated to infinitely many images", 50000, ("inception",),
         ("inception",)),
    Kind("fd{n}_dinov2",   "fd_dinov2",   "Frechet distance of DINOv2 features", 50000, ("dinov2",), ("dinov2",)),
    Kind("kd{n}_dinov2",   "kd_dinov2",   "kernel distance of DINOv2 features", 50000, ("dinov2",), ("dinov2",)),
    Kind("ppl2_wend",      "ppl2_wend",   "perceptual path length in w, at its ends", 50000, (), ("vgg16", "lpips")),
    Kind("ppl_zfull",      "ppl_zfull",   "the same in z, older: cropped", 50000, (), ("vgg16", "lpips")),
    Kind("ppl_wfull",      "ppl_wfull",   "the same in w, older: cropped", 50000, (), ("vgg16", "lpips")),
    Kind("ppl_zend",       "ppl_zend",    "the same in z at its ends, older: cropped", 50000, (), ("vgg16", "lpips")),
    Kind("ppl_wend",       "ppl_wend",    "the same in w at its ends, older: cropped", 50000, (), ("vgg16", "lpips")),
    Kind("fid{n}",         "fid50k",      "FID as older: to as many real images, mirrored as in training", 50000,
         ("inception",), ("inception",), real_most=50000, trained_mirror=True),
    Kind("kid{n}",         "kid50k",      "KID as older", 50000, ("inception",), ("inception",), real_most=50000,
         trained_mirror=True),
    Kind("pr{n}3",         "pr50k3",      "precision and recall as older", 50000, ("vgg16",), ("vgg16",),
         lower_is_better=False, real_most=50000, trained_mirror=True),
)  # fmt: skip


@dataclass(frozen=True)
class Name:
    """A name taken apart: text as it stands for itself, its kind, and the number of generated images."""

    text: str
    kind: Kind
    count: int

    def of(self, count: int) -> "Name":
        """The same metric of another number of images, with the name that says so where names do."""
        if count == self.count:
            return self
        shown = shown_count(self.kind, self.text) is not None
        return Name(self.kind.name.format(n=thousands(count)) if shown else self.text, self.kind, count)


def parse(text: str) -> Name:
    """Raises UserError for a name that is of no kind."""
    for kind in KINDS:
        if text == kind.usual:
            return Name(text, kind, kind.count)
        if count := shown_count(kind, text):
            return Name(text, kind, count)
    raise UserError(f"--metrics: there is no metric {text!r}. {_meant(text)} Another number of images may stand in a "
                    f"name, as in fid2k_full; `stylegan2 metrics --help` says what each is.")


def shown_count(kind: Kind, text: str) -> int | None:
    """The number of images in a name, 5k or 5000; None for a name of another kind, or one that shows none."""
    found = re.fullmatch(re.escape(kind.name).replace(r"\{n\}", r"([1-9]\d{0,7})(k?)"), text)
    return int(found[1]) * (1000 if found[2] else 1) if found and found.groups() else None


def _meant(text: str) -> str:
    """The names that are like it; all of them where none is."""
    known = ["panel", *(kind.usual for kind in KINDS)]
    near = [name for name in known if name.startswith(text.lower()[:12])] if len(text) > 1 else []
    near = near or difflib.get_close_matches(text.lower(), known, 3)
    if near:
        return f"Did you mean {' or '.join(near)}?"
    return f"There are panel (that is {', '.join(PANEL)}), {', '.join(known[1:])}."


def expand(names: Iterable[str]) -> tuple[str, ...]:
    """The names, each once, with `panel` for its members. Raises UserError for a name that is of no kind."""
    found: dict[str, None] = {}
    for text in names:
        found |= dict.fromkeys(PANEL if text == "panel" else (parse(text).text,))
    return tuple(found)


def split(text: str) -> tuple[str, ...]:
    """Names between commas, expanded; () for none."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    return () if names == ["none"] else expand(names)


def first_judge(names: Iterable[str]) -> str | None:
    """The first of metrics by which a network can be better than another."""
    return next((name for name in names if parse(name).kind.judges), None)


def judges(text: str) -> bool:
    """Whether a network can be better than another by it; metrics that this project does not have are taken to."""
    try:
        return parse(text).kind.judges
    except UserError:
        return True


def counted(counts: Mapping[str, int]) -> str:
    """The numbers of images of a result in words."""
    return ", ".join(_COUNTED.get(kind, f"{{}} {kind}").format(count) for kind, count in counts.items() if count)


def thousands(count: int) -> str:
    """50000 -> 50k, 500 -> 500."""
    return f"{count // 1000}k" if count % 1000 == 0 else str(count)


def lower_is_better(text: str) -> bool:
    """Of metrics that this project does not have, too: those of other tools are told by what they begin with."""
    try:
        return parse(text).kind.lower_is_better
    except UserError:
        return not text.startswith(("is", "pr", "eqt", "eqr", "precision", "recall", "density", "coverage"))
