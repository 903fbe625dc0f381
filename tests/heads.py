"""A synthetic head, for readers of volumes: it can be told how it lies."""

import nibabel as nib
import numpy as np
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

LESION = (-30.0, -10.0, 20.0)  # mm to the right, front and top of the middle: in the left half, brightest of all


def head(shape=(20, 24, 16), spacing=(8.0, 8.0, 10.0), axcodes="RAS", dtype=np.int16):
    """A NIfTI image whose voxel axes follow axcodes; zero outside the head, air around, 200 to 1300 within.

    It has eyes in front, a lesion on the left, and a neck.
    """
    sides = [(np.arange(count) - (count - 1) / 2) * mm for count, mm in zip(shape, spacing, strict=True)]
    x, y, z = np.meshgrid(*sides, indexing="ij")

    def ball(center, radii):
        return sum(((p - c) / r) ** 2 for p, c, r in zip((x, y, z), center, np.broadcast_to(radii, 3), strict=True)) < 1

    values = np.zeros(shape)
    values[ball((0, 0, 0), (65, 80, 70))] = 900
    inside = ball((0, 0, 0), (57, 72, 62))
    values[inside] = (500 + 40 * np.sin(x / 7) * np.cos(y / 9) * np.sin(z / 8))[inside]
    for side in (-1, 1):
        values[ball((25 * side, 68, -10), 14)] = 1000
    values[ball(LESION, 12)] = 1300
    values[(np.hypot(x, y) < 25) & (z < -60)] = 700
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = [side[0] for side in sides]
    image = nib.Nifti1Image(values.astype(dtype), affine)
    return image.as_reoriented(ornt_transform(io_orientation(affine), axcodes2ornt(axcodes)))
