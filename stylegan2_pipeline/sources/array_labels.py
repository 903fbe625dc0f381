"""Which arrays of a file are its images, which are their labels, and what those say."""

import re
from collections.abc import Iterable, Sequence

import numpy as np

from stylegan2_pipeline.sources.array_files import Array
from stylegan2_pipeline.sources.array_layout import layout_of
from stylegan2_pipeline.sources.labels import Label

IMAGES = ("images", "image", "imgs", "img", "x", "data", "arr0")  # usual names, the first counts most
PAIRS = (("images", "labels"), ("image", "label"), ("imgs", "labels"), ("img", "label"), ("x", "y"), ("data", "labels"),
         ("data", "targets"), ("arr_0", "arr_1"))
LABELS = ("labels", "label", "y", "targets", "target")
FOR_TESTS = re.compile(r"(^|[_-])(test|val|valid|validation)([_-]|$)")
MASKS = re.compile(r"mask|seg|label|target")


def why_no_images(array: Array) -> str | None:
    """The reason why an array cannot be images; None if it can."""
    if array.dtype.kind not in "buif":
        return "its elements are no numbers" if not array.dtype.hasobject else "its elements are Python objects"
    try:
        layout_of(array.shape)
    except ValueError as error:
        return str(error)
    return None


def choose_images(arrays: Sequence[Array]) -> Array | None:
    """Of the arrays in one file: those for training rather than tests, no masks, of most axes, by usual names."""
    able = [array for array in arrays if why_no_images(array) is None]

    def rank(array: Array) -> tuple:
        key = array.key.lower()
        plain = re.sub(r"train|[_-]", "", key)
        usual = IMAGES.index(plain) if plain in IMAGES else len(IMAGES)
        return is_for_tests(key), MASKS.search(key) is not None, -len(array.shape), usual, key

    return min(able, key=rank, default=None)


def is_for_tests(name: str) -> bool:
    return FOR_TESTS.search(name.lower()) is not None


def label_names(images: str) -> Iterable[str]:
    """Names that labels of the images of that name usually have, in lower case."""
    images = images.lower()
    for one, other in PAIRS:
        if re.search(rf"(^|[_-]){one}([_-]|$)", images):
            yield re.sub(rf"(^|[_-]){one}([_-]|$)", rf"\1{other}\2", images)
    yield from LABELS


def labels_fit(array: Array, count: int) -> bool:
    """Whether an array has a label, or a short row of numbers, for each of `count` images."""
    shape = array.shape or (1,)
    return shape[0] == count and (len(shape) == 1 or (len(shape) == 2 and shape[1] < 4096)) and \
        array.dtype.kind in "buifUS" and array.nbytes < 2 ** 30


def values_of(labels: np.ndarray, count: int) -> tuple[list[Label | None], list[str] | None]:
    """Class numbers, or vectors, and class names where the labels are words. Raises ValueError."""
    table = labels.reshape(count, -1)
    if table.dtype.kind in "US":
        if table.shape[1] != 1:
            raise ValueError("there are several words for one image")
        names, numbers = np.unique(table[:, 0], return_inverse=True)
        return list(map(int, numbers)), [name.decode("latin-1") if isinstance(name, bytes) else str(name)
                                         for name in names]
    if table.dtype.kind in "bui" and table.shape[1] == 1:
        if int(table.min()) < 0 or int(table.max()) >= 2 ** 31:
            raise ValueError("class numbers begin at 0, and one of these is out of range")
        return list(map(int, table[:, 0])), None
    if not np.isfinite(table.astype(np.float64)).all():
        raise ValueError("one of them is not a finite number")
    return [list(map(float, row)) for row in table], None
