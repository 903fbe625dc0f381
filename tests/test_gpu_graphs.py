"""CUDA graphs on a CUDA device: they compute what is computed without, or are given up and training goes on."""

import dataclasses

import pytest
import torch
from test_training_step import batch, tiny_config

from stylegan2_pipeline.config import AugmentConfig, LossConfig
from stylegan2_pipeline.devices import prepare
from stylegan2_pipeline.graphs import WARM_UP, CudaRecorder
from stylegan2_pipeline.training_state import restore_trainer, trainer_state
from stylegan2_pipeline.training_step import Trainer

pytestmark = pytest.mark.gpu
CUDA = torch.device("cuda")
LAZY = LossConfig(r1_gamma=1.0, g_reg_interval=2, d_reg_interval=3)
TOLERANCE = {"fp32": 1e-3, "fp16": 0.02, "bf16": 0.02}


def config_with(**changes):
    return tiny_config(**(dict(cuda_graphs=True, loss=LAZY, augment=AugmentConfig("fixed", "bgcfnc", 0.8)) | changes))


def trainer_of(config, said=None):
    return Trainer(config, torch.zeros(5, 0), CUDA, (said if said is not None else []).append)


def on_gpu(config, k):
    return [tensor.to(CUDA) for tensor in batch(config, k)]


def gradient(trainer, phase, k):
    trainer.accumulate(phase, *on_gpu(trainer.config, k))
    found = torch.cat([p.grad.flatten() for p in phase.params if p.grad is not None])
    phase.optimizer.zero_grad(set_to_none=True)
    trainer.cur_nimg += trainer.config.batch
    return found.clone()


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("name", ["Gmain", "Greg", "Dmain", "Dreg"])
def test_a_graph_is_what_is_computed_without(name, precision):
    """Many batches, all with the first weights: the gradient of each, and p that changes between them."""
    config, said = config_with(precision=precision), []
    graphed, plain = trainer_of(config, said), trainer_of(config)
    plain.graphs = None
    phases = [next(phase for phase in trainer.phases if phase.name == name) for trainer in (graphed, plain)]
    for k in range(24):
        graphed.ada.p = plain.ada.p = 0.9 - k / 100
        found, expected = (gradient(t, phase, k) for t, phase in zip((graphed, plain), phases, strict=True))
        assert (found - expected).norm() <= TOLERANCE[precision] * expected.norm(), k
    trusted = [entry for entry in graphed.graphs.entries.values() if entry.trusted]
    assert trusted and not said


def test_training_with_graphs_follows_training_without():
    config, said = config_with(augment=AugmentConfig("diffaugment")), []
    states = []
    for graphed in (True, False):
        trainer = trainer_of(config, said)
        trainer.graphs = trainer.graphs if graphed else None
        for k in range(WARM_UP + 8):
            trainer.step(*on_gpu(config, k))
        states.append(torch.cat([p.detach().flatten() for p in trainer.G_ema.parameters()]))
    assert not said and (states[0] - states[1]).norm() < 1e-2 * states[1].norm()


def test_a_recording_that_fails_leaves_one_line_and_trains_on(monkeypatch):
    """By a wait for the device, which no graph can hold; other graphs are recorded all the same."""
    config, said = config_with(augment=AugmentConfig("noaug")), []
    trainer = trainer_of(config, said)
    monkeypatch.setattr(trainer.nets.G.mapping, "forward", waiting_forward(trainer.nets.G.mapping.forward))
    for k in range(WARM_UP + 4):
        trainer.step(*on_gpu(config, k))
    assert len([line for line in said if "GeneratorMain" in line]) == 1 and all("recorded" in line for line in said)
    assert not trainer.trouble.losses.any()
    assert any(entry.trusted for entry in trainer.graphs.entries.values())  # D's phases on real images


def waiting_forward(forward):
    def waits(*args, **kwargs):
        result = forward(*args, **kwargs)
        result.sum().item()
        return result
    return waits


def test_a_deterministic_run_with_graphs_goes_on_to_the_very_bits():
    config = config_with(deterministic=True, benchmark=False, augment=AugmentConfig(kimg=0.05, pipe="bgc"))
    prepare(config)
    try:
        straight, first, second = (trainer_of(config) for _ in range(3))
        for k in range(WARM_UP + 5):
            for trainer in (straight, first):
                trainer.step(*on_gpu(config, k))
        restore_trainer(second, trainer_state(first))
        for k in range(WARM_UP + 5, WARM_UP + 12):
            for trainer in (straight, second):
                trainer.step(*on_gpu(config, k))
        for name, net in straight.networks.items():
            assert all(map(torch.equal, net.state_dict().values(), second.networks[name].state_dict().values())), name
    finally:
        prepare(tiny_config())


def test_a_step_does_not_wait_for_the_device():
    """But for the controller of p and for comparing graphs, which are out of the way here."""
    for cuda_graphs in (False, True):
        config = config_with(cuda_graphs=cuda_graphs, batch_gpu=4)
        trainer = trainer_of(config)
        for _ in range(WARM_UP + 6):
            trainer.step(*on_gpu(config, 0))
            trainer.cur_nimg = 0  # the same draws, so that all is recorded
        real, c = on_gpu(config, 0)
        torch.cuda.set_sync_debug_mode("error")
        try:
            trainer.step(real, c)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert trainer.cur_nimg == 8


def test_graphs_are_dropped_and_their_memory_is_free_again():
    config = config_with()
    trainer = trainer_of(config)
    for k in range(WARM_UP + 6):
        trainer.step(*on_gpu(config, k))
    torch.cuda.synchronize()
    held = torch.cuda.memory_reserved()
    assert isinstance(trainer.graphs.recorder, CudaRecorder) and trainer.graphs.drop()
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() < held
    trainer.step(*on_gpu(config, 9))
    assert not trainer.trouble.losses.any()


def test_parts_of_another_size_and_lecam():
    config = config_with(loss=dataclasses.replace(LAZY, lecam_weight=0.2))
    said = []
    trainer = trainer_of(config, said)
    for size in (8, 4):
        trainer.batch_gpu = size
        for k in range(WARM_UP + 4):
            trainer.step(*on_gpu(config, k))
    assert not said and not trainer.trouble.losses.any()
