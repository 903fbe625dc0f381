"""Which values of images with more than 8 bits become black and white: what --window says."""

import math
from dataclasses import dataclass

from torch_utils.errors import UserError

USUAL = (0.5, 99.5)


@dataclass(frozen=True)
class Window:
    """kind: "percentiles" (low and high are percentiles, of a volume or the set), "values" (in units of the files),
    or "header" (each image brings its own; low and high serve those that bring none, as percentiles)."""

    kind: str
    low: float
    high: float


def parse_window(text: str) -> Window:
    """auto, header, "lo,hi" in units of the files or "lo%,hi%". Raises UserError for anything else."""
    if text in ("auto", "header"):
        return Window("header" if text == "header" else "percentiles", *USUAL)
    parts = [part.strip() for part in text.split(",")]
    percent = [part.endswith("%") for part in parts]
    if len(parts) != 2 or any(percent) != all(percent):
        raise _refusal(text, "that is neither two values nor two percentiles")
    try:
        low, high = (float(part.removesuffix("%")) for part in parts)
    except ValueError:
        raise _refusal(text, "that is neither two values nor two percentiles") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise _refusal(text, "the first has to be less than the second")
    if any(percent) and not 0 <= low < high <= 100:
        raise _refusal(text, "percentiles lie from 0 to 100")
    return Window("percentiles" if any(percent) else "values", low, high)


def _refusal(text: str, reason: str) -> UserError:
    return UserError(f"--window={text}: {reason}. Write --window=auto (0.5%,99.5%), --window=header, two percentiles "
                     f"such as --window=1%,99%, or two values such as --window=-100,300.")
