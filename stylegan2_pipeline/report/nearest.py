"""Generated images beside the training images nearest to them, and those most and least like the data."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from metrics.detectors.pixels32 import reduced_pixels
from metrics.diversity import embed, mirrored
from metrics.neighbours import K, overlap, realism
from stylegan2_pipeline.dataset import ImageDataset
from stylegan2_pipeline.history import RunHistory
from stylegan2_pipeline.progress import progress
from stylegan2_pipeline.report.pictures import STRIP_CELL, Picture, Sets, sheet
from torch_utils.errors import UserError

MOST = 4096  # training images that are searched
SHOWN = 6
QUANTILE = 0.01
_BATCH = 64


@dataclass(frozen=True)
class Nearest:
    """figures: (what it is, value, where it would be ideal); pairs: generated above the nearest training image."""

    figures: list[tuple[str, float, float]]
    most_real: Picture
    least_real: Picture
    pairs: Picture | None = None
    words: str = ""


def nearest_of(sets: Sets, history: RunHistory, problems: list[str]) -> Nearest | None:
    """None for fewer images than neighbourhoods need. The training images are looked at where the data is here."""
    if len(sets.real) <= K + 1:
        return None
    real, fake = rows_of(sets.real), rows_of(sets.fake)
    found = overlap(real, fake)
    figures = [("Precision", found.precision, 1.0), ("Recall", found.recall, 1.0), ("Density", found.density, 1.0),
               ("Coverage", found.coverage, 1.0), ("Told apart by the nearest neighbour", found.told_apart, 0.5)]
    order = realism(real, fake).argsort(descending=True).numpy()
    most, least = (sheet(sets.fake[chosen], SHOWN, alt, STRIP_CELL) for chosen, alt in
                   ((order[:SHOWN], "The images most like the data"), (order[-SHOWN:], "Those least like it")))
    pairs, words = beside_training_images(sets.fake, history, problems)
    return Nearest(figures, most, least, pairs, words)


def rows_of(images: np.ndarray) -> Tensor:
    """Images uint8 [N,C,R,R] as rows [N,D] of length 1, whose distances follow the correlation at 32 pixels."""
    batches = (images[i:i + _BATCH] for i in range(0, len(images), _BATCH))
    return embed(reduced_pixels(batches, torch.device("cpu")))


def beside_training_images(fake: np.ndarray, history: RunHistory, problems: list[str]) -> tuple[Picture | None, str]:
    """The generated images that are nearest to a training image, mirrored or not, above it; and what that means."""
    data = Path(str(history.settings.get("data", "")))
    if not history.settings.get("data") or not data.exists():
        return None, ""
    try:
        dataset = ImageDataset(data, max_images=history.settings.get("subset"),
                               seed=int(history.settings.get("seed") or 0))
        numbers = np.random.RandomState(0).permutation(dataset.n_raw)[:MOST]
        training = np.stack([dataset.image(int(i)) for i in progress(numbers, len(numbers), "Nearest images")])
    except UserError as error:
        problems.append(f"No training images are shown beside generated ones: {error.format_message()}")
        return None, ""
    if training.shape[1:] != fake.shape[1:] or len(training) < 3:
        return None, ""
    return compare(fake, training, dataset.n_raw)


def compare(fake: np.ndarray, training: np.ndarray, in_all: int) -> tuple[Picture, str]:
    """fake [M,C,R,R] against training [N,C,R,R], of in_all images: the pairs, and the sentence below them."""
    rows, channels = rows_of(training), training.shape[1]
    both = torch.cat([rows, mirrored(rows, channels)])
    own = torch.cdist(rows, both)  # the same search among the training images, each left out of its own
    own[torch.arange(len(rows)), torch.arange(len(rows))] = torch.inf
    usual = own[:, :len(rows)].minimum(own[:, len(rows):].fill_diagonal_(torch.inf)).amin(1)
    limit = usual.quantile(QUANTILE).item()
    distance, place = torch.cdist(rows_of(fake), both).min(1)
    order = distance.argsort()[:SHOWN].tolist()
    partners = [training[n % len(rows)][..., ::-1] if (n := int(place[i])) >= len(rows) else training[n] for i in order]
    pairs = sheet(np.concatenate([fake[order], np.stack(partners)]), len(order),
                  "Generated images above the nearest training image", STRIP_CELL)
    near = int((distance < limit).sum())
    searched = f"{len(training)} of {in_all}" if len(training) < in_all else f"all {in_all}"
    times = (distance[order] / usual.median()).tolist()
    words = (f"{near} of {len(fake)} generated images are nearer to a training image than {100 * (1 - QUANTILE):g} % "
             f"of training images are to another one, where {100 * QUANTILE:g} % would be by chance. Those shown have "
             f"{', '.join(f'{value:.2f}' for value in times)} of the median distance between neighbours in the data. "
             f"Searched: {searched} training images, mirrored ones too, by their correlation at 32 pixels. That finds "
             f"plain copies; it does not show that nobody can be recognised.")
    return pairs, words
