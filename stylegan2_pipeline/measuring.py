"""The `metrics` command as one call: what is compared, on which device, with which weights; and where results go."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metrics.cache import StatisticsCache
from metrics.detectors.registry import Detectors
from metrics.inputs import ImageSet, MetricInputs, MetricValue
from metrics.names import Name, parse, split
from metrics.weights import WeightsSource, locate
from stylegan2_pipeline.archive import Archive
from stylegan2_pipeline.checkpoint import Snapshot
from stylegan2_pipeline.dataset import ImageDataset, describe
from stylegan2_pipeline.devices import chosen_device
from stylegan2_pipeline.evaluation import Evaluation, evaluation_of
from stylegan2_pipeline.generation import check_writable, open_network
from stylegan2_pipeline.image_sets import StoredImages
from stylegan2_pipeline.memorization import write_findings
from stylegan2_pipeline.progress import progress
from stylegan2_pipeline.run_files import append_metric
from torch_utils.errors import UserError

PIXELS = ("swd", "rfd", "pfd32", "prdc32", "msssim", "vendi", "memorization")


@dataclass(frozen=True)
class Asked:
    """The options of the command as typed; see its help."""

    metrics: str = "panel"
    network: str | None = None
    images: Path | None = None
    data: str | None = None
    num: int | None = None
    seed: int = 0
    batch: int = 16
    trunc: float = 1.0
    mirror: str = "auto"
    holdout: Path | None = None
    weights: tuple[Path, ...] = ()
    offline: bool = False
    device: str | None = None
    outdir: Path | None = None
    cache: bool = True


@dataclass(frozen=True)
class Measured:
    """record: the line that was added to the file `path`; files: what else was written."""

    record: dict[str, Any]
    value: MetricValue
    path: Path
    files: list[Path]


def measure(asked: Asked) -> Iterator[Measured]:
    """Each result as soon as it is there. Raises UserError, naming the option, before anything is computed."""
    names = [parse(text) for text in split(asked.metrics)]
    if not names:
        raise UserError("--metrics names nothing to measure; give for example --metrics=panel.")
    if asked.num is not None:
        names = [name.of(asked.num) for name in names]
    if asked.images is not None and asked.network is not None:
        raise UserError("--images and --network are two things to compare with --data: give one of them.")
    source = WeightsSource(asked.weights, asked.offline)
    if asked.images is not None and (paths := [name.text for name in names if name.text.startswith("ppl")]):
        raise UserError(f"--metrics: {', '.join(paths)} follows paths between generated images, so it needs a network: "
                        f"--network=PKL instead of --images.")
    for file in dict.fromkeys(file for name in names for file in name.kind.weights):
        locate(file, source)
    detectors = Detectors(chosen_device(asked.device), source)
    evaluation, folder = _of_images(asked, names, detectors) if asked.images else _of_network(asked, detectors)
    check_writable(folder)
    evaluation.prepare(names)
    for name in names:
        record, value = evaluation.measure(name)
        files = write_findings(value.details, folder / name.text) if value.details is not None else []
        yield Measured(record, value, append_metric(folder, record), files)


def _of_network(asked: Asked, detectors: Detectors) -> tuple[Evaluation, Path]:
    """A generator against its data, and the folder for results: that of its run, else `out`."""
    snapshot, where = open_network(asked.network, asked.device)
    G = snapshot.G_ema
    assert G is not None
    dataset = ImageDataset(asked.data or data_of(snapshot), use_labels=bool(G.c_dim))
    mirror = bool(snapshot.options.get("data", {}).get("mirror", False))
    evaluation = evaluation_of(
        G, dataset, detectors, seed=asked.seed, batch=asked.batch, snapshot=where, truncation_psi=asked.trunc,
        trained_mirror=mirror, mirror=asked.mirror, holdout=_holdout(asked, detectors), cache=_cache(asked),
        watch=progress)
    run_dir = Path(where).parent
    in_run = (run_dir / "training_options.json").exists()
    return evaluation, asked.outdir or (run_dir if in_run else Path("out"))


def data_of(snapshot: Snapshot) -> str:
    """The path of the data that a network was trained on, as it remembers it."""
    path = snapshot.options.get("data", {}).get("path")
    if path is None:
        raise UserError("--data is missing: this network does not say what it was trained on. Give the zip or folder.")
    if not Path(path).exists():
        raise UserError(f"--data is missing: the network was trained on {path}, which is not there. Give the zip or "
                        f"folder.")
    return str(path)


def _of_images(asked: Asked, names: Sequence[Name], detectors: Detectors) -> tuple[Evaluation, Path]:
    """One set of images against another."""
    assert asked.images is not None
    if asked.data is None:
        raise UserError("--data is missing: give the images, a zip or folder, that those of --images are compared with.")
    reals, fakes = Archive(asked.data, "--data"), Archive(asked.images, "--images")
    if any(name.text.startswith(PIXELS) for name in names):
        _check_alike(reals, fakes)
    digest = archive_digest(reals)
    about = {"data": reals.path.resolve().stem, "data_digest": digest, "num_real": len(reals),
             "images": str(asked.images), "images_digest": archive_digest(fakes)}

    def inputs(mirrored: bool) -> MetricInputs:
        real = _stored(reals, asked, detectors, mirrored, {"data": digest})
        return MetricInputs(real, fake, detectors, device=detectors.device, seed=asked.seed,
                            holdout=_holdout(asked, detectors), about=about)

    fake = _stored(fakes, asked, detectors)
    return Evaluation(inputs(False), inputs(True), asked.mirror), asked.outdir or Path("out")


def _stored(archive: Archive, asked: Asked, detectors: Detectors, mirror: bool = False,
            key: dict[str, Any] | None = None) -> StoredImages:
    return StoredImages(archive.read, archive.names, detectors, seed=asked.seed, batch=asked.batch, mirror=mirror,
                        key=key, cache=_cache(asked), watch=progress)


def _cache(asked: Asked) -> StatisticsCache | None:
    return StatisticsCache() if asked.cache else None


def _holdout(asked: Asked, detectors: Detectors) -> ImageSet | None:
    return None if asked.holdout is None else _stored(Archive(asked.holdout, "--holdout"), asked, detectors)


def _check_alike(reals: Archive, fakes: Archive) -> None:
    """What looks at pixels compares images of one size and one number of channels."""
    shapes = [[*archive.shape(0)] for archive in (reals, fakes)]
    if shapes[0] != shapes[1]:
        raise UserError(f"--images: {fakes.path} holds {describe(shapes[1])} images, and {reals.path} "
                        f"{describe(shapes[0])} ones. Make them alike with dataset_tool.py, or take --metrics that see "
                        f"them through a network, such as kid50k_full.")


def archive_digest(archive: Archive) -> str:
    """That of ImageDataset.digest for the same images without labels."""
    state = None
    for index in progress(range(len(archive)), len(archive), f"Reading {archive.path.name}"):
        image = archive.read(index)
        if state is None:
            state = hashlib.blake2b(repr((list(image.shape), len(archive), 0)).encode(), digest_size=16)
        state.update(image.tobytes())
    assert state is not None
    return state.hexdigest()
