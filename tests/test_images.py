import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stylegan2_pipeline.images import grid_size, image_grid, save_image, to_uint8


def test_every_uint8_value_survives_the_way_to_floats_and_back():
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert torch.equal(to_uint8(pixels / 127.5 - 1), pixels)


def test_floats_are_clipped_and_truncated():
    x = torch.tensor([-3.0, -1.0, -1 + 0.6 / 127.5, 0.0, 1.0, 7.0]).reshape(1, 1, 1, 6)
    assert to_uint8(x).flatten().tolist() == [0, 0, 1, 128, 255, 255]


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_a_saved_image_is_read_back_to_the_bit_with_the_channels_of_the_model(tmp_path, channels, mode):
    image = np.random.RandomState(0).randint(0, 256, [channels, 8, 12], dtype=np.uint8)
    path = tmp_path / "folder" / "image.png"
    save_image(image, path)
    with Image.open(path) as read:
        assert read.mode == mode and read.size == (12, 8)
        back = np.asarray(read).reshape(8, 12, channels).transpose(2, 0, 1)
    np.testing.assert_array_equal(back, image)
    save_image(torch.from_numpy(image), tmp_path / "tensor.png")
    assert (tmp_path / "tensor.png").read_bytes() == path.read_bytes()


def test_a_write_that_fails_leaves_the_old_picture_and_no_rubbish(tmp_path, monkeypatch):
    path = tmp_path / "image.png"
    save_image(np.zeros([1, 4, 4], np.uint8), path)
    before = path.read_bytes()

    def half_a_file(self, name):
        name.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(Image.Image, "save", half_a_file)
    with pytest.raises(OSError, match="no space"):
        save_image(np.ones([1, 4, 4], np.uint8), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["image.png"]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_grid_holds_the_images_row_by_row(channels):
    images = np.random.RandomState(0).randint(1, 256, [5, channels, 4, 6], dtype=np.uint8)
    grid = image_grid(images, (3, 2))
    assert grid.shape == (channels, 2 * 4, 3 * 6)
    for i, image in enumerate(images):
        y, x = i // 3 * 4, i % 3 * 6
        np.testing.assert_array_equal(grid[:, y:y + 4, x:x + 6], image)
    assert not grid[:, 4:, 12:].any()


@given(resolution=st.sampled_from([4, 8, 64, 128, 256, 512, 1024]), n_max=st.integers(1, 3000))
def test_grid_is_within_its_bounds_and_uses_most_of_a_small_dataset(resolution, n_max):
    cols, rows = grid_size(resolution, n_max)
    assert 1 <= cols <= 32 and 1 <= rows <= 32 and cols * rows <= n_max
    full_cols, full_rows = grid_size(resolution, 10**9)
    assert cols * rows >= 0.5 * min(n_max, full_cols * full_rows)


def test_grid_of_a_large_dataset_fills_an_8k_screen():
    assert grid_size(32, 10**6) == (32, 32)
    assert grid_size(512, 10**6) == (15, 8)
    assert grid_size(2048, 10**6) == (7, 4)
