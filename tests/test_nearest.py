"""Nearest neighbours in blocks: brute force, sharp edges, copies, large offsets, and blocks that do not matter."""

from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics import nearest as module
from metrics.nearest import nearest, neighbourhoods


def points(n, d=4, seed=0):
    return torch.from_numpy(np.random.RandomState(seed).randn(n, d))


def squares(x, y):
    return (x[:, None].double() - y[None].double()).square().sum(2)


def by_brute_force(points, others, k):
    among = squares(points, points if others is None else others)
    if others is None:
        among.fill_diagonal_(torch.inf)
    return among.sort(dim=1, stable=True).values[:, :k]


@pytest.mark.parametrize("block", [4096, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [1, 5, 19])
def test_nearest_is_brute_force(block, dtype, k, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", block)
    x, y = points(20).to(dtype), points(33, seed=1).to(dtype)
    for others in (None, y):
        found, numbers = nearest(x, others, k)
        torch.testing.assert_close(found, by_brute_force(x, others, k), rtol=1e-12, atol=0)
        among = x if others is None else others
        torch.testing.assert_close((x[:, None] - among[numbers]).double().square().sum(2), found, rtol=1e-5, atol=1e-9)
        assert others is not None or not (numbers == torch.arange(20)[:, None]).any()


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=8, max_size=30), st.integers(1, 3),
       st.sampled_from([(0.1, 0.0), (1 / 16, 1e4)]), st.sampled_from([3, 4096]))
def test_edges_are_sharp_on_a_grid(places, k, scale_and_offset, block):
    """On a grid many distances are equal and rows are repeated; tenths, or far from the origin, are not exact."""
    grid = torch.tensor(places)
    centres, others = slice(0, len(grid) // 2 + 2), slice(2, None)
    edge = by_brute_force(grid[centres], None, k)[:, -1:]  # exact: integers
    between = squares(grid[centres], grid[others])
    x = grid.double() * scale_and_offset[0] + scale_and_offset[1]
    with patch.object(module, "_BLOCK", block):
        found = neighbourhoods(x[centres], nearest(x[centres], None, k)[0][:, -1], x[others])
    assert torch.equal(found.with_edge, (between <= edge).sum(0))
    assert torch.equal(found.without_edge, (between < edge).sum(0))
    assert torch.equal(found.filled, (between < edge).any(1))


def test_copies_are_at_zero_far_from_the_origin():
    x = (points(50, 64) + 1e3).float()
    copies = torch.cat([x[10:20], x[10:20]])
    found, numbers = nearest(copies, x, 1)
    assert (found == 0).all() and numbers[:, 0].tolist() == [*range(10, 20)] * 2
    assert (nearest(copies, None, 1)[0] == 0).all()
    reach = nearest(copies, None, 1)[0][:, 0]
    held = neighbourhoods(copies, reach, x)
    assert held.with_edge.sum() == 20 and held.without_edge.sum() == 0 and not held.filled.any()


def test_everything_equal():
    x = torch.ones(40, 3)
    found = neighbourhoods(x, nearest(x, None, 5)[0][:, -1], x[:6])
    assert (found.with_edge == 40).all() and (found.without_edge == 0).all()
