"""A term is a function of its inputs and weights alone: traced on one batch, it computes the gradient of another."""

import dataclasses

import pytest
import torch
from test_training_step import batch, tiny_config, trainer_of
from torch.fx.experimental.proxy_tensor import make_fx

from stylegan2_pipeline.bundles import outline, tensors_of, with_tensors
from stylegan2_pipeline.config import AugmentConfig, LossConfig
from stylegan2_pipeline.parts import in_group_order
from stylegan2_pipeline.phase_inputs import Now

PHASES = ["Gmain", "Greg", "Dmain", "Dreg"]
CONFIGS = {
    "bgcfnc": dict(augment=AugmentConfig("fixed", "bgcfnc", p=0.9)),
    "bgc of classes, gray": dict(augment=AugmentConfig("fixed", "bgc", p=0.9), label_dim=3, num_channels=1),
    "bg": dict(augment=AugmentConfig("fixed", "bg", p=0.9)),
    "color": dict(augment=AugmentConfig("fixed", "color", p=0.9), num_channels=4),
    "diffaugment and lecam": dict(augment=AugmentConfig("diffaugment")),
    "noaug": dict(augment=AugmentConfig("noaug")),
}


def trainer_with(name):
    changes = dict(CONFIGS[name])
    data = {key: changes.pop(key) for key in ("label_dim", "num_channels") if key in changes}
    loss = LossConfig(r1_gamma=1.0, lecam_weight=0.3 if "lecam" in name else 0.0)
    config = tiny_config(cuda_graphs=True, loss=loss, **changes)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, num_channels=3) if not data
                                 else dataclasses.replace(config.data, **data))
    trainer = trainer_of(config)
    trainer.pl_mean.fill_(0.5)
    trainer.lecam.copy_(torch.tensor([0.3, -0.2]))
    return trainer


def inputs_of(trainer, phase, step, p):
    """Of every term of a phase at a step, with a probability of its own."""
    trainer.cur_nimg = 8 * step
    part, = trainer._parts(phase, *batch(trainer.config, seed=step))
    now = Now(p, trainer.pl_mean + step, None, trainer.lecam * (1 + step))
    stats = {}
    for inputs in trainer.drawing.inputs(phase.name, part, now, stats):
        stats["Loss/scores/fake"] = torch.randn(part.count, 1)
        yield inputs


def differentiated(trainer, phase, inputs):
    """A function of the tensors of `inputs`: what the term gives, and its gradient."""
    def compute(*tensors):
        term = with_tensors(inputs, tensors).term(trainer.nets)
        gradient = torch.autograd.grad(term.loss, phase.params, allow_unused=True)
        return [*(t.detach() for t in tensors_of(term)), *(g for g in gradient if g is not None)]
    return compute


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("phase_name", PHASES)
def test_what_is_traced_on_one_batch_computes_the_next(phase_name, name):
    """No number of the host is in it, and it never looks at one: a trace of fake tensors fails where it is asked to."""
    trainer = trainer_with(name)
    phase = next(phase for phase in trainer.phases if phase.name == phase_name)
    phase.network.requires_grad_(True)
    first = list(inputs_of(trainer, phase, 0, p=0.9))
    assert len(first) == (2 if phase_name == "Dmain" else 1)
    for k, inputs in enumerate(first):
        others = [list(inputs_of(trainer, phase, step, p=0.9 - step / 100))[k] for step in range(1, 9)]
        others = [other for other in others if outline(other) == outline(inputs)]
        assert len(others) >= 2, "they differ in numbers only"
        compute = differentiated(trainer, phase, inputs)
        traced = make_fx(compute, tracing_mode="fake", _allow_non_fake_inputs=True)(*tensors_of(inputs))
        for other in others[:2]:
            expected = differentiated(trainer, phase, other)(*tensors_of(other))
            found = traced(*tensors_of(other))
            assert len(expected) == len(found) > 5
            for e, f in zip(expected, found, strict=True):
                torch.testing.assert_close(f, e, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("group", [1, 2, 3, 4])
def test_the_order_of_groups_without_an_index(group):
    from stylegan2_pipeline.parts import group_order

    for count in (1, 4, 6, 8):
        values = torch.rand(count, 3)
        assert torch.equal(in_group_order(values, group), values[group_order(count, group)])
