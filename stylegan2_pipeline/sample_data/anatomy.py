"""The vector geometry of one axial head slice, in millimetres: x to the right, y towards the face, origin mid-brain."""

from dataclasses import dataclass, field

import numpy as np
from scipy.interpolate import CubicSpline

from stylegan2_pipeline.sample_data.field import Canvas, Field, Points, bump, noise, oval, resize, stroke

# One lateral ventricle, front to back: x, y, radius. A negative radius is a gap. Low slices cut the frontal horn and
# the atrium apart; high slices follow the body between them.
LOW_VENTRICLE = np.array(
    [(13, 36, 1), (9, 29, 4), (4.6, 18, 2.8), (8, 3, -4), (15, -14, -4), (24, -29, 3.6), (28, -39, 4.6), (25, -51, 1)]
)
HIGH_VENTRICLE = np.array(
    [(12, 38, 1), (8, 31, 4.4), (6, 18, 4.6), (7.5, 4, 4.2), (10, -10, 4), (16, -22, 4.9), (22, -32, 4.6), (27, -42, 1)]
)
TABLE = 360  # samples of the hull
GYRUS = 11.5  # mm from one sulcus to the next


@dataclass
class Slice:
    """What one slice shows. Level 0 cuts the basal ganglia, 1 the bodies of the ventricles; atrophy widens fluid."""

    level: float
    atrophy: float
    hull: Points                                            # [TABLE] radius of the brain at angle k/TABLE turns from +x
    clefts: list[Points] = field(default_factory=list)      # centre lines of the large fissures
    furrows: list[Points] = field(default_factory=list)     # the fluid in them, polygons
    ventricles: list[Points] = field(default_factory=list)
    plexus: list[Points] = field(default_factory=list)
    putamen: list[Points] = field(default_factory=list)
    nuclei: list[Points] = field(default_factory=list)      # thalamus and pallidum: paler than cortex
    falx: list[Points] = field(default_factory=list)

    def hull_point(self, turn: float) -> Points:
        radius = np.interp(turn % 1.0, np.arange(TABLE + 1) / TABLE, np.append(self.hull, self.hull[0]))
        return radius * np.array([np.cos(2 * np.pi * turn), np.sin(2 * np.pi * turn)])


def make_slice(rng: np.random.Generator) -> Slice:
    level = float(rng.uniform(0, 1))
    s = Slice(level, float(np.exp(rng.normal(0, 0.22))), _hull(rng, level))
    _add_ventricles(s, rng)
    if level < 0.6:
        _add_nuclei(s, rng)
    _add_fissure(s, rng)
    if level < 0.7:
        for side in (-1, 1):
            _add_insula(s, rng, side)
    return s


def _hull(rng: np.random.Generator, level: float) -> Points:
    """An egg, narrower in front, with small bumps."""
    t = np.arange(TABLE) / TABLE * 2 * np.pi
    width, length = rng.normal(64, 1.6), rng.normal(81, 1.8) - 2 * level
    egg = 1 - rng.normal(0.075, 0.02) * np.sin(t) - 0.022 * np.cos(4 * t) * np.sin(t)
    x, y = width * np.cos(t) * egg, length * np.sin(t) * (1 - 0.02 * np.cos(2 * t))
    wobble = sum(rng.normal(0, 0.4) / k * np.cos(k * t + rng.uniform(0, 6.3)) for k in range(2, 7))
    return np.interp(t, np.arctan2(y, x) % (2 * np.pi), np.hypot(x, y), period=2 * np.pi) + wobble


def _add_ventricles(s: Slice, rng: np.random.Generator) -> None:
    knots = LOW_VENTRICLE + (HIGH_VENTRICLE - LOW_VENTRICLE) * s.level
    for side in (-1, 1):
        shaken = knots + rng.normal(0, 0.4, knots.shape)
        path = CubicSpline(np.arange(len(knots)), shaken)(np.linspace(0, len(knots) - 1, 60))
        path[:, 0] = side * np.maximum(path[:, 0], 1.2 + np.maximum(path[:, 2], 0) * s.atrophy)
        s.ventricles += _runs(path[:, :2], path[:, 2] * s.atrophy)
        x, y = path[int(rng.integers(42, 48)), :2]
        s.plexus.append(oval(x, y, 1.6, 3.2, side * 0.5))
    if s.level < 0.55:
        y = np.linspace(9, -15, 12)
        width = (1.5 - 1.5 * s.level) * s.atrophy * (0.5 + np.sin(np.linspace(0.2, 3.0, 12)))
        s.ventricles.append(stroke(np.stack([0 * y, y], 1), width))


