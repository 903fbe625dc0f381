"""What the search for copies of training images found, in files: figures, a table, pictures, a page, a list."""

import csv
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from metrics.memorization.findings import Findings, Pair
from stylegan2_pipeline.report.charts import finite
from stylegan2_pipeline.report.copies import copies_page
from stylegan2_pipeline.report.copy_pictures import duplicates_sheet, histogram, pairs_sheet
from torch_utils.files import atomic_path

COLUMNS = ("generated", "training_image", "distance", "nndr", "mirrored", "turned", "down", "right", "flagged", "copy",
           "correlation", "ms_ssim", "second_image", "second_distance")


def write_findings(findings: Findings, folder: Path) -> list[Path]:
    """Writes memorization.html, .json, .png, pairs.csv, pairs.png, flagged.txt, and duplicates.png where there are any.

    Each appears whole or not at all; what an earlier search left under these names is replaced or removed. Raises
    UserError when the folder cannot be written to.
    """
    written = [
        _write(folder / "memorization.html", copies_page(findings)),
        _write(folder / "memorization.json", json.dumps(as_document(findings), indent=2) + "\n"),
        _save(folder / "memorization.png", histogram(findings)),
        _write(folder / "pairs.csv", as_table(findings)),
        _save(folder / "pairs.png", pairs_sheet(findings.shown)),
        _write(folder / "flagged.txt", flagged_list(findings)),
    ]
    duplicates = folder / "duplicates.png"
    if findings.duplicates:
        return [*written, _save(duplicates, duplicates_sheet(findings.duplicates))]
    duplicates.unlink(missing_ok=True)
    return written


def as_document(findings: Findings) -> dict[str, Any]:
    """Everything but pictures, for other programs; what is no number is null."""
    return finite({
        "verdict": findings.verdict,
        "alarm": findings.alarm,
        "notes": list(findings.notes),
        "results": dict(findings.results),
        "intervals": {key: list(pair) for key, pair in findings.intervals.items()},
        "counts": dict(findings.counts),
        "settings": dict(findings.about),
        "threshold": asdict(findings.limit),
        "weaker": findings.weaker,
        "planted": [{"disguise": name, "planted": planted, "found": found}
                    for name, planted, found in findings.control],
        "distances": {"generated": [pair.distance for pair in findings.pairs], "unseen": findings.unseen.tolist(),
                      "planted": findings.planted.tolist()},
        "flagged": [asdict(pair) for pair in findings.flagged],
        "duplicates": [list(group.names) for group in findings.duplicates],
    })


def as_table(findings: Findings) -> str:
    """All generated images, the nearest to the data first."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(map(_row, findings.pairs))
    return buffer.getvalue()


def _row(pair: Pair) -> list[Any]:
    def number(value: float) -> str:
        return "" if value != value else f"{value:.6g}"
    return [pair.fake_name, pair.real_name, number(pair.distance), number(pair.nndr), int(pair.move.mirror),
            pair.move.turn, pair.move.down, pair.move.right, int(pair.flagged), int(pair.repeated),
            number(pair.correlation), number(pair.similarity), pair.second_name, number(pair.second_distance)]


def flagged_list(findings: Findings) -> str:
    """The generated images to leave out, one a line, the nearest first; the head says what they are."""
    chance = len(findings.pairs) * findings.limit.expected
    head = (f"# Generated images nearer to a training image than the threshold, to be left out of what is given away:\n"
            f"# {len(findings.flagged)}, where {chance:.1f} would be by chance. Not being listed does not mean that "
            f"nobody can be recognised.\n")
    return head + "".join(f"{pair.fake_name}\n" for pair in findings.flagged)


def _write(path: Path, content: str) -> Path:
    with atomic_path(path) as partial:
        partial.write_text(content, encoding="utf-8")
    return path


def _save(path: Path, picture: Image.Image) -> Path:
    with atomic_path(path) as partial:
        picture.save(partial)
    return path
