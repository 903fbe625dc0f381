"""Conversion: what the scan decides, what becomes of pixels, and that nothing depends on the number of workers."""

import json

import numpy as np
import pytest
from conversions import Run, gray, gray_as_rgb, images, rgb, save
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stylegan2_pipeline.archive import Archive
from stylegan2_pipeline.conversion import convert as convert_module
from stylegan2_pipeline.conversion.convert import convert
from stylegan2_pipeline.conversion.options import Conversion
from stylegan2_pipeline.conversion.scan import Scan, examined
from stylegan2_pipeline.conversion.transform import Recipe, middle, render
from stylegan2_pipeline.conversion.words import sizes_text
from stylegan2_pipeline.decode import Decoded
from stylegan2_pipeline.inspection import write
from stylegan2_pipeline.sources.registry import open_source
from torch_utils.errors import UserError


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


# Channels

def test_gray_stored_as_rgb_is_gray(run):
    save(run.source / "a.png", gray())
    save(run.source / "b.png", gray_as_rgb())
    save(run.source / "c.jpg", gray_as_rgb(), quality=60)
    archive, report = run()
    assert images(archive).shape == (3, 1, 16, 16)
    np.testing.assert_array_equal(archive.read(0), archive.read(1))
    np.testing.assert_array_equal(archive.read(0)[0], gray())
    assert "Stored as gray, because none of 3 is in colour." in report


def test_one_colour_image_makes_the_set_rgb_instead_of_failing_at_its_end(run):
    for number in range(5):
        save(run.source / f"{number}.png", gray(seed=number))
    save(run.source / "z.png", rgb())
    archive, report = run()
    assert images(archive).shape == (6, 3, 16, 16)
    np.testing.assert_array_equal(archive.read(0), gray()[None].repeat(3, 0))
    np.testing.assert_array_equal(archive.read(5), rgb().transpose(2, 0, 1))
    assert "Stored as RGB, because 1 of 6 are in colour." in report


def rgba(alpha, seed=0):
    return np.dstack([rgb(seed=seed), np.full((16, 16), alpha, np.uint8)])


def test_alpha_that_says_nothing_is_dropped(run):
    save(run.source / "a.png", rgba(255))
    save(run.source / "b.png", np.dstack([gray(), np.full((16, 16), 252, np.uint8)]))
    archive, _ = run()
    assert images(archive).shape[1] == 3
    np.testing.assert_array_equal(archive.read(0), rgb().transpose(2, 0, 1))


def test_alpha_stays_when_most_images_use_it(run):
    for number, alpha in enumerate((0, 128, 255)):
        save(run.source / f"{number}.png", rgba(alpha))
    archive, report = run()
    np.testing.assert_array_equal(images(archive)[:, 3, 0, 0], [0, 128, 255])
    assert "Stored as RGBA, because 2 of 3 have transparent pixels." in report
    save(run.source / "3.png", rgb())
    assert images(run(channels="4")[0])[3, 3].min() == 255


def test_a_few_transparent_images_are_laid_over_a_background(run):
    save(run.source / "a.png", rgba(0))
    save(run.source / "b.png", rgb())
    archive, report = run()
    assert archive.read(0).min() == 255 and "laid over white: 1 (a.png)" in report
    assert run(alpha_background="black")[0].read(0).max() == 0
    assert run(alpha_background="#102030")[0].read(0)[:, 0, 0].tolist() == [16, 32, 48]
    save(run.source / "a.png", rgba(51))
    expected = rgb()[0, 0] * 0.2 + 255 * 0.8
    assert abs(run()[0].read(0)[:, 0, 0] - expected).max() <= 1


def test_channels_asked_for(run):
    save(run.source / "a.png", np.full((16, 16, 3), (255, 0, 0), np.uint8))
    archive, report = run(channels="1")
    assert (archive.read(0) == 76).all()  # ITU-R 601: 0.299 of 255
    assert "Colour becomes gray: 1 (a.png)" in report
    assert images(run(channels="4")[0]).shape[1] == 4


def test_rgba_edges_do_not_bleed_hidden_colours(run):
    """Halving a picture whose right half is transparent red: what is seen stays blue."""
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[:, :5] = (0, 0, 255, 255)
    pixels[:, 5:] = (255, 0, 0, 0)
    save(run.source / "a.png", pixels)
    image = run(width=8, height=8)[0].read(0)
    assert image[0][image[3] > 0].max() <= 1


# More than 8 bits

def test_deep_images_share_one_window(run):
    """12 bits: Pillow alone would leave almost all white."""
    ramp = np.linspace(0, 2047, 256).round().astype(np.uint16).reshape(16, 16)
    save(run.source / "a.png", ramp)
    save(run.source / "b.png", ramp + 2048)
    archive, report = run()
    dark, bright = archive.read(0)[0].astype(int), archive.read(1)[0].astype(int)
    low, high = 0.005 * 4095, 0.995 * 4095
    assert abs(dark - np.clip((ramp - low) / (high - low) * 255, 0, 255)).max() <= 2
    assert dark.max() <= 128 <= bright.min() + 1 and len(np.unique(dark)) > 100
    assert "More than 8 bits: 2; the values 16 to 4079" in report


