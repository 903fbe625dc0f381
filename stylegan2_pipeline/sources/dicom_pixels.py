"""One frame of a DICOM file -> a picture: in units of the scanner, of square pixels, turned to the usual view."""

from typing import Any

import numpy as np

from stylegan2_pipeline.decode import BrokenImage, Decoded
from stylegan2_pipeline.sources.base import Reading
from stylegan2_pipeline.sources.dicom_codes import bits_stored, stored_frame
from stylegan2_pipeline.sources.dicom_headers import group, numbers, orientation, text, why_left_out
from stylegan2_pipeline.sources.dicom_values import WIDE, Gray, gray_values, rgb_8_bits, rgb_from_palette
from stylegan2_pipeline.sources.volumes import square_pixels

KINDS = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
BURNED_IN = "Burned-in text is announced"
STRETCHED = "Of pixels that are not square, resampled"
TURNED = "Turned or mirrored to the usual view"
VIEWS_RIGHT = {0: (1, 1), 1: (0, 1), 2: (0, 1)}   # normal's axis -> axis (left, back, up) and sign that right points to
VIEWS_DOWN = {0: (2, -1), 1: (2, -1), 2: (1, 1)}  # and down


def decode_frame(dataset: Any, frame: int, reading: Reading) -> Decoded:
    """uint8 gray or RGB, or deep gray, upright. Raises BrokenImage."""
    stored = stored_frame(dataset, frame, reading.max_pixels)
    kind = text(dataset, "PhotometricInterpretation").upper()
    remarks: tuple[str, ...] = (BURNED_IN,) if text(dataset, "BurnedInAnnotation").upper() == "YES" else ()
    reason = why_left_out(dataset)
    remarks += (f"{reason[0].upper()}{reason[1:]}",) if reason else ()
    sides, empty = pixel_sides(dataset, frame), None
    if stored.ndim == 3 or kind == "PALETTE COLOR":
        colours = rgb_8_bits(stored, dataset) if stored.ndim == 3 else rgb_from_palette(stored, dataset)
        pixels = square_pixels(colours, *sides, reading.max_pixels)
        remarks += (WIDE,) if stored.ndim == 3 and bits_stored(dataset) > 8 else ()
    elif kind in ("MONOCHROME1", "MONOCHROME2", ""):
        gray = gray_values(stored, dataset, frame, reading.window == "header")
        pixels, remarks = squared(gray, sides, reading.max_pixels), remarks + gray.remarks
        empty = gray.blank if pixels.dtype != np.uint8 and gray.empty.any() else None
    else:
        raise BrokenImage("its colours are stored in a way that cannot be read here")
    remarks += (STRETCHED,) if pixels.shape[:2] != stored.shape[:2] else ()
    pixels, turned = upright(pixels, orientation(dataset, frame))
    remarks += (TURNED,) if turned else ()
    return Decoded(np.ascontiguousarray(pixels), _mode(dataset, kind), format="DICOM", empty=empty, remarks=remarks)


def _mode(dataset: Any, kind: str) -> str:
    return f"{kind if kind in KINDS else 'other'}, {bits_stored(dataset)} bits"


def pixel_sides(dataset: Any, frame: int) -> tuple[float, float]:
    """Height and width of a pixel, in mm or of any one unit; equal where the file does not say."""
    measures = group(dataset, frame, "PixelMeasuresSequence")
    for source, keyword in ((measures, "PixelSpacing"), (dataset, "ImagerPixelSpacing"),
                            (dataset, "NominalScannedPixelSpacing"), (dataset, "PixelAspectRatio")):
        sides = numbers(source, keyword, 2)
        if sides is not None and min(sides) > 0:
            return sides[0], sides[1]
    return 1.0, 1.0


def squared(gray: Gray, sides: tuple[float, float], max_pixels: int) -> np.ndarray:
    """uint8 or float32 [H,W,1] of square pixels; those that are empty do not bleed into the others."""
    measured = ~gray.empty
    if not gray.empty.any():
        return square_pixels(gray.pixels[:, :, np.newaxis], *sides, max_pixels)
    low = gray.pixels[measured].min(initial=gray.pixels.max())
    filled = np.where(measured, gray.pixels, low)[:, :, np.newaxis]
    kept = square_pixels(np.where(measured, np.uint8(255), np.uint8(0))[:, :, np.newaxis], *sides, max_pixels) >= 128
    return np.where(kept, square_pixels(filled, *sides, max_pixels), gray.pixels.dtype.type(gray.blank))


def upright(pixels: np.ndarray, turns: np.ndarray | None) -> tuple[np.ndarray, bool]:
    """pixels [H,W,C] turned by right angles and mirrored to the usual view, and whether that was needed.

    turns: see dicom_headers.orientation. Axial: the face up; coronal: the crown up; both with the patient's left on
    the right. Sagittal: the crown up, the face to the left. Without turns, as stored.
    """
    if turns is None:
        return pixels, False
    right, down = turns[:3], turns[3:]
    normal = int(np.argmax(abs(np.cross(right, down))))
    axis, sign = VIEWS_RIGHT[normal]
    across = abs(right[axis]) < abs(down[axis])
    if across:
        pixels, right, down = pixels.swapaxes(0, 1), down, right
    mirrored = right[axis] * sign < 0
    if mirrored:
        pixels = pixels[:, ::-1]
    axis, sign = VIEWS_DOWN[normal]
    flipped = down[axis] * sign < 0
    return (pixels[::-1] if flipped else pixels), bool(across or mirrored or flipped)
