"""Conversion of sets: labels, groups, patients, volumes and what is set aside."""

import json
import zipfile

import numpy as np
import pytest
from archives import make_images, write_archive
from conversions import Run, gray, images, save

from stylegan2_pipeline.archive import Archive
from stylegan2_pipeline.conversion.split import group_numbers
from stylegan2_pipeline.dataset import ImageDataset


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


# Labels

def test_folders_as_classes(run):
    for number, name in enumerate(("cat/1.png", "dog/1.png", "cat/2.png")):
        save(run.source / name, gray(seed=number))
    archive, report = run(labels="folders")
    assert archive.labels == [0, 0, 1] and archive.class_names == ["cat", "dog"]
    assert "2 classes (cat 2, dog 1)" in report and report.endswith("--cond=1")
    assert "--labels=folders would make them classes" in run()[1]
    partly, report = run(labels="folders", max_images=2)
    assert partly.class_names == ["cat"] and "same label" in report


def test_labels_of_the_source_follow_their_images(run):
    for number, value in enumerate((7, 3, 5)):
        save(run.source / f"{number}.png", np.full((16, 16), value, np.uint8))
    (run.source / "1.png").write_bytes(b"broken")
    record = {"labels": [["2.png", 1], ["0.png", 0], ["1.png", 2]], "class_names": ["a", "b", "c"]}
    (run.source / "dataset.json").write_text(json.dumps(record))
    archive, _ = run()
    assert archive.labels == [0, 1] and archive.class_names == ["a", "b", "c"]
    assert [archive.read(i)[0, 0, 0] for i in range(2)] == [7, 5]
    assert run(labels="none")[0].labels is None
    record["labels"].pop(1)
    (run.source / "dataset.json").write_text(json.dumps(record))
    assert "1 of 2 images have no label in dataset.json: 0.png." in run.error()
    assert "--labels=none" in run.error()


def test_an_archive_converts_to_itself(run, tmp_path):
    first = write_archive(tmp_path / "first.zip", make_images(3, size=16), [0, 2, 1], ["x", "y", "z"])
    second, _ = run(source=first)
    assert second.path.read_bytes() == first.read_bytes()
    assert ImageDataset(second.path, use_labels=True).class_names == ["x", "y", "z"]


def test_groups_stay_when_an_archive_is_converted_again_and_nothing_is_left_out_of_it(run, tmp_path):
    for name, seed in (("p1/a.png", 0), ("p2/a.png", 1), ("p1/b.png", 2), ("p3/a.png", 1)):
        save(run.source / name, gray(seed=seed))
    first, report = run(holdout="2", group_by="folder", duplicates="keep", seed=1)
    record = json.loads(zipfile.ZipFile(first.path).read("dataset.json"))
    aside = Archive(first.path.with_name("1-holdout.zip"))
    kept = {first.read(i).tobytes() for i in range(len(first))}
    assert record["holdout"] == {"set_aside": 2, "of": 4, "asked": "2", "group_by": "folder", "seed": 1}
    assert "the metric memorization needs 20 or more of them" in report
    assert len(record["groups"]) == len(first) == 2 and not kept & {aside.read(i).tobytes() for i in range(len(aside))}
    again, _ = run(source=first.path)
    assert json.loads(zipfile.ZipFile(again.path).read("dataset.json"))["groups"] == record["groups"]
    everything, _ = run(duplicates="keep")
    same, report = run(source=everything.path)
    assert len(same) == 4 and "shows the same" not in report
    fewer, report = run()
    assert len(fewer) == 3 and "shows the same: 1 (p3/a.png = p2/a.png)" in report


def test_a_part_of_an_archive_keeps_its_groups(run, tmp_path):
    for number in range(12):
        save(run.source / f"p{number // 3}" / f"{number}.png", gray(seed=number))
    run(holdout="0.25", group_by="folder")
    part, whole = tmp_path / "part.zip", zipfile.ZipFile(tmp_path / "1.zip")
    with zipfile.ZipFile(part, "w") as file:
        for name in (name for name in whole.namelist() if not name.endswith("3.png")):
            file.writestr(f"data/{name}", whole.read(name))
    groups = json.loads(whole.read("dataset.json"))["groups"]
    left = [group for number, group in enumerate(groups) if number != 3]
    for options in ({"source": part}, {"source": tmp_path / "1.zip", "only": ("*[0-24-9].png",)}):
        archive, _ = run(**options)
        found = json.loads(zipfile.ZipFile(archive.path).read("dataset.json"))["groups"]
        assert len(set(groups)) == 3 and found == [sorted(set(left), key=left.index).index(group) for group in left]


