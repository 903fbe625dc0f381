"""The one place where pictures change their size."""

from PIL import Image

from stylegan2_pipeline.conversion.area import resize_by_area

FILTERS = {"lanczos": Image.Resampling.LANCZOS, "box": Image.Resampling.BOX, "bicubic": Image.Resampling.BICUBIC}
FILTER_NAMES = (*FILTERS, "area")


def resize(picture: Image.Image, size: tuple[int, int], resize_filter: str = "lanczos") -> Image.Image:
    """An L, RGB or RGBA picture -> one of `size` (width, height); resize_filter: one of FILTER_NAMES.

    The filters of Pillow give what Pillow gives, to the bit; area is exact (see conversion.area).
    """
    if picture.size == size:
        return picture
    if resize_filter == "area":
        return resize_by_area(picture, size)
    return picture.resize(size, FILTERS[resize_filter])
