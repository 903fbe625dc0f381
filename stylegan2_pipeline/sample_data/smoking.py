"""One cigarette: where it lies, its body and ends, its shading, and the smoke that rises from it."""

from dataclasses import dataclass

import numpy as np

from stylegan2_pipeline.sample_data.field import Field, bump, fractal, mix, noise, resize, sample, step
from stylegan2_pipeline.sample_data.surfaces import Colour, tint

Rng = np.random.Generator
CORK, CREAM, TOBACCO = (0.83, 0.53, 0.24), (0.93, 0.88, 0.75), (0.36, 0.22, 0.10)
ASH, CHAR, EMBER = (0.62, 0.61, 0.60), (0.06, 0.05, 0.05), (1.0, 0.38, 0.06)
RINGS: tuple[Colour, ...] = ((0.8, 0.62, 0.2), (0.15, 0.25, 0.6), (0.1, 0.45, 0.25), (0.7, 0.1, 0.1), (0.35, 0.2, 0.1))


@dataclass(frozen=True)
class Light:
    """Direction towards the light (x right, y down, z to the viewer; unit length), ambient share, colour."""

    x: float
    y: float
    z: float
    ambient: float
    colour: Colour


@dataclass(frozen=True)
class Cigarette:
    """Lengths in image widths, x right, y down; `angle` points from the filter to the tip."""

    x: float
    y: float
    angle: float
    length: float
    radius: float
    taper: float        # relative change of the radius along the length
    tilt: float         # how round its ends look; > 0 shows the filter's face, < 0 the tip's
    bend: float         # sideways, in radii
    kink: float         # radians at `kink_at`
    kink_at: float      # share of the length
    filter: float       # share of the length, 0 for none
    white: bool         # filter paper
    burnt: str          # "fresh", "lit" or "stub"
    ash: float          # share of the length
    crumple: float      # 0..1

    def tip(self) -> tuple[float, float]:
        across = self.length * max(0.0, 1 - self.kink_at) * np.tan(self.kink)
        along = self.length / 2
        c, s = np.cos(self.angle), np.sin(self.angle)
        return float(self.x + c * along - s * across), float(self.y + s * along + c * across)


@dataclass(frozen=True)
class Layer:
    """A picture [h,w,3], its coverage [h,w] and its glow [h,w], to be laid at (top, left)."""

    top: int
    left: int
    rgb: Field
    alpha: Field
    glow: Field


class _Body:
    """The pixels around a cigarette in its own coordinates."""

    def __init__(self, cig: Cigarette, n: int, rng: Rng) -> None:
        self.cig = cig
        reach = (cig.length / 2 + 3 * cig.radius + abs(cig.bend) * cig.radius) * n
        spread = (abs(np.sin(cig.kink)) * cig.length * (1 - cig.kink_at) + (abs(cig.bend) + 2) * cig.radius) * n
        c, s = np.cos(cig.angle), np.sin(cig.angle)
        half_x, half_y = abs(c) * reach + abs(s) * spread + 2, abs(s) * reach + abs(c) * spread + 2
        self.left, self.top = max(0, int(cig.x * n - half_x)), max(0, int(cig.y * n - half_y))
        right, bottom = min(n, int(cig.x * n + half_x) + 1), min(n, int(cig.y * n + half_y) + 1)
        px = (np.arange(self.left, max(right, self.left + 2), dtype=np.float32) + 0.5)[None, :] / n - cig.x
        py = (np.arange(self.top, max(bottom, self.top + 2), dtype=np.float32) + 0.5)[:, None] / n - cig.y
        along, across = c * px + s * py + cig.length / 2, c * py - s * px
        share = along / cig.length
        dent = rng.standard_normal(18, dtype=np.float32)
        smooth = np.convolve(dent, (0.25, 0.5, 0.25), "same")
        profile = np.interp(share, np.linspace(-0.1, 1.1, 18), smooth).astype(np.float32)
        worn = cig.crumple * step(share, 0.1, 0.8)
        centre = cig.bend * cig.radius * 4 * (share * (1 - share) - 0.15) + worn * profile * 0.7 * cig.radius
        centre = centre + np.tan(cig.kink) * cig.length * np.maximum(share - cig.kink_at, 0)
        slant = np.where(share > cig.kink_at, np.cos(cig.kink), 1.0)
        self.radius = cig.radius * (1 + cig.taper * (share - 0.5)) * (1 + worn * 0.35 * np.roll(profile, 3, 1))
        self.v = ((across - centre) * slant / self.radius).astype(np.float32)
        self.along = along.astype(np.float32)
        self.round = np.sqrt(np.clip(1 - self.v**2, 0, 1))
        self.cap = np.abs(cig.tilt) * self.radius * self.round
        self.share = ((along - np.sign(cig.tilt) * self.cap) / cig.length).astype(np.float32)
        self.pixel = 1 / n

    def alpha(self) -> Field:
        sides = step((1 - np.abs(self.v)) * self.radius, -0.5 * self.pixel, self.pixel)
        ends = np.minimum(self.along + self.cap, self.cig.length - self.along + self.cap)
        return sides * step(ends, -0.5 * self.pixel, self.pixel)

    def texture(self, field: Field) -> Field:
        """A lattice [h,w] wrapped around the body: w along, h around."""
        h, w = field.shape
        around = np.arcsin(np.clip(self.v, -1, 1)) / np.pi + 0.5
        return sample(field, np.clip(self.share, 0, 1) * (w - 1), around * (h - 1))

    def face(self, at_tip: bool) -> Field:
        """Distance from the middle of an end's face, 1 at its rim; large elsewhere."""
        away = self.along - (self.cig.length if at_tip else 0)
        depth = np.abs(self.cig.tilt) * self.radius + 1e-6
        return np.hypot(away / depth, self.v)


