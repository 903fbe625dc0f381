"""`python -m stylegan2_pipeline VERB`, the same as the console script `stylegan2 VERB`."""

import importlib

import click

from stylegan2_pipeline import __version__

VERBS = {  # verb -> (module in stylegan2_pipeline.commands, one line of help)
    "dataset":     ("dataset",     "Turn a folder or zip of images into a training archive."),
    "train":       ("train",       "Train a StyleGAN2-ADA generator on an archive."),
    "generate":    ("generate",    "Make images from a trained network."),
    "metrics":     ("metrics",     "Measure how close a network's images are to the data."),
    "report":      ("report",      "Report on a training run, or compare two, in one web page."),
    "timelapse":   ("timelapse",   "Make a film of a run from its grids of pictures."),
    "sample-data": ("sample_data", "Make procedural sample images to try the pipeline on."),
    "augment":     ("augment",     "Show what the augmentation pipeline does to images."),
    "demo":        ("demo",        "Run the whole pipeline on sample data, from images to numbers."),
    "doctor":      ("doctor",      "Say whether everything is well, and what to mend."),
    "build-ops":   ("build_ops",   "Compile the native operators ahead of time."),
}


class LazyGroup(click.Group):
    """Imports a verb's module only when that verb runs, so that help is instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        return importlib.import_module(f"stylegan2_pipeline.commands.{VERBS[cmd_name][0]}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(verb, text) for verb, (_, text) in VERBS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
def main() -> None:
    """From a folder of images to a trained StyleGAN2-ADA generator, its pictures and its quality numbers."""


if __name__ == "__main__":
    main(prog_name="stylegan2")
