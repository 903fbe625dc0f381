"""The rules: histories of real runs, and made ones that each have one thing wrong."""

import dataclasses
import itertools
import json
import math
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stylegan2_pipeline.config import AugmentConfig, DataConfig, LossConfig, OptimizerConfig, TrainConfig
from stylegan2_pipeline.health.facts import Facts
from stylegan2_pipeline.health.rules import LATE_STEPS, judge
from stylegan2_pipeline.health.series import History, alarm, medians, points_of, slope

RECORDED = sorted((Path(__file__).parent / "health").glob("*.json"))
WELL = {
    "Loss/scores/real": 0.8, "Loss/scores/fake": -0.9, "Loss/signs/real": 0.5, "Loss/signs/fake": -0.5,
    "Loss/G/loss": 1.3, "Loss/D/loss": 0.9, "Gradients/Gmain/norm": 3.0, "Gradients/Dmain/norm": 2.0,
    "Health/diversity": 0.9, "Health/distinct": 0.95, "Health/nearest_pair": 0.9, "Health/variety": 0.8,
    "Health/nearest_real": 1.0, "Health/brightness": 0.1, "Health/contrast": 0.95, "Health/extreme": 0.0,
    "Health/sharpness": 0.9, "Health/change": 0.1, "Health/leak_color": 0.05, "Progress/augment": 0.2,
}  # fmt: skip


def ticks(n=40, tick_kimg=4.0, **wrong):
    """n ticks of a healthy run, but for statistics (by the name's last part) that are a number or a function of i."""
    found = []
    for i in range(n):
        tick = dict(WELL, **{"Progress/kimg": (i + 1) * tick_kimg, "Progress/tick": i})
        for short, value in wrong.items():
            name, = (known for known in WELL if known.replace("/", "_").endswith("_" + short))
            tick[name] = value(i) if callable(value) else value
        found.append(tick)
    return found


def rules(history, metrics=None, **facts):
    return {verdict.rule: verdict for verdict in judge(history, metrics or {}, Facts(**facts))}


def test_a_run_with_nothing_wrong_is_balanced():
    found = rules(ticks())
    assert list(found) == ["balanced"] and found["balanced"].level == "good"


