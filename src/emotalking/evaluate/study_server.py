"""Small server for a study on this machine: it serves the page and its clips, and stores answers."""

import json
import re
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from emotalking.errors import UserError
from emotalking.evaluate.study import ANSWERS, CLIPS, KEY, PAGE, QUESTIONS, Answer, Study, read_answers, write_rows

MOST_BODY = 256 << 10
"""Maximum bytes of one participant's answers."""
MOST_STORED = 64 << 20
"""Maximum bytes of the answers' file."""
_TIMEOUT_S = 30.0
"""Idle timeout of a connection."""
_PIECE = 1 << 16
_TYPES = {".mp4": "video/mp4", ".webm": "video/webm"}
_CLIP = re.compile(r"/clips/([0-9a-f]{8}\.(?:mp4|webm))")
_RANGE = re.compile(r"bytes=(\d{1,15})-(\d{1,15})?")


class StudyServer(ThreadingHTTPServer):
    """Serves ``folder`` of :func:`emotalking.evaluate.study.make_study` on this machine alone; answers go to its
    ``answers.csv``.

    Args:
        folder: of the study.
        port: TCP port; 0 takes a free one.

    Raises:
        UserError: no study there, answers that cannot be read, or a port that is in use.
    """

    daemon_threads = True

    def __init__(self, folder: Path, port: int = 8000) -> None:
        self.study = Study.read(folder / KEY)
        self.folder, self.answers = folder, folder / ANSWERS
        stored = read_answers([self.answers], self.study) if self.answers.exists() else []
        self._known: dict[str, set[Answer]] = {}
        for answer in stored:
            self._known.setdefault(answer.participant, set()).add(answer)
        self._lock = threading.Lock()
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise UserError(f"port {port} cannot be used ({error.strerror}): give another.") from error

    @property
    def address(self) -> str:
        """Address of the page."""
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def store(self, body: Any) -> tuple[HTTPStatus, str]:
        """Check one participant's answers and append them to the file; all or none, and only once if sent twice."""
        try:
            answers = self._checked(body)
        except ValueError as error:
            return HTTPStatus.BAD_REQUEST, str(error)
        with self._lock:
            known = self._known.get(answers[0].participant)
            if known is not None:
                # A page that did not receive the response sends again.
                same = known == set(answers)
                return (HTTPStatus.OK, "stored") if same else (HTTPStatus.CONFLICT, "you have answered before")
            if self.answers.exists() and self.answers.stat().st_size > MOST_STORED:
                return HTTPStatus.INSUFFICIENT_STORAGE, "the file of answers is full"
            write_rows(self.answers, answers)
            self._known[answers[0].participant] = set(answers)
        return HTTPStatus.OK, "stored"

    def _checked(self, body: Any) -> list[Answer]:
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

    def do_GET(self) -> None:  # noqa: N802 (the base class's name)
        if self.path in ("/", "/index.html"):
            self._send_file(self.server.folder / PAGE / "index.html", "text/html; charset=utf-8")
            return
        clip = _CLIP.fullmatch(self.path)
        if clip is None:
            self._reply(HTTPStatus.NOT_FOUND, "there is nothing here")
            return
        self._send_file(self.server.folder / PAGE / CLIPS / clip[1], _TYPES[f".{clip[1].rpartition('.')[2]}"])

    def do_POST(self) -> None:  # noqa: N802
        self.close_connection = True  # refused bodies are not read to their end
        length = self.headers.get("Content-Length", "")
        # Cross-origin requests of this type need a CORS preflight, which is never allowed.
        if self.path != "/answers" or self.headers.get_content_type() != "application/json":
            self._reply(HTTPStatus.NOT_FOUND, "there is nothing here")
        elif not length.isascii() or not length.isdecimal() or not 0 < int(length) <= MOST_BODY:
            self._reply(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {MOST_BODY} bytes are taken")
        else:
            try:
                body = json.loads(self.rfile.read(int(length)))
            except (ValueError, RecursionError):
                self._reply(HTTPStatus.BAD_REQUEST, "this is no JSON")
                return
            self._reply(*self.server.store(body))

    def log_message(self, format: str, *args: Any) -> None:
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
                    self.wfile.write(piece)
                    rest -= len(piece)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # browsers close the connection when they have enough of a clip
