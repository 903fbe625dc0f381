"""Distances along latent paths, on generators for which they are known and on real ones."""

import math
from functools import partial

import pytest
import torch
from seeded_weights import small_heads, small_vgg16, weights_file

from metrics.detectors.lpips import open_lpips
from stylegan2_pipeline import path_distances as module
from stylegan2_pipeline.networks import Generator
from stylegan2_pipeline.path_distances import PATHS, path_distances, slerp
from torch_utils.errors import UserError

CPU = torch.device("cpu")


def euclidean(a, b):
    """A distance whose paths are known: squares of differences in units of an image's range [-1, 1]."""
    return ((a - b) / 127.5).square().mean(dim=1).sum(dim=[1, 2])  # gray is there three times


class Known:
    """A generator given by what it draws of w [N,D] and noise [N,D], in float64; keeps what it was asked."""

    def __init__(self, image, resolution=32, c_dim=0, size=6):
        self.image, self.img_resolution, self.z_dim, self.c_dim = image, resolution, size, c_dim
        self.synthesis = partial(self.draw)
        self.synthesis.noise_numel = size
        self.asked = {}

    def mapping(self, z, c=None):
        for name, value in (("z", z.double()), ("c", c)):
            self.asked.setdefault(name, []).append(value)
        return z.double()[:, None].repeat(1, 3, 1)

    def draw(self, ws, noise_mode, noise, force_fp32):
        assert noise_mode == "random" and force_fp32
        self.asked |= {"ws": ws, "noise": noise}
        return self.image(ws[:, 0], noise.double())


def pixels(values, resolution=32):
    """[N,D] as the first pixels of those of an image that the older names look at."""
    images = values.new_zeros([len(values), 1, resolution, resolution])
    corner = 3 * resolution // 8, 2 * resolution // 8
    images[:, 0, corner[0], corner[1]:corner[1] + values.shape[1]] = values
    return images


def measured(G, kind, lpips=euclidean, seed=0, start=0, count=8, labels=None):
    distances = path_distances(G, lpips, kind, seed, start, count, labels, CPU)
    assert distances.dtype == torch.float32 and distances.shape == (count, 1)
    return distances.flatten()


@pytest.mark.parametrize("kind", ["ppl2_wend", "ppl_wend", "ppl_wfull"])
def test_straight_paths_of_a_linear_network_are_as_long_as_their_ends_are_apart(kind):
    G = Known(lambda w, noise: pixels(3 * w))
    distances = measured(G, kind)
    z0, z1 = G.asked["z"]
    torch.testing.assert_close(distances, (9 * (z1 - z0).square().sum(1)).float(), rtol=1e-6, atol=0)


def test_paths_at_their_first_end_are_as_long_as_the_slope_there():
    G = Known(lambda w, noise: pixels(w**3))
    distances = measured(G, "ppl2_wend")
    z0, z1 = G.asked["z"]
    torch.testing.assert_close(distances, (3 * z0**2 * (z1 - z0)).square().sum(1).float(), rtol=0.01, atol=0)


@pytest.mark.parametrize("kind, whole", [("ppl_wfull", True), ("ppl_wend", False), ("ppl2_wend", False)])
def test_steps_are_where_they_should_be(kind, whole):
    G = Known(lambda w, noise: pixels(w))
    measured(G, kind, count=64)
    (w0, w1), (at, after) = G.asked["z"], G.asked["ws"][:, 0].chunk(2)
    t = (at - w0) / (w1 - w0)
    torch.testing.assert_close(t, t[:, :1].expand_as(t), atol=1e-6, rtol=0)
    torch.testing.assert_close(after - at, 1e-4 * (w1 - w0), atol=1e-12, rtol=0)
    t = t[:, 0]
    assert (t.min() < 0.1 and t.max() > 0.9 and t.std() > 0.2) if whole else t.abs().max() == 0


