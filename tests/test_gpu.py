"""What only a CUDA device can show: `pytest -m gpu` runs all of it."""

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_training_step import batch, tiny_config

from stylegan2_pipeline.config import AugmentConfig
from stylegan2_pipeline.devices import prepare
from stylegan2_pipeline.networks import Discriminator, Generator
from stylegan2_pipeline.sampling import images_of_seeds
from stylegan2_pipeline.training_state import restore_trainer, trainer_state
from stylegan2_pipeline.training_step import Trainer
from torch_utils.ops.bias_act import bias_act
from torch_utils.ops.modulated_conv import modulated_conv2d
from torch_utils.ops.synthesis_act import synthesis_act
from torch_utils.ops.upfirdn2d import setup_filter, upfirdn2d

pytestmark = pytest.mark.gpu
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}


def same_on_both(function, *inputs, dtype):
    """function and its gradients on the CPU in float64 and on the GPU in dtype."""
    found = []
    for device, kind in (("cpu", torch.float64), ("cuda", dtype)):
        leaves = [x.to(device, kind).requires_grad_(True) for x in inputs]
        y = function(*leaves)
        found.append([t.detach().cpu().double() for t in (y, *torch.autograd.grad(y.square().sum(), leaves))])
    for expected, actual in zip(*found, strict=True):
        assert (actual - expected).abs().max() <= TOLERANCE[dtype] * expected.abs().max()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_operators_agree_with_the_cpu(dtype, layout):
    x = torch.randn(2, 8, 16, 16).to(memory_format=layout)
    same_on_both(lambda x, b: bias_act(x, b, act="lrelu", clamp=1.5), x, torch.randn(8), dtype=dtype)
    f = setup_filter([1, 3, 3, 1])
    for up, down in ((1, 1), (2, 1), (1, 2)):
        same_on_both(lambda x, up=up, down=down: upfirdn2d(x, f.to(x.device), up, down, [2, 1, 2, 1]), x, dtype=dtype)
    weight, styles = torch.randn(4, 8, 3, 3), torch.randn(2, 8)
    same_on_both(lambda *a: modulated_conv2d(*a, up=2, padding=1, resample_filter=f.to(a[0].device)), x, weight, styles,
                 dtype=dtype)


@pytest.mark.parametrize("half_dtype", ["float16", "bfloat16"])
def test_half_precision_networks_follow_float32(half_dtype):
    shape = dict(channel_base=512, channel_max=32, num_fp16_res=2, conv_clamp=256)
    G = Generator(16, 0, 16, 32, 3, {"num_layers": 2}, shape | {"half_dtype": half_dtype}).cuda()
    D = Discriminator(0, 32, 3, **shape, block_kwargs={"half_dtype": half_dtype}).cuda()
    z = torch.randn(4, 16, device="cuda")
    half, full = (G(z, noise_mode="const", force_fp32=force) for force in (False, True))
    assert not torch.equal(half, full) and (half - full).abs().max() < 0.05 * full.abs().max()
    logits, exact = (D(full, force_fp32=force) for force in (False, True))
    assert (logits - exact).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("parts", [1, 2])
def test_steps_of_every_phase_stay_finite(precision, parts):
    config = tiny_config(precision=precision, batch_gpu=8 // parts, augment=AugmentConfig("fixed", "bgcfnc", 0.6))
    trainer = Trainer(config, torch.zeros(5, 0), torch.device("cuda"))
    for k in range(5):
        real, c = batch(config, k)
        trainer.step(real.cuda(), c.cuda())
    stats = trainer.collector.harvest()
    assert not trainer.trouble.losses.any() and all(np.isfinite(stat.mean) for stat in stats.values())


def test_a_step_is_that_of_the_cpu():
    """Without what is drawn on the device: noise counts only from the second step on, its strength starting at zero."""
    config = tiny_config(augment=AugmentConfig("fixed", "bgc", 0.6))
    config = dataclasses.replace(config, loss=dataclasses.replace(config.loss, pl_weight=0.0))
    states = []
    for device in ("cpu", "cuda"):
        trainer = Trainer(config, torch.zeros(5, 0), torch.device(device))
        real, c = batch(config)
        phase = next(phase for phase in trainer.phases if phase.name == "Dmain")
        trainer.accumulate(phase, real.to(device), c.to(device))
        states.append([p.grad.cpu() for p in phase.params])
    for a, b in zip(*states, strict=True):
        assert (a - b).abs().max() <= 1e-3 * a.abs().max() + 1e-6


def test_a_deterministic_run_goes_on_to_the_very_bits():
    """Through a training state, in the middle of everything: augmentation, path length, half precision."""
    prepare(tiny_config(deterministic=True, benchmark=False))
    try:
        config = tiny_config(precision="fp16", augment=AugmentConfig(kimg=0.05, pipe="bgcfnc"))
        straight, first, second = (Trainer(config, torch.zeros(5, 0), torch.device("cuda")) for _ in range(3))
        for k in range(3):
            for trainer in (straight, first):
                trainer.step(*(tensor.cuda() for tensor in batch(config, k)))
        restore_trainer(second, trainer_state(first))
        for k in range(3, 8):
            for trainer in (straight, second):
                trainer.step(*(tensor.cuda() for tensor in batch(config, k)))
        for name, net in straight.networks.items():
            assert all(map(torch.equal, net.state_dict().values(), second.networks[name].state_dict().values())), name
    finally:
        prepare(tiny_config())


def test_parts_shrink_when_the_memory_is_full():
    """A real out-of-memory error: most of the GPU is taken away from the process."""
    config = tiny_config(batch=64, batch_gpu=64)
    config = dataclasses.replace(config, networks=dataclasses.replace(config.networks, channel_base=8192,
                                                                      channel_max=512, mbstd_group=4))
    said = []
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1.0e9 / torch.cuda.get_device_properties(0).total_memory)
    try:
        trainer = Trainer(config, torch.zeros(5, 0), torch.device("cuda"), said.append)
        trainer.step(*(tensor.cuda() for tensor in batch(config)))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert trainer.batch_gpu < 64 and said and trainer.cur_nimg == 64 and not trainer.trouble.losses.any()


