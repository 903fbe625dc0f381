"""What an inspection finds in a collection, and what it recommends: by sets made for it, whose command lines work."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stylegan2_pipeline.archive import Archive
from stylegan2_pipeline.conversion.convert import convert
from stylegan2_pipeline.conversion.options import Conversion
from stylegan2_pipeline.inspection import inspect as inspecting
from stylegan2_pipeline.inspection.advice import recommend
from stylegan2_pipeline.inspection.facts import classes_of, folder_classes
from stylegan2_pipeline.inspection.inspect import inspect, look_through
from stylegan2_pipeline.inspection.likeness import borders, kinds, oddest, sidedness
from stylegan2_pipeline.inspection.remarks import mirror_words
from stylegan2_pipeline.sources.images import ImageFiles
from stylegan2_pipeline.sources.labels import Labels
from torch_utils.errors import UserError


def picture(seed, size=(48, 48), channels=3):
    """A smooth random picture, unlike those of other seeds; its border is neither black nor white."""
    values = np.random.default_rng(seed).integers(50, 206, (6, 6, channels), np.uint8)
    return Image.fromarray(values if channels == 3 else values[:, :, 0]).resize(size, Image.Resampling.BICUBIC)


def shape(seed, size=(48, 48), background=0, ink=180):
    """A gray blob on an even background, with a margin of a fifth."""
    pixels = np.full((size[1], size[0]), background, np.uint8)
    top, left = size[1] // 5, size[0] // 5
    inside = np.asarray(picture(seed, (size[0] - 2 * left, size[1] - 2 * top), 1)) // 4 + ink - 40
    pixels[top:size[1] - top, left:size[0] - left] = inside
    return Image.fromarray(pixels)


def collection(folder, pictures):
    for name, image in pictures.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    return folder


def look(source, **more):
    """The inspection of a source without pictures for a page."""
    return look_through(Conversion(source, source.with_name("out.zip"), workers=1, report=(source / "x.json",), **more))


def options(inspection):
    return {choice.option: choice.why for choice in inspection.advice.choices}


def thumbs(pixels):
    """[N,64,64] -> uint8 [N,64,64,1]"""
    return np.clip(pixels, 0, 255).astype(np.uint8)[..., np.newaxis]


class TestLeftAndRight:
    def set(self, common, own, count=400, seed=0):
        """Images with a left-right difference, of which `common` squared is the same in all and `own` squared not."""
        random = np.random.default_rng(seed)
        blocks = random.standard_normal((count + 1, 16, 16)).repeat(4, 1).repeat(4, 2)
        antisymmetric = (blocks - blocks[:, :, ::-1]) / 2 ** 0.5
        return thumbs(128 + common * antisymmetric[-1] + own * antisymmetric[:-1])

    def test_the_share_that_all_have_in_common_is_measured(self):
        for common, own in ((10, 10), (10, 20), (20, 10)):
            found = sidedness(self.set(common, own), range(400))
            assert found.sided and abs(found.share - common ** 2 / (common ** 2 + own ** 2)) < 0.06

    def test_images_that_differ_by_chance_alone_have_no_sides(self):
        found = [sidedness(self.set(0, 20, 100, seed), range(100)) for seed in range(20)]
        assert not any(sides.sided for sides in found)
        assert 0.2 < np.mean([sides.p for sides in found]) < 0.8

    def test_a_set_with_all_its_mirror_images_has_none(self):
        images = self.set(20, 10, 100)
        found = sidedness(np.concatenate([images, images[:, :, ::-1]]), range(200))
        assert found.share == 0 and not found.sided

    def test_images_of_one_patient_count_once(self):
        images = self.set(0, 20, 40).repeat(10, axis=0)
        assert not sidedness(images, np.arange(400) // 10).sided
        assert sidedness(images[:100], [7] * 100) is None

    def test_of_few_or_symmetric_images_nothing_is_claimed(self):
        assert sidedness(self.set(20, 0, 19), range(19)) is None
        assert sidedness(np.zeros([0, 64, 64, 1], np.uint8), []) is None
        assert not sidedness(thumbs(np.full((30, 64, 64), 9)), range(30)).sided


class TestLikeness:
    def test_borders(self):
        def edges(background, count=3):
            return borders(np.stack([np.asarray(shape(i, (64, 64), background, 120)) for i in range(count)])[..., None])

        assert edges(0).black == 1 and edges(0).white == 0
        assert edges(255).white == 1 and edges(255).black == 0
        assert edges(128).black == edges(128).white == 0
        assert borders(np.zeros([0, 64, 64, 1], np.uint8)).black == 0

    def test_the_odd_one_is_the_farthest_from_the_mean(self):
        images = np.stack([np.asarray(picture(i, (64, 64))) for i in range(30)])
        images[17] = 255
        assert oddest(images, 3)[0] == 17 and len(oddest(images, 3)) == 3

    def test_images_that_look_alike_are_one_kind(self):
        bases = [np.asarray(picture(i, (64, 64), 1), np.float32) for i in (1, 2, 3)]
        which = np.array([0] * 60 + [1] * 30 + [2] * 15)
        noise = np.random.default_rng(0).normal(0, 8, (105, 64, 64))
        brightness = np.linspace(0.6, 1.2, 105)[:, None, None]  # which is no difference of kind
        found = kinds(thumbs(np.stack([bases[i] for i in which]) * brightness + noise), 3)
        assert [sorted(members) for members in found] == [np.flatnonzero(which == i).tolist() for i in range(3)]

    def test_equal_images_are_one_kind(self):
        assert kinds(thumbs(np.full((50, 64, 64), 7)), 8) == [list(range(50))]


class TestClasses:
    def names(self, *folders, count=5):
        return [f"{folder}/{i}.png" for folder in folders for i in range(count)]

    def of(self, *folders, count=5, groups=None):
        names = self.names(*folders, count=count)
        return folder_classes(names, range(len(names)), groups)

    def test_folders_with_enough_images_may_be_classes(self):
        found, splits = self.of("cat", "dog")
        assert found.asked == "folders" and found.counts == {"cat": 5, "dog": 5} and splits == []
        assert found.numbers == [0] * 5 + [1] * 5

    @pytest.mark.parametrize("folders", [["a"], [f"d{i}" for i in range(101)], ["patient_1", "patient_2"],
                                         ["sub-01", "sub-02"]])
    def test_one_folder_too_many_and_patients_are_none(self, folders):
        assert self.of(*folders)[0] is None

    def test_folders_of_few_images_or_one_patient_each_are_none(self):
        assert self.of("a", "b", count=3)[0] is None
        assert self.of("a", "b", groups=[0] * 5 + [1] * 5)[0] is None
        assert self.of("a", "b", groups=[*range(10)])[0] is not None
        names = [*self.names("a", "b"), "loose.png"]
        assert folder_classes(names, range(len(names)))[0] is None

    def test_classes_inside_splits(self):
        for above in ("", "set/"):
            names = [f"{above}{name}" for name in self.names("Training/cat", "Training/dog", "Testing/cat")]
            found, splits = folder_classes(names, range(len(names)))
            assert splits == ["Testing", "Training"] and found.counts == {"cat": 10, "dog": 5}
            assert found.asked.startswith("regex:")

    def test_labels_of_every_kind_are_counted(self):
        assert classes_of(Labels([0, 2, None, 2], ["a", "b", "c"]), 4).counts == {"a": 1, "c": 2}
        assert classes_of(Labels([0, 2, None, 2]), 4).missing == 1
        tags = classes_of(Labels([[1.0, 0.0], [1.0, 1.0]], ["red", "round"]), 2)
        assert tags.counts == {"red": 2, "round": 1} and tags.vectors == 2
        assert classes_of(Labels([[0.5], [2.0]]), 2).counts == {}


class TestRecommendation:
    """Each command line is right for its set, and works."""

    def converted(self, inspection, tmp_path):
        convert(inspection.advice.asked, say=lambda line: None)
        return Archive(tmp_path / "out.zip")

    def test_photographs_are_cut_to_their_middle(self, tmp_path):
        found = look(collection(tmp_path / "photos", {f"{i}.png": picture(i, (90, 70)) for i in range(8)}))
        assert list(options(found)) == ["--transform=center-crop", "--resolution=64x64", "--channels=auto"]
        assert "22%" in options(found)["--transform=center-crop"]
        assert self.converted(found, tmp_path).read(0).shape == (3, 64, 64)
        assert found.advice.command.endswith("--resolution=64x64 --transform=center-crop")

    @pytest.mark.parametrize("background, option", [(0, "--transform=pad"), (255, "--transform=pad --pad-with=white")])
    def test_pictures_on_an_even_background_are_padded_with_it(self, tmp_path, background, option):
        found = look(collection(tmp_path / "scans", {
            f"{i}.png": shape(i, (60, 40), background, 100) for i in range(8)}))
        assert option in options(found)
        corner = self.converted(found, tmp_path).read(0)[0, :2, :2]
        assert (corner == background).all()

    def test_little_foreground_is_cut_out(self, tmp_path):
        found = look(collection(tmp_path / "s", {f"{i}.png": shape(i, (80, 80)) for i in range(8)}))
        assert "--crop=foreground" in options(found) and found.advice.asked.crop == "foreground"
        assert (self.converted(found, tmp_path).read(0) > 0).mean() > 0.8

    def test_what_is_right_stays(self, tmp_path):
        found = look(collection(tmp_path / "s", {f"{i}.png": picture(i, (32, 32)) for i in range(8)}))
        assert options(found)["--resolution=32x32"] == "As they all are; nothing is resized."
        assert "--transform" not in found.advice.command

    def test_folders_become_classes(self, tmp_path):
        found = look(collection(tmp_path / "s", {f"{'ab'[i % 2]}/{i}.png": picture(i) for i in range(12)}))
        assert "--labels=folders" in options(found) and found.facts.folders.counts == {"a": 6, "b": 6}
        assert sorted(self.converted(found, tmp_path).labels) == [0] * 6 + [1] * 6

    def test_classes_inside_of_splits(self, tmp_path):
        found = look(collection(tmp_path / "s", {
            f"{'train' if i % 3 else 'test'}/{'ab'[i % 2]}/{i}.png": picture(i) for i in range(24)}))
        assert any("split already" in remark.sentence for remark in found.found)
        archive = self.converted(found, tmp_path)
        assert archive.class_names == ["a", "b"] and archive.labels.count(0) == 12

    def test_labels_of_a_dataset_are_kept_and_missing_ones_left_out(self, tmp_path):
        source = collection(tmp_path / "s", {f"{i}.png": picture(i) for i in range(8)})
        record = {"labels": [[f"{i}.png", i % 2] for i in range(7)], "class_names": ["x", "y"]}
        (source / "dataset.json").write_text(json.dumps(record))
        found = look(source)
        assert found.facts.classes.counts == {"x": 4, "y": 3} and found.facts.classes.missing == 1
        assert "--labels=auto --unlabelled=drop" in options(found)
        assert len(self.converted(found, tmp_path).labels) == 7

    def test_damaged_labels_are_a_problem_and_no_end(self, tmp_path):
        source = collection(tmp_path / "s", {f"{i}.png": picture(i) for i in range(4)})
        (source / "dataset.json").write_text('{"labels": {"0.png": 1}}')
        found = look(source)
        assert found.facts.classes is None and len(found.facts.problems) == 1
        assert "--labels=none" in options(found) and self.converted(found, tmp_path).labels is None

    def test_labels_that_were_asked_for_must_be_there(self, tmp_path):
        with pytest.raises(UserError, match="--labels"):
            look(collection(tmp_path / "s", {"1.png": picture(1)}), labels="folders")

    def test_patients_in_names_are_set_aside_as_wholes(self, tmp_path):
        found = look(collection(tmp_path / "s", {f"patient{i // 4:02d}_{i % 4}.png": picture(i) for i in range(24)}))
        assert found.facts.in_names == 6 and found.advice.asked.holdout == "0.1"
        archive, held = self.converted(found, tmp_path), Archive(tmp_path / "out-holdout.zip")
        assert len(held.names) == 4 and len(archive.names) == 20

    def test_slices_in_names_are_set_aside_as_wholes_and_in_such_numbers_that_they_say_something(self, tmp_path):
        names = {f"ward/H{i // 12}_slice{i % 12:02d}.png": shape(i) for i in range(120)}
        found = look(collection(tmp_path / "s", names))
        assert found.facts.in_names == 10 and found.advice.asked.holdout == "0.2"
        assert found.advice.asked.crop == "none"  # each slice would be cut and enlarged by itself
        self.converted(found, tmp_path)
        assert len(Archive(tmp_path / "out-holdout.zip").names) == 24

    def test_volumes(self, tmp_path):
        nib = pytest.importorskip("nibabel")
        from heads import head

        for subject in range(6):
            folder = tmp_path / "s" / f"sub-{subject:02d}"
            folder.mkdir(parents=True)
            values = np.asarray(head().dataobj).astype(np.float32)
            own = np.kron(np.random.default_rng(subject).uniform(0.2, 1, (5, 6, 4)), np.ones((4, 4, 4)))
            nib.save(nib.Nifti1Image(values * own * (1 + subject), head().affine), folder / "T1w.nii.gz")
        found = look(tmp_path / "s")
        assert len(set(found.facts.subjects.sizes)) == 1 and len(found.facts.subjects.sizes) == 6
        assert found.facts.volumes == found.facts.subjects and found.facts.folders is None
        assert {"--min-foreground=0.15", "--holdout=0.3 --group-by=patient", "--window=auto"} <= set(options(found))
        assert len(found.facts.windows) == 6
        highs = [high for _, high in found.facts.windows]
        assert highs == sorted(highs) and 5 < highs[-1] / highs[0] < 7
        assert len(self.converted(found, tmp_path).names) < 5 / 6 * len(found.facts.good)

    def test_slices_are_copies_for_an_inspection_as_for_a_conversion(self, tmp_path):
        nib = pytest.importorskip("nibabel")
        random = np.random.default_rng(0)
        (tmp_path / "s").mkdir()
        for subject in range(8):
            coarse = np.kron(random.uniform(100, 1000, (8, 8, 1)), np.ones((4, 4, 10)))
            coarse[:, :, :3] = 0  # the ends of all volumes: a spot, hardly larger than noise
            coarse[15:17, 15:17, :3] = 500 + subject
            voxels = coarse + random.uniform(0, 1, coarse.shape)
            image = nib.Nifti1Image(voxels.astype(np.float32), np.eye(4))
            nib.save(image, tmp_path / "s" / f"sub-{subject}_T1w.nii.gz")
        found = look(tmp_path / "s", transform="pad", width=32, height=32)
        same = found.facts.same
        assert same.near == same.exact == same.other_group == [] and "--duplicates=auto" not in options(found)
        told: list[str] = []
        convert(Conversion(tmp_path / "s", tmp_path / "o.zip", workers=1, duplicates="drop-near"), told.append)
        assert len(Archive(tmp_path / "o.zip").names) == 80

    def test_the_archive_gets_a_place_of_its_own(self, tmp_path, monkeypatch):
        source = collection(tmp_path / "s", {f"{i}.png": picture(i, (32, 32)) for i in range(8)})
        (tmp_path / "out.zip").touch()
        assert look(source).advice.asked.dest == tmp_path / "out-2.zip"
        monkeypatch.chdir(source)
        found = look_through(Conversion(Path(), Path("s.zip"), workers=1, report=(tmp_path / "x.json",)))
        assert found.advice.asked.dest == tmp_path / "s.zip"
        convert(found.advice.asked, say=lambda line: None)

    def test_a_few_images_may_be_looked_at_and_all_converted(self, tmp_path):
        found = look(collection(tmp_path / "s", {f"{i}.png": picture(i) for i in range(8)}), max_images=3)
        assert len(found.facts.good) == 3 and found.facts.unseen == 5
        assert "--max-images" not in found.advice.command


class TestFindings:
    def mixed(self, tmp_path):
        folder = collection(tmp_path / "mixed", {f"{'ab'[i % 2]}/{i:02d}.png": picture(i) for i in range(20)})
        shutil.copy(folder / "a/00.png", folder / "b/same.png")
        picture(3).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "b/mirrored.jpg", quality=85)
        picture(4).convert("L").convert("RGB").save(folder / "a/gray.png")
        Image.new("L", (48, 48), 77).save(folder / "b/flat.png")
        Image.fromarray(np.arange(48 * 48, dtype=np.uint16).reshape(48, 48)).save(folder / "a/deep.png")
        (folder / "a/cut.jpg").write_bytes((folder / "b/mirrored.jpg").read_bytes()[:400])
        (folder / "a/page.jpg").write_bytes(b"<html>")
        return folder

    def test_each_trouble_is_named(self, tmp_path):
        found = look(self.mixed(tmp_path))
        facts, names = found.facts, found.facts.names
        assert [name for name, _ in facts.broken] == ["a/cut.jpg", "a/page.jpg"]
        assert [names[i] for i in facts.having("flat")] == ["b/flat.png"]
        assert [names[i] for i in facts.having("deep")] == ["a/deep.png"]
        assert [names[i] for i in facts.having("gray_in_colour")] == ["a/gray.png"]
        assert facts.bits == {"8 bits": 24, "more than 8 bits": 1} and facts.formats["JPEG"] == 1
        assert facts.kinds == {"colour": 22, "gray": 2, "gray stored in colour": 1}
        low, high = facts.windows[0]
        assert 0 <= low < 15 and 2288 <= high <= 2303

    def test_copies_exact_mirrored_and_across_classes(self, tmp_path):
        found = look(self.mixed(tmp_path))
        same, names = found.facts.same, found.facts.names
        assert [(names[copy], names[first]) for copy, first in same.exact] == [("b/same.png", "a/00.png")]
        sets = [{names[i] for i in members} for members in same.near]
        assert {"a/00.png", "b/same.png"} in sets and {"b/03.png", "b/mirrored.jpg"} in sets
        assert same.nearly == len([i for members in same.near for i in members[1:]]) - 1
        assert {"a/00.png", "b/same.png"} in [{names[i] for i in members} for members in same.other_class]
        assert found.found[0].level == "bad" and "different folders" in " ".join(one.sentence for one in found.found)

    def test_a_clean_set_is_called_one(self, tmp_path, monkeypatch):
        monkeypatch.setattr("stylegan2_pipeline.inspection.remarks.FEW", 4)
        found = look(collection(tmp_path / "s", {f"{i}.png": picture(i) for i in range(8)}))
        assert [remark.level for remark in found.found] == ["good"]

    def test_sides_are_told(self, tmp_path):
        ramp = np.broadcast_to(np.linspace(0, 120, 48), (48, 48))[..., None]
        pictures = {f"{i}.png": Image.fromarray((np.asarray(picture(i)) // 2 + ramp).astype(np.uint8))
                    for i in range(25)}
        facts = look(collection(tmp_path / "s", pictures)).facts
        assert facts.sides.sided and "without --mirror=1" in mirror_words(facts)

    def test_only_broken_images_are_a_finding_without_advice(self, tmp_path):
        (tmp_path / "s").mkdir()
        (tmp_path / "s/a.png").write_bytes(b"nothing")
        told = []
        reports = tuple(tmp_path / f"r.{ending}" for ending in ("html", "json", "txt"))
        inspect(Conversion(tmp_path / "s", tmp_path / "out.zip", workers=1, report=reports), told.append)
        assert "0 images" in told[0] and any("1 of 1 image cannot be read" in line for line in told)
        assert json.loads(reports[1].read_text())["recommended"] is None
        assert recommend(look(tmp_path / "s").facts, Conversion(tmp_path / "s", tmp_path / "o.zip")) is None

    def test_nothing_to_look_at(self, tmp_path):
        (tmp_path / "s").mkdir()
        with pytest.raises(UserError, match="no images"):
            look(tmp_path / "s")


def test_subjects_group_and_are_never_named(tmp_path, monkeypatch):
    class OfPatients(ImageFiles):
        def subject(self, index):
            return f"DOE^JOHN{index // 4}"

        def volume(self, index):
            return f"1.2.840.99{index // 2}"

    def opened(path, **more):
        from stylegan2_pipeline.sources.registry import open_tree
        return OfPatients(open_tree(path, "--source"))

    monkeypatch.setattr(inspecting, "open_source", opened)
    source = collection(tmp_path / "s", {f"{i:02d}.png": picture(i) for i in range(24)})
    shutil.copy(source / "00.png", source / "23.png")
    reports = tuple(tmp_path / f"r.{ending}" for ending in ("html", "json", "txt"))
    told = []
    inspect(Conversion(source, tmp_path / "out.zip", workers=1, report=reports), told.append)
    written = "\n".join([*told, *(path.read_text() for path in reports)])
    assert "DOE" not in written and "1.2.840" not in written
    document = json.loads(reports[1].read_text())
    assert document["patients"] == {"sizes": [4] * 6, "unknown": 0} and document["volumes"]["sizes"] == [2] * 12
    assert document["copies_of_different_groups"] == [["00.png", "23.png"]]
    assert "--group-by=patient" in document["recommended"]["command"]


def test_digits_of_a_published_set_are_laid_in_the_next_square_and_nothing_is_left_out(tmp_path):
    import struct

    random = np.random.default_rng(0)
    pixels = np.zeros((40, 28, 28), np.uint8)
    pixels[:, 9:19, 10:18] = random.integers(100, 256, (40, 10, 8))
    pixels[7] = pixels[3]
    (tmp_path / "train-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, 40, 28, 28) + pixels.tobytes())
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, 40) + bytes(range(10)) * 4)
    found = look(tmp_path)
    assert {"--transform=pad-only", "--resolution=32x32"} <= set(options(found)) and found.advice.asked.crop == "none"
    assert "stay" in options(found)["--duplicates=auto"]
    assert any("Of published sets and archives they stay" in remark.advice for remark in found.found)
    convert(found.advice.asked, say=lambda line: None)
    archive = Archive(found.advice.asked.dest)
    assert len(archive.names) == 40 and (archive.read(5)[0, 2:30, 2:30] == pixels[5]).all()
