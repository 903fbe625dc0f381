"""All images of a source by all processes: looking at each, and drawing those that are not drawn yet."""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from itertools import groupby, islice

import click

from stylegan2_pipeline.conversion.drawing import Task, draw, examine
from stylegan2_pipeline.conversion.plan import Plan
from stylegan2_pipeline.conversion.scan import Details, Drawn, Finding, Scan, drawn_from_json
from stylegan2_pipeline.conversion.spool import Journal, Spool
from stylegan2_pipeline.parallel import WorkerPool
from stylegan2_pipeline.progress import progress
from stylegan2_pipeline.sources.base import Source

RUN = 64  # images of one file that one process reads at a time, at most
FEW = 8   # images at least that a process is sent at a time, so that sending them costs little


def run_scan(pool: WorkerPool, source: Source, spool: Spool, journal: Journal | None = None, most: int | None = None,
             least_filled: float = 0.0) -> Scan:
    """Look at images in order until `most` good ones are found; those in the journal need no second look.

    least_filled: the share of foreground that an image must have. The pool's context is a Bench.
    """
    known = findings_of(journal.taken(), spool) if journal else {}
    if known:
        click.echo(f"Going on: {len(known)} of {len(source.names)} images were looked at before.", err=True)
    runs = runs_of(source, (index for index in range(len(source.names)) if index not in known))
    fresh = (finding for found in pool.map(examine, runs) for finding in found)

    def all_in_order() -> Iterator[Finding]:
        for index in range(len(source.names)):
            if index in known:
                yield known[index]
            else:
                finding = next(fresh)
                if journal:
                    journal.add(finding.to_json())
                yield finding

    scan = Scan()
    length = min(most or len(source.names), len(source.names))
    for finding in progress(all_in_order(), length, "Reading"):
        details = Details.from_bytes(spool.get(finding.details)) if finding.deep and finding.details else None
        scan.add(finding, details, source.volume(finding.index), least_filled)
        if len(scan.good) == most:
            break
    return scan


def findings_of(lines: Iterable[dict], spool: Spool) -> dict[int, Finding]:
    """By index, those whose pieces are there. Broken images are looked at again: the reason may be mended."""
    known: dict[int, Finding] = {}
    with contextlib.suppress(TypeError, KeyError, ValueError):  # a damaged line ends what can be used
        for line in lines:
            if "task" in line:
                drawn = drawn_from_json(line["drawn"])
                known[line["task"]] = replace(known[line["task"]], drawn=drawn)
            else:
                finding = Finding.from_json(line)
                known[finding.index] = finding
    return {index: finding for index, finding in known.items()
            if finding.error is None
            and all(spool.has(piece) for piece in (finding.details, finding.drawn and finding.drawn.piece) if piece)}


def runs_of(source: Source, indices: Iterable[int]) -> Iterator[list[int]]:
    """Neighbours that one process should read, some at a time."""
    task: list[int] = []
    for _, members in groupby(indices, source.run):
        while chunk := list(islice(members, RUN)):
            task += chunk
            if len(task) >= FEW:
                yield task
                task = []
    if task:
        yield task


def draw_rest(pool: WorkerPool, source: Source, plan: Plan, journal: Journal, spool: Spool) -> dict[int, Drawn]:
    """Every kept image as the archive will hold it, by index; most were drawn when they were looked at."""
    drawn: dict[int, Drawn] = {}
    missing: list[Task] = []
    for finding in plan.kept:
        task = plan.task(finding, source.volume(finding.index))
        if finding.drawn is not None and finding.drawn.recipe == task.key:
            drawn[finding.index] = finding.drawn
        else:
            missing.append(task)
    tasks = {task.index: task for task in missing}
    runs = ([tasks[index] for index in run] for run in runs_of(source, tasks))
    made = (one for found in pool.map(draw, runs) for one in found)
    for task, one in zip(missing, progress(made, len(missing), "Drawing") if missing else (), strict=True):
        journal.add({"task": task.index, "drawn": asdict(one)})
        drawn[task.index] = one
    return drawn
