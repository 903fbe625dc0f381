"""`build-ops`: the native operators compiled ahead of time."""

import click

from torch_utils.ops.toolchain import CPU_LEVELS


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 120})
@click.option("--arch", "archs", multiple=True, metavar="CAPABILITY",
              help="GPUs to compile for, as compute capabilities: 8.6, 9.0+PTX.  [default: the GPUs of this machine]")
@click.argument("more", nargs=-1, metavar="[CAPABILITY]...")
@click.option("--device", type=click.Choice(["cpu", "cuda"]),
              help="Compile for it alone.  [default: the CPU, and CUDA where there is nvcc or --arch]")
@click.option("--cpu-level", type=click.Choice(list(CPU_LEVELS)),
              help="Vector units to compile for; avx2 for what is to run on other machines.  [default: this CPU's]")
def command(archs: tuple[str, ...], more: tuple[str, ...], device: str | None, cpu_level: str | None) -> None:
    """Compile the native operators ahead of time.

    Where there is a compiler this is not needed: they are compiled when they are first used. It is for machines and
    containers that have none: compile here, copy the cache folder there. Failures that were remembered are tried again.

    \b
    Examples:
      # For this machine.
      stylegan2 build-ops
      # For an image that travels, with several kinds of GPUs.
      STYLEGAN2_CACHE=cache stylegan2 build-ops --cpu-level=avx2 --arch 8.6 8.9 9.0
    """
    from stylegan2_pipeline.build_ops import build_ops

    build_ops((*archs, *more), device, cpu_level, click.echo)
