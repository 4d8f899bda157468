"""Complete a folder that TalkingGaussian's or ER-NeRF's scripts made, so that everything here works on it.

Kept as they are: its cameras, audio features, action units, images and masks. Added: 478 landmarks tracked with a
face shape in *its* head frame (the emotional targets need it), normals, valence and arousal, our own audio features (so
that the avatar can speak any audio), and the record. No file of the original folder is ever written to.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from jaxtyping import Bool, Float, UInt8
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

import emotalking
from emotalking.audio.features import write_features
from emotalking.data import Subject
from emotalking.data import writer as write
from emotalking.data.audio_features import DEFAULT_FEATURE
from emotalking.data.files import SubjectFiles
from emotalking.data.findings import colours_of, present
from emotalking.data.labels import Label
from emotalking.data.layouts import MODEL_AUS, FaceLayout
from emotalking.data.readers import read_intensities, read_json, read_subject_image, read_table
from emotalking.emotion.estimator import ActionUnitEmotion
from emotalking.errors import InputError, NoFaceError
from emotalking.io.audio import load_audio
from emotalking.io.reading import reading
from emotalking.io.torch_files import read_torch
from emotalking.preprocess import action_units as aus
from emotalking.preprocess.landmarks import open_provider
from emotalking.preprocess.masks import make_masks, spread
from emotalking.preprocess.normals import make_normals
from emotalking.preprocess.pose import rigid
from emotalking.preprocess.pose.track import project
from emotalking.preprocess.smoothing import steady
from emotalking.preprocess.tracking import check_faces, track_landmarks
from emotalking.progress import track

RATES = tuple(Fraction(rate) for rate in ("25", "30", "24", "50", "60", "30000/1001", "24000/1001"))
"""Rates that the length of the sound may point to, the layout's own first."""
UNIT = 10.0
"""The published tracker counts in units ten times smaller than the cameras of the layout (docs/paper.md 1.1)."""
_FRAMES = 60
"""Frames, spread over the clip, on which the shape is fitted into the tracker's head frame."""
_SPREADS = np.array([0.1, *[0.3] * 3, *[0.03] * 3])
"""Standard deviations of log scale, rotation vector and place: they decide only what the views do not determine."""


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
    ours, theirs = place.background, source.background
    if place.root.exists() and any(place.root.iterdir()):
        if not (ours.exists() and theirs.exists() and ours.resolve() == theirs.resolve()):
            raise InputError(f"{place.root} holds other files: give a new folder.")
    place.root.mkdir(parents=True, exist_ok=True)
    left_out = {*stale, *({"teeth_mask"} if "parsing" in stale else ())}
    for entry in sorted(source.root.iterdir()):
        target = place.root / entry.name
        if not (entry.name in left_out or target.exists() or target.is_symlink()):
            _link_or_copy(entry.resolve(), target)


def _link_or_copy(source: str | Path, target: Path) -> None:
    """Make ``target`` the same as ``source``: absolute, or relative to the folder of ``target``."""
    try:
        target.symlink_to(source)
    except OSError:
        whole = target.parent / source
        shutil.copytree(whole, target) if whole.is_dir() else shutil.copy2(whole, target)


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
        self._record()
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
        self._record()

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

    def _record(self) -> None:
        """``subject.json``: where the folder has none, the frame rate follows from the sound's length."""
        files = self.files
        old: dict[str, Any] = read_json(files.manifest) if files.manifest.exists() else {}
        if old and not self.providers:
            return
        if not old:
            old = {"fps": str(self._rate()), "emotalking": emotalking.__version__, "imported": True}
            self.made["subject.json"] = f"{old['fps']} frames/s"
        write.write_manifest(files.root, old | {"providers": {**old.get("providers", {}), **self.providers}})

    def _rate(self) -> Fraction:
        count = sum(len(read_json(self.files.transforms(split)).get("frames", [])) for split in ("train", "val"))
        try:
            seconds = soundfile.info(self.files.audio).duration
        except soundfile.LibsndfileError:
            return RATES[0]
        return next((rate for rate in RATES if abs(count / rate - seconds) < max(0.5, 0.015 * seconds)), RATES[0])

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
        original = read_intensities(self.source.action_units) if self.source.action_units.exists() else {}
        kept = {name: row[: len(track.points)] for name, row in original.items() if len(row) >= len(track.points)}
        write.write_action_units(self.files.root, {**values, **kept}, subject.fps, track.detected)
        self.providers["action units"] = "landmarks"
        return f"{', '.join(name for name in values if name not in kept)} measured from the landmarks"

    def _emotion(self) -> str:
        estimator, count = ActionUnitEmotion(), self.subject.num_frames
        units = {name: row[:count] for name, row in read_intensities(self.files.action_units).items()}
        write.write_valence_arousal(self.files.root, estimator.estimate(units, float(self.subject.fps)))
        self.providers["emotion"] = estimator.name
        return estimator.name

    def _normals(self) -> str:
        layout = self.subject.landmarks.layout
        facts = make_normals(self.files, self.head, self.shape, self.views, self.subject.focal, layout)
        self.providers["normals"] = facts["provider"]
        return f"provider {facts['provider']}"

    def _features(self) -> str | None:
        files, subject = self.files, self.subject
        if not files.audio.exists():
            return None
        write_features(files.audio_features(), files.audio, DEFAULT_FEATURE, subject.num_frames, subject.fps)
        return files.audio.name

    def _names(self) -> None:
        """Both names of the audio features: ER-NeRF opens ``aud.npy`` where TalkingGaussian opens ``aud_ds.npy``."""
        files, plain = self.files, self.files.unnamed_audio_features
        if plain.exists():
            feature = self.subject.unnamed_feature()
            pair = None if feature is None else (plain, files.audio_features(feature.name))
        else:
            pair = (files.audio_features("ds"), plain)
        if pair is not None and pair[0].exists() and not pair[1].exists():
            _link_or_copy(pair[0].name, pair[1])
            self.made[pair[1].name] = f"the same as {pair[0].name}"


