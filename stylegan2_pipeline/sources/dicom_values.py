"""Stored numbers of gray DICOM pixels -> units of the scanner, or the gray levels of the display window."""

from typing import Any, NamedTuple

import numpy as np

from stylegan2_pipeline.decode import BrokenImage
from stylegan2_pipeline.sources.dicom_codes import bits_stored
from stylegan2_pipeline.sources.dicom_headers import group, numbers, quiet_pydicom, text, value

NO_WINDOW = "Without a display window of their own (--window=header)"
NOT_FINITE = "With values that are not finite, taken for empty"
WIDE = "More than 8 bits a colour, reduced to 8"


class Gray(NamedTuple):
    """pixels: uint8 [H,W], or float32 in units of the scanner; empty: bool [H,W], where nothing was measured;
    blank: what stands there, and no other value is as low."""

    pixels: np.ndarray
    empty: np.ndarray
    blank: float
    remarks: tuple[str, ...] = ()


def gray_values(stored: np.ndarray, dataset: Any, frame: int, header_window: bool) -> Gray:
    """stored [H,W] of any number type. High values are bright, whatever the file says; padding is below all of them.

    uint8 where that is all the file has, or where header_window asks for the display window and there is one.
    """
    whole = stored.dtype.kind in "iu"
    finite = np.ones(stored.shape, bool) if whole else np.isfinite(stored)
    remarks: tuple[str, ...] = () if finite.all() else (NOT_FINITE,)
    values = to_units(np.where(finite, stored, 0), dataset, frame)
    empty = ~finite | (padding(stored, dataset) if whole else False)
    inverted = text(dataset, "PhotometricInterpretation").upper() == "MONOCHROME1"
    low, high = limits(dataset, frame) if whole else _bounds(values)
    levels = display(values, dataset, frame) if header_window else None
    if levels is None and header_window:
        remarks += (NO_WINDOW,)
    if levels is None and whole and (low, high) == (0, 2 ** bits_stored(dataset) - 1) and high <= 255:
        levels = np.clip(values * (255 / high), 0, 255)
    if levels is not None:
        levels = np.rint(255 - levels if inverted else levels).astype(np.uint8)
        return Gray(np.where(empty, np.uint8(0), levels), empty, 0.0, remarks)
    if inverted:
        values = (low + high) - values
    blank = low - max(1.0, max(abs(low), abs(high)) / 2 ** 20)  # float32 tells them apart
    if not max(abs(blank), abs(high)) < float(np.finfo(np.float32).max):
        raise BrokenImage("holds values that are not finite")
    return Gray(np.where(empty, blank, values).astype(np.float32), empty, float(np.float32(blank)), remarks)


def _bounds(values: np.ndarray) -> tuple[float, float]:
    """Of numbers without a range of their own: as much below zero as above, so that all of a series have zero alike."""
    most = float(abs(values).max())
    return -most, most


def to_units(stored: np.ndarray, dataset: Any, frame: int) -> np.ndarray:
    """float64, what the scanner measured: Hounsfield units, activity, or whatever units MRI has."""
    if value(dataset, "ModalityLUTSequence"):
        return _looked_up(stored, dataset, "apply_modality_lut")
    source = group(dataset, frame, "PixelValueTransformationSequence")
    slope, intercept = (numbers(source, keyword, 1) for keyword in ("RescaleSlope", "RescaleIntercept"))
    if slope == [0.0]:
        raise BrokenImage("its header scales all values to one (RescaleSlope is 0)")
    return stored.astype(np.float64) * (slope or [1.0])[0] + (intercept or [0.0])[0]


def limits(dataset: Any, frame: int) -> tuple[float, float]:
    """The lowest and the highest value, in units, that the bits of the file can say."""
    if value(dataset, "ModalityLUTSequence"):
        return 0.0, float(2 ** _table_bits(dataset.ModalityLUTSequence[0]) - 1)
    low, high = to_units(np.array(_range(dataset), np.float64), dataset, frame).tolist()
    return min(low, high), max(low, high)


