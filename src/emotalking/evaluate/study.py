"""Blind side-by-side user study with the paper's three questions (S11): page, key, and what an answer is."""

import base64
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import av.error

from emotalking.errors import InputError
from emotalking.io.containers import open_media
from emotalking.io.files import write_bytes
from emotalking.io.reading import parse_json, read_text, reading

QUESTIONS: tuple[dict[str, str], ...] = (
    {
        "id": "emotion",
        "text": "Which video reflects the emotion best?",
        "with_emotion": "Which video reflects this emotion best: {}?",
    },
    {"id": "lips", "text": "In which video do the lips fit the sound best?"},
    {"id": "quality", "text": "Which video has the best overall quality?"},
)
"""Reflection of the emotion, lip synchronisation, overall quality (S11), each with "none of them" as in table S1.

Assumption: the wording is ours; the paper states only the topics.
"""
NONE = "none"
KEY = "key.json"
PAGE = "page"
CLIPS = "clips"
FORMAT, VERSION = "emotalking-study", 1
SAME_LENGTH_S = 0.2
"""Largest difference in length between the clips of a group."""
EMBED_LIMIT = 200 << 20
"""Bytes of clips in one page; browsers give up far above it."""
_PLAYABLE = {".mp4": ("h264", "av1"), ".webm": ("vp8", "vp9", "av1")}
"""Codecs that every current browser plays, by container."""
_PIXELS = ("yuv420p", "yuvj420p")
_PARTICIPANT = re.compile(r"[0-9a-f]{8}")


@dataclass(frozen=True)
class Study:
    """Content of the key file, which participants must not see."""

    id: str
    title: str
    groups: tuple[dict[str, str], ...]
    """For each group of clips: code to system."""
    emotions: tuple[str, ...]
    """Intended emotion of each group; "" if not given."""

    @property
    def systems(self) -> tuple[str, ...]:
        """Names, in the order they were given."""
        return tuple(dict.fromkeys(name for group in self.groups for name in group.values()))

    @classmethod
    def read(cls, path: Path) -> "Study":
        """Read a key file.

        Raises:
            InputError: it is missing or no key file.
        """
        with reading(path, "is no key file of a study", "copy the study's folder again"):
            data = parse_json(read_text(path), dict)
            if data["format"] != FORMAT or data["version"] != VERSION:
                raise ValueError("another format or version")
            groups = tuple({str(code): str(name) for code, name in group.items()} for group in data["groups"])
            return cls(str(data["id"]), str(data["title"]), groups, tuple(map(str, data["emotions"])))


def make_study(
    clips: Mapping[str, Sequence[Path]],
    folder: Path,
    *,
    emotions: Sequence[str] = (),
    title: str = "Which video is better?",
    embed: bool = False,
) -> Study:
    """Write ``page/index.html`` with the clips next to it (or embedded) and ``key.json``.

    The page and the names of the clips do not reveal the systems; only the key does, so give participants the folder
    ``page`` alone.

    Args:
        clips: system to its clips; the first clips of all systems are one group, shown side by side, and so on.
        folder: made; must not hold a study yet.
        emotions: intended emotion of each group, in words; empty: not given.
        title: heading of the page.
        embed: embed the clips in the page, which is then one file.

    Raises:
        InputError: fewer than two systems, different numbers of clips, one that a browser cannot play, without sound,
            or longer than the others of its group; a folder that is in use.
    """
    groups = _groups(clips)
    if emotions and len(emotions) != len(groups):
        raise InputError(
            f"there are {len(groups)} groups of clips and {len(emotions)} emotions: give one for each group."
        )
    if (folder / KEY).exists():
        raise InputError(f"{folder} holds a study already: choose another folder, or remove that one.")
    coded = tuple({secrets.token_hex(4): name for name in group} for group in groups)
    paths = {code: group[name] for group, codes in zip(groups, coded, strict=True) for code, name in codes.items()}
    if embed and sum(path.stat().st_size for path in paths.values()) > EMBED_LIMIT * 3 // 4:
        raise InputError(f"the clips are too large for one page ({EMBED_LIMIT >> 20} MB): keep them as files.")
    files, embedded = {}, {}
    for code, path in paths.items():
        data, suffix = path.read_bytes(), path.suffix.lower()
        files[code] = f"{code}{suffix}"
        if embed:
            embedded[code] = f"data:video/{suffix[1:]};base64,{base64.b64encode(data).decode()}"
        else:
            write_bytes(folder / PAGE / CLIPS / files[code], data)
    study = Study(secrets.token_hex(4), title, coded, tuple(emotions) or ("",) * len(groups))
    write_bytes(folder / PAGE / "index.html", page(study, files, embedded).encode())
    key: dict[str, Any] = {"format": FORMAT, "version": VERSION} | asdict(study)
    key["clips"] = [{name: path.name for name, path in group.items()} for group in groups]
    write_bytes(folder / KEY, (json.dumps(key, indent=1) + "\n").encode())
    return study


