"""Reading run folders of three codes, whole and damaged ones."""

import copy
import dataclasses
import json
import math

import pytest
import run_folders
from run_folders import ADA_OPTIONS, STYLEGAN3_OPTIONS, measurement, own_options, own_run, public_run, tick, write_lines

from stylegan2_pipeline.config import TrainConfig
from stylegan2_pipeline.health.facts import Facts
from stylegan2_pipeline.health.rules import judge
from stylegan2_pipeline.history import read_run
from stylegan2_pipeline.run_settings import (
    SETTINGS,
    as_own_options,
    default_settings,
    kind_of,
    lookup,
    normalised,
    split_changed,
)
from torch_utils.errors import UserError


def test_a_run_of_this_project(tmp_path):
    run = read_run(own_run(tmp_path / "00000-brain-auto1", batch=8))
    assert run.kind == "ours" and run.name == "00000-brain-auto1" and run.problems == []
    assert [t["Progress/kimg"] for t in run.ticks] == [0, 4, 8, 12, 16] and run.kimg == 16
    assert [(p.kimg, p.value, p.results["swd_ratio"]) for p in run.metrics["swd"]] == [
        (4, 20, 10), (8, 10, 5), (12, 6, 3), (16, 5, 2.5)]
    assert [kimg for kimg, _ in run.grids] == [0, 4, 8, 12, 16] and run.grids[0][1].name == "fakes_init.png"
    assert run.reals is not None and run.snapshots == [] and not run.finished
    assert run.settings["batch"] == 8 and run.settings["channels"] == 1 and run.settings["augment"] == "ada"
    assert run.series("Loss/G/loss")[-1] == (16, pytest.approx(1.4))
    assert run.log_tail(5) == ["tick 0"]


@pytest.mark.parametrize(("options", "kind"), [(ADA_OPTIONS, "stylegan2-ada"), (STYLEGAN3_OPTIONS, "stylegan3")])
def test_runs_of_public_code(tmp_path, options, kind):
    run = read_run(public_run(tmp_path / "00003-brain-mirror-auto1-gamma6.5-kimg1000", options))
    assert run.kind == kind and run.problems == []
    expected = {"data": "/data/brain.zip", "resolution": 32, "num_images": 1944, "mirror": True, "batch": 32,
                "channels": 3, "g_lr": 0.0025, "channel_base": 16384, "mapping_layers": 2, "mbstd_group": 4,
                "augment": "ada", "ada_target": 0.6, "seed": 0, "total_kimg": 1000, "precision": "fp16",
                "conditional": False, "freeze_d": 10, "gamma": options["loss_kwargs"]["r1_gamma"], "cfg": "auto"}
    assert {name: run.settings.get(name) for name in expected} == expected
    assert [(p.kimg, p.value) for p in run.metrics["fid50k_full"]] == [(4, 300), (8, 120), (12, 60), (16, 50)]
    assert [kimg for kimg, _ in run.grids] == [0, 4, 8, 12, 16]


def test_what_only_stylegan3_tells(tmp_path):
    settings = read_run(public_run(tmp_path / "run", STYLEGAN3_OPTIONS)).settings
    assert settings["network"] == "networks_stylegan3.Generator" and settings["tick_kimg"] == 4
    assert settings["resume"].endswith(".pkl") and settings["pl_weight"] == 0 and "cfg" not in settings


def test_augmentation_of_public_code(tmp_path):
    without = {key: value for key, value in ADA_OPTIONS.items() if key not in ("augment_kwargs", "ada_target")}
    fixed = without | {"augment_kwargs": ADA_OPTIONS["augment_kwargs"], "augment_p": 0.3}
    for i, (options, mode) in enumerate([(without, "noaug"), (fixed, "fixed")]):
        assert read_run(public_run(tmp_path / str(i), options)).settings["augment"] == mode


def test_a_torn_last_line_and_foreign_values_are_left_out_and_told(tmp_path):
    folder = own_run(tmp_path / "run")
    with (folder / "stats.jsonl").open("a") as file:
        file.write("[1]\n" + json.dumps(tick(5, 20))[:80])
    write_lines(folder / "metric-swd.jsonl", [
        measurement("swd", 4, {"swd": 3.0}), measurement("swd", 8, {"swd": None}), {"results": 4}, {"metric": "swd"},
        measurement("swd", 0, {"swd": 2.0}, snapshot_pkl="network-best.pkl")])
    run = read_run(folder)
    assert len(run.ticks) == 5 and [p.value for p in run.metrics["swd"]] == [3]
    assert run.problems == ["metric-swd.jsonl: 1 measurement left out, because the name of the network does not tell "
                            "its kimg.", "stats.jsonl: 2 damaged lines left out."]


def test_statistics_that_are_not_finite_or_were_not_gathered(tmp_path):
    folder = own_run(tmp_path / "run")
    lines = [tick(0, 0.0), tick(1, 4.0, Loss__G__loss=None), tick(2, 8.0, Loss__G__loss=math.nan), tick(3, 12.0)]
    del lines[0]["Loss/G/loss"]
    write_lines(folder / "stats.jsonl", lines)
    assert read_run(folder).series("Loss/G/loss") == [(12, pytest.approx(1.3))]