WRONG = [  # what is wrong, settings, the rule, its level, its advice
    (dict(signs_real=0.95), dict(augment="noaug"), "overfitting", "bad", "--aug=ada (now noaug)"),
    (dict(signs_real=0.95), dict(augment="diffaugment"), "overfitting", "bad", "--aug=ada (now diffaugment)"),
    (dict(signs_real=0.95), dict(augment="fixed", p=0.2), "overfitting", "bad", "--p=0.4 (now 0.2)"),
    (dict(signs_real=0.95), dict(gamma=6.55), "overfitting", "bad", "--gamma=13.1 (now 6.55)"),
    (dict(signs_real=0.87, scores_real=2, scores_fake=-2), dict(augment="noaug"), "overfitting", "watch",
     "--aug=ada (now noaug)"),
    (dict(signs_real=0.95, augment=lambda i: i / 100), dict(gamma=5), "overfitting", "watch", "--gamma=10 (now 5)"),
    (dict(signs_real=0.8, scores_real=4, scores_fake=-4), dict(augment="noaug"), "overfitting", "watch",
     "--aug=ada (now noaug)"),
    (dict(diversity=0.2), dict(gamma=0.5, g_lr=0.02), "collapse", "bad", "--glr=0.0025 (now 0.02)"),
    (dict(diversity=0.2), dict(d_lr=0.01), "collapse", "bad", "--dlr=0.0025 (now 0.01)"),
    (dict(distinct=0.1), dict(gamma=0.001, resolution=256, batch=32), "collapse", "bad", "--gamma=0.2048 (now 0.001)"),
    (dict(nearest_pair=0.1, variety=0.1), {}, "collapse", "bad", "--gamma=20 (now 10)"),
    (dict(nearest_pair=0.1), {}, "collapse", "watch", "--gamma=20 (now 10)"),
    (dict(Gmain_norm=lambda i: 3 * 2 ** max(i - 20, 0)), {}, "divergence", "bad", "--gamma=20 (now 10)"),
    (dict(scores_fake=-400), {}, "divergence", "bad", "--gamma=20 (now 10)"),
    (dict(G_loss=lambda i: 0.5 + 4 * (i % 2)), dict(g_lr=0.01), "divergence", "watch", "--glr=0.0025 (now 0.01)"),
    (dict(brightness=lambda i: 0.1 * i), dict(g_lr=0.01), "divergence", "bad", "--glr=0.0025 (now 0.01)"),
    (dict(brightness=-2.0), dict(g_lr=0.01), "divergence", "bad", "--glr=0.0025 (now 0.01)"),
    (dict(contrast=lambda i: max(1 - 0.05 * i, 0)), {}, "divergence", "bad", "--gamma=20 (now 10)"),
    (dict(extreme=lambda i: 0.0 if i < 20 else 0.9), {}, "divergence", "bad", "--gamma=20 (now 10)"),
    (dict(G_loss=lambda i: None if i == 39 else 1.3), {}, "divergence", "bad", "--gamma=20 (now 10)"),
    (dict(augment=1.0, signs_real=0.8), {}, "pinned", "bad", "--gamma=20 (now 10)"),
    (dict(augment=1.0, signs_real=0.2), {}, "pinned", "watch", "--target=0.7 (now 0.6)"),
    (dict(augment=0.85), {}, "pinned", "watch", "--target=0.7 (now 0.6)"),
    (dict(augment=0.9), dict(augment="fixed", p=0.9), "pinned", "watch", "--p=0.6 (now 0.9)"),
    (dict(augment=0.7, leak_color=0.6), {}, "leaking", "watch", "--target=0.7 (now 0.6)"),
    (dict(augment=0.7, leak_color=0.6), dict(augment="fixed", p=0.7), "leaking", "watch", "--p=0.4 (now 0.7)"),
    (dict(augment=0.0, leak_color=0.6), dict(augment="diffaugment"), "leaking", "bad",
     "--aug=ada (now diffaugment)"),
    (dict(nearest_real=0.2), {}, "copying", "watch", "--mirror=1 (now 0), where left and right do not matter"),
    (dict(nearest_real=0.2), dict(mirror=True), "copying", "watch", "--gamma=20 (now 10)"),
    (dict(change=0.001), dict(g_lr=1e-5), "stalled", "bad", "--glr=0.0025 (now 1e-05)"),
]


@pytest.mark.parametrize(("wrong", "facts", "rule", "level", "advice"), WRONG)
def test_what_is_wrong_is_named_with_the_flag_to_change(wrong, facts, rule, level, advice):
    found = rules(ticks(**wrong), **facts)
    assert found[rule].level == level and found[rule].advice == advice
    assert found[rule].evidence and found[rule].sentence.endswith(".") and "nan" not in found[rule].evidence
    others = set(found) - {rule} - ({"pinned"} if wrong.get("augment", 0) == 1 else set())
    assert not others, others


def test_the_worst_comes_first():
    history = ticks(diversity=0.2, augment=0.85, signs_real=0.87, scores_fake=-3)
    levels = [verdict.level for verdict in judge(history, {}, Facts())]
    assert levels == sorted(levels, key=["bad", "watch", "good"].index) and len(levels) >= 3


@pytest.mark.parametrize("n", [0, 1, 3])
def test_few_ticks_are_too_early_to_judge(n):
    assert list(rules(ticks(n, signs_real=0.99, diversity=0.01))) == ["early"]


def test_the_first_steps_do_not_count():
    """Thirty ticks of a small part of a kimg: less than a hundred steps of 32 images."""
    assert list(rules(ticks(30, tick_kimg=0.1, signs_real=1.0))) == ["early"]


def test_unfinished_images_are_no_leak_and_no_divergence():
    """Far from the data from the first tick on, and nearing it."""
    improving = dict(leak_color=lambda i: 1 / (1 + 0.2 * i), brightness=lambda i: 2 / (1 + 0.2 * i))
    small = dict(n=20, tick_kimg=LATE_STEPS * 32 / 1000 / 21)  # not late yet
    assert list(rules(ticks(augment=0.7, **small, **improving), batch=32)) == ["balanced"]
    assert "leaking" not in rules(ticks(augment=0.7, **improving))


