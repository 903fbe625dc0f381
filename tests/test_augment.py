"""The augmentation pipeline: against golden numbers and exact cases, its statistics, its derivatives."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from golden_data import Golden
from torch.autograd import gradcheck, gradgradcheck

from stylegan2_pipeline.augment import AUGPIPES, GROUPS, OPERATIONS, STEPS_OF, AugmentPipe
from stylegan2_pipeline.augment_color import octave_bands, reflect_pad
from stylegan2_pipeline.augment_draws import FIRST, NUM_DRAWS, STEPS, Draws, Parameters
from stylegan2_pipeline.augment_geometry import reflection_margins, rotation, scaling, warp, warp_plan
from stylegan2_pipeline.bundles import outline

GOLDEN = Golden("augment")
CASES = [key.split("/")[1:] for key in GOLDEN.arrays.files if key.startswith("out/")]
NORMAL_STEPS = ["scale", "aniso", "xfrac", "brightness", "contrast", "saturation", *STEPS_OF["imgfilter"]]
GEOMETRY = list(AUGPIPES["bg"])


def columns(step):
    return slice(FIRST[step] + 1, FIRST[step] + 1 + STEPS[step])


def generators(seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def draws_with(n=1, **parameters):
    """Draws that open the gates of the named steps only, at these quantiles."""
    quantiles = torch.ones(n, NUM_DRAWS, dtype=torch.float64)
    for step, quantile in parameters.items():
        quantiles[:, FIRST[step]] = 0
        quantiles[:, columns(step)] = torch.tensor(quantile, dtype=torch.float64)
    return Draws(quantiles)


@pytest.mark.parametrize(("kind", "name", "quantile"), CASES)
def test_golden(kind, name, quantile):
    """The golden normals are std * erfinv(2 q - 1), which lack a factor sqrt(2): a normal's quantile at another q."""
    images = GOLDEN["in/images"] if kind == "rgb" else GOLDEN["in/images"][:, :1]
    pipe = AugmentPipe(GOLDEN.meta["pipes"][name])
    draws = pipe.percentile_draws(len(images), float(quantile))
    quantiles = draws.quantiles.double()
    for step in NORMAL_STEPS:
        quantiles[:, columns(step)] = scipy.stats.norm.cdf(scipy.special.erfinv(2 * float(quantile) - 1))
    out = pipe(images, 1.0, Draws(quantiles))
    torch.testing.assert_close(out, GOLDEN[f"out/{kind}/{name}/{quantile}"], rtol=0, atol=2e-5)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [8, 16, 40])
@pytest.mark.parametrize("q", [0.01, 0.99])
def test_every_size_and_channel_count(channels, size, q):
    pipe = AugmentPipe(AUGPIPES["bgcfnc"])
    images = torch.rand(2, channels, size, size) * 2 - 1
    out = pipe(images, 1.0, pipe.percentile_draws(2, q, images.shape[1:]))
    assert out.shape == images.shape and out.isfinite().all()


def test_probability_zero_returns_the_images():
    images = torch.randn(3, 3, 16, 16)
    pipe = AugmentPipe(AUGPIPES["bgc"])
    draws = pipe.draw(generators(range(3)))
    assert pipe(images, 0.0, draws) is images
    assert pipe(images, 1e-9, draws) is images  # no gate is open
    assert AugmentPipe({"xflip": 0})(images, 1.0, draws) is images


def test_probability_may_be_a_tensor():
    images, pipe = torch.randn(2, 3, 16, 16), AugmentPipe(AUGPIPES["color"])
    draws = pipe.draw(generators([0, 1]))
    assert torch.equal(pipe(images, torch.tensor(0.5), draws), pipe(images, 0.5, draws))


# Draws.


