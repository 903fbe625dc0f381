"""Options as typed -> settings: the presets of the method, and what does not go together."""

import pytest

from metrics.names import PANEL
from stylegan2_pipeline.config import DataConfig, estimated_micro_batch, network_kwargs
from stylegan2_pipeline.resolve import Machine, notes, resolve
from stylegan2_pipeline.run_folder import make_run_folder
from stylegan2_pipeline.telling import describe_precision
from torch_utils.errors import UserError

GPU = Machine(cuda_devices=1, memory=16e9)


def data(resolution=512, **kwargs):
    return DataConfig("sigara.zip", "sigara", resolution=resolution, num_channels=3, num_images=500, **kwargs)


def settle(machine=GPU, resolution=512, **options):
    return resolve(options, data(resolution), machine)


@pytest.mark.parametrize(("resolution", "batch", "channel_base", "lr", "gamma"), [
    (64,   32, 16384, 0.0025, 0.0002 * 64**2 / 32),
    (256,  16, 16384, 0.0025, 0.8192),
    (512,   8, 32768, 0.0025, 6.5536),
    (1024,  4, 32768, 0.002,  52.4288),
])
def test_auto_preset_on_one_gpu(resolution, batch, channel_base, lr, gamma):
    config, _ = settle(resolution=resolution)
    assert (config.batch, config.networks.channel_base, config.optimizer.g_lr) == (batch, channel_base, lr)
    assert config.loss.r1_gamma == pytest.approx(gamma)
    assert config.ema_kimg == batch * 10 / 32 and config.ema_rampup == 0.05
    assert config.networks.mapping_layers == 2 and config.networks.mbstd_group == 4
    assert config.schedule.total_kimg == 25000


@pytest.mark.parametrize(("cfg", "batch", "batch_gpu", "mbstd", "lr", "gamma", "ema", "rampup", "mapping"), [
    ("stylegan2", 32, 4, 4, 0.002, 10, 10, None, 8),
    ("paper256", 64, 8, 8, 0.0025, 1, 20, None, 8),
    ("paper512", 64, 8, 8, 0.0025, 0.5, 20, None, 8),
    ("paper1024", 32, 4, 4, 0.002, 2, 10, None, 8),
    ("cifar", 64, 32, 32, 0.0025, 0.01, 500, 0.05, 2),
])
def test_fixed_presets_accumulate_to_their_batch(cfg, batch, batch_gpu, mbstd, lr, gamma, ema, rampup, mapping):
    config, name = settle(cfg=cfg)
    assert (config.batch, config.batch_gpu, config.networks.mbstd_group) == (batch, batch_gpu, mbstd)
    assert (config.optimizer.d_lr, config.loss.r1_gamma, config.ema_kimg, config.ema_rampup) == (lr, gamma, ema, rampup)
    assert config.networks.mapping_layers == mapping and name == f"sigara-{cfg}"
    if cfg == "cifar":
        assert config.loss.pl_weight == 0 and config.loss.style_mixing_prob == 0
        assert config.networks.d_architecture == "orig" and config.schedule.total_kimg == 100000


def test_the_users_own_command():
    config, name = resolve(dict(gpus=1, batch=16, cfg="auto", kimg=500.0, snap=10), data(mirror=True), GPU)
    assert name == "sigara-mirror-auto1-kimg500-batch16"
    assert (config.batch, config.batch_gpu, config.schedule.snapshot_ticks) == (16, 8, 10)
    assert config.loss.r1_gamma == pytest.approx(6.5536) and config.ema_kimg == 2.5  # as published: not --batch's


def test_run_name_tells_what_differs():
    _, name = resolve(dict(aug="fixed", p=0.2, gamma=10.0, resume="ffhq512", freezed=10, augpipe="bg"),
                      data(label_dim=3), GPU)
    assert name == "sigara-cond-auto1-gamma10-fixed-p0.2-bg-resumeffhq512-freezed10"


def test_transfer_speeds_ada_up_and_knows_public_names():
    config, _ = settle(resume="ffhq512")
    assert config.augment.kimg == 100 and config.ema_rampup is None
    assert settle(resume="noresume")[0].resume is None
    assert config.resume.startswith("https://") and config.resume.endswith(".pkl")