def test_without_augmentation_nothing_leaks_and_p_is_of_no_interest():
    found = rules(ticks(augment=0.9, leak_color=0.9), augment="noaug")
    assert list(found) == ["balanced"]


@pytest.mark.parametrize("missing", ["Loss/", "Health/", "Gradients/", "Progress/augment"])
def test_missing_statistics_are_passed_over(missing):
    history = [{name: value for name, value in tick.items() if not name.startswith(missing)} for tick in ticks()]
    assert [verdict.level for verdict in judge(history, {}, Facts())] == ["good"]


def test_signs_without_scores_are_enough():
    history = [{name: value for name, value in tick.items() if "scores" not in name} for tick in ticks(signs_real=0.95)]
    assert list(rules(history, augment="noaug")) == ["overfitting"]


def test_values_that_are_none_or_no_number():
    history = ticks(signs_real=0.97)
    for i, tick in enumerate(history):
        tick["Health/diversity"] = [None, math.nan, math.inf, "?"][i % 4]
        if i % 2:
            tick["Loss/signs/real"] = None
    assert list(rules([{}, {"Progress/kimg": None}, *history], augment="noaug")) == ["overfitting"]


def test_verdicts_of_noisy_values_about_a_limit_do_not_flap():
    """Deterministic noise of a tenth about the limit of r_t, for 200 ticks: at most two changes."""
    history = ticks(200, signs_real=lambda i: 0.85 + 0.1 * math.sin(37.0 * i * i), scores_real=3)
    said = ["overfitting" in rules(history[:n], augment="noaug") for n in range(20, 200, 2)]
    assert sum(a != b for a, b in itertools.pairwise(said)) <= 4


def test_one_outlier_raises_no_alarm():
    assert list(rules(ticks(signs_real=lambda i: 1.0 if i % 6 == 0 else 0.5, diversity=lambda i: float(i % 7 > 0)),
                      augment="noaug")) == ["balanced"]


def test_a_run_that_recovers_is_well_again():
    history = ticks(60, signs_real=lambda i: 0.97 if 10 < i < 30 else 0.5)
    assert "overfitting" in rules(history[:25]) and list(rules(history)) == ["balanced"]


# Metrics.


def curve(values, step=200.0):
    return [((i + 1) * step, value) for i, value in enumerate(values)]


@pytest.mark.parametrize(("values", "rule", "level", "advice"), [
    ([100, 80, 70, 62, 56, 52], "improving", "good", "Nothing to change."),
    ([20, 20.1, 19.9, 20.05, 20, 19.95], "flat", "watch", "--kimg=1200 (now 25000)"),
    ([50, 30, 20, 22, 23, 24, 25, 26], "worsening", "bad", "--kimg=600 (now 25000)"),
    ([50, 30, 20, 22, 23, 24], "flat", "watch", "--kimg=1200 (now 25000)"),  # for three measurements only
])
def test_trends(values, rule, level, advice):
    history = ticks(len(values) * 50)
    found = rules(history, {"fid50k_full": curve(values)})
    assert found[rule].level == level and found[rule].advice == advice


def test_a_run_that_still_improves_at_its_end_is_to_go_on():
    found = rules(ticks(300), {"swd": curve([100, 80, 70, 62, 56, 52])}, total_kimg=1250.0)
    assert found["improving"].advice == "--kimg=2500 (now 1250)"
    assert "% per 100 kimg" in found["improving"].evidence


def test_metrics_of_which_more_is_better_are_turned_round():
    assert "improving" in rules(ticks(300), {"is50k": curve([2, 3, 4, 5, 6, 7])})
    assert "worsening" in rules(ticks(400), {"is50k": curve([2, 7, 6, 5, 4, 3, 2])})


def test_few_measurements_give_no_verdict_and_nothing_bad_follows_from_gaps():
    assert list(rules(ticks(), {"swd": curve([5, 4, 3])})) == ["balanced"]
    gaps = [(200, None), (400, math.nan), (None, 3.0), *curve([100, 80, 70, 62, 56])]
    assert "improving" in rules(ticks(300), {"swd": gaps})
    assert list(rules(ticks(), {"swd": []})) == ["balanced"]


