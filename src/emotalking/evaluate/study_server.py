"""Small server for a study on this machine: it serves the page and its clips, and stores answers."""

import errno
import json
import logging
import re
import socket
import sys
import threading
import time
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from emotalking.errors import InputError
from emotalking.evaluate.answers import ANSWERS, read_answers, write_rows
from emotalking.evaluate.study import CLIPS, KEY, PAGE, QUESTIONS, Answer, Study
from emotalking.io.reading import reason

MOST_BODY = 256 << 10
"""Maximum bytes of one participant's answers."""
MOST_CONNECTIONS = 64
"""Connections at a time; a browser opens six."""
MOST_STORED = 64 << 20
"""Maximum bytes of the answers' file."""
_TIMEOUT_S = 30.0
"""Idle timeout of a connection."""
_PIECE = 1 << 16
_TYPES = {".mp4": "video/mp4", ".webm": "video/webm"}
_CLIP = re.compile(r"/clips/([0-9a-f]{8}\.(?:mp4|webm))")
_RANGE = re.compile(r"bytes=(\d{1,15})-(\d{1,15})?")


_logger = logging.getLogger(__name__)


class StudyServer(ThreadingHTTPServer):
    """Serves ``folder`` of :func:`emotalking.evaluate.study.make_study` on this machine alone; answers go to its
    ``answers.csv``.

    Args:
        folder: of the study.
        port: TCP port; 0 takes a free one.

    Raises:
        InputError: no study there, answers that cannot be read, or a port that is in use.
    """

    daemon_threads = True

    def __init__(self, folder: Path, port: int = 8000) -> None:
        self.study = Study.read(folder / KEY)
        self._deadlines: dict[socket.socket, float] = {}
        self.folder, self.answers = folder, folder / ANSWERS
        stored = read_answers([self.answers], self.study) if self.answers.exists() else []
        self._known: dict[str, set[Answer]] = {}
        for answer in stored:
            self._known.setdefault(answer.participant, set()).add(answer)
        self._lock = threading.Lock()
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise InputError(f"port {port} cannot be used ({error.strerror}): give another.") from error

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection in a thread of its own, unless there are too many."""
        with self._lock:
            crowded = len(self._deadlines) >= MOST_CONNECTIONS
            if not crowded:
                self._deadlines[request] = time.monotonic() + _TIMEOUT_S
        if crowded:
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def allow(self, request: socket.socket, seconds: float = _TIMEOUT_S) -> None:
        """Give a connection so much time for its next request or its next piece of a clip."""
        with self._lock:
            self._deadlines[request] = time.monotonic() + seconds

    def service_actions(self) -> None:
        """End connections that send or take a byte at a time for ever."""
        now = time.monotonic()
        with self._lock:
            late = [request for request, deadline in self._deadlines.items() if deadline < now]
        for request in late:
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection and close it."""
        with self._lock:
            self._deadlines.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet about connections that broke; log anything else."""
        if not isinstance(sys.exc_info()[1], OSError):
            _logger.exception("a request failed")

    @property
    def address(self) -> str:
        """Address of the page."""
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def store(self, body: object) -> tuple[HTTPStatus, str]:
        """Check one participant's answers and append them to the file; all or none, and only once if sent twice."""
        try:
            answers = self._checked(body)
        except ValueError as error:
            return HTTPStatus.BAD_REQUEST, str(error)
        with self._lock:
            known = self._known.get(answers[0].participant, set())
            # A page that did not receive the response sends again; a server that was killed may have stored a part.
            if not known <= set(answers):
                return HTTPStatus.CONFLICT, "you have answered before"
            if known == set(answers):
                return HTTPStatus.OK, "stored"
            if self.answers.exists() and self.answers.stat().st_size > MOST_STORED:
                return HTTPStatus.INSUFFICIENT_STORAGE, "the file of answers is full"
            try:
                write_rows(self.answers, [answer for answer in answers if answer not in known])
            except OSError as error:
                full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
                _logger.warning("answers were refused: %s cannot be written (%s)", self.answers, reason(error))
                status = HTTPStatus.INSUFFICIENT_STORAGE if full else HTTPStatus.INTERNAL_SERVER_ERROR
                return status, "the answers cannot be stored here now"
            self._known[answers[0].participant] = set(answers)
        return HTTPStatus.OK, "stored"

    def _checked(self, body: object) -> list[Answer]:
        if not isinstance(body, dict) or not isinstance(body.get("rows"), list):
            raise ValueError("this is no set of answers")
        wanted = {(group, question["id"]) for group in range(len(self.study.groups)) for question in QUESTIONS}
        if len(body["rows"]) != len(wanted):
            raise ValueError(f"{len(wanted)} answers are needed")
        same = {name: body.get(name) for name in ("study", "participant", "seed")}
        answers = []
        for row in body["rows"]:
            if not isinstance(row, dict):
                raise ValueError("a row is malformed")
            answers.append(Answer.of(row | same, self.study))
        if {(answer.group, answer.question) for answer in answers} != wanted:
            raise ValueError("a question is answered twice, or not at all")
        return answers


