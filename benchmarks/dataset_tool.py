"""`python -m benchmarks.dataset_tool`: making an archive, against a plain loop over Pillow and zipfile.

What loads torch is imported where it is used: the processes that the tool starts import this module.
"""

import functools
import io
import itertools
import json
import resource
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from stylegan2_pipeline.archive import Archive, ArchiveWriter, pixel_digest
from stylegan2_pipeline.conversion.options import Conversion
from stylegan2_pipeline.conversion.resize import FILTERS
from stylegan2_pipeline.conversion.scan import examined
from stylegan2_pipeline.conversion.transform import Recipe, middle, render
from stylegan2_pipeline.decode import decode_image
from stylegan2_pipeline.encode import encode
from torch_utils.host import cpu_model, keep_freed_memory
from torch_utils.resampling import native

PLAIN = "plain loop"
TORCH_HAS = ("bicubic", "lanczos")  # for bytes, with antialiasing; lanczos since 2.13


@dataclass(frozen=True)
class Photos:
    """A folder of JPEG files, and the square pictures that are to be made of them."""

    folder: Path
    side: int
    resize_filter: str

    @functools.cached_property
    def files(self) -> list[bytes]:
        return [path.read_bytes() for path in sorted(self.folder.iterdir())]


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--images", type=click.IntRange(min=1), default=400, help="Files that are generated.")
@click.option("--width", type=click.IntRange(min=16), default=1024, help="Of the files.")
@click.option("--height", type=click.IntRange(min=16), default=768, help="Of the files.")
@click.option("--resolution", type=click.IntRange(min=4), default=512, help="Of the archive.")
@click.option("--resize-filter", type=click.Choice(list(FILTERS)), default="lanczos", help="Of both.")
@click.option("--workers", default="1,2", help="Numbers of processes, separated by commas.")
@click.option("--repeats", type=click.IntRange(min=1), default=3, help="Of each way, in turns; medians count.")
@click.option("--seconds", type=float, default=5.0, help="Spent on the parts of the work, and as much on resizing.")
@click.option("--json", "as_json", is_flag=True, help="Print a list of rows instead of tables.")
def main(images: int, width: int, height: int, resolution: int, resize_filter: str, workers: str, repeats: int,
         seconds: float, as_json: bool) -> None:
    """Time the making of an archive from JPEG files, with a centre crop and stored PNG files.

    The plain loop decodes, crops, resizes and encodes one file after another with Pillow and puts it into a zip. The
    dataset tool also looks for broken, gray, transparent, turned and copied images, and is timed as a whole, with the
    start of its worker processes; loading Python and its packages counts for neither. That the pixels are the same is
    checked. Then: what an image takes, part by part, in one process; and resizing alone, by Pillow, by the tool and by
    torch, with the largest and the mean difference of pixels from Pillow's.

    \b
    Examples:
      python -m benchmarks.dataset_tool
      python -m benchmarks.dataset_tool --images=2000 --workers=4,8,16
      STYLEGAN2_OPS=reference python -m benchmarks.dataset_tool     # resized by Pillow
    """
    if not all(number.isdecimal() and int(number) for number in workers.split(",")):
        raise click.UsageError(f"--workers={workers} is no list of numbers such as 1,2,4.")
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        photos = Photos(Path(folder) / "photos", resolution, resize_filter)
        make_photos(photos.folder, images, (width, height))
        rows = (archives(photos, Path(folder), [int(number) for number in workers.split(",")], repeats)
                + parts(photos, seconds) + resizing(photos, seconds))
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    click.echo(f"{cpu_model()}; {images} JPEG files of {width}x{height} to {resolution}x{resolution}, {resize_filter}; "
               f"pictures are resized by: {native.summary()}\n")
    for title in dict.fromkeys(row["title"] for row in rows):
        click.echo(table([row for row in rows if row["title"] == title]))


