"""One page of the search for copies of training images, which loads nothing."""

import base64
import io
import math

import numpy as np
from PIL import Image

from metrics.memorization.findings import Figure, Findings
from stylegan2_pipeline.report.charts import Chart, Line, figure, short
from stylegan2_pipeline.report.copy_pictures import bins, duplicates_sheet, moved, pairs_sheet, shares
from stylegan2_pipeline.report.html import page, picture, table, text, tiles, verdict_list
from stylegan2_pipeline.report.pictures import Picture

LISTED = 100  # pairs in the table; all are in pairs.csv
HOW = ("Every generated image is compared with every training image by their correlation at 32 pixels, mirrored or "
       "not, shifted by up to 1/16 of the width, turned by a few degrees, whatever its brightness and contrast. The "
       "same is done with images that were never trained on: they say which distances chance alone brings. Copies of "
       "training images in disguise are planted among them, to see how many are found.")


def copies_page(findings: Findings) -> str:
    """The whole page."""
    told = (verdict_list([{"level": "bad", "sentence": findings.verdict}]) if findings.alarm else
            f"<p><b>{text(findings.verdict)}</b></p>")  # that nothing was found is no praise
    what = " against ".join(str(findings.about[key]) for key in ("generated", "data") if findings.about.get(key))
    head = f"<h1>Copies of training images</h1><p class='note'>{text(what)}</p>{_tiles(findings)}{told}"
    return page("Copies of training images", [
        ("notes",      "What to keep in mind", _notes(findings)),
        ("pairs",      "The closest pairs", _pairs(findings)),
        ("distances",  "Distances", f'<div class="charts">{figure(distance_chart(findings))}</div>'),
        ("planted",    "Planted copies", _planted(findings)),
        ("figures",    "Figures", _figures(findings)),
        ("duplicates", "Duplicates in the data", _duplicates(findings)),
        ("how",        "How it was done", f"<p>{text(HOW)}</p>{_about(findings)}"),
    ], head)  # fmt: skip


def _tiles(findings: Findings) -> str:
    by_key = {item.name: item for item in findings.figures}
    planted = sum(planted for _, planted, _ in findings.control)
    found = sum(hits for _, _, hits in findings.control)
    return tiles([
        ("Plain copies", f"{by_key['Repeated'].value:.0f} of {len(findings.pairs)}",
         f"of {by_key['Extracted'].value:.0f} training images" if by_key["Extracted"].value else "generated images"),
        ("Flagged", f"{len(findings.flagged)} of {len(findings.pairs)}",
         f"by chance {findings.limit.expected * len(findings.pairs):.1f}"),
        ("Planted copies found", f"{found} of {planted}", "in disguise"),
        ("Compared with", f"{findings.counts['real']}", "training images"),
        ("Chance known from", f"{findings.counts['unseen']}",
         "training images left out: weaker" if findings.weaker else "holdout images"),
    ])


def _notes(findings: Findings) -> str:
    return f'<ul class="caveats">{"".join(f"<li>{text(note)}</li>" for note in findings.notes)}</ul>'


def _pairs(findings: Findings) -> str:
    sheet = encoded(pairs_sheet(findings.shown), "Generated images beside the training images nearest to them")
    rows = [[pair.fake_name, pair.real_name, "copy" if pair.repeated else "near" if pair.flagged else "",
             moved(pair), pair.distance, pair.nndr, pair.correlation, pair.similarity]
            for pair in findings.pairs[:max(len(findings.flagged), len(findings.shown))][:LISTED]]
    listed = table(["Generated", "In the data", "", "Moved", "Distance", "Of that to the next 50", "Correlation",
                    "MS-SSIM"], rows, numbers=False)
    more = f"<p class='note'>{text(f'The nearest {len(rows)}; all are in pairs.csv.')}</p>"
    return (f"<div class='scroll sheet'>{picture(sheet)}</div><details><summary>As a table</summary>{listed}{more}"
            f"</details>")


def distance_chart(findings: Findings) -> Chart:
    """The distances of generated and of unseen images, and the threshold."""
    edges = bins(findings)
    middles = ((edges[:-1] + edges[1:]) / 2).tolist()
    fake = shares(np.array([pair.distance for pair in findings.pairs]), edges).tolist()
    unseen = shares(findings.unseen, edges).tolist()
    tau = findings.limit.tau
    name = "training images left out" if findings.weaker else "holdout images"
    return Chart("Distance to the nearest training image", [
        Line("generated images", list(zip(middles, fake, strict=True)), 0),
        Line(name, list(zip(middles, unseen, strict=True)), 5, dashed=True),
        Line("threshold", [(tau, 0.0), (tau, max(*fake, *unseen))], 2),
    ], x_name="distance", log=False, note=f"Per cent of images. {_planted_words(findings)}")


def _planted_words(findings: Findings) -> str:
    low, middle, high = (float(np.quantile(findings.planted, q)) for q in (0.0, 0.5, 1.0))
    return f"Planted copies lie at {short(low)} to {short(high)}, half of them below {short(middle)}."


def _planted(findings: Findings) -> str:
    rows = [[disguise, planted, hits] for disguise, planted, hits in findings.control]
    return table(["Disguise", "Planted", "Found with their source"], rows)


def _figures(findings: Findings) -> str:
    rows = [[item.name, item.value, _interval(item), item.usual, item.meaning] for item in findings.figures]
    return table(["Figure", "Value", "95 %", "Where nothing is copied", "What it is"], rows, numbers=False)


def _interval(item: Figure) -> str:
    low, high = item.interval
    return f"{short(low)} to {short(high)}" if math.isfinite(low) else ""


def _duplicates(findings: Findings) -> str:
    if not findings.duplicates:
        return "<p>None were found.</p>"
    return picture(encoded(duplicates_sheet(findings.duplicates), "Training images that show the same"))


def _about(findings: Findings) -> str:
    return table(["Setting", "Value"], [[key.replace("_", " "), value] for key, value in findings.about.items()],
                 numbers=False, kind="settings")


def encoded(image: Image.Image, alt: str) -> Picture:
    """A picture as it goes into the page."""
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=88)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Picture(f"data:image/jpeg;base64,{data}", image.width, image.height, alt)
