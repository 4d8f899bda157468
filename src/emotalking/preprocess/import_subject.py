"""Complete a folder that TalkingGaussian's or ER-NeRF's scripts made, so that everything here works on it.

Kept as they are: its cameras, audio features, action units, images and masks. Added: 478 landmarks tracked with a
face shape in *its* head frame (the emotional targets need it), normals, valence and arousal, our own audio features (so
that the avatar can speak any audio), and the record. No file of the original folder is ever written to.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from jaxtyping import Float, UInt8

import emotalking
from emotalking.audio.features import write_features
from emotalking.data import Subject
from emotalking.data import writer as write
from emotalking.data.audio_features import DEFAULT_FEATURE
from emotalking.data.files import SubjectFiles
from emotalking.data.findings import colours_of, present
from emotalking.data.labels import Label
from emotalking.data.layouts import MODEL_AUS
from emotalking.data.readers import read_intensities, read_json, read_subject_image, read_table
from emotalking.emotion.estimator import ActionUnitEmotion
from emotalking.errors import InputError
from emotalking.io.audio import load_audio
from emotalking.preprocess import action_units as aus
from emotalking.preprocess.import_geometry import read_tracker_cameras, shape_under
from emotalking.preprocess.landmarks import open_provider
from emotalking.preprocess.layers import make_masks, spread
from emotalking.preprocess.normals import make_normals
from emotalking.preprocess.pose.solver import project
from emotalking.preprocess.smoothing import steady
from emotalking.preprocess.tracking import check_faces, track_landmarks
from emotalking.progress import track

RATES = tuple(Fraction(rate) for rate in ("25", "30", "24", "50", "60", "30000/1001", "24000/1001"))
"""Rates that the length of the sound may point to, the layout's own first."""


@dataclass
class Imported:
    """Result of :func:`import_folder`."""

    subject: Subject
    made: dict[str, str] = field(default_factory=dict)
    """Source of every file or family that was made, by its name."""


def import_folder(folder: str | Path, out: str | Path | None = None, clip: str | Path | None = None) -> Imported:
    """Add what ``folder`` lacks; existing files are neither recomputed nor changed.

    Args:
        folder: made by TalkingGaussian's or ER-NeRF's scripts (cameras or ``track_params.pt``, frames, ``bc.jpg``).
        out: new folder, with links to the files (copies where the system has no links); None: ``folder`` itself.
        clip: the video that the folder was made from, for its sound where ``aud.wav`` is missing.

    Raises:
        InputError: there is no ``folder`` or ``clip``, the folder lacks what cannot be made, ``out`` holds something
            else, or an existing file would have to be replaced and no ``out`` was given.
    """
    source = SubjectFiles(Path(folder))
    if not source.root.is_dir():
        raise InputError(f"There is no folder {source.root}: give one of TalkingGaussian's or ER-NeRF's scripts.")
    if clip is not None and not Path(clip).is_file():
        raise InputError(f"{clip}: there is no such file; give the video that {source.root} was made from.")
    place = source if out is None else SubjectFiles(Path(out))
    stale = _to_replace(source)
    if out is None and stale:
        names = " and ".join(f"{name} ({why})" for name, why in stale.items())
        raise InputError(f"{source.root}: {names} must be recomputed; give a new folder as out.")
    if out is not None:
        _link(source, place, stale)
    work = _Import(source, place, None if clip is None else Path(clip))
    work.run(stale)
    return Imported(Subject.open(place.root), work.made)


def _to_replace(source: SubjectFiles) -> dict[str, str]:
    """Reasons for which training cannot use entries of the folder."""
    stale = {}
    numbers = sorted(present(source.parsing(0)))
    if numbers:
        labels_found: set[Label] = set()
        for at in spread(len(numbers), 24):
            labels_found |= colours_of(read_subject_image(source.parsing(numbers[at])))[1]
        if Label.MOUTH not in labels_found:
            stale["parsing"] = "its masks know no inside of the mouth"
    if source.action_units.exists():
        missing = [f"{name}_r" for name in (*MODEL_AUS, "AU25") if f"{name}_r" not in read_table(source.action_units)]
        if missing:
            stale["au.csv"] = f"it has no column {', '.join(missing)}"
    return stale


