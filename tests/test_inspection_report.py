"""Reports of inspections and conversions: pictures down to pixels, pages that load nothing, JSON, and their places."""

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageDraw, ImageFont
from test_inspection import collection, picture, shape

from stylegan2_pipeline.commands.dataset import command
from stylegan2_pipeline.conversion.convert import convert
from stylegan2_pipeline.conversion.drawing import Bench
from stylegan2_pipeline.conversion.options import Conversion
from stylegan2_pipeline.conversion.passes import run_scan
from stylegan2_pipeline.conversion.spool import Spool
from stylegan2_pipeline.inspection.facts import windows_of
from stylegan2_pipeline.inspection.inspect import inspect
from stylegan2_pipeline.inspection.previews import SIDE, fitted, previews, squares
from stylegan2_pipeline.parallel import WorkerPool
from stylegan2_pipeline.sources.registry import open_source
from torch_utils.errors import UserError

HOSTILE = "<img src=x onerror=alert(1)>.png"


def reports(source, tmp_path, endings=("html", "json", "txt"), **more):
    """What is said, and the reports by ending."""
    told = []
    paths = tuple(tmp_path / f"report.{ending}" for ending in endings)
    inspect(Conversion(source, tmp_path / "out.zip", workers=1, report=paths, **more), told.append)
    return told, [path.read_text(encoding="utf-8") for path in paths]


def pictures_of(page, alt):
    """The pictures in a page whose description begins so, uint8 [H,W,C]."""
    found = re.findall(r'<img src="data:image/webp;base64,([^"]+)"[^>]* alt="([^"]*)"', page)
    chosen = [base64.b64decode(data) for data, words in found if words.startswith(alt)]
    return [np.asarray(Image.open(io.BytesIO(data))) for data in chosen]


class TestPreviews:
    def test_large_images_keep_their_shape_and_small_ones_their_pixels(self):
        wide = np.asarray(picture(1, (640, 320)))
        assert fitted(wide).shape == (SIDE // 2, SIDE, 3)
        assert abs(fitted(wide).mean((0, 1)) - wide.mean((0, 1))).max() < 1
        assert fitted(np.zeros((1, 4000, 1), np.uint8)).shape == (1, SIDE, 1)
        small = np.asarray(picture(2, (30, 20)))
        assert np.array_equal(fitted(small), small)

    def test_transparent_images_lie_on_white(self):
        pixels = np.zeros((4, 4, 4), np.uint8)
        pixels[:2] = (10, 20, 30, 255)
        found = fitted(pixels)
        assert (found[:2] == (10, 20, 30)).all() and (found[2:] == 255).all()

    def test_squares_of_gray_and_colour(self):
        found = squares([np.full((4, 8, 1), 9, np.uint8), np.full((64, 64, 3), 7, np.uint8)], 32)
        assert found.shape == (2, 3, 32, 32) and (found[0] == 9).all() and (found[1] == 7).all()
        assert squares([np.full((4, 8, 1), 9, np.uint8)], 32).shape == (1, 1, 32, 32)

    def test_deep_images_share_their_window_and_lost_ones_are_left_out(self, tmp_path):
        folder = tmp_path / "deep"
        folder.mkdir()
        for i in (1, 2, 3):
            values = np.full((8, 8), 1000 * i, np.uint16)
            values[0] = 0
            Image.fromarray(values).save(folder / f"{i}.png")
        asked = Conversion(folder, tmp_path / "out.zip", window="0,4000")
        with open_source(folder) as source:
            (tmp_path / "spool").mkdir()
            bench = Bench(source, Spool(tmp_path / "spool"), asked.draft(), asked.encoding())
            with WorkerPool(bench, 1) as pool:
                scan = run_scan(pool, source, bench.spool)
                (folder / "3.png").unlink()
                found = previews(pool, source, windows_of(scan, asked), scan.good)
        assert sorted(found) == [0, 1]
        assert (found[0][1:] == 64).all() and (found[1][1:] == 128).all() and (found[0][0] == 0).all()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("inspected")
    source = collection(tmp_path / "photos", {f"{'ab'[i % 2]}/{i:02d}.png": picture(i) for i in range(30)})
    collection(source, {f"a/{HOSTILE}": picture(5), "b/&amp;.png": Image.new("L", (48, 48), 9)})
    (source / "a/broken.jpg").write_bytes(b"<html>")
    (source / "b" / "odd\udcff.png").write_bytes((source / "a/00.png").read_bytes())
    return source, *reports(source, tmp_path)


class TestInspectionReports:
    def test_the_page_loads_and_runs_nothing_foreign(self, made):
        page = made[2][0]
        assert "default-src 'none'" in page and page.count("<script>") == 1
        assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
        assert HOSTILE not in page and "&lt;img src=x onerror" in page
        assert "&amp;amp;.png" in page and r"odd\udcff.png" in page

    def test_its_pictures_are_those_of_the_files(self, made):
        source, _, (page, _, _) = made
        found = pictures_of(page, "Image a/02.png")
        assert found and abs(found[0].astype(int) - np.asarray(picture(2))).mean() < 4
        images = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(source.rglob("*.png"))]
        mean, = pictures_of(page, "Mean image")[:1]
        assert mean.shape == (128, 128, 3) and abs(mean.mean((0, 1)) - np.mean(images, (0, 1, 2))).max() < 3
        assert len(pictures_of(page, "Mean image of")) == 2

    def test_what_is_said_is_in_all_reports(self, made):
        _, told, (page, document, words) = made
        document = json.loads(document)
        for report in ("\n".join(told), words):
            assert document["recommended"]["command"] in report and "not an image but a web page" in report
        assert "not an image but a web page" in page and "--labels=folders" in page
        assert document["images"] == 33 and document["broken"][0]["name"] == "a/broken.jpg"
        assert document["folders"]["images"] == {"a": 16, "b": 17}
        assert ["b/odd\\udcff.png", "a/00.png"] in document["exact_copies"]
        assert document["files"][0]["name"] == "a/00.png" and document["files"][0]["width"] == 48
        assert document["traits"]["flat"]["images"] == ["b/&amp;.png"]
        assert r"b/odd\udcff.png = a/00.png" in words and max(map(len, words.splitlines())) < 200

    def test_a_set_of_copies_is_shown_whole(self, made):
        page = made[2][0]
        section = page[page.index('id="same"'):]
        section = section[:section.index("</section>")]
        assert len(pictures_of(section, "Image")) == 4 and "different folders" in section


