"""Look for the invisible mark in a file: an image, or a video in pieces of some seconds, in bounded memory."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import av.error

from emotalking.errors import InputError
from emotalking.io.containers import open_media
from emotalking.io.display import to_rgb
from emotalking.io.images import image_size, is_heif, read_image
from emotalking.io.video import decode_frames
from emotalking.io.video_stream import films
from emotalking.progress import track
from emotalking.provenance.detect import Found, recheck, search, strongest
from emotalking.provenance.evidence import Evidence, Piece, grey_levels, of_image

PIECE_FRAMES = 100
"""Frames that are searched together: 4 s at 25 fps."""


@dataclass(frozen=True)
class MarkReport:
    """What was found in a file."""

    kind: str
    """image or video."""
    frames: int
    """Frames that were read."""
    best: Found | None
    """The strongest candidate, its false alarm for the whole file; None: too small or too smooth to carry a mark."""
    stretches: list[tuple[float, float]] = field(default_factory=list)
    """Times [s] from and to which a video is marked; by pieces of :data:`PIECE_FRAMES` frames."""

    @property
    def marked(self) -> bool:
        """True if the mark is there (:attr:`~.detect.Found.marked`)."""
        return self.best is not None and self.best.marked


def read_mark(path: str | Path, *, seconds: float | int | None = None) -> MarkReport | None:
    """Search a file for the mark; None: it holds sound alone.

    Args:
        path: image or video.
        seconds: read only the beginning of a video; None: all.

    Raises:
        InputError: the file is neither, or cannot be read.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: there is no such file.")
    if not path.is_file():
        raise InputError(f"{path} is a folder or a device: give an image, a video or a sound.")
    if _is_image(path) or is_heif(path):
        found = search(of_image(grey_levels(read_image(path))))
        return MarkReport("image", 1, found)
    if _is_sound(path):
        return None
    return _search_video(path, seconds)


def _is_image(path: Path) -> bool:
    try:
        image_size(path)
    except InputError:
        return False
    return True


def _is_sound(path: Path) -> bool:
    try:
        container = open_media(path)
    except (av.error.FFmpegError, OSError, ValueError):
        return False
    with container:
        return bool(container.streams.audio) and not films(container)


def _search_video(path: Path, seconds: float | int | None) -> MarkReport:
    """Search piece by piece."""
    pieces = _Pieces()
    piece = Piece()
    first = None
    frames = 0
    for time, frame in track(decode_frames(path), "search for the mark"):
        first = time if first is None else first
        if seconds is not None and time - first >= seconds:
            break
        piece.add(time - first, grey_levels(to_rgb(frame)))
        frames += 1
        if piece.frames == PIECE_FRAMES:
            pieces.search(piece)
            piece = Piece()
    if piece.frames:
        pieces.search(piece)
    return MarkReport("video", frames, pieces.result(), pieces.stretches)


class _Pieces:
    """Searches of one video."""

    def __init__(self) -> None:
        self.stretches: list[tuple[float, float]] = []
        self._best: Found | None = None
        self._searches = self._pieces = 0
        self._total: Evidence | None = None
        self._joins = False

    def search(self, piece: Piece) -> None:
        """Search one piece, first where the mark was found before."""
        evidence = piece.evidence()
        self._pieces += 1
        self._total = evidence if self._total is None else self._total + evidence
        found = None
        if self._best is not None and self._best.marked:
            found = recheck(evidence, self._best.geometry)
        if found is None or not found.marked:
            found = self._search(evidence)
        marked = found is not None and found.marked
        if marked and self._joins:
            self.stretches[-1] = (self.stretches[-1][0], piece.end)
        elif marked:
            self.stretches.append((piece.begin, piece.end))
        self._joins = marked
        self._keep(found)

    def result(self) -> Found | None:
        """The strongest candidate of the file; where no piece is marked, all of them are searched together too, and
        where none is readable, they are read together."""
        total = self._total if self._pieces > 1 else None
        if total is not None and not self.stretches:
            self._keep(self._search(total))
        if self._best is None:
            return None
        if total is not None and self._best.marked and self._best.payload is None:
            self._searches += 1
            self._keep(recheck(total, self._best.geometry))
        return replace(self._best, false_alarm=min(self._best.false_alarm * self._searches, 1.0))

    def _search(self, evidence: Evidence) -> Found | None:
        self._searches += 1
        return search(evidence)

    def _keep(self, found: Found | None) -> None:
        if found is not None:
            self._best = found if self._best is None else strongest([self._best, found])
