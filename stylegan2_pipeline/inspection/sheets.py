"""Pictures for the page of an inspection: which images they show, and how."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stylegan2_pipeline.inspection.facts import Facts
from stylegan2_pipeline.inspection.likeness import kinds, oddest
from stylegan2_pipeline.inspection.previews import Previews, squares
from stylegan2_pipeline.report.pictures import Picture, encoded, spread

CONTACT = 60
AVERAGED = 256
AVERAGE_SIDE = 128
SETS, IN_SET = 16, 6
SUSPECTS, ODD, SMALLEST = 24, 12, 12
CLASSES, KINDS = 24, 8
LEAST_KINDS = 40  # images, of fewer no kinds are sought
LETTERS = 40


@dataclass(frozen=True)
class Chosen:
    """Positions, among the good images, of those to show."""

    contact: list[int]
    averaged: list[int]
    same: list[list[int]]
    text: list[int]
    odd: list[int]
    smallest: list[int]

    def all(self) -> set[int]:
        sets = [position for members in self.same for position in members]
        return {*self.contact, *self.averaged, *sets, *self.text, *self.odd, *self.smallest}


@dataclass(frozen=True)
class Cell:
    """A picture and the words below it."""

    picture: Picture
    words: str


@dataclass(frozen=True)
class Sheets:
    """same: sets of images that show the same, each with its heading; kinds: mean images of images that look alike;
    classes: mean images; contact: images evenly spread over the set."""

    contact: list[Cell]
    average: list[Cell]
    classes: list[Cell]
    kinds: list[Cell]
    same: list[tuple[str, list[Cell]]]
    text: list[Cell]
    odd: list[Cell]
    smallest: list[Cell]


def choose(facts: Facts) -> Chosen:
    count, same = len(facts.good), facts.same
    flat = set(facts.having("flat"))
    first = [*same.other_class, *(members for members in same.other_group if members not in same.other_class)]
    sets = [*first, *(members for members in same.near if members not in first)]
    odd = [facts.thumbs_of[place] for place in oddest(facts.thumbs, ODD + len(flat))] if count > 2 * ODD else []
    by_size = sorted(range(count), key=lambda position: _area(facts, position))
    usual = _area(facts, by_size[count // 2]) if by_size else 0
    smallest = [position for position in by_size[:SMALLEST] if _area(facts, position) < usual]
    return Chosen(spread(range(count), CONTACT), spread(range(count), AVERAGED),
                  [members[:IN_SET] for members in sets[:SETS]], spread(facts.having("text"), SUSPECTS),
                  [position for position in odd if position not in flat][:ODD], smallest)


def _area(facts: Facts, position: int) -> int:
    return facts.good[position].size[0] * facts.good[position].size[1]


def sheets(facts: Facts, chosen: Chosen, small: Previews) -> Sheets:
    """small: by index in the source; images without a preview are not shown."""
    made: dict[int, Picture] = {}

    def cells(positions: Sequence[int]) -> list[Cell]:
        found = []
        for position in positions:
            index = facts.good[position].index
            if index in small:
                made.setdefault(index, encoded(small[index].transpose(2, 0, 1), f"Image {facts.names[position]}"))
                found.append(Cell(made[index], caption(facts, position)))
        return found

    indices = [facts.good[position].index for position in chosen.averaged]
    averaged = [small[index] for index in indices if index in small]
    return Sheets(cells(chosen.contact), average(averaged), class_means(facts), kind_means(facts),
                  [(set_words(facts, members), cells(members)) for members in chosen.same], cells(chosen.text),
                  cells(chosen.odd), cells(chosen.smallest))


def average(found: Sequence[np.ndarray]) -> list[Cell]:
    """Mean and deviation of previews made square."""
    if not found:
        return []
    x = squares(found, AVERAGE_SIDE).astype(np.float32)
    mean, deviation = (part.clip(0, 255).round().astype(np.uint8) for part in (x.mean(0), 2 * x.std(0)))
    of = f"{len(found)} whole images made square"
    return [Cell(encoded(mean, "Mean image"), f"Mean of {of}"),
            Cell(encoded(deviation, "Deviation of the images"), "Twice their deviation")]


def caption(facts: Facts, position: int) -> str:
    name, finding = facts.names[position], facts.good[position]
    shown = name if len(name) <= LETTERS else "..." + name[-LETTERS + 3:]
    return f"{shown} {finding.size[0]}x{finding.size[1]}" if len(facts.sizes) > 1 else shown


def set_words(facts: Facts, members: Sequence[int]) -> str:
    """What kind of a set of the same images it is; they may be more than are shown."""
    same = facts.same
    equal = len({facts.good[position].digest for position in members}) == 1
    sets = [*same.near, *same.other_class, *same.other_group]
    whole = next((one for one in sets if set(members) <= set(one)), members)
    words = [f"{len(whole)} times, {'equal' if equal else 'nearly the same'}"]
    words += ["with different labels" if facts.classes else "in different folders"] if whole in same.other_class else []
    words += ["of different patients or groups"] if whole in same.other_group else []
    return ", ".join(words)


def class_means(facts: Facts) -> list[Cell]:
    classes = facts.classes or facts.folders
    if classes is None or classes.vectors or len(classes.counts) < 2:
        return []
    of_each = (classes.numbers[position] for position in facts.thumbs_of)
    numbers = np.array([-1 if number is None else number for number in of_each])
    present = sorted({number for number in classes.numbers if number is not None})
    return [Cell(_mean(facts.thumbs[numbers == number], f"Mean image of {name}"), f"{name}: {classes.counts[name]}")
            for number, name in list(zip(present, classes.counts, strict=True))[:CLASSES] if (numbers == number).any()]


def kind_means(facts: Facts) -> list[Cell]:
    if len(facts.thumbs) < LEAST_KINDS:
        return []
    found = [members for members in kinds(facts.thumbs, KINDS) if len(members) > 1]
    if len(found) < 2:
        return []
    return [Cell(_mean(facts.thumbs[members], "Mean of images that look alike"),
                 f"{len(members)} images, {len(members) / len(facts.thumbs):.0%}") for members in found]


def _mean(thumbs: np.ndarray, alt: str) -> Picture:
    return encoded(np.rint(thumbs.mean(0)).astype(np.uint8).transpose(2, 0, 1), alt)