def make_photos(folder: Path, count: int, size: tuple[int, int]) -> None:
    """Of coarse and fine detail in colour, so that files take about 2 bits a pixel, as photographs do."""
    folder.mkdir()
    for number in range(count):
        random = np.random.default_rng(number)
        coarse = Image.fromarray(random.integers(0, 256, (size[1] // 32 + 2, size[0] // 32 + 2, 3), np.uint8))
        pixels = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)).astype(np.int16)
        pixels += random.integers(-8, 9, pixels.shape, np.int16)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number:06d}.jpg", quality=90)


# The whole


def archives(photos: Photos, folder: Path, workers: list[int], repeats: int) -> list[dict[str, Any]]:
    """One row a way of making the archive."""
    ways: dict[str, Callable[[Path], None]] = {PLAIN: functools.partial(by_plain_loop, photos)}
    for number in workers:
        ways[f"dataset tool, {number} process{'es' * (number > 1)}"] = functools.partial(by_tool, photos, number)
    warm_up(photos, folder)
    times: dict[str, list[float]] = {way: [] for way in ways}
    work: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way, make in ways.items():
            dest = folder / "archive.zip"
            start, cpu = time.perf_counter(), cpu_seconds()
            make(dest)
            times[way].append(time.perf_counter() - start)
            work[way].append(cpu_seconds() - cpu)
            if way != PLAIN:
                check_same(photos, dest)
            dest.unlink()
    medians = {way: statistics.median(samples) for way, samples in times.items()}
    count = len(photos.files)
    rows = []
    for way, seconds in medians.items():
        cpu = statistics.median(work[way]) / count * 1e3
        rows.append({"title": "Archives", "way": way, "ms": seconds / count * 1e3, "cpu_ms": cpu,
                     "figure": f"{count / seconds:.0f} images/s, {cpu:.1f} ms of CPU time an image",
                     "ratio": medians[PLAIN] / seconds})
    return rows


def warm_up(photos: Photos, folder: Path) -> None:
    """Loads and compiles what the first conversion of a process needs."""
    few = Photos(folder / "few", photos.side, photos.resize_filter)
    make_photos(few.folder, 2, (photos.side + 9, photos.side + 9))
    by_tool(few, 1, folder / "few.zip")


