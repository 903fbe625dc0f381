"""What figures say: trends of known series, levels reached, hours of a run in parts, and the rules on outcomes."""

import dataclasses
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.counts import alarm
from metrics.names import lower_is_better
from stylegan2_pipeline.health.facts import Facts
from stylegan2_pipeline.health.progress import main_metric
from stylegan2_pipeline.history import Point, RunHistory
from stylegan2_pipeline.report.curves import metric_chart
from stylegan2_pipeline.report.numbers import (
    Curve,
    curves,
    first_reached,
    hours_at,
    ladder,
    notes,
    primary,
    trend,
)
from stylegan2_pipeline.report.page import metric_table


def history(ticks=(), metrics=None, **settings):
    return RunHistory(Path("run"), "ours", {}, settings, list(ticks), metrics or {})


def points(values, metric="swd", step=4.0, floor=None, **raw):
    def results(value):
        return {metric: value} | ({f"{metric}_floor": floor, f"{metric}_ratio": value / floor} if floor else {})

    return [Point(step * i, value, results(value), raw) for i, value in enumerate(values, start=1)]


@given(st.floats(-0.04, 0.04), st.floats(0.1, 1000), st.integers(4, 30), st.floats(1, 50))
def test_a_trend_without_noise_is_its_own_rate(rate, start, n, step):
    found = trend([(step * i, start * math.exp(rate * step * i / 10)) for i in range(n)], lower=True)
    assert found.percent == pytest.approx(100 * math.expm1(rate / 10 * found.unit), rel=1e-6, abs=1e-6)
    window = max(4, math.ceil(n / 3))
    if abs(rate / 10 * step * (window - 1)) > 0.011:
        assert found.verdict == ("still improving" if rate < 0 else found.verdict)
        assert found.verdict != "flat" and (rate < 0 or found.verdict in ("getting worse", "diverging"))


def test_trends_in_words():
    flat = [(4 * i, 10 + 0.5 * (-1) ** i) for i in range(12)]
    assert trend(flat, lower=True).verdict == "flat"
    falling = [(4 * i, 100 * 0.8**i) for i in range(12)]
    assert trend(falling, lower=True).verdict == "still improving"
    assert trend(falling, lower=False).verdict == "diverging"
    late = [(4.0 * i, max(100 * 0.7**i, 5) + (0.2 * (i - 8) if i > 8 else 0)) for i in range(14)]
    assert trend(late, lower=True).verdict == "getting worse"
    assert trend(falling[:3], lower=True).verdict == "unknown" and trend([], lower=True).verdict == "unknown"
    assert trend([(4.0, 1.0)] * 5, lower=True).verdict == "unknown"


def test_metrics_of_which_higher_is_better():
    assert [name for name in ("swd", "fid50k_full", "kid50k", "pr50k3_full", "is50k", "eqt50k_int", "ppl2_wend")
            if not lower_is_better(name)] == ["pr50k3_full", "is50k", "eqt50k_int"]


def test_only_measurements_alike_are_one_curve_and_later_ones_replace():
    first = points([9, 8, 7], counts={"fake": 400})
    few = points([1], counts={"fake": 2})
    again = [dataclasses.replace(first[1], value=6.0)]
    curve = curves(history(metrics={"swd": sorted(first + few + again, key=lambda p: p.kimg)}))["swd"]
    assert [p.value for p in curve.points] == [9, 6, 7] and curve.left_out == 1
    assert curve.best.value == 6 and curve.last.value == 7
    for other in ({"truncation_psi": 0.5}, {"data_digest": "b"}, {"mirror": "on"}):
        usual = {"counts": {"fake": 400}, "truncation_psi": 1.0, "data_digest": "a", "mirror": "off"}
        found = [*points([9, 8, 7], **usual), points([1, 1, 1], **usual | other)[2]]
        curve = curves(history(metrics={"swd": found}))["swd"]
        assert curve.last.value == 7 and curve.left_out == 1


def test_the_first_metric_of_the_run_tells_the_best():
    metrics = {"pfd32": points([1, 2], "pfd32"), "swd": points([3, 2])}
    run = history(metrics=metrics, metrics_=None)
    run = dataclasses.replace(run, settings={"metrics": ["swd", "pfd32"]})
    assert primary(run, curves(run)).metric == "swd" and list(curves(run)) == ["swd", "pfd32"]
    run = dataclasses.replace(run, options={"best_metric": "pfd32"})
    assert primary(run, curves(run)).metric == "pfd32"
    assert primary(history(), {}) is None


