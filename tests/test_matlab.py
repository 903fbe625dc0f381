"""The brain tumour set on figshare, by files that h5py made as MATLAB lays them out."""

import sys
import zipfile

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from stylegan2_pipeline.decode import BrokenImage
from stylegan2_pipeline.sources.base import Reading
from stylegan2_pipeline.sources.registry import open_source
from torch_utils.errors import UserError

HEADER = b"MATLAB 7.3 MAT-file, Platform: PCWIN64, Created on: Thu Jan  1 00:00:00 2015 HDF5 schema 1.00 ."


def picture(seed=0, shape=(20, 30)):
    """int16, bright in an ellipse, zero around it."""
    y, x = np.mgrid[-1:1:shape[0] * 1j, -1:1:shape[1] * 1j]
    values = np.random.default_rng(seed).integers(300, 4000, shape).astype(np.int16)
    return np.where(np.hypot(x / 0.7, y / 0.9) < 1, values, np.int16(0))


def save(path, image=None, label=2.0, patient="100360", cell=False, **others):
    """MATLAB lists the first side fastest, HDF5 the last one: what is written is turned."""
    with h5py.File(path, "w", userblock_size=512) as file:
        record = file.create_group("cjdata")
        codes = np.array([[ord(letter)] for letter in patient], np.uint16)
        if cell:
            record["PID"] = np.array([[file.create_dataset("#refs#/b", data=codes).ref]], h5py.ref_dtype)
        else:
            record["PID"] = codes
        record["label"] = np.array([[label]])
        record.create_dataset("image", data=(picture() if image is None else image).T, compression="gzip")
        record["tumorMask"] = (picture().T > 3000).astype(np.uint8)
        for name, value in others.items():
            record[name] = value
    with open(path, "r+b") as file:
        file.write(HEADER.ljust(124) + b"\x00\x02IM")
    return path


def reason(path, **reading):
    source = open_source(path, reading=Reading(**reading))
    with pytest.raises(BrokenImage) as error:
        source.decode(0)
    return str(error.value)


class TestSlices:
    def test_pixels_labels_and_patients(self, tmp_path):
        for number, (label, patient) in enumerate([(1, "MR1"), (3, "100360"), (2, "MR1")]):
            save(tmp_path / f"{number}.mat", picture(number), label, patient)
        source = open_source(tmp_path)
        labels = source.labels()
        assert source.names == ["0.mat", "1.mat", "2.mat"]
        assert labels.values == [0, 2, 1]
        assert labels.class_names == ["meningioma", "glioma", "pituitary tumor"]
        assert [source.subject(index) for index in range(3)] == ["MR1", "100360", "MR1"]
        for index in range(3):
            decoded = source.decode(index)
            assert decoded.pixels.dtype == np.float32 and decoded.pixels.shape == (20, 30, 1)
            assert np.array_equal(decoded.pixels[:, :, 0], picture(index))
            assert (decoded.empty, decoded.mode, decoded.format) == (0.0, "int16", "MATLAB")

    def test_each_slice_has_a_window_of_its_own(self, tmp_path):
        save(tmp_path / "a.mat")
        save(tmp_path / "b.mat")
        source = open_source(tmp_path)
        assert source.volume(0) != source.volume(1)
        assert "window of its own" in source.notes()[-1]

    def test_a_zip_gives_the_same(self, tmp_path):
        save(tmp_path / "a.mat")
        with zipfile.ZipFile(tmp_path / "set.zip", "w", zipfile.ZIP_DEFLATED) as file:
            file.write(tmp_path / "a.mat", "brain/a.mat")
        source = open_source(tmp_path / "set.zip")
        assert source.names == ["brain/a.mat"] and source.labels().values == [1]
        assert np.array_equal(source.decode(0).pixels[:, :, 0], picture())

    def test_a_patient_in_a_cell(self, tmp_path):
        assert open_source(save(tmp_path / "a.mat", patient="MR042", cell=True)).subject(0) == "MR042"

    def test_labels_that_are_none(self, tmp_path):
        save(tmp_path / "a.mat", label=7)
        assert open_source(tmp_path).labels() is None
        save(tmp_path / "b.mat", label=1)
        assert open_source(tmp_path).labels().values == [None, 0]

    def test_state_changes_with_the_files(self, tmp_path):
        save(tmp_path / "a.mat")
        before = open_source(tmp_path).state()
        assert open_source(tmp_path).state() == before
        save(tmp_path / "b.mat")
        assert open_source(tmp_path).state() != before


