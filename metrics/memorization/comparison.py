"""All searches of one measurement, each over the same moves."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from metrics.inputs import ImageSet, MetricInputs, Request
from metrics.memorization.control import PLANTED, Planted, plant
from metrics.memorization.duplicates import Duplicates, find_duplicates
from metrics.memorization.search import Index, Moves, Neighbours
from metrics.memorization.thumbnails import Thumbnails, grid_side, thumbnails
from torch_utils.errors import UserError
from torch_utils.seeding import derive_seed

LEAST = 20           # images of each kind
MOST_UNSEEN = 2000   # holdout images, or training images in their place, that are looked at
MOST_ASKED = 1000    # training images whose nearest generated ones are looked for
OTHERS = 50          # neighbours that a nearest one is compared with (Carlini et al. 2023)
_NEIGHBOURS = OTHERS + 14  # more, since some are duplicates of the nearest one


@dataclass(frozen=True)
class Sets:
    """Images that show something, and how many do not. unseen: never trained on; None: no holdout was given."""

    train: Thumbnails
    fake: Thumbnails
    unseen: Thumbnails | None
    blank: dict[str, int]


def read_sets(inputs: MetricInputs, request: Request) -> Sets:
    """Raises UserError for fewer than 20 images of a kind that show something."""
    num_real = min(inputs.num_real, request.real_most or inputs.num_real)
    read = {"training": _read(inputs.real, num_real, inputs.device),
            "generated": _read(inputs.fake, inputs.num_fake(request.count), inputs.device)}
    if inputs.holdout is not None:
        assert inputs.holdout.size is not None
        read["holdout"] = _read(inputs.holdout, min(inputs.holdout.size, MOST_UNSEEN), inputs.device)
    sides = {kind: images.side for kind, images in read.items()}
    if len(set(sides.values())) > 1:
        raise UserError("memorization compares images of one size; as thumbnails of at most 64 pixels, these are "
                        f"{', '.join(f'{kind} images {side}' for kind, side in sides.items())}. Bring them to one "
                        f"size.")
    if len({images.grids.shape[1] for images in read.values()}) > 1:
        read = {kind: images.colored() for kind, images in read.items()}
    showing = {kind: images.showing() for kind, images in read.items()}
    blank = {kind: len(read[kind]) - len(images) for kind, images in showing.items()}
    for kind, images in showing.items():
        if len(images) < LEAST:
            raise UserError(_too_few(kind, len(images), blank[kind]))
    return Sets(showing["training"], showing["generated"], showing.get("holdout"), blank)


def _read(images: ImageSet, count: int, device: torch.device) -> Thumbnails:
    """Raises UserError for images of different kinds in one set."""
    if count < 1:
        raise UserError("memorization: there are no images to compare.")
    return thumbnails(_of_one_kind(images.images(count)), device)


def _of_one_kind(batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The batches; sizes may differ as long as thumbnails do not."""
    kinds: dict[tuple[int, int], int] = {}
    for batch in batches:
        kinds.setdefault((batch.shape[1], grid_side(*batch.shape[2:])), batch.shape[2])
        if len(kinds) > 1:
            words = " and ".join(f"{channels} channels, {size} pixels" for (channels, _), size in kinds.items())
            raise UserError(f"memorization takes sets in which all images are of one size and kind; there are some of "
                            f"{words}. Bring them to one size with dataset_tool.py.")
        yield batch


def _too_few(kind: str, count: int, blank: int) -> str:
    without = f" that show anything ({blank} are of one tone)" if blank else ""
    remedy = {"training": "Give more --data", "generated": "Raise --num, or give more images",
              "holdout": "Give more --holdout images, or leave them out for the weaker test against the data itself"}
    return (f"memorization needs at least {LEAST} {kind} images; there are {count}{without}. {remedy[kind]}.")


