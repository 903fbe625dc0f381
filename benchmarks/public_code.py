"""What the public stylegan2-ada-pytorch is asked to build: its interface, in terms of our settings."""

from typing import Any

from stylegan2_pipeline.augment import AUGPIPES
from stylegan2_pipeline.config import OptimizerConfig, TrainConfig

HALF_RESOLUTIONS, CLAMP = 4, 256.0  # as its training sets them where float16 is used


def public_settings(config: TrainConfig, best: bool) -> dict[str, Any]:
    """For reference_worker, as JSON has it. best: channels last and TF32 besides, its fastest options."""
    net, data, loss = config.networks, config.data, config.loss
    half = config.precision != "fp32" and config.device == "cuda"
    widths: dict[str, Any] = {"channel_base": net.channel_base, "channel_max": net.channel_max,
                              "num_fp16_res": HALF_RESOLUTIONS if half else 0, "conv_clamp": CLAMP if half else None}
    image = {"c_dim": data.label_dim, "img_resolution": data.resolution, "img_channels": data.num_channels}
    architecture = {} if net.d_architecture == "resnet" else {"architecture": net.d_architecture}
    return {
        "G": {**image, "z_dim": net.z_dim, "w_dim": net.w_dim, "mapping_kwargs": {"num_layers": net.mapping_layers},
              "synthesis_kwargs": widths},
        "D": {**image, **widths, **architecture, "epilogue_kwargs": {"mbstd_group_size": net.mbstd_group}},
        "channels_last": best, "allow_tf32": best or config.allow_tf32, "benchmark": config.benchmark,
        "augment": AUGPIPES[config.augment.pipe], "p": config.augment.p,
        "loss": {"r1_gamma": loss.r1_gamma, "style_mixing_prob": loss.style_mixing_prob, "pl_weight": loss.pl_weight},
        "intervals": {"Gmain": 1, **({"Greg": loss.g_reg_interval} if loss.pl_weight else {}),
                      "Dmain": 1, "Dreg": loss.d_reg_interval},
        "adam": {"G": adam(config.optimizer, config.optimizer.g_lr, loss.g_reg_interval),
                 "D": adam(config.optimizer, config.optimizer.d_lr, loss.d_reg_interval)},
        "batch": config.batch, "batch_gpu": config.batch_gpu, "ema_kimg": config.ema_kimg, "seed": config.seed,
    }


def adam(optimizer: OptimizerConfig, lr: float, interval: int) -> dict[str, Any]:
    """Corrected for lazy regularisation (StyleGAN2, section 3.1)."""
    ratio = interval / (interval + 1)
    return {"lr": lr * ratio, "betas": [float(beta) ** ratio for beta in optimizer.betas], "eps": optimizer.eps}