class _Handler(BaseHTTPRequestHandler):
    """The page at "/", clips with byte ranges (which some browsers need to play at all), answers by POST."""

    server: StudyServer
    protocol_version = "HTTP/1.1"
    timeout = _TIMEOUT_S

    def parse_request(self) -> bool:
        """Refuse requests under another name than this machine's: a page elsewhere can give its name our address."""
        if not super().parse_request():
            return False
        name = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        if name.lower() in ("127.0.0.1", "localhost", "[::1]"):
            return True
        self.close_connection = True
        self._reply(HTTPStatus.MISDIRECTED_REQUEST, "this server answers to 127.0.0.1 and localhost alone")
        return False

    def handle_one_request(self) -> None:
        """Read and answer one request, within the time that a connection has for it."""
        self.server.allow(self.connection)
        super().handle_one_request()

    def do_GET(self) -> None:
        if self.path in ("/", "/index.html"):
            self._send_file(self.server.folder / PAGE / "index.html", "text/html; charset=utf-8")
            return
        clip = _CLIP.fullmatch(self.path)
        if clip is None:
            self._reply(HTTPStatus.NOT_FOUND, "there is nothing here")
            return
        self._send_file(self.server.folder / PAGE / CLIPS / clip[1], _TYPES[f".{clip[1].rpartition('.')[2]}"])

    def do_POST(self) -> None:
        self.close_connection = True  # refused bodies are not read to their end
        length = self.headers.get("Content-Length", "")
        # Cross-origin requests of this type need a CORS preflight, which is never allowed.
        if self.path != "/answers" or self.headers.get_content_type() != "application/json":
            self._reply(HTTPStatus.NOT_FOUND, "there is nothing here")
        elif not (length.isascii() and length.isdecimal() and len(length) < 10 and 0 < int(length) <= MOST_BODY):
            self._reply(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {MOST_BODY} bytes are taken")
        else:
            try:
                body = json.loads(self.rfile.read(int(length)), parse_constant=_no_number)
            except (ValueError, RecursionError):
                self._reply(HTTPStatus.BAD_REQUEST, "this is no JSON")
                return
            self._reply(*self.server.store(body))

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: addresses of participants are private."""

    def _reply(self, status: HTTPStatus, text: str) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _send_file(self, path: Path, kind: str) -> None:
        if not path.is_file():
            self._reply(HTTPStatus.NOT_FOUND, "there is nothing here")
            return
        size = path.stat().st_size
        byte_range = _RANGE.fullmatch(self.headers.get("Range", ""))
        first = int(byte_range[1]) if byte_range else 0
        last = min(int(byte_range[2]), size - 1) if byte_range and byte_range[2] else size - 1
        if byte_range and first > last:
            self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(HTTPStatus.PARTIAL_CONTENT if byte_range else HTTPStatus.OK)
        if byte_range:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        try:
            with path.open("rb") as file:
                file.seek(first)
                rest = last - first + 1
                while rest > 0 and (piece := file.read(min(_PIECE, rest))):
                    self.server.allow(self.connection)
                    self.wfile.write(piece)
                    rest -= len(piece)
        except OSError:
            self.close_connection = True  # browsers close the connection when they have enough of a clip
            return
        self.close_connection |= rest > 0  # the clip has become shorter


def _no_number(text: str) -> float:
    """Refuse what Python takes for numbers, and JSON does not: Infinity, NaN."""
    raise ValueError(f"{text} is no number")
