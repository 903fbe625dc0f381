"""Pictures of what the augmentations do: every operation across its range, and random draws."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from stylegan2_pipeline.augment import AUGPIPES, OPERATIONS, AugmentPipe
from stylegan2_pipeline.augment_draws import Draws
from stylegan2_pipeline.dataset import ImageDataset
from stylegan2_pipeline.images import to_pil, to_uint8
from torch_utils.files import atomic_path
from torch_utils.seeding import derive_seed

QUANTILES = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)
DRAWS = 7
TILE = (64, 192)  # least and most pixels of an image on a sheet
GAP, HEADING = 4, 18
PAPER, INK = (255, 255, 255), (40, 40, 40)


def write_sheets(data: Path, outdir: Path, *, augpipe: str, p: float, count: int, seed: int) -> Iterator[Path]:
    """Write augment-percentiles.png and augment-random.png of up to `count` images; yields their paths."""
    dataset = ImageDataset(data, max_images=count, seed=seed)
    images = np.stack([dataset.image(i) for i in range(len(dataset))])
    operations = dict(AUGPIPES[augpipe])
    if images.shape[1] == 1:  # nothing to see of these in gray
        operations = {name: weight for name, weight in operations.items() if name not in ("hue", "saturation")}
    sheets = {
        "augment-percentiles.png": lambda: percentile_sheet(images[0], operations),
        "augment-random.png": lambda: random_sheet(images, operations, p, seed),
    }
    for name, sheet in sheets.items():
        with atomic_path(outdir / name) as partial:
            sheet().save(partial)
        yield outdir / name


def percentile_sheet(image: np.ndarray, operations: Mapping[str, float]) -> Image.Image:
    """A row for each enabled operation and one for all together, a column for each of QUANTILES.

    image: uint8 [C,H,W]. Operations that a gray image does not undergo show the image as it is.
    """
    enabled = [name for name in OPERATIONS if operations.get(name, 0) > 0]
    rows = {name: AugmentPipe({name: 1.0}) for name in enabled}
    if len(enabled) > 1:
        rows["all"] = AugmentPipe(dict.fromkeys(enabled, 1.0))

    def cell(row: str, column: str) -> np.ndarray:
        return _augmented(image, rows[row], 1.0, rows[row].percentile_draws(1, float(column), image.shape))

    return _sheet(list(rows), [f"{q:g}" for q in QUANTILES], cell)


def random_sheet(images: np.ndarray, operations: Mapping[str, float], p: float, seed: int) -> Image.Image:
    """A row for each of the uint8 images [N,C,H,W]: the original, then DRAWS draws at probability p."""
    pipe = AugmentPipe(operations)

    def cell(row: str, column: str) -> np.ndarray:
        image = images[int(row)]
        if column == "original":
            return image
        generator = torch.Generator().manual_seed(derive_seed(seed, "augment", int(row), int(column)))
        return _augmented(image, pipe, p, pipe.draw([generator], image.shape))

    return _sheet([str(i) for i in range(len(images))], ["original", *map(str, range(1, DRAWS + 1))], cell)


def _augmented(image: np.ndarray, pipe: AugmentPipe, p: float, draws: Draws) -> np.ndarray:
    x = torch.from_numpy(image[None]).float() / 127.5 - 1
    return to_uint8(pipe(x, p, draws))[0].numpy()


def _sheet(rows: list[str], columns: list[str], cell: Callable[[str, str], np.ndarray]) -> Image.Image:
    """Cells with a heading over each column and beside each row."""
    tiles = [[_tile(cell(row, column)) for column in columns] for row in rows]
    side = tiles[0][0].width
    font = ImageFont.load_default()
    left = max(int(font.getlength(row)) for row in rows) + 2 * GAP
    sheet = Image.new("RGB", (left + len(columns) * (side + GAP), HEADING + len(rows) * (side + GAP)), PAPER)
    ink = ImageDraw.Draw(sheet)
    for k, column in enumerate(columns):
        ink.text((left + k * (side + GAP) + side // 2, HEADING // 2), column, INK, font, anchor="mm")
    for r, row in enumerate(rows):
        y = HEADING + r * (side + GAP)
        ink.text((GAP, y + side // 2), row, INK, font, anchor="lm")
        for k, tile in enumerate(tiles[r]):
            sheet.paste(tile, (left + k * (side + GAP), y))
    return sheet


def _tile(image: np.ndarray) -> Image.Image:
    """RGB at a size to look at; what is transparent shows the paper."""
    tile = to_pil(image).convert("RGBA")
    tile = Image.alpha_composite(Image.new("RGBA", tile.size, PAPER), tile).convert("RGB")
    least, most = TILE
    if tile.width > most:
        return tile.resize((most, most), Image.Resampling.LANCZOS)
    zoom = -(-least // tile.width)
    return tile.resize((tile.width * zoom, tile.height * zoom), Image.Resampling.NEAREST)
