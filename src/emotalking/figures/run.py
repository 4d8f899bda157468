"""Draw an avatar's figures into a folder, with a page about them; what is there and whole is kept."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from emotalking.data import Subject
from emotalking.errors import InputError
from emotalking.evaluate.held_out import check_pair
from emotalking.evaluate.provenance import code, facts_sha256, file_sha256, source_sha256, split
from emotalking.evaluate.results import make_folder, write_json
from emotalking.evaluate.systems import System, open_system
from emotalking.figures import motion, stills
from emotalking.figures.config import FIGURES, FigureName, FiguresConfig
from emotalking.figures.material import Material, Output
from emotalking.io.reading import parse_json, read_text, reading
from emotalking.models.avatar import Avatar
from emotalking.options import Provenance
from emotalking.progress import bar, doing
from emotalking.provenance.consent import remind
from emotalking.report import Page

FORMAT = "emotalking-figures"
RECORD = "figures.json"
INDEX = "index.html"


@dataclass(frozen=True)
class Figures:
    """Outcome of drawing figures."""

    page: Path
    """The page about all of them."""
    drawn: tuple[FigureName, ...]
    kept: tuple[FigureName, ...]
    """Those that were there and whole."""
    left_out: dict[FigureName, str]
    """Those that could not be drawn, and why."""


@dataclass(frozen=True)
class Figure:
    """One figure of the list."""

    title: str
    files: tuple[str, ...]
    draw: Callable[[Material, Output], str]
    """Writes the files and returns the caption."""
    steps: Callable[[Material], int]
    """Frames that are rendered for it."""
    recorded: bool = False
    """It shows recorded footage too."""
    missing: Callable[[Material], str | None] = lambda material: None
    """Why it cannot be drawn."""


def _without_emotion(material: Material) -> str | None:
    return None if material.avatar.emotional else "the avatar was trained without its emotion stage"


def _without_speech(material: Material) -> str | None:
    if material.config.audio is None and not material.subject.files.audio.exists():
        return f"{material.subject.files.audio} is missing: give audio"
    return _without_emotion(material)


def _without_normals(material: Material) -> str | None:
    given = material.subject.files.normals(0).parent.is_dir()
    return None if given else "the subject folder has no normal maps"


def _still_steps(material: Material) -> int:
    return len(material.frames)


_LIST: dict[FigureName, Figure] = {
    "attention": Figure("Attention", ("attention.png",), stills.attention, _still_steps),
    "normals": Figure("Normals", ("normals.png",), stills.normals, _still_steps, True, _without_normals),
    "layers": Figure("Masks and layers", ("layers.png",), stills.layers, _still_steps, True),
    "interpolation": Figure(
        "Valence and arousal",
        ("interpolation.png",),
        stills.interpolation,
        lambda material: stills.GRID**2,
        missing=_without_emotion,
    ),
    "sweep": Figure(
        "Around the circle",
        ("sweep.png", "sweep.mp4"),
        motion.sweep,
        motion.sweep_frames,
        missing=_without_emotion,
    ),
    "transitions": Figure(
        "Emotions during speech",
        ("transitions.png", "transitions.mp4"),
        motion.transitions,
        lambda material: material.num_frames,
        missing=_without_speech,
    ),
    "comparison": Figure(
        "Comparison",
        ("comparison.png", "comparison_faces.png"),
        stills.comparison,
        _still_steps,
        True,
        lambda material: None if material.systems else "no other system's frames were given",
    ),
}


def draw_figures(
    avatar_file: Path,
    subject_folder: Path,
    folder: Path,
    config: FiguresConfig,
    device: torch.device,
    provenance: Provenance = "on",
) -> Figures:
    """Draw the figures of ``config.only`` that are not there yet, and write the page.

    Raises:
        InputError: avatar and subject do not belong together (:func:`~emotalking.evaluate.held_out.check_pair`), or a
            system, the speech or the folder cannot be used.
    """
    make_folder(folder)
    with doing("reading avatar and subject"):
        avatar, subject = Avatar.load(avatar_file, device), Subject.open(subject_folder)
    check_pair(avatar, subject)
    remind(avatar.metadata)
    with bar() as progress:
        task = progress.add_task("figures", total=None, note="opening")
        systems = _systems(config, subject, device)
        material = Material(avatar, subject, config, systems, lambda: progress.advance(task))
        keys = _keys(material, provenance)
        record = _read_record(folder)
        whole: list[FigureName] = [name for name in FIGURES if _is_whole(name, record.get(name), keys[name], folder)]
        due: list[FigureName] = [name for name in FIGURES if name in config.only and name not in whole]
        reasons: dict[FigureName, str | None] = {name: _LIST[name].missing(material) for name in due}
        left_out: dict[FigureName, str] = {name: why for name, why in reasons.items() if why is not None}
        due = [name for name in due if name not in left_out]
        _write_record(folder, record)  # by which an interrupted run's folder is known
        progress.update(task, total=sum(_LIST[name].steps(material) for name in due))
        for name in due:
            figure = _LIST[name]
            progress.update(task, note=name)
            caption = figure.draw(material, Output(folder, avatar, figure.recorded, provenance))
            sums = {file: file_sha256(folder / file) for file in figure.files}
            record[name] = {"key": keys[name], "files": sums, "caption": caption}
            _write_record(folder, record)
    shown: dict[FigureName, str] = {name: record[name]["caption"] for name in FIGURES if name in whole or name in due}
    _write_page(material, shown, left_out, folder)
    kept: list[FigureName] = [name for name in whole if name in config.only]
    return Figures(folder / INDEX, tuple(due), tuple(kept), left_out)


def _systems(config: FiguresConfig, subject: Subject, device: torch.device) -> tuple[System, ...]:
    unknown = next((name for name in config.start if name and name not in config.against), None)
    if unknown is not None:
        raise InputError(f"start: '{unknown}' is no system here; there are {', '.join(config.against) or 'none'}.")
    start = config.start
    return tuple(
        open_system(name, str(path), subject, device, start.get(name, start.get("")))
        for name, path in config.against.items()
    )


def _keys(material: Material, provenance: Provenance) -> dict[FigureName, str]:
    """Fingerprint of everything that each figure depends on."""
    config, subject = material.config, material.subject
    facts: dict[str, Any] = {
        "source": source_sha256(),
        "avatar": material.avatar.sha256,
        "held_out": split(subject, subject.val_indices),
        "provenance": provenance,
        "frames": config.frames,
    }
    of_videos = {"seconds": config.seconds}
    sound = Path(config.audio) if config.audio is not None else subject.files.audio
    of_speech = of_videos | {"audio": file_sha256(sound) if sound.is_file() else None}
    of_systems = {"start": dict(config.start), "against": {name: _state(path) for name, path in config.against.items()}}
    more: dict[str, Mapping[str, Any]] = {"sweep": of_videos, "transitions": of_speech, "comparison": of_systems}
    return {name: facts_sha256(facts | {"figure": name, **more.get(name, {})}) for name in FIGURES}


def _state(path: object) -> list[object]:
    """What tells whether a system's file or folder has changed: names, sizes and times of change."""
    root = Path(str(path))
    files = [root] if root.is_file() else sorted(one for one in root.rglob("*") if one.is_file())
    return [str(root), *([str(one), one.stat().st_size, one.stat().st_mtime_ns] for one in files)]


