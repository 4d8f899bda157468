"""Kinds of files and folders that verbs write, and how each is recognised by its content."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

_MB = 1_000_000
_MOST_JSON = 64 * _MB
"""Bytes of a JSON text that is read to recognise a file."""
SIDECAR_SUFFIX = ".c2pa"
"""Added to the whole name of a file whose format holds no signature: the signature beside it."""
PAGE_MARK = b'<meta name="generator" content="emotalking">'
_OLDER_PAGE = b"<style>\n:root { --ink: "
"""Begin of the pages' style before they had a mark."""


def _begins(path: Path, size: int = 64) -> bytes:
    with path.open("rb") as file:
        return file.read(size)


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _object(path: Path) -> dict[str, Any]:
    """A JSON file's object; empty for any other file."""
    found = _json(path.read_bytes()) if path.is_file() and path.stat().st_size <= _MOST_JSON else None
    return found if isinstance(found, dict) else {}


def _is_own_video(path: Path) -> bool:
    """True for a video that this program signed (``provenance.signing``), in the file or beside it."""
    head = _begins(path, 8192)
    containers = head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
    video = containers or head.startswith(b"\x1a\x45\xdf\xa3") or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
    return video and (b"emotalking" in head or path.with_name(path.name + SIDECAR_SUFFIX).exists())


def _is_image(path: Path) -> bool:
    head = _begins(path)
    return head.startswith((b"\x89PNG", b"\xff\xd8\xff")) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def _is_wav(path: Path) -> bool:
    head = _begins(path)
    return head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE"


def _is_page(path: Path) -> bool:
    head = _begins(path, 8192)
    return PAGE_MARK in head or (_OLDER_PAGE in head and head.startswith(b"<!doctype html>\n"))


def _is_times(path: Path) -> bool:
    return b"ooTextFile" in _begins(path) or {"text", "words", "phonemes"} <= _object(path).keys()


def _is_track(path: Path) -> bool:
    return _begins(path).startswith(b"time,valence,arousal\n")


def _has_metadata(key: str, value: str | None = None) -> Callable[[Path], bool]:
    """Recognise a safetensors file by its metadata."""

    def recognise(path: Path) -> bool:
        size = int.from_bytes(_begins(path, 8), "little")
        found = _json(_begins(path, 8 + size)[8:]) if size <= _MOST_JSON else None
        metadata = found.get("__metadata__") if isinstance(found, dict) else None
        return isinstance(metadata, dict) and key in metadata and value in (None, metadata[key])

    return recognise


@dataclass(frozen=True)
class Kind:
    """What is written to a place."""

    what: str
    """Its name in sentences."""
    recognises: Callable[[Path], bool] = lambda path: False
    """True for a file of this kind."""
    distinct: bool = False
    """True: no other program makes such files, so that one within an input folder may be replaced."""
    example: str = ""
    """Example of a name, for sentences."""
    folder: bool = False
    names: tuple[str, ...] = ()
    """Patterns of files that are written into a folder of this kind."""
    marks: Callable[[Path], bool] = lambda path: False
    """True for a folder that an earlier run made."""
    updates: bool = False
    """The folder may be an input too."""
    space: int = _MB
    """Bytes without which the work is not begun."""
    chooses: Callable[[Path], str] | None = None
    """Key of the kind that a path of this collective kind is of."""

    def of(self, path: Path) -> "Kind":
        """This kind, or the one that ``path`` is of."""
        return self if self.chooses is None else KINDS[self.chooses(path)]

    def foreign(self, folder: Path) -> str | None:
        """Name of a file that would be overwritten and is not of an earlier run; None: there is none."""
        there = (path.name for name in self.names for path in folder.glob(name))
        return None if self.marks(folder) else next(there, None)

    def owns(self, name: str) -> bool:
        """True if a file of this name is written into a folder of this kind."""
        return any(fnmatchcase(name, pattern) for pattern in self.names)


def _emotion(path: Path) -> str:
    """Kind of an emotion over time: its keyframes, or their plot."""
    return "image" if path.suffix.lower() == ".png" else "emotion track"


