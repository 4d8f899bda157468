"""A blind side-by-side study with the paper's three questions (S11): the page, its clips, and the key to them."""

import base64
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import av.error

from emotalking.errors import UserError
from emotalking.io.files import write_bytes

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

Assumption: the wording is ours; the paper tells only what was asked for.
"""
NONE = "none"
COLUMNS = ("study", "participant", "seed", "group", "order", "question", "choice", "seconds")
"""Of the answers: `order` are the codes of the clips from left to right, `choice` one of them or "none"."""
KEY, PAGE, CLIPS, ANSWERS = "key.json", "page", "clips", "answers.csv"
FORMAT, VERSION = "emotalking-study", 1

_PLAYABLE = {".mp4": ("h264", "av1"), ".webm": ("vp8", "vp9", "av1")}
"""What every current browser plays."""
_PIXELS = ("yuv420p", "yuvj420p")
SAME_LENGTH_S = 0.2
"""Clips of a group may differ so much in length."""
EMBED_LIMIT = 200 << 20
"""Bytes of clips in one page; browsers give up far above it."""


@dataclass(frozen=True)
class Study:
    """A study as its key file holds it: what nobody who answers may see."""

    id: str
    title: str
    groups: tuple[dict[str, str], ...]
    """For each group of clips: code to system."""
    emotions: tuple[str, ...]
    """The emotion that each group should show; "" where it was not told."""

    @property
    def systems(self) -> tuple[str, ...]:
        """Names, in the order they were given."""
        return tuple(dict.fromkeys(name for group in self.groups for name in group.values()))

    @classmethod
    def read(cls, path: Path) -> "Study":
        """Read a key file.

        Raises:
            UserError: it is missing or no key file.
        """
        try:
            data = json.loads(path.read_text("utf-8"))
        except OSError as error:
            raise UserError(
                f"{path} cannot be read ({error.strerror}): give the folder that 'emotalking study' made."
            ) from error
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} is not whole JSON: copy the study's folder again.") from error
        try:
            if data["format"] != FORMAT or data["version"] != VERSION:
                raise ValueError("another format or version")
            groups = tuple({str(code): str(name) for code, name in group.items()} for group in data["groups"])
            return cls(str(data["id"]), str(data["title"]), groups, tuple(map(str, data["emotions"])))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{path} is no key file of a study ({error}): copy the study's folder again.") from error


def make_study(
    clips: Mapping[str, Sequence[Path]],
    folder: Path,
    *,
    emotions: Sequence[str] = (),
    title: str = "Which video is better?",
    embed: bool = False,
) -> Study:
    """Write ``page/index.html`` with the clips beside it (or inside it) and ``key.json``.

    The page and the names of the clips do not tell which system made what: only the key does, so hand out the folder
    ``page`` alone.

    Args:
        clips: system to its clips; the first clips of all systems are one group, shown side by side, and so on.
        folder: made; must not hold a study yet.
        emotions: what each group should show, in words; empty: not told.
        title: heading of the page.
        embed: put the clips into the page, which is then one file.

    Raises:
        UserError: fewer than two systems, different numbers of clips, one that a browser cannot play, without sound, or
            longer than the others of its group; a folder that is in use.
    """
    groups = _groups(clips)
    if emotions and len(emotions) != len(groups):
        raise UserError(
            f"there are {len(groups)} groups of clips and {len(emotions)} emotions: give one for each group."
        )
    seconds = [{name: _checked(path) for name, path in group.items()} for group in groups]
    for number, lengths in enumerate(seconds):
        if max(lengths.values()) - min(lengths.values()) > SAME_LENGTH_S:
            told = ", ".join(f"{name} {length:.1f} s" for name, length in lengths.items())
            raise UserError(f"the clips of group {number + 1} differ in length ({told}): cut them to the same.")
    if (folder / KEY).exists():
        raise UserError(f"{folder} holds a study already: choose another folder, or remove that one.")
    study_id = secrets.token_hex(4)
    coded = [{secrets.token_hex(4): name for name in group} for group in groups]
    files, embedded = {}, {}
    for group, codes in zip(groups, coded, strict=True):
        for code, name in codes.items():
            data, suffix = group[name].read_bytes(), group[name].suffix.lower()
            files[code] = f"{code}{suffix}"
            if embed:
                embedded[code] = f"data:video/{suffix[1:]};base64,{base64.b64encode(data).decode()}"
            else:
                write_bytes(folder / PAGE / CLIPS / files[code], data)
    if sum(map(len, embedded.values())) > EMBED_LIMIT:
        raise UserError(f"the clips are too large for one page ({EMBED_LIMIT >> 20} MB): leave --embed out.")
    told = tuple(emotions) or ("",) * len(groups)
    study = Study(study_id, title, tuple(coded), told)
    write_bytes(folder / PAGE / "index.html", page(study, files, embedded).encode())
    key = {
        "format": FORMAT,
        "version": VERSION,
        "id": study_id,
        "title": title,
        "groups": coded,
        "emotions": list(told),
    }
    key["clips"] = [{name: path.name for name, path in group.items()} for group in groups]
    write_bytes(folder / KEY, (json.dumps(key, indent=1) + "\n").encode())
    return study


def page(study: Study, files: Mapping[str, str], embedded: Mapping[str, str]) -> str:
    """The page, which knows codes and no systems.

    Args:
        files: code to file name in ``clips``.
        embedded: code to the clip as a data address; empty: they are files.
    """
    # Sorted codes: the order in which the systems were given must not show.
    groups = [{"clips": sorted(g), "emotion": e} for g, e in zip(study.groups, study.emotions, strict=True)]
    facts: dict[str, Any] = {"id": study.id, "title": study.title, "questions": QUESTIONS, "columns": COLUMNS}
    facts |= {"groups": groups, "files": dict(sorted(files.items())), "embedded": dict(sorted(embedded.items()))}
    template = Path(__file__).with_suffix(".html").read_text("utf-8")
    return template.replace("__STUDY__", json.dumps(facts).replace("<", "\\u003c"))


def _groups(clips: Mapping[str, Sequence[Path]]) -> list[dict[str, Path]]:
    if len(clips) < 2:
        raise UserError("a study compares at least two systems: give A=video.mp4 B=video.mp4.")
    if any(name.strip().lower() == NONE for name in clips):
        raise UserError(f"a system cannot be called '{NONE}', which is an answer: give it another name.")
    counts = {name: len(paths) for name, paths in clips.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise UserError(
            f"the systems have different numbers of clips ({told}): give as many of each, in the same order."
        )
    return [{name: paths[at] for name, paths in clips.items()} for at in range(next(iter(counts.values())))]


def _checked(path: Path) -> float:
    """Seconds of a clip that a browser plays, with sound."""
    if not path.is_file():
        raise UserError(f"{path}: there is no such file.")
    known = _PLAYABLE.get(path.suffix.lower())
    try:
        with av.open(str(path)) as container:
            video, sound = container.streams.video, container.streams.audio
            if not video:
                raise UserError(f"{path} has no video stream; give a clip that shows the person.")
            codec, pixels = video[0].codec_context.name, video[0].codec_context.pix_fmt
            seconds = None if container.duration is None else container.duration / 1e6
            heard = bool(sound)
    except av.error.FFmpegError as error:
        raise UserError(f"{path} is not a video that can be read ({error.strerror}).") from error
    # PyAV names a decoder by its library where there is one (libdav1d, libvpx-vp9).
    plays = known is not None and any(name in codec.replace("dav1d", "av1") for name in known)
    if not plays or pixels not in _PIXELS or seconds is None:
        raise UserError(
            f"{path} ({codec}, {pixels}) does not play in every browser: convert it to .mp4 (H.264, yuv420p) or .webm."
        )
    if not heard:
        raise UserError(f"{path} has no sound, so nobody can model its lips: add the speech to it.")
    return seconds
