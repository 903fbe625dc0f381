"""What a scan says of a collection as a whole."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from stylegan2_pipeline.conversion.copies import find_copies
from stylegan2_pipeline.conversion.drawing import TEXT_REMARK
from stylegan2_pipeline.conversion.foreground import Box
from stylegan2_pipeline.conversion.grouping import groups_of
from stylegan2_pipeline.conversion.labelling import choose_labels
from stylegan2_pipeline.conversion.options import Conversion
from stylegan2_pipeline.conversion.plan import thumbnails
from stylegan2_pipeline.conversion.scan import Finding, Scan
from stylegan2_pipeline.conversion.split import group_numbers
from stylegan2_pipeline.conversion.spool import Spool
from stylegan2_pipeline.inspection.likeness import Edges, Sides, borders, sidedness
from stylegan2_pipeline.report.pictures import spread
from stylegan2_pipeline.sources.base import Source
from stylegan2_pipeline.sources.labels import Labels, printable, top_folders
from stylegan2_pipeline.sources.registry import READERS
from torch_utils.errors import UserError

MOST_COMPARED = 30000  # pictures at 64 pixels, among which near copies are sought: 370 MB in colour
MOST_CLASSES = 100     # more folders than this are no classes
LEAST_IN_CLASS = 4     # images, on average: with fewer, folders are of patients or dates
BORDERED = 0.6         # share of the images with an even border, from which on the set counts as such
SPLITS = frozenset(("train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"))
PATIENT = r"(?:patient|subject|subj?|case|pat|pid)[-_ ]?[0-9]+"  # parts of paths that may say whose an image is
SLICE = r"(.*[^-_ /.])[-_ /]*(?:slice|slc|frame)[-_ ]?[0-9]+"  # what comes before the number of a slice


@dataclass(frozen=True)
class Trait:
    """Something that some images have in common. positions: of theirs among the good ones; becomes: what a conversion
    does with them."""

    key: str
    what: str
    positions: list[int]
    becomes: str


@dataclass(frozen=True)
class Same:
    """Images that show the same, by position among the good ones. exact: copies, each with the first one of its
    pixels; near: sets of images that show the same, equal ones included, by the rules of a conversion; compared: how
    many were looked at for near ones; other_class, other_group: those of the sets whose images differ in their label,
    or are of several subjects."""

    exact: list[tuple[int, int]]
    near: list[list[int]]
    compared: int
    other_class: list[list[int]]
    other_group: list[list[int]]

    @property
    def nearly(self) -> int:
        """How many images show the same as an earlier one without having its pixels."""
        copies = {copy for copy, _ in self.exact}
        return sum(position not in copies for members in self.near for position in members[1:])


@dataclass(frozen=True)
class Classes:
    """counts: images a class or tag, by name; numbers: the class of each image; vectors: how many numbers a label has,
    0 for classes; missing: images without a label; asked: what --labels says for these."""

    counts: dict[str, int]
    numbers: list[int | None]
    vectors: int = 0
    missing: int = 0
    asked: str = "auto"


@dataclass(frozen=True)
class Groups:
    """How many images each subject, or volume, has; unknown: images that are of none."""

    sizes: list[int]
    unknown: int


@dataclass(frozen=True)
class Facts:
    """curated: a published set or somebody's archive, used as it is. good: what can be used, in order; names: theirs,
    safe to print; broken, left_out: (name, reason).

    classes: what the source or --labels says; folders: what --labels=folders, or a pattern on the path, would make of
    the names where that says nothing; groups: a number an image, equal for those of one subject or volume; boxes: of
    the foreground of each, or of its volume. windows: values of deep images that become 0 and 255, one pair a volume.
    in_names: how many patients or volumes the names seem to tell; unseen: images that were not looked at; problems:
    what could not be found out. thumbs: uint8 [N,64,64,C], of the images at the positions thumbs_of.
    """

    path: str
    kind: str
    curated: bool
    good: list[Finding]
    names: list[str]
    broken: list[tuple[str, str]]
    left_out: list[tuple[str, str]]
    notes: list[str]
    problems: list[str]
    classes: Classes | None
    folders: Classes | None
    splits: list[str]
    subjects: Groups
    volumes: Groups
    groups: list[int]
    boxes: list[Box | None]
    in_names: int
    unseen: int
    same: Same
    windows: list[tuple[float, float]]
    thumbs: np.ndarray
    thumbs_of: list[int]
    edges: Edges
    sides: Sides | None

    @cached_property
    def traits(self) -> list[Trait]:
        return [trait for trait in _traits(self.good) if trait.positions]

    def having(self, key: str) -> list[int]:
        return next((trait.positions for trait in self.traits if trait.key == key), [])

    @property
    def even_borders(self) -> bool:
        """Whether what the images show lies on an even background, most often."""
        return max(self.edges.black, self.edges.white) >= BORDERED

    @cached_property
    def formats(self) -> Counter[str]:
        return Counter(finding.format or "unknown" for finding in self.good)

    @cached_property
    def modes(self) -> Counter[str]:
        return Counter(finding.mode or "unknown" for finding in self.good)

    @cached_property
    def sizes(self) -> Counter[tuple[int, int]]:
        return Counter(finding.size for finding in self.good)

    @cached_property
    def kinds(self) -> Counter[str]:
        return Counter(_kind(finding) for finding in self.good)

    @cached_property
    def bits(self) -> Counter[str]:
        return Counter("more than 8 bits" if finding.deep else "1 bit" if finding.mode == "1" else "8 bits"
                       for finding in self.good)


def gather(scan: Scan, source: Source, asked: Conversion, spool: Spool) -> Facts:
    """Raises UserError for --labels and --group-by that cannot be heeded."""
    good = scan.good
    indices = [finding.index for finding in good]
    names = [printable(source.names[index]) for index in indices]
    problems: list[str] = []
    classes = _classes(source, asked, indices, problems)
    subjects, volumes = ([of(index) or None for index in indices] for of in (source.subject, source.volume))
    groups = group_numbers(groups_of(asked.group_by, source, indices, asked.table)) if good else []
    of = spread(range(len(good)), MOST_COMPARED)
    thumbs = thumbnails([good[position] for position in of], spool) if good else np.zeros([0, 64, 64, 1], np.uint8)
    known = groups if asked.group_by or any(subjects) or any(volumes) else None
    folders, splits = (None, []) if classes else folder_classes(source.names, indices, known)
    boxes = [scan.boxes.get(volume) if volume else finding.box for finding, volume in zip(good, volumes, strict=True)]
    passed = [(source.names[finding.index], reason) for finding, reason in scan.passed]
    same = _same(good, thumbs, of, (classes or folders), groups if asked.group_by or any(subjects) else None, volumes)
    return Facts(
        path=str(source.path), kind=kind_of(source), curated=source.curated, good=good, names=names,
        broken=[(printable(source.names[finding.index]), finding.error or "") for finding in scan.broken],
        left_out=[(printable(name), reason) for name, reason in [*source.left_out(), *passed]], notes=source.remarks(),
        problems=problems, classes=classes, folders=folders, splits=splits, subjects=_sizes(subjects),
        volumes=_sizes(volumes), groups=groups, boxes=boxes, in_names=len(set(groups_in(names)[1])),
        unseen=len(source.names) - len(good) - len(scan.broken) - len(scan.passed), same=same,
        windows=list(windows_of(scan, asked).values()), thumbs=thumbs, thumbs_of=of, edges=borders(thumbs),
        sides=sidedness(thumbs, [groups[position] for position in of]))


def counted(count: int, one: str, many: str = "") -> str:
    """1 image, 2 images."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def windows_of(scan: Scan, asked: Conversion) -> dict[str | None, tuple[float, float]]:
    """The values of deep images that become 0 and 255, by volume (None: those that stand alone)."""
    window = asked.values()
    if window.kind == "values":
        return dict.fromkeys(scan.histograms, (window.low, window.high))
    return scan.windows((window.low, window.high))