def read_tracker_cameras(path: Path) -> tuple[Float[np.ndarray, "N 4 4"], float]:
    """World-to-camera matrices (OpenCV axes) and focal length (px) of a BFM tracker's ``track_params.pt``.

    Source: docs/paper.md 1 and 1.1: R = Rx(a) Ry(b) Rz(c), of which Rx and Ry are the transposes of the usual ones; the
    camera looks down -z; the translation is divided by ten.

    Raises:
        InputError: if the file is missing or holds something else (none of its content can run code).
    """
    with reading(path, "holds no tracked euler, trans and focal as plain tensors", "track the clip again"):
        content = read_torch(path)
        euler = np.asarray(content["euler"], np.float64).reshape(-1, 3)
        moved = np.asarray(content["trans"], np.float64).reshape(len(euler), 3) / UNIT
        focal = float(np.asarray(content["focal"]).reshape(-1)[0])
    if not len(euler) or not np.isfinite(euler).all() or not np.isfinite(moved).all() or not 0 < focal < np.inf:
        raise InputError(f"{path} holds a camera that is not finite or no positive focal length: track the clip again.")
    a, b, c = euler.T
    rotation = (
        Rotation.from_rotvec(np.outer(-a, [1, 0, 0]))
        * Rotation.from_rotvec(np.outer(-b, [0, 1, 0]))
        * Rotation.from_rotvec(np.outer(c, [0, 0, 1]))
    )
    views = np.tile(np.eye(4), (len(euler), 1, 1))
    views[:, :3, :3], views[:, :3, 3] = rotation.as_matrix(), moved
    return np.diag([1.0, -1.0, -1.0, 1.0]) @ views, focal


@dataclass(frozen=True)
class FittedShape:
    """A face shape under given cameras."""

    shape: Float[np.ndarray, "K 3"]
    """Neutral landmarks in the cameras' head frame."""
    scale: float
    """Size against a head whose eyes are 0.063 apart."""
    reprojection_px: float
    """Root mean square over the rigid points."""


def shape_under(
    points: Float[np.ndarray, "N K 2"],
    depth: Float[np.ndarray, "N K"],
    detected: Bool[np.ndarray, " N"],
    viewmats: Float[np.ndarray, "N 4 4"],
    focal: float,
    size: tuple[int, int],
    layout: FaceLayout,
) -> FittedShape:
    """The neutral landmark shape that given cameras see: the cameras stay as they are.

    The detector's own 3-D shape is moved into the cameras' head frame as a whole (scale, rotation, place; robust least
    squares on the rigid points), then every point is triangulated with that as its prior.

    Args:
        points: landmarks in pixels; NaN where a frame has no face.
        depth: the detector's depth of each point in pixels, smaller is nearer.
        detected: frames with a face.
        viewmats: world-to-camera, OpenCV axes.
        focal: pixels.
        size: image (height, width).
        layout: names the rigid points.

    Raises:
        InputError: if fewer than ten frames show a face.
    """
    if detected.sum() < 10:
        raise NoFaceError(f"only {int(detected.sum())} frames show a face: at least ten are needed for its shape.")
    begin = rigid.start(points, depth, detected, layout, size, focal / size[1])
    index = np.asarray(layout.rigid)
    frames = rigid.spread_over(np.flatnonzero(detected), _FRAMES)
    views, observed = viewmats[frames].astype(np.float64), points[frames][:, index]
    back = np.swapaxes(views[:, :3, :3], 1, 2)
    turn = Rotation.from_matrix(back @ begin.rotations[frames]).mean()
    scale = float(np.median(views[:, 2, 3] / begin.translations[frames, 2]))
    place = np.median(np.einsum("nij,nj->ni", back, scale * begin.translations[frames] - views[:, :3, 3]), 0)

    def placed(state: np.ndarray, shape: np.ndarray) -> np.ndarray:
        rotation = (Rotation.from_rotvec(state[1:4]) * turn).as_matrix()
        return scale * np.exp(state[0]) * shape @ rotation.T + place + state[4:]

    def misses(state: np.ndarray) -> np.ndarray:
        projected = project(placed(state, begin.shape[index]), views, focal, size)
        return np.concatenate([(projected - observed).ravel(), state / _SPREADS])

    state = np.asarray(least_squares(misses, np.zeros(7), loss="soft_l1", f_scale=size[1] / 256).x)
    prior = placed(state, begin.shape)
    spread = 0.004 * scale
    shape = rigid.triangulate(points, detected, viewmats.astype(np.float64), focal, size, prior, spread)
    error = project(shape[index], viewmats[detected].astype(np.float64), focal, size) - points[detected][:, index]
    return FittedShape(shape, scale * float(np.exp(state[0])), float(np.sqrt((error**2).sum(-1).mean())))