def test_suspected_text_is_listed_and_shown(tmp_path):
    source = collection(tmp_path / "s", {f"{i}.png": shape(i, (160, 160), 0, 120) for i in range(6)})
    image = shape(7, (160, 160), 0, 120)
    for line in ("DOE JOHN", "1970-01-01"):
        ImageDraw.Draw(image).text((4, 4 if line[0] == "D" else 145), line, fill=255, font=ImageFont.load_default(12))
    image.save(source / "named.png")
    told, (page, document) = reports(source, tmp_path, ["html", "json"])
    assert json.loads(document)["traits"]["text"]["images"] == ["named.png"]
    assert any("Text seems to be burned into 1 image" in line for line in told)
    shown, = pictures_of(page[page.index('<section id="text"'):].partition("</section>")[0], "Image named.png")
    assert abs(shown.astype(int)[..., 0] - np.asarray(image)).mean() < 4


class TestPlaces:
    def test_the_default_is_a_page_in_this_folder(self, tmp_path, monkeypatch):
        source = collection(tmp_path / "my photos", {"1.png": picture(1)})
        monkeypatch.chdir(tmp_path)
        before = {path.name for path in tmp_path.iterdir()}
        result = CliRunner().invoke(command, ["inspect", "--source", str(source)], prog_name="dataset_tool.py",
                                    catch_exceptions=False)
        assert result.exit_code == 0 and "Report: my photos-inspection.html" in result.output
        assert f"--source '{source}' --dest 'my photos.zip'" in result.output
        assert {path.name for path in tmp_path.iterdir()} - before == {"my photos-inspection.html"}

    @pytest.mark.parametrize("name, message", [("folder.html", "is a folder"), ("none/r.html", "no folder"),
                                               ("report.pdf", r"must end in \.html, \.json or \.txt")])
    def test_places_are_looked_at_before_the_work(self, tmp_path, name, message):
        (tmp_path / "folder.html").mkdir()
        source = collection(tmp_path / "s", {"1.png": picture(1)})
        with pytest.raises(UserError, match=f"--report: .*{message}"):
            inspect(Conversion(source, Path("out.zip"), report=(tmp_path / name,)))

    def test_a_report_that_cannot_be_written_says_so(self, tmp_path, monkeypatch):
        def full(*args, **more):
            raise OSError(28, "No space left on device")

        source = collection(tmp_path / "s", {"1.png": picture(1)})
        monkeypatch.setattr(Path, "write_text", full)
        with pytest.raises(UserError, match="No space left"):
            reports(source, tmp_path, ["txt"])
        assert not (tmp_path / "report.txt").exists()


def test_a_conversion_reports_what_it_did_with_pictures_of_the_archive(tmp_path):
    source = collection(tmp_path / "s", {f"{i:02d}.png": shape(i, (60, 40)) for i in range(20)})
    (source / "20.png").write_bytes((source / "00.png").read_bytes())
    (source / "bad.png").write_bytes(b"")
    paths = tuple(tmp_path / f"report.{ending}" for ending in ("html", "json", "txt"))
    convert(Conversion(source, tmp_path / "out.zip", width=32, height=32, transform="pad", report=paths, workers=1),
            say=lambda line: None)
    page, document, words = (path.read_text() for path in paths)
    document = json.loads(document)
    assert document["recommended"] is None and document["broken"][0]["name"] == "bad.png"
    assert any("out.zip: 20 images" in line for line in document["done"])
    assert f"Asked for: python dataset_tool.py --source {source}" in document["done"][0]
    assert "What was done" in page and "What was done:" in words and "What to do" not in page
    found = pictures_of(page, "Image ")
    assert {image.shape[:2] for image in found} == {(32, 32)} and (found[0][:4] < 8).all()  # padded as in the archive
    assert not pictures_of(page, "Image 20.png")  # which was left out as a copy