def _runs(line: Points, radius: Points) -> list[Points]:
    """Strokes of the stretches of a line where its radius is positive."""
    starts = np.flatnonzero(np.diff(radius > 0.3, prepend=False, append=False))
    return [stroke(line[a:b], radius[a:b]) for a, b in zip(starts[::2], starts[1::2], strict=True) if b - a > 2]


def _add_nuclei(s: Slice, rng: np.random.Generator) -> None:
    size = 1.1 - 0.55 * s.level
    for side in (-1, 1):
        dx, dy = rng.normal(0, 0.8, 2)
        s.nuclei.append(oval(side * (11.5 + dx), -8 + dy, 7.2 * size, 12.5 * size, side * 0.35))
        s.nuclei.append(oval(side * (22.5 + dx), 2 + dy, 4.0 * size, 8.0 * size, side * 0.35))
        s.putamen.append(oval(side * (28.5 + dx), 5 + dy, 4.2 * size, 13.5 * size, side * 0.16))
        s.putamen.append(oval(side * (14.5 + dx), 24 + dy, 4.3 * size, 8.0 * size, side * -0.3))


def _add_fissure(s: Slice, rng: np.random.Generator) -> None:
    """The cleft between the hemispheres, before and behind the corpus callosum."""
    for turn, end in ((0.25, 43 + 2 * s.level), (0.75, -41 - 3 * s.level)):
        y = np.linspace(s.hull_point(turn)[1], end, 24)
        line = np.stack([np.cumsum(rng.normal(0, 0.3, 24)) * np.linspace(0, 1, 24), y], 1)
        s.clefts.append(line)
        s.falx.append(stroke(line[:16], np.full(16, 0.45)))
        s.furrows.append(stroke(line, np.linspace(1.3, 0.8, 24) * s.atrophy))


def _add_insula(s: Slice, rng: np.random.Generator, side: int) -> None:
    """The Sylvian fissure and the insula at its bottom: a T lying on its side."""
    t = np.linspace(-1, 1, 16)
    bank = np.stack([side * (39.5 - 4.5 * t**2 + 1.5 * s.level), rng.normal(4, 2) + 19 * (1 - 0.5 * s.level) * t], 1)
    mouth = s.hull_point(0.25 - 0.25 * side + side * rng.normal(0.03, 0.012))
    way = np.linspace(mouth, bank[8 + int(rng.integers(-2, 4))], 14)
    way[:, 1] += 3 * np.sin(np.linspace(0, np.pi, 14)) * rng.normal(0, 0.8)
    for line, radius in ((bank, 1.0 - 0.5 * t**2), (way, np.linspace(1.8, 0.9, 14))):
        s.clefts.append(line)
        s.furrows.append(stroke(line, radius * s.atrophy))


def folds(coarse: Canvas, n: int, rng: np.random.Generator) -> Field:
    """[n,n] a labyrinth of stripes one gyrus apart: -1 in the depth of a sulcus, +1 along the crown of a gyrus.

    Stripes start out across the hull, the same way in every head, and are then made evenly spaced, as growing cortex
    is: each round keeps one wavelength and saturates, so that stripes curve, fork and end where they must. The cosine
    of the local phase (from the Riesz transform) then gives every sulcus the same profile.
    """
    x, y = coarse.grid()
    turn = np.arctan2(y * 0.8, np.abs(x))
    field = np.cos(19 * turn + 1.8 * noise(rng, 10, coarse.n)) + 0.55 * noise(rng, 36, coarse.n)
    field = field - 3 * bump(x, 3)  # no stripe crosses from one hemisphere to the other
    v = np.fft.fftfreq(coarse.n, coarse.fov / coarse.n)[:, None]
    u = v.T[:, : coarse.n // 2 + 1]
    length = np.hypot(u, v) + 1e-9
    band = np.exp(-np.square((length * GYRUS - 1) / 0.22))
    for _ in range(8):
        spectrum = np.fft.rfft2(np.tanh(2 * field)) * band
        field = np.fft.irfft2(spectrum)
        field /= field.std()
    parts = [np.fft.irfft2(spectrum * k) for k in (1, -1j * u / length, -1j * v / length)]
    wave, across, along = (resize(part.astype(np.float32), n) for part in parts)
    return wave / (np.sqrt(wave**2 + across**2 + along**2) + 1e-9)
