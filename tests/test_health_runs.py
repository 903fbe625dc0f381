"""Runs that are provoked to go wrong, and one that does well, are judged so while they happen."""

import dataclasses

import numpy as np
import pytest
import torch
from pictures import SIZE, heads, sticks

from stylegan2_pipeline.config import (
    AugmentConfig,
    DataConfig,
    LossConfig,
    NetworkConfig,
    OptimizerConfig,
    TrainConfig,
)
from stylegan2_pipeline.health.probe import HealthProbe
from stylegan2_pipeline.health.rules import Facts, judge
from stylegan2_pipeline.images import to_uint8
from stylegan2_pipeline.sample_data.cigarette import render_cigarette
from stylegan2_pipeline.training_step import Trainer


def settings(images, lr=(0.0025, 0.0025), gamma=None, batch=8, **changes):
    data = DataConfig("data.zip", "data", SIZE, num_channels=images.shape[1], num_images=len(images))
    return TrainConfig(
        data=data, networks=NetworkConfig(z_dim=64, w_dim=64, mapping_layers=2, channel_base=512, channel_max=32),
        loss=LossConfig(0.0002 * SIZE**2 / batch if gamma is None else gamma),
        optimizer=OptimizerConfig(*lr), batch=batch, batch_gpu=batch, ema_kimg=0.3, ema_rampup=0.05, **changes)


def train(config, images, ticks, steps_a_tick):
    """The ticks of a run, as a training loop makes them."""
    trainer = Trainer(config, torch.zeros(len(images), 0), torch.device("cpu"))
    probe, latents = HealthProbe(images), torch.from_numpy(np.random.RandomState(0).randn(64, 64))
    random, history = np.random.default_rng(0), []
    for _ in range(ticks):
        for _ in range(steps_a_tick):
            batch = images[random.integers(len(images), size=config.batch)]
            trainer.step(torch.from_numpy(batch).float() / 127.5 - 1, torch.zeros(config.batch, 0))
        with torch.no_grad():
            fakes = to_uint8(trainer.G_ema(latents, torch.zeros(64, 0), noise_mode="const")).numpy()
        stats = {name: stat.mean for name, stat in trainer.collector.harvest().items()}
        history.append(stats | probe.measure(fakes) |
                       {"Progress/kimg": trainer.cur_nimg / 1000, "Progress/augment": trainer.augment_p})
    return history


def verdicts(config, history):
    return {verdict.rule: verdict for verdict in judge(history, {}, Facts.of(dataclasses.asdict(config)))}


@pytest.mark.slow
def test_twenty_images_without_augmentation_overfit():
    """Varied images keep a slow G busy for long enough that D learns the few by heart."""
    images = np.stack([render_cigarette(0, i, 2 * SIZE) for i in range(20)]).transpose(0, 3, 1, 2)
    images = images.reshape(20, 3, SIZE, 2, SIZE, 2).mean((3, 5)).astype(np.uint8)
    config = settings(images, lr=(0.00125, 0.0025), augment=AugmentConfig(mode="noaug"))
    found = verdicts(config, train(config, images, ticks=34, steps_a_tick=20))
    assert set(found) == {"overfitting"}
    assert found["overfitting"].advice == "--aug=ada (now noaug)"


@pytest.mark.slow
def test_large_learning_rates_with_hardly_any_r1_collapse():
    images = sticks(200)
    config = settings(images, lr=(0.2, 0.2), gamma=1e-5)
    found = verdicts(config, train(config, images, ticks=20, steps_a_tick=10))
    assert found["collapse"].level == "bad" and found["divergence"].level == "bad"
    assert found["collapse"].advice == "--glr=0.0025 (now 0.2)"


@pytest.mark.slow
def test_a_run_with_default_settings_does_well():
    images = heads(200)
    config = settings(images)
    assert set(verdicts(config, train(config, images, ticks=16, steps_a_tick=13))) == {"balanced"}
