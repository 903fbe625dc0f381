"""Named rules that judge a run by its ticks and metrics, and say which one flag to change.

The numbers in capitals, and where each comes from, are explained in docs/health.md.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stylegan2_pipeline.health.facts import NOTHING, Facts, Verdict, of_flag, percent, steadier, stronger_r1
from stylegan2_pipeline.health.progress import judge_progress
from stylegan2_pipeline.health.series import PATIENCE, WINDOW, History, alarm, medians, number

GRACE_STEPS = 100  # steps that no rule looks at: an untrained pair of networks swings
AHEAD_STEPS = 500  # up to which D may be ahead of G without having learnt by heart
LATE_STEPS = 1000  # from which on images should look like the data, if coarsely
EARLY_TICKS = WINDOW + PATIENCE - 1  # after them: the least that any alarm needs

# Limits of alarms: where one begins, and where it ends.
SIGNS_WATCH, SIGNS_BAD = (0.85, 0.75), (0.9, 0.8)  # r_t
GAP_WATCH, GAP = (3.5, 3.0), (5.0, 4.0)  # mean scores of D, of reals less those of fakes
DIVERSITY = (0.35, 0.45)  # parts of the data's
DISTINCT = (0.3, 0.4)
NEAREST_PAIR = (0.3, 0.4)
VARIETY = (0.2, 0.3)
GRADIENTS = (30.0, 10.0)  # times the run's own median
SCORES = (50.0, 30.0)  # mean scores of D, without their signs
SWINGS = (0.5, 0.3)  # mean change of G's loss between ticks, in parts of that loss
BRIGHTNESS = (1.0, 0.7)  # shift of the mean, in deviations of the data's pixels
CONTRAST_HIGH, CONTRAST_LOW = (2.0, 1.7), (0.25, 0.35)  # parts of the data's
EXTREME = (0.3, 0.2)  # part of the values that are black or white, more than in the data
PINNED_WATCH, PINNED_BAD = (0.8, 0.75), (0.95, 0.9)  # p
LEAK, LEAK_P = (0.4, 0.25), 0.5  # part of the images; p from which on it counts
COPIES = (0.5, 0.6)  # distance to the nearest real image, in parts of that between neighbours in the data

LEAKS = {"color": "colours or brightness that the data does not have", "turn": "turned images",
         "border": "shifted images or filled borders"}


def judge(ticks: Sequence[Mapping[str, Any]], metrics: Mapping[str, Sequence[tuple[float, float]]],
          facts: Facts) -> list[Verdict]:
    """The verdicts on a run, the worst first; never none.

    ticks: means of statistics by name, in order, Progress/kimg among them; what is missing, None or NaN is passed over.
    metrics: name -> [(kimg, value)]. A history has one answer, so a run that was stopped and continued gets the same.
    """
    history = History(ticks)
    settled = history.since(GRACE_STEPS * facts.batch / 1000)
    found = [verdict for rule in RULES if (verdict := rule(settled, facts))]
    found += judge_progress(settled, metrics, facts)
    if broken := not_a_number(history, facts):
        found.append(broken)
    if any(verdict.rule == "divergence" and verdict.level == "bad" for verdict in found):  # scores then say nothing
        found = [verdict for verdict in found if verdict.rule != "overfitting"]
    if len(settled.ticks) < EARLY_TICKS and not found:
        found.append(early(settled, history))
    elif all(verdict.level == "good" for verdict in found):
        found.append(balanced(settled))
    return sorted(found, key=lambda verdict: ["bad", "watch", "good"].index(verdict.level))


def overfitting(history: History, facts: Facts) -> Verdict | None:
    """D knows the training images by heart: its sign is positive on nearly all of them (ADA, section 3)."""
    signs = arisen(history, lambda ticks: ticks.smooth("Loss/signs/real"), SIGNS_WATCH, AHEAD_STEPS, facts)
    gap = arisen(history, score_gap, GAP, AHEAD_STEPS, facts)
    by_heart = alarm(signs, *SIGNS_BAD)
    apart = alarm(score_gap(history), *GAP_WATCH) or not score_gap(history)
    sure = alarm(gap, *GAP) and history.now("Loss/signs/real") > facts.target
    if not (by_heart or sure or (apart and alarm(signs, *SIGNS_WATCH))):
        return None
    p, rising = history.now("Progress/augment"), climbs(history, facts)
    signs_now = history.now("Loss/signs/real")
    evidence = f"r_t {signs_now:.2f} (watched from {SIGNS_WATCH[0]}, bad from {SIGNS_BAD[0]})"
    evidence += f", score gap {gap[-1]:.1f} (watched from {GAP[0]:g})" if gap else ""
    if facts.augment == "ada":
        evidence += f", p {p:.3f} of target r_t {facts.target:g}"
    sentence = f"The discriminator knows the training images by heart: it takes {_right(signs_now)} of them for real."
    if rising:
        sentence += " The augmentation is still growing against it."
    return Verdict("overfitting", "bad" if by_heart and not rising else "watch", sentence, against_overfitting(facts),
                   evidence)


def against_overfitting(facts: Facts) -> str:
    if facts.augment in ("noaug", "diffaugment"):
        return of_flag("aug", "ada", facts.augment)
    if facts.augment == "fixed" and facts.p < 0.6:
        return of_flag("p", min(facts.p + 0.2, 0.6), facts.p)
    return stronger_r1(facts)


def climbs(history: History, facts: Facts) -> bool:
    """Whether ADA is on its way: p rose over the last ticks, and is not at its end."""
    p = history.raw("Progress/augment")[-EARLY_TICKS:]
    return facts.augment == "ada" and len(p) > 1 and p[0] < p[-1] < PINNED_BAD[0]


def score_gap(history: History) -> list[float]:
    pairs = [(number(tick.get("Loss/scores/real")), number(tick.get("Loss/scores/fake"))) for tick in history.ticks]
    return medians([real - fake for real, fake in pairs if math.isfinite(real - fake)])


def _right(sign: float) -> str:
    """A mean of signs as the part that is positive."""
    return percent((1 + sign) / 2)


def collapse(history: History, facts: Facts) -> Verdict | None:
    """Different latents give alike images, or a few distinct ones."""
    limits = {"diversity": DIVERSITY, "distinct": DISTINCT, "nearest_pair": NEAREST_PAIR, "variety": VARIETY}
    series = {name: history.smooth(f"Health/{name}") for name in limits}
    low = [name for name, limit in limits.items() if alarm(series[name], *limit)]
    if not low:
        return None
    said = {
        "diversity": "they differ by {} of what the data does",
        "distinct": "what is each one's own is {} of the data's",
        "nearest_pair": "the nearest two are as near as {} of neighbours in the data",
        "variety": "they vary in {} of the ways the data does",
    }
    told = [said[name].format(percent(series[name][-1])) for name in low]
    level = "bad" if len(low) > 1 or low[0] in ("diversity", "distinct") else "watch"
    evidence = ", ".join(f"{name} {series[name][-1]:.2f} (alarm below {limits[name][0]}), at most "
                         f"{max(series[name]):.2f} before" for name in low)
    return Verdict("collapse", level, f"Different latents give much the same images: {', and '.join(told)}.",
                   steadier(facts), evidence)


def divergence(history: History, facts: Facts) -> Verdict | None:
    """Losses or gradients that explode or swing, images that leave the range of the data."""
    losses = history.raw("Loss/G/loss")
    signs = [
        *gradient_alarms(history),
        ("scores of the discriminator", history.smooth("Loss/scores/real"), SCORES),
        ("scores of the discriminator", [-x for x in history.smooth("Loss/scores/fake")], SCORES),
        ("swings of G's loss", swings(losses), SWINGS),
        ("part of black and white beyond the data's", history.smooth("Health/extreme"), EXTREME),
        *image_alarms(history, facts),
    ]
    loud = [(name, values[-1], limit[0]) for name, values, limit in signs if alarm(values, *limit)]
    if not loud:
        return None
    mild = all(name == "swings of G's loss" for name, _, _ in loud)
    evidence = ", ".join(f"{name} {value:.3g} (alarm at {limit:g})" for name, value, limit in loud)
    return Verdict("divergence", "watch" if mild else "bad", f"Training runs away: {' and '.join(_unique(loud))}.",
                   steadier(facts), evidence)


def _unique(loud: Sequence[tuple[str, float, float]]) -> list[str]:
    return list(dict.fromkeys(name for name, _, _ in loud))


def gradient_alarms(history: History) -> list[tuple[str, list[float], tuple[float, float]]]:
    """Gradient norms, as multiples of the median of the run (which a discriminator that is sure brings to 0)."""
    found = []
    for name in history.names("Gradients/", "/norm"):
        values = history.smooth(name)
        usual = max(sorted(values)[len(values) // 2], 0.1) if values else 1.0
        phase = name.split("/")[1]
        found.append((f"gradients of {phase}, times their median,", [x / usual for x in values], GRADIENTS))
    return found


def image_alarms(history: History, facts: Facts) -> list[tuple[str, list[float], tuple[float, float]]]:
    """Images that leave the range of the data: from where they were in it, or ought to be."""
    def images(key: str, limit: tuple[float, float]) -> list[float]:
        return arisen(history, lambda ticks: [abs(x) for x in ticks.smooth(key)], limit, LATE_STEPS, facts)

    limits = [
        ("brightness away from the data's", "Health/brightness", BRIGHTNESS),
        ("contrast against the data's", "Health/contrast", CONTRAST_HIGH),
        ("contrast against the data's", "Health/contrast", CONTRAST_LOW),
    ]
    return [(name, images(key, limit), limit) for name, key, limit in limits]


def arisen(history: History, series: Callable[[History], list[float]], limit: tuple[float, float], steps: int,
           facts: Facts) -> list[float]:
    """The values of a series from the first that is within the limit; if none is, those after so many steps.

    What was beyond a limit from the start may be the beginning of any run; what came to be so, or stays so, is not.
    """
    on, off = limit
    values = series(history)
    for i, value in enumerate(values):
        if value < off < on or value > off > on:
            return values[i:]
    return series(history.since(steps * facts.batch / 1000))


def swings(losses: Sequence[float]) -> list[float]:
    """Mean absolute change between ticks over twice a window, in parts of the mean."""
    found, width = [], 2 * WINDOW
    for end in range(width + 1, len(losses) + 1):
        last = losses[end - width - 1:end]
        change = sum(abs(b - a) for a, b in itertools.pairwise(last)) / width
        found.append(change / max(sum(abs(x) for x in last) / len(last), 0.1))
    return found


def not_a_number(history: History, facts: Facts) -> Verdict | None:
    """A loss of the last tick that is no number."""
    last = history.ticks[-1] if history.ticks else {}
    bad = [name for name in ("Loss/G/loss", "Loss/D/loss") if name in last and math.isnan(number(last[name]))]
    if not bad:
        return None
    return Verdict("divergence", "bad", f"{' and '.join(bad)} is no number.", steadier(facts),
                   f"{bad[0]} not finite at {history.kimg:g} kimg")


def pinned(history: History, facts: Facts) -> Verdict | None:
    """The probability of augmentation at its end, or where leaks begin (ADA, section 3)."""
    p = history.smooth("Progress/augment")
    if facts.augment not in ("ada", "fixed") or not alarm(p, *PINNED_WATCH):
        return None
    signs = history.now("Loss/signs/real")
    evidence = f"p {p[-1]:.2f} (leaks are known above {PINNED_WATCH[0]}), r_t {signs:.2f}"
    if facts.augment == "fixed":
        return Verdict("pinned", "watch", "The augmentation is so strong that generated images may show it.",
                       of_flag("p", 0.6, facts.p), evidence)
    if alarm(p, *PINNED_BAD) and signs > facts.target - 0.05:
        return Verdict("pinned", "bad", "The augmentation is as strong as can be, and the discriminator still "
                       "overfits: there is too little data for these settings.", stronger_r1(facts), evidence)
    return Verdict("pinned", "watch", "The augmentation is so strong that generated images may show it.",
                   of_flag("target", min(facts.target + 0.1, 0.9), facts.target), evidence)


def leaking(history: History, facts: Facts) -> Verdict | None:
    """Generated images show what the augmentation does and the data does not."""
    p = 1.0 if facts.augment == "diffaugment" else history.now("Progress/augment")
    late = history.since(LATE_STEPS * facts.batch / 1000)
    if facts.augment == "noaug" or not p >= LEAK_P:
        return None
    series = {name.removeprefix("Health/leak_"): late.smooth(name) for name in late.names("Health/leak_")}
    found = {name: values[-1] for name, values in series.items() if alarm(values, *LEAK) and not _falls(values)}
    if not found:
        return None
    shown = " and ".join(LEAKS.get(name, name) for name in found)
    evidence = ", ".join(f"{name} {value:.2f} (alarm at {LEAK[0]})" for name, value in found.items()) + f", p {p:.2f}"
    advice = {"fixed": of_flag("p", max(facts.p - 0.3, 0.1), facts.p),
              "diffaugment": of_flag("aug", "ada", "diffaugment")}
    return Verdict("leaking", "bad" if p >= PINNED_WATCH[0] else "watch",
                   f"The augmentation shows in the images: {percent(max(found.values()))} have {shown}.",
                   advice.get(facts.augment, of_flag("target", min(facts.target + 0.1, 0.9), facts.target)), evidence)


def _falls(values: Sequence[float]) -> bool:
    """Whether it has been lower lately: unfinished images, which look foreign too, become less so."""
    return len(values) > EARLY_TICKS and values[-1] < 0.9 * values[-EARLY_TICKS - 1]


def copying(history: History, facts: Facts) -> Verdict | None:
    """Generated images nearer to training images than these are to each other."""
    distance = history.smooth("Health/nearest_real")
    if not alarm(distance, *COPIES):
        return None
    mirror = of_flag("mirror", 1, facts.mirror) + ", where left and right do not matter"
    advice = against_overfitting(facts) if facts.mirror else mirror
    return Verdict("copying", "watch", "Generated images repeat training images: they are nearer to them than these "
                   "are to each other.", advice, f"nearest_real {distance[-1]:.2f} (alarm below {COPIES[0]})")


def early(settled: History, history: History) -> Verdict:
    return Verdict("early", "good", "Too early to judge.", NOTHING,
                   f"{history.kimg:g} kimg; {len(settled.ticks)} of {EARLY_TICKS} ticks since step {GRACE_STEPS}")


def balanced(history: History) -> Verdict:
    """What is left when no rule complains."""
    known = {"r_t": "Loss/signs/real", "diversity": "Health/diversity", "variety": "Health/variety",
             "p": "Progress/augment"}
    values = {name: value for name, key in known.items() if not math.isnan(value := history.now(key))}
    evidence = ", ".join(f"{name} {value:.2f}" for name, value in values.items())
    return Verdict("balanced", "good", "Generator and discriminator keep each other in balance.", NOTHING, evidence)


RULES = (overfitting, collapse, divergence, pinned, leaking, copying)
