"""`python -m benchmarks.gpu`: what a machine with a GPU should be asked: the tests for it, then every benchmark."""

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import torch

from benchmarks.turns import ROOT
from benchmarks.variants import checked_reference
from torch_utils.errors import UserError
from torch_utils.text import format_time
from torch_utils.timing import describe

TRAIN = ["-m", "benchmarks.train", "--device=cuda", "--seconds=2"]
SAMPLE = ["-m", "benchmarks.sample", "--device=cuda", "--seconds=2"]
OPS = ["-m", "benchmarks.ops", "--device=cuda", "--batch=16", "--precision=fp16", "--seconds=0.05"]
INCEPTION = ["-m", "benchmarks.metrics", "--parts=inception", "--device=cuda", "--seconds=4"]
LONGEST_STEP = 300  # seconds, so that one that hangs does not take the time of all others
GRAPHS = "ours,ours:cuda_graphs=true,ours:precision=bf16,ours:precision=bf16;cuda_graphs=true"
GRAPHED = ("--warmup=40", f"--variants={GRAPHS}")  # so many that most graphs are recorded before anything is timed
PRECISIONS = "ours,ours:precision=bf16,ours:precision=fp32,ours:precision=fp32;allow_tf32=true"


@dataclass(frozen=True)
class Step:
    """One thing to find out. outputs: by the file's ending, arguments of Python whose standard output goes there."""

    name: str
    outputs: Mapping[str, Sequence[str]]


def steps(folder: Path, reference: Path | None) -> list[Step]:
    """The most wanted first, because time may run out."""
    public = [f"--reference={reference}"] if reference else []

    def train(name: str, *options: str) -> Step:
        return Step(name, {"md": [*TRAIN, *options, f"--save={folder / name}.json"]})

    def sample(name: str, *options: str) -> Step:
        return Step(name, {"md": [*SAMPLE, *options, f"--save={folder / name}.json"]})

    return [
        Step("tests", {"txt": ["-m", "pytest", "-m", "gpu"]}),
        train("train-512", "--resolution=512", "--batch=16", "--limit", f"--profile={folder}", *public),
        Step("ops", {"json": [*OPS, "--json"], "md": OPS}),
        train("train-256-graphs", "--resolution=256", *GRAPHED),
        train("train-512-graphs", "--resolution=512", "--batch=16", *GRAPHED),
        train("train-256", "--resolution=256", "--limit", *public),
        train("train-512-cycle", "--resolution=512", "--batch=16", "--cycle", "--repeats=2", "--warmup=1",
              "--variants=ours,plain" + ",nvlabs,nvlabs-best" * bool(reference), *public),
        sample("sample-512", "--resolution=512", "--batches=1,16", *public),
        train("train-256-gray", "--resolution=256", "--channels=1", "--variants=ours,reference-ops,plain"),
        train("train-512-precisions", "--resolution=512", "--batch=16", f"--variants={PRECISIONS}"),
        sample("sample-1024", "--resolution=1024", "--batches=1,8", "--variants=ours,batches,plain"),
        train("train-1024", "--cfg=stylegan2", "--resolution=1024", "--batch=8", "--variants=ours,plain", "--limit"),
        Step("inception", {"json": [*INCEPTION, "--json"], "md": INCEPTION}),
    ]


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--outdir", type=click.Path(file_okay=False, path_type=Path), default=Path("bench-gpu"),
              help="Where all results go.")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=15.0,
              help="What is not done by then is given up.")
@click.option("--reference", type=click.Path(path_type=Path), metavar="DIR",
              help="A checkout of the public stylegan2-ada-pytorch, to measure it too.")
def main(outdir: Path, minutes: float, reference: Path | None) -> None:
    """Run the tests that need a CUDA device, then all benchmarks on it, each into files of its own.

    Markdown, JSON, a trace, and what was written to standard error lie in one folder; all.md has the tables together.

    \b
    Examples:
      python -m benchmarks.gpu
      python -m benchmarks.gpu --outdir=h200 --minutes=10 --reference=../stylegan2-ada-pytorch
    """
    if not torch.cuda.is_available():
        raise UserError("There is no CUDA device here; python -m benchmarks.train and the others measure the CPU.")
    reference = checked_reference(reference)
    outdir.mkdir(parents=True, exist_ok=True)
    outdir = outdir.resolve()
    click.echo(f"{describe(torch.device('cuda'))}; results in {outdir}")
    if not do_all(steps(outdir, reference), outdir, minutes * 60):
        raise SystemExit(1)


def do_all(todo: Sequence[Step], folder: Path, seconds: float) -> bool:
    """Whether everything could be done; says of each step how it went, and gathers the tables in all.md."""
    deadline, well = time.monotonic() + seconds, True
    for step in todo:
        began = time.monotonic()
        problem = do(step, folder, deadline)
        well = well and not problem
        click.echo(f"{step.name}: {problem or 'done'} ({format_time(time.monotonic() - began)})")
    tables = [f"# {path.stem}\n\n{path.read_text()}" for step in todo if (path := folder / f"{step.name}.md").exists()]
    (folder / "all.md").write_text("\n".join(tables))
    return well


def do(step: Step, folder: Path, deadline: float) -> str:
    """What went wrong, if anything."""
    with (folder / f"{step.name}.log").open("w") as log:
        for ending, args in step.outputs.items():
            left = min(deadline - time.monotonic(), LONGEST_STEP)
            if left <= 0:
                return "no time was left"
            with (folder / f"{step.name}.{ending}").open("w") as output:
                try:
                    code = subprocess.run([sys.executable, *args], cwd=ROOT, stdout=output, stderr=log,
                                          timeout=left, check=False).returncode
                except subprocess.TimeoutExpired:
                    return f"not done after {format_time(left)}"
            if code:
                return f"exit code {code}; see {log.name}"
    return ""


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.gpu")
