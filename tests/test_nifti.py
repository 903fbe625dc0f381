"""NIfTI volumes: how they lie, what their values mean, and what is wrong with them, by files that nibabel made."""

import gzip
import itertools
import pickle
import sys
import zipfile

import nibabel as nib
import numpy as np
import pytest
from heads import LESION, head
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from stylegan2_pipeline.decode import BrokenImage
from stylegan2_pipeline.sources.base import Reading
from stylegan2_pipeline.sources.nifti_names import is_label_name, sequence_of, subject_of
from stylegan2_pipeline.sources.registry import open_source, open_tree, recognized
from torch_utils.errors import UserError

ORDERS = ["".join(axes) for kinds in itertools.permutations(("RL", "AP", "SI")) for axes in itertools.product(*kinds)]


def save(values, path, affine=None, kind=nib.Nifti1Image, **header):
    image = kind(values, np.eye(4) if affine is None else affine)
    for name, value in header.items():
        image.header[name] = value
    nib.save(image, path)
    return path


def noise(shape=(6, 7, 5), dtype=np.int16, seed=0):
    return np.random.default_rng(seed).integers(100, 4000, shape).astype(dtype)


def pictures(path, **reading):
    with open_source(path, reading=Reading(**reading)) as source:
        return [source.decode(index).pixels[:, :, 0] for index in range(len(source.names))]


def reason(path, **reading):
    source = open_source(path, reading=Reading(**reading))
    with pytest.raises(BrokenImage) as error:
        source.decode(0)
    return str(error.value)


class TestHowVolumesLie:
    @pytest.mark.parametrize("order", ORDERS)
    def test_every_order_of_the_voxels_gives_the_same_pictures(self, tmp_path, order):
        nib.save(head(axcodes=order), tmp_path / "head.nii")
        values = head().get_fdata()
        found = pictures(tmp_path)
        assert len(found) == values.shape[2]
        for number, picture in enumerate(found):
            assert np.array_equal(picture, values[::-1, ::-1, number].T)

    @pytest.mark.parametrize("axis", ["axial", "coronal", "sagittal"])
    def test_patients_sides(self, tmp_path, axis):
        """The lesion is left, behind the middle, and above it; each is looked for where the notes say it is."""
        nib.save(head(axcodes="PSL"), tmp_path / "head.nii.gz")
        source = open_source(tmp_path, reading=Reading(axis=axis))
        found = [source.decode(index).pixels[:, :, 0] for index in range(len(source.names))]
        best = int(np.argmax([picture.max() for picture in found]))
        rows, columns = np.nonzero(found[best] == found[best].max())
        height, width = found[best].shape
        right, front, top = (place > 0 for place in LESION)
        down, across = rows.mean() > height / 2, columns.mean() > width / 2
        along = best > len(found) / 2
        assert (along, down, across) == {"axial": (top, not front, not right), "coronal": (front, not top, not right),
                                         "sagittal": (right, not top, not front)}[axis]
        words = {"axial": "front up", "coronal": "top up", "sagittal": "front on the left"}[axis]
        assert any(axis in note.lower() and words in note for note in source.notes())

    def test_tilted_volumes_are_turned_to_the_nearest_axes(self, tmp_path):
        angle = np.radians(20)
        turn = np.eye(4)
        turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        save(noise(), tmp_path / "a.nii", turn)
        assert np.array_equal(pictures(tmp_path)[2], noise()[::-1, ::-1, 2].T)

    def test_a_volume_that_does_not_say_how_it_lies(self, tmp_path):
        path = save(noise(), tmp_path / "a.nii")
        data = path.read_bytes()
        path.write_bytes(data[:252] + bytes(4) + data[256:])  # qform_code, sform_code
        source = open_source(tmp_path)
        assert source.decode(0).pixels.shape == (7, 6, 1)
        assert any("do not say how they lie (a.nii)" in note for note in source.notes())

    def test_slices_and_every(self, tmp_path):
        save(noise((4, 4, 20)), tmp_path / "a.nii")
        source = open_source(tmp_path, reading=Reading(slices=(0.3, 0.7), every=3))
        assert source.names == ["a.nii#0006", "a.nii#0009", "a.nii#0012"]
        assert np.array_equal(source.decode(1).pixels[:, :, 0], noise((4, 4, 20))[::-1, ::-1, 9].T)
        assert open_source(tmp_path, reading=Reading(slices=(0.51, 0.52))).names == []

    def test_pixels_become_square(self, tmp_path):
        """A ramp stays a ramp: 3 mm along, 1.5 mm across, linear between the middles of the pixels."""
        ramp = np.broadcast_to(np.arange(8, dtype=np.float32) * 10.1, (5, 4, 8)).copy()
        save(ramp, tmp_path / "a.nii", np.diag([1.5, 1.5, 3, 1]))
        source = open_source(tmp_path, reading=Reading(axis="coronal"))
        found = source.decode(0).pixels[:, :, 0]
        assert found.shape == (16, 5)
        expected = np.clip((np.arange(16) + 0.5) / 2 - 0.5, 0, 7)[::-1] * 10.1
        assert np.allclose(found, expected[:, np.newaxis])
        assert any("1 of 1 volumes" in note and "2.0 times" in note for note in source.notes())
        assert pictures(tmp_path)[0].shape == (4, 5)  # axial ones are square already


