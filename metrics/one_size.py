"""Images of one size, for the metrics that cannot compare others."""

from collections.abc import Iterator

import numpy as np

from torch_utils.errors import UserError


def one_size(batches: Iterator[np.ndarray], name: str) -> Iterator[np.ndarray]:
    """The batches [n,C,H,W], passed on. Raises UserError where [C,H,W] changes within them; name: of the metric."""
    shape: tuple[int, ...] | None = None
    for batch in batches:
        if shape is not None and batch.shape[1:] != shape:
            sizes = (f"{width}x{height} with {channels} channels"
                     for channels, height, width in (shape, batch.shape[1:]))
            raise UserError(f"{name} takes images of one size and number of channels; a set has {' and '.join(sizes)}. "
                            f"Convert it with dataset_tool.py --resolution, or leave {name} out of --metrics.")
        shape = batch.shape[1:]
        yield batch