def _range(dataset: Any) -> tuple[int, int]:
    bits = bits_stored(dataset)
    signed = numbers(dataset, "PixelRepresentation", 1) == [1.0]
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2 ** bits - 1)


def padding(stored: np.ndarray, dataset: Any) -> np.ndarray:
    """bool [H,W]: pixels that only fill the rectangle up, as around the circle that a CT scanner sees."""
    first = numbers(dataset, "PixelPaddingValue", 1)
    if first is None:
        return np.zeros(stored.shape, bool)
    last = numbers(dataset, "PixelPaddingRangeLimit", 1) or first
    low, high = _range(dataset)
    span = high - low + 1  # some files write a negative number without its sign, or the other way round
    ends = sorted(int(end[0]) if low <= end[0] <= high else (int(end[0]) - low) % span + low for end in (first, last))
    return (stored >= ends[0]) & (stored <= ends[1])


def display(values: np.ndarray, dataset: Any, frame: int) -> np.ndarray | None:
    """values in units -> float64 0..255 as the file wants them shown (DICOM PS3.3 C.11.2); None if it does not say."""
    if value(dataset, "VOILUTSequence"):
        table = dataset.VOILUTSequence[0]
        levels = _looked_up(np.rint(np.clip(values, -2 ** 31, 2 ** 31 - 1)).astype(np.int64), dataset, "apply_voi")
        return np.clip(levels * (255 / (2 ** _table_bits(table) - 1)), 0, 255)
    source = group(dataset, frame, "FrameVOILUTSequence")
    center, width = (_first_number(source, keyword) for keyword in ("WindowCenter", "WindowWidth"))
    if center is None or width is None or width <= 0:
        return None
    function = text(source, "VOILUTFunction").upper()
    if function == "SIGMOID":
        return 255 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
    if function != "LINEAR_EXACT":  # LINEAR: of whole numbers, the window holds `width` of them
        center, width = center - 0.5, width - 1
    if width <= 0:
        return np.where(values > center, 255.0, 0.0)
    return np.clip((values - center) / width + 0.5, 0, 1) * 255


def _first_number(dataset: Any, keyword: str) -> float | None:
    """Of several windows, the first is the usual one."""
    found = value(dataset, keyword)
    try:
        number = float(found if isinstance(found, str | int | float) else found[0])
    except (TypeError, ValueError, IndexError):
        return None
    return number if np.isfinite(number) else None


def _table_bits(table: Any) -> int:
    descriptor = numbers(table, "LUTDescriptor", 3)
    if descriptor is None or not 1 <= descriptor[2] <= 16:
        raise BrokenImage("its table of gray values is damaged")
    return int(descriptor[2])


def _looked_up(values: np.ndarray, dataset: Any, function: str) -> np.ndarray:
    try:
        return getattr(quiet_pydicom().pixels, function)(values, dataset).astype(np.float64)
    except Exception:
        raise BrokenImage("its table of gray values is damaged") from None


def rgb_from_palette(stored: np.ndarray, dataset: Any) -> np.ndarray:
    """uint8 [H,W,3]. Colours of 16 bits are cut to 8, unless a file keeps 8 bits in numbers of 16."""
    try:
        colours = quiet_pydicom().pixels.apply_color_lut(stored, dataset)[:, :, :3]  # a fourth is transparency
    except Exception:  # of any kind, from whatever a damaged table makes of it
        raise BrokenImage("its table of colours is damaged") from None
    if colours.shape[2] != 3:
        raise BrokenImage("its table of colours is damaged")
    return (colours >> 8 if colours.max(initial=0) > 255 else colours).astype(np.uint8)


def rgb_8_bits(stored: np.ndarray, dataset: Any) -> np.ndarray:
    """[H,W,3] whole numbers -> uint8."""
    if stored.dtype.kind not in "iu":
        raise BrokenImage("its colours are no whole numbers")
    shift = bits_stored(dataset) - 8
    return (stored >> max(shift, 0)).clip(0, 255).astype(np.uint8)
