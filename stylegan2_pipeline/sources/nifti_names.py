"""What the names of NIfTI files say: masks, sequences, subjects."""

import re
from pathlib import PurePosixPath

from stylegan2_pipeline.sources.labels import printable

LABEL_FOLDERS = frozenset(("label", "labels", "labelstr", "labelsts", "labelsva", "mask", "masks", "roi", "rois",
                           "seg", "segs", "segmentation", "segmentations"))
LABEL_WORDS = ("mask", "seg", "label", "labels", "roi", "segmentation", "parc", "parcellation")  # a word's ending
SEQUENCES = frozenset((
    "t1", "t1w", "t1c", "t1ce", "t1gd", "t1n", "t1post", "t2", "t2w", "t2f", "t2star", "t2starw", "flair", "pd", "pdw",
    "dwi", "adc", "swi", "bold", "ct", "pet", "mra", "dti", "mprage", "space", "inplanet1", "inplanet2"))


def is_label_name(name: str) -> bool:
    *folders, _ = (part.lower() for part in PurePosixPath(name).parts)
    return not LABEL_FOLDERS.isdisjoint(folders) or any(word.endswith(LABEL_WORDS) for word in words(stem(name)))


def stem(name: str) -> str:
    """The file's name without its endings."""
    return re.sub(r"(\.(nii|hdr))?(\.gz)?$", "", PurePosixPath(name).name, flags=re.IGNORECASE)


def words(text: str) -> list[str]:
    return [word for word in re.split(r"[^a-z0-9]+", text.lower()) if word]


def sequence_of(name: str) -> str:
    """T1w, flair, ...: the last word of a name that is one of those; "" where none is."""
    return next((word for word in reversed(words(stem(name))) if word in SEQUENCES), "")


def subject_of(name: str) -> str:
    """sub-XXX of BIDS; else the file's name without what tells one sequence of a patient from another.

    Such are the words for sequences at its end, and in the folders imagesTr and imagesTs the channel, _0001.
    """
    bids = re.search(r"(?:^|[/_])(sub-[A-Za-z0-9]+)", name)
    if bids:
        return bids[1]
    rest = stem(name)
    if {"imagestr", "imagests"} & {part.lower() for part in PurePosixPath(name).parts[:-1]}:
        rest = re.sub(r"_\d{4}$", "", rest)
    while (cut := re.fullmatch(r"(.+?)[^A-Za-z0-9]+([A-Za-z0-9]+)", rest)) and cut[2].lower() in SEQUENCES:
        rest = cut[1]
    return printable(rest)
