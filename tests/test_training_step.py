"""One step of training: the same whatever the cut of the batch, and what every phase may change."""

import dataclasses

import pytest
import torch
from golden_data import relative_error

from stylegan2_pipeline.config import (
    AugmentConfig,
    DataConfig,
    LossConfig,
    NetworkConfig,
    OptimizerConfig,
    TrainConfig,
)
from stylegan2_pipeline.memory_estimate import MemoryTracker
from stylegan2_pipeline.phase_inputs import Drawing
from stylegan2_pipeline.phases import make_optimizer
from stylegan2_pipeline.training_step import Trainer

CPU = torch.device("cpu")


def tiny_config(**changes):
    settings = dict(
        data=DataConfig("data.zip", "data", resolution=16, num_channels=1, num_images=20),
        networks=NetworkConfig(z_dim=16, w_dim=16, mapping_layers=2, channel_base=128, channel_max=16, mbstd_group=2),
        loss=LossConfig(r1_gamma=1.0), optimizer=OptimizerConfig(0.002, 0.002),
        augment=AugmentConfig(mode="fixed", pipe="bgcfnc", p=0.6),
        batch=8, batch_gpu=8, ema_rampup=0.05)
    return TrainConfig(**(settings | changes))


def trainer_of(config):
    trainer = Trainer(config, torch.eye(3) if config.data.label_dim else torch.zeros(5, 0), CPU)
    for block in trainer.G.synthesis.blocks():  # noise counts from the first step on
        block.conv1.noise_strength.data.fill_(0.3)
    return trainer


def batch(config, seed=0):
    random = torch.Generator().manual_seed(seed)
    data = config.data
    real = torch.rand(config.batch, data.num_channels, 16, 16, generator=random) * 2 - 1
    return real, torch.eye(3)[torch.arange(config.batch) % 3] if data.label_dim else torch.zeros(config.batch, 0)


def gradients(trainer, phase, real, c):
    trainer.accumulate(phase, real, c)
    return {name: p.grad.clone() for name, p in phase.network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", ["Gmain", "Greg", "Dmain", "Dreg"])
def test_parts_of_a_batch_give_the_gradient_of_the_whole(name):
    """8 samples at once and as 4 x 2: style mixing, noise, augmentation and path length mean included."""
    whole = tiny_config()
    found = []
    for config in (whole, dataclasses.replace(whole, batch_gpu=2)):
        trainer = trainer_of(config)
        trainer.pl_mean.fill_(0.5)
        phase = next(phase for phase in trainer.phases if phase.name == name)
        found.append((gradients(trainer, phase, *batch(config)), trainer.pl_mean, trainer.G.mapping.w_avg))
    (one, *state_one), (four, *state_four) = found
    assert one.keys() == four.keys() and len(one) > 8
    for key in one:
        assert relative_error(four[key], one[key]) < 1e-5 or (four[key] - one[key]).abs().max() < 1e-7, key
    for a, b in zip(state_one, state_four, strict=True):
        assert torch.allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["Gmain", "Greg", "Dmain", "Dreg"])
def test_blocks_computed_again_give_the_gradient_to_the_bit(name, precision):
    """Second derivatives, synthesis noise and half precision included; and less is kept for it."""
    found, peaks = [], []
    for again in (False, True):
        config = tiny_config(gradient_checkpointing=again, precision=precision, augment=AugmentConfig("noaug"))
        trainer = trainer_of(config)
        phase = next(phase for phase in trainer.phases if phase.name == name)
        with MemoryTracker("cpu") as tracker:
            found.append(gradients(trainer, phase, *batch(config)))
        peaks.append(tracker.peak)
    kept, computed = found
    assert kept.keys() == computed.keys() and all(torch.equal(kept[key], computed[key]) for key in kept)
    assert peaks[1] < 0.98 * peaks[0]


def test_what_draws_noise_of_its_own_is_not_computed_again():
    trainer = trainer_of(tiny_config(gradient_checkpointing=True))
    G = trainer.G.requires_grad_(True)
    assert all(block.recompute for block in G.synthesis.blocks()) and not trainer.G_ema.synthesis.b4.recompute
    calls = []
    G.synthesis.b8.register_forward_pre_hook(lambda *_: calls.append(0))
    for noise, count in ((None, 1), (torch.zeros(2, G.synthesis.noise_numel), 2)):
        calls.clear()
        G(torch.randn(2, 16), torch.zeros(2, 0), noise=noise).sum().backward()
        assert len(calls) == count


def test_two_trainings_with_one_seed_are_identical():
    states = []
    for _ in range(2):
        trainer = trainer_of(tiny_config(augment=AugmentConfig(kimg=0.05)))
        torch.rand(7)  # the global generator plays no part
        for k in range(5):
            trainer.step(*batch(trainer.config, seed=k))
        states.append([*trainer.G.state_dict().values(), *trainer.D.state_dict().values(),
                       *trainer.G_ema.state_dict().values(), torch.tensor(trainer.augment_p)])
    assert all(map(torch.equal, *states))
    other = trainer_of(tiny_config(seed=1))
    assert not torch.equal(other.D.b4.out.weight, states[0][-3])


