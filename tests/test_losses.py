"""The four phases against golden gradients and closed forms."""

import pytest
import torch
from golden_data import Golden, relative_error

from stylegan2_pipeline import losses
from stylegan2_pipeline.ema import ema_beta, update_ema
from stylegan2_pipeline.latents import Latents, mixing
from stylegan2_pipeline.networks import Discriminator, Generator


def identity(images):
    return images


@pytest.fixture(scope="module")
def golden():
    return Golden("loss_phases")


@pytest.fixture
def networks(golden):
    G, D = Generator(**golden.meta["G"]), Discriminator(**golden.meta["D"])
    G.load_state_dict(golden.under("stateG/"))
    D.load_state_dict(golden.under("stateD/"))
    return G, D


def unmixed(z, G, noise=None):
    return Latents(z, torch.zeros([len(z), 0]), None, noise)


def main_terms(G, D, fake, real, c, lecam=None):
    """Of the discriminator's main phase."""
    first = losses.discriminator_fake(G, D, identity, fake, lecam)
    return [first, losses.discriminator_real(D, identity, real, c, first.stats["Loss/scores/fake"].detach(), lecam)]


def phase_terms(name, golden, G, D):
    loss = golden.meta["loss"]
    fake, real, c = unmixed(golden["in/z"], G), golden["in/real"], torch.zeros([len(golden["in/real"]), 0])
    if name == "Gmain":
        return [losses.generator_main(G, D, identity, fake)]
    if name == "Dmain":
        return main_terms(G, D, fake, real, c)
    if name == "Dreg":
        return [losses.discriminator_r1(D, identity, real, c, loss["r1_gamma"])]

    half = unmixed(golden["in/z"][:len(fake.z) // loss["pl_batch_shrink"]], G)
    return [losses.generator_path_length_penalty(G, half, golden["in/pl_noise"], loss["pl_weight"], loss["pl_decay"],
                                                 torch.tensor(loss["pl_mean_before"]))]


@pytest.mark.parametrize("name", ["Gmain", "Greg", "Dmain", "Dreg"])
def test_gradients_of_a_phase_equal_golden(name, golden, networks):
    G, D = networks
    net, other = (G, D) if name[0] == "G" else (D, G)
    other.requires_grad_(False)
    for term in phase_terms(name, golden, G, D):
        (term.loss * golden.meta["gains"][name]).backward()
    expected = golden.under(f"out/{name}/")
    compared = 0
    for key, parameter in net.named_parameters():
        if key in expected and not key.endswith("noise_strength"):  # the noise is drawn afresh
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            assert relative_error(gradient, expected[key]) < 1e-3, key
            compared += 1
    assert compared > 10


def test_path_length_of_a_linear_generator_is_its_norm():
    """For images = w @ A the Jacobian along any direction y is A y: known in closed form."""
    A, ws, noise = torch.randn(5, 48), torch.randn(2, 1, 5, requires_grad=True), torch.randn(2, 3, 4, 4)
    images = (ws[:, 0] @ A).reshape(2, 3, 4, 4)
    lengths = losses.path_lengths(images, ws, noise)
    assert torch.allclose(lengths, (noise.flatten(1) @ A.T / 4).norm(dim=1), rtol=1e-5)


def test_r1_of_a_linear_discriminator_is_its_squared_norm():
    weight = torch.randn(12)

    class Linear(torch.nn.Module):
        def forward(self, img, c):
            return img.flatten(1) @ weight[:, None]

    term = losses.discriminator_r1(Linear(), identity, torch.randn(3, 3, 2, 2), torch.zeros(3, 0), gamma=10.0)
    assert torch.allclose(term.loss, 5 * weight.square().sum(), rtol=1e-5)


def test_style_mixing_takes_layers_from_the_cut():
    G = Generator(8, 0, 8, 16, 3, {"num_layers": 2}, {"channel_base": 64, "channel_max": 8})
    z, z_mix = torch.randn(2, 3, 8)
    cut = torch.tensor([2, G.num_ws, 1])
    ws, w = Latents(z, torch.zeros(3, 0), mixing(z_mix, cut, G.num_ws)).to_ws(G)
    first, second = G.mapping(z, None), G.mapping(z_mix, None)
    for n, k in enumerate(cut):
        assert torch.equal(ws[n, :k], first[n, :k]) and torch.equal(ws[n, k:], second[n, k:])
    assert torch.equal(w, first[:, 0]) and mixing(z_mix, torch.full([3], G.num_ws), G.num_ws) is None


def test_ema_ramps_up_and_copies_buffers():
    assert ema_beta(32, cur_nimg=0, ema_kimg=10, rampup=0.05) == 0
    assert ema_beta(100, cur_nimg=2000, ema_kimg=10, rampup=0.05) == 0.5
    assert ema_beta(10000, cur_nimg=0, ema_kimg=10, rampup=None) == 0.5
    a, b = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    b.weight.data.fill_(3.0)
    b.running_mean.fill_(7.0)
    update_ema(a, b, beta=0.75)
    b.num_batches_tracked.fill_(5)
    update_ema(a, b, beta=1.0)
    assert torch.allclose(a.weight, torch.full([2], 1.5)) and torch.equal(a.running_mean, b.running_mean)
    assert a.num_batches_tracked == 5
    plain = torch.nn.Linear(2, 2)  # without any buffer
    update_ema(plain, torch.nn.Linear(2, 2), beta=0.0)


class Scaled(torch.nn.Module):
    """D(x) = scale * mean(x)."""

    def __init__(self, scale):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(scale))

    def forward(self, img, c):
        return self.scale * img.mean([1, 2, 3])[:, None]


def test_lecam_holds_each_kind_of_score_to_the_anchor_of_the_other():
    G = Generator(8, 0, 8, 8, 1, {"num_layers": 2}, {"channel_base": 64, "channel_max": 8})
    z, real, none = torch.randn(4, 8), torch.randn(4, 1, 8, 8), torch.zeros(4, 0)
    noise = torch.randn(4, G.synthesis.noise_numel)
    lecam = losses.LeCam(0.3, real=torch.tensor(0.7), fake=torch.tensor(-0.4))
    found = []
    for option in (None, lecam):
        D = Scaled(2.0)
        terms = main_terms(G, D, unmixed(z, G, noise), real, none, option)
        gradients = [torch.autograd.grad(term.loss, D.scale)[0] for term in terms]
        found.append((terms, gradients))
    (plain, plain_gradients), (held, held_gradients) = found
    means = G(z, noise=noise).detach().mean([1, 2, 3]), real.mean([1, 2, 3])
    for k, anchor in enumerate((0.7, -0.4)):
        distance = 2.0 * means[k] - anchor
        assert torch.allclose(held[k].loss - plain[k].loss, 0.3 * distance.square().mean(), atol=1e-6)
        expected = 0.3 * (2 * distance * means[k]).mean()
        assert torch.allclose(held_gradients[k] - plain_gradients[k], expected, atol=1e-6)
    penalty = held[1].stats.pop("Loss/lecam")
    assert torch.allclose(penalty.mean(), sum(a.loss - b.loss for a, b in zip(held, plain, strict=True)), atol=1e-6)
    assert penalty.shape == (4, 1)
    for a, b in zip(held, plain, strict=True):
        assert a.stats.keys() == b.stats.keys() and all(map(torch.equal, a.stats.values(), b.stats.values()))
