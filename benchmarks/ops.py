"""`python -m benchmarks.ops`: native operators against the reference and plain torch, for all shapes of a model."""

import functools
import json
import sys
from collections.abc import Callable
from typing import Any

import click
import torch

from benchmarks import plain
from benchmarks.workload import Call, Spec, bytes_of, materialised, recorded
from stylegan2_pipeline.config import AUGPIPE_NAMES, AugmentConfig, DataConfig, NetworkConfig, TrainConfig, preset
from stylegan2_pipeline.devices import chosen_device
from torch_utils.host import keep_freed_memory
from torch_utils.ops import native
from torch_utils.timing import describe, interleaved


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--resolution", type=int, default=512, help="Of the model whose operators are measured (preset auto).")
@click.option("--batch", type=click.IntRange(min=1), help="Images.  [default: 16 on CUDA, 2 on a CPU]")
@click.option("--channels", type=click.Choice(["1", "3"]), default="3", help="Of the images.")
@click.option("--precision", type=click.Choice(["fp32", "fp16", "bf16"]), default="fp32",
              help="As of train: short types in the top four resolutions.")
@click.option("--augpipe", type=click.Choice(AUGPIPE_NAMES), default="bgc", help="Whose filters are measured, too.")
@click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, ...  [default: cuda where there is one]")
@click.option("--seconds", type=float, default=1.0, help="Spent on each call.")
@click.option("--ops", "only", help="Names of operators, separated by commas.  [default: all]")
@click.option("--json", "as_json", is_flag=True, help="Print a list of rows instead of tables.")
def main(resolution: int, batch: int | None, channels: str, precision: str, augpipe: str, device: str | None,
         seconds: float, only: str | None, as_json: bool) -> None:
    """Time every distinct call of a native operator in one training pass of the model, forward and backward.

    Printed per call: milliseconds of the native kernel, how much longer the pure-torch reference and the plain
    composition of torch functions on NCHW images take, and the bytes that must move per second; on CUDA also as a
    share of what copying as many bytes takes, the limit of the device.

    \b
    Examples:
      python -m benchmarks.ops
      python -m benchmarks.ops --resolution=128 --ops=upfirdn2d
      python -m benchmarks.ops --device=cuda --precision=fp16 --seconds=0.2
    """
    where = chosen_device(device)
    if resolution & (resolution - 1) or resolution < 8:
        raise click.UsageError(f"--resolution={resolution} is no power of two from 8.")
    known = native.operators(where.type)
    names = only.split(",") if only else list(known)
    if unknown := set(names) - set(known):
        raise click.UsageError(f"--ops: there is no {unknown.pop()}; there is: {', '.join(known)}.")
    keep_freed_memory()
    state = native.state(where.type)
    if not state.native:
        raise click.ClickException(f"The native operators do not run here: {state.reason}. {state.remedy}")
    batch = batch or (16 if where.type == "cuda" else 2)
    spec = preset("auto", resolution, 1)
    config = TrainConfig(
        DataConfig("", "", resolution, int(channels), 1), precision=precision,
        networks=NetworkConfig(channel_base=spec.channel_base, mapping_layers=spec.mapping_layers),
        augment=AugmentConfig(pipe=augpipe))
    calls = recorded(config, batch, where)
    chosen = sorted((c for c in calls if c.name in names), key=lambda c: (names.index(c.name), -main_spec(c).bytes))
    with click.progressbar(chosen, label="Measuring", file=sys.stderr) as bar:
        rows = [measured(call, where, seconds) | {"calls": calls[call]} for call in bar]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    click.echo(f"{describe(where)}; {resolution}x{resolution}, {channels} channels, batch {batch}, {precision}\n")
    for name in names:
        click.echo(table([row for row in rows if row["op"] == name], where))
    click.echo(total(rows))


def main_spec(call: Call) -> Spec:
    return call.args[0]


def measured(call: Call, device: torch.device, seconds: float) -> dict[str, Any]:
    """One row: times in seconds and bytes of a call."""
    args = materialised(call, device)
    op, composed = getattr(torch.ops.stylegan2, call.name), getattr(plain, call.name)
    reference = native.OPERATORS[call.name].reference
    with torch.no_grad():
        moved = bytes_of(args, op(*args))
        variants: dict[str, Callable[[], object]] = {
            "native": functools.partial(op, *args), "reference": functools.partial(reference, *args),
            "plain": functools.partial(composed, *(a.contiguous() if isinstance(a, torch.Tensor) else a for a in args))}
        if device.type == "cuda":
            source = torch.empty(moved // 2, dtype=torch.uint8, device=device)
            target = torch.empty_like(source)
            variants["copy"] = functools.partial(target.copy_, source)
        times = interleaved(variants, device, seconds)
    spec = main_spec(call)
    return {"op": call.name, "shape": list(spec.shape), "dtype": str(spec.dtype).removeprefix("torch."),
            "layout": layout(spec), "detail": detail(call), "bytes": moved, **times}


def layout(spec: Spec) -> str:
    if len(spec.shape) != 4:
        return "dense"
    _, c, h, w = spec.shape
    return "NHWC" if c > 1 and spec.stride == (c * h * w, 1, w * c, c) else "NCHW"


def detail(call: Call) -> str:
    """What tells this call from others of its shape."""
    if call.name.startswith("winograd"):
        w = call.args[1]
        return f"with {'x'.join(map(str, w.shape))}, stride {call.args[2]}{', transposed' * (call.args[-1] is True)}"
    if call.name == "upfirdn2d":
        _, f, up, down, _, flip, _ = call.args
        factors = f", up {up[0]}" * (up[0] > 1) + f", down {down[0]}" * (down[0] > 1)
        return f"{'x'.join(map(str, f.shape))} taps{factors}{', flipped' * flip}"
    parts = {"bias_act": ["", "b"], "bias_act_grad": ["", ""], "synthesis_act": ["", "scale", "noise", "", "b"],
             "synthesis_act_grad": ["", "", "x", "scale", "noise", "sum"]}.get(call.name, [])
    return ", ".join(part for part, arg in zip(parts, call.args, strict=False) if part and arg not in (None, False))


def table(rows: list[dict[str, Any]], device: torch.device) -> str:
    """A Markdown table of one operator."""
    if not rows:
        return ""
    on_gpu = device.type == "cuda"
    head = ["shape", "type", "", "calls", "ms", "GB/s", *(["of copy"] if on_gpu else []), "reference", "plain"]
    lines = [f"**{rows[0]['op']}**\n", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        seconds = row["native"]
        cells = ["x".join(map(str, row["shape"])), f"{row['dtype']} {row['layout']}", row["detail"], str(row["calls"]),
                 f"{seconds * 1e3:.3f}", f"{row['bytes'] / seconds / 1e9:.1f}",
                 *([f"{row['copy'] / seconds:.0%}"] if on_gpu else []),
                 f"{row['reference'] / seconds:.1f}x", f"{row['plain'] / seconds:.1f}x"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def total(rows: list[dict[str, Any]]) -> str:
    """All calls of a pass together."""
    sums = {key: sum(row[key] * row["calls"] for row in rows) for key in ("native", "reference", "plain")}
    reference, composed = (sums[key] / sums["native"] for key in ("reference", "plain"))
    return (f"All calls of a pass: native {sums['native'] * 1e3:.1f} ms, reference {reference:.1f} times, "
            f"plain {composed:.1f} times as long.")


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.ops")
