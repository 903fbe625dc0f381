"""That the plain formulation, which speed is measured against, is the same training and is plain."""

import pytest
import torch
from golden_data import relative_error
from test_training_step import batch, gradients, tiny_config, trainer_of
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.baseline import plain_formulation, shared_convolutions
from stylegan2_pipeline.config import DataConfig

PHASES = ["Gmain", "Greg", "Dmain", "Dreg"]


class Seen(TorchDispatchMode):
    """The operators of ours that were called, and of images among all tensors, how many were channels last."""

    def __init__(self):
        super().__init__()
        self.ours, self.turned = set(), 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "stylegan2":
            self.ours.add(func._opname)
        for x in args:
            if isinstance(x, torch.Tensor) and x.ndim == 4 and min(x.shape[1:]) > 1 and "conv" in func._opname:
                self.turned += not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
        return func(*args, **(kwargs or {}))


def gradient(config, name):
    trainer = trainer_of(config)
    phase = next(phase for phase in trainer.phases if phase.name == name)
    return gradients(trainer, phase, *batch(config))


@pytest.mark.parametrize("modulation", ["scaled", "weights", "grouped"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", PHASES)
def test_gradients_are_those_of_training(name, channels, modulation):
    config = tiny_config(data=DataConfig("", "", 16, channels, 1))
    expected = gradient(config, name)
    with plain_formulation(modulation), Seen() as seen:
        found = gradient(config, name)
    assert not seen.ours and not seen.turned
    close(found, expected)


def close(found, expected):
    """To the rounding of the whole, and each parameter to that of sums that cancel."""
    assert expected.keys() == found.keys()
    assert max(relative_error(found[key], value) for key, value in expected.items()) < 4e-3
    whole = [torch.cat([grads[key].flatten() for key in expected]) for grads in (found, expected)]
    assert relative_error(*whole) < 1e-5


@pytest.mark.parametrize("modulation", ["scaled", "weights", "grouped"])
def test_bfloat16_is_computed_where_it_is_asked_for(modulation):
    config = tiny_config(precision="bf16")
    expected = gradient(config, "Gmain")
    with plain_formulation(modulation):
        found = gradient(config, "Gmain")
    errors = sorted(relative_error(found[key], value) for key, value in expected.items() if value.numel() > 1)
    assert 1e-4 < errors[len(errors) // 2] < 0.1


@pytest.mark.parametrize("name", PHASES)
def test_shared_convolutions_are_the_same_computation(name):
    config = tiny_config()
    expected = gradient(config, name)
    with shared_convolutions():
        found = gradient(config, name)
    close(found, expected)