# Geometry

def test_center_crop_is_a_cut_then_pillows_resize(run):
    save(run.source / "a.png", rgb(60, 41))
    expected = Image.fromarray(rgb(60, 41)[:, 9:50]).resize((16, 16), Image.Resampling.LANCZOS)
    archive, _ = run(transform="center-crop", width=16, height=16)
    np.testing.assert_array_equal(archive.read(0), np.asarray(expected).transpose(2, 0, 1))
    boxed, _ = run(transform="center-crop", width=16, height=16, resize_filter="box")
    assert (images(boxed) != images(archive)).any()


def test_box_filter_is_the_mean(run):
    save(run.source / "a.png", gray(32, 32))
    means = gray(32, 32).reshape(16, 2, 16, 2).astype(float).mean((1, 3))
    boxed, _ = run(width=16, height=16, resize_filter="box")
    assert abs(boxed.read(0)[0] - means).max() <= 1  # Pillow rounds after each axis


def test_pad_keeps_everything_and_stretch_distorts(run):
    save(run.source / "a.png", np.full((8, 16), 200, np.uint8))
    padded = run(transform="pad", width=32, height=32)[0].read(0)[0]
    assert (padded[8:24] == 200).all() and padded[:8].max() == padded[24:].max() == 0
    assert run(transform="pad", width=32, height=32, pad_with="white")[0].read(0)[0, 0, 0] == 255
    assert (run(transform="stretch", width=32, height=32)[0].read(0) == 200).all()
    assert images(run(transform="pad")[0]).shape == (1, 1, 16, 16)


def test_center_crop_wide_lies_on_black(run):
    save(run.source / "a.png", np.full((30, 90), 200, np.uint8))
    wide = run(transform="center-crop-wide", width=32, height=24)[0].read(0)[0]
    assert wide.shape == (32, 32) and (wide[4:28] == 200).all() and wide[:4].max() == wide[28:].max() == 0


@given(width=st.integers(1, 500), height=st.integers(1, 500), shape=st.sampled_from([(1, 1), (4, 3), (512, 384)]))
def test_the_middle_is_inside_centred_and_as_large_as_can_be(width, height, shape):
    left, top, right, bottom = middle((width, height), shape)
    assert 0 <= left < right <= width and 0 <= top < bottom <= height
    assert abs(left - (width - right)) <= 1 and abs(top - (height - bottom)) <= 1
    assert right - left == width or bottom - top == height
    if shape == (1, 1):
        assert right - left == bottom - top == min(width, height)


def test_extreme_shapes_still_fit():
    image = Decoded(np.full((1, 300, 3), 9, np.uint8))
    for transform in ("pad", "stretch", "center-crop"):
        assert render(image, Recipe(3, 16, 16, transform)).shape == (3, 16, 16)


def test_exif_rotation_comes_before_the_crop(run):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(run.source / "a.png", rgb(), exif=exif)
    archive, report = run()
    np.testing.assert_array_equal(archive.read(0), np.rot90(rgb(), -1).transpose(2, 0, 1))
    assert "Turned upright, as their EXIF data says: 1 (a.png)" in report

# What is left out, and what is refused

def test_broken_files_are_listed_and_left_out(run, capsys):
    save(run.source / "a.png", gray())
    (run.source / "b.jpg").write_bytes(b"<html>404")
    (run.source / "c.png").write_bytes(b"")
    (run.source / "d.txt").write_bytes(b"words")
    archive, report = run()
    assert len(archive) == 1 and "1 images (2 broken left out)" in report and "no images: 1 .txt" in report
    listed = capsys.readouterr().err
    assert "b.jpg: not an image but a web page" in listed and "c.png: an empty file" in listed
    assert "--strict: these cannot be read (2)" in run.error(strict=True) and "c.png" in run.error(strict=True)
    (run.source / "a.png").unlink()
    assert "no image in" in run.error() and "b.jpg" in run.error()


def test_max_images_counts_good_ones(run):
    for number in range(5):
        save(run.source / f"{number}.png", np.full((16, 16), number, np.uint8))
    (run.source / "1.png").write_bytes(b"broken")
    assert [image[0, 0, 0] for image in images(run(max_images=3)[0])] == [0, 2, 3]


def test_large_class_numbers_take_no_memory(run):
    save(run.source / "a.png", gray())
    (run.source / "dataset.json").write_text(json.dumps({"labels": [["a.png", 2 ** 31 - 1]]}))
    assert "1 class (class 2147483647 1)" in run()[1]
    save(run.source / "b.png", gray(seed=1))
    assert "after number 2147483647 is one too many" in run.error(unlabelled="class")