def test_a_batch_in_parts_is_augmented_alike():
    pipe = AugmentPipe(AUGPIPES["bgcfnc"])
    images = torch.rand(6, 3, 32, 32) * 2 - 1
    whole = pipe.draw(generators(range(6)), images.shape[1:])
    expected = pipe(images, 0.7, whole)
    for start, stop in [(0, 1), (1, 4), (4, 6)]:
        part = pipe.draw(generators(range(start, stop)), images.shape[1:])
        assert torch.equal(part.quantiles, whole[start:stop].quantiles)
        assert torch.equal(part.image_noise, whole[start:stop].image_noise)
        out = pipe(images[start:stop], 0.7, part)
        torch.testing.assert_close(out, expected[start:stop], rtol=0, atol=2e-4)


def test_enabling_an_operation_leaves_the_draws_of_others_alone():
    few, many = AugmentPipe(AUGPIPES["blit"]), AugmentPipe(AUGPIPES["bgcfnc"])
    assert torch.equal(few.draw(generators([5])).quantiles, many.draw(generators([5]), [3, 8, 8]).quantiles)
    assert few.draw(generators([5])).image_noise is None


@pytest.mark.parametrize("p", [0.1, 0.6])
def test_rate_of_every_operation(p):
    n = 20000
    multipliers = {operation: 0.5 if operation == "hue" else 1.0 for operation in OPERATIONS}
    pipe = AugmentPipe(multipliers)
    quantiles = torch.rand(n, NUM_DRAWS, generator=torch.Generator().manual_seed(1))
    parameters = Parameters(quantiles, pipe._probabilities(p))
    for operation, steps in STEPS_OF.items():
        gates = torch.stack([parameters.gate(step) for step in steps])
        rate = p * multipliers[operation]
        counts = [gates.any(0).sum()] if operation == "rotate" else gates.sum(1)
        for count in counts:
            assert scipy.stats.binomtest(int(count), n, rate).pvalue > 1e-4, operation
    pair = torch.stack([parameters.gate("pre_rotate"), parameters.gate("post_rotate")]).all(0)
    assert scipy.stats.binomtest(int(pair.sum()), n, (1 - math.sqrt(1 - p)) ** 2).pvalue > 1e-4


def test_distribution_of_parameters():
    quantiles = torch.rand(4000, NUM_DRAWS, generator=torch.Generator().manual_seed(2))
    parameters = Parameters(quantiles, dict.fromkeys(STEPS, 1.0))
    kolmogorov = lambda values, law: scipy.stats.kstest(values.flatten().numpy(), law).pvalue  # noqa: E731
    assert kolmogorov(parameters.normal("xfrac", 0.125), scipy.stats.norm(0, 0.125).cdf) > 1e-3
    assert kolmogorov(parameters.uniform("xint", 0.125), scipy.stats.uniform(-0.125, 0.25).cdf) > 1e-3
    assert kolmogorov(parameters.half_normal("noise", 0.1), scipy.stats.halfnorm(0, 0.1).cdf) > 1e-3
    counts = parameters.choice("rotate90", 4).long().bincount()
    assert len(counts) == 4 and scipy.stats.chisquare(counts).pvalue > 1e-3
    independent = np.corrcoef(quantiles.numpy().T) - np.eye(NUM_DRAWS)
    assert np.abs(independent).max() < 5 / math.sqrt(4000)


def test_extreme_quantiles_stay_finite():
    parameters = Parameters(torch.tensor([[0.0] * NUM_DRAWS, [1 - 2**-24] * NUM_DRAWS]), dict.fromkeys(STEPS, 1.0))
    for values in (parameters.normal("scale", 1.0), parameters.half_normal("noise", 1.0)):
        assert values.isfinite().all() and values.abs().max() < 5.5


# Geometry, on images that have no frequencies above half of what they can hold.


def smooth_images(size=32):
    images = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(3))
    return torch.nn.functional.interpolate(images, size=[size, size], mode="bicubic", align_corners=True)