def test_cpu_trains_in_float32_in_parts_that_fit_the_memory():
    config, _ = settle(Machine(0, 8e9))
    assert config.precision == "fp32" and config.batch == 8 and config.batch_gpu < 8
    assert config.networks.mbstd_group <= config.batch_gpu
    assert estimated_micro_batch(data(64), 2048, 512, 64e9) > 100
    assert estimated_micro_batch(data(1024), 32768, 512, 1) == 1
    note, = notes(config, {})
    assert "groups of 2 images, not 4" in note and "--batch-gpu" in note


def test_smaller_groups_of_the_minibatch_layer_are_said():
    config, _ = settle(batch=6, resolution=128)
    assert config.networks.mbstd_group == 3 and "groups of 3 images, not 4" in notes(config, {})[0]
    assert not notes(settle(resolution=128)[0], {})


@pytest.mark.parametrize("gpus", [2, 3, 5, 8])
def test_auto_batch_is_shared_evenly(gpus):
    config, _ = settle(Machine(8, 8e9), resolution=64, gpus=gpus)
    assert config.batch % gpus == 0 and (config.batch // gpus) % config.batch_gpu == 0


def test_precision_reaches_the_networks():
    for precision, res, half, clamp in (("fp32", 0, "float16", None), ("bf16", 4, "bfloat16", 256),
                                        ("auto", 4, "float16", 256)):
        generator, discriminator = network_kwargs(settle(precision=precision)[0])
        assert generator["synthesis_kwargs"]["num_fp16_res"] == discriminator["num_fp16_res"] == res
        assert generator["synthesis_kwargs"]["half_dtype"] == discriminator["block_kwargs"]["half_dtype"] == half
        assert discriminator["conv_clamp"] == clamp


@pytest.mark.parametrize(("options", "message"), [
    (dict(gpus=2), r"--gpus=2: this machine has 1 CUDA device.*--gpus=1"),
    (dict(batch=8, batch_gpu=3), r"--batch-gpu=3 does not divide the 8"),
    (dict(p=0.5), r"--p=0\.5.*--aug=ada"),
    (dict(aug="fixed"), r"--aug=fixed needs .*--p="),
    (dict(aug="noaug", target=0.5), r"--target=0\.5.*--aug=noaug"),
    (dict(aug="noaug", augpipe="bg"), r"--augpipe=bg has no use"),
    (dict(metrics="swd,fld50k"), r"--metrics.*fld50k"),
    (dict(fp32=True, precision="fp16"), r"--fp32=1 and --precision=fp16 contradict"),
    (dict(resume="ffhq5121"), r"--resume=ffhq5121: there is no such file.*ffhq512,"),
    (dict(cbase=256), r"--cbase=256 leaves no channels at 512x512: give at least 512"),
])
def test_options_that_do_not_go_together(options, message):
    with pytest.raises(UserError, match=message):
        settle(**options)


def test_more_errors():
    with pytest.raises(UserError, match=r"--batch=5 cannot be shared by --gpus=2"):
        settle(Machine(2, 8e9), gpus=2, batch=5)
    with pytest.raises(UserError, match=r"--batch=64 cannot be shared by --gpus=3"):
        settle(Machine(3, 8e9), cfg="paper512", gpus=3)
    with pytest.raises(UserError, match=r"--precision=fp16 needs a CUDA device"):
        settle(Machine(0, 8e9), precision="fp16")
    with pytest.raises(UserError, match=r"--precision=bf16: this device has no bfloat16"):
        settle(Machine(1, 8e9, bf16=False), precision="bf16")


def test_tf32_is_float32_with_a_shorter_product():
    config, name = settle(precision="tf32")
    assert (config.precision, config.allow_tf32) == ("fp32", True) and name.endswith("tf32")
    assert settle(precision="tf32", allow_tf32=True)[0] == config
    assert settle(precision="fp32", allow_tf32=True)[0] == config and not settle(precision="fp32")[0].allow_tf32
    for machine, given, message in (
            (Machine(0, 8e9), {}, "--precision=tf32 needs a CUDA device.*--precision=fp32"),
            (Machine(1, 8e9, tf32=False), {}, "--precision=tf32: this device has no TF32.*--precision=auto"),
            (GPU, {"allow_tf32": False}, "--precision=tf32 and --allow-tf32=0 contradict"),
            (GPU, {"fp32": True}, "--fp32=1 and --precision=tf32 contradict")):
        with pytest.raises(UserError, match=message):
            settle(machine, precision="tf32", **given)


@pytest.mark.parametrize(("machine", "given", "said"), [
    (GPU, {}, "fp16 at the 4 highest resolutions, float32 elsewhere (--precision=auto is fp16 on a CUDA device, as "
              "published)"),
    (GPU, {"precision": "tf32"}, "float32, with products in TF32 (--precision=auto is fp16 on a CUDA device, "),
    (Machine(0, 8e9), {}, "float32 (--precision=auto is fp32 on a CPU; bf16"),
    (Machine(0, 8e9), {"precision": "bf16"}, "bf16 at the 4 highest resolutions, float32 elsewhere (--precision=auto "
                                             "is fp32 on a CPU")])
def test_the_log_says_what_auto_is_and_why(machine, given, said):
    assert describe_precision(settle(machine, **given)[0]).startswith(said)


def test_cuda_graphs_are_asked_for_and_need_a_gpu():
    assert not settle()[0].cuda_graphs and settle(cuda_graphs=True)[0].cuda_graphs
    with pytest.raises(UserError, match=r"--cuda-graphs=1 needs a CUDA device.*Leave it out"):
        settle(Machine(0, 8e9), cuda_graphs=True)
    assert not settle(Machine(0, 8e9), cuda_graphs=False)[0].cuda_graphs


def test_run_folders_count_up(tmp_path):
    assert make_run_folder(tmp_path / "runs", "a").name == "00000-a"
    assert make_run_folder(tmp_path / "runs", "a").name == "00001-a"
    (tmp_path / "runs" / "00041-b").mkdir()
    assert make_run_folder(tmp_path / "runs", "a").name == "00042-a"
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--outdir"):
        make_run_folder(tmp_path / "file", "a")


def test_names_of_pipelines_are_those_that_exist():
    from stylegan2_pipeline.augment import AUGPIPES
    from stylegan2_pipeline.config import AUGPIPE_NAMES

    assert set(AUGPIPE_NAMES) == set(AUGPIPES)


@pytest.mark.parametrize(("given", "metrics", "best"), [
    ({}, PANEL, "swd"), ({"metrics": "pfd32,swd"}, ("pfd32", "swd"), "pfd32"), ({"metrics": "none"}, (), None),
    ({"metrics": "fid50k_full,panel"}, ("fid50k_full", *PANEL), "fid50k_full"),
    ({"metrics": "fid50k_full", "device": "cpu"}, ("fid1k_full",), "fid1k_full"),  # fewer, and the name says so
    ({"metrics": "swd,fid50k_full", "best_metric": "fid50k_full", "device": "cpu"}, ("swd", "fid1k_full"),
     "fid1k_full"),
    ({"metrics": "pfd32,swd", "best_metric": "swd"}, ("pfd32", "swd"), "swd"),
    ({"best_metric": "none"}, PANEL, None),
])
def test_metrics_and_the_one_that_the_best_snapshot_is_kept_by(given, metrics, best):
    config, _ = settle(**given)
    assert (config.metrics, config.best_metric) == (metrics, best)


@pytest.mark.parametrize(("given", "message"), [
    (dict(best_metric="kid50k_full"), "--best-metric=kid50k_full is not among those that --metrics measures"),
    (dict(policy="color"), "--policy=color is for --aug=diffaugment"),
    (dict(aug="diffaugment", policy="colour"), "--policy=colour: give one or more of color,translation,cutout"),
    (dict(aug="diffaugment", augpipe="bgc"), "--augpipe=bgc is for --aug=ada and fixed"),
    (dict(track="tensorboard"), "--track=tensorboard: give wandb or mlflow"),
])
def test_new_options_that_do_not_go_together(given, message):
    with pytest.raises(UserError, match=message):
        settle(**given)


def test_devices_are_taken_as_told():
    assert settle(device="cpu")[0].device == "cpu" and settle()[0].device == "cuda"
    assert settle(Machine(0, 8e9), device="cpu", gpus=2)[0].num_gpus == 2
    for given, message in ((dict(device="cuda"), "--device=cuda"), (dict(cache="gpu"), "--cache=gpu"),
                           (dict(gpus=2), "--device=cpu --gpus=2")):
        with pytest.raises(UserError, match=message):
            settle(Machine(0, 8e9), **given)