def cpu_seconds() -> float:
    """Of this process and those that it started and that have ended: on a busy machine it tells more than the time."""
    return sum(usage.ru_utime + usage.ru_stime
               for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def by_plain_loop(photos: Photos, dest: Path) -> None:
    with zipfile.ZipFile(dest, "w", zipfile.ZIP_STORED) as archive:
        for number, path in enumerate(sorted(photos.folder.iterdir())):
            archive.writestr(f"{number // 1000:05d}/img{number:08d}.png",
                             plain_png(plain_resized(plain_cropped(plain_decoded(path.read_bytes())), photos)))
        archive.writestr("dataset.json", json.dumps({"labels": None}))


def by_tool(photos: Photos, workers: int, dest: Path) -> None:
    from stylegan2_pipeline.conversion.convert import convert
    convert(Conversion(photos.folder, dest, width=photos.side, height=photos.side, transform="center-crop",
                       resize_filter=photos.resize_filter, workers=workers), say=lambda line: None)


def check_same(photos: Photos, dest: Path) -> None:
    """Every pixel is that of the plain loop."""
    with Archive(dest) as archive:
        assert len(archive) == len(photos.files)
        for index, data in enumerate(photos.files):
            expected = np.asarray(plain_resized(plain_cropped(plain_decoded(data)), photos))
            assert np.array_equal(archive.read(index).transpose(1, 2, 0), expected), f"image {index} differs"


def plain_decoded(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def plain_cropped(image: Image.Image) -> Image.Image:
    return image.crop(middle(image.size, (1, 1)))


def plain_resized(image: Image.Image, photos: Photos) -> Image.Image:
    return image.resize((photos.side, photos.side), FILTERS[photos.resize_filter])


def plain_png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=0)
    return stream.getvalue()


# Its parts


def parts(photos: Photos, seconds: float) -> list[dict[str, Any]]:
    """One row a part of the work on one image, by the tool and by the plain loop, in one process."""
    data = photos.files[0]
    recipe = Recipe(3, photos.side, photos.side, "center-crop", photos.resize_filter)
    decoded, image = decode_image(data), plain_decoded(data)
    pixels, picture = render(decoded, recipe), plain_resized(plain_cropped(image), photos)
    png = encode(pixels)
    with tempfile.TemporaryDirectory() as folder, ArchiveWriter(Path(folder) / "out.zip") as writer, \
            zipfile.ZipFile(Path(folder) / "plain.zip", "w") as archive:
        numbers = itertools.count()
        ours: dict[str, Callable[[], object]] = {
            "decode": lambda: decode_image(data), "look at it": lambda: examined(0, decoded),
            "crop and resize": lambda: render(decoded, recipe), "encode": lambda: encode(pixels),
            "hash": lambda: pixel_digest(pixels), "write": lambda: writer.add_file(png, None, "")}
        plain: dict[str, Callable[[], object]] = {
            "decode": lambda: plain_decoded(data),
            "crop and resize": lambda: plain_resized(plain_cropped(image), photos),
            "encode": lambda: plain_png(picture), "write": lambda: archive.writestr(f"{next(numbers)}.png", png)}
        times = timed({**{f"ours {part}": run for part, run in ours.items()},
                       **{f"plain {part}": run for part, run in plain.items()}}, seconds)
    rows = [(part, times[f"ours {part}"], times.get(f"plain {part}", 0.0)) for part in ours]
    rows.append(("all of these", sum(mine for _, mine, _ in rows), sum(theirs for _, _, theirs in rows)))
    return [{"title": "Parts of the work on one image, in one process", "way": part, "ms": mine * 1e3,
             "figure": f"{theirs * 1e3:.2f} ms in the plain loop" if theirs else "not in the plain loop",
             "ratio": theirs / mine if theirs else None} for part, mine, theirs in rows]


# Resizing alone


def resizing(photos: Photos, seconds: float) -> list[dict[str, Any]]:
    """One row a way of resizing the middle of one file; torch where it has the filter for bytes."""
    image = plain_cropped(plain_decoded(photos.files[0]))
    pixels = np.asarray(image)
    size = (photos.side, photos.side)
    ways: dict[str, Callable[[], object]] = {"Pillow": lambda: plain_resized(image, photos)}
    made = {"Pillow": np.asarray(plain_resized(image, photos))}
    resampler = native.state().resampler
    if resampler is not None and image.size != size:
        ways["dataset tool"] = lambda: resampler(pixels, size, photos.resize_filter)
        made["dataset tool"] = resampler(pixels, size, photos.resize_filter)
    if photos.resize_filter in TORCH_HAS:
        import torch
        tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
        resize = functools.partial(torch.nn.functional.interpolate, tensor, size=size, mode=photos.resize_filter,
                                   antialias=True)
        name = f"torch, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"
        try:
            made[name] = resize()[0].permute(1, 2, 0).numpy()
            ways[name] = resize
        except (NotImplementedError, RuntimeError, ValueError) as error:
            click.echo(f"torch {torch.__version__} does not resize so: {str(error).splitlines()[0]}", err=True)
    times = timed(ways, seconds)
    rows = []
    for way, result in made.items():
        off = np.abs(result.astype(int) - made["Pillow"])
        rows.append({"title": f"Resizing alone, {image.width}x{image.height} to {size[0]}x{size[1]}", "way": way,
                     "ms": times[way] * 1e3, "figure": f"off by {off.max()} at most, {off.mean():.2g} in the mean",
                     "ratio": times["Pillow"] / times[way], "largest": int(off.max()), "mean": float(off.mean())})
    return rows


def timed(ways: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Median seconds of each."""
    import torch

    from torch_utils.timing import interleaved
    return interleaved(ways, torch.device("cpu"), seconds)


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table of rows of the same title."""
    lines = [f"**{rows[0]['title']}**\n", "| | ms an image | | times as fast |", "|---|---|---|---|"]
    for row in rows:
        ratio = f"{row['ratio']:.1f}" if row["ratio"] else ""
        lines.append(f"| {row['way']} | {row['ms']:.2f} | {row['figure']} | {ratio} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.dataset_tool")