def test_metrics_with_several_figures_and_those_measured_later(tmp_path):
    folder = own_run(tmp_path / "run")
    write_lines(folder / "metric-pr50k3_full.jsonl", [
        measurement("pr50k3_full", 8, {"pr50k3_full_precision": 0.7, "pr50k3_full_recall": 0.2}),
        measurement("pr50k3_full", 4, {"pr50k3_full_precision": 0.6, "pr50k3_full_recall": 0.1})])
    write_lines(folder / "metric-is50k.jsonl", [measurement("is50k", 4, {"is50k_std": 0.1, "is50k_mean": 5.0})])
    metrics = read_run(folder).metrics
    assert [(p.kimg, p.value) for p in metrics["pr50k3_full"]] == [(4, 0.6), (8, 0.7)]
    assert metrics["is50k"][0].value == 5


def test_verdicts_are_those_of_the_last_line(tmp_path):
    folder = own_run(tmp_path / "run")
    write_lines(folder / "health.jsonl", [{"kimg": 4, "verdicts": [{"rule": "a"}]}, {"kimg": 8, "verdicts": [
        {"rule": "b", "level": "good"}]}])
    assert read_run(folder).verdicts == [{"rule": "b", "level": "good"}]


def test_whether_a_run_is_finished(tmp_path):
    folder = own_run(tmp_path / "run", kimg=16)
    assert read_run(folder).finished
    (folder / "run.json").write_text('{"finished": false}')
    assert not read_run(folder).finished
    (folder / "run.json").write_text("torn {")
    assert read_run(folder).finished


def test_a_run_that_only_started(tmp_path):
    (tmp_path / "training_options.json").write_text(json.dumps(own_options()))
    run = read_run(tmp_path)
    assert run.ticks == [] and run.kimg == 0 and not run.finished and run.grids == [] and run.problems == []


@pytest.mark.parametrize("content", ["", "[]", "{torn", '{"other": 1}'])
def test_options_that_are_none(tmp_path, content):
    (tmp_path / "training_options.json").write_text(content)
    with pytest.raises(UserError, match=r"training_options\.json"):
        read_run(tmp_path)


def test_a_folder_that_is_no_run_is_told_where_runs_are(tmp_path):
    own_run(tmp_path / "00000-x")
    with pytest.raises(UserError, match="00000-x"):
        read_run(tmp_path)
    with pytest.raises(UserError, match="not a folder"):
        read_run(tmp_path / "nothing")


def test_the_table_of_settings_names_options_that_there_are():
    options = own_options()
    assert not [name for name, row in SETTINGS.items() if row[1] and _missing(options, row[1])]
    public = {**ADA_OPTIONS, **STYLEGAN3_OPTIONS}
    optional = {"loss_kwargs.style_mixing_prob", "augment_p", "ada_kimg", "allow_tf32"}
    assert not [row[2] for row in SETTINGS.values() if row[2] and lookup(public, row[2]) is None
                and row[2] not in optional and not row[2].startswith("data_loader")]


def _missing(options, path):
    for key in path.split("."):
        if key not in options:
            return True
        options = options[key]
    return False


JUNK = [None, "x", -1, 0, 1e308, math.nan, [], {}, [1, "a", None], {"a": 1}, True, "3", 10**30]


def leaves(value, path=()):
    if path:
        yield path
    for key, item in value.items() if isinstance(value, dict) else ():
        yield from leaves(item, (*path, key))


@pytest.mark.parametrize("options", [own_options(), ADA_OPTIONS, STYLEGAN3_OPTIONS], ids=["ours", "ada", "stylegan3"])
def test_a_setting_of_any_value_stops_nothing(options):
    kind = kind_of(options)
    for *groups, key in leaves(options):
        for junk in JUNK:
            mutated = copy.deepcopy(options)
            place = mutated
            for group in groups:
                place = place[group]
            place[key] = junk
            try:
                assert kind_of(mutated) in (kind, "stylegan2-ada", "stylegan3")
            except UserError:
                continue  # it is told to be no run
            settings = normalised(kind, mutated, "00000-x-auto1")
            changed, others = split_changed(settings, default_settings(settings, mutated, kind))
            assert set(changed) | set(others) == set(settings)
            assert all(type(settings.get(name, 0)) is int for name in ("resolution", "batch", "seed"))
            assert judge([], {}, Facts.of(as_own_options(settings)))


def test_what_was_changed_from_the_preset():
    options = own_options(batch=8, gamma=3.0, kimg=25000, mirror=True, resume="ffhq256")
    options["data"]["mirror"] = True
    settings = read_settings(options)
    changed, others = split_changed(settings, default_settings(settings, options, "ours"))
    assert {name: changed[name] for name in ("batch", "gamma", "mirror")} == {"batch": 8, "gamma": 3.0, "mirror": True}
    assert "resume" in changed and "total_kimg" in others and set(changed) | set(others) == set(settings)
    assert set(changed) <= {"batch", "gamma", "mirror", "resume", "ada_kimg", "ema_rampup", "mapping_layers"}


def test_nothing_is_changed_in_a_run_without_options_and_the_presets_hold_for_public_runs(tmp_path):
    settings = read_settings(own_options())
    assert split_changed(settings, default_settings(settings, own_options(), "ours"))[0] == {}
    run = read_run(public_run(tmp_path / "00000-brain-mirror-auto1-kimg1000", ADA_OPTIONS))
    changed, _ = split_changed(run.settings, default_settings(run.settings, run.options, run.kind))
    assert {"mirror", "gamma", "total_kimg", "freeze_d"} <= set(changed) and "g_lr" not in changed
    assert default_settings(run.settings, run.options, "stylegan3") is None


def read_settings(options):
    return normalised("ours", options)


def test_the_helper_writes_whole_configurations():
    assert set(own_options()) == {field.name for field in dataclasses.fields(TrainConfig)}
    assert run_folders.grid(4, 3, 0).size == (128, 96)