class TestValues:
    def test_slope_and_intercept(self, tmp_path):
        image = nib.Nifti1Image(noise(), np.eye(4))
        image.header.set_slope_inter(0.25, -1024)
        nib.save(image, tmp_path / "a.nii")
        expected = nib.load(tmp_path / "a.nii").get_fdata()
        source = open_source(tmp_path)
        decoded = source.decode(3)
        assert decoded.pixels.dtype == np.float32 and decoded.deep and decoded.empty is None
        assert np.allclose(decoded.pixels[:, :, 0], expected[::-1, ::-1, 3].T)

    @pytest.mark.parametrize("dtype", ["u1", "i2", ">i2", "u2", "i4", "u4", ">f4", "f8", "i8"])
    def test_types_of_numbers(self, tmp_path, dtype):
        values = (noise() % 256).astype(dtype)
        header = nib.Nifti1Header(endianness=">" if dtype.startswith(">") else "<")
        (tmp_path / "a.nii").write_bytes(nib.Nifti1Image(values, np.eye(4), header, dtype=values.dtype).to_bytes())
        decoded = open_source(tmp_path).decode(2)
        assert np.array_equal(decoded.pixels[:, :, 0], (noise() % 256)[::-1, ::-1, 2].T)
        assert (decoded.format, decoded.mode) == ("NIfTI", np.dtype(dtype).name)

    def test_nifti_2(self, tmp_path):
        save(noise(), tmp_path / "a.nii.gz", kind=nib.Nifti2Image)
        assert np.array_equal(pictures(tmp_path)[0], noise()[::-1, ::-1, 0].T)

    def test_zero_around_the_head_is_background(self, tmp_path):
        nib.save(head(), tmp_path / "head.nii")
        assert open_source(tmp_path).decode(8).empty == 0.0

    def test_standardised_volumes_get_a_black_background(self, tmp_path):
        """Their background, zero, lies in the middle of their values."""
        values = head().get_fdata().astype(np.float32)
        inside = values > 0
        values[inside] = (values[inside] - values[inside].mean()) / values[inside].std()
        save(values, tmp_path / "a.nii")
        decoded = open_source(tmp_path).decode(8)
        outside = ~inside[::-1, ::-1, 8].T
        assert decoded.empty == values.min() < 0
        assert (decoded.pixels[:, :, 0][outside] == values.min()).all()
        assert np.array_equal(decoded.pixels[:, :, 0][~outside], values[::-1, ::-1, 8].T[~outside])

    def test_values_that_are_no_numbers_are_background(self, tmp_path):
        values = noise(dtype=np.float32)
        values[0, 0, 0], values[1, 2, 3], values[3, 3, 3] = np.nan, np.inf, -np.inf
        save(values, tmp_path / "a.nii")
        decoded = open_source(tmp_path).decode(3)
        low = float(values[np.isfinite(values)].min())
        assert decoded.empty == low and np.isfinite(decoded.pixels).all()
        assert decoded.pixels[::-1, ::-1][2, 1] == low == decoded.pixels[::-1, ::-1][3, 3]
        assert decoded.remarks == ("Values that are no finite numbers, taken for background",)
        save(np.full((4, 4, 4), np.nan, np.float32), tmp_path / "a.nii")
        assert reason(tmp_path / "a.nii") == "holds no finite number"

    @pytest.mark.parametrize("parts", ["RGB", "RGBA"])
    def test_colours(self, tmp_path, parts):
        values = noise((5, 4, 3), np.uint8).view([("R", "u1")])
        colours = np.zeros(values.shape, [(name, "u1") for name in parts])
        for number, name in enumerate(parts):
            colours[name] = values["R"] + number
        save(colours, tmp_path / "a.nii.gz")
        decoded = open_source(tmp_path).decode(1)
        assert decoded.pixels.dtype == np.uint8 and decoded.pixels.shape == (4, 5, len(parts))
        assert decoded.empty is None and decoded.mode == parts
        assert np.array_equal(decoded.pixels[:, :, 2], colours["B"][::-1, ::-1, 1].T)

    def test_complex_numbers_are_refused(self, tmp_path):
        save(noise().astype(np.complex64), tmp_path / "a.nii")
        assert "complex64 numbers" in reason(tmp_path)


