"""`train`: options in, one training run out."""

from typing import Any

import click

from stylegan2_pipeline.commands.numbers import FiniteRange, IntOrAuto
from stylegan2_pipeline.config import AUGPIPE_NAMES, CFG_NAMES, PRECISIONS

POSITIVE_INT = click.IntRange(min=1)
POSITIVE = FiniteRange(min=0, min_open=True)
PROBABILITY = FiniteRange(0, 1)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 120})
# What and where.
@click.option("--data", metavar="PATH", help="Training images: a zip or folder made by dataset_tool.py.")
@click.option("--outdir", default="training-runs", metavar="DIR", help="Where run folders are made.")
@click.option("--gpus", type=POSITIVE_INT, default=1, help="CUDA devices to use; 1 without any trains on the CPU.")
@click.option("--device", type=click.Choice(["auto", "cuda", "cpu"]), default="auto",
              help="auto: cuda where there is one. With cpu, --gpus is the number of processes.")
@click.option("--cfg", type=click.Choice(CFG_NAMES), default="auto", help="Preset of networks and settings.")
@click.option("--kimg", type=FiniteRange(min=0), help="Length in thousands of images.  [default: the preset's]")
@click.option("--batch", type=POSITIVE_INT, help="Images a step.  [default: the preset's]")
@click.option("--batch-gpu", type=IntOrAuto(min=1), metavar="N|auto",
              help="Images at once on a device; gradients add up to --batch; auto: as many as fit.")
@click.option("--snap", type=POSITIVE_INT, default=50, help="Ticks between snapshots.")
@click.option("--tick", type=POSITIVE, default=4.0, metavar="KIMG", help="Thousands of images between status lines.")
@click.option("--metrics", default="panel", metavar="NAMES",
              help="Measured at each snapshot: panel, fid50k_full, ..., none; see `stylegan2 metrics -h`.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of everything random.")
@click.option("-n", "--dry-run", is_flag=True, help="Print the resolved settings as JSON and stop.")
# Going on, saving, trouble.
@click.option("--continue", "continue_run", is_flag=False, flag_value="newest", metavar="[RUN]",
              help="Go on exactly where a run stopped; without RUN the newest unfinished one under --outdir.")
@click.option("--override", is_flag=True, help="Let --continue take options that change the result.")
@click.option("--save-minutes", type=POSITIVE, default=15.0, help="Between training states, from which runs go on.")
@click.option("--keep-last", type=POSITIVE_INT, metavar="N", help="Snapshots to keep.  [default: all]")
@click.option("--keep-every", type=POSITIVE, metavar="KIMG", help="Keep a snapshot every so many kimg besides.")
@click.option("--best-metric", metavar="NAME", help="Metric by which network-best.pkl is kept.  [default: the first]")
@click.option("--on-divergence", type=click.Choice(["stop", "rollback"]), default="stop",
              help="Of a loss that is not finite; rollback: to an earlier state, with half the learning rates.")
@click.option("--max-rollbacks", type=POSITIVE_INT, default=3, help="Of one run.")
@click.option("--track", metavar="NAMES", help="Also report to wandb, mlflow (extras of the same names).")
# Data.
@click.option("--cond", type=bool, default=False, metavar="BOOL", help="Train by class: use the labels of the data.")
@click.option("--subset", type=POSITIVE_INT, metavar="N", help="Train on N random images only.")
@click.option("--mirror", type=bool, default=False, metavar="BOOL", help="Double the data by left-right mirror images.")
@click.option("--cache", type=click.Choice(["auto", "gpu", "ram", "none"]), default="auto",
              help="Where decoded images are kept; auto: the GPU, else memory, where they fit.")
@click.option("--workers", type=click.IntRange(min=0), default=2, help="Processes that read data not kept in memory.")
# Networks and losses.
@click.option("--gamma", type=FiniteRange(min=0), help="R1 weight.  [default: the preset's]")
@click.option("--glr", type=POSITIVE, help="Learning rate of G.  [default: the preset's]")
@click.option("--dlr", type=POSITIVE, help="Learning rate of D.  [default: the preset's]")
@click.option("--cbase", type=POSITIVE_INT, help="Channels times resolution.  [default: the preset's, 16384 or 32768]")
@click.option("--cmax", type=POSITIVE_INT, default=512, help="Most channels of a layer.")
@click.option("--map-depth", type=POSITIVE_INT, help="Layers of the mapping network.  [default: the preset's]")
@click.option("--mbstd-group", type=POSITIVE_INT, help="Minibatch deviation group.  [default: the preset's]")
# Augmentation.
@click.option("--aug", type=click.Choice(["ada", "noaug", "fixed", "diffaugment"]), default="ada",
              help="Augmentation mode.")
