"""Download of one file over HTTP: continued after a cut connection, checked, and put in place when it is whole."""

import contextlib
import errno
import hashlib
import http.client
import json
import logging
import os
import shutil
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from emotalking.errors import InputError
from emotalking.io.files import write_bytes
from emotalking.networks.registry import record, sha256_of
from emotalking.progress import byte_bar

ATTEMPTS = 5
"""Connections in a row that bring nothing, before a download is given up."""
WAIT = 1.0
"""Seconds before the next one, doubled each time."""
TIMEOUT = 20.0
"""Seconds of silence after which a connection counts as lost."""
CHUNK = 1 << 16
JSON_LIMIT = 8 << 20
"""Largest answer in bytes that is read as JSON."""
_BUSY = (429, 500, 502, 503, 504)
NETWORK_ERRORS = (OSError, http.client.HTTPException)
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RemoteFile:
    """A file on a server, and what is known of its content."""

    name: str
    url: str
    size: int | None = None
    """In bytes."""
    sha256: str | None = None
    """Of the content, or its first digits."""
    git_object: str | None = None
    """Name that git gives to the content (SHA-1)."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects, but never from an encrypted connection to an open one."""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise URLError(f"it redirects to {newurl}, which is not encrypted")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def host_of(url: str) -> str:
    """Host of an address, for messages."""
    return urlsplit(url).netloc


def reason(error: BaseException) -> str:
    """Cause of a network error, for messages."""
    if isinstance(error, HTTPError):
        return f"it answers {error.code} {error.reason}"
    cause = getattr(error, "reason", error)
    return str(getattr(cause, "strerror", None) or cause) or type(error).__name__


