import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stylegan2_pipeline.networks import Generator
from stylegan2_pipeline.sampling import (
    class_label,
    images_of_seeds,
    images_of_ws,
    load_projected_ws,
    parse_grid,
    parse_seeds,
    seed_latents,
)
from torch_utils.errors import UserError


def generator(c_dim=0, channels=3, resolution=16):
    torch.manual_seed(1)
    G = Generator(32, c_dim, 32, resolution, channels, {"num_layers": 2}, {"channel_base": 512, "channel_max": 32})
    for name, parameter in G.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.3)
    G.mapping.w_avg.normal_()
    return G.eval().requires_grad_(False)


def all_images(*args, **kwargs):
    return np.concatenate(list(images_of_seeds(*args, **kwargs)))


def test_seeds_are_numbers_and_ranges_each_once_in_order():
    assert parse_seeds("1-10,15") == [*range(1, 11), 15]
    assert parse_seeds(" 7 , 3-5 ") == [7, 3, 4, 5]
    assert parse_seeds("2,1-3,2") == [2, 1, 3]
    assert parse_seeds("4294967295") == [2**32 - 1]


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, unique=True))
def test_any_list_of_seeds_is_read_back(seeds):
    assert parse_seeds(",".join(map(str, seeds))) == seeds


@pytest.mark.parametrize("text", ["", "a", "1,,2", "5-1", "-3", "1.5", "1-", "4294967296", "0-99999999", "1 2"])
def test_bad_seeds_are_refused_by_name(text):
    with pytest.raises(UserError, match="--seeds="):
        parse_seeds(text)


def test_grid_is_columns_by_rows():
    assert parse_grid("4x2") == (4, 2) and parse_grid("10X1") == (10, 1)


@pytest.mark.parametrize("text", ["", "4", "4x", "0x2", "4x-1", "4*2", "axb", "4x2x1"])
def test_bad_grids_are_refused_by_name(text):
    with pytest.raises(UserError, match=r"--grid=.*4x2"):
        parse_grid(text)


def test_latents_are_those_of_the_ecosystem():
    z = seed_latents([5, 0], 4)
    assert z.dtype == torch.float64
    np.testing.assert_array_equal(z[0], np.random.RandomState(5).randn(1, 4)[0])
    # numpy's legacy stream is frozen, so these digits are part of the format
    np.testing.assert_allclose(z[1], [1.76405235, 0.40015721, 0.97873798, 2.2408932], rtol=1e-8)


@pytest.mark.parametrize("noise_mode", ["const", "random", "none"])
def test_a_seed_is_one_image_to_the_bit_whatever_is_made_with_it(noise_mode):
    G = generator()
    images = all_images(G, list(range(8)), noise_mode=noise_mode, batch=8)
    assert images.shape == (8, 3, 16, 16) and images.dtype == np.uint8
    for batch in (1, 3):
        np.testing.assert_array_equal(all_images(G, list(range(8)), noise_mode=noise_mode, batch=batch), images)
    np.testing.assert_array_equal(all_images(G, [6, 2], noise_mode=noise_mode, batch=2), images[[6, 2]])
    assert len({image.tobytes() for image in images}) == 8


def test_images_are_the_networks_own():
    G = generator()
    z = seed_latents([3, 4], 32)
    direct = G(z, None, truncation_psi=0.5, noise_mode="const") * 127.5 + 128
    images = all_images(G, [3, 4], truncation_psi=0.5)
    assert np.abs(direct.clamp(0, 255).numpy() - images).max() <= 1.001  # truncation to integers


def test_noise_modes_differ_and_truncation_at_zero_leaves_one_image():
    G = generator()
    const, random, none = (all_images(G, [0], noise_mode=mode) for mode in ("const", "random", "none"))
    assert (const != random).any() and (const != none).any() and (random != none).any()
    one, other = all_images(G, [0, 1], truncation_psi=0.0)
    np.testing.assert_array_equal(one, other)


def test_ws_render_as_the_seeds_they_came_from():
    G = generator()
    ws = torch.cat([G.mapping(seed_latents([seed], 32), None) for seed in (0, 1, 2)])
    for mode in ("const", "random"):
        np.testing.assert_array_equal(np.concatenate(list(images_of_ws(G, ws, noise_mode=mode, batch=2))),
                                      all_images(G, [0, 1, 2], noise_mode=mode))


def test_a_class_is_found_by_name_and_by_number():
    G = generator(c_dim=3)
    assert class_label(G, ["cat", "dog", "eel"], "eel").tolist() == [[0, 0, 1]]
    assert class_label(G, ["cat", "dog", "eel"], "1").tolist() == [[0, 1, 0]]
    assert class_label(G, None, "0").tolist() == [[1, 0, 0]]
    assert class_label(G, ["2", "1", "0"], "2").tolist() == [[1, 0, 0]]  # names go first
    assert class_label(generator(), None, None) is None
    cat, dog = (all_images(G, [0], label=class_label(G, None, text)) for text in "01")
    assert (cat != dog).any()


@pytest.mark.parametrize(("c_dim", "names", "text", "message"), [
    (0, None, "cat", "--class=cat.*without classes"),
    (3, ["cat", "dog", "eel"], None, "choose one with --class.*cat, dog, eel"),
    (3, None, None, "--class.*0 to 2"),
    (3, ["cat", "dog", "eel"], "cow", "--class=cow.*cat, dog, eel"),
    (3, None, "3", "--class=3.*0 to 2"),
    (3, None, "-1", "--class=-1.*0 to 2"),
])  # fmt: skip
def test_classes_that_do_not_fit_the_network_are_refused(c_dim, names, text, message):
    with pytest.raises(UserError, match=message):
        class_label(generator(c_dim), names, text)


def test_projected_ws_are_read_in_the_networks_shape(tmp_path):
    G = generator()
    w = np.random.RandomState(0).randn(2, G.num_ws, 32)
    np.savez(tmp_path / "w.npz", w=w)
    ws = load_projected_ws(tmp_path / "w.npz", G)
    assert ws.dtype == torch.float32
    np.testing.assert_allclose(ws, w, rtol=1e-6)


@pytest.mark.parametrize(("arrays", "message"), [
    ({"x": np.zeros([1, 6, 32], np.float32)}, "no array named 'w'"),
    ({"w": np.zeros([1, 5, 32], np.float32)}, r"\[1, 5, 32\].*\[any number, 6, 32\]"),
    ({"w": np.zeros([6, 32], np.float32)}, "another network"),
    ({"w": np.zeros([0, 6, 32], np.float32)}, "another network"),
    ({"w": np.zeros([1, 6, 32], np.int64)}, "int64"),
    ({"w": np.full([1, 6, 32], np.nan, np.float32)}, "not finite"),
    ({"w": np.array([None])}, "cannot be read"),
])  # fmt: skip
def test_wrong_projections_are_refused_by_name(tmp_path, arrays, message):
    np.savez(tmp_path / "w.npz", **arrays)
    with pytest.raises(UserError, match=message) as error:
        load_projected_ws(tmp_path / "w.npz", generator())
    assert f"--projected-w={tmp_path / 'w.npz'}" in error.value.message


@pytest.mark.parametrize("write", [
    None, lambda path: path.write_text("hello"), lambda path: np.save(path.open("wb"), np.zeros(3)),
    lambda path: path.write_bytes(b"PK\x03\x04 half a zip"),
])  # fmt: skip
def test_what_is_no_npz_file_is_refused(tmp_path, write):
    path = tmp_path / "w.npz"
    if write:
        write(path)
    with pytest.raises(UserError, match=r"--projected-w=.*w\.npz"):
        load_projected_ws(path, generator())
