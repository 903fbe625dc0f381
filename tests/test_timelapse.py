import itertools
import json
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageSequence

from stylegan2_pipeline import timelapse as module
from stylegan2_pipeline.commands.timelapse import command
from stylegan2_pipeline.images import image_grid, save_image
from stylegan2_pipeline.timelapse import STRIP, Film, Step, plan, thinned, timelapse
from torch_utils.errors import UserError

RES = 16
KIMG = (0, 4, 8, 100)


def cells(step, channels=1, n=6):
    """Images of one value each, that tells the cell and the step."""
    values = 20 + 30 * np.arange(n) + 7 * step
    images = np.broadcast_to(values[:, None, None, None], [n, channels, RES, RES]).astype(np.uint8).copy()
    if channels == 4:
        images[:, 3] = np.where(np.arange(RES) < RES // 2, 255, 0)
    return images


def make_run(folder, channels=1, kimgs=KIMG, size=(3, 2)):
    folder.mkdir()
    options = {"training_set_kwargs": {"path": "data.zip", "resolution": RES, "max_size": 10, "xflip": False}}
    (folder / "training_options.json").write_text(json.dumps(options))
    for step, kimg in enumerate(kimgs):
        name = "fakes_init.png" if step == 0 else f"fakes{kimg:06d}.png"
        save_image(image_grid(cells(step, channels), size), folder / name)
    return folder


def decoded(path):
    """Frames as arrays, and their milliseconds."""
    with Image.open(path) as film:
        frames = [(np.asarray(frame.convert("RGB")), frame.info["duration"]) for frame in ImageSequence.Iterator(film)]
        assert film.info["loop"] == 0
    return [pixels for pixels, _ in frames], [duration for _, duration in frames]


def centres(frame, side, count, cols):
    """The gray value in the middle of each of the first cells, and that all of a cell is alike."""
    found = []
    for i in range(count):
        y, x = divmod(i, cols)
        cell = frame[y * side:(y + 1) * side, x * side:(x + 1) * side]
        assert (cell == cell[0, 0]).all()
        found.append(int(cell[0, 0, 0]))
    return found


def test_gray_grids_become_a_gif_of_exactly_their_pixels(tmp_path):
    path = timelapse(make_run(tmp_path / "run"), seconds=1.2, cells=6)
    assert path == tmp_path / "run" / "progress.gif"
    frames, durations = decoded(path)
    assert frames[0].shape == (2 * 64 + STRIP, 3 * 64, 3)
    assert sum(durations) == 1200 + 2000 and durations[-1] == 2000
    values = np.array([centres(frame, 64, 6, 3) for frame in frames])
    np.testing.assert_array_equal(values[0], cells(0)[:, 0, 0, 0])
    np.testing.assert_array_equal(values[-1], cells(3)[:, 0, 0, 0])
    assert (np.diff(values, axis=0) >= 0).all() and len(np.unique(values[:, 0])) > 4  # fades from grid to grid
    np.testing.assert_array_equal(np.diff(values, axis=1), 30)


def test_without_blending_a_frame_is_a_grid(tmp_path):
    frames, durations = decoded(timelapse(make_run(tmp_path / "run"), seconds=2.4, cells=6, blend=False))
    assert durations == [800, 800, 800, 2000]
    for step, frame in enumerate(frames):
        assert centres(frame, 64, 6, 3) == cells(step)[:, 0, 0, 0].tolist()


def test_frames_say_their_kimg_in_order(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(Film, "_with_strip", lambda self, picture, kimg, exact: said.append((kimg, exact)) or picture)
    timelapse(make_run(tmp_path / "run"), seconds=3)
    named, exact = np.array(said).T
    assert (np.diff(named) >= 0).all() and (np.diff(exact) > 0).all()
    assert set(named) == {*KIMG} and (exact[0], exact[-1]) == (KIMG[0], KIMG[-1])


def test_the_strip_differs_with_the_kimg_and_its_line_grows(tmp_path):
    frames, _ = decoded(timelapse(make_run(tmp_path / "run"), seconds=1, blend=False, cells=6))
    strips = [frame[-STRIP:] for frame in frames]
    assert all((a != b).any() for a, b in itertools.combinations(strips, 2))
    lengths = [int((strip[-1, :, 0] > 60).sum()) for strip in strips]
    assert lengths == [0, 8, 15, 192]  # of 192 pixels for 100 kimg


@pytest.mark.parametrize(("count", "chosen"), [(1, [0]), (2, [0, 3]), (4, [0, 1, 3, 4]), (6, range(6)), (99, range(6))])
def test_cells_are_taken_evenly(tmp_path, count, chosen):
    frames, _ = decoded(timelapse(make_run(tmp_path / "run"), tmp_path / "a.gif", cells=count, size=32, seconds=1))
    cols = {1: 1, 2: 2, 4: 2, 6: 3, 99: 3}[count]
    assert frames[0].shape[1] == cols * 32
    assert centres(frames[0], 32, len(chosen), cols) == cells(0)[list(chosen), 0, 0, 0].tolist()


@pytest.mark.parametrize(("n", "cols"), [(1, 1), (3, 3), (5, 3), (7, 4), (8, 4), (9, 3), (10, 5), (12, 4), (28, 7)])
def test_few_places_stay_empty(n, cols):
    assert module._columns(n) == cols


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_colour_and_transparent_grids(tmp_path, channels, suffix):
    out = tmp_path / f"film{suffix}"
    frames, durations = decoded(timelapse(make_run(tmp_path / "run", channels), out, seconds=1, size=RES))
    assert durations[-1] == 2000 and sum(durations) == pytest.approx(3000, abs=50)
    for frame, step in ((frames[0], 0), (frames[-1], 3)):
        opaque = [frame[2:RES - 2, x + 2:x + 6].mean() for x in range(0, 3 * RES, RES)]
        assert np.abs(opaque - cells(step)[:3, 0, 0, 0]).max() <= 6
        if channels == 4:
            assert frame[RES - 4, RES - 4:3 * RES:RES].min() >= 245  # paper shows through


def colour_tables(data):
    """How many colours the global table of a GIF has, and the table of each of its images."""
    def size(flags):
        return 2 << (flags & 7) if flags & 0x80 else 0

    everywhere, local = size(data[10]), []
    i = 13 + 3 * everywhere
    while data[i] != 0x3B:
        if data[i] == 0x21:
            i += 2
        else:
            assert data[i] == 0x2C
            local.append(size(data[i + 9]))
            i += 10 + 3 * local[-1] + 1
        while data[i]:
            i += 1 + data[i]
        i += 1
    return everywhere, local


@pytest.mark.parametrize("channels", [1, 3])
def test_a_gif_has_one_palette(tmp_path, channels):
    data = timelapse(make_run(tmp_path / "run", channels), seconds=1).read_bytes()
    everywhere, local = colour_tables(data)
    assert everywhere == 256 and len(local) > 4 and set(local) == {0}


def test_the_palette_serves_rare_colours_and_nearly_gray_ones(tmp_path):
    run = make_run(tmp_path / "run", 3)
    ramp = np.broadcast_to(np.arange(2 * RES, dtype=np.uint8)[:, None] * 7, (2 * RES, 3 * RES))
    pixels = np.stack([ramp, ramp, ramp])
    pixels[:, :3, :3] = np.array([250, 10, 10])[:, None, None]
    for path in run.glob("fakes*.png"):
        save_image(pixels, path)
    frames, _ = decoded(timelapse(run, seconds=1, cells=6, size=RES))
    error = np.abs(frames[0][:2 * RES].astype(int) - pixels.transpose(1, 2, 0))
    assert error.mean() < 1.5 and error[1, 1].max() < 20


def test_video(tmp_path):
    av = pytest.importorskip("av")
    path = timelapse(make_run(tmp_path / "run", 3), tmp_path / "film.mp4", cells=5, seconds=1.2)
    with av.open(str(path)) as video:
        stream = video.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(stream)]
        assert stream.average_rate == 25 and stream.codec_context.pix_fmt == "yuv420p"
    assert len(frames) == 30 + 50 and frames[0].shape == (148, 192, 3)
    assert abs(int(frames[0][32, 32, 0]) - 20) <= 3 and abs(int(frames[-1][32, 32, 0]) - 41) <= 3


def test_video_without_its_package_is_told_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    result = CliRunner().invoke(command, [str(tmp_path / "none"), f"--out={tmp_path / 'a.mp4'}"])
    assert result.exit_code == 2 and "pip install '.[video]'" in result.output


@pytest.mark.parametrize("name", ["a.avi", "a", "a.png"])
def test_other_suffixes_are_told(tmp_path, name):
    with pytest.raises(UserError, match=r"must end in \.gif, \.webp or \.mp4"):
        timelapse(tmp_path, tmp_path / name)


def test_the_command_prints_the_path(tmp_path):
    run = make_run(tmp_path / "run")
    result = CliRunner().invoke(command, [str(run), "--seconds=0.5", "--cells=2"], catch_exceptions=False)
    assert result.exit_code == 0 and result.stdout == f"{run / 'progress.gif'}\n"


@pytest.mark.parametrize(("kimgs", "said"), [((), "no grids of pictures"), ((0,), "just one grid of pictures")])
def test_runs_without_grids_are_told(tmp_path, kimgs, said):
    with pytest.raises(UserError, match=said):
        timelapse(make_run(tmp_path / "run", kimgs=kimgs))
    assert not (tmp_path / "run" / "progress.gif").exists()


def test_a_grid_of_another_size_is_told_by_name(tmp_path):
    run = make_run(tmp_path / "run")
    save_image(image_grid(cells(0), (2, 3)), run / "fakes000008.png")
    with pytest.raises(UserError, match=r"fakes000008\.png is 32x48, but the first grid of this run is 48x32"):
        timelapse(run)
    assert sorted(path.suffix for path in run.iterdir()) == [".json", *[".png"] * 4]  # no half a film


def test_grids_that_are_no_grids_are_told(tmp_path):
    run = make_run(tmp_path / "run")
    (run / "fakes000004.png").write_bytes((run / "fakes000008.png").read_bytes()[:60])
    with pytest.raises(UserError, match=r"fakes000004\.png cannot be read"):
        timelapse(run)
    save_image(np.zeros([1, 30, 30], np.uint8), run / "fakes_init.png")
    with pytest.raises(UserError, match="no grid of the images of 16 pixels"):
        timelapse(run)


@given(st.integers(2, 40), st.floats(0.1, 60), st.sampled_from([12.5, 25.0]), st.booleans())
def test_every_grid_has_its_time(grids, seconds, fps, blend):
    steps = plan(grids, seconds, fps, blend)
    shown = [sum(step.frames for step in steps if step.grid == grid) for grid in range(grids)]
    assert shown[-1] == 2 * fps and min(shown) >= 1
    if seconds * fps >= grids:
        assert sum(shown[:-1]) == round(seconds * fps) and max(shown[:-1]) - min(shown[:-1]) <= 1
    for a, b in itertools.pairwise(steps):
        assert (a.grid, a.weight) < (b.grid, b.weight) and a.frames >= 1
    assert blend or all(step.weight == 0 for step in steps)


def test_fades_are_smooth():
    weights = [step.weight for step in plan(2, 4, 25, True) if step.weight]
    assert len(weights) == 50 and max(np.diff([0, *weights, 1])) < 1.6 / 51  # the steepest of a smoothstep is 1.5
    assert weights[0] < 0.01 and weights == pytest.approx([1 - w for w in reversed(weights)])


@settings(max_examples=30)
@given(st.integers(2, 500), st.integers(0, 100))
def test_thinning_keeps_the_first_and_last(count, most):
    grids = [(float(i), None) for i in range(count)]
    kept = [kimg for kimg, _ in thinned(grids, most)]
    assert len(kept) == min(count, max(most, 2)) and (kept[0], kept[-1]) == (0, count - 1)
    gaps = np.diff(kept)
    assert gaps.min() >= 1 and gaps.max() - gaps.min() <= 1


def test_long_runs_are_thinned_to_the_film(tmp_path, monkeypatch):
    opened = []
    original = module._opened
    monkeypatch.setattr(module, "_opened", lambda path: opened.append(path.name) or original(path))
    run = make_run(tmp_path / "run", kimgs=range(0, 400, 4))
    frames, durations = decoded(timelapse(run, seconds=0.8, cells=1))
    assert len(frames) >= 9 and sum(durations) == 2800
    assert len(set(opened)) == 9 and "fakes_init.png" in opened and "fakes000396.png" in opened


def test_two_grids_are_in_memory_at_a_time(tmp_path):
    run = make_run(tmp_path / "run", kimgs=range(0, 80, 4))
    grids = [(float(i), path) for i, path in enumerate(sorted(run.glob("fakes0*.png")))]
    film = Film(grids, module._Layout.of(grids[0][1], RES, 4, None))
    for _ in film.frames([Step(i, w, 1) for i in range(len(grids) - 1) for w in (0, 0.5)]):
        assert len(film._kept) <= 2
