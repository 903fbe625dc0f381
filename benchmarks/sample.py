"""`python -m benchmarks.sample`: images a second from a generator, one at a time and in batches."""

from pathlib import Path
from typing import Any

import click

from benchmarks.contest import common_settings, hold
from benchmarks.report import circumstances, hand_out, heading, markdown, memory, peer_of, significant, tell_failures
from benchmarks.settings import EFFORT_OPTIONS, NETWORK_OPTIONS, effort, training_config
from benchmarks.turns import Measured
from benchmarks.variants import PUBLIC_WAYS, Variant, checked_reference, parse_variants
from stylegan2_pipeline.config import TrainConfig
from stylegan2_pipeline.devices import chosen_device

DEFAULT_VARIANTS = "ours,batches,plain,plain-grouped"
WAYS = ("ours", "reference-ops", "batches", "plain", "plain-weights", "plain-grouped", *PUBLIC_WAYS)
Row = dict[str, Any]


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@NETWORK_OPTIONS
@click.option("--batches", default="1,8", metavar="LIST", help="Numbers of images that are asked for at a time.")
@click.option("--variants", metavar="LIST",
              help=f"What is compared, separated by commas.  [default: {DEFAULT_VARIANTS}, and with --reference "
                   f"{','.join(PUBLIC_WAYS)}]")
@EFFORT_OPTIONS
def main(variants: str | None, batches: str, as_json: bool, save: Path | None, **options: Any) -> None:
    """Time sampling: from seeds to uint8 images on the CPU, by a generator with random weights.

    Every variant runs in a process of its own, one turn at a time; figures are medians of turns. Memory is that of
    tensors on a GPU, else what was resident in the process.

    \b
    Variants:
      ours           as `generate` does it: an image is that of its seed to the bit, whatever else is asked for
      reference-ops  the same with STYLEGAN2_OPS=reference: no compiled operators
      batches        our networks on whole batches
      plain          whole batches by torch functions one after the other on NCHW images, modulation by scaling
      plain-weights  the same, with every sample's own weights written down to normalise them, as the formula reads
      plain-grouped  the same, with these weights in grouped convolutions
      nvlabs         the public code with its defaults; nvlabs-best with channels last and TF32 (--reference)
      WAY:A=B;C=D    any of these with other settings or another environment (env.NAME)

    \b
    Examples:
      python -m benchmarks.sample --resolution=256
      python -m benchmarks.sample --resolution=1024 --cfg=stylegan2 --device=cuda --batches=1,8,32
      python -m benchmarks.sample --variants="ours,ours:precision=bf16" --batches=1
    """
    device = chosen_device(options["device"])
    config = training_config(options, device)
    reference = checked_reference(options["reference"])
    names = variants or ",".join([DEFAULT_VARIANTS, *(PUBLIC_WAYS if reference else ())])
    chosen = parse_variants(names, config, WAYS, reference)
    settings = common_settings(device, batches=parse_batches(batches), reference=str(reference))
    results = hold(chosen, "benchmarks.sample_worker", settings, effort(options, device), options["one_by_one"])
    tell_failures(results)
    rows = [row_of(found, variant, settings["batches"]) for found, variant in zip(results, chosen, strict=True)]
    about = circumstances("benchmarks.sample", device)
    values = {**about, "settings": config.to_json(), "rows": rows}
    hand_out(values, heading(about, describe_settings(config)) + "\n" + table(rows), as_json, save)
    if not all(found.complete for found in results):
        raise SystemExit(1)


def parse_batches(text: str) -> list[int]:
    """"1,8" -> [1, 8]. Raises UsageError naming --batches."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise click.UsageError(f"--batches={text}: write numbers from 1 with commas between, such as --batches=1,8.")
    return list(dict.fromkeys(map(int, parts)))


def describe_settings(config: TrainConfig) -> str:
    data, net = config.data, config.networks
    return (f"{config.cfg}, {data.resolution}x{data.resolution}, {data.num_channels} channel(s), channel base "
            f"{net.channel_base} (at most {net.channel_max}), {config.precision}")


def row_of(found: Measured, variant: Variant, batches: list[int]) -> Row:
    row: Row = {"variant": found.name, "way": variant.way, "failure": found.failure, **found.about,
                "peak_bytes": found.peak_bytes, "turns": found.seconds}
    if found.complete:
        row["images_per_second"] = {f"batch {n}": n / found.median(f"batch {n}") for n in batches}
    return row


def table(rows: list[Row]) -> str:
    """One line a variant that was measured."""
    measured = [row for row in rows if row["failure"] is None]
    if not measured:
        return "Nothing could be measured.\n"
    tasks, peer = list(measured[0]["images_per_second"]), peer_of(measured)
    columns = [text for task in tasks for text in (f"{task}: images/s", f"times {peer['variant']}")]
    lines = []
    for row in measured:
        cells = [(row["images_per_second"][task], peer["images_per_second"][task]) for task in tasks]
        figures = [text for speed, other in cells for text in (significant(speed), f"{speed / other:.2f}")]
        lines.append([row["variant"], *figures, memory(Measured("", peak_bytes=row["peak_bytes"]))])
    return markdown(["", *columns, "peak memory"], lines)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.sample")
