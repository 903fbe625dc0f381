"""The memory of a training step: counting what is alive, the line through it, and what real steps take."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_training_step import tiny_config

from stylegan2_pipeline import memory_estimate
from stylegan2_pipeline.config import AugmentConfig, DataConfig, NetworkConfig
from stylegan2_pipeline.memory_estimate import Estimate, Imagined, MemoryTracker, estimate, table
from stylegan2_pipeline.training_step import Trainer

GB = 2**30


def small_config(**changes):
    """Colour, with images large beside the networks."""
    settings = dict(data=DataConfig("data.zip", "data", resolution=16, num_channels=3, num_images=20),
                    networks=NetworkConfig(z_dim=16, w_dim=16, mapping_layers=2, channel_base=256, channel_max=32),
                    batch=16, batch_gpu=16, augment=AugmentConfig(pipe="bgcfnc"))
    return tiny_config(**(settings | changes))


def real_peak(config, n):
    """Bytes of tensors at the peak of a step on the CPU, images of the whole batch and Adam's state included."""
    trainer = Trainer(dataclasses.replace(config, batch_gpu=n), torch.zeros(1, 0), torch.device("cpu"))
    trainer.ada.p = 1.0
    data = config.data
    peaks = []
    for again in (False, True):  # the first time makes Adam's state
        for phase in trainer.phases:
            tracker = MemoryTracker("cpu")
            real = torch.rand([n, data.num_channels, data.resolution, data.resolution])
            for parameter in phase.params:
                parameter.grad = torch.zeros_like(parameter)
            for net in trainer.networks.values():
                for tensor in (*net.buffers(), *net.parameters(), *(p.grad for p in net.parameters())):
                    if tensor is not None:
                        tracker.add(tensor)
            for optimizer in trainer.optimizers.values():
                for state in optimizer.state.values():
                    for tensor in state.values():
                        tracker.add(tensor)
            with tracker:
                trainer.accumulate(phase, real, torch.zeros(n, 0))
            trainer.optimizers[phase.name[0]].step()
            phase.optimizer.zero_grad(set_to_none=True)
            if again:
                peaks.append(tracker.peak)
    return max(peaks) + 5 * config.batch * real[0].numel()


# Counting.

def test_a_storage_counts_once_and_until_it_is_freed():
    with MemoryTracker("cpu") as tracker:
        a = torch.zeros(1000)
        b = a[10:].view(9, 110).t()  # views of the same bytes
        assert tracker.bytes == 4000
        c = a + 1
        assert tracker.bytes == tracker.peak == 8000
        del c
        assert tracker.bytes == 4000
        del a
        assert tracker.bytes == 4000
        del b
        a = torch.zeros(10, dtype=torch.float16)
        assert tracker.bytes == a.nbytes and tracker.peak == 8000


def test_what_autograd_keeps_is_alive():
    x = torch.zeros(250, requires_grad=True)
    with MemoryTracker("cpu") as tracker:
        y = x.exp().sin().cos()  # kept: the results of exp and sin; y itself
        assert tracker.bytes == 3 * 1000
        y.sum().backward()
        del y
        assert tracker.bytes == x.grad.nbytes


def test_other_devices_do_not_count():
    with MemoryTracker("meta") as tracker:
        torch.zeros(1000)
        kept = torch.empty(10, device="meta")
    assert tracker.bytes == tracker.peak == kept.nbytes


def test_blocks_that_are_computed_again_take_less():
    plain, again = (estimate(small_config(gradient_checkpointing=on)) for on in (False, True))
    assert again.bytes_per_sample < 0.95 * plain.bytes_per_sample and again.fixed_bytes <= 1.1 * plain.fixed_bytes


# The line.

@pytest.mark.parametrize(("mode", "n"), [("ada", 1), ("ada", 2), ("ada", 24), ("diffaugment", 8), ("noaug", 100)])
def test_no_phase_is_above_the_line_and_the_highest_is_on_it(mode, n):
    config = small_config(augment=AugmentConfig(mode=mode, pipe="bgcfnc"))
    trainer = Imagined(config)
    kept = memory_estimate.adam_bytes(trainer) + config.batch * 5 * 3 * 16**2
    highest = kept + max(trainer.peak(phase, n) for phase in trainer.phases)
    assert highest == pytest.approx(estimate(config).peak_bytes(n), rel=0.03)


def test_with_hardly_an_image_it_is_weights_gradients_and_what_adam_keeps():
    """G three times (EMA, a gradient or two of it), D likewise; Adam's two moments of each."""
    config = small_config(networks=NetworkConfig(z_dim=16, w_dim=16, mapping_layers=2, channel_max=128), batch=1)
    trainer = Imagined(config)
    G, D = (sum(p.nbytes for p in net.parameters()) for net in (trainer.G, trainer.D))
    least = estimate(config).least_bytes
    assert memory_estimate.adam_bytes(trainer) == 2 * (G + D)
    assert (2 + 1 + 2) * G + (1 + 2) * D + max(G, D) < least < (2 + 1 + 2) * G + (1 + 2) * D + 5 * max(G, D)


