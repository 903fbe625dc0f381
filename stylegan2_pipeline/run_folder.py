"""The folder of a training run: its name tells the settings that differ from the defaults."""

import re
from collections.abc import Iterable
from pathlib import Path

from torch_utils.errors import UserError


def run_name(data: str, parts: Iterable[str]) -> str:
    """E.g. sigara-mirror-auto1-kimg500-batch16."""
    return "-".join([re.sub(r"[^A-Za-z0-9_.]+", "_", data), *parts])


def make_run_folder(outdir: str | Path, name: str) -> Path:
    """Makes outdir/<5-digit id>-<name>, with the id one above the highest there. Raises UserError naming --outdir."""
    outdir = Path(outdir)
    try:
        outdir.mkdir(parents=True, exist_ok=True)
        while True:
            ids = [int(match[1]) for path in outdir.iterdir() if (match := re.match(r"(\d{5,})(-|$)", path.name))]
            folder = outdir / f"{max(ids, default=-1) + 1:05d}-{name}"
            try:
                folder.mkdir()
                return folder
            except FileExistsError:
                continue  # another run took this id in the meantime
    except OSError as error:
        raise UserError(f"--outdir: cannot make a run folder in {outdir}: {error.strerror}. Choose another "
                        f"--outdir.") from error