class Comparison:
    """Who is near to whom. Of every search the moves are the same; nothing is computed twice."""

    def __init__(self, inputs: MetricInputs, request: Request) -> None:
        self._inputs = inputs
        self._watch = inputs.watch
        self.sets = read_sets(inputs, request)
        self.moves = Moves(self.sets.train.side)
        subjects = inputs.real.subjects()
        self.duplicates: Duplicates = find_duplicates(
            self.sets.train, [subjects[number] for number in self.sets.train.numbers.tolist()] if subjects else None)
        different = len(self.duplicates.groups.unique())
        if different < LEAST:
            raise UserError(
                f"memorization needs at least {LEAST} different training images; of {len(self.sets.train)}, "
                f"{different} are, the others are copies of them or nearly so. Give more --data.")
        self.index = Index(self.sets.train, self.duplicates.groups, inputs.device)
        self.groups = self.duplicates.groups
        self.fake = self._search(self.sets.fake, "Generated images in the data")
        self._find_unseen()

    def _find_unseen(self) -> None:
        """Images that were not trained on and their neighbours: of the holdout, or training images left out."""
        self.weaker = self.sets.unseen is None
        self.leaked = torch.zeros(0, dtype=torch.long)
        self.unseen_groups: Tensor | None = None
        if self.sets.unseen is None:
            images = self.sets.train.beginning(MOST_UNSEEN)
            self.unseen_groups = self.groups[:len(images)]
            near = self._search(images, "Training images in the data", self.unseen_groups[:, None])
            there = near.nearest.isfinite()
            self.unseen_groups = self.unseen_groups[there]
        else:
            images = self.sets.unseen
            near = self._search(images, "Holdout images in the data")
            there = near.nearest >= self.duplicates.limit
            self.leaked = images.numbers[~there]
        self.unseen_images, self.unseen = images.part(there), near.part(there)
        if len(self.unseen_images) < LEAST:
            raise UserError(
                f"memorization needs at least {LEAST} holdout images that are not in --data; {len(self.unseen_images)} "
                f"are left without {len(self.leaked)} that are copies of training images. Give --holdout images of "
                f"other patients or sources than those of --data.")

    def _search(self, images: Thumbnails, label: str, without: Tensor | None = None, k: int = _NEIGHBOURS,
                index: Index | None = None) -> Neighbours:
        return (index or self.index).search(images, k, self.moves, without=without, progress=self._watch, label=label)

    def nndr(self, near: Neighbours) -> Tensor:
        """[Q]: the nearest distance over the mean of the next fifty training images that are not the same as it."""
        groups = self.groups[near.index]
        others = (groups != groups[:, :1]) & near.distance.isfinite()
        others &= others.cumsum(1) <= OTHERS
        mean = near.distance.where(others, 0).sum(1) / others.sum(1)  # nan where there are none
        return near.nearest / mean

    def second(self, near: Neighbours) -> Tensor:
        """[Q]: which of the neighbours is the first that shows another image than the nearest; 0 if none."""
        groups = self.groups[near.index]
        return (groups != groups[:, :1]).float().argmax(1)

    def authentic(self, near: Neighbours, own: Tensor | None = None) -> float:
        """Per cent of images that are farther from the nearest training image than that is from the next other one.

        The convention of dgm-eval. own [Q]: groups of the images themselves, if they are training images.
        """
        places = near.index[:, 0]
        hidden = self.groups[places, None]
        if own is None:
            unique, inverse = places.unique(return_inverse=True)
            to_next = self._search(self.sets.train.part(unique), "Neighbours in the data",
                                   self.groups[unique, None], 1).nearest[inverse]
        else:
            to_next = self._search(self.sets.train.part(places), "Neighbours in the data",
                                   torch.cat([hidden, own[:, None]], dim=1), 1).nearest
        return 100 * float((near.nearest > to_next).float().mean())

    @cached_property
    def asked(self) -> Thumbnails:
        """Training images that are asked for generated ones."""
        return self.sets.train.beginning(MOST_ASKED)

    @cached_property
    def _fake_index(self) -> Index:
        return Index(self.sets.fake, device=self._inputs.device)

    @cached_property
    def member_distances(self) -> Tensor:
        """[A]: of training images to the nearest generated one."""
        return self._search(self.asked, "Training images among generated", None, 1, self._fake_index).nearest

    @cached_property
    def other_distances(self) -> Tensor:
        """[B]: of holdout images to the nearest generated one, searched in the same way."""
        return self._search(self.unseen_images, "Holdout images among generated", None, 1, self._fake_index).nearest

    def authentic_reversed(self) -> tuple[float, float]:
        """Per cent of training images that are farther from the nearest generated (holdout) image than from the next
        training image; equally many of both. The convention of Alaa et al. 2022."""
        count = min(len(self.sets.fake), len(self.unseen_images))
        own = self.groups[:len(self.asked), None]
        to_next = self._search(self.asked, "Neighbours in the data", own, 1).nearest
        found = []
        for images in (self.sets.fake, self.unseen_images):
            index = Index(images.beginning(count), device=self._inputs.device)
            distance = self._search(self.asked, "Training images among others", None, 1, index).nearest
            found.append(100 * float((distance > to_next).float().mean()))
        return found[0], found[1]

    def planted(self) -> tuple[list[Planted], Neighbours]:
        """Disguised copies of different training images, and what the search finds for them."""
        rng = np.random.default_rng(derive_seed(self._inputs.seed, "planted copies"))
        places = rng.permutation(self.groups.unique().numpy())[:PLANTED].tolist()
        numbers = self.sets.train.numbers[places].tolist()
        copies = plant(self._inputs.real.pick(numbers), places, rng)
        images = thumbnails((copy.image[None] for copy in copies), self._inputs.device)
        if images.grids.shape[1] != self.sets.train.grids.shape[1]:
            images = images.colored()
        return copies, self._search(images, "Planted copies in the data")