def _lattice(rng: Rng, rows: int, columns: int) -> Field:
    return rng.standard_normal((rows, columns), dtype=np.float32)


def paint(cig: Cigarette, light: Light, n: int, rng: Rng) -> Layer:
    """The shaded picture of a cigarette on an n x n canvas."""
    body = _Body(cig, n, rng)
    rgb = _wrapper(body, rng)
    rgb, glow = _burnt_end(body, rgb, rng)
    across = -np.sin(cig.angle) * light.x + np.cos(cig.angle) * light.y
    facing = np.clip(body.v * across + body.round * light.z, 0, 1)
    shade = light.ambient + (1.15 - light.ambient) * facing**0.8 - 0.12 * np.abs(body.v) ** 5
    rgb, glow = _faces(body, rgb * shade[..., None], glow, rng)
    gloss = bump(body.v - 0.45 * across, 0.22) * step(body.share, cig.filter, cig.filter - 0.02) * 0.10
    rgb = rgb + gloss[..., None] + glow[..., None] * np.array((1.0, 0.30, 0.04), np.float32)
    return Layer(body.top, body.left, np.clip(rgb, 0, 1.4).astype(np.float32), body.alpha(), glow)


def _wrapper(body: _Body, rng: Rng) -> Field:
    """Paper with its fine bars and seam, filter, rings and print."""
    cig, share = body.cig, body.share
    fine = body.texture(_lattice(rng, 10, 90))
    bars = 0.012 * np.sin(share * cig.length / cig.radius * 22) * float(cig.radius / body.pixel > 12)
    rgb = np.array((0.95, 0.935, 0.905), np.float32) * (1 + 0.012 * fine + bars)[..., None]
    wrinkle = body.texture(_lattice(rng, 4, 26)) * (0.02 + 0.12 * cig.crumple)
    rgb = rgb * (1 + wrinkle)[..., None] * (1 - 0.07 * bump(body.v - rng.uniform(-1.4, 1.4), 0.03))[..., None]
    edge = 1.2 * body.pixel / cig.length
    tone = np.array(CREAM if cig.white else CORK, np.float32)
    speck = body.texture(_lattice(rng, 16, 220))
    coarse = body.texture(_lattice(rng, 9, 110))
    mark = 0.0 if cig.white else 1.0
    cork = tone * (1 + mark * (0.05 * coarse + 0.16 * step(speck, 0.9, 1.5) - 0.3 * step(-speck, 1.1, 1.7)))[..., None]
    if cig.white:
        cork = np.array((0.97, 0.96, 0.94), np.float32) * (1 + 0.01 * coarse)[..., None]
    rgb = mix(rgb, cork, step(share, cig.filter + edge, cig.filter - edge)[..., None])
    ring = np.array(RINGS[int(rng.integers(len(RINGS)))], np.float32)
    for at, wide in ((cig.filter + 0.012, 0.006), (cig.filter + 0.03, 0.003)):
        shown = float(rng.random() < 0.6) * float(cig.filter > 0)
        rgb = mix(rgb, ring, shown * 0.85 * step(np.abs(share - at), wide + edge, wide)[..., None])
    word = step(body.texture(_lattice(rng, 14, 160)), 0.0, 0.3) * step(np.abs(body.v - 0.1), 0.3, 0.25)
    word = word * step(np.abs(share - cig.filter - 0.08), 0.03, 0.025) * (rng.random() < 0.4)
    return mix(rgb, ring * 0.6, 0.7 * word[..., None])


