"""Further clips of the same person (laughing, angry, ...), beside the main one: ``expressions/NAME`` in its folder.

Each is made by the steps of the main clip, without sound, and measured against the person of the main clip: poses in
the subject's head frame (face shape and focal length held fixed), action units from the main clip's rest, valence and
arousal less what the estimator reads in the main clip (of a clip named after an emotion: at its place, as far as it is
shown), colours by the main clip's skin.
"""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from emotalking.data import Subject
from emotalking.data.files import SubjectFiles
from emotalking.data.readers import read_json
from emotalking.emotion.circumplex import emotion_in
from emotalking.errors import InputError
from emotalking.networks.registry import sha256_of
from emotalking.ops.devices import choose_device
from emotalking.preprocess.check.clip import check_clip
from emotalking.preprocess.check.verdict import Footage
from emotalking.preprocess.config import PrepareConfig
from emotalking.preprocess.identity import Faces, compare
from emotalking.preprocess.job import Job
from emotalking.preprocess.person import Person
from emotalking.preprocess.prepare import prepare, run_job

_logger = logging.getLogger("emotalking.preprocess")


def prepare_with(
    clip: str | Path, out: str | Path, expressions: Sequence[str | Path], config: PrepareConfig
) -> Subject:
    """:func:`~emotalking.preprocess.prepare.prepare`, then the clips of expressions, each unless it is finished.

    A finished folder of the same clip is kept as it is, whatever the options: they are then those of the expressions.

    Args:
        clip: the main clip.
        out: the folder.
        expressions: further clips of the same person, with or without sound; a name is the file's without its ending.
        config: options; size, part, length, sound and action units are of the main clip alone.

    Raises:
        InputError: as for the main clip; a clip of expressions shows another person (unless ``config.force``), or has
            the name of another one.
    """
    folders = _folders(Path(out), [Path(path) for path in expressions])
    if _finished(Path(clip), Path(out)):
        _logger.info("note: %s is finished and kept as it is", out)
        subject = Subject.open(out)
    else:
        subject = prepare(clip, out, config)
    person, faces = Person.of(subject), Faces.of_subject(subject)
    normals = config.normals if subject.files.normals(0).parent.is_dir() else "none"
    settings = replace(
        config,
        size=None,
        seconds=None,
        part=None,
        fps=str(subject.fps),
        audio_offset="none",
        action_units=None,
        audio_track=None,
        normals=normals,
        device=str(choose_device(config.device)),
    )
    for path, folder in folders.items():
        likeness = compare(faces, Faces.of_clip(path, config.turn))
        if likeness.stranger and not config.force:
            raise InputError(f"{path}: {likeness.doubt}; give clips of one person, or continue with the option force.")
        if likeness.doubt:
            _logger.info("note: %s: %s", path.name, likeness.doubt)
        if emotion_in(path.stem) is None:
            _logger.info("note: %s: its emotion is read from the face; a name as angry.mp4 would tell it", path.name)
        begun = folder.exists()
        try:
            job = Job(path, folder, settings, person)
            job.manifest["identity"] = likeness.facts
            run_job(job)
        except InputError:
            if not begun:  # nothing of a clip that cannot be used
                shutil.rmtree(folder, ignore_errors=True)
            raise
    return subject


def check_with(
    clip: str | Path, expressions: Sequence[str | Path], *, turn: int = 0, audio_track: int | None = None
) -> Footage:
    """:func:`~emotalking.preprocess.check.clip.check_clip` of the main clip, and of clips of the same person.

    Those need neither sound nor length beyond two seconds; one of another person is unusable.

    Raises:
        InputError: a video cannot be read.
    """
    for path in expressions:
        if not Path(path).is_file():
            raise InputError(f"{path}: there is no such file.")
    footage, faces = check_clip(clip, turn=turn, audio_track=audio_track), Faces.of_clip(clip, turn)
    found = []
    for path in expressions:
        one = check_clip(path, turn=turn, spoken=False)
        likeness = compare(faces, Faces.of_clip(path, turn))
        if likeness.stranger:
            one = replace(one, verdict="unusable", reasons=(*one.reasons, likeness.doubt))
        elif likeness.doubt:
            verdict = "usable" if one.verdict == "good" else one.verdict
            one = replace(one, verdict=verdict, warnings=(*one.warnings, likeness.doubt))
        found.append(one)
    return replace(footage, expressions=tuple(found))


def _folders(out: Path, clips: Sequence[Path]) -> dict[Path, Path]:
    """The folder of each clip.

    Raises:
        InputError: a clip is missing, or its name is taken.
    """
    found: dict[Path, Path] = {}
    for clip in clips:
        folder = SubjectFiles(out).expression(clip.stem).root
        if not clip.is_file():
            raise InputError(f"{clip}: there is no such file.")
        if folder.name.casefold() in {other.name.casefold() for other in found.values()}:
            raise InputError(f"two clips of expressions are called {clip.stem}: rename one of them.")
        manifest = folder / "subject.json"
        old = read_json(manifest).get("clip") if manifest.exists() else None
        if isinstance(old, dict) and old.get("sha256") != sha256_of(clip):
            raise InputError(f"{folder} was made from another clip: rename {clip.name}, or remove that folder.")
        found[clip] = folder
    return found


def _finished(clip: Path, out: Path) -> bool:
    """True for a whole folder that was made from ``clip``."""
    if not clip.is_file() or not (out / "subject.json").exists():
        return False
    manifest = read_json(out / "subject.json")
    made_from = manifest.get("clip")
    whole = "frames" in manifest and all((out / f"transforms_{split}.json").exists() for split in ("train", "val"))
    return whole and isinstance(made_from, dict) and made_from.get("sha256") == sha256_of(clip)
