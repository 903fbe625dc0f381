"""`python -m benchmarks.train`: images a second in training, against other formulations, settings and the limit."""

from pathlib import Path
from typing import Any

import click

from benchmarks.contest import common_settings, hold
from benchmarks.limit import Limit, limit_table, measured_rates, work_of
from benchmarks.profiling import profile_table
from benchmarks.report import circumstances, hand_out, heading, markdown, memory, peer_of, significant, tell_failures
from benchmarks.settings import AUGMENT_OPTIONS, EFFORT_OPTIONS, NETWORK_OPTIONS, POSITIVE, effort, training_config
from benchmarks.turns import Measured, Worker, WorkerDied
from benchmarks.variants import PUBLIC_WAYS, Variant, checked_reference, parse_variants
from stylegan2_pipeline.config import TrainConfig
from stylegan2_pipeline.devices import chosen_device

DEFAULT_VARIANTS = "ours,reference-ops,plain,plain-grouped"
WAYS = ("ours", "reference-ops", "plain", "plain-weights", "plain-grouped", *PUBLIC_WAYS)
Row = dict[str, Any]


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@NETWORK_OPTIONS
@click.option("--batch", type=POSITIVE, help="Images of a step, as of train.  [default: the preset's]")
@click.option("--batch-gpu", type=POSITIVE, help="Images at once, as of train.  [default: as train]")
@AUGMENT_OPTIONS
@click.option("--variants", metavar="LIST",
              help=f"What is compared, separated by commas.  [default: {DEFAULT_VARIANTS}, and with --reference "
                   f"{','.join(PUBLIC_WAYS)}]")
@click.option("--cycle", is_flag=True, help="Time whole cycles of 16 steps, as training goes, instead of their parts.")
@click.option("--limit", is_flag=True,
              help="Count what a step with these options must compute and move, and how near each variant comes.")
@click.option("--profile", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="Write a Chrome trace of a step of the first variant of ours there, and show its operators.")
@EFFORT_OPTIONS
def main(variants: str | None, cycle: bool, limit: bool, profile: Path | None, as_json: bool, save: Path | None,
         **options: Any) -> None:
    """Time training: each phase of a step, the moving average, bringing in the images; and what a step is of these.

    A step is Gmain + Greg/4 + Dmain + Dreg/16 + the rest. Every variant runs in a process of its own, one turn at a
    time; figures are medians of turns. Memory is that of tensors on a GPU, else what was resident in the process.

    \b
    Variants:
      ours           as train does it
      reference-ops  with STYLEGAN2_OPS=reference: no compiled operators
      plain          torch functions one after the other on NCHW images, modulation by scaling activations
      plain-weights  the same, with every sample's own weights written down to normalise them, as the formula reads
      plain-grouped  the same, with these weights in grouped convolutions
      nvlabs         the public code with its defaults; nvlabs-best with channels last and TF32 (--reference)
      WAY:A=B;C=D    any of these with other settings (of training_options.json, such as precision or
                     networks.channel_max) or another environment (env.NAME)

    \b
    Examples:
      python -m benchmarks.train --resolution=64 --channels=1 --cbase=2048 --batch=8
      python -m benchmarks.train --cfg=auto --resolution=512 --batch=16 --device=cuda --limit
      python -m benchmarks.train --variants="ours,ours:precision=bf16,ours:env.OMP_NUM_THREADS=1"
      python -m benchmarks.train --device=cuda --reference=../stylegan2-ada-pytorch --cycle
      python -m benchmarks.train --variants=ours --profile=traces
    """
    device = chosen_device(options["device"])
    config = training_config(options, device)
    reference = checked_reference(options["reference"])
    names = variants or ",".join([DEFAULT_VARIANTS, *(PUBLIC_WAYS if reference else ())])
    chosen = parse_variants(names, config, WAYS, reference)
    if profile is not None and not any(not variant.public for variant in chosen):
        raise click.UsageError("--profile shows our own code; add ours to --variants.")
    work = work_of(config, device) if limit else None
    rates = measured_rates(work.types, device, config.allow_tf32) if work else None
    profiled: list[Row] = []
    settings = common_settings(device, cycle=cycle, reference=str(reference))
    results = hold(chosen, "benchmarks.train_worker", settings, effort(options, device), options["one_by_one"],
                   after=lambda workers: profiled.extend(asked_for_profile(workers, chosen, profile)))
    tell_failures(results)
    floor = None
    if work and rates:  # measured again: other work on the machine may have come or gone
        floor = work.limit(rates.best(measured_rates(work.types, device, config.allow_tf32)))
    rows = [row_of(found, variant, floor) for found, variant in zip(results, chosen, strict=True)]
    about = circumstances("benchmarks.train", device)
    values = {**about, "settings": config.to_json(), "rows": rows, "limit": floor and floor.as_json(),
              "profile": profiled}
    tables = [heading(about, describe_settings(config)), table(rows)]
    tables += [limit_table(floor)] if floor else []
    tables += [profile_table(profiled)] if profiled else []
    hand_out(values, "\n".join(tables), as_json, save)
    if not all(found.complete for found in results):
        raise SystemExit(1)


