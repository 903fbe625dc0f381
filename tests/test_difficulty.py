import dataclasses
import json
import math

import numpy as np
import pytest
from archives import make_images, write_archive
from test_panel import inputs
from test_swd import textures

from metrics.inputs import Request
from metrics.panel import pfd32
from metrics.swd import swd
from stylegan2_pipeline import difficulty
from stylegan2_pipeline.dataset import ImageDataset
from stylegan2_pipeline.difficulty import Difficulty, describe_dataset, kind_of
from stylegan2_pipeline.image_sets import real_order
from stylegan2_pipeline.sample_data.write import write_samples


def archive(tmp_path, images, **kwargs):
    return ImageDataset(write_archive(tmp_path / "data.zip", images), **kwargs)


@pytest.fixture(scope="module")
def sample_sets(tmp_path_factory):
    described = {}
    for kind in ("mri", "cigarette"):
        folder = tmp_path_factory.mktemp(kind)
        write_samples(kind, 60, 32, folder, seed=0, workers=1)
        described[kind] = describe_dataset(ImageDataset(folder))
    return described


def test_homogeneous_and_diverse_data_are_told_apart(sample_sets):
    mri, cigarette = sample_sets["mri"], sample_sets["cigarette"]
    assert (mri.kind, cigarette.kind) == ("homogeneous", "diverse")
    assert mri.ms_ssim > 2 * cigarette.ms_ssim and mri.sharpness > 3 * cigarette.sharpness
    assert cigarette.vendi > 8 * mri.vendi and cigarette.vendi_share <= 1
    assert mri.floors["pfd32"] < cigarette.floors["pfd32"]
    assert mri.effective == mri.examined == mri.images == 60
    assert mri.words.startswith("homogeneous: random pairs") and "60 images count as" in mri.words


def test_json_keeps_all_but_the_pictures(sample_sets):
    for described in sample_sets.values():
        assert Difficulty.from_json(described.to_json()) == described
        assert described.mean_image.shape == described.std_image.shape == (described.channels, 32, 32)
        names = set(json.loads(described.to_json()))
        assert names == {f.name for f in dataclasses.fields(Difficulty)} - {"mean_image", "std_image"}


def test_the_same_seed_gives_the_same(tmp_path):
    dataset = archive(tmp_path, textures(40, 3, 16))
    assert describe_dataset(dataset, seed=1) == describe_dataset(dataset, seed=1)
    assert describe_dataset(dataset, seed=1).ms_ssim != describe_dataset(dataset, seed=2).ms_ssim


def test_copies_are_counted_by_kind(tmp_path):
    x = textures(30, 3, 32)
    noisy = (x[2].astype(int) + np.random.RandomState(1).randint(-1, 2, x[2].shape)).clip(0, 255).astype(np.uint8)
    described = describe_dataset(archive(tmp_path, [*x, x[0], x[1][:, :, ::-1], noisy, noisy]))
    assert (described.exact_copies, described.near_copies, described.effective) == (3, 1, 30)
    assert "4 of the 34 images repeat another one" in described.words


def test_one_image_over_and_over(tmp_path):
    described = describe_dataset(archive(tmp_path, np.repeat(make_images(1, 3, 16), 10, axis=0)))
    assert described.effective == 1 and described.exact_copies == 9 and described.kind == "homogeneous"
    assert described.vendi == pytest.approx(1) and described.ms_ssim == pytest.approx(1)
    assert described.sharpness == pytest.approx(1) and math.isnan(described.dimension)
    assert described.std_image.max() == 0 and described.floors["pfd32"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("channels", [1, 4])
def test_a_single_small_image_is_described_too(tmp_path, channels):
    described = describe_dataset(archive(tmp_path, make_images(1, channels, 8)))
    assert math.isnan(described.ms_ssim) and described.floors == {} and "pairs" not in described.words
    assert repr(Difficulty.from_json(described.to_json())) == repr(described)


def test_constant_images_have_no_sharpness(tmp_path):
    described = describe_dataset(archive(tmp_path, np.full([4, 1, 16, 16], 7, np.uint8)))
    assert described.sharpness == 0 and described.effective == 1


def test_floors_are_those_of_the_metrics(tmp_path):
    images = textures(21, 1, 32)
    dataset = archive(tmp_path, images)
    described = describe_dataset(dataset, seed=3)
    shuffled = np.stack([dataset.image(int(i)) for i in real_order(dataset.n_raw, 3)])
    same = inputs(shuffled, shuffled, seed=3)
    swd_floor = swd(same, Request("swd", 100)).results["swd_floor"]
    pfd32_floor = pfd32(same, Request("pfd32", 100)).results["pfd32_floor"]
    assert described.floors["swd"] == pytest.approx(swd_floor, rel=1e-6)
    assert described.floors["pfd32"] == pytest.approx(pfd32_floor, rel=1e-6)
    assert described.floor_images == {"swd": 10, "pfd32": 10}


def test_pictures_are_mean_and_spread(tmp_path):
    x = make_images(50, 3, 16)
    described = describe_dataset(archive(tmp_path, x, mirror=True))
    assert described.images == 50
    np.testing.assert_array_equal(described.mean_image, np.rint(x.mean(axis=0)).astype(np.uint8))
    np.testing.assert_array_equal(described.std_image, np.rint(np.minimum(2 * x.std(axis=0), 255)).astype(np.uint8))


def test_large_images_are_pictured_smaller(tmp_path):
    described = describe_dataset(archive(tmp_path, make_images(3, 1, 512)))
    assert described.mean_image.shape == (1, 256, 256) and described.picture_size == 256
    assert len(described.spectrum) == 256 and described.scales == 5


def test_large_sets_are_sampled_and_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(difficulty, "EXAMINED", (10, 20))
    monkeypatch.setattr(difficulty, "DETAIL", (4, 8))
    monkeypatch.setattr(difficulty, "VARIETY", 15)
    described = describe_dataset(archive(tmp_path, textures(40, 1, 16)))
    assert (described.images, described.examined, described.pairs, described.variety_images) == (40, 20, 4, 15)
    assert described.floor_images == {"swd": 4, "pfd32": 10} and "20 of 40 images" in described.words


@pytest.mark.parametrize(("values", "kind"), [
    ((0.7, 0.6, 2), "homogeneous"),
    ((0.7, 0.6, 10), "homogeneous"),
    ((0.7, 0.2, 10), "in between"),
    ((0.7, 0.6, 99), "in between"),
    ((0.1, 0.05, 99), "diverse"),
    ((math.nan, 0.05, 99), "diverse"),
    ((0.25, 0.2, 10), "in between"),
    ((0.1, 0.2, 2), "in between"),
])
def test_two_signs_of_three_make_the_word(values, kind):
    assert kind_of(dict(zip(("ms_ssim", "sharpness", "vendi"), values, strict=True))) == kind