@click.option("--p", type=PROBABILITY, help="Probability of --aug=fixed.")
@click.option("--target", type=PROBABILITY, help="What --aug=ada keeps r_t at.  [default: 0.6]")
@click.option("--augpipe", type=click.Choice(AUGPIPE_NAMES), help="Augmentations to use.  [default: bgc]")
@click.option("--policy", metavar="NAMES", help="Of --aug=diffaugment.  [default: color,translation,cutout]")
@click.option("--lecam", type=FiniteRange(min=0), metavar="WEIGHT", help="LeCam regularisation of D.  [default: 0]")
# Transfer.
@click.option("--resume", metavar="PKL", help="Start from these weights: file, URL, or ffhq256, ffhq512, ffhq1024, ...")
@click.option("--allow-partial", is_flag=True, help="Accept --resume weights that fit only in part.")
@click.option("--freezed", type=click.IntRange(min=0), help="Freeze the first N layers of D.  [default: 0]")
# Speed.
@click.option("--precision", type=click.Choice(PRECISIONS), default="auto",
              help="Of the four highest resolutions; auto: fp16 on CUDA, fp32 on a CPU; tf32: fp32, --allow-tf32=1.")
@click.option("--fp32", type=bool, default=False, metavar="BOOL", help="The same as --precision=fp32.")
@click.option("--allow-tf32", type=bool, default=False, metavar="BOOL", help="TF32 for float32 layers.")
@click.option("--cuda-graphs", type=bool, default=False, metavar="BOOL",
              help="Launch the kernels of each loss at once; the same but for rounding, and more memory.")
@click.option("--gradient-checkpointing", type=bool, default=False, metavar="BOOL",
              help="Keep less for gradients and compute blocks again: less memory, slower; see --dry-run.")
@click.option("--nobench", type=bool, default=False, metavar="BOOL", help="Leave cuDNN benchmarking off.")
@click.option("--deterministic", type=bool, default=False, metavar="BOOL", help="The same bits in every run on a GPU.")
@click.option("--nhwc", type=bool, default=True, metavar="BOOL", help="Accepted; the layout is chosen by device.")
@click.pass_context
def command(ctx: click.Context, outdir: str, dry_run: bool, continue_run: str | None, override: bool,
            **options: Any) -> None:
    """Train a StyleGAN2-ADA generator on an archive of images.

    Each run gets a folder under --outdir with its settings, log, statistics, TensorBoard events, image grids
    (reals.png, fakes_init.png, fakes000200.png, ...), snapshots (network-snapshot-000200.pkl, ...; network-best.pkl)
    and training states. Ctrl-C, SIGTERM and SIGUSR1 finish the step, save, and end with exit code 130, 143 or 138;
    --continue goes on from there, or from the last saved state, to the same result as without the stop.

    \b
    Examples:
      # One GPU or the CPU, settings chosen by resolution.
      python train.py --data ./data/sigara.zip --gpus 1 --batch=16 --cfg=auto --mirror=1 --kimg 500 --snap=10
      # Go on with the newest unfinished run; train a finished one longer.
      python train.py --continue
      python train.py --continue=training-runs/00000-sigara-mirror-auto1-kimg500-batch16 --kimg=1000
      # What would be done, as JSON, and what fits which GPU.
      python train.py --data ./data/sigara.zip --dry-run
      # From somebody's weights.
      python train.py --data ./data/sigara.zip --resume=ffhq512 --freezed=10
      # Two machines of four GPUs each.
      torchrun --nnodes=2 --nproc-per-node=4 --rdzv-backend=c10d --rdzv-endpoint=HOST:29500 train.py --data sigara.zip
      # Watch.
      tensorboard --logdir=training-runs
    """
    from stylegan2_pipeline.launch import launch

    # An option at its default is "not given", except where the default is the preset's (None already).
    typed = {name: value for name, value in options.items() if value is not None and name != "nhwc"
             and ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT}
    try:
        ctx.exit(launch(outdir, typed, dry_run=dry_run, continue_run=continue_run, override=override))
    except KeyboardInterrupt:  # before there was anything to save, or pressed twice
        click.echo("Stopped.", err=True)
        ctx.exit(130)
