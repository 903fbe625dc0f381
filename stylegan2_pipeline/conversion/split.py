"""A holdout of whole groups: images of one patient, one series or one picture are never on both sides."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from stylegan2_pipeline.sources.labels import Label, Labels
from torch_utils.errors import UserError

_SUMS = 1024     # groups, the last of a random order, whose sizes are combined to come as near as possible
_FAR = 0.25      # of all images: a holdout whose size is farther than this from what was asked is none


def split(groups: Sequence[str], tied: Sequence[Sequence[int]], part: float | int, seed: int,
          labels: Labels | None = None) -> list[bool]:
    """Which images are held out.

    groups: one name an image; tied: sets of positions that stay together whatever their groups, as copies must.
    part: the share of images, between 0 and 1, or a number of them. What is chosen depends on the names of the groups
    and the seed, not on the order of the images; it comes as near to `part` as whole groups allow. labels: where they
    are class numbers, each class gives its share, again as far as whole groups allow.
    Raises UserError, naming --holdout, for a part that is none, or groups too large for it. Neither side is empty.
    """
    target = _target(part, len(groups))
    units = sorted(_units(groups, tied), key=lambda unit: _draw(groups, unit, seed))
    chosen = _by_class(units, labels.values, target) if labels else []
    if 2 * abs(sum(len(units[place]) for place in chosen) - target) > target:
        chosen = _choose([len(unit) for unit in units], target)
    held = [False] * len(groups)
    for place in chosen:
        for position in units[place]:
            held[position] = True
    _check(units, sum(held), target)
    return held


def group_numbers(groups: Sequence[str]) -> list[int]:
    """0, 1, 2, ... in the order in which groups appear: says what belongs together, and nothing about whose it is."""
    numbers: dict[str, int] = {}
    return [numbers.setdefault(group, len(numbers)) for group in groups]


def _target(part: float | int, count: int) -> int:
    if isinstance(part, int):
        if not 0 < part < count:
            raise UserError(f"--holdout={part}: there are {count} images; hold out from 1 to {count - 1} of them, or "
                            f"a share such as 0.1.")
        return part
    if not 0 < part < 1:
        raise UserError(f"--holdout={part:g}: a share lies between 0 and 1, such as 0.1 for a tenth of the images.")
    if count < 2:
        raise UserError("--holdout: of one image nothing can be held out.")
    return min(max(round(part * count), 1), count - 1)


def _units(groups: Sequence[str], tied: Sequence[Sequence[int]]) -> list[list[int]]:
    """Positions that must stay together: groups, joined by ties."""
    numbers = np.array(group_numbers(groups))
    pairs = np.array([(ties[0], other) for ties in tied for other in ties[1:]], np.int64)
    if len(pairs):
        numbers = _joined(numbers[pairs], int(numbers.max()) + 1)[numbers]
    units = defaultdict(list)
    for position, number in enumerate(numbers.tolist()):
        units[number].append(position)
    return list(units.values())


def _joined(pairs: np.ndarray, count: int) -> np.ndarray:
    """[count]: a number for each set of those that pairs [P,2] join."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return connected_components(edges, directed=False)[1]


def _draw(groups: Sequence[str], unit: Sequence[int], seed: int) -> bytes:
    """A place in a random order that does not change with the order of the images."""
    name = min(groups[position] for position in unit)
    return hashlib.blake2b(f"{seed} {name}".encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _by_class(units: Sequence[Sequence[int]], labels: Sequence[Label | None], target: int) -> list[int]:
    """Units, by their place, so that each class gives its share; [] where that is not possible.

    What one class cannot give the next ones do, of which the largest is the last; and none gives all that it has.
    """
    numbers = [label for label in labels if isinstance(label, int)]
    if len(numbers) < len(labels):
        return []
    classes = defaultdict(list)
    for place, unit in enumerate(units):
        found = Counter(numbers[position] for position in unit)
        classes[max(found, key=lambda label: (found[label], label))].append(place)
    chosen: list[int] = []
    passed = held = 0
    sizes = {label: sum(len(units[place]) for place in places) for label, places in classes.items()}
    for label in sorted(classes, key=lambda label: (sizes[label], label)):
        passed += sizes[label]
        own = [len(units[place]) for place in classes[label]]
        more = _choose(own, round(target * passed / len(labels)) - held, least=0)
        held += sum(own[place] for place in more)
        chosen += [classes[label][place] for place in more]
    return chosen


def _choose(sizes: Sequence[int], target: int, least: int = 1) -> list[int]:
    """Places whose sizes add up to the target, or as near as can be, but to `least` or more and not to everything.

    The first in the order are taken where that costs no nearness, so that a random order is a random choice.
    """
    free = max(len(sizes) - _SUMS, 0)
    total, chosen, held = sum(sizes), [], 0
    for place, size in enumerate(sizes[:free]):
        if held + size <= target:
            chosen.append(place)
            held += size
    rest = sizes[free:]
    within = (1 << max(2 * (target - held), *rest, 0) + 1) - 1  # larger sums are never nearest
    reachable = [1] * (len(rest) + 1)  # bit s of number k: whether some of rest[k:] add up to s
    for k in range(len(rest) - 1, -1, -1):
        reachable[k] = (reachable[k + 1] | reachable[k + 1] << rest[k]) & within
    goals = [held + more for more in _bits(reachable[0]) if least <= held + more < total]
    if not goals:
        return []
    missing = min(goals, key=lambda goal: (abs(goal - target), goal)) - held
    for k, size in enumerate(rest):
        if size <= missing and reachable[k + 1] >> (missing - size) & 1:
            chosen.append(free + k)
            missing -= size
    return chosen


def _bits(number: int) -> Iterable[int]:
    return (place for place, bit in enumerate(reversed(bin(number))) if bit == "1")


def _check(units: Sequence[Sequence[int]], held: int, target: int) -> None:
    count, largest = sum(map(len, units)), max(map(len, units))
    if not held:
        raise UserError(f"--holdout: all {count} images belong to one group, or are copies of one another, so that "
                        f"none can be held out without the others. Choose another --group-by, leave out "
                        f"what hardly shows anything by --min-foreground=0.1, or leave --holdout out.")
    if abs(held - target) > _FAR * count:
        raise UserError(f"--holdout: of {count} images {target} are to be held out, and whole groups come no nearer to "
                        f"that than {held}: there are {len(units)} groups, the largest of {largest} images. Choose "
                        f"another --group-by, or another --holdout.")
