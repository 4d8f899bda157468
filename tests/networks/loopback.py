"""A server on loopback that gives files, and fails as real ones do."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Site:
    """What the server gives, and what it was asked for."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    """Answer requests for a part of a file with this part."""
    length: bool = True
    """State the length of files."""
    tag: str = '"1"'
    kind: str = "application/octet-stream"
    cuts: list[int] = field(default_factory=list)
    """Bytes of the body after which each of the next answers ends, but for those to probes."""
    busy: int = 0
    """Number of answers that are 503, before others."""
    gate: threading.Event | None = None
    """Waited for after the first 1000 bytes of a body, but for those to probes."""
    started: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def starts(self) -> list[int]:
        """Where each request for a file began, without the probes for its size."""
        wanted = [headers.get("Range", "bytes=0-") for _, headers in self.asked]
        return [int(one[6:-1]) for one in wanted if one != "bytes=0-0"]


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Address of a server within the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """A site at an address of its own within the block; it answers as a proxy, too."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append((self.path, dict(self.headers)))
            path = urlsplit(self.path).path
            if site.busy and "0-0" not in self.headers.get("Range", ""):
                site.busy -= 1
                self.send_error(503)
            elif path in site.redirects:
                self.send_response(302)
                self.send_header("Location", site.redirects[path])
                self.send_header("Content-Length", "0")
                self.end_headers()
            elif path in site.files:
                self._give(site.files[path])
            else:
                self.send_error(404)

        def _give(self, content: bytes) -> None:
            wanted = self.headers.get("Range") if site.ranges else None
            if wanted and self.headers.get("If-Range", site.tag) == site.tag:
                first, last = wanted.removeprefix("bytes=").split("-")
                begin, end = int(first), int(last or len(content) - 1) + 1
                if begin >= len(content):
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(content)}")
                body = content[begin:end]
            else:
                self.send_response(200)
                body = content
            if site.length:
                self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", site.kind)
            self.send_header("ETag", site.tag)
            self.end_headers()
            with suppress(ConnectionError):  # a probe reads the head alone
                self._write(body)

        def _write(self, body: bytes) -> None:
            probe = self.headers.get("Range") == "bytes=0-0"
            if site.cuts and not probe:
                body = body[: site.cuts.pop(0)]
            self.wfile.write(body[:1000])
            if site.gate is not None and not probe:
                self.wfile.flush()
                site.started.set()
                site.gate.wait(20)
            self.wfile.write(body[1000:])

        def log_message(self, *_: Any) -> None:
            pass

    with listening(Handler) as site.address:
        yield site
