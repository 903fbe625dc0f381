"""An inspection as plain data, with all names."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from stylegan2_pipeline.inspection.advice import Advice
from stylegan2_pipeline.inspection.facts import Classes, Facts
from stylegan2_pipeline.inspection.remarks import Remark, caveats, mirror_words
from stylegan2_pipeline.sources.labels import printable

FORMAT = "stylegan2-pipeline inspection 1"


def as_document(facts: Facts, advice: Advice | None, found: Sequence[Remark],
                done: Sequence[str] = ()) -> dict[str, Any]:
    """For JSON: sets of images by name. Neither names of subjects nor of volumes are in it."""
    names, same = facts.names, facts.same
    return {
        "format": FORMAT, "source": printable(facts.path), "read_as": facts.kind, "images": len(facts.good),
        "formats": facts.formats, "modes": facts.modes, "kinds": facts.kinds, "bits": facts.bits,
        "sizes": [{"width": width, "height": height, "images": count}
                  for (width, height), count in facts.sizes.most_common()],
        "traits": {trait.key: {"what": trait.what, "becomes": trait.becomes,
                               "images": [names[i] for i in trait.positions]} for trait in facts.traits},
        "broken": [{"name": name, "reason": reason} for name, reason in facts.broken],
        "left_out": [{"name": name, "reason": reason} for name, reason in facts.left_out],
        "exact_copies": [[names[copy], names[first]] for copy, first in same.exact],
        "near_copies": [[names[i] for i in members] for members in same.near],
        "near_copies_sought_among": same.compared,
        "copies_with_different_labels": [[names[i] for i in members] for members in same.other_class],
        "copies_of_different_groups": [[names[i] for i in members] for members in same.other_group],
        "classes": _classes(facts.classes), "folders": _classes(facts.folders), "named_like_splits": facts.splits,
        "patients": dataclasses.asdict(facts.subjects), "volumes": dataclasses.asdict(facts.volumes),
        "windows": [list(window) for window in facts.windows],
        "left_and_right": {**(dataclasses.asdict(facts.sides) if facts.sides else {}), "words": mirror_words(facts)},
        "files": [{"name": name, "width": finding.size[0], "height": finding.size[1], "format": finding.format,
                   "mode": finding.mode, "foreground": finding.filled}
                  for name, finding in zip(names, facts.good, strict=True)],
        "notes": facts.notes, "problems": facts.problems, "caveats": caveats(facts),
        "remarks": [dataclasses.asdict(remark) for remark in found], "done": list(done),
        "recommended": {"command": advice.command, "options": [{"option": choice.option, "why": choice.why}
                                                               for choice in advice.choices]} if advice else None,
    }


def _classes(classes: Classes | None) -> dict[str, Any] | None:
    return {"labels": classes.asked, "images": classes.counts, "numbers": classes.vectors,
            "missing": classes.missing} if classes else None
