"""From variants to figures: starts a worker for each, lets them take turns, and tells what could not be measured."""

from collections.abc import Callable, Sequence
from typing import Any

import click
import torch

from benchmarks.public_code import public_settings
from benchmarks.turns import Effort, Measured, Worker, measure, started
from benchmarks.variants import Variant

MOST_NOTES = 5  # lines of a worker that are passed on at a time


def worker_of(variant: Variant, module: str, settings: dict[str, Any]) -> Worker:
    """One of `module`, or for the public code one of its own. settings: beside those that follow from the variant."""
    if variant.public:
        best = variant.way == "nvlabs-best"
        return Worker(variant.name, "benchmarks.reference_worker",
                      settings | public_settings(variant.config, best), variant.env)
    return Worker(variant.name, module, settings | {"way": variant.way, "config": variant.config.to_json()},
                  variant.env)


def hold(variants: Sequence[Variant], module: str, settings: dict[str, Any], effort: Effort, one_by_one: bool,
         after: Callable[[list[Worker]], None] = lambda workers: None) -> list[Measured]:
    """What was found about each variant, in their order. after: what else the workers are asked, once measured."""
    groups = [[variant] for variant in variants] if one_by_one else [list(variants)]
    found = []
    for group in groups:
        workers = [worker_of(variant, module, settings) for variant in group]
        with started(workers) as ready:
            pass_on_notes(ready)
            results = {result.name: result for result in measure(ready, effort)} if ready else {}
            pass_on_notes(ready)
            after([worker for worker in ready if worker.failure is None])
        found += [results.get(worker.name, Measured(worker.name, failure=worker.failure)) for worker in workers]
    return found


def pass_on_notes(workers: Sequence[Worker]) -> None:
    for worker in workers:
        for line in worker.news()[:MOST_NOTES]:
            click.echo(f"{worker.name}: {line}", err=True)


def common_settings(device: torch.device, **others: Any) -> dict[str, Any]:
    return {"device": str(device), **others}