@pytest.mark.parametrize(("step", "quantile", "exact"), [
    ("xflip", 0.7, lambda x: x.flip(3)),
    ("rotate90", 0.3, lambda x: x.rot90(1, [2, 3])),
    ("rotate90", 0.6, lambda x: x.rot90(2, [2, 3])),
    ("xint", [0.5 + 3 / 8, 0.5 - 2 / 8], lambda x: reflect_pad(x, 4)[:, :, 4 + 2 : 36 + 2, 4 - 3 : 36 - 3]),
])  # fmt: skip
def test_pixels_that_only_change_places(step, quantile, exact):
    images = smooth_images()
    out = AugmentPipe(AUGPIPES["blit"])(images, 1.0, draws_with(2, **{step: quantile}))
    torch.testing.assert_close(out, exact(images), rtol=0, atol=2e-2)


def test_warp_samples_where_the_matrix_says():
    """A linear ramp stays linear, and its value tells where each pixel was looked up."""
    size = 33
    ramp = torch.arange(size).double() - (size - 1) / 2
    images = torch.stack([ramp.expand(size, size), ramp[:, None].expand(size, size)])[None]
    inverse = rotation(torch.tensor([0.5]).double()) @ scaling(*torch.tensor([[0.6], [0.5]]).double())
    filt = AugmentPipe({}).warp_filter
    out = warp(images, *warp_plan(inverse, (size, size)), filt)[0]
    place = torch.stack(torch.meshgrid(ramp, ramp, indexing="xy")).flatten(1)
    expected = (inverse[0, :2, :2] @ place).unflatten(1, (size, size))
    inner = slice(8, -8)
    # The filter is centred within a tenth of a subpixel.
    torch.testing.assert_close(out[:, inner, inner], expected[:, inner, inner], rtol=0, atol=0.12)


def test_margins_are_enough_and_go_in_eighths_of_the_size():
    """The second filter looks at 6 pixels; shifts add up to it; a mirror image has no more than size - 1."""
    identity = torch.eye(3, dtype=torch.float64)[None]
    assert reflection_margins(identity, (64, 64)) == (8, 8)
    shift = identity.clone()
    shift[0, :2, 2] = torch.tensor([10.0, -5.5])
    assert reflection_margins(torch.cat([identity, shift]), (64, 64)) == (16, 16)
    assert reflection_margins(shift, (256, 64)) == (32, 16)
    assert reflection_margins(shift, (8, 8)) == (7, 7)


def test_batchmates_do_not_matter():
    pipe, images = AugmentPipe(AUGPIPES["bg"]), smooth_images()
    draws = Draws(torch.cat([draws_with(scale=0.4).quantiles, draws_with(pre_rotate=0.63, xfrac=[0.9, 0.8]).quantiles]))
    together = pipe(images, 1.0, draws)
    for i in range(2):
        torch.testing.assert_close(pipe(images[i : i + 1], 1.0, draws[i : i + 1])[0], together[i], rtol=0, atol=1e-5)


# Colour and corruption.


def test_color_by_its_meaning():
    pipe = AugmentPipe(AUGPIPES["color"])
    images = torch.rand(1, 3, 8, 8) * 2 - 1
    luma = images.mean(1, keepdim=True)
    one_sigma = scipy.stats.norm.cdf(1)
    expected = {
        "brightness": (one_sigma, images + 0.2),
        "contrast": (one_sigma, images * 2**0.5),
        "lumaflip": (0.8, images - 2 * luma),
        "hue": (0.5 + 1 / 3, images.roll(1, 1)),  # a third of a turn about the gray axis permutes the colours
        "saturation": (one_sigma, luma + 2 * (images - luma)),
    }
    for step, (quantile, result) in expected.items():
        torch.testing.assert_close(pipe(images, 1.0, draws_with(**{step: quantile})), result, msg=step)


def test_color_leaves_alpha_alone():
    pipe, images = AugmentPipe(AUGPIPES["color"]), torch.rand(2, 4, 8, 8)
    draws = pipe.percentile_draws(2, 0.8)
    out = pipe(images, 1.0, draws)
    assert torch.equal(out[:, 3], images[:, 3])
    torch.testing.assert_close(out[:, :3], pipe(images[:, :3], 1.0, draws))