def test_it_follows_precision_augmentation_and_channels():
    config = small_config()
    state = torch.get_rng_state()
    wide = estimate(config).bytes_per_sample
    assert torch.equal(state, torch.get_rng_state())

    def of(**changes):
        return estimate(small_config(**changes)).bytes_per_sample

    assert 0.5 * wide < of(precision="fp16") < 0.85 * wide
    assert of(augment=AugmentConfig(mode="noaug", pipe="bgcfnc")) < 0.9 * wide
    assert of(data=dataclasses.replace(config.data, num_channels=1)) < 0.9 * wide


def test_the_share_of_the_batch_and_cached_data_lie_there_too():
    alone, ranks, cached = (estimate(small_config(**more)) for more in (
        {}, {"num_gpus": 4}, {"cache": "gpu", "device": "cuda"}))
    image = 3 * 16**2
    assert alone.share == 16 and ranks.share == 4
    assert alone.fixed_bytes - ranks.fixed_bytes == 12 * 5 * image  # a byte and a float32 a number
    assert cached.fixed_bytes - alone.fixed_bytes == 20 * image


# What it is for.

def test_the_largest_divisor_that_fits():
    found = Estimate(fixed_bytes=GB, bytes_per_sample=GB // 2, least_bytes=2 * GB, share=12)
    assert found.peak_bytes(1) == 2 * GB and found.peak_bytes(4) == 3 * GB
    overhead = memory_estimate.CONTEXT_BYTES
    usable = memory_estimate.USABLE
    assert found.micro_batch(3.01 * GB / usable + overhead) == 4
    assert found.micro_batch(3.51 * GB / usable + overhead) == 4  # 5 would fit, but not divide 12
    assert found.micro_batch(3.51 * GB / usable + overhead, share=10) == 5
    assert found.micro_batch(100 * GB) == 12
    assert found.micro_batch(1.9 * GB / usable + overhead) is None


def test_table_shows_the_run_first_then_other_resolutions(monkeypatch):
    monkeypatch.setattr(memory_estimate, "TABLE_RESOLUTIONS", (8, 16))  # 16 is the run's
    wide = NetworkConfig(channel_base=2**18, channel_max=4096)  # half a billion weights
    lines = table(small_config(networks=wide)).splitlines()
    assert "fp16" in lines[0] and lines[1].split()[-8:] == ["8", "GB", "12", "GB", "16", "GB", "24", "GB"]
    assert lines[2].startswith("16 (this run)") and lines[2].count("does not fit") == 4
    assert lines[3].startswith("8 (--cfg=auto)") and lines[3].count("32 of 32") == 4
    assert len(lines) == 4


def test_a_real_step_takes_what_was_estimated():
    config = small_config()
    for n in (4, 16):
        assert real_peak(config, n) == pytest.approx(estimate(config).peak_bytes(n), rel=0.1)


RESIDENT = """
import ctypes, sys, torch
from dataclasses import replace
sys.path.insert(0, "tests")
from stylegan2_pipeline.memory_estimate import estimate
from stylegan2_pipeline.training_step import Trainer
from test_memory_estimate import small_config
from stylegan2_pipeline.config import DataConfig, NetworkConfig

def resident(kind):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(kind))

config = small_config(data=DataConfig("data.zip", "data", resolution=64, num_channels=3, num_images=20), batch=24,
                      networks=NetworkConfig(mapping_layers=2, channel_base=1024), batch_gpu=24)
ctypes.CDLL("libc.so.6").mallopt(-3, 1 << 16)  # what is freed goes back to the system at once
expected = estimate(config).peak_bytes(24)
before = resident("VmRSS")
trainer = Trainer(config, torch.zeros(1, 0), torch.device("cpu"))
trainer.ada.p = 1.0
trainer.step(torch.rand(24, 3, 64, 64), torch.zeros(24, 0))
print((resident("VmHWM") - before) / expected)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_process_grows_by_what_was_estimated():
    """Kernels' own buffers and the allocator included, which the count of tensors does not see."""
    done = subprocess.run([sys.executable, "-c", RESIDENT], cwd=Path(__file__).parent.parent, capture_output=True,
                          text=True, check=True)
    assert float(done.stdout) == pytest.approx(1, abs=0.25)


@pytest.mark.slow
def test_figures_of_common_cards():
    """Of 256x256 an 8 GB card holds a whole batch; of 1024x1024 it does not, and a 24 GB one does."""
    rows = {line.split()[0]: line for line in table(small_config()).splitlines()[2:]}
    assert list(rows) == ["16", "256", "512", "1024"]
    assert "16 of 16" in rows["256"].split("MB")[1][:14]
    assert "4 of 4" not in rows["1024"].split("MB")[1][:14] and rows["1024"].endswith("4 of 4")
