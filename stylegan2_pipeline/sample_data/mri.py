"""Brain-MRI-like axial slices: a homogeneous set of gray images, aligned as such data are."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import distance_transform_edt

from stylegan2_pipeline.sample_data.anatomy import TABLE, Slice, folds, make_slice
from stylegan2_pipeline.sample_data.field import Canvas, Field, blur, bump, fractal, mix, noise, resize, step
from torch_utils.seeding import derive_seed

FOV = 218.0  # mm
LESION_SHARE = 0.3


def render_mri(seed: int, index: int, size: int) -> NDArray[np.uint8]:
    """[size,size] gray slice `index` of the set `seed`; depends on these alone."""
    rng = np.random.default_rng(derive_seed(seed, "mri", index))
    shape = make_slice(rng)
    canvas = Canvas(_matrix(size), FOV, float(rng.normal(0, 0.025)), (float(rng.normal(0, 1)), float(rng.normal(0, 1))))
    signal = _receive(_tissue(shape, canvas, rng), rng)
    return _scan(signal, size, rng)


def _matrix(size: int) -> int:
    """The pixels a side to render at: finer than small images; large ones are interpolated, as scanners do."""
    return min(max(2 * size, 96), 384) if size <= 512 else size * 3 // 4


def _tissue(shape: Slice, canvas: Canvas, rng: np.random.Generator) -> Field:
    """[n,n] T1-weighted signal: fluid dark, gray matter middle, white matter bright, fat brightest."""
    x, y = canvas.grid()
    turn = np.arctan2(y, x) / np.float32(2 * np.pi)
    radius = np.interp(turn, np.arange(TABLE) / TABLE, shape.hull, period=1.0).astype(np.float32)
    outside = np.hypot(x, y) - radius
    gray, white = rng.normal(0.50, 0.02), rng.normal(0.72, 0.02)
    fluid = rng.normal(0.13, 0.015)
    brain = _brain(shape, canvas, outside, (gray, white, fluid), rng)
    if rng.random() < LESION_SHARE:
        brain = _lesion(brain, x, y, canvas.n, rng)
    brain = mix(brain, fluid, step(outside, -0.4, 0.8))
    return _cover(brain, outside, x, y, turn, rng)


def _brain(
    shape: Slice, canvas: Canvas, outside: Field, levels: tuple[float, float, float], rng: np.random.Generator
) -> Field:
    gray, white, fluid = levels
    n, mm = canvas.n, canvas.fov / canvas.n
    sulci = _sulci(shape, canvas, outside, rng)
    pial = canvas.trace(shape.clefts) | (outside > -0.5) | (sulci > 0.3)
    depth = distance_transform_edt(~pial).astype(np.float32) * np.float32(mm)
    ribbon = rng.normal(3.3, 0.15) + 0.4 * noise(rng, 24, n)
    texture = 0.010 * fractal(rng, 30, n, 3)
    matter = mix(white + texture, gray + texture, step(depth, ribbon + 1.0, ribbon - 0.7))
    matter = mix(matter, 0.55 * gray + 0.45 * white, _soft(canvas, shape.nuclei, 1.0) * 0.9)
    matter = mix(matter, gray, _soft(canvas, shape.putamen, 0.8) * 0.95)
    matter = mix(matter, fluid, np.maximum(canvas.fill(shape.furrows), sulci) * 0.92)
    matter = mix(matter, fluid, _soft(canvas, shape.ventricles, 0.5))
    matter = mix(matter, gray * 0.85, canvas.fill(shape.falx) * 0.45)
    return mix(matter, 0.6 * gray, _soft(canvas, shape.plexus, 0.6) * 0.6)


def _sulci(shape: Slice, canvas: Canvas, outside: Field, rng: np.random.Generator) -> Field:
    """[n,n] how much of each pixel is fluid in a sulcus; sulci end 10 to 30 mm deep and keep off the deep nuclei."""
    n = canvas.n
    x, y = canvas.grid()
    valley = folds(Canvas(128, canvas.fov, canvas.angle, canvas.shift), n, rng)
    deepest = 23 + 7 * noise(rng, 12, n)
    core = np.hypot(x / (31 + 4 * shape.level), y / 45)
    insula = bump(np.abs(x) - 34, 7) * bump(y - 4, 20) if shape.level < 0.7 else 0.0
    shallow = step(-outside, deepest, deepest + 6) + step(core, 1.15, 0.95) + insula
    narrow = 0.93 + 0.03 * noise(rng, 20, n) - 0.15 * step(-outside, 6, 0) - 0.15 * (shape.atrophy - 1)
    return step(-valley - 2 * shallow, narrow - 0.09, narrow + 0.07)


def _soft(canvas: Canvas, polygons: list[NDArray[np.floating]], mm: float) -> Field:
    return blur(canvas.fill(polygons), mm * canvas.n / canvas.fov)


def _cover(brain: Field, outside: Field, x: Field, y: Field, turn: Field, rng: np.random.Generator) -> Field:
    """The head around the brain: dura, the dark tables of the skull with marrow between, scalp fat, skin, air."""
    n = len(brain)
    around = 2 * np.pi * turn
    wave = np.cos(2 * around + rng.normal(0, 0.2))
    gap = 1.9 + 0.5 * noise(rng, 10, n)
    skull = gap + rng.normal(6.3, 0.6) - 0.7 * wave - 0.5 * np.sin(around)
    fat = skull + rng.normal(4.3, 0.7) + 0.3 * noise(rng, 5, n) - 0.8 * np.sin(around) - 0.5 * wave
    marrow = bump(outside - (gap + skull) / 2, 1.7) * (0.42 + 0.08 * noise(rng, 26, n))
    muscle = bump(np.abs(np.abs(x) - 62), 14) * bump(y - 34, 20) * step(np.abs(outside - skull - 1.2), 2.6, 1.2)
    signal = mix(brain, 0.42, bump(outside - gap + 0.3, 0.55) * 0.6)
    signal = mix(signal, 0.05 + marrow, step(outside, gap - 0.2, gap + 0.8))
    scalp = rng.normal(0.93, 0.03) + 0.05 * noise(rng, 40, n)
    signal = mix(signal, mix(scalp, 0.42, muscle), step(outside, skull - 0.5, skull + 0.6))
    signal = mix(signal, 0.52, step(outside, fat - 0.3, fat + 0.5))
    signal = mix(signal, 0.0, step(outside, fat + 1.1, fat + 2.0))
    sinus = bump(x, 2.6) * bump(y + 82, 3.4)
    return mix(signal, 0.62, sinus * 0.8 * step(skull - outside, 2.0, 4.0))


def _lesion(brain: Field, x: Field, y: Field, n: int, rng: np.random.Generator) -> Field:
    """A bright, ragged mass, sometimes with a dark core, in a darker halo of edema."""
    side, size = rng.choice((-1, 1)), rng.uniform(5, 13)
    cx, cy = side * rng.uniform(26, 42), rng.uniform(-48, 46)
    away = np.hypot(x - cx, (y - cy) * rng.uniform(0.8, 1.25)) + 0.16 * size * fractal(rng, 14, n, 3)
    halo = step(away + 2.2 * noise(rng, 12, n), size * rng.uniform(1.7, 2.3), size)
    brain = mix(brain, 0.36, 0.75 * halo)
    brain = mix(brain, rng.uniform(0.84, 0.98) + 0.04 * noise(rng, 30, n), step(away, size + 0.8, size - 0.8))
    core = size * rng.choice((0.0, 0.45, 0.7))
    return mix(brain, 0.28, step(away + 0.5 * noise(rng, 20, n), core + 0.6, core - 0.6)) if core else brain


def _receive(signal: Field, rng: np.random.Generator) -> Field:
    """The coil's smooth sensitivity, a few per cent to a fifth across the head."""
    t = np.linspace(-1, 1, len(signal), dtype=np.float32)
    a, b, c, d = rng.normal(0, 0.05, 4)
    field = 1 + a * t[None, :] + b * t[:, None] + c * t[None, :] * t[:, None]
    return signal * (field + (0.06 + d) * (t[None, :] ** 2 + t[:, None] ** 2 - 0.5))


def _scan(signal: Field, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Magnitude of a noisy complex signal (Rician), windowed to 8 bits. Noise shrinks as pixels average more of it."""
    level = float(rng.uniform(0.010, 0.024)) * rng.uniform(0.97, 1.0)
    gain = float(rng.normal(0.93, 0.03))
    n = min(size, len(signal))
    image = resize(signal, n)
    grain = np.float32(level * min(1.0, (n / 256) ** 0.5))
    real, imaginary = rng.standard_normal((2, n, n), dtype=np.float32) * grain
    magnitude = np.hypot(image + real, imaginary)
    window = np.clip((magnitude - 0.8 * grain) * (gain * 255), 0, 255)
    picture = Image.fromarray(window.astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(picture) + 0.5, 0, 255).astype(np.uint8)