def asked_for_profile(workers: list[Worker], variants: list[Variant], folder: Path | None) -> list[Row]:
    """Rows of the first variant that is not the public code, whose trace is then in the folder."""
    own = next((worker for worker in workers for v in variants if v.name == worker.name and not v.public), None)
    if folder is None or own is None:
        return []
    path = folder.resolve() / "step.json"
    try:
        rows = own.ask(do="profile", path=str(path))["rows"]
    except WorkerDied as died:
        raise click.ClickException(f"--profile={folder}: {died}") from died
    click.echo(f"Trace of {own.name}: {path} (open it at chrome://tracing or ui.perfetto.dev)", err=True)
    return rows


def describe_settings(config: TrainConfig) -> str:
    data, net = config.data, config.networks
    return (f"{config.cfg}, {data.resolution}x{data.resolution}, {data.num_channels} channel(s), channel base "
            f"{net.channel_base} (at most {net.channel_max}), batch {config.batch} ({config.batch_gpu} at once), "
            f"{config.precision}, {config.augment.pipe} with p {config.augment.p:g}")


def row_of(found: Measured, variant: Variant, floor: Limit | None) -> Row:
    """A variant's figures, in seconds and bytes."""
    row: Row = {"variant": found.name, "way": variant.way, "failure": found.failure, **found.about,
                "peak_bytes": found.peak_bytes, "turns": found.seconds}
    if not found.complete:
        return row
    parts = {part: found.median(part) for part in found.seconds}
    step = sum(seconds * found.about["weights"][part] for part, seconds in parts.items())
    row |= {"parts": parts, "step": step, "images_per_second": found.about["batch"] / step}
    if floor is not None:
        row["share_of_limit"] = floor.step / floor.batch / (step / found.about["batch"])
    return row


def table(rows: list[Row]) -> str:
    """One line a variant that was measured."""
    measured = [row for row in rows if row["failure"] is None]
    if not measured:
        return "Nothing could be measured.\n"
    parts = list(dict.fromkeys(part for row in measured for part in row["parts"]))
    peer, limited = peer_of(measured), "share_of_limit" in measured[0]
    head = ["", "images/s", f"times {peer['variant']}", "s a step", *parts, "peak memory",
            *(["of the limit"] if limited else [])]
    lines = []
    for row in measured:
        ratio = row["images_per_second"] / peer["images_per_second"]
        seconds = [significant(row["parts"][part]) if part in row["parts"] else "-" for part in parts]
        lines.append([row["variant"], significant(row["images_per_second"]), f"{ratio:.2f}", significant(row["step"]),
                      *seconds, memory(Measured("", peak_bytes=row["peak_bytes"])),
                      *([f"{row['share_of_limit']:.0%}"] if limited else [])])
    return markdown(head, lines)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.train")
