"""Any collection of images -> a checked, uniform archive: look at all of them, decide, draw what is missing, write."""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from stylegan2_pipeline.archive import ArchiveWriter, check_free
from stylegan2_pipeline.conversion.drawing import Bench
from stylegan2_pipeline.conversion.options import Conversion, check_options
from stylegan2_pipeline.conversion.passes import draw_rest, run_scan
from stylegan2_pipeline.conversion.plan import Plan, decide
from stylegan2_pipeline.conversion.resize import prepare
from stylegan2_pipeline.conversion.scan import Drawn, Scan
from stylegan2_pipeline.conversion.spool import DamagedSpoolError, Journal, Spool
from stylegan2_pipeline.conversion.words import archive_bytes, left_out_lines, report_scan, summary
from stylegan2_pipeline.encode import ending
from stylegan2_pipeline.parallel import WorkerLost, WorkerPool
from stylegan2_pipeline.progress import progress
from stylegan2_pipeline.sources.base import Source
from stylegan2_pipeline.sources.labels import printable
from stylegan2_pipeline.sources.registry import open_source
from torch_utils.errors import UserError
from torch_utils.files import CannotWrite
from torch_utils.text import format_bytes

KEEP_SEC = 10  # of work, from which on what an interrupted conversion has done is kept


def convert(asked: Conversion, say: Callable[[str], None] = click.echo) -> None:
    """Make the archive asked.dest from the images of asked.source; `say` gets the report, line by line.

    The bytes written depend on the images and options alone, not on the number of workers, nor on whether it was
    interrupted and went on. Raises UserError, with nothing written, when the images cannot become one uniform set
    without a further choice; KeyboardInterrupt when a signal ends it. What was done is kept then, and when the disk is
    full or a process is killed, if it took long.
    """
    check_options(asked)
    for path, flag in destinations(asked):
        check_free(path, flag)
    check_apart(asked)
    draft = asked.draft()
    with open_source(asked.source, reading=asked.reading(), kind=asked.source_type, only=asked.only) as source:
        if not source.names:
            raise UserError(" ".join([f"--source: there are no images in {asked.source}.", *source.remarks(),
                                      *left_out_lines(Scan(), source)]))
        check_space(asked, len(source.names), archive_bytes(draft.width or 1, draft.channels or 1)
                    if asked.encoding() == replace(asked.encoding(), format="png", level=0) else 1)
        prepare(lambda line: click.echo(line, err=True))
        with work_on(asked, source) as (journal, spool), workers_for(asked, source, spool) as pool:
            scan = run_scan(pool, source, spool, journal, asked.max_images, asked.min_foreground)
            report_broken(scan, source, asked)
            plan = decide(scan, source, asked, spool)
            for line in report_scan(scan, source, plan):
                say(line)
            drawn = draw_rest(pool, source, plan, journal, spool)
            write(asked, source, plan, spool, drawn)
            journal.done = True
            if asked.report:
                from stylegan2_pipeline.inspection.write import conversion_reports  # which loads torch

                conversion_reports(scan, source, plan, asked, spool, drawn)
        for line in summary(scan, source, plan, asked):
            say(line)


def destinations(asked: Conversion) -> list[tuple[Path, str]]:
    """Where archives are made, with the options that say so."""
    return [(asked.dest, "--dest"), *([(asked.holdout_path, "--holdout-dest")] if asked.holdout else [])]


def check_apart(asked: Conversion) -> None:
    for path, flag in destinations(asked):
        if os.path.isdir(asked.source) and path.resolve().is_relative_to(asked.source.resolve()):
            raise UserError(f"{flag}: {path} lies inside --source {asked.source}, where the next run would read it; "
                            f"choose a place outside.")


