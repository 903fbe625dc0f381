"""The report: what the page holds, that nothing hostile gets out of it, charts and pictures, and the command."""

import base64
import csv
import io
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from archives import make_images, write_archive
from click.testing import CliRunner
from PIL import Image
from run_folders import (
    ADA_OPTIONS,
    RES,
    STYLEGAN3_OPTIONS,
    grid,
    make_run,
    measurement,
    own_options,
    own_run,
    public_run,
    tick,
    write_lines,
)

from stylegan2_pipeline.checkpoint import save_snapshot
from stylegan2_pipeline.commands.report import command
from stylegan2_pipeline.history import read_run
from stylegan2_pipeline.networks import Generator
from stylegan2_pipeline.report import difficulty as report_difficulty
from stylegan2_pipeline.report.charts import Axis, Chart, Line, axes, figure, safe_json, short, thinned, ticks
from stylegan2_pipeline.report.html import asset
from stylegan2_pipeline.report.pictures import UnreadablePicture, frames, read_grid, spread
from stylegan2_pipeline.report.run import Wanted, view_run
from stylegan2_pipeline.report.samples import make_samples
from stylegan2_pipeline.report.write import cell, report
from torch_utils.errors import UserError

GOLDEN = Path(__file__).parent / "golden"
PLAIN = Wanted(samples=False, difficulty=False)
HOSTILE = "<script>alert(1)</script>'\"><img src=x onerror=alert(2)>&amp;{{7*7}}"
VOID = {"meta", "link", "img", "input", "br", "hr"}


