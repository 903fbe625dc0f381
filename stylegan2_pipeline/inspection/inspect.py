"""The `inspect` verb: all images of a collection looked at once, and a report; nothing else is written."""

import contextlib
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click

from stylegan2_pipeline.conversion.convert import available_cores
from stylegan2_pipeline.conversion.drawing import Bench
from stylegan2_pipeline.conversion.options import Conversion, check_options
from stylegan2_pipeline.conversion.passes import run_scan
from stylegan2_pipeline.conversion.scan import Scan
from stylegan2_pipeline.conversion.spool import Spool
from stylegan2_pipeline.inspection.advice import recommend
from stylegan2_pipeline.inspection.facts import gather, windows_of
from stylegan2_pipeline.inspection.previews import previews
from stylegan2_pipeline.inspection.remarks import remarks
from stylegan2_pipeline.inspection.sheets import choose, sheets
from stylegan2_pipeline.inspection.write import Inspection, wants_page, write_report
from stylegan2_pipeline.parallel import WorkerPool
from stylegan2_pipeline.sources.base import Source
from stylegan2_pipeline.sources.registry import open_source
from torch_utils.errors import UserError


def inspect(asked: Conversion, say: Callable[[str], None] = click.echo) -> None:
    """Say what is in asked.source and how to convert it, and write asked.report, or else a page into this folder.

    asked.dest is where the recommended command would put the archive; `say` gets the text, line by line. Broken images
    are a finding, no error. Raises UserError for a source without images, and reports that cannot be written.
    """
    asked = replace(asked, report=asked.report or (default_report(asked.source),))
    check_options(asked)
    inspection = look_through(asked)
    for path in asked.report:  # first: a pipe that `say` goes to may close early
        write_report(path, inspection)
    for line in [*inspection.lines(), "", *(f"Report: {path}" for path in asked.report)]:
        say(line)


def default_report(source: Path) -> Path:
    return Path(f"{source.resolve().name.partition('.')[0] or 'images'}-inspection.html")


def look_through(asked: Conversion) -> Inspection:
    with open_source(asked.source, reading=asked.reading(), kind=asked.source_type,
                     only=asked.only) as source:
        if not source.names:
            raise UserError(f"--source: there are no images in {asked.source}. {' '.join(source.remarks())}".rstrip())
        with tempfile.TemporaryDirectory(prefix="inspection-") as folder, \
                contextlib.closing(Spool(Path(folder), f"The temporary folder {folder}")) as spool:
            draft = replace(asked, width=None, height=None).draft()  # of no size: nothing is drawn
            bench = Bench(source, spool, draft, asked.encoding(), foreground=True, text=True)
            workers = max(1, min(asked.workers or available_cores(), len(source.names) // 16))
            with WorkerPool(bench, workers) as pool:
                scan = run_scan(pool, source, spool, most=asked.max_images, least_filled=asked.min_foreground)
                return report_on(scan, source, asked, spool, pool)


def report_on(scan: Scan, source: Source, asked: Conversion, spool: Spool, pool: WorkerPool) -> Inspection:
    facts = gather(scan, source, asked, spool)
    shown = None
    if wants_page(asked.report):
        chosen = choose(facts)
        wanted = [facts.good[position] for position in sorted(chosen.all())]
        shown = sheets(facts, chosen, previews(pool, source, windows_of(scan, asked), wanted))
    return Inspection(facts, remarks(facts), recommend(facts, asked), (), shown)
