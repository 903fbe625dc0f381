"""The grounds that cigarettes lie on: flat textures [n,n,3] in [0,1], drawn as if seen from straight above."""

import colorsys
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import distance_transform_edt

from stylegan2_pipeline.sample_data.field import Field, blur, bump, fractal, mix, noise, resize, step

Colour = tuple[float, ...]  # red, green, blue
Rng = np.random.Generator


def hsv(rng: Rng, hue: tuple[float, float], saturation: tuple[float, float], value: tuple[float, float]) -> Colour:
    """A random colour; hue in turns may run past 1."""
    return colorsys.hsv_to_rgb(rng.uniform(*hue) % 1, rng.uniform(*saturation), rng.uniform(*value))


def tint(low: Colour | Field, high: Colour | Field, t: Field) -> Field:
    """[n,n,3]: the colour `low` where t = 0, `high` where t = 1."""
    return mix(np.asarray(low, np.float32), np.asarray(high, np.float32), t[..., None])


def shaded(texture: Field, height: Field, strength: float) -> Field:
    """A texture with its relief lit from the upper left. `height` in grains, independent of the resolution."""
    slope = np.diff(height, axis=0, append=height[-1:]) + np.diff(height, axis=1, append=height[:, -1:])
    return texture * (1 + strength * len(height) / 512 * slope)[..., None].clip(0.3, 1.8)


def _ticks(n: int) -> tuple[Field, Field]:
    t = ((np.arange(n, dtype=np.float32) + 0.5) / n)
    return np.broadcast_to(t[None, :], (n, n)), np.broadcast_to(t[:, None], (n, n))


def _visible(n: int, count: float) -> float:
    """How much of a pattern with `count` periods survives n pixels: 0 near two pixels a period, 1 above five."""
    return float(np.clip((n / count - 2) / 3, 0, 1))


def _edges(x: Field, half: float, n: int) -> Field:
    """1 within `half` of an integer, anti-aliased; x in periods."""
    away = np.abs(x - np.round(x))
    soft = 1.5 * max(float(np.abs(x[0, 1] - x[0, 0])), float(np.abs(x[1, 0] - x[0, 0])), 1e-3)
    return step(away, half + soft, half)


def wood(rng: Rng, n: int) -> Field:
    y = _ticks(n)[1]
    base = hsv(rng, (0.05, 0.11), (0.35, 0.75), (0.25, 0.85))
    planks = int(rng.integers(1, 7))
    row = np.minimum((y * planks).astype(int), planks - 1)
    knots = noise(rng, 5, n, 2.5) + 2.5 * rng.standard_normal(planks)[row].astype(np.float32)
    rings = np.sin(40 * y + 5 * knots + 0.6 * noise(rng, 30, n, 6))
    grain = 0.5 + 0.16 * rings + 0.17 * fractal(rng, 60, n, 3, 0.8, 14)
    dark = tuple(0.55 * c for c in base)
    texture = tint(dark, base, grain.clip(0, 1.3)) * (1 + 0.1 * rng.standard_normal(planks)[row])[..., None]
    gaps = _edges(y * planks, 0.012 * planks / 3, n) * (planks > 1) * 0.85
    return mix(texture, 0.06, gaps[..., None])


def weave(rng: Rng, n: int) -> Field:
    x, y = _ticks(n)
    count = int(rng.integers(40, 100))
    colours = [hsv(rng, (0, 1), (0.05, 0.7), (0.15, 0.85)) for _ in range(2)]
    bend = 0.3 * noise(rng, 8, n) / count
    warp, weft = np.abs(np.sin(np.pi * count * (x + bend))), np.abs(np.sin(np.pi * count * (y + bend)))
    over = step(np.sin(np.pi * count * (x + bend)) * np.sin(np.pi * count * (y + bend)), -0.2, 0.2)
    lit = mix(weft, warp, over) * (1 + 0.25 * noise(rng, 120, n))
    texture = tint(colours[0], colours[1], over * rng.choice((0.15, 1.0)))
    relief = mix(0.8, 0.45 + 0.6 * lit, _visible(n, count)) * (1 + 0.07 * fractal(rng, 5, n, 3))
    return texture * relief[..., None]