# Volumes

def heads(folder, patients, slices=12):
    """NIfTI volumes of patients, whose last slices show next to nothing, all in the same way."""
    nibabel = pytest.importorskip("nibabel")
    folder.mkdir(parents=True, exist_ok=True)
    for patient in range(patients):
        random = np.random.default_rng(patient)
        voxels = np.zeros((32, 32, slices), np.float32)
        for number in range(slices - 3):
            coarse = random.uniform(100, 1000 * (patient + 1), (8, 8))
            voxels[4:28, 4:28, number] = np.kron(coarse, np.ones((3, 3)))
        voxels[15:17, 15:17, slices - 3:slices - 1] = 500 + patient + np.arange(2) / 10
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), folder / f"sub-{patient:02d}_T1w.nii.gz")


def test_patients_are_set_aside_whole_though_the_ends_of_their_volumes_are_alike(run):
    heads(run.source, 10)
    archive, report = run(holdout="0.2", width=32, height=32)
    with Archive(archive.path.with_name("1-holdout.zip")) as aside:
        assert len(archive) == 8 * 11 and len(aside) == 2 * 11
    assert "a slice of a volume that shows nothing: 10" in report
    assert "Set aside: 22 of 110 images of 2 of 10 groups" in report
    assert "--metrics=memorization --holdout=" in report and "--labels=folders" not in report
    record = json.loads(zipfile.ZipFile(archive.path).read("dataset.json"))
    assert [record["groups"].count(group) for group in sorted(set(record["groups"]))] == [11] * 8
    assert "sub-" not in json.dumps(record)
    numbers = group_numbers(record["groups"])
    assert archive.subjects() == numbers == ImageDataset(archive.path).subjects()
    some = ImageDataset(archive.path, max_images=20)
    assert some.subjects() == [numbers[archive.names.index(name)] for name in some.image_names]


@pytest.mark.parametrize("duplicates", ["keep", "drop-exact", "drop-near"])
def test_patients_who_share_a_picture_are_one_also_where_the_copy_is_left_out(run, duplicates):
    for number in range(16):
        for other in range(3):
            seed = 100 + number % 8 if other == 0 else 3 * number + other
            save(run.source / f"p{number:02d}" / f"{other}.png", gray(64, 64, seed))
    run(holdout="0.3", group_by="folder", duplicates=duplicates)
    sides = {}
    for side in ("1.zip", "1-holdout.zip"):
        with Archive(run.source.parent / side) as archive:
            sides |= {archive.read(index).tobytes(): side for index in range(len(archive))}
    person = [{sides[gray(64, 64, 3 * number + other).tobytes()] for number in (one, one + 8) for other in (1, 2)}
              for one in range(8)]
    assert {frozenset(found) for found in person} == {frozenset(["1.zip"]), frozenset(["1-holdout.zip"])}


def test_each_volume_has_one_window_and_one_box(run):
    heads(run.source, 3)
    archive, report = run(width=16, height=16, crop="foreground")
    assert "each of 3 volumes or files has one scale" in report
    full = images(archive)[:, 0].reshape(3, 11, 16, 16)
    for volume in full:
        assert volume[:9].max() == 255 and (volume[9:].max((1, 2)) < 255).all()  # not stretched slice by slice
        assert (volume[9:] > 0).any() and (volume[9:].mean((1, 2)) < 20).all()  # nor cut to their own little spot


def test_slices_that_show_little_can_be_left_out(run):
    heads(run.source, 3)
    archive, report = run(width=32, height=32, min_foreground=0.1)
    assert len(archive) == 27 and "less than 10% of it shows anything: 9" in report