def test_what_needs_a_choice_ends_with_the_command_to_type(run):
    save(run.source / "a.png", gray(64, 48))
    save(run.source / "b.png", gray(64, 64))
    message = run.error(width=32, height=32)
    assert "1 of 2 images are not square (1 of 64x48)" in message
    assert message.endswith("1.zip --resolution=32x32 --transform=center-crop --workers=1")
    assert "--resolution=64x64 --transform=center-crop" in run.error()
    message = run.error(transform="center-crop")
    assert "different sizes (1 of 48x48, 1 of 64x64)" in message and "--resolution=64x64" in message
    (run.source / "b.png").unlink()
    assert "are 48x48, and training needs a power of two" in run.error(transform="center-crop")


def test_refusals_before_anything_is_read(run, capsys, monkeypatch):
    assert "does not exist" in run.error()
    run.source.mkdir()
    assert "no images in" in run.error()
    assert "training needs square images" in run.error(width=64, height=32)
    assert "wider than high" in run.error(transform="center-crop-wide", width=32, height=32)
    assert "'mauve-ish' is no colour" in run.error(alpha_background="mauve-ish")
    save(run.source / "a.png", gray())
    with pytest.raises(UserError, match="lies inside --source"):
        convert(Conversion(run.source, run.source / "new.zip"))
    monkeypatch.setattr(convert_module.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    assert "takes 804 B, and" in run.error()


def test_other_sizes_are_made_with_a_warning(run, capsys):
    save(run.source / "a.png", gray())
    archive, report = run(width=24, height=24)
    assert images(archive).shape == (1, 1, 24, 24)
    assert "train.py needs a power of two" in capsys.readouterr().err
    assert "Warning: smaller than 24x24 and enlarged, which adds no detail: 1 (a.png)" in report


def test_a_file_that_changes_between_the_passes_is_named(run, monkeypatch):
    save(run.source / "a.png", gray())
    save(run.source / "b.png", rgb())  # so that the first one has to be drawn again
    decide = convert_module.decide

    def broken_before(*arguments):
        (run.source / "a.png").write_bytes(b"")
        return decide(*arguments)

    monkeypatch.setattr(convert_module, "decide", broken_before)
    assert "a.png could be read a moment ago and now cannot: an empty file" in run.error()


def test_a_long_look_is_kept_when_a_choice_is_missing(run, tmp_path, monkeypatch, capsys):
    save(run.source / "a.png", gray(64, 48))
    monkeypatch.setattr(convert_module, "KEEP_SEC", 0)
    with pytest.raises(UserError, match="--transform does not say"):
        convert(Conversion(run.source, tmp_path / "d.zip", width=32, height=32, workers=1))
    assert (tmp_path / "d.zip.partial").is_dir() and "also with other options" in capsys.readouterr().err
    asked = Conversion(run.source, tmp_path / "d.zip", width=32, height=32, transform="pad", workers=1, continue_=True)
    convert(asked)
    assert "1 of 1 images were looked at before" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.zip", "source"]


def test_damaged_work_is_given_up(run, tmp_path, monkeypatch):
    save(run.source / "a.png", gray(64, 48).astype(np.uint16) * 99)
    monkeypatch.setattr(convert_module, "KEEP_SEC", 0)
    with pytest.raises(UserError, match="--transform does not say"):
        convert(Conversion(run.source, tmp_path / "d.zip", width=32, height=32, workers=1))
    for pieces in (tmp_path / "d.zip.partial").glob("*.bin"):
        pieces.write_bytes(bytes(pieces.stat().st_size))
    asked = Conversion(run.source, tmp_path / "d.zip", width=32, height=32, transform="pad", workers=1)
    with pytest.raises(UserError, match="is damaged, as after a crash"):
        convert(asked)
    assert not (tmp_path / "d.zip.partial").exists()
    convert(asked)
    assert len(Archive(tmp_path / "d.zip")) == 1


# Workers

def test_bytes_do_not_depend_on_the_number_of_workers(run):
    for number in range(50):
        save(run.source / f"{number % 3}" / f"{number}.png", rgb(20 + number, 30, seed=number))
    options = {"transform": "center-crop", "width": 16, "height": 16, "labels": "folders"}
    one, two = (run(workers=workers, **options) for workers in (1, 2))
    assert one[0].path.read_bytes() == two[0].path.read_bytes()
    assert one[1].replace("1.zip", "2.zip") == two[1]


def test_many_sizes_are_summed_up(tmp_path):
    scan = Scan()
    for number in range(8):
        save(tmp_path / f"{number}.png", gray(10 + number, 10))
    source = open_source(tmp_path)
    for number in range(8):
        scan.add(examined(number, source.decode(number))[0])
    assert sizes_text(scan.sizes, 2) == "1 of 10x10, 1 of 11x10 and 6 of 6 other sizes"


def test_where_a_report_is_interrupted_the_archive_is_there_and_nothing_to_go_on_with(run, tmp_path, capsys,
                                                                                     monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(write, "conversion_reports", interrupted)
    monkeypatch.setattr(convert_module, "KEEP_SEC", -1)
    save(run.source / "a.png", rgb())
    with pytest.raises(KeyboardInterrupt):
        run(report=(tmp_path / "report.txt",))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.zip", "source"]
    assert "1.zip is made and whole; its reports are not." in capsys.readouterr().err