def test_the_best_metric_counts_and_not_the_floor():
    falling, flat = curve([100, 80, 70, 62, 56, 52]), curve([3.0] * 6)
    assert "improving" in rules(ticks(300), {"swd_floor": flat, "swd": falling})
    assert "flat" in rules(ticks(300), {"pfd32": flat, "swd": falling}, best_metric="pfd32")


def test_images_that_still_change_are_not_stalled_and_a_metric_that_improves_neither():
    still = ticks(300, change=0.001)
    assert "stalled" in rules(still, {"swd": curve([3.0] * 6)})
    assert "stalled" not in rules(still, {"swd": curve([100, 80, 70, 62, 56, 52])})
    assert "stalled" not in rules(ticks(300), {"swd": curve([3.0] * 6)})


# Parts.


def test_facts_from_the_settings_of_a_run():
    config = TrainConfig(DataConfig("d.zip", "d", 64, 3, 500, mirror=True), batch=16, loss=LossConfig(r1_gamma=3.0),
                         optimizer=OptimizerConfig(0.001, 0.002), augment=AugmentConfig("fixed", p=0.3),
                         best_metric="swd")
    facts = Facts.of(json.loads(config.to_json()))
    assert facts == Facts("fixed", 0.3, 0.6, 3.0, 0.001, 0.002, 16, 64, 25000.0, 500, True, "swd")
    assert Facts.of({}) == Facts() and Facts.of({"augment": None, "data": {"mirror": True}}).mirror
    assert Facts.of(dataclasses.asdict(config)).usual_gamma == pytest.approx(0.0002 * 64**2 / 16)


def test_alarms_begin_and_end_at_different_limits():
    high = [0.5, 0.95, 0.95, 0.95]
    assert not alarm(high[:3], 0.9, 0.8) and alarm(high, 0.9, 0.8)
    assert alarm([*high, 0.85], 0.9, 0.8) and not alarm([*high, 0.85, 0.75], 0.9, 0.8)
    assert alarm([0.2] * 3, 0.3, 0.4) and not alarm([0.35] * 9, 0.3, 0.4)


def test_slope_and_medians():
    line = [(x, 3 - 0.5 * x) for x in range(8)]
    assert slope(line) == -0.5
    line[3] = (3, 1000)
    assert slope(line) == pytest.approx(-0.5, abs=0.01)
    assert medians([1, 2, 3, 4]) == [] and medians([9, 1, 2, 3, 100, 4]) == [3, 3]
    assert points_of([(2, 5), (1, 4), (2, 6)]) == [(1, 4), (2, 6)]
    assert History([{"Progress/kimg": 1, "a": "x"}, {"a": 3}]).raw("a") == []


number = st.none() | st.floats() | st.integers(-10, 10)


@settings(max_examples=40)
@example([], {"swd": [(0.0, -1.0), (1.0, -2.0), (1.7e154, 0.0), (-1.0, 0.0), (-2.0, 0.0)]})
@example([], {"swd": [(0.0, 0.0), (0.5, 0.0), (0.25, 1.7e154), (-1.0, 0.0), (1, -1.0)]})
@given(st.lists(st.dictionaries(st.sampled_from([*WELL, "Progress/kimg"]), number), max_size=30),
       st.dictionaries(st.sampled_from(["swd", "is50k"]), st.lists(st.tuples(number, number), max_size=9)))
def test_no_history_is_too_strange(history, metrics):
    found = judge(history, metrics, Facts())
    assert found and all(verdict.level in ("good", "watch", "bad") and verdict.advice for verdict in found)


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_recorded_runs(path):
    """Real runs at 32x32, judged after every tick: what they must be found to be at the end, and never on the way."""
    run = json.loads(path.read_text())
    facts = Facts.of(run["options"])
    found = [{verdict.rule for verdict in judge(run["ticks"][:n], {}, facts)} for n in range(1, len(run["ticks"]) + 1)]
    assert set(run["found"]) <= found[-1]
    assert not set(run["never"]) & set().union(*found)
    assert sum(a != b for a, b in itertools.pairwise(found)) <= 4
