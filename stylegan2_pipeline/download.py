"""Files given by URL, kept in a cache folder."""

import hashlib
from pathlib import Path

from torch_utils.download import download
from torch_utils.files import cache_dir


def fetch(url: str) -> Path:
    """The file at an http(s) URL, downloaded once, with progress. Raises UserError when it cannot be had."""
    name = url.split("?")[0].rstrip("/").rsplit("/", 1)[-1] or "file"
    return download(url, cache_dir() / f"{hashlib.blake2b(url.encode(), digest_size=8).hexdigest()}-{name}")
