"""Sample data: the same image whatever the count and workers, a homogeneous gray set and a wild colour set."""

import subprocess
import sys
from functools import cache

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from stylegan2_pipeline.__main__ import main
from stylegan2_pipeline.sample_data.cigarette import render_cigarette
from stylegan2_pipeline.sample_data.mri import render_mri
from stylegan2_pipeline.sample_data.write import write_samples

RENDER = {"mri": render_mri, "cigarette": render_cigarette}


@cache
def gray_set(kind, count=40, size=64):
    """[count,size,size] in [0,1]."""
    images = np.stack([RENDER[kind](0, i, size) for i in range(1, count + 1)]) / 255
    return images if images.ndim == 3 else images.mean(3)


def correlation(a, b):
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def invoke(*arguments):
    return CliRunner().invoke(main, ["sample-data", *map(str, arguments)])


@pytest.mark.parametrize("kind", RENDER)
def test_image_depends_on_seed_index_size_alone(kind):
    first = RENDER[kind](3, 5, 48)
    RENDER[kind](3, 6, 48)
    np.testing.assert_array_equal(RENDER[kind](3, 5, 48), first)
    assert (RENDER[kind](3, 6, 48) != first).mean() > 0.1
    assert (RENDER[kind](4, 5, 48) != first).mean() > 0.1


@pytest.mark.parametrize("kind", RENDER)
@pytest.mark.parametrize("index", range(1, 5))
def test_same_picture_at_every_size(kind, index):
    small, large = (Image.fromarray(RENDER[kind](0, index, size)).convert("L") for size in (64, 256))
    assert correlation(np.asarray(small), np.asarray(large.resize((64, 64), Image.Resampling.BOX))) > 0.9


@pytest.mark.parametrize("size", [16, 40, 72, 600])
@pytest.mark.parametrize("kind", RENDER)
def test_any_size(kind, size):
    image = RENDER[kind](0, 1, size)
    assert image.dtype == np.uint8
    assert image.shape == ((size, size) if kind == "mri" else (size, size, 3))


@pytest.mark.parametrize(("kind", "ending", "form", "mode"), [
    ("mri", "jpg", "JPEG", "L"),
    ("cigarette", "png", "PNG", "RGB"),
])
def test_command_writes_numbered_images(tmp_path, kind, ending, form, mode):
    result = invoke("--kind", kind, "--count", 3, "--size", 32, "--outdir", tmp_path / "new")
    assert result.exit_code == 0, result.output
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [f"{kind}_000{i}.{ending}" for i in (1, 2, 3)]
    with Image.open(tmp_path / "new" / f"{kind}_0002.{ending}") as image:
        assert (image.format, image.mode, image.size) == (form, mode, (32, 32))


def test_count_and_workers_change_no_image(tmp_path):
    one = write_samples("mri", 3, 32, tmp_path / "one", workers=1)
    many = write_samples("mri", 20, 32, tmp_path / "many", workers=2)
    assert len(many) == 20
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in many[:3]]
    assert len({p.read_bytes() for p in many}) == 20


def test_cigarette_png_holds_the_rendered_pixels(tmp_path):
    path, = write_samples("cigarette", 1, 32, tmp_path, seed=9)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), render_cigarette(9, 1, 32))


def test_a_part_of_the_set_is_completed_and_kept(tmp_path):
    paths = write_samples("mri", 3, 32, tmp_path)
    before = paths[0].stat().st_mtime_ns
    paths[1].unlink()
    assert all(path.is_file() for path in write_samples("mri", 4, 32, tmp_path))
    assert paths[0].stat().st_mtime_ns == before
    assert len(list(tmp_path.iterdir())) == 4