def page(study: Study, files: Mapping[str, str], embedded: Mapping[str, str]) -> str:
    """HTML page, with codes instead of systems.

    Args:
        files: code to file name in ``clips``.
        embedded: code to the clip as a data URL; empty: they are files.
    """
    # Sorted codes hide the order of the systems.
    groups = [{"clips": sorted(g), "emotion": e} for g, e in zip(study.groups, study.emotions, strict=True)]
    facts: dict[str, Any] = {"id": study.id, "title": study.title, "questions": QUESTIONS, "columns": COLUMNS}
    facts |= {"groups": groups, "files": dict(sorted(files.items())), "embedded": dict(sorted(embedded.items()))}
    template = Path(__file__).with_suffix(".html").read_text("utf-8")
    return template.replace("__STUDY__", json.dumps(facts).replace("<", "\\u003c"))


def _groups(clips: Mapping[str, Sequence[Path]]) -> list[dict[str, Path]]:
    """Groups of clips, checked for equal lengths and playable formats."""
    if len(clips) < 2:
        raise InputError("a study compares at least two systems: give A=video.mp4 B=video.mp4.")
    if any(name.strip().lower() == NONE for name in clips):
        raise InputError(f"a system cannot be called '{NONE}', which is an answer: give it another name.")
    counts = {name: len(paths) for name, paths in clips.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise InputError(
            f"the systems have different numbers of clips ({listed}): give as many of each, in the same order."
        )
    groups = [{name: paths[at] for name, paths in clips.items()} for at in range(next(iter(counts.values())))]
    for number, group in enumerate(groups, 1):
        lengths = {name: _seconds(path) for name, path in group.items()}
        if max(lengths.values()) - min(lengths.values()) > SAME_LENGTH_S:
            listed = ", ".join(f"{name} {length:.1f} s" for name, length in lengths.items())
            raise InputError(f"the clips of group {number} differ in length ({listed}): cut them to the same.")
    return groups


def _seconds(path: Path) -> float:
    """Length in seconds of a clip that browsers play, with sound."""
    if not path.is_file():
        raise InputError(f"{path}: there is no such file.")
    try:
        with open_media(path) as container:
            video, sound = container.streams.video, bool(container.streams.audio)
            if not video:
                raise InputError(f"{path} has no video stream; give a clip that shows the person.")
            codec, pixels = video[0].codec_context.name, video[0].codec_context.pix_fmt
            duration = container.duration
    except av.error.FFmpegError as error:
        raise InputError(f"{path} is not a video that can be read ({error.strerror}).") from error
    # PyAV names a decoder by its library where there is one (libdav1d, libvpx-vp9).
    known = _PLAYABLE.get(path.suffix.lower(), ())
    plays = any(name in codec.replace("dav1d", "av1") for name in known)
    if not plays or pixels not in _PIXELS or duration is None:
        raise InputError(
            f"{path} ({codec}, {pixels}) does not play in every browser: convert it to .mp4 (H.264, yuv420p) or .webm."
        )
    if not sound:
        raise InputError(f"{path} has no sound, so its lips cannot be compared with it: add the speech to it.")
    return duration / 1e6


@dataclass(frozen=True)
class Answer:
    """One row of the answers."""

    study: str
    participant: str
    """8 hexadecimal digits, drawn by the browser."""
    seed: int
    """Seed of the participant's order of groups and clips."""
    group: int
    order: str
    """Codes of the clips from left to right."""
    question: str
    choice: str
    """A code, or "none"."""
    seconds: float

    @classmethod
    def of(cls, row: Mapping[str, Any], study: Study) -> "Answer":
        """Parse and check a row of answers.

        Raises:
            ValueError: with a short description of the error.
        """
        if set(row) != set(COLUMNS):
            raise ValueError(f"the columns are not {', '.join(COLUMNS)}")
        try:
            seed = int(row["seed"])
            group = int(row["group"])
            seconds = float(row["seconds"])
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError("seed, group or seconds is no number") from error
        text = {name: str(row[name]) for name in ("study", "participant", "order", "question", "choice")}
        answer = cls(**text, seed=seed, group=group, seconds=seconds)
        if answer.study != study.id:
            raise ValueError("it is of another study")
        if not _PARTICIPANT.fullmatch(answer.participant):
            raise ValueError("the participant is not 8 hexadecimal digits")
        if not 0 <= seed < 2**32 or not 0 <= group < len(study.groups) or not 0 <= seconds < 1e6:
            raise ValueError("seed, group or seconds is out of range")
        if sorted(answer.order.split(" ")) != sorted(study.groups[group]):
            raise ValueError("the order does not hold the group's clips once each")
        if answer.question not in {question["id"] for question in QUESTIONS}:
            raise ValueError("there is no such question")
        if answer.choice != NONE and answer.choice not in study.groups[group]:
            raise ValueError("the choice is no clip of the group")
        return answer


COLUMNS = tuple(entry.name for entry in fields(Answer))
"""Columns of the file of answers."""