def _link(source: SubjectFiles, place: SubjectFiles, stale: dict[str, str]) -> None:
    """``place`` as a folder of links into ``source``; a folder that an earlier import began is taken."""
    if place.root.resolve() == source.root.resolve():
        raise InputError(f"{place.root} is the folder itself: omit out, or give a new folder.")
    own = place.root / "bc.jpg"
    if place.root.exists() and any(place.root.iterdir()):
        if not (own.exists() and source.background.exists() and own.resolve() == source.background.resolve()):
            raise InputError(f"{place.root} holds other files: give a new folder.")
    place.root.mkdir(parents=True, exist_ok=True)
    left_out = {*stale, *({"teeth_mask"} if "parsing" in stale else ())}
    for entry in sorted(source.root.iterdir()):
        target = place.root / entry.name
        if entry.name in left_out or target.exists() or target.is_symlink():
            continue
        _link_or_copy(entry.resolve(), target)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        target.symlink_to(source)
    except OSError:
        shutil.copytree(source, target) if source.is_dir() else shutil.copy2(source, target)


class _Import:
    """One run: a step makes its file where it is missing, and records it."""

    def __init__(self, source: SubjectFiles, files: SubjectFiles, clip: Path | None) -> None:
        self.source = source
        self.files = files
        self.clip = clip
        self.made: dict[str, str] = {}
        self.providers: dict[str, str] = {}

    def run(self, stale: dict[str, str]) -> None:
        files = self.files
        self._cameras()
        self._record({})
        self.subject = Subject.open(files.root)
        self._step(files.audio, self._sound)
        self._step(files.landmarks, self._landmarks)
        self.subject = Subject.open(files.root)
        if "parsing" in stale or not files.parsing(0).exists():
            self._step(files.parsing(self.subject.num_frames - 1), self._masks, "parsing, teeth_mask")
        self._step(files.action_units, self._action_units)
        self._step(files.valence_arousal, self._emotion)
        self._step(files.normals(self.subject.num_frames - 1), self._normals, "normals")
        self._step(files.audio_features(), self._features)
        self._names()
        self._record(self.providers)

    def _step(self, path: Path, make: Callable[[], str | None], name: str | None = None) -> None:
        if not path.exists() and (how := make()) is not None:
            self.made[name or path.name] = how

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return self.subject.height, self.subject.width

    @property
    def views(self) -> Float[np.ndarray, "N 4 4"]:
        """World-to-camera matrices."""
        return self.subject.viewmats.astype(np.float64)

    @property
    def shape(self) -> Float[np.ndarray, "K 3"]:
        """Neutral landmarks in the head frame of the cameras."""
        shape = self.subject.landmarks.shape
        assert shape is not None  # step _landmarks made it
        return shape.astype(np.float64)

    @property
    def head(self) -> Float[np.ndarray, "N K 3"]:
        """Landmarks of every frame in the head frame."""
        points = self.subject.landmarks.points.astype(np.float64)
        return aus.head_points(points, self.views, self.subject.focal, self.shape, self.size)

    def _cameras(self) -> None:
        """``transforms_*.json`` from the tracker's own file where the cameras are missing."""
        files = self.files
        if files.transforms("train").exists() and files.transforms("val").exists():
            return
        tracked = files.root / "track_params.pt"
        if not tracked.exists():
            raise InputError(
                f"{files.root} has neither transforms_train.json and transforms_val.json nor track_params.pt: its "
                "cameras are unknown, so prepare the clip instead."
            )
        views, focal = read_tracker_cameras(tracked)
        height, width = read_subject_image(files.background).shape[:2]
        write.write_transforms(files.root, views, focal, width, height)
        self.made["transforms_*.json"] = "track_params.pt"

    def _record(self, providers: dict[str, str]) -> None:
        """``subject.json``: the folder has none, so the frame rate follows from the sound's length."""
        files = self.files
        old: dict[str, Any] = read_json(files.manifest) if files.manifest.exists() else {}
        if old and not providers:
            return
        if not old:
            old = {"fps": str(self._rate()), "emotalking": emotalking.__version__, "imported": True}
            self.made["subject.json"] = f"{old['fps']} frames/s"
        write.write_manifest(files.root, old | {"providers": {**old.get("providers", {}), **providers}})

    def _rate(self) -> Fraction:
        count = sum(len(read_json(self.files.transforms(split)).get("frames", [])) for split in ("train", "val"))
        try:
            seconds = soundfile.info(self.files.audio).duration
        except soundfile.LibsndfileError:
            return RATES[0]
        fits = [rate for rate in RATES if abs(count / rate - seconds) < max(0.5, 0.015 * seconds)]
        return fits[0] if fits else RATES[0]

    def _sound(self) -> str | None:
        if self.clip is None:
            return None
        samples = load_audio(self.clip)
        wanted = round(self.subject.num_frames * 16000 / self.subject.fps)
        write.write_audio(self.files.root, np.pad(samples[:wanted], (0, max(wanted - len(samples), 0))))
        return self.clip.name

    def _frames(self) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        """As decoded; a folder without ``ori_imgs`` shows the same face in ``gt_imgs``."""
        named = self.files.original if self.files.original(0).exists() else self.files.target
        for index in range(self.subject.num_frames):
            yield read_subject_image(named(index))

    def _landmarks(self) -> str:
        subject = self.subject
        provider = open_provider()
        try:
            found = track_landmarks(track(self._frames(), "landmarks", subject.num_frames), provider)
        finally:
            provider.close()
        check_faces(found.detected, self.files.root, float(subject.fps))
        points, depth = found.points[..., :2], found.points[..., 2]
        fitted = shape_under(points, depth, found.detected, self.views, subject.focal, self.size, provider.layout)
        model = project(fitted.shape, self.views, subject.focal, self.size)
        calm = steady(points, model, provider.layout, fps=float(subject.fps))
        write.write_landmarks(self.files.root, calm, found.detected, fitted.shape, provider.layout)
        self.providers["landmarks"] = found.provider
        return f"{found.provider}; face shape in their cameras: {fitted.reprojection_px:.2f} px, x {fitted.scale:.2f}"

    def _masks(self) -> str:
        track = self.subject.landmarks
        facts = make_masks(self.files, self._frames(), track.points.astype(np.float64), track.layout)
        self.providers["masks"] = facts["provider"]
        return f"provider {facts['provider']}"

    def _action_units(self) -> str:
        subject, track = self.subject, self.subject.landmarks
        values = aus.action_units(self.head, self.views, track.layout, float(subject.fps))
        original = read_table(self.source.action_units) if self.source.action_units.exists() else {}
        kept = {name[:-2]: row[: len(track.points)] for name, row in original.items() if name.endswith("_r")}
        kept = {name: row for name, row in kept.items() if len(row) == len(track.points)}
        write.write_action_units(self.files.root, {**values, **kept}, subject.fps, track.detected)
        self.providers["action units"] = "landmarks"
        return f"{', '.join(name for name in values if name not in kept)} measured from the landmarks"

    def _emotion(self) -> str:
        estimator = ActionUnitEmotion()
        units = read_intensities(self.files.action_units)
        per_frame = {name: values[: self.subject.num_frames] for name, values in units.items()}
        values = estimator.estimate(per_frame, float(self.subject.fps))
        write.write_valence_arousal(self.files.root, values)
        self.providers["emotion"] = estimator.name
        return estimator.name

    def _normals(self) -> str:
        layout = self.subject.landmarks.layout
        facts = make_normals(self.files, self.head, self.shape, self.views, self.subject.focal, layout)
        self.providers["normals"] = facts["provider"]
        return f"provider {facts['provider']}"

    def _features(self) -> str | None:
        if not self.files.audio.exists():
            return None
        path, subject = self.files.audio_features(), self.subject
        write_features(path, self.files.audio, DEFAULT_FEATURE, subject.num_frames, subject.fps)
        return self.files.audio.name

    def _names(self) -> None:
        """Both names of the audio features: ER-NeRF opens ``aud.npy`` where TalkingGaussian opens ``aud_ds.npy``."""
        files, plain = self.files, self.files.unnamed_audio_features
        if plain.exists():
            feature = self.subject.unnamed_feature()
            pair = None if feature is None else (plain, files.audio_features(feature.name))
        else:
            pair = (files.audio_features("ds"), plain)
        if pair is not None and pair[0].exists() and not pair[1].exists():
            try:
                os.symlink(pair[0].name, pair[1])
            except OSError:
                shutil.copy2(pair[0], pair[1])
            self.made[pair[1].name] = f"the same as {pair[0].name}"
