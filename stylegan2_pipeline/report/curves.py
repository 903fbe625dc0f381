"""Which of a run's statistics stand together in a chart, and how a metric is drawn."""

from stylegan2_pipeline.history import RunHistory
from stylegan2_pipeline.report.charts import Chart, Line, short
from stylegan2_pipeline.report.numbers import Curve

PHASES = ("Gmain", "Dmain", "Greg", "Dreg")
HEALTH = {  # chart -> (figures of Health/* in it, their names, level and its name, note)
    "Variety of the images":   ({"diversity": "distances", "distinct": "distinct part", "nearest_pair": "nearest pairs",
                                 "variety": "directions they vary in"}, (1.0, "as the data"),
                                "Of the same latents, in parts of the data's own. Near 0 the images are all alike."),
    "Look of the images":      ({"contrast": "contrast", "sharpness": "sharpness"}, (1.0, "as the data"),
                                "In parts of the data's own."),
    "Brightness and extremes": ({"brightness": "brightness less the data's, in deviations",
                                 "extreme": "share of black and white more than the data's"}, (0.0, "as the data"), ""),
    "Nearest training image":  ({"nearest_real": "distance, in parts of that between neighbours in the data"},
                                (1.0, "as neighbours in the data"), "Far below 1 images repeat training images."),
    "Change of the same latents between ticks": ({"change": "in parts of the data's spread"}, None, ""),
    "Signs of augmentation in the images": ({"leak_color": "foreign colours", "leak_turn": "turned",
                                             "leak_border": "shifted or filled borders"}, None,
                                            "About the part of images that shows them; unfinished images do too."),
}


def training_charts(history: RunHistory) -> list[Chart]:
    """The statistics of a run, those that belong together in one chart."""
    def lines(*named: tuple[str, str]) -> list[Line]:
        return [Line(label, history.series(name), slot, dashed=slot % 2 == 1)
                for slot, (name, label) in enumerate(named)]

    settings = history.settings
    target = settings.get("ada_target")
    levels = [(float(target), f"target {target:g}")] if target and settings.get("augment", "ada") == "ada" else []
    balance = (("Loss/signs/real", "r_t, mean sign of D's scores of real images"),
               ("Progress/augment", "p, probability of augmentation"))
    norms = [(f"Gradients/{phase}/norm", phase) for phase in PHASES]
    lost = [(f"Gradients/{phase}/nonfinite", phase) for phase in PHASES]
    lost = [row for row in lost if any(value for _, value in history.series(row[0]))]
    scale = history.series("Progress/lr_scale")
    peak = ("Resources/peak_gpu_mem_gb", "GPU peak, GiB")
    gpu = [peak] if any(value for _, value in history.series(peak[0])) else []
    found = [
        Chart("Losses", lines(("Loss/G/loss", "generator"), ("Loss/D/loss", "discriminator"))),
        Chart("Scores of the discriminator", lines(("Loss/scores/real", "real"), ("Loss/scores/fake", "generated"))),
        Chart("Overfitting and augmentation", lines(*balance), levels=levels, log=False),
        Chart("R1 penalty", lines(("Loss/r1_penalty", "mean squared gradient of D at real images"))),
        Chart("Path length", lines(("Loss/pl_penalty", "penalty"), ("Loss/pl_length", "mean length"))),
        Chart("Gradient norms", lines(*norms), log=True),
        Chart("Gradients that were not finite", lines(*lost)),
        Chart("Speed", lines(("Timing/sec_per_kimg", "seconds a kimg"))),
        Chart("Memory", lines(("Resources/cpu_mem_gb", "host, GiB"), *gpu)),
        Chart("LeCam", lines(("Loss/lecam", "regularisation"))),
    ]
    if any(value != 1 for _, value in scale):
        found.append(Chart("Scale of the learning rates", [Line("after rollbacks", scale)], log=False))
    return found + health_charts(history)


def health_charts(history: RunHistory) -> list[Chart]:
    """What the run measured of its images; figures that HEALTH does not know get a chart each."""
    names = sorted({name.removeprefix("Health/") for tick in history.ticks for name in tick
                    if name.startswith("Health/")})
    found = []
    for title, (figures, level, note) in HEALTH.items():
        lines = [Line(label, history.series(f"Health/{name}"), slot, dashed=slot % 2 == 1)
                 for slot, (name, label) in enumerate(figures.items())]
        found.append(Chart(title, lines, levels=[level] if level else [], log=False, note=note))
    known = {name for figures, _, _ in HEALTH.values() for name in figures}
    return found + [Chart(f"Images: {name.replace('_', ' ')}", [Line(name, history.series(f"Health/{name}"))])
                    for name in names if name not in known]


def metric_line(curve: Curve, name: str, slot: int, dashed: bool = False) -> Line:
    """A metric as ratio to its floor, or as it is where none was measured; its best point marked."""
    points = curve.ratios or [(point.kimg, point.value) for point in curve.points]
    at = curve.best.kimg
    marks = [(at, dict(points)[at], f"best {short(dict(points)[at])}")] if curve.judges and at in dict(points) else []
    return Line(name, points, slot, dashed, dots=len(points) <= 60, marks=marks)


def metric_chart(curve: Curve) -> Chart:
    if curve.ratios:
        return Chart(f"{curve.metric}, ratio to its floor", [metric_line(curve, curve.metric, 0)],
                     levels=[(1.0, "as near as the data is to itself")], note=curve.trend.sentence)
    if curve.metric in curve.keys:
        return Chart(curve.metric, [metric_line(curve, curve.metric, 0)], note=curve.trend.sentence)
    lines = [Line(key.removeprefix(f"{curve.metric}_"), curve.series(key), slot, dashed=slot % 2 == 1)
             for slot, key in enumerate(curve.keys[:4])]
    return Chart(curve.metric, lines, log=False, note=curve.trend.sentence)
