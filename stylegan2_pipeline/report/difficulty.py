"""How hard the data of a run is: measured once while the data is there, then kept in the run's folder."""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stylegan2_pipeline.dataset import ImageDataset
from stylegan2_pipeline.difficulty import Difficulty, describe_dataset
from stylegan2_pipeline.history import RunHistory, read_object
from stylegan2_pipeline.images import image_grid, save_image
from stylegan2_pipeline.report.charts import finite
from stylegan2_pipeline.report.pictures import CELL, Picture, UnreadablePicture, read_grid, sheet
from torch_utils.errors import UserError
from torch_utils.files import atomic_path

NUMBERS, PICTURES = "difficulty.json", "difficulty.png"
LABELS = {  # attribute of Difficulty -> what it is
    "images":       "Images",
    "examined":     "Images looked at",
    "effective":    "Of those, no copies of another one",
    "exact_copies": "Exact copies (mirrored ones too)",
    "near_copies":  "Near copies",
    "vendi":        "Different images by the Vendi score",
    "vendi_share":  "Vendi score an image",
    "ms_ssim":      "MS-SSIM of random pairs (1: alike)",
    "dimension":    "Intrinsic dimension (TwoNN)",
    "sharpness":    "Sharpness that the mean image keeps",
    "kind":         "In a word",
}


@dataclass(frozen=True)
class Described:
    """average: the mean image beside twice the standard deviation."""

    difficulty: Difficulty
    average: Picture | None


def difficulty_of(history: RunHistory, problems: list[str]) -> Described | None:
    """From the run's folder, or measured (minutes for large data) and kept there; None, and why, without the data."""
    data = Path(str(history.settings.get("data", "")))
    found = data if history.settings.get("data") and data.exists() else None
    kept = _kept(history.path, found)
    if kept is not None:
        return kept
    if found is None:
        problems.append(f"The data was not described, because {data} is not here.")
        return None
    try:
        described = _measure(history, found)
    except UserError as error:
        problems.append(f"The data was not described: {error.format_message()}")
        return None
    with contextlib.suppress(UserError, OSError):  # of a folder that may only be read
        _keep(described, history.path, found)
    return _with_picture(described)


def _measure(history: RunHistory, data: Path) -> Difficulty:
    settings = history.settings
    dataset = ImageDataset(data, max_images=settings.get("subset"), seed=int(settings.get("seed") or 0))
    try:
        if settings.get("resolution") not in (None, dataset.resolution):
            raise UserError(f"{data} holds images of {dataset.resolution} pixels now, the run was trained on "
                            f"{settings['resolution']}.")
        return describe_dataset(dataset)
    finally:
        dataset.close()


def _state(data: Path) -> list[int]:
    """What changes when a file, or the list of a folder, does."""
    about = data.stat()
    return [about.st_size if data.is_file() else 0, about.st_mtime_ns]


def _kept(folder: Path, data: Path | None) -> Described | None:
    """What was measured before; of data that is here only if it did not change since."""
    record = read_object(folder / NUMBERS)
    if "difficulty" not in record or (data is not None and record.get("data_state") != _state(data)):
        return None
    try:
        difficulty = Difficulty.from_json(json.dumps(record["difficulty"]))
    except (TypeError, ValueError, KeyError):
        return None  # of another version
    try:
        images = read_grid(folder / PICTURES, difficulty.resolution).images
    except UnreadablePicture:
        return Described(difficulty, None)
    return Described(difficulty, _average(images))


def _keep(difficulty: Difficulty, folder: Path, data: Path) -> None:
    assert difficulty.mean_image is not None and difficulty.std_image is not None
    save_image(image_grid(np.stack([difficulty.mean_image, difficulty.std_image]), (2, 1)), folder / PICTURES)
    record = {"difficulty": finite(json.loads(difficulty.to_json())), "data_state": _state(data)}
    with atomic_path(folder / NUMBERS) as partial:
        partial.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _with_picture(difficulty: Difficulty) -> Described:
    assert difficulty.mean_image is not None and difficulty.std_image is not None
    return Described(difficulty, _average(np.stack([difficulty.mean_image, difficulty.std_image])))


def _average(images: np.ndarray) -> Picture:
    return sheet(images, 2, "Mean of the data, and twice its standard deviation", 2 * CELL)


def rows(described: list[Described | None]) -> list[list[object]]:
    """Lines of a table: what it is, then its figure for each run."""
    measured = [found.difficulty if found else None for found in described]
    lines: list[list[object]] = [[label, *(getattr(found, name, None) for found in measured)]
                                 for name, label in LABELS.items()]
    floors = dict.fromkeys(name for found in measured if found for name in found.floors)
    for name in floors:
        lines.append([f"{name} between two halves of the data", *(found.floors.get(name) if found else None
                                                                  for found in measured)])
    return lines