class Page(HTMLParser):
    """Text, attributes and scripts of a page; fails on tags that do not match."""

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.scripts, self.words = [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")
        if tag not in VOID and not tag.startswith(("circle", "polyline", "line")):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def ids(self):
        return [attrs["id"] for _, attrs in self.tags if "id" in attrs]

    def pictures(self):
        return [attrs["src"] for tag, attrs in self.tags if tag == "img"]


def check_closed(page):
    """Loads nothing from anywhere, and runs nothing but its own script."""
    for tag, attrs in page.tags:
        for name, value in attrs.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href"):
                assert value.startswith(("data:", "#")), (tag, value)
        assert tag not in ("iframe", "object", "embed", "base", "form", "foreignobject")
    kinds = [attrs.get("type") for tag, attrs in page.tags if tag == "script"]
    assert kinds.count(None) == 1 and set(kinds) <= {None, "application/json"}
    for kind, script in zip(kinds, page.scripts, strict=True):
        assert json.loads(script) if kind else script == asset("report.js")
    assert any("default-src 'none'" in attrs.get("content", "") for tag, attrs in page.tags if tag == "meta")


def test_the_page_of_a_run(tmp_path):
    run = own_run(tmp_path / "00000-brain-auto1-batch8", batch=8)
    (run / "training-state-000016000.pt").touch()
    page = Page(report(run, wanted=PLAIN)[0])
    check_closed(page)
    assert page.ids() == ["settings", "curves", "metrics", "time", "likeness", "nearest", "log", "next",
                          "caveats"]
    assert "Best swd 5 at 16 kimg, 2.5 times its floor" in page.text
    assert "Batch 8 32" in page.text, "what was changed comes with the preset's value"
    assert f"Go on with the training python train.py --continue={run} " in page.text and "not finished" in page.text
    assert "no FID" in page.text and "Data measured: ab12" in page.text
    assert len(page.pictures()) == 5 + 5 + 4 + 2, "a film strip, grids, reals beside fakes, averages, the most real"
    charts = [attrs for tag, attrs in page.tags if tag == "svg" and attrs.get("role") == "img"]
    assert len(charts) == 9 and all(": " in attrs["aria-label"] for attrs in charts)


@pytest.mark.parametrize("options", [ADA_OPTIONS, STYLEGAN3_OPTIONS], ids=["ada", "stylegan3"])
def test_the_page_of_a_run_of_public_code(tmp_path, options):
    page = Page(report(public_run(tmp_path / "00001-brain-auto1", options))[0])
    check_closed(page)
    assert "Best fid50k_full 50 at 16 kimg" in page.text and "public stylegan" in page.text
    assert "/data/brain.zip is not here" in page.text and "no network-snapshot" in page.text
    assert "--continue" not in page.text, "that is for runs of this project"


def test_how_to_go_on_depends_on_what_there_is(tmp_path):
    run = own_run(tmp_path / "run", kimg=16)
    assert "train.py --continue" not in Page(report(run, wanted=PLAIN)[0]).text, "there is no state to go on from"
    (run / "training-state-000016000.pt").touch()
    assert f"Train longer python train.py --continue={run} --kimg=32" in Page(report(run, wanted=PLAIN)[0]).text


def test_a_run_that_only_started_has_a_page(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "training_options.json").write_text(json.dumps(own_options()))
    page = Page(report(run)[0])
    check_closed(page)
    assert "no statistics of this run yet" in page.text


def test_what_the_run_measured_of_its_images_is_drawn_by_subject(tmp_path):
    run = own_run(tmp_path / "run")
    names = ("diversity", "variety", "brightness", "contrast", "leak_turn", "nearest_real", "change", "news")
    write_lines(run / "stats.jsonl", [tick(i, 4.0 * i, **{f"Health__{name}": 0.5 + i / 10 for name in names})
                                      for i in range(4)])
    page = Page(report(run, wanted=PLAIN)[0])
    for title in ("Variety of the images distances directions", "Nearest training image", "Images: news",
                  "Signs of augmentation in the images turned"):
        assert title in page.text, title


def hostile_run(folder):
    options = own_options()
    options["data"] |= {"path": HOSTILE, "name": HOSTILE, "fingerprint": HOSTILE}
    options |= {"cfg": HOSTILE, "resume": "'; rm -rf ~ #" + HOSTILE, "device": HOSTILE}
    make_run(folder, options, log=HOSTILE + "\n</pre>\n")
    lines = [measurement("swd", 4, {"swd": 2.0, HOSTILE: 1.0}, data_digest=HOSTILE, versions={HOSTILE: HOSTILE},
                         counts={HOSTILE: 3}, seed=HOSTILE),
             measurement(HOSTILE, 4, {HOSTILE: 2.0}), measurement(HOSTILE, 8, {HOSTILE: 3.0})]
    write_lines(folder / "metric-swd.jsonl", lines)
    verdict = dict.fromkeys(("rule", "level", "sentence", "advice", "evidence"), HOSTILE)
    write_lines(folder / "health.jsonl", [{"kimg": 4, "verdicts": [verdict, {"level": ["x"], "sentence": {"a": 1}}]}])
    write_lines(folder / "stats.jsonl", [tick(i, 4.0 * i, **{f"Health__{HOSTILE}".replace("/", "|"): 0.5})
                                         for i in range(3)])
    return folder


def test_nothing_hostile_gets_out(tmp_path):
    a, b = (hostile_run(tmp_path / f"{i}<img src=x onerror=alert(3)>\"'") for i in range(2))
    for written in (report(a, wanted=PLAIN), report(a, b, wanted=PLAIN, as_json=True, as_csv=True)):
        page = Page(written[0])
        check_closed(page)
        assert HOSTILE in page.text and "<img src=x onerror=alert(3)>" in page.text, "it is shown as text"
        assert all(source.startswith("data:image/") for source in page.pictures())


@pytest.mark.parametrize("junk", [None, "x", 1e308, float("nan"), [], {"a": 1}, True, 10**30])
def test_figures_of_any_value_stop_nothing(tmp_path, junk):
    run = own_run(tmp_path / "run")
    verdict = {"rule": junk, "level": junk, "advice": junk}
    write_lines(run / "health.jsonl", [{"kimg": junk, "verdicts": [verdict, junk]}])
    lines = [measurement("swd", 4 * i, {"swd": junk if i == 2 else 5.0 - i, "swd_ratio": junk}, counts=junk, seed=junk,
                         versions=junk) | {"timestamp": junk} for i in range(6)]
    write_lines(run / "metric-swd.jsonl", [*lines, {"metric": "swd", "results": {"swd": 1.0}, "cur_nimg": junk}, junk])
    good = [tick(i, 4.0 * i) for i in range(3)]
    write_lines(run / "stats.jsonl", [*good, tick(3, 12.0) | {"Loss/G/loss": junk}, tick(4, junk),
                                      tick(5, 20.0, Loss__D__loss=junk), junk])
    options = own_options() | {"best_metric": junk}
    (run / "training_options.json").write_text(json.dumps(options))
    wanted = Wanted(pictures=False, difficulty=False)
    page_path, json_path, _ = report(run, wanted=wanted, as_json=True, as_csv=True)
    check_closed(Page(page_path))
    assert json.loads(json_path.read_text())["runs"][0]["metrics"]["swd"]["best"] <= 1


def test_two_runs_beside_each_other(tmp_path):
    a = own_run(tmp_path / "00000-a", batch=8, seed=1)
    b = own_run(tmp_path / "00001-b", swd=(90.0, 30.0, 8.0, 2.4), batch=16, seed=1)
    page_path, json_path, csv_path = report(a, b, wanted=PLAIN, as_json=True, as_csv=True)
    assert page_path == tmp_path / "compare-00000-00001.html"
    page = Page(page_path)
    check_closed(page)
    assert page.ids() == ["setup", "quality", "reach", "training", "final", "notes", "time", "likeness", "nearest",
                          "caveats"]
    document = json.loads(json_path.read_text())
    differs = {row["setting"]: (row["a"], row["b"]) for row in document["setup_diff"]}
    assert differs["Batch"] == (8, 16) and "Seed" not in differs
    levels = {row["level"]: (row["a_kimg"], row["b_kimg"]) for row in document["reached"]["swd"]}
    assert levels["3 times its floor"] == (12, 16) and levels["2 times its floor"] == (None, 16)
    assert "not comparable in absolute terms" in page.text and "2 times its floor not yet - 16 6m 40s" in page.text
    final = {row["figure"]: row for row in document["final"]}
    assert (final["swd_ratio"]["a_best"], final["swd_ratio"]["b_last"]) == (2.5, 1.2)
    rows = list(csv.DictReader(io.StringIO(csv_path.read_text())))
    assert {"run": "00001-b", "kimg": "16", "name": "Metrics/swd", "value": "2.4"} in rows
    assert {row["run"] for row in rows} == {"00000-a", "00001-b"}


def test_a_metric_that_one_run_did_not_measure(tmp_path):
    a, b = own_run(tmp_path / "a"), own_run(tmp_path / "b")
    (b / "metric-swd.jsonl").unlink()
    text = Page(report(a, b, wanted=PLAIN)[0]).text
    assert "2.5 times its floor 16 6m 40s not measured -" in text and "swd_ratio 2.5 2.5 - -" in text


def test_a_run_of_public_code_beside_one_of_this_project(tmp_path):
    a, b = own_run(tmp_path / "mine"), public_run(tmp_path / "theirs", STYLEGAN3_OPTIONS)
    page = Page(report(a, b, wanted=PLAIN)[0])
    check_closed(page)
    assert "Trained by ours stylegan3" in page.text and "no floor measured" in page.text
    assert read_run(b).settings["channels"] == 3 and "Channels 1 3" in page.text


def test_without_pictures_there_is_none(tmp_path):
    page = Page(report(own_run(tmp_path / "run"), wanted=Wanted(pictures=False, difficulty=False))[0])
    assert not page.pictures() and "time" not in page.ids() and "curves" in page.ids()


def test_what_cannot_be_shown_is_said(tmp_path):
    run = own_run(tmp_path / "run")
    (run / "fakes000008.png").write_bytes(b"torn")
    Image.new("L", (100, 100)).save(run / "fakes000012.png")
    (run / "network-snapshot-000016.pkl").write_bytes(b"no pickle")
    page = Page(report(run)[0])
    for words in ("Not in this report (4)", "fakes000008.png cannot be read", "fakes000012.png (100x100) is no grid",
                  "No images were made anew: ", "brain.zip is not here"):
        assert words in page.text, words


def tiny_network(path, c_dim=0):
    kwargs = {"z_dim": 8, "c_dim": c_dim, "w_dim": 8, "img_resolution": 32, "img_channels": 1,
              "mapping_kwargs": {"num_layers": 1}, "synthesis_kwargs": {"channel_base": 64, "channel_max": 4}}
    save_snapshot(path, {"G_ema": Generator(**kwargs)}, {"G_ema": kwargs}, options={}, class_names=None, cur_nimg=0,
                  augment_p=0.0, pl_mean=0.0)


def test_public_snapshots_make_samples_and_other_architectures_are_told(tmp_path):
    run = public_run(tmp_path / "run", ADA_OPTIONS)
    shutil.copy(GOLDEN / "nvlabs_layout.pkl", run / "network-snapshot-000016.pkl")
    view = view_run(read_run(run), Wanted(difficulty=False))
    assert view.samples.random is not None and not view.problems
    data = (GOLDEN / "nvlabs_layout.pkl").read_bytes()
    (run / "network-snapshot-000016.pkl").write_bytes(data.replace(b"SynthesisLayer", b"SynthesisOther"))
    problems = []
    assert make_samples(run / "network-snapshot-000016.pkl", "cpu", problems) is None
    assert len(problems) == 1 and "No images were made anew" in problems[0] and len(problems[0]) < 350


def test_samples_are_made_from_the_best_network(tmp_path):
    run = own_run(tmp_path / "run", swd=(20.0, 4.0, 6.0, 5.0))
    for kimg in (8, 16):
        tiny_network(run / f"network-snapshot-{kimg:06d}.pkl", c_dim=3)
    view = view_run(read_run(run), Wanted(difficulty=False, frames=2))
    assert view.network.name == "network-snapshot-000008.pkl" and view.network_words == "the best by swd (8 kimg)"
    sizes = [(picture.width, picture.height) for _, picture in view.samples.sweep]
    assert sizes == [(8 * RES, RES)] * 4 and [psi for psi, _ in view.samples.sweep] == [0.3, 0.5, 0.7, 1]
    assert (view.samples.walk.width, view.samples.random.height) == (9 * RES, 4 * RES)
    (run / "network-snapshot-000008.pkl").unlink()
    assert view_run(read_run(run), PLAIN).network_words == "the last one (16 kimg)"
    (run / "network-best.pkl").touch()
    assert view_run(read_run(run), PLAIN).network.name == "network-best.pkl"


def test_the_data_is_described_once(tmp_path, monkeypatch):
    archive = write_archive(tmp_path / "brain.zip", make_images(30, 1, RES))
    options = own_options()
    options["data"]["path"] = str(archive)
    run = make_run(tmp_path / "run", options)
    first = view_run(read_run(run), Wanted(samples=False)).described
    monkeypatch.setattr(report_difficulty, "describe_dataset", lambda *_: pytest.fail("measured again"))
    again = view_run(read_run(run), Wanted(samples=False)).described
    assert again.difficulty == first.difficulty and again.average == first.average
    archive.unlink()
    assert view_run(read_run(run), Wanted(samples=False)).described.difficulty == first.difficulty
    write_archive(archive, make_images(31, 1, RES))
    with pytest.raises(pytest.fail.Exception, match="measured again"):
        view_run(read_run(run), Wanted(samples=False))


def test_grids_are_cut_into_their_images(tmp_path):
    grid(4, 3, 0).save(tmp_path / "g.png")
    cells = read_grid(tmp_path / "g.png", RES)
    assert cells.images.shape == (12, 1, RES, RES) and (cells.cols, cells.rows) == (4, 3)
    assert np.allclose(cells.images.mean(axis=(1, 2, 3)), 39.5 + np.arange(12), atol=0.7)
    with pytest.raises(UnreadablePicture):
        read_grid(tmp_path / "g.png", 48)


def test_the_film_strip_shows_the_same_latents(tmp_path):
    found = frames(read_run(own_run(tmp_path / "run")), 3, [])
    assert [frame.kimg for frame in found] == [0, 8, 16]
    for frame in found:
        data = base64.b64decode(frame.column.uri.split(",")[1])
        column = np.asarray(Image.open(io.BytesIO(data)).convert("L"), float).reshape(6, -1).mean(axis=1)
        assert np.allclose(column, 39.5 + np.arange(6), atol=1.5)


@pytest.mark.parametrize("most", [2, 3, 7, 50])
def test_moments_are_spread_evenly_with_both_ends(most):
    chosen = spread(range(40), most)
    assert chosen[0] == 0 and chosen[-1] == 39 and len(chosen) == min(most, 40) == len(set(chosen))
    gaps = np.diff(chosen)
    assert gaps.max() - gaps.min() <= 1


@pytest.mark.slow
def test_large_pictures_of_noise_stay_within_the_page(tmp_path):
    """The worst that compression meets: 8K grids of noise; a quarter of the moments, so at most a quarter of 15 MB."""
    options = own_options()
    options["data"]["resolution"] = 512
    run = make_run(tmp_path / "run", options, ticks=6)
    noise = Image.fromarray(np.random.RandomState(0).randint(0, 256, (2560, 4096, 3), np.uint8).astype(np.uint8))
    for name in ("reals", "fakes000004"):
        noise.save(run / f"{name}.png", compress_level=0)
    for i in range(2, 6):
        (run / f"fakes{4 * i:06d}.png").unlink()
        (run / f"fakes{4 * i:06d}.png").hardlink_to(run / "fakes000004.png")
    (run / "fakes_init.png").unlink()
    path, = report(run, wanted=PLAIN)
    assert path.stat().st_size < 15e6 / 4
    assert "8x4 of 8x5 images; reduced from 512 to 128 pixels" in Page(path).text


@pytest.mark.parametrize(("lo", "hi", "log"), [(0, 1, False), (-3.2, 17, False), (1e-6, 2e4, True), (3, 8, True),
                                               (1234.5, 1234.6, False), (0.9, 1.1, True)])
def test_axes_go_from_end_to_end_and_their_ticks_lie_within(lo, hi, log):
    axis = Axis(lo, hi, 50, 450, log)
    assert axis(lo) == 50 and axis(hi) == 450
    values = ticks(axis)
    assert 1 <= len(values) <= 7 and all(lo - 1e-9 <= value <= hi + 1e-9 for value in values)
    if not log:
        assert np.allclose(np.diff(values), values[1] - values[0])


def test_log_scales_are_for_values_that_span_decades():
    def log(values, **more):
        line = Line("a", list(enumerate(values)))
        return axes(Chart("t", [line], **more), [line])[1].log

    assert log([0.01, 1]) and not log([0.5, 1]) and not log([-1, 100]) and not log([0.01, 1], log=False)
    assert not log([1, 2, 0], log=True), "zero has no place on a log scale"


def test_no_spike_is_lost_when_points_are_many():
    values = np.random.RandomState(0).randn(20000)
    values[12345], values[777] = 99, -99
    kept = thinned([(float(i), float(v)) for i, v in enumerate(values)])
    assert len(kept) <= 600 and (12345.0, 99.0) in kept and (777.0, -99.0) in kept and kept == sorted(kept)


def test_a_chart_without_points_is_none_and_one_point_is_a_dot():
    assert figure(Chart("t", [Line("a", [])])) == ""
    assert '<circle class="dot' in figure(Chart("t", [Line("a", [(1.0, 2.0)])]))


def test_json_within_a_page():
    value = {"</script>": ["<!--", float("nan"), 1.5, "\u2028&"]}
    text = safe_json(value)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"</script>": ["<!--", None, 1.5, "\u2028&"]}