def connect(url: str, headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
    """Open ``url``; proxies are those of the environment (``HTTP_PROXY``, ``HTTPS_PROXY``, ``NO_PROXY``).

    Raises:
        OSError, HTTPException: it cannot be reached; an answer of 400 or more is an HTTPError.
    """
    fields = {"User-Agent": "emotalking", "Accept-Encoding": "identity"} | (headers or {})
    opener = urllib.request.build_opener(_Redirects)
    return opener.open(urllib.request.Request(url, headers=fields), timeout=TIMEOUT)


def remote_json(url: str) -> Any:
    """JSON at ``url``.

    Raises:
        OSError, HTTPException: as :func:`connect`.
        ValueError: the answer is something else.
    """
    with connect(url) as answer:
        return json.loads(answer.read(JSON_LIMIT))


def remote_size(url: str) -> int | None:
    """Size in bytes of the file at ``url``, None if the server does not say.

    Raises:
        OSError, HTTPException: as :func:`connect`.
        InputError: there is a web page in its place.
    """
    # A signed address that a server redirects to may be read and not asked about (HEAD).
    with connect(url, {"Range": "bytes=0-0"}) as answer:
        _refuse_page(url, answer)
        if answer.status == http.client.PARTIAL_CONTENT:
            return _number(answer.headers.get("Content-Range", "").rpartition("/")[2])
        return _number(answer.headers.get("Content-Length", ""))


def fetch(remote: RemoteFile, path: Path) -> str:
    """Download a file to ``path``, and write its SHA-256 beside it (:func:`~emotalking.networks.registry.record`).

    What has arrived stays in ``.NAME.part`` when the download is interrupted, and the next one continues there if the
    server can do so and still has the same file.

    Returns:
        SHA-256 of the file.

    Raises:
        InputError: the server cannot be reached or has another file, or the disk is full or cannot be written.
    """
    part, note = _scratch(path)
    left = ATTEMPTS
    again = False
    furthest = _size(part)
    while True:
        try:
            complete = remote.size is not None and _size(part) == remote.size
            resumed = complete or _transfer(remote, part, note)
        except NETWORK_ERRORS as error:
            if isinstance(error, HTTPError):
                _refuse_status(remote.url, error, part)
            left = ATTEMPTS if _size(part) > furthest else left - 1
            furthest = max(furthest, _size(part))
            if not left:
                raise InputError(
                    f"the connection to {host_of(remote.url)} was lost ({reason(error)}) after"
                    f" {megabytes(_size(part))} of {path.name}, which are kept: repeat the command to continue."
                ) from error
            _logger.info("%s: %s; continuing at %s", remote.name, reason(error), megabytes(_size(part)))
            time.sleep(WAIT * 2 ** (ATTEMPTS - left))
            continue
        found = sha256_of(part)
        if trouble := _trouble(remote, part, found):
            _forget(part, note)
            if resumed and not again:
                _logger.info("%s: the pieces do not fit together; starting over", remote.name)
                again = True
                continue
            raise InputError(
                f"{remote.url} gave a file {trouble}: it was not kept; try again later or from another network, and"
                " compare with the page of its authors."
            )
        write_bytes(record(path), f"{found}  {path.name}\n".encode())
        os.replace(part, path)
        note.unlink(missing_ok=True)
        return found


def matches(remote: RemoteFile, path: Path) -> bool:
    """True if ``path`` is there and is that file, as far as its content is known."""
    return path.is_file() and _trouble(remote, path, sha256_of(path)) is None


def megabytes(size: int) -> str:
    """A size for messages."""
    return f"{size / 1e6:.1f} MB"


def _transfer(remote: RemoteFile, part: Path, note: Path) -> bool:
    """Append to ``part`` what it lacks; True if it was continued.

    Raises:
        OSError, HTTPException: the connection failed.
        InputError: the file cannot be had or kept.
    """
    have, validator = _size(part), _validator(note, remote.url)
    resumed = have > 0 and validator is not None
    answer = connect(remote.url, {"Range": f"bytes={have}-", "If-Range": str(validator)} if resumed else None)
    with answer:
        _refuse_page(remote.url, answer)
        length = _number(answer.headers.get("Content-Length", ""))
        if answer.status != http.client.PARTIAL_CONTENT:
            have, resumed = 0, False
        elif not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            note.unlink(missing_ok=True)
            raise ConnectionError("it continues at another place")
        total = None if length is None else have + length
        if remote.size is not None and total not in (None, remote.size):
            _forget(part, note)
            raise InputError(f"{remote.url} has {total} bytes instead of {remote.size}: it is not the published file.")
        total = total or remote.size
        with _writable(part):
            if not resumed:
                _remember(note, remote.url, answer)
            if total is not None and shutil.disk_usage(part.parent).free < total - have:
                raise OSError(errno.ENOSPC, f"{megabytes(total - have)} more are needed")
        _receive(answer, part, have, total)
    return resumed


def _receive(answer: http.client.HTTPResponse, part: Path, have: int, total: int | None) -> None:
    """Write the body of an answer after the first ``have`` bytes, of ``total``."""
    with _writable(part):
        file = FileIO(part, "ab" if have else "wb")  # unbuffered: a full disk is noticed at once
    with file, byte_bar(part.name.removeprefix(".").removesuffix(".part"), total, have) as advance:
        while chunk := answer.read1(CHUNK):
            view = memoryview(chunk)
            have += len(view)
            if total is not None and have > total:
                raise ConnectionError("it sends more than it said")
            with _writable(part):
                while view:
                    view = view[file.write(view) :]
            advance(len(chunk))
    if total is not None and have < total:
        raise ConnectionError(f"it ended after {have} of {total} bytes")


@contextlib.contextmanager
def _writable(part: Path) -> Iterator[None]:
    """Tell errors of the disk from those of the network."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{part} cannot be written ({error.strerror}): choose another folder by EMOTALKING_MODELS, or free some"
            " space; what has arrived is kept."
        ) from error


def _refuse_status(url: str, error: HTTPError, part: Path) -> None:
    """Refuse an answer that repeating does not change."""
    if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
        part.unlink(missing_ok=True)
    elif error.code not in _BUSY:
        raise InputError(f"{url} cannot be had: {reason(error)}.") from error


def _refuse_page(url: str, answer: http.client.HTTPResponse) -> None:
    if answer.headers.get_content_type() == "text/html":
        raise InputError(f"{url} answers with a web page in place of the file: open it in a browser to see why.")


def _trouble(remote: RemoteFile, part: Path, found: str) -> str | None:
    """How a whole file differs from the published one."""
    if remote.size is not None and _size(part) != remote.size:
        return f"of {_size(part)} bytes instead of {remote.size}"
    if remote.sha256 is not None and not found.startswith(remote.sha256):
        return f"with the SHA-256 {found} instead of {remote.sha256}"
    if remote.git_object is not None and _git_object(part) != remote.git_object:
        return f"with the git object name {_git_object(part)} instead of {remote.git_object}"
    return None


def _git_object(path: Path) -> str:
    digest = hashlib.sha1(b"blob %d\0" % _size(path), usedforsecurity=False)
    digest.update(path.read_bytes())
    return digest.hexdigest()


def _scratch(path: Path) -> tuple[Path, Path]:
    """Names of the part that has arrived, and of the note about which file it is a part of."""
    return path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.part.json")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _remember(note: Path, url: str, answer: http.client.HTTPResponse) -> None:
    """Note which version of a file arrives."""
    tag = answer.headers.get("ETag", "")
    # A weak tag does not vouch for every byte.
    validator = tag if tag.startswith('"') else answer.headers.get("Last-Modified")
    write_bytes(note, json.dumps({"url": url, "validator": validator}).encode())


def _validator(note: Path, url: str) -> str | None:
    """Version of which a part has arrived; None: unknown, or of another address."""
    try:
        known = json.loads(note.read_bytes())
        return known["validator"] if known["url"] == url else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _forget(part: Path, note: Path) -> None:
    part.unlink(missing_ok=True)
    note.unlink(missing_ok=True)
