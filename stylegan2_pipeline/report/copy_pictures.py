"""Pictures of the search for copies: the histogram of distances, the closest pairs, and duplicates in the data."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from metrics.memorization.findings import Findings, Pair, SameImages, Shown
from stylegan2_pipeline.report.charts import Axis, short, ticks

CELL = 192           # pixels of an image on a sheet
GAP = 8
WORDS = 470          # pixels of the words beside a pair
SHOWN_NAME = 46      # letters of a name; of a longer one the end is shown
BINS = 50
PAPER, INK, SOFT, LINE = "#ffffff", "#1d2329", "#59636e", "#d5dae0"
FAKE, UNSEEN, COPIES = "#0072b2", "#8a939c", "#d55e00"
COLUMNS = ("generated", "nearest in the data,\nmoved to match", "difference, brightness\nand contrast matched",
           "next other image\nin the data")


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def bins(findings: Findings) -> np.ndarray:
    """Edges from 0 to the largest distance of generated and unseen images."""
    largest = max(max(pair.distance for pair in findings.pairs), float(findings.unseen.max()), findings.limit.tau)
    return np.linspace(0, largest * 1.02 or 1.0, BINS + 1)


def shares(distances: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Per cent of the distances in each bin."""
    return 100 * np.histogram(distances, edges)[0] / len(distances)


def histogram(findings: Findings, size: tuple[int, int] = (1000, 520)) -> Image.Image:
    """How far generated images, and images never trained on, are from the data; planted copies below."""
    picture = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(picture)
    edges = bins(findings)
    fake = shares(np.array([pair.distance for pair in findings.pairs]), edges)
    unseen = shares(findings.unseen, edges)
    x_axis = Axis(0.0, float(edges[-1]), 70, size[0] - 25)
    y_axis = Axis(0.0, float(max(fake.max(), unseen.max())) * 1.1, size[1] - 95, 60)
    _axes(draw, x_axis, y_axis)
    for i in range(BINS):
        draw.rectangle((x_axis(edges[i]), y_axis(unseen[i]), x_axis(edges[i + 1]), y_axis(0)), fill="#cfd4d9")
    outline = [(x_axis(edges[i + side]), y_axis(fake[i])) for i in range(BINS) for side in (0, 1)]
    draw.line(outline, fill=FAKE, width=3, joint="curve")
    for distance in findings.planted[findings.planted <= edges[-1]]:
        x = x_axis(float(distance))
        draw.line((x, y_axis(0) + 4, x, y_axis(0) + 16), fill=COPIES, width=2)
    _threshold(draw, x_axis(findings.limit.tau), y_axis, findings)
    kind = "training images left out" if findings.weaker else "holdout images"
    _legend(draw, size, [(FAKE, f"{len(findings.pairs)} generated images"), (UNSEEN, f"{len(findings.unseen)} {kind}"),
                         (COPIES, f"{len(findings.planted)} planted copies")])
    return picture


def _axes(draw: ImageDraw.ImageDraw, x_axis: Axis, y_axis: Axis) -> None:
    for value in ticks(y_axis):
        y = y_axis(value)
        draw.line((x_axis.start, y, x_axis.end, y), fill=LINE)
        draw.text((x_axis.start - 8, y), f"{short(value)} %", fill=SOFT, font=font(15), anchor="rm")
    base = y_axis(0)
    draw.line((x_axis.start, base, x_axis.end, base), fill=SOFT, width=2)
    for value in ticks(x_axis, 10):
        draw.text((x_axis(value), base + 20), short(value), fill=SOFT, font=font(15), anchor="mt")


def _threshold(draw: ImageDraw.ImageDraw, x: float, y_axis: Axis, findings: Findings) -> None:
    for top in range(int(y_axis.end) - 10, int(y_axis(0)), 10):
        draw.line((x, top, x, top + 5), fill=INK, width=2)
    words = f"flagged: {len(findings.flagged)}, by chance {len(findings.pairs) * findings.limit.expected:.1f}"
    room = draw.textlength(words, font(15)) + 8
    draw.text((x - 8, y_axis.end - 6) if x - room > 70 else (x + 8, y_axis.end - 6), words, fill=INK, font=font(15),
              anchor="rm" if x - room > 70 else "lm")


def _legend(draw: ImageDraw.ImageDraw, size: tuple[int, int], items: Sequence[tuple[str, str]]) -> None:
    draw.text((size[0] - 25, size[1] - 34), "distance to the nearest training image", fill=SOFT, font=font(15),
              anchor="rm")
    x = 70.0
    for color, words in items:
        draw.rectangle((x, 16, x + 22, 30), fill=color)
        draw.text((x + 30, 23), words, fill=INK, font=font(16), anchor="lm")
        x += 60 + draw.textlength(words, font(16))