def _burnt_end(body: _Body, rgb: Field, rng: Rng) -> tuple[Field, Field]:
    """Scorched paper, a glowing line, ash. Returns the picture and its glow."""
    cig = body.cig
    ragged = body.texture(_lattice(rng, 9, 5))
    crust = body.texture(fractal(rng, 40, 160, 3, 0.8)[:26])
    hot = float(rng.uniform(0.7, 1.3))
    if cig.burnt == "fresh":
        return rgb, np.zeros_like(crust)
    unit = cig.radius / cig.length
    front = body.share - (1 - cig.ash + 0.25 * unit * ragged)
    rgb = mix(rgb, np.array((0.45, 0.28, 0.12), np.float32), 0.8 * step(front, -1.6 * unit, -0.2 * unit)[..., None])
    rgb = mix(rgb, np.array(CHAR, np.float32), step(front, -0.45 * unit, -0.1 * unit)[..., None])
    ash = tint(tuple(0.35 * c for c in ASH), tuple(1.15 * c for c in ASH), np.clip(0.55 + 0.3 * crust, 0, 1))
    rgb = mix(rgb, ash, step(front, 0.1 * unit, 0.45 * unit)[..., None])
    if cig.burnt == "stub":
        soot = step(front, -0.3 * unit, 0.3 * unit) * step(crust, -0.6, 0.5)
        return rgb * (1 - 0.75 * soot)[..., None], np.zeros_like(crust)
    glow = bump(front - 0.25 * unit, 0.42 * unit) * step(crust, -1.1, 0.4)
    sparks = step(front, 0.2 * unit, 0.5 * unit) * step(front, 2.2 * unit, 0.6 * unit) * step(crust, 1.1, 1.8)
    glow = np.maximum(glow, 0.45 * sparks)
    return rgb * (1 - 0.6 * glow)[..., None], (glow * hot).astype(np.float32)


def _faces(body: _Body, rgb: Field, glow: Field, rng: Rng) -> tuple[Field, Field]:
    """The end that faces the viewer: filter fibres or tobacco inside a rim of paper; ash when it burns."""
    cig = body.cig
    at_tip = cig.tilt < 0
    r = body.face(at_tip)
    crumbs = resize(fractal(rng, 26, 96, 2), max(r.shape))[: r.shape[0], : r.shape[1]]
    inside, rim = step(r, 1.02, 0.96), step(r, 0.80, 0.88)
    if at_tip and cig.burnt != "fresh":
        return mix(rgb, rgb * 0.8, inside[..., None]), glow
    if at_tip or cig.filter == 0:
        core = np.array(TOBACCO, np.float32) * (0.8 + 0.45 * crumbs).clip(0.15, 1.8)[..., None]
    else:
        stain = (0.0 if cig.burnt == "fresh" else 0.7) * bump(r, 0.6)
        core = tint(CREAM, (0.55, 0.36, 0.14), stain) * (0.92 + 0.03 * crumbs)[..., None]
    return mix(rgb, mix(core, 0.88, rim[..., None]), inside[..., None]), glow * (1 - inside)


def smoke(tip: tuple[float, float], n: int, rng: Rng) -> Field:
    """[n,n] density in [0,1] of wisps that rise from `tip`, sway, widen and fade."""
    m = max(n // 2, 48)
    t = (np.arange(m, dtype=np.float32) + 0.5) / m
    x, rise = np.broadcast_to(t[None, :], (m, m)), np.broadcast_to(np.float32(tip[1]) - t[:, None], (m, m))
    up = np.clip(rise, 0, None)
    drift, phase = rng.normal(0, 0.35), rng.uniform(0, 6.3, 8)
    sway = drift * up + 0.22 * up * np.sin(5 * up + phase[0]) + 0.08 * up * np.sin(13 * up + phase[1])
    wide = 0.008 + 0.16 * up
    warp = 0.9 * noise(rng, 6, m) + 0.4 * noise(rng, 14, m)
    q = (x - tip[0] - sway) / wide + warp * np.minimum(4 * up, 1)
    density = 0.16 * bump(q, 1.1)
    for k in range(4):
        path = 0.75 * np.sin((4 + 2.2 * k) * up + phase[2 + k])
        density = density + 0.34 * bump(q - path, 0.10 + 0.25 * up)
    height = rng.uniform(0.45, 1.0)
    return resize((density * step(rise, 0, 0.03) * step(rise, height, 0.1)).astype(np.float32), n)
