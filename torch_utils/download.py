"""A file from an http(s) URL: whole, checked, and resumed where an earlier attempt ended."""

import contextlib
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from torch_utils.errors import UserError
from torch_utils.files import CANNOT_WRITE
from torch_utils.partial_file import PartialFile, growing
from torch_utils.text import format_bytes

if TYPE_CHECKING:
    import requests

TIMEOUT_SEC = (10, 30)  # to connect, and between two pieces
TRIES = 4               # in a row that bring nothing more
FIRST_TRIES = 2         # the same while nothing at all has come: most likely there is no network
PAUSE_SEC = 1.0         # before the second try; twice as long before each further one
CHUNK = 1 << 16
PASSING = {408, 425, 429, 500, 502, 503, 504}  # answers that may be others a moment later
REMEDY = "Download it some other way and give the path of the file instead."


class Failed(Exception):
    """Why the file cannot be had."""


class Broken(Failed):
    """The connection failed; again: another try may end otherwise."""

    def __init__(self, reason: str, again: bool) -> None:
        super().__init__(reason)
        self.again = again


def offline() -> bool:
    """Whether STYLEGAN2_OFFLINE forbids downloads."""
    return os.environ.get("STYLEGAN2_OFFLINE", "").lower() not in ("", "0", "no", "off", "false")