def pairs_sheet(shown: Sequence[Shown]) -> Image.Image:
    """A row for each pair: generated, nearest in the data, their difference, the next other image, and the figures."""
    top = 46
    width = 4 * (CELL + GAP) + WORDS
    picture = Image.new("RGB", (width, top + len(shown) * (CELL + GAP)), PAPER)
    draw = ImageDraw.Draw(picture)
    for column, words in enumerate(COLUMNS):
        draw.multiline_text((column * (CELL + GAP) + 4, 6), words, fill=SOFT, font=font(14), spacing=2)
    for row, look in enumerate(shown):
        y = top + row * (CELL + GAP)
        fake, real = _over_gray(look.fake), _over_gray(look.real)
        difference = np.abs(fake - matched(real, fake)).round().astype(np.uint8)
        second = None if look.second is None else _over_gray(look.second)
        for column, image in enumerate((fake, real, difference, second)):
            if image is not None:
                picture.paste(_cell(image), (column * (CELL + GAP), y))
        _write_pair(draw, 4 * (CELL + GAP) + 6, y, look.pair)
    return picture


def _write_pair(draw: ImageDraw.ImageDraw, x: int, y: int, pair: Pair) -> None:
    kind = ("copy", COPIES) if pair.repeated else ("near", FAKE) if pair.flagged else ("not flagged", SOFT)
    draw.text((x, y + 2), kind[0], fill=kind[1], font=font(17))
    lines = [ended(pair.fake_name), f"in the data: {ended(pair.real_name)}", f"moved: {moved(pair)}",
             f"distance {pair.distance:.3f}, {pair.nndr:.2f} of that to the next 50",
             f"correlation {pair.correlation:.3f}, MS-SSIM {pair.similarity:.3f}",
             f"next: {ended(pair.second_name)}" if pair.second is not None else ""]
    for i, words in enumerate(lines):
        draw.text((x, y + 32 + 22 * i), words, fill=INK if i < 2 else SOFT, font=font(14))


def moved(pair: Pair) -> str:
    """What brings the generated image onto the training image, in words."""
    move = pair.move
    parts = ["mirrored"] if move.mirror else []
    parts += [f"turned {abs(move.turn):g} degrees {'left' if move.turn > 0 else 'right'}"] if move.turn else []
    parts += [_pixels(move.down, "down", "up")] if move.down else []
    parts += [_pixels(move.right, "right", "left")] if move.right else []
    return ", ".join(parts) or "not"


def _pixels(count: float, positive: str, negative: str) -> str:
    return f"{abs(count):g} pixel{'s' * (abs(count) > 1)} {positive if count > 0 else negative}"


def ended(name: str, most: int = SHOWN_NAME) -> str:
    """A name, or the end of a long one."""
    return name if len(name) <= most else "..." + name[-most + 3:]


def duplicates_sheet(groups: Sequence[SameImages]) -> Image.Image:
    """A row for each group: its images, and their names."""
    size = CELL // 2 + 32
    columns = max(len(group.images) for group in groups)
    left = columns * (size + GAP)
    picture = Image.new("RGB", (left + WORDS, len(groups) * (size + GAP) + GAP), PAPER)
    draw = ImageDraw.Draw(picture)
    for row, group in enumerate(groups):
        y = GAP + row * (size + GAP)
        for column, image in enumerate(group.images):
            picture.paste(_cell(_over_gray(image), size), (column * (size + GAP), y))
        draw.text((left + 6, y), f"{len(group.names)} times", fill=INK, font=font(15))
        for i, name in enumerate(group.names[:4]):
            draw.text((left + 6, y + 22 + 19 * i), ended(name), fill=SOFT, font=font(14))
        if len(group.names) > 4:
            draw.text((left + 6, y + 22 + 19 * 4), f"and {len(group.names) - 4} more", fill=SOFT, font=font(14))
    return picture


def matched(image: np.ndarray, target: np.ndarray) -> np.ndarray:
    """float64, the image [S,S,3] with the brightness and contrast by which it is nearest to the target: as the search
    does not see them, the difference should not show them."""
    x, y = image.astype(np.float64), target.astype(np.float64)
    spread = np.square(x - x.mean()).sum()
    gain = max(float(((x - x.mean()) * (y - y.mean())).sum() / spread), 0.0) if spread else 0.0
    return np.clip((x - x.mean()) * gain + y.mean(), 0, 255)


def _over_gray(image: np.ndarray) -> np.ndarray:
    """uint8 [C,S,S] as [S,S,3]; what is transparent is gray."""
    x = image.transpose(1, 2, 0)
    if x.shape[2] == 4:
        alpha = x[:, :, 3:].astype(np.float32) / 255
        return (x[:, :, :3] * alpha + 128 * (1 - alpha) + 0.5).astype(np.uint8)
    return np.repeat(x, 3, axis=2) if x.shape[2] == 1 else x


def _cell(image: np.ndarray, size: int = CELL) -> Image.Image:
    """uint8 [S,S,3] in a square of `size` pixels; small images by whole numbers, so that their pixels are seen."""
    picture = Image.fromarray(np.ascontiguousarray(image))
    times = math.floor(size / picture.width)
    if times < 2:
        return picture.resize((size, size), Image.Resampling.LANCZOS)
    enlarged = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    cell = Image.new("RGB", (size, size), PAPER)
    cell.paste(enlarged, ((size - enlarged.width) // 2, (size - enlarged.height) // 2))
    return cell