def kind_of(source: Source) -> str:
    """What its reader reads, in words."""
    place = f"{type(source).__module__.rpartition('.')[2]}.{type(source).__name__}"
    return next((reader.what for reader in READERS.values() if reader.place == place), type(source).__name__)


def classes_of(labels: Labels, count: int, asked: str = "auto") -> Classes:
    """Of labels, some of which may be missing, of `count` images."""
    known = [value for value in labels.values if value is not None]
    names = labels.class_names
    if known and isinstance(known[0], list):
        vectors = [value for value in known if isinstance(value, list)]
        having = {printable(name): sum(vector[number] > 0 for vector in vectors)
                  for number, name in enumerate(names or ())}
        return Classes(having, [None] * count, len(vectors[0]), count - len(known), asked)
    numbers = [value if isinstance(value, int) else None for value in labels.values]
    found = Counter(number for number in numbers if number is not None)
    counts = {printable(names[number]) if names else f"class {number}": found[number] for number in sorted(found)}
    return Classes(counts, numbers, 0, count - len(known), asked)


def folder_classes(names: Sequence[str], indices: Sequence[int],
                   groups: Sequence[int] | None = None) -> tuple[Classes | None, list[str]]:
    """Folders that may be classes; and those among the top folders that are named like splits, inside which classes
    are sought then. groups: a number an image, where they are known: folders of one group each are no classes."""
    tops = top_folders(names)
    splits = sorted({top for top in tops if top is not None and top.lower() in SPLITS})
    asked, found = "folders", [tops[index] for index in indices]
    if splits:
        asked = "regex:" + "/".join([*["[^/]+"] * _depth(names, tops), "([^/]+)/"])
        match = [re.match(asked.removeprefix("regex:"), names[index]) for index in indices]
        found = [one[1] if one else None for one in match]
    counts = Counter(found)
    few = not counts or min(counts.values()) < 2 or len(found) < LEAST_IN_CLASS * len(counts)
    people = all(re.search(PATIENT, folder, re.IGNORECASE) for folder in counts if folder is not None)
    of_groups = groups is not None and len(set(zip(groups, found, strict=True))) < 2 * len(counts)
    if None in counts or few or people or of_groups or not 2 <= len(counts) <= MOST_CLASSES:
        return None, splits
    classes = sorted(folder for folder in counts if folder is not None)
    number = {folder: place for place, folder in enumerate(classes)}
    labels = Labels([number[folder] for folder in found if folder is not None], classes)
    return classes_of(labels, len(indices), asked), splits