def test_a_step_trains_both_networks_and_lazily_regularises():
    trainer = trainer_of(tiny_config(loss=LossConfig(r1_gamma=1.0, g_reg_interval=2, d_reg_interval=3)))
    before = [p.clone() for p in [*trainer.G.parameters(), *trainer.D.parameters()]]
    seen = []
    for k in range(4):
        trainer.step(*batch(trainer.config, seed=k))
        seen.append({name.split("/")[1] for name in trainer.collector.harvest() if name.startswith("Gradients")})
    assert seen == [{"Gmain", "Greg", "Dmain", "Dreg"}, {"Gmain", "Dmain"}, {"Gmain", "Greg", "Dmain"},
                    {"Gmain", "Dmain", "Dreg"}]
    after = [*trainer.G.parameters(), *trainer.D.parameters()]
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert trainer.cur_nimg == 32 and trainer.pl_mean > 0 and trainer.G.mapping.w_avg.abs().sum() > 0


def test_statistics_have_the_names_of_the_ecosystem():
    trainer = trainer_of(tiny_config())
    trainer.step(*batch(trainer.config))
    stats = trainer.collector.harvest()
    names = {"Loss/scores/fake", "Loss/scores/real", "Loss/signs/fake", "Loss/signs/real", "Loss/G/loss", "Loss/D/loss",
             "Loss/pl_penalty", "Loss/G/reg", "Loss/r1_penalty", "Loss/D/reg"}
    assert names <= stats.keys()
    assert stats["Loss/scores/real"].num == 8 and stats["Loss/scores/fake"].num == 16


def test_no_regularisation_means_no_phase():
    trainer = trainer_of(tiny_config(loss=LossConfig(r1_gamma=0.0, pl_weight=0.0)))
    assert [phase.name for phase in trainer.phases] == ["Gmain", "Dmain"]


def test_lazy_regularisation_corrects_adam():
    optimizer = make_optimizer(torch.nn.Linear(1, 1), 0.002, OptimizerConfig(), reg_interval=16)
    group = optimizer.param_groups[0]
    assert group["lr"] == pytest.approx(0.002 * 16 / 17)
    assert group["betas"] == pytest.approx((0.0, 0.99 ** (16 / 17)))


def test_frozen_layers_of_d_stay():
    networks = dataclasses.replace(tiny_config().networks, freeze_d=4)
    trainer = trainer_of(tiny_config(networks=networks))
    before = trainer.D.b16.conv0.weight.clone()
    trainer.step(*batch(trainer.config))
    assert torch.equal(trainer.D.b16.conv0.weight, before)


def test_ada_raises_p_when_d_tells_real_from_fake_and_lowers_it_when_not():
    for bias, sign in ((100.0, 1), (-100.0, -1)):
        trainer = trainer_of(tiny_config(augment=AugmentConfig(kimg=0.1, p=0.5)))
        trainer.D.b4.out.bias.data.fill_(bias)
        for k in range(4):
            trainer.step(*batch(trainer.config, seed=k))
        assert (trainer.augment_p - 0.5) * sign == pytest.approx(8 * 4 / 100)


@pytest.mark.parametrize("index", range(4))
def test_a_loss_that_is_not_finite_changes_nothing_and_is_counted(index, monkeypatch):
    trainer = trainer_of(tiny_config())
    trainer.step(*batch(trainer.config))
    phase = trainer.phases[index]
    real, c = batch(trainer.config, seed=1)
    if phase.network is trainer.D:
        real[3, 0, 5, 5] = float("nan")
    else:
        draw = Drawing.latents
        monkeypatch.setattr(Drawing, "latents", lambda *args: spoiled(draw(*args)))
    before = [t.clone() for t in everything(trainer)]
    trainer.run_phase(phase, real, c)
    assert all(map(torch.equal, before, everything(trainer)))
    assert trainer.trouble.losses.tolist() == [int(i == index) for i in range(4)]


def spoiled(latents):
    latents.z[2] = float("nan")
    return latents


def everything(trainer):
    return [*trainer.G.state_dict().values(), *trainer.D.state_dict().values(), trainer.pl_mean]


def test_conditional_training_draws_labels_of_the_data():
    data = dataclasses.replace(tiny_config().data, label_dim=3)
    trainer = trainer_of(tiny_config(data=data))
    trainer.step(*batch(trainer.config))
    assert trainer.G.mapping.embed.weight.grad is None and trainer.cur_nimg == 8
    from stylegan2_pipeline.parts import Part

    part = Part(list(range(64)))
    drawing = trainer.drawing
    fake = drawing.latents(drawing._generators("Gmain", part), "Gmain", part)
    assert set(fake.c.argmax(1).tolist()) == {0, 1, 2} and torch.equal(fake.c.sum(1), torch.ones(64))