@pytest.mark.parametrize(("value", "text"), [(0.0, "0"), (1234.5678, "1235"), (0.00012345, "0.000123"), (5e-8, "5e-8"),
                                             (123456.0, "1.23e5"), (25000.0, "25000"), (-0.5, "-0.5")])
def test_figures_as_they_are_read(value, text):
    assert short(value) == text


def test_no_cell_of_the_csv_is_a_formula():
    assert [cell(name) for name in ("=1+1", "@x", "-a", "plain")] == ["'=1+1", "'@x", "'-a", "plain"]


def test_the_command(tmp_path, monkeypatch):
    run = own_run(tmp_path / "run")
    opened = []
    monkeypatch.setattr("click.launch", opened.append)
    arguments = [str(run), "--no-samples", "--no-difficulty", "--out", str(tmp_path / "a.html"), "--json", "--open"]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0 and result.output.split() == [str(tmp_path / "a.html"), str(tmp_path / "a.json")]
    assert opened == [str(tmp_path / "a.html")]


@pytest.mark.parametrize("arguments", [["run", "run"], ["run", "--out=a.pdf"], ["nothing"], ["."]])
def test_what_the_command_refuses(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    own_run(tmp_path / "run")
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2 and "Error" in result.output and "Traceback" not in result.output
    assert not list(tmp_path.glob("**/*.html"))
    with pytest.raises(UserError):
        report(tmp_path / "run", tmp_path / "run")


def test_verdicts_of_the_run_itself_come_first(tmp_path):
    run = own_run(tmp_path / "run")
    said = {"rule": "collapse", "level": "bad", "sentence": "All alike.", "advice": "--gamma=5",
            "evidence": "0.1 < 0.5"}
    write_lines(run / "health.jsonl", [{"kimg": 16, "verdicts": [dict(said, level="good", rule="x"), said]}])
    page = Page(report(run, wanted=PLAIN)[0])
    worst = page.text.index("✗ bad All alike. Change one flag: --gamma=5 collapse: 0.1 < 0.5")
    assert worst < page.text.index("✓ good")
    assert "As the run judged itself" in page.text
