"""`report`: a run folder in, or two, one web page out."""

from pathlib import Path

import click


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 120})
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("other", type=click.Path(path_type=Path), required=False)
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE.html",
              help="The page.  [default: report.html in RUN; of two runs compare-A-B.html beside RUN]")
@click.option("--json", "as_json", is_flag=True, help="The figures as JSON too, beside the page.")
@click.option("--csv", "as_csv", is_flag=True, help="The curves as CSV too, beside the page.")
@click.option("--images/--no-images", default=True, help="Pictures in the page; without them only figures and words.")
@click.option("--samples/--no-samples", default=True, help="Make new images from the best network.")
@click.option("--difficulty/--no-difficulty", default=True,
              help="Describe the data, where it is still there; kept in the run folder as difficulty.json.")
@click.option("--frames", type=click.IntRange(min=2, max=48), default=24, help="Moments in time to show, at most.")
@click.option("--device", metavar="NAME", help="To make new images on: cpu, cuda, ...  [default: cuda if there]")
@click.option("--open", "open_page", is_flag=True, help="Open the page in the browser.")
def command(run: Path, other: Path | None, out: Path | None, as_json: bool, as_csv: bool, images: bool, samples: bool,
            difficulty: bool, frames: int, device: str | None, open_page: bool) -> None:
    """Report on a training run, or compare two, in one web page.

    RUN and OTHER are folders made by train.py, or by the public stylegan2-ada-pytorch and stylegan3 code. The page
    holds all it needs and loads nothing: it can be mailed, printed, and read without a network. It contains images
    that may be private, unless --no-images.

    \b
    Examples:
      stylegan2 report training-runs/00000-mri-auto1
      stylegan2 report training-runs/00000-mri-auto1 training-runs/00001-cigarette-auto1 --json --csv
    """
    from stylegan2_pipeline.report.run import Wanted
    from stylegan2_pipeline.report.write import report

    wanted = Wanted(pictures=images, samples=samples, difficulty=difficulty, frames=frames, device=device)
    written = report(run, other, out=out, wanted=wanted, as_json=as_json, as_csv=as_csv)
    for path in written:
        click.echo(path)
    if open_page:
        click.launch(str(written[0]))