@pytest.mark.parametrize("kind", ["ppl_zfull", "ppl_zend"])
def test_paths_in_z_are_arcs_of_a_circle(kind):
    G = Known(lambda w, noise: pixels(w))
    angles = measured(G, kind, count=400).sqrt()
    steps, = G.asked["z"]
    torch.testing.assert_close(steps.norm(dim=1), torch.ones(800, dtype=torch.float64))
    # a step is that part of the angle between two directions of six dimensions, whose cosine has the variance 1 / 6
    assert angles.min() > 0 and angles.max() < math.pi
    assert abs(angles.mean() - math.pi / 2) < 0.08 and abs(angles.cos().square().mean() - 1 / 6) < 0.03


def test_paths_in_z_begin_at_the_same_latents_whole_or_not():
    whole, end = Known(lambda w, noise: pixels(w)), Known(lambda w, noise: pixels(w))
    torch.testing.assert_close(measured(whole, "ppl_zfull"), measured(end, "ppl_zend"))  # the same angles
    assert ((whole.asked["z"][0] - end.asked["z"][0]).norm(dim=1) > 0.01).all()


def test_slerp_by_hand():
    a, b = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 0.5]])
    third = torch.tensor([[math.cos(math.pi / 6), math.sin(math.pi / 6)]])
    torch.testing.assert_close(slerp(a, b, torch.tensor([[1 / 3]])), third)
    torch.testing.assert_close(slerp(a, b, torch.tensor([[0.0]])), a / 3)
    torch.testing.assert_close(slerp(a, b, torch.tensor([[1.0]])), b * 2)


def test_both_images_share_noise_that_no_other_pair_has():
    G = Known(lambda w, noise: pixels(noise))
    assert (measured(G, "ppl2_wend") == 0).all()
    first, second = G.asked["noise"].chunk(2)
    assert torch.equal(first, second) and len(first.unique(dim=0)) == 8


def test_a_pair_follows_from_the_seed_and_its_number():
    def draw(**kwargs):
        G = Known(lambda w, noise: pixels(w * noise))
        return measured(G, "ppl_wfull", **kwargs)

    all_of_them = draw()
    torch.testing.assert_close(torch.cat([draw(start=i, count=2) for i in range(0, 8, 2)]), all_of_them)
    assert not torch.isclose(draw(seed=1), all_of_them).any()


def test_labels_are_drawn_by_each_pair_and_shared_within_it():
    def labels(generators):
        return torch.stack([torch.rand(2, generator=g) for g in generators])

    def labels_of(kind, **kwargs):
        G = Known(lambda w, noise: pixels(w), c_dim=2)
        measured(G, kind, labels=labels, **kwargs)
        first, second = torch.cat(G.asked["c"]).chunk(2)
        assert torch.equal(first, second)
        return first

    found = labels_of("ppl2_wend")
    assert len(found.unique(dim=0)) == 8
    assert torch.equal(labels_of("ppl_zfull", start=3, count=2), found[3:5])


def seen_by_the_distance(G, kind):
    pictures = []
    measured(G, kind, lambda a, b: pictures.extend([a, b]) or a.flatten(1)[:, 0], count=1)
    return pictures[0]


def places(resolution, channels=1):
    """An image that has the number of each pixel in it, over the number of pixels."""
    numbers = torch.arange(channels * resolution**2).reshape(1, channels, resolution, resolution).double()
    return numbers / resolution**2, Known(lambda w, noise: numbers.expand(len(w), -1, -1, -1) / resolution**2,
                                          resolution)


def test_images_reach_the_distance_in_its_range_and_unrounded():
    image, G = places(32)
    seen = seen_by_the_distance(G, "ppl2_wend")
    torch.testing.assert_close(seen, ((image + 1) * 127.5).expand(-1, 3, -1, -1))


def test_older_names_look_at_the_middle():
    image, G = places(64)
    seen = seen_by_the_distance(G, "ppl_wend")
    torch.testing.assert_close(seen[:, :1], (image[:, :, 24:56, 16:48] + 1) * 127.5)


