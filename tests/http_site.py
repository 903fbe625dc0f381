"""A web site in a thread that serves what a test gives it, as badly as the test wants."""

import contextlib
import http.server
import socket
import struct
import threading
from dataclasses import dataclass, field


@dataclass
class Page:
    """answers: statuses of the first requests, before 200. cuts: bytes of the body after which the first connections
    end. reset: they end with an error. gate: the body goes on after `pause_at` bytes when it is set. length: whether
    Content-Length is said, or what is claimed. early: pieces begin so many bytes before what was asked for. moved:
    where it is instead.
    """

    data: bytes = b""
    etag: str | None = '"1"'
    ranges: bool = True
    answers: list = field(default_factory=list)
    cuts: list = field(default_factory=list)
    reset: bool = False
    gate: threading.Event | None = None
    pause_at: int = 0
    length: bool | int = True
    early: int = 0
    moved: str | None = None


class Site:
    """pages by path; asked: (path, Range, If-Range) of each request so far; encodings: that they accept."""

    def __init__(self, port):
        self.root, self.pages, self.asked, self.encodings = f"http://127.0.0.1:{port}", {}, [], set()

    def url(self, path):
        return self.root + path


class _Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        site = self.server.site
        wanted = self.headers["Range"]
        site.asked.append((self.path, wanted, self.headers["If-Range"]))
        site.encodings.add(self.headers["Accept-Encoding"])
        page = site.pages.get(self.path)
        if page is None:
            return self.send_error(404)
        status = page.answers.pop(0) if page.answers else 200
        if status != 200:
            return self.send_error(status)
        if page.moved:
            self.send_response(302)
            self.send_header("Location", page.moved)
            return self.end_headers()
        return self.serve(page, wanted)

    def serve(self, page, wanted):
        start = 0
        if page.ranges and wanted and self.headers["If-Range"] in (None, page.etag):
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) - page.early
            if start >= len(page.data):
                return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(page.data) - 1}/{len(page.data)}")
        if page.length is not False:
            self.send_header("Content-Length", str(len(page.data) - start if page.length is True else page.length))
        if page.etag:
            self.send_header("ETag", page.etag)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.send_body(page, page.data[start:])
        return None

    def send_body(self, page, body):
        cut = page.cuts.pop(0) if page.cuts else None
        if page.gate is not None:
            self.wfile.write(body[:page.pause_at])
            page.gate.wait(30)
            body = body[page.pause_at:]
        self.wfile.write(body[:cut])
        if cut is not None and page.reset:
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


@contextlib.contextmanager
def serving():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.site = Site(server.server_address[1])
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield server.site
    finally:
        server.shutdown()
        server.server_close()


def closed_port():
    """A port of this machine where nobody answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