def test_mri_set_is_homogeneous_and_aligned():
    images = gray_set("mri")
    mean = images.mean(0)
    assert np.mean([correlation(image, mean) for image in images]) > 0.85
    assert correlation(mean, mean[:, ::-1]) > 0.99
    mass = (images > 0.2).astype(float)
    centre = [(mass * np.arange(64).reshape(shape)).sum((1, 2)) / mass.sum((1, 2)) for shape in ((64, 1), (1, 64))]
    assert np.abs(np.array(centre) - 31.5).max() < 3


def test_mri_anatomy():
    """Black corners; a bright scalp around dark bone; white matter brighter than the ventricles that lie in it."""
    images = gray_set("mri")
    corners = np.stack([images[:, :6, :6], images[:, :6, -6:], images[:, -6:, :6], images[:, -6:, -6:]])
    assert corners.mean() < 0.03
    row = images[:, 30:34].mean(1)
    scalp, bone = row[:, :20].max(1), np.array([r[k : k + 5].min() for r in row for k in [int(r[:20].argmax())]])
    assert (scalp > 0.5).mean() > 0.9
    assert (bone < 0.35).mean() > 0.9
    ventricles, white = images[:, 22:27, 28:36].min((1, 2)), np.median(images[:, 18:46, 20:44], (1, 2))
    assert (white - ventricles > 0.25).mean() > 0.95


def test_about_a_third_of_mri_has_a_bright_lesion():
    centre = gray_set("mri", 40)[:, 16:48, 22:42]
    bright = (centre.max((1, 2)) > 0.75).mean()
    assert 0.05 < bright < 0.6


def test_cigarette_set_is_wild():
    def spread(images):
        flat = images.reshape(len(images), -1)
        return np.mean([np.linalg.norm(a - b) for i, a in enumerate(flat) for b in flat[:i]])

    wild, alike = gray_set("cigarette"), gray_set("mri")
    assert spread(wild) > 1.4 * spread(alike)
    pairs = np.corrcoef(wild.reshape(len(wild), -1))
    assert pairs[np.triu_indices(len(wild), 1)].mean() < 0.25


def test_cigarettes_are_colourful():
    images = np.stack([render_cigarette(0, i, 32) for i in range(1, 31)]).astype(float) / 255
    chroma = images.max(3) - images.min(3)
    assert chroma.mean() > 0.1
    assert images.mean((1, 2)).std(0).min() > 0.1


@pytest.mark.parametrize(("options", "words"), [
    (("--count", 0), "--count=0"),
    (("--size", 8), "--size=8"),
    (("--size", 5000), "--size=5000"),
    (("--workers", 0), "--workers=0"),
])
def test_bad_numbers_are_refused_and_leave_nothing(tmp_path, options, words):
    result = invoke("--kind", "mri", "--count", 1, "--outdir", tmp_path / "new", *options)
    assert result.exit_code == 2
    assert words in result.output
    assert not (tmp_path / "new").exists()


def test_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    result = invoke("--kind", "mri", "--count", 1, "--size", 32, "--outdir", tmp_path)
    assert result.exit_code == 2
    assert "--outdir" in result.output
    assert "thesis.txt" in result.output
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("options", [{"seed": 1}, {"size": 48}])
def test_folder_with_another_set_is_refused(tmp_path, options):
    path, = write_samples("mri", 1, 32, tmp_path)
    before = path.read_bytes()
    changed = {"size": 32, "seed": 0, **options}
    result = invoke("--kind", "mri", "--count", 2, *(f"--{key}={value}" for key, value in changed.items()),
                    "--outdir", tmp_path)
    assert result.exit_code == 2
    assert "another set" in result.output
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_outdir_that_is_a_file_is_refused(tmp_path):
    path = tmp_path / "file"
    path.touch()
    result = invoke("--kind", "mri", "--count", 1, "--outdir", path)
    assert result.exit_code == 2
    assert "is a file" in result.output


def test_rendering_needs_no_torch():
    code = ("import sys; from stylegan2_pipeline.sample_data.write import render; "
            "render('mri', 0, 1, 16); render('cigarette', 0, 1, 16); assert 'torch' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True)
