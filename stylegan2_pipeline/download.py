"""Files given by URL, kept in a cache folder."""

import hashlib
from pathlib import Path

from torch_utils.errors import UserError
from torch_utils.files import atomic_path, cache_dir


def fetch(url: str) -> Path:
    """The file at an http(s) URL, downloaded once, with progress. Raises UserError when it cannot be had."""
    import click
    import requests

    name = url.split("?")[0].rstrip("/").rsplit("/", 1)[-1] or "file"
    path = cache_dir() / f"{hashlib.blake2b(url.encode(), digest_size=8).hexdigest()}-{name}"
    if path.exists():
        return path
    click.echo(f"Downloading {url} to {path}", err=True)
    try:
        with requests.get(url, stream=True, timeout=30) as response, atomic_path(path) as partial:
            response.raise_for_status()
            size = int(response.headers.get("content-length", 0))
            with open(partial, "wb") as file, click.progressbar(length=size, label=name) as bar:
                for chunk in response.iter_content(1 << 20):
                    file.write(chunk)
                    bar.update(len(chunk))
            if size and partial.stat().st_size < size:
                raise OSError(f"the connection ended after {partial.stat().st_size} of {size} bytes")
    except (requests.RequestException, OSError) as error:
        no_answer = isinstance(error, requests.ConnectionError | requests.Timeout)
        reason = f"no connection to {url.split('/')[2]}" if no_answer else error
        raise UserError(
            f"Cannot download {url}: {reason}. Download it some other way and give the path of the file instead."
        ) from error
    return path