def test_what_should_be_as_in_the_data_has_no_best():
    run = history(metrics={"memorization": points([0.0, 0.1], "memorization"), "msssim": points([0.2, 0.3], "msssim"),
                           "rfd": points([3, 2], "rfd")})
    found = curves(run)
    assert primary(run, found).metric == "rfd" and primary(run, {"msssim": found["msssim"]}) is None
    assert "does not tell which network is better" in found["msssim"].trend.sentence
    assert "best" not in metric_table(found["msssim"]) and "best" in metric_table(found["rfd"])
    assert not metric_chart(found["msssim"]).lines[0].marks and metric_chart(found["rfd"]).lines[0].marks
    assert main_metric({"memorization": [(1, 0), (2, 0)], "rfd": [(1, 3)]}, Facts(total_kimg=9)) == "rfd"


def test_when_a_level_was_reached():
    a, b = Curve("swd", points([40, 18, 7, 8], floor=2.0), 0), Curve("swd", points([12, 11], floor=1.0), 0)
    assert a.ratios == [(4, 20), (8, 9), (12, 3.5), (16, 4)]
    assert first_reached(a, 10) == 8 and first_reached(a, 4) == 12 and first_reached(a, 3) is None
    assert first_reached(b, 11) == 8
    assert ladder([a, b]) == [10, 7, 5, 4] and ladder([Curve("fid", points([3], "fid"), 0)]) == []


def test_hours_of_a_run_whose_clock_started_again():
    ticks = [{"Progress/kimg": k, "Timing/total_sec": sec} for k, sec in
             [(0, 100), (10, 1900), (20, 3700), (30, 1800), (40, 3600)]]
    run = history(ticks)
    assert hours_at(run, 10) == pytest.approx(1900 / 3600) and hours_at(run, 40) == pytest.approx(7300 / 3600)
    assert hours_at(run, 15) == pytest.approx(2800 / 3600)
    assert math.isnan(hours_at(run, 41)) and math.isnan(hours_at(history(), 1))


def rules(run):
    return {note.rule: note for note in notes(run, curves(run))}


def test_a_recall_that_is_low_beside_a_high_precision_is_collapse():
    def run(precision, recall):
        results = {"pr50k3_full_precision": precision, "pr50k3_full_recall": recall}
        return history(metrics={"pr50k3_full": [Point(4, precision, results, {})]})

    assert "collapse" in rules(run(0.8, 0.05))
    assert "collapse" not in rules(run(0.8, 0.15)) and "collapse" not in rules(run(0.1, 0.05))


def test_nearer_than_the_data_is_to_itself_may_be_copies():
    assert "copying" in rules(history(metrics={"swd": points([3, 1.3], floor=2.0)}))
    assert "copying" not in rules(history(metrics={"swd": points([3, 1.9], floor=2.0)}))
    alarmed = points([3, 1.9], floor=2.0)
    alarmed[-1] = dataclasses.replace(alarmed[-1], raw={**alarmed[-1].raw, "notes": [alarm("swd")]})
    assert "copying" in rules(history(metrics={"swd": alarmed}))


@pytest.mark.parametrize(("r_t", "p", "told"), [(0.95, 0.05, True), (0.95, 0.3, False), (0.85, 0.05, False)])
def test_a_discriminator_that_outruns_augmentation(r_t, p, told):
    run = history([{"Progress/kimg": 4.0, "Loss/signs/real": r_t, "Progress/augment": p}], augment="noaug")
    assert ("overfitting" in rules(run)) == told
    if told:
        assert "--aug=ada" in rules(run)["overfitting"].advice
        before = [{**run.ticks[0], "Loss/signs/real": 0.1}] * 4  # the last tick may be of one batch
        assert "overfitting" not in rules(dataclasses.replace(run, ticks=[*before, *run.ticks]))


def test_a_run_that_still_improves_is_told_how_short_it_was():
    ticks = [{"Progress/kimg": 500.0}]
    note = rules(history(ticks, {"swd": points([100 * 0.9**i for i in range(10)], step=50.0)}))["improving"]
    assert "2 % of the usual 25000" in note.evidence
    slow = history(ticks, {"swd": points([100 * 0.98**i for i in range(10)], step=50.0)})  # 4 % in 100 kimg
    assert "improving" not in rules(slow)


def test_five_measurements_each_worse_than_the_one_before():
    assert "4 kimg" in rules(history(metrics={"swd": points([5, 6, 7, 8, 9, 10])}))["worsening"].advice
    assert "worsening" not in rules(history(metrics={"swd": points([5, 6, 7, 8, 7.9, 10])}))
    assert "worsening" not in rules(history(metrics={"is50k": points([5, 6, 7, 8, 9, 10], "is50k")}))
    assert "worsening" in rules(history(metrics={"is50k": points([10, 9, 8, 7, 6, 5], "is50k")}))
