"""The split into training images and holdout: whole groups, ties kept, the share as near as can be."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stylegan2_pipeline.conversion.split import group_numbers, split
from stylegan2_pipeline.sources.labels import Labels
from torch_utils.errors import UserError

SETS = st.lists(st.integers(1, 12), min_size=1, max_size=9)


def named(sizes):
    return [f"patient {number}" for number, size in enumerate(sizes) for _ in range(size)]


def joined(groups, ties):
    """Sizes of the sets that must stay together, by the plainest way there is."""
    sets = [{i for i, group in enumerate(groups) if group == name} for name in set(groups)]
    for tie in map(set, ties):
        touched = [one for one in sets if one & tie]
        sets = [one for one in sets if not one & tie] + ([set().union(*touched)] if touched else [])
    return sets


@given(SETS, st.lists(st.lists(st.integers(0, 200), min_size=2, max_size=4), max_size=3), st.floats(0.01, 0.99),
       st.integers(0, 99), st.randoms(use_true_random=False))
def test_whole_groups_as_near_as_can_be_in_any_order(sizes, ties, part, seed, random):
    groups = named(sizes)
    ties = [[i % len(groups) for i in tie] for tie in ties]
    sets = joined(groups, ties)
    sums = {sum(len(one) for one in some) for n in range(1, len(sets)) for some in itertools.combinations(sets, n)}
    target = min(max(round(part * len(groups)), 1), len(groups) - 1)
    try:
        held = split(groups, ties, part, seed)
    except UserError:
        assert all(abs(total - target) > len(groups) / 4 for total in sums)
        return
    assert all(len({held[i] for i in one}) == 1 for one in sets)
    assert 0 < sum(held) < len(groups)
    assert abs(sum(held) - target) == min(abs(total - target) for total in sums)

    order = list(range(len(groups)))
    random.shuffle(order)
    place = {old: new for new, old in enumerate(order)}
    again = split([groups[i] for i in order], [[place[i] for i in tie] for tie in ties], part, seed)
    assert again == [held[i] for i in order]


def test_every_image_is_as_likely_and_the_seed_decides():
    groups = [f"{number}.png" for number in range(50)]
    chosen = Counter(i for seed in range(400) for i in np.flatnonzero(split(groups, [], 0.2, seed)))
    counts = np.array([chosen[i] for i in range(50)])  # each binomial: 400 times a fifth, within 5 deviations of 8
    assert counts.min() >= 40 and counts.max() <= 120 and counts.sum() == 4000
    assert split(groups, [], 0.2, 3) == split(groups, [], 0.2, 3) != split(groups, [], 0.2, 4)


def test_what_is_chosen_of_many_images_stays_when_one_is_added():
    groups = [f"{number}.png" for number in range(3000)]
    before, after = split(groups, [], 0.1, 0), split([*groups, "new.png"], [], 0.1, 0)
    assert sum(before) == 300 and sum(a != b for a, b in zip(before, after, strict=False)) <= 1


def test_a_number_of_images_and_large_groups_among_many():
    groups = named([400, 700, *[1] * 5000])
    assert sum(split(groups, [], 1234, 0)) == 1234
    assert sum(split(named([7] * 3000), [], 700, 0)) == 700


def test_each_class_gives_its_share():
    groups = named([3] * 200)
    numbers = [0 if i < 450 else 1 if i < 540 else 2 for i in range(600)]
    held = split(groups, [], 0.1, 0, Labels(numbers))
    assert Counter(np.array(numbers)[held].tolist()) == {0: 45, 1: 9, 2: 6}
    vectors = Labels([[float(number)] for number in numbers])
    assert split(groups, [], 0.1, 0, vectors) == split(groups, [], 0.1, 0)


@given(SETS, st.data(), st.floats(0.05, 0.5), st.randoms(use_true_random=False))
def test_with_classes_groups_are_whole_too_and_the_order_does_not_matter(sizes, data, part, random):
    groups = named(sizes)
    numbers = data.draw(st.lists(st.integers(0, 3), min_size=len(groups), max_size=len(groups)))
    try:
        held = split(groups, [], part, 0, Labels(numbers))
    except UserError:
        with pytest.raises(UserError):  # classes are no reason to refuse
            split(groups, [], part, 0)
        return
    assert 0 < sum(held) < len(groups)
    assert len({(group, out) for group, out in zip(groups, held, strict=True)}) == len(sizes)
    order = list(range(len(groups)))
    random.shuffle(order)
    again = split([groups[i] for i in order], [], part, 0, Labels([numbers[i] for i in order]))
    assert again == [held[i] for i in order]


def test_a_class_in_one_group_stays_in_training():
    numbers = [*[0] * 90, *[1] * 10]
    for seed in range(20):
        held = split([*map(str, range(90)), *["rare"] * 10], [], 0.2, seed, Labels(numbers))
        assert sum(held) == 20 and not any(held[90:])


def test_where_each_group_has_a_class_of_its_own_classes_do_not_matter():
    assert sum(split(named([10] * 10), [], 0.2, 0, Labels([i // 10 for i in range(100)]))) == 20


@pytest.mark.parametrize(("groups", "part", "message"), [
    (["a"] * 5, 0.2, "all 5 images belong to one group"),
    (["a"] * 60 + ["b"] * 40, 0.1, "no nearer to that than 40: there are 2 groups, the largest of 60"),
    (list("abc"), 1.5, "--holdout=1.5: a share lies between 0 and 1"),
    (list("abc"), 0.0, "--holdout=0: a share"),
    (list("abc"), float("nan"), "--holdout=nan: a share"),
    (list("abc"), 3, "--holdout=3: there are 3 images; hold out from 1 to 2"),
    (["a"], 0.5, "of one image nothing can be held out"),
])
def test_what_cannot_be_held_out_is_refused(groups, part, message):
    with pytest.raises(UserError) as refused:
        split(groups, [], part, 0)
    assert message in refused.value.message


def test_ties_can_join_everything():
    with pytest.raises(UserError, match="copies of one another"):
        split(list("abcd"), [[0, 1], [2, 3], [1, 2]], 0.5, 0)


def test_numbers_of_groups_say_nothing_of_their_names():
    assert group_numbers(["Smith", "Jones", "Smith", "Able"]) == [0, 1, 0, 2]