def test_bands_are_octaves_that_add_up_to_the_image():
    bands = octave_bands()
    pulse = torch.zeros(bands.shape[1], dtype=torch.float64)
    pulse[bands.shape[1] // 2] = 1
    torch.testing.assert_close(bands.sum(0), pulse)
    torch.testing.assert_close(bands, bands.flip(1))
    response = torch.fft.rfft(bands, 512).abs()
    assert response.argmax(0)[[0, 16, 45, 90, 190, 256]].tolist() == [0, 0, 1, 2, 3, 3]  # of 256, the highest frequency


def test_cutout_is_a_square_of_half_the_size():
    pipe = AugmentPipe({"cutout": 1})
    out = pipe(torch.ones(1, 3, 16, 16), 1.0, draws_with(cutout=[0.5, 0.25]))
    expected = torch.ones(16, 16)
    expected[0:8, 4:12] = 0
    assert torch.equal(out[0], expected.expand(3, 16, 16))


def test_noise_has_the_drawn_strength():
    pipe, images = AugmentPipe({"noise": 1}), torch.zeros(1, 3, 64, 64)
    noise = pipe.draw(generators([0]), images.shape[1:]).image_noise
    out = pipe(images, 1.0, Draws(draws_with(noise=0.6826895).quantiles, noise))
    torch.testing.assert_close(out, noise * 0.1)


# Derivatives: R1 goes through all of this twice.


@pytest.mark.parametrize("group", ["bg", "color", "filter", "cutout", "bgcfnc"])
@pytest.mark.parametrize("channels", [1, 4])
def test_twice_differentiable(group, channels):
    pipe = AugmentPipe(AUGPIPES[group]).double()
    images = torch.rand(1, channels, 8, 8, dtype=torch.float64, requires_grad=True)
    draws = pipe.percentile_draws(1, 0.7, images.shape[1:])

    def nonlinear(x):
        return pipe(x.square(), 1.0, draws)

    assert gradcheck(nonlinear, images, fast_mode=True)
    assert gradgradcheck(nonlinear, images, fast_mode=True)


def test_names():
    assert set(AUGPIPES) == {"bg", "bgc", "bgcf", "bgcfn", "bgcfnc", *GROUPS}
    assert list(AUGPIPES["bgcfnc"]) == OPERATIONS
    with pytest.raises(AssertionError, match="unknown"):
        AugmentPipe({"zoom": 1})


# Plans: what the host decides, and what the device computes from it.


@pytest.mark.parametrize("channels", [1, 3])
def test_a_larger_margin_changes_nothing(channels):
    """So it may be rounded up as one likes: the warp does not look there."""
    images = smooth_images()[:, :channels]
    pipe = AugmentPipe(AUGPIPES["bgc"])
    for seed in range(6):
        draws = pipe.draw(generators([seed, seed + 50]))
        fine, coarse = (pipe.plan(draws, 0.5, images.shape[1:], coarse=coarse) for coarse in (False, True))
        if fine.warp:
            assert coarse.warp[1][0] == coarse.warp[1][1] >= max(fine.warp[1])
        torch.testing.assert_close(pipe.apply_plan(images, coarse), pipe.apply_plan(images, fine), rtol=0, atol=2e-4)


def test_coarse_plans_have_few_outlines():
    pipe = AugmentPipe(AUGPIPES["bgcfnc"])
    plans = [pipe.plan(pipe.draw(generators(range(8 * k, 8 * k + 8)), [3, 64, 64]), 0.7, [3, 64, 64], coarse=True)
             for k in range(60)]
    assert {plan.warp[1] for plan in plans} <= {(16, 16), (32, 32), (48, 48), (63, 63)}
    assert len(set(map(outline, plans))) <= 4