@pytest.mark.parametrize("kind", ["ppl2_wend", "ppl_zend"])
def test_large_images_are_averaged(kind):
    image, G = places(512)
    means = image.reshape(1, 1, 256, 2, 256, 2).mean(dim=[3, 5])
    means = means[:, :, 96:224, 64:192] if PATHS[kind].crop else means
    torch.testing.assert_close(seen_by_the_distance(G, kind)[:, :1], (means + 1) * 127.5)


def test_of_four_channels_the_colour_counts():
    image, G = places(32, channels=4)
    torch.testing.assert_close(seen_by_the_distance(G, "ppl2_wend"), (image[:, :3] + 1) * 127.5)


@pytest.mark.parametrize("kind, smallest", [("ppl2_wend", 16), ("ppl_wend", 32)])
def test_images_that_are_too_small_are_told(kind, smallest):
    made = smallest // 2
    with pytest.raises(UserError, match=rf"{kind} needs images of {smallest} pixels .* {made}x{made}"):
        measured(Known(lambda w, noise: pixels(w), resolution=made), kind)


@pytest.fixture(scope="module")
def lpips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return open_lpips(weights_file(folder, "vgg16", small_vgg16()), weights_file(folder, "lpips", small_heads()), CPU)


def real_network(resolution=16, channels=3, c_dim=0, **synthesis):
    torch.manual_seed(1)
    G = Generator(z_dim=8, c_dim=c_dim, w_dim=8, img_resolution=resolution, img_channels=channels,
                  mapping_kwargs={"num_layers": 2},
                  synthesis_kwargs={"channel_base": 128, "channel_max": 8} | synthesis)
    with torch.no_grad():
        for name, parameter in G.named_parameters():
            if name.endswith("noise_strength"):
                parameter.fill_(0.3)
    return G.eval().requires_grad_(False)


@pytest.mark.parametrize("kind, resolution, channels, c_dim", [
    ("ppl2_wend", 16, 3, 0), ("ppl2_wend", 32, 1, 3), ("ppl_zfull", 32, 4, 0), ("ppl_wfull", 32, 3, 2)])
def test_real_networks_do_not_see_the_batch(lpips, kind, resolution, channels, c_dim):
    G = real_network(resolution, channels, c_dim)

    def labels(generators):
        return torch.eye(c_dim)[[int(torch.randint(c_dim, [], generator=g)) for g in generators]]

    kwargs = {"labels": labels if c_dim else None}
    together = measured(G, kind, lpips, count=4, **kwargs)
    assert (together > 0).all() and together.std() > 0
    alone = torch.cat([measured(G, kind, lpips, start=i, count=1, **kwargs) for i in range(4)])
    torch.testing.assert_close(alone, together, rtol=0.05, atol=0)
    torch.testing.assert_close(alone.mean(), together.mean(), rtol=0.01, atol=0)


def test_the_size_of_the_step_does_not_matter(lpips, monkeypatch):
    G = real_network()
    published = measured(G, "ppl2_wend", lpips)
    monkeypatch.setattr(module, "EPSILON", 3e-4)
    torch.testing.assert_close(measured(G, "ppl2_wend", lpips), published, rtol=0.05, atol=0)


def test_half_precision_is_not_used(lpips):
    half = real_network(num_fp16_res=4, half_dtype="bfloat16", conv_clamp=256)
    torch.testing.assert_close(measured(half, "ppl2_wend", lpips),
                               measured(real_network(conv_clamp=256), "ppl2_wend", lpips), rtol=0.05, atol=0)


def flags():
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.fixture
def tf32():
    """Switched on, as a run may have it."""
    before = flags()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def test_images_are_made_without_tf32(tf32):
    seen = []
    measured(Known(lambda w, noise: seen.append(flags()) or pixels(w)), "ppl2_wend")
    assert seen == [(False, False)] and flags() == (True, True)


def test_a_network_that_does_not_heed_its_latents_has_no_length(lpips):
    G = real_network()
    for name, parameter in G.named_parameters():
        if name.endswith("affine.weight"):
            parameter.zero_()
    assert (measured(G, "ppl2_wend", lpips) == 0).all()
