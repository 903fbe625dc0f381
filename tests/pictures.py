"""Two kinds of quickly made pictures, uint8 [N,C,32,32]: gray heads all upright, and coloured sticks lying anyhow."""

import numpy as np

SIZE = 32
ORANGE, CREAM = (np.array(color)[:, None, None] for color in ((0.9, 0.55, 0.2), (0.92, 0.9, 0.85)))


def heads(count, seed=0):
    """Bright ovals on black with two dark eyes in the upper half, [N,1,32,32]."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] / (SIZE - 1) * 2 - 1
    images = []
    for _ in range(count):
        dx, dy = random.uniform(-0.08, 0.08, 2)
        wide, high, level, eye = random.uniform([0.55, 0.75, 0.5, 0.15], [0.65, 0.85, 0.8, 0.25])
        image = level * edge(1 - ((x - dx) / wide) ** 2 - ((y - dy) / high) ** 2)
        for side in (-1, 1):
            image -= 0.4 * edge(1 - ((x - dx - side * 0.25) / eye) ** 2 - ((y - dy + 0.3) / eye) ** 2)
        images.append(image + random.normal(0, 0.01, image.shape))
    return to_uint8(np.stack(images)[:, None])


def sticks(count, seed=0):
    """A cream stick with an orange end at any angle on a brown or gray ground, [N,3,32,32]."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] / (SIZE - 1) * 2 - 1
    images = []
    for _ in range(count):
        dx, dy, angle = random.uniform([-0.3, -0.3, 0], [0.3, 0.3, 2 * np.pi])
        u = (x - dx) * np.cos(angle) + (y - dy) * np.sin(angle)
        v = (y - dy) * np.cos(angle) - (x - dx) * np.sin(angle)
        ground = np.array([0.5, 0.4, 0.3]) if random.random() < 0.5 else np.full(3, 0.45)
        image = (ground * random.uniform(0.5, 1.3))[:, None, None] * (1 + 0.15 * np.sin(6 * x + 7 * dx) * y)
        inside = edge(0.6 - abs(u)) * edge(0.13 - abs(v))
        stick = np.where(u > 0.25, ORANGE, CREAM)
        images.append(image * (1 - inside) + stick * inside + random.normal(0, 0.02, image.shape))
    return to_uint8(np.stack(images))


def edge(field):
    """0 to 1 over about a pixel around 0."""
    return 0.5 + 0.5 * np.tanh(field * SIZE / 2)


def to_uint8(images):
    return (images * 255).clip(0, 255).round().astype(np.uint8)