class TestOtherFiles:
    def test_files_with_something_else_are_left_out(self, tmp_path):
        """The set comes with cvind.mat, the parts of a cross-validation."""
        save(tmp_path / "1.mat")
        with h5py.File(tmp_path / "cvind.mat", "w", userblock_size=512) as file:
            file["cvind"] = np.ones((1, 9))
        source = open_source(tmp_path)
        assert source.names == ["1.mat"]
        assert source.left_out() == [("cvind.mat", "a MATLAB file without cjdata, in which the figshare set keeps its "
                                                   "slices")]

    def test_older_formats_are_refused_with_words(self, tmp_path):
        savemat(tmp_path / "a.mat", {"cjdata": {"label": 2, "image": picture()}})
        assert "format before 7.3" in reason(tmp_path) and "'-v7.3'" in reason(tmp_path)

    def test_what_lies_in_another_file_is_not_read(self, tmp_path):
        secret = save(tmp_path / "secret.mat")
        with h5py.File(tmp_path / "a.mat", "w") as file:
            file.create_group("cjdata")["image"] = h5py.ExternalLink(str(secret), "/cjdata/image")
        assert reason(tmp_path / "a.mat") == "cjdata.image is no picture"
        with h5py.File(tmp_path / "a.mat", "w") as file:
            file.create_group("cjdata").create_dataset("image", (4, 4), "i2", external=[(str(secret), 0, 32)])
        assert reason(tmp_path / "a.mat") == "cjdata.image is no picture"
        with h5py.File(tmp_path / "a.mat", "w") as file:
            file["cjdata"] = h5py.ExternalLink(str(secret), "/cjdata")
        assert open_source(tmp_path / "a.mat").names == []

    def test_without_h5py(self, tmp_path, monkeypatch):
        save(tmp_path / "a.mat")
        monkeypatch.setitem(sys.modules, "h5py", None)
        with pytest.raises(UserError, match=r"--source: MATLAB files need the package h5py.*'\.\[mat\]'"):
            open_source(tmp_path)


class TestDamage:
    def test_pictures_that_are_none(self, tmp_path):
        for image, words in [(np.zeros((2, 3, 4), np.int16), "no picture"), (np.full((3, 3), np.nan), "no finite"),
                             (np.zeros((0, 3), np.int16), "no picture")]:
            assert words in reason(save(tmp_path / "a.mat", image) if image.size else _empty(tmp_path / "a.mat"))

    def test_sizes_that_are_lies_take_no_memory(self, tmp_path):
        with h5py.File(tmp_path / "a.mat", "w") as file:
            file.create_group("cjdata").create_dataset("image", (2 ** 20, 2 ** 20), "i2", chunks=(64, 64))
        assert reason(tmp_path / "a.mat") == f"too large: a field of {2 ** 40} numbers"
        assert "too large" in reason(save(tmp_path / "b.mat"), max_pixels=599)

    def test_cut_off_and_other_files(self, tmp_path):
        data = save(tmp_path / "a.mat").read_bytes()
        for damaged, words in [(data[:3000], "cannot be read"), (b"", "an empty file"), (b"<html>", "not a MATLAB")]:
            (tmp_path / "a.mat").write_bytes(damaged)
            assert words in reason(tmp_path)

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def test_any_damage_gives_words_or_pictures(self, tmp_path, data):
        whole = bytearray(save(tmp_path / "a.mat").read_bytes())
        for _ in range(data.draw(st.integers(0, 6))):
            whole[data.draw(st.integers(512, len(whole) - 1))] = data.draw(st.integers(0, 255))
        (tmp_path / "a.mat").write_bytes(whole[:data.draw(st.integers(0, len(whole)))])
        source = open_source(tmp_path)
        source.labels()
        for index in range(len(source.names)):
            try:
                assert np.isfinite(source.decode(index).pixels).all()
            except BrokenImage as error:
                assert str(error)


def _empty(path):
    with h5py.File(path, "w") as file:
        file.create_group("cjdata")["image"] = np.zeros((0, 3), np.int16)
    return path
