import pytest
import torch
import torch.nn.functional as F
from kernels import registration_is_sound
from torch.autograd import gradcheck, gradgradcheck

from torch_utils.ops.grid_sample import grid_sample, spread_in_order


def inputs(dtype=torch.float64, layout=torch.contiguous_format):
    x = torch.randn(2, 3, 5, 7, dtype=dtype).contiguous(memory_format=layout).requires_grad_()
    return x, (torch.rand(2, 4, 6, 2, dtype=dtype) * 2.6 - 1.3)  # some of it outside


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_is_torchs_own(layout):
    x, grid = inputs(layout=layout)
    dy = torch.randn(2, 3, 4, 6, dtype=torch.float64)
    found = [[y, *torch.autograd.grad(y, x, dy)] for y in (
        F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False), grid_sample(x, grid))]
    for expected, actual in zip(*found, strict=True):
        torch.testing.assert_close(actual, expected)


def test_derivatives_of_three_orders():
    x, grid = inputs()

    def cubic(x):
        return grid_sample(grid_sample(x, grid) ** 3, grid)

    def gradient(x):
        return torch.autograd.grad(cubic(x).sum(), x, create_graph=True)[0]

    assert gradcheck(cubic, x, fast_mode=True)
    assert gradgradcheck(cubic, x, fast_mode=True)
    assert gradgradcheck(gradient, x, fast_mode=True)


def test_registrations_are_sound():
    x, grid = inputs(torch.float32)
    registration_is_sound("grid_sample", x, grid)
    registration_is_sound("grid_sample_grad", torch.randn(2, 3, 4, 6), grid, [5, 7])


def test_the_transpose_in_a_fixed_order_is_the_same():
    """What a GPU takes under torch.use_deterministic_algorithms."""
    x, grid = inputs()
    dy = torch.randn(2, 3, 4, 6, dtype=torch.float64)
    expected, = torch.autograd.grad(grid_sample(x, grid), x, dy)
    torch.testing.assert_close(spread_in_order(dy, grid, [5, 7]), expected)
