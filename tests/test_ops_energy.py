"""Sums of squares over kernels: native against exact, and their derivatives."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels import registration_is_sound
from torch.autograd import gradcheck, gradgradcheck

from torch_utils.ops.energy import energy
from torch_utils.ops.native import OPERATORS


@settings(max_examples=60, deadline=None)
@given(o=st.integers(0, 40), i=st.integers(1, 40), seed=st.integers(0, 99), layout=st.sampled_from(["dense", "slice"]))
def test_every_kernel_has_its_own_sum(o, i, seed, layout):
    w = torch.randn(o, i + 1, 3, 3, generator=torch.Generator().manual_seed(seed))
    w = w[:, :i] if layout == "slice" else w[:, :i].contiguous()
    found = energy(w)
    assert found.dtype == torch.float32 and found.shape == (o, i)
    torch.testing.assert_close(found.double(), w.double().square().sum([2, 3]), rtol=2e-6, atol=0)


def test_it_is_the_same_for_any_number_of_threads():
    w, before = torch.randn(300, 301, 3, 3), torch.get_num_threads()
    expected = energy(w)
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert torch.equal(energy(w), expected)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("kernel", [1, 3])
def test_energy_is_twice_differentiable(kernel):
    w = torch.randn(3, 2, kernel, kernel, dtype=torch.float64, requires_grad=True)
    assert gradcheck(energy, (w,)) and gradgradcheck(energy, (w,))


def test_its_gradient_in_float32_is_that_of_the_sum():
    w = torch.randn(5, 6, 3, 3, requires_grad=True)
    weights = torch.randn(5, 6)
    found, = torch.autograd.grad((energy(w) * weights).sum(), w)
    torch.testing.assert_close(found, 2 * w.detach() * weights[:, :, None, None])


def test_the_registration_is_sound():
    for args in OPERATORS["energy"].examples(torch.device("cpu"), torch.float32):
        registration_is_sound("energy", *args)