def tablecloth(rng: Rng, n: int) -> Field:
    x, y = _ticks(n)
    count, colour = int(rng.integers(4, 12)), hsv(rng, (0, 1), (0.5, 0.95), (0.3, 0.85))
    wave = 0.04 * noise(rng, 3, n)
    across, down = (step(np.sin(2 * np.pi * count * (t + wave)), -0.1, 0.1) for t in (x, y))
    style = int(rng.integers(0, 3))
    dots = step(np.sin(2 * np.pi * count * (x + wave)) * np.sin(2 * np.pi * count * (y + wave)), 0.35, 0.5)
    pattern = (0.5 * (across + down), dots, mix(across * 0.3, 1, _edges(down * 0.5, 0.05, n)))[style]
    threads = 0.06 * noise(rng, 180, n, 5) + 0.06 * noise(rng, 180, n, 5).T
    cloth = tint((0.93, 0.92, 0.88), colour, pattern) * (1 + threads)[..., None]
    return shaded(cloth, fractal(rng, 4, n, 2), rng.uniform(2, 9))


def concrete(rng: Rng, n: int) -> Field:
    base = hsv(rng, (0.05, 0.18), (0.02, 0.14), (0.4, 0.75))
    stain = 0.5 + 0.22 * fractal(rng, 4, n, 5, 0.65)
    texture = tint(tuple(0.7 * c for c in base), tuple(min(1.2 * c, 1) for c in base), stain)
    grain = fractal(rng, 110, n, 2, 0.9)
    pits = step(noise(rng, 70, n), 1.9, 2.4)
    texture = shaded(texture * (1 + 0.05 * grain)[..., None], grain, 0.08) * (1 - 0.5 * pits)[..., None]
    crack = bump(fractal(rng, 3, n, 4, 0.5), 0.02) * (rng.random() < 0.5)
    return texture * (1 - 0.7 * crack)[..., None]


def asphalt(rng: Rng, n: int) -> Field:
    stones = noise(rng, int(rng.integers(90, 170)), n)
    fine = noise(rng, 260, n)
    value = rng.uniform(0.18, 0.4) + 0.07 * stones + 0.06 * fine + 0.03 * fractal(rng, 3, n, 3)
    texture = np.repeat(value[..., None], 3, 2) * np.array(hsv(rng, (0.5, 1.1), (0, 0.1), (1, 1)), np.float32)
    texture = shaded(texture, stones + 0.5 * fine, 0.28)
    if rng.random() < 0.3:
        x, y = _ticks(n)
        paint = step(np.abs(x - rng.uniform(0.1, 0.9) + 0.2 * y), 0.11, 0.1) * step(stones + fine, 1.6, 0.6)
        colour = rng.choice(((0.85, 0.85, 0.8), (0.85, 0.65, 0.15))).astype(np.float32)
        texture = mix(texture, colour, 0.85 * paint[..., None])
    return texture


def grass(rng: Rng, n: int) -> Field:
    picture = Image.new("RGB", (n, n), (18, 26, 10))
    draw = ImageDraw.Draw(picture)
    count, hue, dry = 2600, rng.uniform(0.2, 0.33), rng.uniform(0, 0.4)
    at, lean = rng.uniform(-0.05, 1.05, (count, 2)), rng.normal(-np.pi / 2 + rng.normal(0, 0.4), 0.75, count)
    length, thick = rng.uniform(0.05, 0.2, count), rng.uniform(0.003, 0.009, count)
    tone = rng.random((count, 3))
    for k in range(count):
        old = tone[k, 0] < dry
        value = (0.25 + 0.55 * k / count) * (0.7 + 0.5 * tone[k, 1])
        rgb = colorsys.hsv_to_rgb(0.13 if old else hue + 0.05 * tone[k, 2] - 0.025, 0.35 + 0.35 * (not old), value)
        root, way = at[k], np.array([np.cos(lean[k]), np.sin(lean[k])])
        side, tip = np.array([-way[1], way[0]]) * thick[k], root + way * length[k]
        belly = root + way * length[k] * 0.5 + side * 1.5
        outline = [tuple((p * n).tolist()) for p in (root - side, belly, tip, root + side)]
        draw.polygon(outline, fill=tuple(int(255 * c) for c in rgb))
    return np.asarray(picture, np.float32) / 255


