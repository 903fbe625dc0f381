"""The networks against golden numbers, and what must hold of any of them."""

import pytest
import torch
from golden_data import Golden, relative_error

from stylegan2_pipeline.networks import Discriminator, Generator

GENERATORS = ["generator_rgb32", "generator_gray64_cond", "generator_rgb16_orig", "generator_rgb16_resnet"]
DISCRIMINATORS = ["discriminator_rgb32", "discriminator_gray64_cond", "discriminator_rgb16_orig",
                  "discriminator_rgb16_skip"]


def golden_generator(golden):
    meta = golden.meta
    G = Generator(**meta["kwargs"], mapping_kwargs=meta["mapping_kwargs"], synthesis_kwargs=meta["synthesis_kwargs"])
    G.load_state_dict(golden.under("state/"))
    return G.eval().requires_grad_(False)


def golden_discriminator(golden):
    meta = golden.meta
    D = Discriminator(**meta["kwargs"], mapping_kwargs=meta["mapping_kwargs"], epilogue_kwargs=meta["epilogue_kwargs"])
    D.load_state_dict(golden.under("state/"))
    return D.eval().requires_grad_(False)


def tiny_generator(resolution=16, channels=3, **synthesis):
    widths = dict(channel_base=max(64, resolution), channel_max=8)
    return Generator(8, 0, 8, resolution, channels, {"num_layers": 2}, widths | synthesis)


def tiny_discriminator(resolution=16, channels=3, c_dim=0, **kwargs):
    return Discriminator(c_dim, resolution, channels, channel_base=max(64, resolution), channel_max=8, **kwargs)


@pytest.mark.parametrize("name", GENERATORS)
def test_generator_equals_golden(name):
    golden = Golden(name)
    G = golden_generator(golden)
    assert G.num_ws == golden.meta["num_ws"]
    z, c = golden["in/z"], golden["in/c"]
    ws, truncated = G.mapping(z, c), G.mapping(z, c, truncation_psi=0.7, truncation_cutoff=3)
    assert relative_error(ws, golden["out/ws"]) < 1e-5
    assert relative_error(truncated, golden["out/ws_trunc"]) < 1e-5
    assert relative_error(G.synthesis(ws, noise_mode="const"), golden["out/img_const"]) < 1e-4
    assert relative_error(G.synthesis(ws, noise_mode="none"), golden["out/img_none"]) < 1e-4
    assert relative_error(G.synthesis(truncated, noise_mode="const"), golden["out/img_trunc"]) < 1e-4


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_discriminator_equals_golden(name):
    golden = Golden(name)
    D = golden_discriminator(golden)
    img = golden["in/img"].requires_grad_(True)
    logits = D(img, golden["in/c"])
    gradient, = torch.autograd.grad(logits.sum(), img)
    assert relative_error(logits, golden["out/logits"]) < 1e-4
    assert relative_error(gradient, golden["out/grad_img"]) < 1e-4


@pytest.mark.parametrize("resolution", [8, 64])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_any_resolution_and_channels(resolution, channels):
    G, D = tiny_generator(resolution, channels), tiny_discriminator(resolution, channels)
    images = G(torch.randn(2, 8))
    assert images.shape == (2, channels, resolution, resolution) and images.dtype == torch.float32
    assert D(images).shape == (2, 1)


@pytest.mark.parametrize(("resolution", "num_ws"), [(8, 4), (256, 14), (512, 16), (1024, 18)])
def test_number_of_ws(resolution, num_ws):
    assert tiny_generator(resolution).num_ws == num_ws


def test_truncation_to_zero_gives_the_mean_image():
    G = tiny_generator()
    G.mapping.w_avg.normal_()
    images = G(torch.randn(3, 8), truncation_psi=0, noise_mode="const")
    assert torch.allclose(images[0], images[1], atol=1e-6)
    assert torch.allclose(images, G.synthesis(G.mapping.w_avg.expand(3, G.num_ws, -1), "const"), atol=1e-6)


def test_noise_given_equals_noise_split_over_batches_and_layers():
    G = tiny_generator()
    for block in G.synthesis.blocks():
        block.conv1.noise_strength.data.fill_(1.0)
    ws, noise = G.mapping(torch.randn(4, 8), None), torch.randn(4, G.synthesis.noise_numel)
    whole = G.synthesis(ws, noise=noise)
    assert torch.allclose(whole[2:], G.synthesis(ws[2:], noise=noise[2:]), atol=1e-5)
    assert not torch.allclose(whole, G.synthesis(ws, noise=-noise), atol=1e-2)
    assert not torch.allclose(whole, G.synthesis(ws, noise_mode="none"), atol=1e-2)
    assert G.synthesis.noise_numel == 16 + 2 * 64 + 2 * 256


def test_bfloat16_blocks_follow_float32():
    torch.manual_seed(1)
    G = tiny_generator(32, num_fp16_res=2, half_dtype="bfloat16", conv_clamp=256)
    z = torch.randn(4, 8)
    half, full = G(z, noise_mode="const"), G(z, noise_mode="const", force_fp32=True)
    assert half.dtype == torch.float32 and not torch.equal(half, full)
    assert relative_error(half, full) < 0.05
    D = tiny_discriminator(32, num_fp16_res=2, block_kwargs={"half_dtype": "bfloat16"})
    assert relative_error(D(full), D(full, force_fp32=True)) < 0.05


def test_float16_blocks_compute_in_float32_on_a_cpu():
    G = tiny_generator(32, num_fp16_res=2, half_dtype="float16", conv_clamp=256)
    z = torch.randn(4, 8)
    assert torch.equal(G(z, noise_mode="const"), G(z, noise_mode="const", force_fp32=True))


def test_freeze_d_freezes_layers_from_the_highest_resolution():
    D = tiny_discriminator(block_kwargs={"freeze_layers": 3})
    names = {name.rsplit(".", 1)[0] for name, _ in D.named_parameters()}
    frozen = {"b16.fromrgb", "b16.conv0", "b16.conv1"}
    assert not frozen & names and "b16.skip" in names and "b8.conv0" in names
    assert set(D.state_dict()) == set(tiny_discriminator().state_dict())


def test_minibatch_std_groups_are_strided():
    """Samples 0, 2 equal and 1, 3 equal: in groups {0, 2} and {1, 3} nothing deviates, in {0, 1} it does."""
    from stylegan2_pipeline.layers import MinibatchStdLayer

    a, b = torch.randn(2, 3, 4, 4)
    layer = MinibatchStdLayer(2)
    assert layer(torch.stack([a, b, a, b]))[:, -1].abs().max() < 1e-3
    assert layer(torch.stack([a, a, b, b]))[:, -1].abs().min() > 0.1
    assert layer(torch.stack([a, b, a]))[:, -1].abs().max() < 1e-3  # 3 is not divisible by 2: groups of one


def test_conditional_networks_use_the_label():
    golden = Golden("generator_gray64_cond")
    G, z = golden_generator(golden), golden["in/z"][:1].repeat(2, 1)
    a, b = G(z, torch.eye(3)[:2], noise_mode="const")
    assert not torch.allclose(a, b, atol=1e-3)
    D = tiny_discriminator(c_dim=3)
    img = torch.randn(1, 3, 16, 16).repeat(2, 1, 1, 1)
    a, b = D(img, torch.eye(3)[:2])
    assert not torch.allclose(a, b, atol=1e-4)


def test_w_avg_follows_the_mean():
    mapping = tiny_generator().mapping
    mapping.update_w_avg(torch.ones(8))
    assert torch.allclose(mapping.w_avg, torch.full([8], 0.005))
