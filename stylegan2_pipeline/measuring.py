"""The `metrics` command as one call: what is compared, on which devices, with which weights; and where results go."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from metrics.cache import StatisticsCache
from metrics.detectors.registry import Detectors
from metrics.inputs import ImageSet, MetricInputs
from metrics.names import Name, parse, split
from metrics.weights import WeightsSource, locate
from stylegan2_pipeline import ranks
from stylegan2_pipeline.archive import Archive
from stylegan2_pipeline.checkpoint import Snapshot
from stylegan2_pipeline.dataset import ImageDataset, describe
from stylegan2_pipeline.devices import chosen_device
from stylegan2_pipeline.evaluation import Evaluation, MetricMakers, evaluation_of
from stylegan2_pipeline.generation import check_writable, find_network, open_network
from stylegan2_pipeline.image_sets import StoredImages
from stylegan2_pipeline.memorization import write_findings
from stylegan2_pipeline.progress import progress
from stylegan2_pipeline.run_files import append_metric
from stylegan2_pipeline.shared_sampling import ImagePool
from torch_utils import distributed
from torch_utils.errors import UserError
from torch_utils.seeding import derive_seed

PIXELS = ("swd", "rfd", "pfd32", "prdc32", "msssim", "vendi", "tone", "spectrum", "memorization")
OUTDIR = Path("out-metrics")  # not where generate.py puts images: these are measured, and pictures go here
Tell = Callable[[dict[str, Any], Path, list[Path]], None]


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
    gpus: int = 1
    outdir: Path | None = None
    cache: bool = True

    @property
    def names(self) -> list[Name]:
        names = [parse(text) for text in split(self.metrics)]
        return names if self.num is None else list(dict.fromkeys(name.of(self.num) for name in names))

    @property
    def looks_for_copies(self) -> bool:
        return any(name.kind.name == "memorization" for name in self.names)

    @property
    def source(self) -> WeightsSource:
        return WeightsSource(self.weights, self.offline)


@dataclass(frozen=True)
class Task:
    """What one process of several is told."""

    asked: Asked
    tell: Tell
    num_gpus: int
    device_type: str
    run_dir: None = None


def measure(asked: Asked, tell: Tell) -> int:
    """Measures, and calls tell(record, the file it was added to, other files written) for each result; the exit code.

    tell is a function of a module, which other processes can call. Raises UserError, naming the option, before
    anything is computed.
    """
    _check(asked)
    device = chosen_device(asked.device)
    if asked.images is None:
        asked = replace(asked, network=find_network(asked.network))
    if asked.gpus == 1:
        return _work(Task(asked, tell, 1, device.type), device)
    found = torch.cuda.device_count() if device.type == "cuda" else asked.gpus
    if asked.images is not None or asked.gpus > found:
        reason = "is for --network" if asked.images is not None else f"there are {found}"
        raise UserError(f"--gpus={asked.gpus}: {reason}. Leave it out, or give fewer.")
    return ranks.spawn(Task(asked, tell, asked.gpus, device.type), _work)


def _check(asked: Asked) -> None:
    """What can be known to be wrong from the options alone; fetches weights."""
    names = asked.names
    if not names:
        raise UserError("--metrics names nothing to measure; give for example --metrics=panel.")
    if asked.images is not None and asked.network is not None:
        raise UserError("--images and --network are two things to compare with --data: give one of them.")
    if asked.images is not None and (paths := [name.text for name in names if name.text.startswith("ppl")]):
        raise UserError(f"--metrics: {', '.join(paths)} follows paths between generated images, so it needs a network: "
                        f"--network=PKL instead of --images.")
    if asked.holdout is not None and not asked.looks_for_copies:
        raise UserError("--holdout is for memorization, which --metrics does not name: add it there, or leave it out.")
    for flag, images in (("--images", asked.images), ("--data", asked.data), ("--holdout", asked.holdout)):
        if asked.outdir and images and Path(images).resolve() in (folder := asked.outdir.resolve(), *folder.parents):
            raise UserError(f"--outdir={asked.outdir} is in the folder that {flag} names: pictures written there would "
                            f"be taken for images the next time. Give another folder.")
    for file in dict.fromkeys(file for name in names for file in name.kind.weights):
        try:
            locate(file, asked.source)
        except UserError as error:
            raise UserError(f"{error.message} Without weights there are --metrics=panel and others.") from error


def _work(task: Task, device: torch.device) -> int:
    """One process, of one or of several."""
    asked, detectors = task.asked, Detectors(device, task.asked.source)
    if asked.images is not None:
        _write(task, _of_images(asked, detectors), asked.outdir or OUTDIR)
        return 0
    snapshot, where = open_network(asked.network, str(device))
    G = snapshot.G_ema
    assert G is not None
    path = asked.data or data_of(snapshot)
    dataset = ImageDataset(path, use_labels=bool(G.c_dim))
    pool = ImagePool(MetricMakers(G, dataset, detectors, asked.seed, asked.trunc), asked.batch)
    if distributed.rank():
        pool.serve()
        return 0
    evaluation = evaluation_of(
        G, dataset, detectors, pool=pool, seed=asked.seed, batch=asked.batch, snapshot=where,
        truncation_psi=asked.trunc, trained_mirror=bool(snapshot.options.get("data", {}).get("mirror", False)),
        mirror=asked.mirror, trained=trained_part(snapshot, path) if asked.looks_for_copies else None,
        holdout=_holdout(asked, detectors), about=_about_holdout(asked), cache=_cache(asked), watch=progress)
    in_run = (Path(where).parent / "training_options.json").exists()
    with pool.lead():
        _write(task, evaluation, asked.outdir or (Path(where).parent if in_run else OUTDIR))
    return 0


def _write(task: Task, evaluation: Evaluation, folder: Path) -> None:
    names = task.asked.names
    check_writable(folder)
    evaluation.prepare(names)
    for name in names:
        record, value = evaluation.measure(name)
        try:
            path = append_metric(folder, record)
        except OSError as error:
            raise UserError(f"--outdir={folder}: {name.text} was measured, but cannot be written there: "
                            f"{error.strerror}. It is {record['results']}") from error
        files = write_findings(value.details, folder / name.text) if value.details is not None else []
        task.tell(record, path, files)


def data_of(snapshot: Snapshot) -> str:
    """The path of the data that a network was trained on, as it remembers it."""
    path = snapshot.options.get("data", {}).get("path")
    if path is None:
        raise UserError("--data is missing: this network does not say what it was trained on. Give the zip or folder.")
    if not Path(path).exists():
        raise UserError(f"--data is missing: the network was trained on {path}, which is not there. Give the zip or "
                        f"folder.")
    return str(path)


def trained_part(snapshot: Snapshot, path: str) -> ImageDataset | None:
    """The images that a network was trained on with --subset, as long as they are those; else None."""
    data = snapshot.options.get("data", {})
    if not data.get("subset"):
        return None
    part = ImageDataset(path, use_labels=bool(data.get("label_dim")), max_images=data["subset"],
                        seed=snapshot.options.get("seed", 0))
    return part if part.fingerprint() == data.get("fingerprint") else None


def _of_images(asked: Asked, detectors: Detectors) -> Evaluation:
    """One set of images against another."""
    assert asked.images is not None
    if asked.data is None:
        raise UserError("--data is missing: give the zip or folder that the images are compared with.")
    reals, fakes = Archive(asked.data, "--data"), Archive(asked.images, "--images")
    _check_alike(reals, fakes, asked.names)
    digest = archive_digest(reals)
    about = {"data": reals.path.resolve().stem, "data_digest": digest, "num_real": len(reals),
             "images": str(asked.images), "images_digest": archive_digest(fakes), **_about_holdout(asked)}

    def inputs(mirrored: bool) -> MetricInputs:
        real = _stored(reals, asked, detectors, mirrored, {"data": digest})
        return MetricInputs(real, fake, detectors, device=detectors.device, seed=asked.seed,
                            holdout=_holdout(asked, detectors), watch=progress, about=about)

    other = replace(asked, seed=derive_seed(asked.seed, "images"))  # or sets made of each other would come in pairs
    fake = _stored(fakes, other, detectors)
    return Evaluation(inputs(False), detectors, inputs(True), asked.mirror)


def _stored(archive: Archive, asked: Asked, detectors: Detectors, mirror: bool = False,
            key: dict[str, Any] | None = None) -> StoredImages:
    return StoredImages(archive.read, archive.names, detectors, seed=asked.seed, batch=asked.batch, mirror=mirror,
                        key=key, cache=_cache(asked), watch=progress, subjects=archive.subjects())


def _cache(asked: Asked) -> StatisticsCache | None:
    return StatisticsCache() if asked.cache else None


def _holdout(asked: Asked, detectors: Detectors) -> ImageSet | None:
    return None if asked.holdout is None else _stored(Archive(asked.holdout, "--holdout"), asked, detectors)


def _about_holdout(asked: Asked) -> dict[str, Any]:
    if asked.holdout is None:
        return {}
    return {"holdout": str(asked.holdout), "holdout_digest": archive_digest(Archive(asked.holdout, "--holdout"))}


def _check_alike(reals: Archive, fakes: Archive, names: Sequence[Name]) -> None:
    """What looks at pixels compares images of one size and one number of channels."""
    if not any(name.text.startswith(PIXELS) for name in names):
        return
    shapes = [_one_shape(archive) for archive in (reals, fakes)]
    if shapes[0] != shapes[1]:
        raise UserError(f"--images: {fakes.path} holds {describe(shapes[1])} images, and {reals.path} "
                        f"{describe(shapes[0])} ones. Make them alike with dataset_tool.py, or take --metrics that see "
                        f"them through a network, such as kid50k_full.")


def _one_shape(archive: Archive) -> list[int]:
    first = [*archive.shape(0)]
    for index in range(1, len(archive)):
        if [*archive.shape(index)] != first:
            raise UserError(
                f"{archive.flag}: {archive.path} holds images of different kinds: {archive.names[0]} is "
                f"{describe(first)}, {archive.names[index]} is {describe([*archive.shape(index)])}. Make them alike "
                f"with dataset_tool.py, or take --metrics that see them through a network, such as kid50k_full.")
    return first


def archive_digest(archive: Archive) -> str:
    """That of ImageDataset.digest for the same images without labels; they may be of several shapes."""
    state = hashlib.blake2b(repr((len(archive), 0)).encode(), digest_size=16)
    for index in progress(range(len(archive)), len(archive), f"Reading {archive.path.name}"):
        state.update(archive.pixel_digest(index).encode())
    return state.hexdigest()
