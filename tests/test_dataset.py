"""ImageDataset: what it accepts, what it gives, and each message it refuses with."""

import json
import pickle
import shutil
import zipfile

import numpy as np
import pytest
import torch
from archives import make_images, write_archive
from PIL import Image

from stylegan2_pipeline.caching import cache_dataset
from stylegan2_pipeline.dataset import ImageDataset
from stylegan2_pipeline.sources.images import HEADER_BYTES
from torch_utils.errors import UserError


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("name", ["data.zip", "data"])
def test_pixels_survive_and_mirrored_copies_follow(tmp_path, name, channels):
    images = make_images(5, channels)
    dataset = ImageDataset(write_archive(tmp_path / name, images), mirror=True)
    assert (dataset.name, dataset.resolution, dataset.num_channels, dataset.label_dim) == ("data", 8, channels, 0)
    assert dataset.image_shape == [channels, 8, 8]
    assert len(dataset) == 10 and dataset.nbytes == images.nbytes
    for index in range(5):
        np.testing.assert_array_equal(dataset.image(index), images[index])
        np.testing.assert_array_equal(dataset.image(index + 5), images[index, :, :, ::-1])
        assert dataset.label(index).shape == (0,)


def test_preload_changes_no_value(tmp_path):
    path = write_archive(tmp_path / "data.zip", make_images(20))
    plain, loaded = ImageDataset(path, mirror=True), ImageDataset(path, mirror=True)
    cache_dataset(loaded, "ram", torch.device("cpu"))
    assert loaded.preloaded and not plain.preloaded
    for index in range(40):
        np.testing.assert_array_equal(plain.image(index), loaded.image(index))


def test_class_labels_are_one_hot_over_the_whole_archive(tmp_path):
    path = write_archive(tmp_path / "data.zip", make_images(4), [2, 0, 1, 0], ["a", "b", "c"])
    dataset = ImageDataset(path, use_labels=True, mirror=True)
    assert dataset.label_dim == 3 and dataset.class_names == ["a", "b", "c"]
    np.testing.assert_array_equal([dataset.label(i) for i in range(8)], np.eye(3, dtype=np.float32)[[2, 0, 1, 0] * 2])
    for seed in range(6):  # whichever images a subset keeps
        assert ImageDataset(path, use_labels=True, max_images=1, seed=seed).label_dim == 3


def test_vector_labels_pass_through(tmp_path):
    path = write_archive(tmp_path / "data.zip", make_images(2), [[0.5, -1.0], [2.0, 3.0]])
    dataset = ImageDataset(path, use_labels=True)
    assert dataset.label_dim == 2 and dataset.label(1).dtype == np.float32
    np.testing.assert_array_equal(dataset.label(0), [0.5, -1.0])


def test_subsets_are_seeded_nested_and_keep_their_labels(tmp_path):
    images, labels = make_images(12), list(range(12))
    path = write_archive(tmp_path / "data.zip", images, labels)

    def kept(most, seed):
        dataset = ImageDataset(path, use_labels=True, max_images=most, seed=seed)
        numbers = [int(dataset.label(i).argmax()) for i in range(len(dataset))]
        for i, number in enumerate(numbers):
            np.testing.assert_array_equal(dataset.image(i), images[number])
        return numbers

    assert kept(5, 1) == kept(5, 1) == sorted(kept(5, 1))
    assert set(kept(5, 1)) < set(kept(8, 1))
    assert len({tuple(kept(5, seed)) for seed in range(5)}) > 1
    assert kept(12, 3) == kept(99, 3) == labels


def test_digest_follows_content_not_path_or_encoding(tmp_path):
    images = make_images(3)
    first = ImageDataset(write_archive(tmp_path / "a.zip", images)).digest()
    folder = tmp_path / "other"
    folder.mkdir()
    for index, pixels in enumerate(images):
        Image.fromarray(pixels.transpose(1, 2, 0)).save(folder / f"photo{index}.bmp")
    assert ImageDataset(folder).digest() == first
    assert ImageDataset(folder, mirror=True).digest() == first
    changed = images.copy()
    changed[2, 0, 0, 0] ^= 1
    assert ImageDataset(write_archive(tmp_path / "b.zip", changed)).digest() != first
    assert ImageDataset(tmp_path / "a.zip", max_images=2).digest() != first
    one, two = (write_archive(tmp_path / f"{k}.zip", images, [0, 1, k]) for k in (0, 1))
    assert ImageDataset(one).digest() == ImageDataset(two).digest() == first
    assert ImageDataset(one, use_labels=True).digest() != ImageDataset(two, use_labels=True).digest()


