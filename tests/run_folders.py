"""Small run folders as the three codes write them, for tests of what reads them."""

import json

import numpy as np
from PIL import Image

from stylegan2_pipeline.config import DataConfig
from stylegan2_pipeline.resolve import Machine, resolve

RES = 32
ADA_OPTIONS = {
    "num_gpus": 1, "image_snapshot_ticks": 10, "network_snapshot_ticks": 10, "metrics": ["fid50k_full"],
    "random_seed": 0,
    "training_set_kwargs": {"class_name": "training.dataset.ImageFolderDataset", "path": "/data/brain.zip",
                            "use_labels": False, "max_size": 1944, "xflip": True, "resolution": RES},
    "data_loader_kwargs": {"pin_memory": True, "num_workers": 3, "prefetch_factor": 2},
    "G_kwargs": {"class_name": "training.networks.Generator", "z_dim": 512, "w_dim": 512,
                 "mapping_kwargs": {"num_layers": 2},
                 "synthesis_kwargs": {"channel_base": 16384, "channel_max": 512, "num_fp16_res": 4,
                                      "conv_clamp": 256}},
    "D_kwargs": {"class_name": "training.networks.Discriminator", "block_kwargs": {"freeze_layers": 10},
                 "mapping_kwargs": {}, "epilogue_kwargs": {"mbstd_group_size": 4}, "channel_base": 16384,
                 "channel_max": 512, "num_fp16_res": 4, "conv_clamp": 256},
    "G_opt_kwargs": {"class_name": "torch.optim.Adam", "lr": 0.0025, "betas": [0, 0.99], "eps": 1e-08},
    "D_opt_kwargs": {"class_name": "torch.optim.Adam", "lr": 0.0025, "betas": [0, 0.99], "eps": 1e-08},
    "loss_kwargs": {"class_name": "training.loss.StyleGAN2Loss", "r1_gamma": 6.5},
    "total_kimg": 1000, "batch_size": 32, "batch_gpu": 32, "ema_kimg": 10.0, "ema_rampup": 0.05, "ada_target": 0.6,
    "augment_kwargs": {"class_name": "training.augment.AugmentPipe", "xflip": 1, "rotate90": 1},
}
STYLEGAN3_OPTIONS = {
    **{key: value for key, value in ADA_OPTIONS.items() if key != "data_loader_kwargs"},
    "G_kwargs": {"class_name": "training.networks_stylegan3.Generator", "z_dim": 512, "w_dim": 512,
                 "mapping_kwargs": {"num_layers": 2}, "channel_base": 32768, "channel_max": 512},
    "kimg_per_tick": 4, "loss_kwargs": {"class_name": "training.loss.StyleGAN2Loss", "r1_gamma": 8.2, "pl_weight": 0},
    "training_set_kwargs": {**ADA_OPTIONS["training_set_kwargs"], "random_seed": 0},
    "resume_pkl": "https://example.org/stylegan3-r-afhqv2-512x512.pkl",
}


def own_options(**given):
    """The options of a run of this project on 400 gray images, those of `given` as typed."""
    data = DataConfig(path="data/brain.zip", name="brain", resolution=RES, num_channels=1, num_images=400)
    config, _ = resolve(given, data, Machine(0, 2**34))
    return json.loads(config.to_json())


def grid(cols, rows, seed, channels=1, res=RES):
    """A picture of cols x rows random images, of which number i has the mean 40 + i."""
    noise = np.random.RandomState(seed).randint(0, 20, [rows, res, cols, res, channels])
    place = np.arange(rows)[:, None] * cols + np.arange(cols)
    pixels = (30 + noise + place[:, None, :, None, None]).reshape(rows * res, cols * res, channels)
    return Image.fromarray(pixels.astype(np.uint8).squeeze())


def stat(mean):
    return {"num": 1, "mean": mean, "std": 0.0}


def tick(i, kimg, **more):
    """A line of stats.jsonl; `more` replaces means (Loss__signs__real for Loss/signs/real)."""
    means = {"Progress/tick": i, "Progress/kimg": kimg, "Progress/augment": 0.01 * i, "Loss/G/loss": 1 + 0.1 * i,
             "Loss/D/loss": 1.0, "Loss/scores/real": 0.5, "Loss/scores/fake": -0.5, "Loss/signs/real": 0.4,
             "Loss/r1_penalty": 10.0 ** -i, "Loss/pl_penalty": 0.1, "Timing/sec_per_kimg": 20.0,
             "Timing/total_sec": 80.0 * (i + 1), "Resources/cpu_mem_gb": 1.0}
    means |= {name.replace("__", "/"): value for name, value in more.items()}
    return {name: stat(mean) for name, mean in means.items()} | {"timestamp": 1.7e9 + i}


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def measurement(metric, kimg, results, **more):
    return {"results": results, "metric": metric, "total_time": 1.0, "num_gpus": 1, "timestamp": 1.7e9 + kimg,
            "snapshot_pkl": f"network-snapshot-{int(kimg):06d}.pkl", **more}


def make_run(folder, options, ticks=5, tick_kimg=4.0, channels=1, log="tick 0\n"):
    """A run of so many ticks with a grid at each one; metric files are left to the test."""
    folder.mkdir(parents=True)
    (folder / "training_options.json").write_text(json.dumps(options))
    (folder / "log.txt").write_text(log)
    write_lines(folder / "stats.jsonl", [tick(i, i * tick_kimg) for i in range(ticks)])
    grid(4, 3, 0, channels).save(folder / "reals.png")
    grid(4, 3, 1, channels).save(folder / "fakes_init.png")
    for i in range(1, ticks):
        grid(4, 3, 1 + i, channels).save(folder / f"fakes{int(i * tick_kimg):06d}.png")
    return folder


def own_run(folder, swd=(20.0, 10.0, 6.0, 5.0), **given):
    """A run of this project with swd measured at each tick."""
    make_run(folder, own_options(**given))
    lines = [measurement("swd", 4 * i, {"swd_32": 2 * value, "swd": value, "swd_floor": 2.0, "swd_ratio": value / 2},
                         cur_nimg=4000 * i, counts={"real": 400, "fake": 400}, data_digest="ab12", seed=0,
                         truncation_psi=1.0, versions={"torch": "2.13.0"})
             for i, value in enumerate(swd, start=1)]
    write_lines(folder / "metric-swd.jsonl", lines)
    return folder


def public_run(folder, options, fid=(300.0, 120.0, 60.0, 50.0), channels=3):
    """A run of public code with fid50k_full measured at each tick."""
    make_run(folder, options, channels=channels, log="Num images: 1944\nImage shape: [3, 32, 32]\nLabel shape: [0]\n")
    write_lines(folder / "metric-fid50k_full.jsonl",
                [measurement("fid50k_full", 4 * i, {"fid50k_full": value}) for i, value in enumerate(fid, start=1)])
    return folder