def _edited(path: Path) -> str:
    """Kind of an edited image, clip or folder of frames, by its ending."""
    suffix = path.suffix.lower()
    return "frames" if not suffix else "image" if suffix in _IMAGE_SUFFIXES else "video"


_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
_REPORT = ("report.html", "table.md", "table.tex")


_FIGURES = (
    "figures.json",
    "index.html",
    "attention.png",
    "normals.png",
    "layers.png",
    "interpolation.png",
    "sweep.*",
    "transitions.*",
    "comparison*.png",
)
_SUBJECT = ("au.csv", "aud.wav", "va.csv", "bc.jpg", "landmarks.npz", "track_params.pt", "transforms_*.json")


def _holds_frames(folder: Path) -> bool:
    """True if all images called by a number are called as rendered frames are."""
    return all(re.fullmatch(r"\d{6}\.png", path.name) for path in folder.glob("[0-9]*.png"))


def _marked_folder(what: str, file: str, form: str, names: tuple[str, ...], space: int = _MB) -> Kind:
    """A folder that an earlier run made if it holds a JSON file of the format ``form``."""

    def marks(folder: Path) -> bool:
        return _object(folder / file).get("format") == form

    return Kind(what, folder=True, names=names, marks=marks, space=space)


def _folder_with_page(what: str, space: int) -> Kind:
    """A folder that an earlier run made if a page about all that is in it is there."""

    def marks(folder: Path) -> bool:
        return (folder / "index.html").is_file() and _is_page(folder / "index.html")

    return Kind(what, folder=True, names=("index.html",), marks=marks, space=space)


KINDS = {
    "video": Kind("video that this program signed", _is_own_video, space=4 * _MB),
    "image": Kind("image", _is_image),
    "sound": Kind("WAV sound", _is_wav),
    "times": Kind("file of times of words", _is_times),
    "emotion track": Kind("emotion track", _is_track),
    "emotion": Kind("emotion track or plot", chooses=_emotion),
    "html page": Kind("page of this program", _is_page, distinct=True),
    "measures": Kind("file of measures", lambda path: "clip" in _object(path), distinct=True),
    "avatar": Kind(
        "avatar", _has_metadata("format", "emotalking-avatar"), True, ", such as someone.safetensors", space=32 * _MB
    ),
    "expert": Kind(
        "sync expert", _has_metadata("format", "emotalking sync expert"), True, ", such as expert.safetensors"
    ),
    "generator": Kind("generator", _has_metadata("emotalking_faces"), True, ", such as faces.safetensors"),
    "edited": Kind("image, video or folder", chooses=_edited),
    "frames": Kind("folder of frames", folder=True, names=("[0-9]*.png",), marks=_holds_frames, space=4 * _MB),
    "subject": Kind("subject folder", folder=True, names=_SUBJECT, marks=lambda folder: True, space=32 * _MB),
    "imported": Kind("subject folder", folder=True, updates=True),
    "report": _marked_folder("report", "report.json", "emotalking-evaluation", ("report.json", *_REPORT)),
    "comparison": _marked_folder(
        "comparison", "comparison.json", "emotalking-comparison", ("comparison.json", *_REPORT)
    ),
    "ablation": _marked_folder(
        "ablation", "ablation.json", "emotalking-ablation", ("ablation.json", *_REPORT), 32 * _MB
    ),
    "figures": _marked_folder("folder of figures", "figures.json", "emotalking-figures", _FIGURES, 4 * _MB),
    "study": _marked_folder("study", "key.json", "emotalking-study", ("page",)),
    "avatars": _folder_with_page("page of avatars", 32 * _MB),
    "subjects": _folder_with_page("page of subjects", 32 * _MB),
    "renders": _folder_with_page("page of videos", 4 * _MB),
    "sentences": Kind("folder of sentences", folder=True),
    "demo": Kind(
        "demo",
        folder=True,
        names=("actor.mp4", "actor.safetensors", "speech.wav", "demo.mp4", "sheet.png", "report.json"),
        marks=lambda folder: (folder / "subject").is_dir() or [one.name for one in folder.iterdir()] == ["actor.mp4"],
        space=32 * _MB,
    ),
}
"""Kinds by the key that a signature declares."""