@contextlib.contextmanager
def work_on(asked: Conversion, source: Source) -> Iterator[tuple[Journal, Spool]]:
    """The folder DEST.partial, which outlives this process where work would be lost."""
    folder = asked.dest.with_name(f"{asked.dest.name}.partial")
    if asked.continue_ and not (folder / "journal.jsonl").exists():
        raise UserError(f"--continue: there is no {folder} to go on with; leave --continue out to start.")
    settings = {"--source": str(asked.source.resolve()), "the files there": source.state(),
                "how they are read": asdict(asked.reading()),
                "--source-type, --only": [asked.source_type, asked.only],
                "--crop, --min-foreground": needs_foreground(asked), "--format": asked.format,
                "--compress": asked.compress}
    start = time.monotonic()
    with Journal(folder, settings, anew=not asked.continue_) as journal, contextlib.closing(Spool(folder)) as spool:
        try:
            yield journal, spool
        except (KeyboardInterrupt, UserError) as error:
            usable = not journal.done and not isinstance(error, DamagedSpoolError)
            journal.kept = usable and (journal.begun or time.monotonic() - start > KEEP_SEC)
            if journal.kept:
                click.echo(f"\nWhat is done lies in {folder}: the same command, also with other options, goes on from "
                           f"there. Remove it to start anew.", err=True)
            elif not journal.done and isinstance(error, KeyboardInterrupt | CannotWrite | WorkerLost):
                click.echo("\nNothing was written, and nothing kept of these few seconds.", err=True)
            if journal.done:
                click.echo(f"\n{asked.dest} is made and whole; its reports are not.", err=True)
            raise


def needs_foreground(asked: Conversion) -> bool:
    return asked.crop == "foreground" or asked.min_foreground > 0


def workers_for(asked: Conversion, source: Source, spool: Spool) -> WorkerPool:
    bench = Bench(source, spool, asked.draft(), asked.encoding(), needs_foreground(asked))
    return WorkerPool(bench, max(1, min(asked.workers or available_cores(), len(source.names) // 16)))


def report_broken(scan: Scan, source: Source, asked: Conversion) -> None:
    lines = [f"  {printable(source.names[finding.index])}: {finding.error}" for finding in scan.broken]
    if not scan.good:
        passed = [f"  {printable(source.names[finding.index])}: {reason}" for finding, reason in scan.passed]
        raise UserError("\n".join([f"--source: no image in {asked.source} can be used:", *lines, *passed]))
    if lines and asked.strict:
        raise UserError("\n".join([f"--strict: these cannot be read ({len(lines)}), and nothing was written:", *lines]))
    if lines:
        click.echo("\n".join([f"Left out, because they cannot be read ({len(lines)}):", *lines]), err=True)


def write(asked: Conversion, source: Source, plan: Plan, spool: Spool, drawn: dict[int, Drawn]) -> None:
    """The archive, and the one of images set aside: both appear, or none."""
    for path, flag in destinations(asked):
        numbers = (number for number, out in enumerate(plan.held_out) if out == (flag != "--dest"))
        check_room(path, sum(drawn[plan.kept[number].index].piece.size for number in numbers), flag)
    class_names = plan.labels.class_names if plan.labels else None
    with contextlib.ExitStack() as stack:
        writers = []
        for path, flag in destinations(asked):
            beside = path.absolute().parent == spool.folder.absolute().parent
            writers.append(stack.enter_context(ArchiveWriter(
                path, class_names, flag, ending=ending(asked.encoding()), folder=spool.folder if beside else None,
                record=holdout_record(asked, plan))))
        for number, finding in enumerate(progress(plan.kept, len(plan.kept), "Writing")):
            one = drawn[finding.index]
            group = plan.groups[number] if plan.groups is not None else None
            writers[plan.held_out[number]].add_file(spool.get(one.piece), plan.label(number), one.digest, group)
        for writer in writers:
            writer.finish()


def holdout_record(asked: Conversion, plan: Plan) -> dict[str, Any]:
    """For dataset.json of both archives; no names, which might be those of people."""
    if not asked.holdout:
        return {}
    by = asked.group_by.partition(":")[0] if asked.group_by else None
    aside = sum(plan.held_out)
    return {"holdout": {"set_aside": aside, "of": len(plan.kept), "asked": asked.holdout, "group_by": by,
                        "seed": asked.seed}}


def check_space(asked: Conversion, count: int, size: int) -> None:
    """At the beginning, when only the least is known: pieces and archive lie on the disk together for a moment."""
    check_room(asked.dest, min(count, asked.max_images or count) * size * 2)


def check_room(dest: Path, needed: int, flag: str = "--dest") -> None:
    place = next(parent for parent in dest.absolute().parents if parent.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise UserError(f"{flag}: making {dest} takes {format_bytes(needed)}, and {place} has {format_bytes(free)} "
                        f"free. Free some space, choose another place, a lower --resolution or fewer --max-images. "
                        f"Nothing was written.")


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