def tiles(rng: Rng, n: int) -> Field:
    x, y = _ticks(n)
    columns, rows = int(rng.integers(2, 9)), int(rng.integers(2, 9))
    rows = columns if rng.random() < 0.6 else rows
    shift = 0.5 * (np.floor(y * rows) % 2) * (rng.random() < 0.4)
    u, v = (x * columns + shift).astype(np.float32), y * rows
    tone = rng.standard_normal((12, 12)).astype(np.float32)[v.astype(int), u.astype(int)]
    colours = hsv(rng, (0, 1), (0.02, 0.6), (0.3, 0.95)), hsv(rng, (0, 1), (0.02, 0.5), (0.3, 0.95))
    board = ((np.floor(u) + np.floor(v)) % 2).astype(np.float32) * (rng.random() < 0.4)
    texture = tint(*colours, board) * (1 + 0.05 * tone + 0.04 * fractal(rng, 6, n, 4))[..., None]
    grout = np.maximum(_edges(u, 0.022, n), _edges(v, 0.022, n))
    texture = shaded(texture, -blur(grout, 0.005 * n) * 3, 0.9)
    return mix(texture, np.array(hsv(rng, (0.05, 0.15), (0, 0.15), (0.15, 0.8)), np.float32), grout[..., None] * 0.9)


def sand(rng: Rng, n: int) -> Field:
    y = _ticks(n)[1]
    base = hsv(rng, (0.08, 0.13), (0.2, 0.5), (0.55, 0.9))
    ripples = np.sin(2 * np.pi * (rng.uniform(2, 8) * y + 0.35 * noise(rng, 4, n)))
    dune = ripples * rng.uniform(0, 3) + 2 * fractal(rng, 10, n, 4)
    grain = noise(rng, 240, n)
    texture = np.asarray(base, np.float32) * (0.9 + 0.08 * grain + 0.1 * (noise(rng, 200, n) > 1.7))[..., None]
    return shaded(texture, dune + 0.5 * grain, 0.3)


def gradient(rng: Rng, n: int) -> Field:
    x, y = _ticks(n)
    angle = rng.uniform(0, 2 * np.pi)
    t = step((x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle) + 0.06 * noise(rng, 3, n), -0.6, 0.6)
    return tint(hsv(rng, (0, 1), (0.1, 0.9), (0.15, 0.9)), hsv(rng, (0, 1), (0.05, 0.8), (0.3, 1)), t)


def paper(rng: Rng, n: int) -> Field:
    """A notebook page or a column of print; words are dashes of noise."""
    x, y = _ticks(n)
    rows = int(rng.integers(20, 44))
    sheet = np.asarray(hsv(rng, (0.08, 0.16), (0.02, 0.2), (0.8, 0.97)), np.float32)
    texture = sheet * (1 + 0.02 * fractal(rng, 12, n, 4))[..., None]
    if rng.random() < 0.4:
        ruled = np.maximum(_edges(y * rows, 0.03, n), 0.8 * _edges(x * rows, 0.03, n) * (rng.random() < 0.5))
        return mix(texture, np.array((0.35, 0.5, 0.8), np.float32), 0.7 * ruled[..., None])
    letters = resize((rng.random((rows * 5, 300)) < 0.55).astype(np.float32), n)
    words = letters * step(np.abs((y * rows) % 1 - 0.5), 0.27, 0.2) * step(noise(rng, 90, n), -0.9, -0.6)
    columns = 1 - _edges(x * int(rng.integers(1, 4)), 0.05, n)
    return mix(texture, 0.12, (words * columns * 0.75)[..., None])


def gravel(rng: Rng, n: int) -> Field:
    """Pebbles: the cells of random points, rounded by the distance to their walls."""
    m, count = min(n, 256), int(rng.integers(200, 900))
    seeds = np.ones((256, 256), bool)
    seeds[tuple(rng.integers(0, 256, (2, count)))] = False
    nearest = distance_transform_edt(seeds, return_distances=False, return_indices=True)
    cell = nearest[0] * 256 + nearest[1]
    tone = rng.random(256 * 256).astype(np.float32)[cell]
    walls = (np.diff(cell, axis=0, append=cell[-1:]) != 0) | (np.diff(cell, axis=1, append=cell[:, -1:]) != 0)
    dome = np.sqrt(np.minimum(distance_transform_edt(~walls), 7)).astype(np.float32)
    dome, tone = resize(resize(dome, m), n), resize(resize(tone, m), n)
    low, high = hsv(rng, (0.04, 0.14), (0.05, 0.4), (0.25, 0.5)), hsv(rng, (0.04, 0.6), (0.0, 0.2), (0.6, 0.95))
    relief = (0.25 + 0.3 * dome).clip(0, 1) * (1 + 0.06 * fractal(rng, 60, n, 3))
    texture = tint(low, high, tone) * relief[..., None]
    return shaded(texture, dome, 0.5)