class TestChannels:
    @pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
    @pytest.mark.parametrize("channel", [None, 0, 2, 3])
    def test_one_of_four_dimensions(self, tmp_path, ending, channel):
        values = noise((6, 7, 5, 4))
        save(values, tmp_path / f"a{ending}")
        source = open_source(tmp_path, reading=Reading(channel=channel))
        assert len(source.names) == 5
        assert np.array_equal(source.decode(4).pixels[:, :, 0], values[::-1, ::-1, 4, channel or 0].T)
        assert any("1 of 1 volumes have several channels (4): channel" in note for note in source.notes())

    def test_vectors_in_the_fifth_dimension(self, tmp_path):
        values = noise((6, 7, 5, 1, 3))
        save(values, tmp_path / "a.nii")
        assert np.array_equal(pictures(tmp_path, channel=1)[0], values[::-1, ::-1, 0, 0, 1].T)

    def test_volumes_without_the_channel_are_left_out(self, tmp_path):
        save(noise((6, 7, 5, 4)), tmp_path / "four.nii")
        save(noise(), tmp_path / "one.nii")
        source = open_source(tmp_path, reading=Reading(channel=1))
        assert len(source.names) == 5
        assert source.left_out() == [("one.nii", "has no channel 1, only 1, counted from 0")]
        with pytest.raises(UserError, match="--channel=4: no volume"):
            open_source(tmp_path, reading=Reading(channel=4))
        with pytest.raises(UserError, match="--channel=1: no volume"):
            open_source(tmp_path / "one.nii", reading=Reading(channel=1))


