"""Fields on a pixel grid: noise of a given grain, soft steps, blurs, resizing and anti-aliased vector shapes.

A field is a float32 array [H,W]. Random draws never depend on the size of the grid: noise is drawn on a lattice of
`cells` and resized, so the same stream gives the same picture at every size.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from scipy.ndimage import map_coordinates

Field = NDArray[np.floating]   # [H,W], float32 in practice
Points = NDArray[np.floating]  # [N,2] as x, y


def resize(field: Field, n: int) -> Field:
    """[h,w] -> [n,n]; bicubic, low-passed where it shrinks."""
    if field.shape == (n, n):
        return field
    return np.asarray(Image.fromarray(field).resize((n, n), Image.Resampling.BICUBIC))


def noise(rng: np.random.Generator, cells: int, n: int, stretch: float = 1.0) -> Field:
    """[n,n] smooth noise of about unit variance with `cells` grains across; stretch > 1 lengthens them along x."""
    lattice = rng.standard_normal((cells + 3, max(3, round((cells + 3) / stretch))), dtype=np.float32)
    return resize(lattice, n)


def fractal(
    rng: np.random.Generator, cells: int, n: int, octaves: int = 4, gain: float = 0.6, stretch: float = 1.0
) -> Field:
    """[n,n] sum of octaves of `noise`, normalised to about unit variance."""
    total = sum((noise(rng, cells << k, n, stretch) * gain**k for k in range(octaves)), np.zeros((n, n), np.float32))
    return total / np.float32(np.sqrt(sum(gain ** (2 * k) for k in range(octaves))))


def step(field: Field, low: float | Field, high: float | Field) -> Field:
    """0 below `low`, 1 above `high`, a cubic ramp between; `low` > `high` falls instead of rising."""
    t = np.clip((field - low) / (high - low), 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)


def bump(field: Field, width: float | Field) -> Field:
    """A Gaussian of the field: 1 at zero."""
    return np.exp(-np.square(field / width)).astype(np.float32)


def mix(a: Field | float, b: Field | float, t: Field | float) -> Field:
    """a where t = 0, b where t = 1."""
    return np.asarray(a + (b - a) * t, np.float32)


def blur(field: Field, sigma: float) -> Field:
    """Nearly Gaussian blur of a field in [0,1] (8 bits inside); sigma in pixels."""
    eight_bit = Image.fromarray((np.clip(field, 0, 1) * 255 + 0.5).astype(np.uint8))
    return np.asarray(eight_bit.filter(ImageFilter.GaussianBlur(sigma)), np.float32) / 255


def sample(field: Field, x: Field, y: Field) -> Field:
    """The field at fractional pixel positions, linear, mirrored beyond its edges."""
    return map_coordinates(field, (y, x), order=1, mode="mirror")


@dataclass(frozen=True)
class Canvas:
    """n x n pixels that show `fov` units around a rotated, shifted origin; x to the right, y up."""

    n: int
    fov: float
    angle: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)

    def grid(self) -> tuple[Field, Field]:
        """Coordinates x, y [n,n] of the pixel centres."""
        ticks = (np.arange(self.n, dtype=np.float32) + 0.5) * (self.fov / self.n) - self.fov / 2
        u, v = ticks[None, :] - self.shift[0], -ticks[:, None] - self.shift[1]
        c, s = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        return c * u + s * v, c * v - s * u

    def pixels(self, points: Points, scale: int = 1) -> list[tuple[float, float]]:
        """Coordinates [N,2] -> pixel positions for drawing on a canvas `scale` times finer."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        u = c * points[:, 0] - s * points[:, 1] + self.shift[0]
        v = s * points[:, 0] + c * points[:, 1] + self.shift[1]
        unit = self.n * scale / self.fov
        return list(zip((u + self.fov / 2) * unit - 0.5, (self.fov / 2 - v) * unit - 0.5, strict=True))

    def fill(self, polygons: Iterable[Points], scale: int = 2) -> Field:
        """[n,n] coverage in [0,1] of the union of the polygons."""
        picture = Image.new("L", (self.n * scale, self.n * scale))
        draw = ImageDraw.Draw(picture)
        for polygon in polygons:
            draw.polygon(self.pixels(polygon, scale), fill=255)
        return np.asarray(picture.reduce(scale), np.float32) / 255

    def trace(self, lines: Iterable[Points]) -> NDArray[np.bool_]:
        """[n,n] mask of lines one pixel wide."""
        picture = Image.new("1", (self.n, self.n))
        draw = ImageDraw.Draw(picture)
        for line in lines:
            draw.line(self.pixels(line), fill=1)
        return np.asarray(picture)


def stroke(line: Points, radius: Points) -> Points:
    """The polygon [2N,2] around a line [N,2] with half-width radius [N]."""
    tangent = np.gradient(line, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-9
    offset = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1) * radius[:, None]
    return np.concatenate([line + offset, (line - offset)[::-1]])


def oval(x: float, y: float, rx: float, ry: float, angle: float = 0.0, count: int = 40) -> Points:
    """An ellipse as a polygon [count,2]; angle in radians, counter-clockwise."""
    t = np.linspace(0, 2 * np.pi, count, endpoint=False)
    u, v = rx * np.cos(t), ry * np.sin(t)
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([x + c * u - s * v, y + s * u + c * v], axis=1)