def test_fingerprint_follows_what_is_trained_on_not_path_or_time(tmp_path):
    images, labels = make_images(4), [0, 1, 0, 1]
    changed = images.copy()
    changed[3, 0, 0, 0] ^= 1

    def print_of(name, pixels=images, classes=labels, names=None, **options):
        (tmp_path / str(options)).mkdir(exist_ok=True)
        path = tmp_path / str(options) / name
        shown = ImageDataset(path if path.exists() else write_archive(path, pixels, classes, names), **options)
        return shown.fingerprint()

    for ending in (".zip", ""):
        first = print_of(f"a{ending}")
        assert print_of(f"b{ending}", classes=[1, 1, 1, 1]) == first  # nobody looks at the labels
        assert print_of(f"c{ending}", changed) != first
        assert print_of(f"d{ending}", images[::-1]) != first
        assert print_of(f"e{ending}", images[:3], labels[:3]) != first
        labelled = {print_of(f"f{i}{ending}", classes=classes, names=names, use_labels=True)
                    for i, (classes, names) in enumerate([(labels, None), ([0, 1, 1, 1], None), (labels, ["x", "y"]),
                                                          ([0, 1, 0, 2], None)])}
        assert len(labelled | {first}) == 5
        subsets = {print_of(f"s{ending}", max_images=2, seed=seed) for seed in range(6)}
        assert len(subsets) > 1 and first not in subsets

    with zipfile.ZipFile(tmp_path / "again.zip", "w", zipfile.ZIP_DEFLATED) as again:  # now, packed and in disorder
        for file in sorted((tmp_path / "{}" / "a").rglob("*.*"), reverse=True):
            again.write(file, file.relative_to(tmp_path / "{}" / "a"))
    assert ImageDataset(tmp_path / "again.zip").fingerprint() == print_of("a.zip")
    shutil.copytree(tmp_path / "{}" / "a", tmp_path / "moved")
    assert ImageDataset(tmp_path / "moved").fingerprint() == print_of("a")


def test_a_dataset_can_be_pickled_after_use(tmp_path):
    dataset = ImageDataset(write_archive(tmp_path / "data.zip", make_images(3)))
    before = dataset.image(1)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(dataset)).image(1), before)


def test_headers_longer_than_usual_are_read(tmp_path):
    """A TIFF keeps its directory at the end, a JPEG may begin with a long profile."""
    pixels = make_images(1, size=256)[0].transpose(1, 2, 0)
    Image.fromarray(pixels).save(tmp_path / "a.tiff")
    Image.fromarray(pixels).save(tmp_path / "b.jpg", icc_profile=bytes(200_000))
    assert min(path.stat().st_size for path in tmp_path.iterdir()) > 3 * HEADER_BYTES
    assert ImageDataset(tmp_path).image_shape == [3, 256, 256]


def refused(path, **options):
    with pytest.raises(UserError) as caught:
        ImageDataset(path, **options)
    return caught.value.format_message()


def test_each_refusal_names_the_flag_and_the_remedy(tmp_path):
    assert refused(tmp_path / "nowhere").startswith("--data: ") and "does not exist" in refused(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("x")
    assert "no images" in refused(tmp_path / "empty") and "1 .txt" in refused(tmp_path / "empty")
    (tmp_path / "image.png").write_bytes(b"x")
    assert "neither a folder nor a .zip" in refused(tmp_path / "image.png")
    (tmp_path / "half.zip").write_bytes(b"PK\x03\x04 half")
    assert "copied whole" in refused(tmp_path / "half.zip")

    wide = write_archive(tmp_path / "wide.zip", np.zeros((1, 3, 16, 24), np.uint8))
    assert "24x16, and must be square" in refused(wide)
    assert "--resolution=16x16 --transform=center-crop" in refused(wide)
    odd = write_archive(tmp_path / "odd.zip", make_images(1, size=12))
    assert "power of two" in refused(odd) and "--resolution=8x8" in refused(odd)
    assert "power of two" in refused(write_archive(tmp_path / "tiny.zip", make_images(1, size=4)))
    good = write_archive(tmp_path / "good.zip", make_images(3))
    assert "it has no labels" in refused(good, use_labels=True) and refused(good, use_labels=True).startswith("--data")

    sizes = write_archive(tmp_path / "sizes.zip", [*make_images(2), make_images(1, size=16)[0]])
    assert "img00000000.png is 8x8 RGB, 00000/img00000002.png is 16x16 RGB" in refused(sizes)
    kinds = write_archive(tmp_path / "kinds.zip", [*make_images(1), make_images(1, channels=1)[0]])
    assert "is 8x8 gray" in refused(kinds)


def test_preload_refuses_a_broken_image_by_name(tmp_path):
    write_archive(tmp_path / "data", make_images(3))
    broken = tmp_path / "data" / "00000" / "img00000001.png"
    broken.write_bytes(broken.read_bytes()[:120])  # the header is whole
    dataset = ImageDataset(tmp_path / "data")
    with pytest.raises(UserError, match=r"img00000001\.png: cannot be decoded"):
        cache_dataset(dataset, "ram", torch.device("cpu"))
    broken.write_bytes(b"<html>")
    assert "img00000001.png: not an image but a web page" in refused(tmp_path / "data")


def test_images_that_change_later_are_refused_when_read(tmp_path):
    dataset = ImageDataset(write_archive(tmp_path / "data", make_images(3)))
    Image.new("L", (8, 8)).save(tmp_path / "data" / "00000" / "img00000002.png")
    with pytest.raises(UserError, match=r"img00000002\.png is 8x8 gray"):
        dataset.image(2)


def test_partly_labelled_archives_say_which(tmp_path):
    folder = write_archive(tmp_path / "data", make_images(3), [0, 1, 1])
    record = json.loads((folder / "dataset.json").read_text())
    record["labels"].pop(1)
    (folder / "dataset.json").write_text(json.dumps(record))
    assert "1 of its 3 images have no label in dataset.json (00000/img00000001.png)" in refused(folder, use_labels=True)
    assert len(ImageDataset(folder)) == 3


def test_deep_images_are_sent_to_the_dataset_tool(tmp_path):
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / "deep.png")
    assert "more than 8 bits" in refused(tmp_path)