class TestMasks:
    @pytest.mark.parametrize(("name", "mask"), [
        ("BraTS_001_seg.nii.gz", True), ("labelsTr/BRATS_001.nii.gz", True), ("sub-01_desc-brain_mask.nii", True),
        ("s1/tumorMask.nii", True), ("sub-01_label-GM_probseg.nii.gz", True), ("a/aseg.nii.gz", True),
        ("aparc+aseg.nii", True), ("sub-01_T1w.nii.gz", False), ("T1_masked.nii.gz", False),
        ("imagesTr/BRATS_001.nii.gz", False), ("masked/scan.nii", False)])
    def test_by_name(self, name, mask):
        assert is_label_name(name) == mask

    @pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
    def test_by_content(self, tmp_path, ending):
        nib.save(head(shape=(40, 48, 32), spacing=(4, 4, 5)), tmp_path / f"head{ending}")
        regions = (head(shape=(40, 48, 32), spacing=(4, 4, 5)).get_fdata() > 0) * 3.0
        save(regions.astype(np.float32), tmp_path / f"regions{ending}")
        source = open_source(tmp_path)
        assert source.left_out() == [(f"regions{ending}", "a mask or a map of labels: it holds whole numbers, and "
                                                          "only 2 different ones")]
        assert {source.volume(index) for index in range(len(source.names))} == {f"head{ending}"}

    def test_a_file_that_is_named_by_itself_is_read(self, tmp_path):
        path = save((noise() > 2000).astype(np.uint8), tmp_path / "lesion_mask.nii")
        assert len(pictures(path)) == 5 and open_source(tmp_path).names == []


class TestFiles:
    def test_a_zip_and_a_folder_and_a_pickled_source_give_the_same(self, tmp_path):
        (tmp_path / "set").mkdir()
        nib.save(head(), tmp_path / "set" / "a.nii")
        nib.save(head(axcodes="LPS"), tmp_path / "set" / "b.nii.gz")
        with zipfile.ZipFile(tmp_path / "set.zip", "w") as file:
            for path in sorted((tmp_path / "set").iterdir()):
                file.write(path, f"in/{path.name}")
        expected = pictures(tmp_path / "set")
        packed = open_source(tmp_path / "set.zip")
        packed.decode(0)
        arrived = pickle.loads(pickle.dumps(packed))
        assert len(expected) == 32 and packed.names[17] == "in/b.nii.gz#0001" and packed.run(17) == 1
        for index, pixels in enumerate(expected):
            assert np.array_equal(arrived.decode(index).pixels[:, :, 0], pixels)

    def test_pairs(self, tmp_path):
        nib.save(nib.Nifti1Pair(noise(), np.eye(4)), tmp_path / "a.img")
        (tmp_path / "scan.hdr").write_bytes(b"of another program")
        for path in (tmp_path, tmp_path / "a.hdr"):
            source = open_source(path)
            assert source.names[0] == "a.hdr#0000" and len(source.names) == 5
            assert np.array_equal(source.decode(1).pixels[:, :, 0], noise()[::-1, ::-1, 1].T)

    def test_analyze_files_are_refused_with_words(self, tmp_path):
        nib.save(nib.AnalyzeImage(noise(), np.eye(4)), tmp_path / "a.img")
        assert "does not say where left and right are" in reason(tmp_path)

    def test_volumes_are_told_beside_pictures(self, tmp_path):
        save(noise(), tmp_path / "a.nii")
        for number in range(20):
            Image.new("L", (4, 4)).save(tmp_path / f"{number}.png")
        assert recognized(open_tree(tmp_path, "--source"))[0] == "nifti"

    def test_state_changes_with_the_files_and_what_is_asked(self, tmp_path):
        save(noise(), tmp_path / "a.nii")
        states = [open_source(tmp_path).state(), open_source(tmp_path, reading=Reading(every=2)).state()]
        assert open_source(tmp_path).state() == states[0]
        save(noise((8, 7, 5)), tmp_path / "a.nii")
        assert len({*states, open_source(tmp_path).state()}) == 3

    def test_without_nibabel(self, tmp_path, monkeypatch):
        save(noise(), tmp_path / "a.nii")
        monkeypatch.setitem(sys.modules, "nibabel", None)
        with pytest.raises(UserError, match=r"--source: NIfTI files need the package nibabel.*'\.\[nifti\]'"):
            open_source(tmp_path)


