"""DiffAugment against closed forms; its ranges, its derivatives, and that a batch may be cut."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from stylegan2_pipeline.augment_draws import Draws
from stylegan2_pipeline.diffaugment import CENTRE, NUM_QUANTILES, TRANSLATION, DiffAugment

ALL = ("color", "translation", "cutout")


def generators(n):
    return [torch.Generator().manual_seed(seed) for seed in range(n)]


def draws_at(n=1, **places):
    """Quantiles at which nothing of the colour changes, but for those given by slice."""
    quantiles = torch.full((n, NUM_QUANTILES), 0.5)
    for name, value in places.items():
        quantiles[:, {"translation": TRANSLATION, "cutout": CENTRE}[name]] = torch.tensor(value)
    return Draws(quantiles)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_color_in_closed_form(channels):
    images, pipe = torch.rand(3, channels, 8, 8) * 2 - 1, DiffAugment(["color"])
    torch.testing.assert_close(pipe(images, draws=draws_at(3)), images)
    draws = pipe.draw(generators(3))
    out = pipe(images, p=0.0, draws=draws)
    for n, (brightness, saturation, contrast, *_) in enumerate(draws.quantiles.tolist()):
        x = images[n, :3] + brightness - 0.5
        if channels > 1:
            x = x.mean(0) * (1 - 2 * saturation) + x * 2 * saturation
        x = x.mean() * (0.5 - contrast) + x * (contrast + 0.5)
        torch.testing.assert_close(out[n, :3], x)
        assert torch.equal(out[n, 3:], images[n, 3:])  # alpha is no colour


@pytest.mark.parametrize("size", [8, 20, 32])
def test_translation_is_by_whole_pixels_up_to_an_eighth_and_uncovers_zero(size):
    images, pipe = torch.rand(1, 4, size, size) + 1, DiffAugment(["translation"])
    most = round(size / 8)
    torch.testing.assert_close(pipe(images, draws=draws_at()), images)
    out = pipe(images, draws=draws_at(translation=[0.9999, 0.0]))  # right and up
    assert torch.equal(out[:, :, :size - most, most:], images[:, :, most:, :size - most])
    assert not out[:, :, :, :most].any() and not out[:, :, size - most:].any()
    many = DiffAugment(["translation"])
    out = many(images.expand(900, -1, -1, -1), draws=many.draw(generators(900)))
    columns = (out[:, 0].sum(1) == 0).sum(1).bincount(minlength=most + 1)  # empty columns: |shift|
    rate = torch.tensor([1.0, *[2.0] * most]) / (2 * most + 1)
    assert len(columns) == most + 1 and (columns / 900 - rate).abs().max() < 5 * (0.25 / 900) ** 0.5


def test_cutout_is_a_square_of_half_the_size_around_a_centre_in_the_image():
    images, pipe = torch.rand(1, 3, 16, 16) + 1, DiffAugment(["cutout"])
    out = pipe(images, draws=draws_at())
    assert not out[:, :, 4:12, 4:12].any() and (out == 0).sum() == 3 * 64
    out = pipe(images, draws=draws_at(cutout=[0.0, 0.999]))
    assert not out[:, :, 12:, :4].any() and (out == 0).sum() == 3 * 16
    assert torch.equal(out[:, :, :, 4:], images[:, :, :, 4:])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_sample_does_not_depend_on_its_batch(channels):
    images, pipe = torch.rand(6, channels, 16, 16), DiffAugment(ALL)
    draws = pipe.draw(generators(6), images.shape[1:])
    whole = pipe(images, p=0.3, draws=draws)
    assert torch.equal(whole, torch.cat([pipe(images[k:k + 2], p=0.3, draws=draws[k:k + 2]) for k in (0, 2, 4)]))
    assert len({tuple(q) for q in draws.quantiles.tolist()}) == 6
    assert torch.equal(pipe.draw(generators(6)).quantiles, draws.quantiles)


def test_an_operation_draws_the_same_whatever_else_is_enabled():
    images = torch.rand(4, 3, 16, 16)
    steps = images
    for name in ALL:
        pipe = DiffAugment([name])
        steps = pipe(steps, draws=pipe.draw(generators(4)))
    whole = DiffAugment(ALL[::-1])
    assert torch.equal(whole(images, draws=whole.draw(generators(4))), steps)
    assert torch.equal(DiffAugment([])(images, draws=draws_at(4)), images)


@pytest.mark.parametrize("channels", [1, 4])
def test_twice_differentiable(channels):
    pipe = DiffAugment(ALL)
    images = torch.rand(2, channels, 8, 8, dtype=torch.float64, requires_grad=True)
    draws = pipe.draw(generators(2))
    assert gradcheck(lambda x: pipe(x, draws=draws).square(), images, fast_mode=True)
    assert gradgradcheck(lambda x: pipe(x, draws=draws).pow(3), images, fast_mode=True)
