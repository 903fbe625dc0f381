"""Reports of an inspection, or of a conversion, as files: a page, JSON or text, by the ending of the name."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stylegan2_pipeline.conversion.options import Conversion
from stylegan2_pipeline.conversion.plan import Plan
from stylegan2_pipeline.conversion.scan import Drawn, Scan
from stylegan2_pipeline.conversion.spool import Spool
from stylegan2_pipeline.conversion.words import report_scan, summary
from stylegan2_pipeline.inspection.advice import Advice
from stylegan2_pipeline.inspection.document import as_document
from stylegan2_pipeline.inspection.facts import Facts, gather
from stylegan2_pipeline.inspection.page import inspection_page
from stylegan2_pipeline.inspection.previews import drawn_previews
from stylegan2_pipeline.inspection.remarks import Remark, remarks
from stylegan2_pipeline.inspection.sheets import Sheets, choose, sheets
from stylegan2_pipeline.inspection.words import lines_of
from stylegan2_pipeline.report.charts import finite
from stylegan2_pipeline.sources.base import Source
from torch_utils.errors import UserError
from torch_utils.files import atomic_path

PAGE = ".html"


@dataclass(frozen=True)
class Inspection:
    """done: of a conversion, what it did; advice: of an inspection; shown: pictures, where a page is wanted."""

    facts: Facts
    found: Sequence[Remark]
    advice: Advice | None = None
    done: Sequence[str] = ()
    shown: Sheets | None = None

    def lines(self, full: bool = False) -> list[str]:
        return lines_of(self.facts, self.advice, self.found, self.done, full)


def write_report(path: Path, inspection: Inspection) -> None:
    """Raises UserError when the file cannot be written."""
    facts, shown = inspection.facts, inspection.shown
    if path.suffix.lower() == PAGE:
        assert shown is not None
        made = time.strftime("%Y-%m-%d %H:%M")
        content = inspection_page(facts, inspection.advice, inspection.found, shown, made, inspection.done)
    elif path.suffix.lower() == ".json":
        document = as_document(facts, inspection.advice, inspection.found, inspection.done)
        content = json.dumps(finite(document), indent=1, allow_nan=False) + "\n"
    else:
        content = "\n".join(inspection.lines(full=True)) + "\n"
    try:
        with atomic_path(path) as partial:
            partial.write_text(content, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--report: {path} cannot be written: {error.strerror or error}.") from None


def wants_page(paths: Sequence[Path]) -> bool:
    return any(path.suffix.lower() == PAGE for path in paths)


def conversion_reports(scan: Scan, source: Source, plan: Plan, asked: Conversion, spool: Spool,
                       drawn: Mapping[int, Drawn]) -> None:
    """Write all of asked.report: what the collection held, what was done, and images as the archive holds them.

    To be called when the archive is there, and the spool still.
    """
    if not asked.report:
        return
    facts = gather(scan, source, asked, spool)
    done = [f"Asked for: {asked.command_line()}", *report_scan(scan, source, plan), *summary(scan, source, plan, asked)]
    shown = None
    if wants_page(asked.report):
        chosen = choose(facts)
        wanted = (facts.good[position].index for position in sorted(chosen.all()))
        shown = sheets(facts, chosen, drawn_previews(spool, drawn, [index for index in wanted if index in drawn]))
    inspection = Inspection(facts, remarks(facts), None, done, shown)
    for path in asked.report:
        write_report(path, inspection)
