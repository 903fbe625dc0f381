"""A folder as people have them: 300 files of every kind and trouble, converted and inspected as a user does it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stylegan2_pipeline.archive import Archive
from stylegan2_pipeline.sample_data.write import render

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parents[1] / "dataset_tool.py"
SIDE = 64
EACH = 25  # files of each kind


def picture(number):
    return render("cigarette", 0, number, SIDE)


def transparent(path, image):
    pixels = np.asarray(image.convert("RGBA")).copy()
    pixels[:SIDE // 4, :, 3] = 0
    Image.fromarray(pixels).save(path)
    expected = np.asarray(image).copy()
    expected[:SIDE // 4] = 255
    return expected


def rotated(path, image):
    exif = Image.Exif()
    exif[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, quality=95)


def deep(path, image):
    values = np.asarray(image.convert("L")).astype(np.uint16) * 16
    Image.fromarray(values).save(path)
    return values


def truncated(path, image):
    image.save(path, quality=95)
    path.write_bytes(path.read_bytes()[:-300])


def animated(path, image):
    image.quantize().save(path, save_all=True, append_images=[image.rotate(90).quantize()])


def palette(path, image):
    image.quantize(colors=200).save(path)


KINDS = {  # ending, writer, difference allowed on average; a writer may return other expected pixels than the image's
    "gray": ("png", lambda path, image: image.convert("L").save(path), None),
    "jpeg": ("jpg", lambda path, image: image.save(path, quality=95), 12),
    "transparent": ("png", transparent, 0),
    "palette": ("gif", palette, 12),
    "cmyk": ("jpg", lambda path, image: image.convert("CMYK").save(path, quality=95), 12),
    "deep": ("png", deep, None),
    "rotated": ("jpg", rotated, 12),
    "misnamed": ("jpg", lambda path, image: image.save(path, "PNG"), 0),
    "animated": ("gif", animated, 12),
    "webp": ("webp", lambda path, image: image.save(path, lossless=True), 0),
    "truncated": ("jpg", truncated, None),
    "html": ("jpg", lambda path, _: path.write_text("<!DOCTYPE html><html>404</html>"), None),
}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """The folder and what each of its good files shows, uint8 [C,H,W], by name; None where that is not checked."""
    folder = tmp_path_factory.mktemp("mixed")
    expected = {}
    for place, (kind, (ending, save, _)) in enumerate(KINDS.items()):
        for number in range(EACH):
            name = f"{kind}{number:02d}.{ending}"
            image = picture(place * EACH + number)
            shown = save(folder / name, image)
            expected[name] = np.asarray(image) if not isinstance(shown, np.ndarray) else shown
    (folder / "misnamed00.jpg").write_bytes((folder / "webp00.webp").read_bytes())  # an exact copy, under another name
    return folder, expected


def tool(*words):
    return subprocess.run([sys.executable, SCRIPT, *map(str, words)], capture_output=True, text=True)


def test_all_that_can_be_read_becomes_the_right_picture(mixed, tmp_path):
    folder, expected = mixed
    done = tool("--source", folder, "--dest", tmp_path / "a.zip", f"--resolution={SIDE}", "--workers=2")
    assert done.returncode == 0, done.stderr
    for trouble in (f"Turned upright, as their EXIF data says: {EACH} (rotated00.jpg",
                    f"--frames=all takes all: {EACH} (animated00.gif", f"More than 8 bits: {EACH}; the values",
                    f"laid over white: {EACH} (transparent00.png", "shows the same: 1 (webp00.webp = misnamed00.jpg)",
                    "read as what they are: 25 (misnamed00.jpg", f"a.zip: {10 * EACH - 1} images (50 broken left out)"):
        assert trouble in done.stdout, trouble
    assert done.stderr.count("not an image but a web page") == EACH == done.stderr.count(": cannot be decoded: ")
    names = [name for name in sorted(expected) if name[:4] not in ("trun", "html") and name != "webp00.webp"]
    with Archive(tmp_path / "a.zip") as archive:
        assert len(archive) == len(names)
        for index, name in enumerate(names):
            check(name, archive.read(index).transpose(1, 2, 0).astype(float), expected)


def check(name, found, expected):
    kind = next(kind for kind in KINDS if name.startswith(kind))
    wanted, tolerance = expected[name].astype(float), KINDS[kind][2]
    assert found.shape == (SIDE, SIDE, 3)
    if kind == "gray":
        assert (found == np.asarray(Image.fromarray(expected[name]).convert("L"))[:, :, None]).all(), name
    elif kind == "deep":
        assert (found == found[:, :, :1]).all(), name
        assert np.corrcoef(found[:, :, 0].ravel(), wanted.ravel())[0, 1] > 0.98, name
    elif name != "misnamed00.jpg":
        assert abs(found - wanted).mean() <= tolerance, name


def test_the_inspection_names_each_trouble(mixed, tmp_path):
    folder, _ = mixed
    done = tool("inspect", "--source", folder, f"--report={tmp_path / 'a.json'}", f"--report={tmp_path / 'a.html'}")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["images"] == 10 * EACH and len(report["broken"]) == 2 * EACH
    assert report["formats"]["GIF"] == 2 * EACH and report["formats"]["WEBP"] == EACH + 1
    assert report["modes"]["CMYK"] == EACH and report["modes"]["P"] == 2 * EACH
    assert len(report["exact_copies"]) == 1
    for word in ("EXIF", "transparent", "frames", "not an image but a web page", "misnamed01.jpg"):
        assert word in (tmp_path / "a.html").read_text(), word
