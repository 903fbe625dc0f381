"""From seeds (or given ws) to uint8 images.

An image is that of its seed to the bit, whatever else is asked for with it. Convolutions and matrix products of
libraries round differently for other batch sizes: where they do the work the network runs on one image at a time. Our
own do not, and going over the weights once for several images makes small ones twice as fast.
"""

import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stylegan2_pipeline.images import to_uint8
from stylegan2_pipeline.networks import Generator
from torch_utils.errors import UserError
from torch_utils.ops import native
from torch_utils.ops.independent import independent_samples
from torch_utils.seeding import sample_generators

MAX_SEEDS = 1_000_000
PIXELS_TOGETHER = 8 * 256**2  # larger batches leave the caches


def parse_seeds(text: str) -> list[int]:
    """"1-10,15" -> [1, ..., 10, 15], each once, in the order given. Raises UserError naming --seeds."""
    seeds: dict[int, None] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if not match:
            raise UserError(f"--seeds={text}: {part.strip()!r} is not a number or a range. Write e.g. --seeds=1-10,15.")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last >= 2**32:
            raise UserError(f"--seeds={text}: {part.strip()!r} must go upwards and stay below {2**32}.")
        if len(seeds) + last - first >= MAX_SEEDS:
            raise UserError(f"--seeds={text} asks for more than {MAX_SEEDS} images; split it into several runs.")
        seeds |= dict.fromkeys(range(first, last + 1))
    return list(seeds)


def parse_grid(text: str) -> tuple[int, int]:
    """"4x2" -> (4 columns, 2 rows). Raises UserError naming --grid."""
    match = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", text.strip().lower())
    if not match:
        raise UserError(f"--grid={text} is not COLSxROWS; write e.g. --grid=4x2 for 4 columns and 2 rows.")
    return int(match[1]), int(match[2])


def seed_latents(seeds: Sequence[int], z_dim: int) -> Tensor:
    """z [N, z_dim] float64, the ecosystem's latents of seeds: numpy RandomState(seed).randn(1, z_dim)."""
    return torch.from_numpy(np.concatenate([np.random.RandomState(seed).randn(1, z_dim) for seed in seeds]))


def class_label(G: Generator, class_names: Sequence[str] | None, text: str | None) -> Tensor | None:
    """The one-hot label [1, c_dim] of a class given by name or number; None for an unconditional G.

    Raises UserError naming --class when it is missing, superfluous or unknown.
    """
    if not G.c_dim:
        if text is not None:
            raise UserError(f"--class={text}: this network was trained without classes; leave --class out.")
        return None
    known = ", ".join(class_names) if class_names else f"0 to {G.c_dim - 1}"
    if text is None:
        raise UserError(f"This network was trained with classes: choose one with --class. Known: {known}.")
    folded = [name.casefold() for name in class_names or ()]
    if class_names and text in class_names:
        index = list(class_names).index(text)
    elif folded.count(text.casefold()) == 1:
        index = folded.index(text.casefold())
    elif text.isdecimal() and int(text) < G.c_dim:
        index = int(text)
    else:
        raise UserError(f"--class={text} is not a class of this network. Known: {known}"
                        f"{f' (or 0 to {G.c_dim - 1})' if class_names else ''}.")
    return torch.nn.functional.one_hot(torch.tensor([index]), G.c_dim).float()


def load_projected_ws(path: str | Path, G: Generator) -> Tensor:
    """ws [N, num_ws, w_dim] under the key "w" of an .npz file. Raises UserError naming --projected-w."""
    where = f"--projected-w={path}"
    try:
        with np.load(path, allow_pickle=False) as file:
            if not hasattr(file, "files") or "w" not in file.files:
                raise UserError(f"{where} has no array named 'w'; it must be an .npz file with the ws to render.")
            w = file["w"]
    except (OSError, ValueError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(f"{where} cannot be read as an .npz file with an array 'w': {error}.") from error
    wanted = (G.num_ws, G.w_dim)
    if w.ndim != 3 or w.shape[1:] != wanted or not len(w) or not np.issubdtype(w.dtype, np.floating):
        raise UserError(f"{where}: 'w' is {w.dtype} {list(w.shape)}, but this network takes floats of the shape "
                        f"[any number, {wanted[0]}, {wanted[1]}]. Was it made for another network?")
    if not np.isfinite(w).all():
        raise UserError(f"{where}: 'w' has values that are not finite; project the image again.")
    return torch.from_numpy(w).float()


def images_of_seeds(
    G: Generator,
    seeds: Sequence[int],
    *,
    label: Tensor | None = None,
    truncation_psi: float = 1.0,
    noise_mode: str = "const",
    batch: int = 8,
) -> Iterator[np.ndarray]:
    """uint8 images [n,C,H,W], n <= batch, one for each seed, bit for bit the same however seeds are batched
    (on one device and, on a CPU, with one number of threads).

    label [1,c_dim] is that of all images. Noise of noise_mode "random" follows from the seed too.
    """
    def ws(numbers: slice) -> Tensor:
        z = seed_latents(seeds[numbers], G.z_dim).to(_device_of(G))
        c = None if label is None else label.to(z.device).expand(len(z), -1)
        return G.mapping(z, c, truncation_psi=truncation_psi)

    return _images(G, ws, seeds, noise_mode, batch)


def images_of_ws(G: Generator, ws: Tensor, *, noise_mode: str = "const", batch: int = 8) -> Iterator[np.ndarray]:
    """uint8 images [n,C,H,W], n <= batch, of ws [N,num_ws,w_dim]; random noise is that of the seeds 0..N-1."""
    return _images(G, lambda numbers: ws[numbers].to(_device_of(G)), range(len(ws)), noise_mode, batch)


@torch.no_grad()
def _images(
    G: Generator, ws: Callable[[slice], Tensor], seeds: Sequence[int], noise_mode: str, batch: int
) -> Iterator[np.ndarray]:
    together = _images_together(G)
    for start in range(0, len(seeds), batch):
        stop = min(start + batch, len(seeds))
        with (torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
              independent_samples()):
            parts = []
            for first in range(start, stop, together):
                numbers = slice(first, min(first + together, stop))
                noise = _noise(G, seeds[numbers], noise_mode)
                parts.append(to_uint8(G.synthesis(ws(numbers), noise_mode=noise_mode, noise=noise)))
        yield torch.cat(parts).cpu().numpy()  # the one wait for the device in a batch


def _images_together(G: Generator) -> int:
    """How many images the network may compute at once without any depending on another, where that is faster."""
    device = _device_of(G).type
    if device != "cpu" or not native.load(device):
        return 1
    return max(PIXELS_TOGETHER // G.img_resolution**2, 1)


def _noise(G: Generator, seeds: Sequence[int], noise_mode: str) -> Tensor | None:
    """The unit normals [N, noise_numel] of seeds, drawn on the CPU, so that devices agree."""
    if noise_mode != "random":
        return None
    generators = [sample_generators(seed, "noise of a seed", [0])[0] for seed in seeds]
    return torch.stack([torch.randn([G.synthesis.noise_numel], generator=g) for g in generators]).to(_device_of(G))


def _device_of(G: Generator) -> torch.device:
    return next(G.parameters()).device