class TestNames:
    @pytest.mark.parametrize(("name", "subject", "sequence"), [
        ("sub-07/ses-1/anat/sub-07_ses-1_T1w.nii.gz", "sub-07", "t1w"),
        ("IXI002-Guys-0828-T1.nii.gz", "IXI002-Guys-0828", "t1"),
        ("BraTS20_001/BraTS20_001_t1ce.nii", "BraTS20_001", "t1ce"), ("BraTS20_001_flair.nii", "BraTS20_001", "flair"),
        ("imagesTr/CASE_0007_0001.nii.gz", "CASE_0007", ""), ("BRATS_0001.nii.gz", "BRATS_0001", ""),
        ("t1.nii", "t1", "t1")])
    def test_subject_and_sequence(self, name, subject, sequence):
        assert (subject_of(name), sequence_of(name)) == (subject, sequence)

    def test_different_sequences_are_told(self, tmp_path):
        for name in ("p1_t1", "p1_flair", "p2_t1"):
            save(noise(), tmp_path / f"{name}.nii")
        source = open_source(tmp_path)
        assert any("1 flair, 2 t1" in note for note in source.notes())
        assert {source.subject(index) for index in range(len(source.names))} == {"p1", "p2"}


class TestDamage:
    def test_cut_off_and_empty_files(self, tmp_path):
        whole = save(noise((16, 16, 16)), tmp_path / "a.nii").read_bytes()
        packed = gzip.compress(whole)
        wrong_sum = bytearray(packed)
        wrong_sum[-6] ^= 1
        for data, words in [(whole[:-9], "more voxels than the file has"), (whole[:200], "not whole"),
                            (b"", "not whole"), (packed[:-900], "cannot be unpacked"), (packed[:30], "not whole"),
                            (bytes(wrong_sum), "CRC"), (b"<html>" * 100, "not a NIfTI file")]:
            (tmp_path / "a.nii").write_bytes(data)
            source = open_source(tmp_path)
            assert source.names[0].startswith("a.nii")
            assert words in reason(tmp_path)

    def test_sizes_that_are_lies_take_no_memory(self, tmp_path):
        path = save(noise(), tmp_path / "a.nii")
        data = bytearray(path.read_bytes())
        data[40:56] = np.array([3, 32767, 32767, 32767, 1, 1, 1, 1], "<i2").tobytes()
        path.write_bytes(data)
        assert "too large: a volume of 32767x32767x32767 voxels" in reason(tmp_path)
        data[42:48] = np.array([1000, 1000, 400], "<i2").tobytes()
        path.write_bytes(gzip.compress(bytes(data)))
        assert "more voxels than the file has" in reason(tmp_path)

    def test_sizes_of_pixels_that_are_lies(self, tmp_path):
        save(noise((50, 50, 2)), tmp_path / "a.nii", np.diag([1e-4, 1, 1, 1]))
        assert "10000 times as long as wide" in reason(tmp_path)

    def test_slices_beyond_max_pixels(self, tmp_path):
        save(noise(), tmp_path / "a.nii")
        assert reason(tmp_path, max_pixels=41) == "too large: slices of 6x7"

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def test_any_damage_gives_words_or_pictures(self, tmp_path, data):
        whole = save(noise((5, 4, 3)), tmp_path / "a.nii").read_bytes()
        whole = bytearray(gzip.compress(whole) if data.draw(st.booleans()) else whole)
        for _ in range(data.draw(st.integers(0, 6))):
            whole[data.draw(st.integers(0, min(len(whole), 352) - 1))] = data.draw(st.integers(0, 255))
        (tmp_path / "a.nii").write_bytes(whole[:data.draw(st.integers(0, len(whole)))])
        source = open_source(tmp_path)
        source.notes()
        for index in range(min(len(source.names), 5)):
            try:
                assert np.isfinite(source.decode(index).pixels).all()
            except BrokenImage as error:
                assert str(error)
