"""What a step must compute and move, against closed forms."""

import pytest
import torch
from test_training_step import tiny_config
from torch.nn.functional import conv2d

from benchmarks.baseline import shared_convolutions
from benchmarks.limit import Counted, Rates, Tally, cost_of, counted, limit_table, work_of
from stylegan2_pipeline.config import DataConfig

N = 8


def flops(name):
    with shared_convolutions():
        trainer = Counted(tiny_config(augment=tiny_config().augment.__class__(mode="noaug")))
        phase = next(phase for phase in trainer.phases if phase.name == name)
        return sum(op.flops for op in trainer.operations(phase)), trainer


def generator_flops(G):
    """Of one pass: styles twice through the mapping network, affine layers, convolutions with their norms."""
    total = 0
    for name, module in G.named_modules():
        if hasattr(module, "weight_gain") and module.weight.ndim == 2:  # dense
            total += 2 * N * module.weight.numel() * (2 if name.startswith("mapping") else 1)
        elif hasattr(module, "affine"):
            side = int(name.split(".b")[1].split(".")[0]) // getattr(module, "up", 1)
            total += 2 * N * module.weight.numel() * side**2
            total += 2 * N * module.weight[..., 0, 0].numel() * hasattr(module, "up")  # the norms of the weights
    return total


def discriminator_flops(D):
    total = 0
    for name, module in D.named_modules():
        if hasattr(module, "down"):
            side = int(name.split(".")[0][1:]) // module.down
            total += 2 * N * module.weight.numel() * side**2
        elif hasattr(module, "weight_gain"):
            total += 2 * N * module.weight.numel()
    return total


def first_layers(net):
    return sum(2 * N * p.numel() for name, p in net.named_parameters() if name.endswith("fc0.weight"))


def test_flops_of_the_main_phases():
    """A pass back to inputs costs as much as one forward, and one to weights as much again."""
    found, trainer = flops("Gmain")
    G, D = generator_flops(trainer.G), discriminator_flops(trainer.D)
    no_gradient_of_z = 2 * first_layers(trainer.G)
    assert found == 3 * G - no_gradient_of_z + 2 * D
    found, _ = flops("Dmain")
    no_gradient_of_images = 2 * N * trainer.D.b16.fromrgb.weight.numel() * 16**2
    assert found == G + 2 * (3 * D - no_gradient_of_images)


def test_bytes_of_one_convolution_and_what_follows_it():
    x, w = torch.empty([2, 3, 8, 8], device="meta"), torch.empty([5, 3, 3, 3], device="meta")
    scale = torch.empty([1], device="meta").expand(2, 5, 8, 8)
    with Tally() as tally:
        y = conv2d(x, w, padding=1)
        (y * scale).view(2, -1).transpose(0, 1)
    convolution, product = tally.operations  # views are free
    assert convolution.heavy and convolution.flops == 2 * 2 * 5 * 3 * 9 * 64
    assert convolution.bytes == 4 * (2 * 3 * 64 + 5 * 3 * 9 + 2 * 5 * 64)
    assert not product.heavy and product.bytes == 4 * (2 * 2 * 5 * 64 + 1)
    cost = cost_of([convolution], 7, Rates({torch.float32: 1e6}, 1e6))
    assert cost.floor == max(cost.arithmetic, cost.moving) == convolution.flops / 1e6
    assert (cost.least_bytes, cost.bytes) == (convolution.bytes, 7)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_the_limit_of_a_step(precision):
    work = work_of(tiny_config(precision=precision, data=DataConfig("", "", 16, 3, 1)), torch.device("cpu"))
    assert work.types == {torch.float32} | ({torch.bfloat16} if precision == "bf16" else set())  # no fp16 on CPUs
    rates = Rates(dict.fromkeys(work.types, 1e9), 1e8)
    limit = work.limit(rates.best(Rates(dict.fromkeys(work.types, 1e8), 1e9)))
    assert limit.rates == Rates(dict.fromkeys(work.types, 1e9), 1e9)
    assert list(limit.parts) == ["Gmain", "Greg", "Dmain", "Dreg", "EMA", "images"]
    total = limit.total()
    assert total.floor == limit.step >= max(total.arithmetic, total.moving)
    assert total.bytes > total.least_bytes > 0
    assert "| a step |" in limit_table(limit) and "GB/s" in limit_table(limit)


def test_augmentation_is_counted_as_it_is_drawn():
    config = tiny_config()
    names = {op.name for op in counted(config, shared_convolutions)["Dmain"]}
    assert {"grid_sample", "upfirdn2d", "convolution", "convolution_backward"} <= names