def _read_record(folder: Path) -> dict[str, Any]:
    """Figures of an earlier run by name; none where the record is damaged."""
    path = folder / RECORD
    if not path.is_file():
        return {}
    try:
        with reading(path, "is no record of figures", "remove it"):
            figures = parse_json(read_text(path), dict)["figures"]
            return {name: figures[name] for name in FIGURES if isinstance(figures.get(name), dict)}
    except InputError:
        return {}


def _write_record(folder: Path, record: Mapping[str, Any]) -> None:
    write_json(folder / RECORD, {"format": FORMAT, "version": 1, "code": code(), "figures": record})


def _is_whole(name: FigureName, entry: Any, key: str, folder: Path) -> bool:
    """True if a figure was drawn of the same, and its files are as they were written."""
    if not isinstance(entry, dict) or entry.get("key") != key or not isinstance(entry.get("caption"), str):
        return False
    there = {file: file_sha256(folder / file) for file in _LIST[name].files if (folder / file).is_file()}
    return entry.get("files") == there and len(there) == len(_LIST[name].files)


def _write_page(
    material: Material, captions: Mapping[FigureName, str], left_out: Mapping[FigureName, str], folder: Path
) -> None:
    """Write the page: every figure with its caption, and why some are missing."""
    avatar, subject = material.avatar.file, material.subject.files.root.resolve()
    page = Page(f"Figures of {subject.name}", f"avatar {'' if avatar is None else avatar.name}, subject {subject.name}")
    for name, caption in captions.items():
        page.heading(_LIST[name].title)
        page.text(caption)
        for file in _LIST[name].files:
            if file.endswith(".mp4"):
                page.video(Path(file), f"{_LIST[name].title}: {file}")
            else:
                page.image(folder / file, file)
    if left_out:
        page.heading("Left out")
        for name, why in left_out.items():
            page.text(f"{_LIST[name].title}: {why}.")
    page.write(folder / INDEX)