def marble(rng: Rng, n: int) -> Field:
    veins = bump(fractal(rng, 3, n, 5, 0.55), 0.06) + 0.6 * bump(fractal(rng, 5, n, 5, 0.6), 0.04)
    light = rng.random() < 0.6
    base = hsv(rng, (0, 1), (0, 0.2), (0.8, 0.97) if light else (0.08, 0.3))
    vein = hsv(rng, (0, 1), (0, 0.3), (0.3, 0.6) if light else (0.5, 0.9))
    return tint(base, vein, (0.7 * veins).clip(0, 1)) * (1 + 0.06 * fractal(rng, 4, n, 4))[..., None]


GROUNDS: dict[str, Callable[[Rng, int], Field]] = {
    "wood": wood, "weave": weave, "tablecloth": tablecloth, "concrete": concrete, "asphalt": asphalt, "grass": grass,
    "tiles": tiles, "sand": sand, "gradient": gradient, "paper": paper, "gravel": gravel, "marble": marble,
}


def ground(name: str, rng: Rng, n: int) -> Field:
    """[n,n,3]: a texture by name, turned and tilted away from the camera."""
    texture = np.clip(GROUNDS[name](rng, n) * 255, 0, 255).astype(np.uint8)
    turn = float(rng.uniform(-0.35, 0.35) + np.pi / 2 * rng.integers(0, 4))
    near = float(rng.uniform(0.5, 0.75))
    if name == "grass":  # grows upwards
        turn, near = 0.0, 0.85
    far = rng.uniform(near, 0.98)
    corners = np.array([(-far, -far), (-near, near), (near, near), (far, -far)]) * 0.5
    scale = 1 / max(1.0, float(np.cos(turn % (np.pi / 2)) + np.sin(turn % (np.pi / 2))) * far)
    c, s = np.cos(turn) * scale, np.sin(turn) * scale
    quad = ((corners @ np.array([[c, s], [-s, c]]) + 0.5) * n).ravel()
    view = _look(Image.fromarray(texture), quad.tolist())
    return np.asarray(view, np.float32) / 255


def _look(picture: Image.Image, quad: list[float]) -> Image.Image:
    """The quadrilateral (upper left, lower left, lower right, upper right) of a picture, seen in perspective."""
    n = picture.width
    target = ((0, 0), (0, n), (n, n), (n, 0))
    rows, values = [], []
    for (x, y), (u, v) in zip(target, zip(quad[::2], quad[1::2], strict=True), strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    solution = np.linalg.solve(np.array(rows, float), np.array(values, float))
    return picture.transform((n, n), Image.Transform.PERSPECTIVE, tuple(solution.tolist()), Image.Resampling.BICUBIC)


def bokeh(rng: Rng, n: int) -> Field:
    """A dark table edge in front of lights out of focus."""
    x, y = _ticks(n)
    scene = gradient(rng, n) * rng.uniform(0.1, 0.3)
    edge = rng.uniform(0.3, 0.6)
    warm = rng.uniform(0, 1)
    for _ in range(int(rng.integers(10, 34))):
        cx, cy, r = rng.uniform(0, 1), rng.uniform(0, edge + 0.05), rng.uniform(0.02, 0.09)
        away = np.hypot(x - cx, y - cy)
        disc = step(away, r * 1.06 + 1 / n, r * 0.94) * (0.75 + 0.25 * np.square(away / r))
        colour = np.array(hsv(rng, (0.0, 0.16) if rng.random() < warm else (0, 1), (0.2, 0.9), (0.3, 1)), np.float32)
        scene = scene + disc[..., None] * colour * rng.uniform(0.15, 0.6)
    table = ground(str(rng.choice(("wood", "marble", "gradient", "weave"))), rng, n) * rng.uniform(0.3, 0.7)
    mirror = 0.3 * np.flip(scene, 0)
    return mix(scene, table + mirror * rng.uniform(0, 0.6), step(y, edge - 0.02, edge + 0.03)[..., None])
