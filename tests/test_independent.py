"""Samples of a batch to the bit as each is alone: what `generate` promises of its seeds."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stylegan2_pipeline.networks import Generator
from torch_utils.ops import native
from torch_utils.ops.independent import apart, independent_samples


def generator(z_dim, resolution, w_dim, channels, base, most, architecture, half):
    torch.manual_seed(0)
    kwargs = dict(channel_base=base, channel_max=most, architecture=architecture, num_fp16_res=half,
                  half_dtype="bfloat16")
    G = Generator(z_dim, 0, w_dim, resolution, channels, {"num_layers": 2}, kwargs).eval().requires_grad_(False)
    for name, parameter in G.named_parameters():
        if name.endswith("noise_strength"):
            parameter.fill_(0.3)
    return G


def images(G, z, noise):
    with torch.no_grad(), independent_samples():
        return G(z, None, noise_mode="random", noise=noise)


@pytest.mark.skipif(not native.load("cpu"), reason="torch's own convolutions choose by the size of the batch")
@settings(max_examples=25, deadline=None)
@given(n=st.integers(2, 9), z_dim=st.sampled_from([33, 512]), resolution=st.sampled_from([8, 16, 32, 64]),
       w_dim=st.sampled_from([24, 33, 512]), channels=st.sampled_from([1, 3, 4]),
       base=st.sampled_from([256, 1024, 3000]), most=st.sampled_from([8, 24, 64, 187]),
       architecture=st.sampled_from(["skip", "orig", "resnet"]), half=st.sampled_from([0, 2]))
def test_a_generator_computes_each_sample_as_it_would_alone(n, **kwargs):
    G = generator(**kwargs)
    z, noise = torch.randn(n, G.z_dim), torch.randn(n, G.synthesis.noise_numel)
    together = images(G, z, noise)
    alone = [images(G, z[i:i + 1].clone(), noise[i:i + 1].clone()) for i in range(n)]
    assert torch.equal(together, torch.cat(alone))


def test_apart_gives_one_sample_at_a_time_where_it_is_asked_to_and_only_there():
    sizes = []

    def doubled(x, y):
        sizes.append((len(x), x.data_ptr() % 64, y.data_ptr() % 64))
        return x + y

    x, y = torch.randn(3, 7, 5), torch.randn(3, 7, 5)
    assert torch.equal(apart(doubled, x, y), x + y)
    assert [n for n, *_ in sizes] == [3]
    with independent_samples():
        with independent_samples():
            pass
        assert torch.equal(apart(doubled, x, y), x + y)
        assert torch.equal(apart(doubled, x[:1], y[:1]), x[:1] + y[:1])
    assert sizes[1:] == [(1, 0, 0)] * 4, "each where a tensor of its own would lie"
    apart(doubled, x, y)
    assert sizes[-1][0] == 3


def test_the_gradient_flows_through_samples_apart():
    x = torch.randn(3, 4, requires_grad=True)
    with independent_samples():
        apart(lambda t: t * t, x).sum().backward()
    assert torch.equal(x.grad, 2 * x.detach())
