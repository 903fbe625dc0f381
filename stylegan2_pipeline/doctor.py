"""Is everything well? What the machine has, what the operators run, and what to mend.

Another process finds it out (doctor_probes), so that a library that takes its process down ends a section and not the
report.
"""

import json
import math
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import click

MACHINE = {"versions": "Versions", "gpu": "GPU", "cpu": "CPU", "compilers": "Compilers", "cache": "Cache",
           "settings": "Settings"}
OPERATORS = {"operators": "operators", "self_test": "operators: error against the reference",
             "speed": "operators: time of a call"}
COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}


@dataclass(frozen=True)
class Fact:
    """A line of the report. value: what JSON gives for it, where that is more than the text.

    level: ok, warning (goes on, but could be better), error (what was asked for does not hold), or empty where there is
    nothing to judge. remedy: what to type, or empty.
    """

    name: str
    text: str
    value: Any = None
    level: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Section:
    """key: as in JSON; title: as in the report."""

    key: str
    title: str
    facts: list[Fact]

    def trouble(self) -> list[Fact]:
        return [fact for fact in self.facts if fact.level in ("warning", "error")]


def titles(devices: Iterable[str]) -> dict[str, str]:
    """Key and title of every section for these devices, "cpu" and "cuda"."""
    return MACHINE | {f"{device}_{key}": f"{device.upper()} {title}"
                      for device in devices for key, title in OPERATORS.items()}


def examine(device: str | None = None) -> Iterator[Section]:
    """The sections of the report, each as soon as it is known; empty ones are left out.

    device: "cpu" or "cuda" to look at the operators of that one alone, which must then be there.
    """
    wanted = titles([device] if device else ["cpu", "cuda"])
    gpu: list[Fact] = []
    for key, facts in _probed(list(wanted)):
        if key == "gpu":
            gpu = facts
        if key == "cuda_operators" and device == "cuda" and not facts:
            why = next((fact.text for fact in gpu if fact.name == "device"), "torch sees no GPU")
            facts = [Fact("state", f"--device=cuda is asked for; {why}", False, "error",
                          "Mend what the section GPU names, or leave --device=cuda out")]
        if facts:
            yield Section(key, wanted[key], facts)


def rendered(section: Section) -> str:
    """A section as people read it, without a line break at its end."""
    width = max(len(fact.name) for fact in section.facts) + 2
    lines = [click.style(section.title, bold=True)]
    for fact in section.facts:
        mark = f"{click.style(fact.level, COLOURS[fact.level])}: " if fact.level else ""
        lines.append(f"  {fact.name:<{width}}{mark}{fact.text}")
        if fact.remedy:
            lines.append(f"  {'':<{width}}{fact.remedy}")
    return "\n".join(lines)


def verdict(sections: list[Section]) -> str:
    """The last word: that all is well, or what to mend."""
    trouble = [(section, fact) for section in sections for fact in section.trouble()]
    if not trouble:
        return click.style("All is well.", "green")
    bad = any(fact.level == "error" for _, fact in trouble)
    head = click.style("To mend:", "red") if bad else click.style("It works, and could be better:", "yellow")
    lines = [f"  {section.title}, {fact.name}: {'. '.join(filter(None, [fact.text, fact.remedy]))}."
             for section, fact in trouble]
    return "\n".join([head, *lines])


def holds(sections: list[Section]) -> bool:
    """Whether all that was asked for does."""
    return not any(fact.level == "error" for section in sections for fact in section.facts)


def as_json(sections: list[Section]) -> str:
    """One object: `well`, `trouble` as a list, and the facts of each section by name."""
    facts = {section.key: {fact.name.replace(" ", "_"): fact.text if fact.value is None else fact.value
                           for fact in section.facts} for section in sections}
    trouble = [{"section": section.key} | {key: text for key, text in asdict(fact).items() if key != "value"}
               for section in sections for fact in section.trouble()]
    return json.dumps({"well": holds(sections), "trouble": trouble} | _finite(facts), indent=1)


def _probed(keys: list[str]) -> Iterator[tuple[str, list[Fact]]]:
    """Facts of each section, by one process; by another for the sections that are left, where that one dies."""
    while keys:
        command = [sys.executable, "-m", "stylegan2_pipeline.doctor_probes", *keys]
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        except OSError:
            from stylegan2_pipeline.doctor_probes import facts_of

            yield from ((key, facts_of(key)) for key in keys)
            return
        with process:
            for line in process.stdout or ():
                yield keys.pop(0), [Fact(**fields) for fields in json.loads(line)]
        if keys:
            died = keys.pop(0)
            yield died, [_death(died, process.returncode)]
            if died not in MACHINE:
                keys = [key for key in keys if key.partition("_")[0] != died.partition("_")[0]]


def _death(key: str, code: int) -> Fact:
    how = signal.Signals(-code).name if code < 0 else f"code {code}"
    meanwhile = "" if key in MACHINE else "; until it is mended: export STYLEGAN2_OPS=reference"
    return Fact("state", f"the process that looked ended with {how}", False, "error", f"Please report it{meanwhile}")


def _finite(value: Any) -> Any:
    """JSON has no nan and no infinity."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