def _depth(names: Sequence[str], tops: Sequence[str | None]) -> int:
    """How many folders lie above those in which the splits' folders are."""
    name, top = next((name, top) for name, top in zip(names, tops, strict=True) if top is not None)
    return name.split("/").index(top) + 1


def _classes(source: Source, asked: Conversion, indices: Sequence[int], problems: list[str]) -> Classes | None:
    """What the source, or --labels, says; damaged labels that nobody asked for are a problem, no end."""
    try:
        options = replace(asked.label_options(), unlabelled="drop")
        labelled = choose_labels(options, source, indices, str(asked.source))
    except UserError as error:
        if asked.labels != "auto":
            raise
        problems.append(str(error))
        return None
    if labelled.labels is None:
        return None
    values = dict(zip(labelled.kept, labelled.labels.values, strict=True))
    everyone = [values.get(position) for position in range(len(indices))]
    return classes_of(Labels(everyone, labelled.labels.class_names), len(indices), asked.labels)


def _same(good: Sequence[Finding], thumbs: np.ndarray, of: Sequence[int], classes: Classes | None,
          groups: Sequence[int] | None, volumes: Sequence[str | None]) -> Same:
    digests, flat = [finding.digest for finding in good], [finding.flat for finding in good]
    first = find_copies(digests, flat).first
    if len(good) < 2:
        return Same([], [], len(good), [], [])
    sought = find_copies([digests[i] for i in of], [flat[i] for i in of], thumbs, [volumes[i] for i in of]).near
    sets = [sorted(of[place] for place in members) for members in sought]

    def differ(values: Sequence[object]) -> list[list[int]]:
        return [members for members in sets if len({values[i] for i in members}) > 1]

    exact = [(position, other) for position, other in enumerate(first) if other != position]
    numbers = classes.numbers if classes and not classes.vectors else None
    return Same(exact, sets, len(of), differ(numbers) if numbers else [], differ(groups) if groups else [])


def _sizes(of: Sequence[str | None]) -> Groups:
    counts = Counter(of)
    unknown = counts.pop(None, 0)
    return Groups(sorted(counts.values()), unknown)


def groups_in(names: Sequence[str]) -> tuple[str, list[str]]:
    """What the names of files seem to tell of patients, or of volumes: a pattern, and a group an image; "" and none
    unless all names tell it."""
    for pattern in (PATIENT, SLICE):
        matches = [re.search(pattern, name, re.IGNORECASE) for name in names]
        found = [match[match.lastindex or 0].lower() for match in matches if match]
        if len(found) == len(names) and 1 < len(set(found)) < len(names):
            return pattern, found
    return "", []


def _kind(finding: Finding) -> str:
    if finding.transparent:
        return "transparent"
    if finding.channels == 1:
        return "gray"
    return "colour" if finding.colour else "gray stored in colour"


def _traits(good: Sequence[Finding]) -> list[Trait]:
    def trait(key: str, what: str, becomes: str, wanted: Callable[[Finding], bool]) -> Trait:
        return Trait(key, what, [position for position, finding in enumerate(good) if wanted(finding)], becomes)

    remarks = sorted({remark for finding in good for remark in finding.remarks} - {TEXT_REMARK})
    return [
        trait("gray_in_colour", "Gray stored in colour", "one channel is kept if no image has colour",
              lambda finding: finding.channels > 1 and not finding.colour and not finding.transparent),
        trait("rotated", "Turned or mirrored by EXIF data", "set upright", lambda finding: finding.rotated),
        trait("transparent", "Transparent in places", "laid over --alpha-background, or kept by --channels=4",
              lambda finding: finding.transparent),
        trait("animated", "Several frames or pages", "the first is taken; --frames=all takes all",
              lambda finding: finding.animated),
        trait("profile", "Colours of another profile", "turned into sRGB", lambda finding: finding.profile),
        trait("deep", "More than 8 bits", "a window of values becomes 0 to 255, see --window",
              lambda finding: finding.deep),
        trait("flat", "Of one colour everywhere", "kept: they show nothing, and are better taken out",
              lambda finding: finding.flat),
        trait("text", TEXT_REMARK, "kept; the report shows them", lambda finding: TEXT_REMARK in finding.remarks),
        *(trait(remark, remark, "", lambda finding, remark=remark: remark in finding.remarks)  # type: ignore[misc]
          for remark in remarks),
    ]
