"""`doctor`: what this machine has, what the operators run on it, and what to mend."""

import click


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 120})
@click.option("--device", type=click.Choice(["cpu", "cuda"]),
              help="Look at its operators alone; it must be there.  [default: all that is there]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def command(device: str | None, as_json: bool) -> None:
    """Say whether everything is well: versions, GPU, CPU, compilers, cache, and the native operators.

    The operators are compiled if they are not yet, tested against the pure-torch reference, and timed against it.
    Ends with code 1 where something that was asked for does not hold: a cache that can be written, the native operators
    where STYLEGAN2_OPS=native, a GPU where --device=cuda. That pure torch runs in place of them is a warning.

    \b
    Examples:
      stylegan2 doctor
      # In a script: stops where the GPU or its native operators are not there.
      STYLEGAN2_OPS=native stylegan2 doctor --device=cuda --json
    """
    from stylegan2_pipeline import doctor

    sections = []
    for section in doctor.examine(device):
        sections.append(section)
        if not as_json:
            click.echo(doctor.rendered(section) + "\n")
    click.echo(doctor.as_json(sections) if as_json else doctor.verdict(sections))
    if not doctor.holds(sections):
        raise SystemExit(1)