def sha256_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(url: str, path: str | Path, *, nbytes: int | None = None, sha256: str | None = None,
             remedy: str = REMEDY) -> Path:
    """The file at `url`, kept at `path`; one that is there already is taken as it is.

    Says on stderr what comes from where. What has come so far waits beside it in NAME.part, and the next call goes on
    from there - after Ctrl-C, a broken connection, or in another process - unless the file at the URL has changed.
    Several processes may ask for the same path at once: one downloads, the others wait for it. nbytes, sha256: what
    it must be; where they are not known, the size that the server says is all that is checked.

    Raises UserError, ending with `remedy`, when the file cannot be had, is another one, or does not fit on the disk;
    `path` appears whole and checked or not at all.
    """
    path = Path(path)
    if path.exists():
        return path
    if offline():
        raise UserError(f"STYLEGAN2_OFFLINE forbids to download {url}. {remedy}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with growing(path, lambda: _say(f"Waiting for another process that downloads {path.name}")) as partial:
            if partial is not None:
                Transfer(url, path, partial, nbytes, sha256).run()
    except Failed as error:
        raise UserError(f"Cannot download {url}: {error}. {remedy}") from error
    except OSError as error:
        if error.errno not in CANNOT_WRITE:
            raise
        raise UserError(f"Cannot write {path}: {error.strerror}. Make room, or choose another folder.") from error
    return path


class Transfer:
    """One download, over as many connections as it takes."""

    def __init__(self, url: str, path: Path, partial: PartialFile, nbytes: int | None, sha256: str | None) -> None:
        self.url, self.path, self.partial, self.nbytes, self.sha256 = url, path, partial, nbytes, sha256
        self.total = nbytes or partial.about().get("total")
        self.received = False  # anything in this call

    def run(self) -> None:
        """Until the file is whole, checked and under its name. Raises Failed, or OSError of the disk."""
        if not self._can_go_on():
            self.partial.clear()
        resumed = self.partial.size
        size = f" ({format_bytes(self.nbytes)})" if self.nbytes else ""
        how = f", from {format_bytes(resumed)} on" if resumed else ""
        _say(f"Downloading {self.url}{size} to {self.path}{how}")
        try:
            self._bring()
            wrong = self._wrong()
            if wrong and resumed:  # its beginning may have been damaged, or of another version
                self.partial.clear()
                self._bring()
                wrong = self._wrong()
            if wrong:
                raise Failed(wrong)
            self.partial.become(self.path)
        except BaseException as error:
            self._leave(error)
            raise

    def _can_go_on(self) -> bool:
        """Whether a change of the file at the URL since the partial one was begun would be found out."""
        about = self.partial.about()
        sure = self.sha256 is not None or (about.get("url") == self.url and about.get("validator") is not None)
        return sure and (self.total is None or self.partial.size <= self.total)

    def _bring(self) -> None:
        """Until all is here; tries again as long as that brings more."""
        failures, most = 0, self.partial.size
        while True:
            try:
                return self._receive()
            except Broken as error:
                failures = 0 if self.partial.size > most else failures + 1
                most = max(most, self.partial.size)
                if not error.again or failures >= (TRIES if self.received else FIRST_TRIES):
                    raise
                _say(f"{self.path.name}: {error}; trying again")
                time.sleep(PAUSE_SEC * 2**max(failures - 1, 0))

    def _receive(self) -> None:
        """What one connection brings. Raises Broken when it ends early."""
        if self.total and self.partial.size == self.total:
            return
        with self._naming_reasons(), self._open() as response:
            self._check_size()
            self._store(response)
        if self.total and self.partial.size < self.total:
            raise Broken(f"the connection ended after {self.partial.size:,} of {self.total:,} bytes", True)

    def _store(self, response: "requests.Response") -> None:
        size = self.partial.size
        shown = bool(self.total) and sys.stderr.isatty()
        with click.progressbar(length=self.total or 0, label=self.path.name, file=sys.stderr, hidden=not shown) as bar:
            bar.update(size)
            for chunk in response.iter_content(CHUNK):
                self.received = True
                size += len(chunk)
                if self.total and size > self.total:
                    raise Failed(f"the server sends more than {self.total:,} bytes")
                self.partial.append(chunk)
                bar.update(len(chunk))

    def _open(self) -> "requests.Response":
        """An answer whose body goes on where the partial file ends."""
        import requests

        if not self._can_go_on():
            self.partial.clear()
        start = self.partial.size
        headers = {"Accept-Encoding": "identity"}  # sizes and ranges are those of the file itself
        if start:
            headers["Range"] = f"bytes={start}-"
            if validator := self.partial.about().get("validator"):
                headers["If-Range"] = validator
        response = requests.get(self.url, headers=headers, stream=True, timeout=TIMEOUT_SEC)
        if start and self._is_another_piece(response, start):
            self.partial.clear()
            if response.status_code != 200:
                response.close()
                return self._open()
        if response.status_code != (206 if self.partial.size else 200):
            raise requests.HTTPError(response=response)
        self._note(response, self.partial.size)
        return response

    def _is_another_piece(self, response: "requests.Response", start: int) -> bool:
        """Whether the answer speaks of the file, but does not go on at `start`."""
        if response.status_code == 206:
            span, _, total = response.headers.get("content-range", "").removeprefix("bytes ").partition("/")
            same = not total.isdecimal() or not self.total or int(total) == self.total
            return not (same and span.startswith(f"{start}-"))
        return response.status_code in (200, 416)

    def _note(self, response: "requests.Response", start: int) -> None:
        """The size of the whole, and what would tell another version of it: a strong ETag, or its date."""
        length = response.headers.get("content-length", "")
        plain = response.headers.get("content-encoding", "identity") == "identity"
        said = start + int(length) if length.isdecimal() and plain else None
        self.total = self.nbytes if said is None else said
        tag = response.headers.get("etag", "W/")
        validator = response.headers.get("last-modified") if tag.startswith("W/") else tag
        self.partial.remember({"url": self.url, "validator": validator if plain else None, "total": said})

    def _check_size(self) -> None:
        if self.nbytes and self.total != self.nbytes:
            raise Failed(f"the server has {self.total:,} bytes there, not {self.nbytes:,}: a page to log in, perhaps, "
                         f"or another version")
        room = shutil.disk_usage(self.path.parent).free
        if self.total and self.total - self.partial.size > room:
            raise Failed(f"it takes {format_bytes(self.total - self.partial.size)}, and {self.path.parent} has room "
                         f"for {format_bytes(room)}")

    def _wrong(self) -> str | None:
        """What speaks against the file that came."""
        if self.nbytes and self.partial.size != self.nbytes:
            return f"what came is {self.partial.size:,} bytes, not {self.nbytes:,}"
        found = self.sha256 and sha256_of(self.partial.path)
        if found != self.sha256:
            return f"what came is another file: its SHA-256 is {found}, not {self.sha256}"
        return None

    def _leave(self, error: BaseException) -> None:
        """Keeps what the next call can go on from; a full disk gets its room back."""
        with contextlib.suppress(OSError):
            goes_on = isinstance(error, Broken) or not isinstance(error, Failed | OSError)
            if goes_on and self.partial.size and self._can_go_on():
                _say(f"{format_bytes(self.partial.size)} of {self.path.name} are kept: the next attempt goes on from "
                     f"there")
            else:
                self.partial.remove()

    @contextlib.contextmanager
    def _naming_reasons(self) -> Iterator[None]:
        import requests

        host = self.url.split("/")[2]
        try:
            yield
        except requests.HTTPError as error:
            assert error.response is not None
            status = error.response.status_code
            raise Broken(f"{host} answers {status} {error.response.reason}", status in PASSING) from error
        except requests.exceptions.SSLError as error:
            raise Broken(f"no safe connection to {host} ({error})", self.received) from error
        except requests.exceptions.ChunkedEncodingError as error:
            raise Broken("the connection broke off", True) from error
        except (requests.ConnectionError, requests.Timeout) as error:
            again = self.received or not isinstance(error, requests.ConnectTimeout)
            raise Broken(f"no connection to {host}", again) from error
        except requests.RequestException as error:
            raise Broken(str(error), False) from error


def _say(text: str) -> None:
    click.echo(text, err=True)
