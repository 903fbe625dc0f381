"""Cigarettes in all sorts of places: a wild set of colour images."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from stylegan2_pipeline.sample_data.field import Field, blur, bump, fractal, mix, step
from stylegan2_pipeline.sample_data.smoking import EMBER, Cigarette, Layer, Light, paint, smoke
from stylegan2_pipeline.sample_data.surfaces import GROUNDS, Rng, bokeh, ground, hsv
from torch_utils.seeding import derive_seed

SETTINGS = (*GROUNDS, "ashtray", "ashtray", "bokeh", "bokeh", "wood", "concrete")


def render_cigarette(seed: int, index: int, size: int) -> NDArray[np.uint8]:
    """[size,size,3] colour image `index` of the set `seed`; depends on these alone."""
    rng = np.random.default_rng(derive_seed(seed, "cigarette", index))
    n = max(64, 2 * size if size <= 128 else size * 3 // 2 if size <= 256 else size)
    picture = _develop(_scene(n, rng), rng)
    resized = Image.fromarray(picture).resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(resized)


def _scene(n: int, rng: Rng) -> Field:
    setting = SETTINGS[int(rng.integers(len(SETTINGS)))]
    light = _light(rng)
    if setting == "bokeh":
        scene = bokeh(rng, n)
    elif setting == "ashtray":
        scene = _ashtray(ground(str(rng.choice(tuple(GROUNDS))), rng, n), light, rng)
    else:
        scene = ground(setting, rng, n)
    haze = float(rng.choice((0, 0, 0.002, 0.006, 0.014)))
    scene = _defocus(scene, min(haze, 0.002) if setting == "ashtray" else haze)
    cigarettes = _arrange(setting, rng)
    for cig in cigarettes:
        scene = _lay(scene, paint(cig, light, n, rng), cig, light)
    for cig in cigarettes:
        if cig.burnt == "lit" and rng.random() < 0.7:
            density = smoke(cig.tip(), n, rng) * rng.uniform(0.4, 0.95)
            scene = mix(scene, np.array((0.78, 0.8, 0.84), np.float32), density[..., None].clip(0, 1))
    return scene * np.array(light.colour, np.float32)


def _light(rng: Rng) -> Light:
    turn, height = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 0.85)
    flat = np.sqrt(1 - height**2)
    warm = rng.random() < 0.7
    colour = hsv(rng, (0.04, 0.14), (0, 0.35), (1, 1)) if warm else hsv(rng, (0.5, 0.75), (0, 0.2), (1, 1))
    return Light(flat * np.cos(turn), flat * np.sin(turn), height, rng.uniform(0.25, 0.55), colour)


def _arrange(setting: str, rng: Rng) -> list[Cigarette]:
    """One to four cigarettes; several lie scattered or cross each other."""
    count = int(rng.choice((1, 2, 3, 4), p=(0.62, 0.2, 0.11, 0.07)))
    length = rng.uniform(0.5, 1.05) / (1 + 0.12 * (count - 1))
    low = 0.62 if setting == "bokeh" else 0.5
    first = rng.uniform(0, 2 * np.pi)
    spread = rng.choice((0.15, 1.5))
    made = []
    for k in range(count):
        x, y = rng.normal(0.5, 0.06 + 0.08 * (count > 1)), rng.normal(low, 0.05 + 0.1 * (count > 1))
        made.append(_cigarette(x, y, first + k * rng.normal(0, spread), length, setting, rng))
    return made


def _cigarette(x: float, y: float, angle: float, length: float, setting: str, rng: Rng) -> Cigarette:
    odds = (0.15, 0.45, 0.4) if setting == "ashtray" else (0.3, 0.5, 0.2)
    burnt = str(rng.choice(("fresh", "lit", "stub"), p=odds))
    full = length * float(rng.uniform(0.97, 1.03))
    radius = full * rng.uniform(0.042, 0.058)
    left = {"fresh": 1.0, "lit": rng.uniform(0.55, 1.0), "stub": rng.uniform(0.36, 0.55)}[burnt]
    tilt = float(rng.choice((-1, 1)) * rng.uniform(0.12, 0.5))
    broken = rng.random() < (0.35 if burnt == "stub" else 0.12)
    swell = 1.25 if burnt == "stub" else 1.0
    return Cigarette(
        float(x), float(y), float(angle), length=full * left * swell, radius=float(radius * swell),
        taper=float(rng.normal(0, 0.15) - 0.25 * tilt), tilt=tilt,
        bend=float(rng.normal(0, 0.35)), kink=float(np.clip(rng.normal(0, 0.5), -0.7, 0.7)) if broken else 0.0,
        kink_at=float(rng.uniform(0.45, 0.75)),
        filter=float(rng.uniform(0.24, 0.33) / left) if rng.random() < 0.93 else 0.0, white=bool(rng.random() < 0.28),
        burnt=burnt, ash=float(rng.uniform(0.02, 0.2) if burnt == "lit" else 0.03),
        crumple=float(rng.uniform(0.3, 0.9) if burnt == "stub" else max(0, rng.normal(0, 0.08))),
    )


def _lay(scene: Field, layer: Layer, cig: Cigarette, light: Light) -> Field:
    """The scene with a cigarette on it: its shadow near and far, its glow, itself."""
    n = len(scene)
    mask = np.zeros((n, n), np.float32)
    h, w = layer.alpha.shape
    window = np.s_[layer.top : layer.top + h, layer.left : layer.left + w]
    mask[window] = layer.alpha
    reach = cig.radius * n / max(light.z, 0.4)
    near = _shadow(mask, -light.x * reach * 0.55, -light.y * reach * 0.55, cig.radius * n * 0.25)
    far = _shadow(mask, -light.x * reach * 1.5, -light.y * reach * 1.5, cig.radius * n * 0.8)
    dark = (0.75 - 0.5 * light.ambient) * np.maximum(near, 0.75 * far)
    scene = scene * (1 - dark)[..., None]
    if layer.glow.max() > 0.3:
        scene = scene + _halo(cig, n) * (1 - 0.75 * scene.clip(0, 1))
    scene[window] = mix(scene[window], layer.rgb, layer.alpha[..., None])
    return scene


def _shadow(mask: Field, dx: float, dy: float, sigma: float) -> Field:
    """The mask moved by (dx, dy) pixels and blurred, at half resolution."""
    half = Image.fromarray((mask * 255).astype(np.uint8)).reduce(2)
    moved = half.transform(half.size, Image.Transform.AFFINE, (1, 0, -dx / 2, 0, 1, -dy / 2), Image.Resampling.BILINEAR)
    soft = moved.filter(ImageFilter.GaussianBlur(max(sigma / 2, 0.5)))
    return np.asarray(soft.resize(mask.shape[::-1], Image.Resampling.BILINEAR), np.float32) / 255


def _halo(cig: Cigarette, n: int) -> Field:
    t = (np.arange(n, dtype=np.float32) + 0.5) / n
    x, y = cig.tip()
    near = bump(np.hypot(t[None, :] - x, t[:, None] - y), 3.2 * cig.radius)
    return 0.2 * near[..., None] * np.array(EMBER, np.float32)


def _ashtray(scene: Field, light: Light, rng: Rng) -> Field:
    """A round tray of glass or glaze: rings of an ellipse, each lit by its slope."""
    n = len(scene)
    t = (np.arange(n, dtype=np.float32) + 0.5) / n
    x, y = t[None, :] - rng.normal(0.5, 0.04), t[:, None] - rng.normal(0.52, 0.04)
    squash, outer = rng.uniform(0.72, 1.0), rng.uniform(0.4, 0.52)
    q = np.hypot(x, y / squash) / outer
    spin = np.arctan2(y, x)
    glass = rng.random() < 0.45
    tone = np.array(hsv(rng, (0, 1), (0.05, 0.5 if glass else 0.9), (0.35, 0.95)), np.float32)
    behind = np.hypot(x + 0.05 * light.x, (y + 0.05 * light.y) / squash) / outer
    scene = scene * (1 - 0.55 * step(behind, 1.22, 0.95))[..., None]
    toward = np.cos(spin) * light.x + np.sin(spin) * light.y
    wall, rim, dip = bump(q - 0.74, 0.07), bump(q - 0.90, 0.035), step(q, 0.70, 0.64)
    lit = 0.62 + 0.3 * light.z + 0.5 * bump(q - 0.98, 0.04) * toward - 0.5 * wall * toward + 0.12 * rim - 0.10 * dip
    if glass:
        facets = np.sign(np.sin(spin * int(rng.integers(8, 20)))) * step(q, 0.78, 0.82)
        lit = lit + 0.10 * facets + 0.25 * wall * np.sin(3 * spin) + 0.2 * rim * np.sin(7 * spin)
    shine = 0.8 * bump(q - 0.90, 0.02) * bump(toward - 0.75, 0.18)
    shine = shine + 0.5 * bump(q - 0.70, 0.02) * bump(toward + 0.8, 0.2)
    surface = tone * lit[..., None] if not glass else mix(scene, tone, 0.4) * (0.2 + lit)[..., None]
    dirt = step(fractal(rng, 20, n, 4, 0.8), 0.3, 1.6) * step(q, 0.66, 0.4) * rng.uniform(0.2, 0.9)
    flakes = 0.25 + 0.12 * fractal(rng, 60, n, 2)
    surface = mix(surface, flakes[..., None], dirt[..., None]) + shine[..., None]
    return mix(scene, np.clip(surface, 0, 1.2), step(q, 1.0 + 2 / n, 1.0)[..., None])


def _defocus(scene: Field, sigma: float) -> Field:
    """Blurred evenly; sigma in image widths."""
    return scene if sigma == 0 else np.stack([blur(scene[..., c], sigma * len(scene)) for c in range(3)], -1)


def _develop(scene: Field, rng: Rng) -> NDArray[np.uint8]:
    """Focus plane, exposure, contrast, vignette and grain, as a camera adds them; [n,n,3] in 8 bits."""
    n = len(scene)
    t = (np.arange(n, dtype=np.float32) + 0.5) / n
    x, y = t[None, :], t[:, None]
    pool = bump(np.hypot(x - rng.uniform(0.2, 0.8), y - rng.uniform(0.2, 0.8)), rng.uniform(0.5, 1.6))
    scene = scene * (rng.uniform(0.8, 1.15) * (0.55 + 0.55 * pool))[..., None]
    if rng.random() < 0.5:
        away = step(np.abs(y - rng.uniform(0.4, 0.65)), 0.18, 0.5) * np.ones_like(x)
        scene = mix(scene, _defocus(scene, rng.uniform(0.004, 0.012)), away[..., None])
    gamma = rng.uniform(0.8, 1.2)
    scene = np.clip(scene, 0, None)
    scene = scene / (1 + 0.25 * np.maximum(scene - 0.75, 0))
    grain = rng.normal(0, 1, (128, 128)).astype(np.float32)
    tiled = np.tile(grain, (n // 128 + 1, n // 128 + 1))[:n, :n] * rng.uniform(0.002, 0.018)
    developed = np.clip(scene, 0, 1) ** gamma + tiled[..., None]
    return np.clip(developed * 255 + 0.5, 0, 255).astype(np.uint8)