def test_a_seed_is_one_image_whatever_the_batch():
    G = Generator(16, 0, 16, 64, 3, {"num_layers": 2}, dict(channel_base=1024, channel_max=32, num_fp16_res=2,
                                                            conv_clamp=256)).cuda().eval()
    alone = np.concatenate([image for seed in range(6) for image in images_of_seeds(G, [seed], noise_mode="random")])
    together = np.concatenate(list(images_of_seeds(G, range(6), noise_mode="random", batch=4)))
    assert np.array_equal(alone, together)


def network_like(x, s, b):
    """Every native operator, forward and backward."""
    f = FILTER.to(x.device)
    y = synthesis_act(upfirdn2d(x, f, 2, 1, [2, 1, 2, 1], gain=4), s, None, None, b, act="lrelu", clamp=2.0)
    y = bias_act(upfirdn2d(y, f, 1, 2, 1), b, act="lrelu")
    return y, *torch.autograd.grad(y.square().sum(), [x, s, b])


FILTER = setup_filter([1, 3, 3, 1])


def leaves():
    return [torch.randn(shape, device="cuda", requires_grad=True) for shape in [(4, 8, 40, 40), (4, 8), (8,)]]


def test_other_streams_are_used():
    """A kernel that ran on the default stream would read what the side stream has not written yet."""
    x, s, b = leaves()
    expected = network_like(x, s, b)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        late = torch.zeros_like(x)
        torch.cuda._sleep(200_000_000)
        late.copy_(x.detach())
        found = network_like(late.requires_grad_(), s, b)
    side.synchronize()
    for a, e in zip(found, expected, strict=True):
        assert torch.equal(a, e)


def test_captured_in_a_graph():
    x, s, b = leaves()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        network_like(x, s, b)
    side.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = network_like(x, s, b)
    with torch.no_grad():
        x.copy_(torch.randn_like(x))
    graph.replay()
    for a, e in zip(captured, network_like(x, s, b), strict=True):
        assert torch.equal(a, e)


def test_compiled_by_inductor():
    x, _, b = leaves()
    f = FILTER.cuda()
    layer = lambda x: bias_act(upfirdn2d(x, f, 2, 1, [2, 1, 2, 1]) * 2, b, act="lrelu")  # noqa: E731
    torch.testing.assert_close(torch.compile(layer, fullgraph=True)(x), layer(x))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_more_than_2_to_the_31_elements(layout):
    """The last image of a batch that large is that image alone."""
    if torch.cuda.mem_get_info()[0] < 24e9:
        pytest.skip("needs 24 GB of free GPU memory")
    shape = (33, 64, 1024, 1024)
    x = torch.empty(shape, dtype=torch.float16, device="cuda").contiguous(memory_format=layout)
    x[-1].normal_()
    b, f = torch.randn(64, device="cuda", dtype=torch.float16), FILTER.cuda()
    last = x[-1:].clone(memory_format=torch.preserve_format)
    assert torch.equal(bias_act(x, b, act="lrelu")[-1:], bias_act(last, b, act="lrelu"))
    down = lambda x: upfirdn2d(x, f, 1, 2, 1)  # noqa: E731
    assert torch.equal(down(x)[-1:], down(last))
    grad = lambda y: torch.ops.stylegan2.bias_act_grad(y, y, 0.2, 1.0, None)  # noqa: E731
    assert torch.equal(grad(x)[-1:], grad(last))
    scale = torch.randn(33, 64, device="cuda")
    assert torch.equal(synthesis_act(x, scale, act="lrelu")[-1:], synthesis_act(last, scale[-1:], act="lrelu"))


def test_nothing_for_compute_sanitizer():
    """Out-of-bounds and misaligned accesses, and races within blocks, over every kernel's examples."""
    if not (sanitizer := shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")):
        pytest.skip("needs compute-sanitizer, a part of the CUDA toolkit")
    code = ("import torch; from torch_utils.ops import native; assert native.load('cuda'); "
            "assert not native.disagreement(torch.device('cuda'))")
    for tool in ("memcheck", "racecheck"):
        done = subprocess.run([sanitizer, "--tool", tool, "--error-exitcode", "9", sys.executable, "-c", code],
                              capture_output=True, text=True, cwd=Path(__file__).parent.parent,
                              env=os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"})  # each tensor its own block
        assert done.returncode == 0, done.stdout[-3000:]
