"""From a clip to a subject folder (paper-spec sections 1 and 2): the whole capture, step by step, resumable.

Every step leaves files and a record in ``subject.json``: what ran, with which settings, how long. A second run skips
what is finished; cameras are written last, so that a half-made folder is never taken for a subject.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

import emotalking
from emotalking.capture import action_units as aus
from emotalking.capture.landmarks import (
    RawTrack,
    bridge,
    check_faces,
    find_framing,
    open_provider,
    steady,
    track_landmarks,
)
from emotalking.capture.layers import draw_layers, make_background, make_masks
from emotalking.capture.mediapipe_layout import MEDIAPIPE_LAYOUT
from emotalking.capture.pose import PoseConfig, PoseTrack, project, solve_pose
from emotalking.capture.steps import Steps, digest, file_hash
from emotalking.capture.store import load_pose, load_track, save_pose, save_track
from emotalking.capture.video import SHORTEST_S, ClipInfo, Framing, probe, read_frames
from emotalking.emotion.estimator import LandmarkEmotion
from emotalking.errors import UserError
from emotalking.progress import track
from emotalking.speech.audio import load_audio
from emotalking.speech.features import audio_features
from emotalking.subject import Subject, write
from emotalking.subject.files import SubjectFiles
from emotalking.subject.tables import read_json

FPS = 25
"""Rate of every subject: the networks' audio windows are counted in frames of 40 ms (paper-spec 0)."""


@dataclass(frozen=True)
class PrepareConfig:
    """What a person may choose."""

    size: int | None = None
    """Side of the square frames in pixels; None: 512, or the clip's own where it is smaller."""
    limit_seconds: float | int | None = None
    """Use only the beginning of the clip."""
    task_model: str | None = None
    """A MediaPipe ``.task`` file for the landmarks; None: the embedded face mesh."""
    action_units: str | None = None
    """A CSV that OpenFace wrote for the clip at 25 frames a second; None: from the landmarks."""
    pose: PoseConfig = PoseConfig()


def prepare(
    clip: str | Path,
    out: str | Path,
    *,
    size: int | None = None,
    limit_seconds: float | int | None = None,
    task_model: str | Path | None = None,
    action_units: str | Path | None = None,
    pose: PoseConfig = PoseConfig(),  # noqa: B008 (frozen)
) -> Subject:
    """Make the subject folder ``out`` of ``clip``; a folder that an earlier run began is finished.

    Args:
        clip: one person talking to the camera, two seconds or longer, with sound.
        out: folder, new or made by an earlier run from the same clip.
        size: side of the square frames in pixels; None: 512, or the clip's own where it is smaller.
        limit_seconds: use only the beginning; None: all.
        task_model: MediaPipe ``.task`` file for the landmarks; None: the embedded face mesh.
        action_units: CSV of OpenFace for the clip at 25 frames a second; None: measured from the landmarks.
        pose: weights of the pose solver.

    Raises:
        UserError: if the clip cannot be used (no video, no sound, cut short, no face, two faces, too short), or if
            ``out`` holds something else.
    """
    model, table = (None if path is None else str(path) for path in (task_model, action_units))
    config = PrepareConfig(size, limit_seconds, model, table, pose)
    capture = _Capture(Path(clip), Path(out), config)
    capture.run()
    return Subject.open(out)


class _Capture:
    """One run of the pipeline."""

    def __init__(self, clip: Path, out: Path, config: PrepareConfig) -> None:
        self.clip, self.files, self.config = clip, SubjectFiles(out), config
        self.info = _checked(clip, config)
        self.work = out / ".capture"
        self.layout = MEDIAPIPE_LAYOUT
        clip_hash = file_hash(clip)
        old = _earlier(self.files, clip, clip_hash)
        self.manifest: dict[str, Any] = {
            "fps": str(Fraction(FPS)),
            "emotalking": emotalking.__version__,
            "clip": {"name": clip.name, "sha256": clip_hash},
            "steps": old.get("steps", {}),
        }
        key = digest([clip_hash, emotalking.__version__, FPS, config.limit_seconds])
        self.steps = Steps(out, self.manifest, key)
        self.framing: Framing | None = None
        self.count = 0

    def run(self) -> None:
        """All steps in order."""
        done = self.steps.run
        done("framing", self.config.size, lambda: True, self._frame)
        self.framing = Framing(**self.steps.facts("framing")["square"])
        self.size = (self.framing.size, self.framing.size)
        done("landmarks", self.config.task_model, self._has_landmarks, self._find_landmarks)
        self.count = int(self.steps.facts("landmarks")["frames"])
        done("audio", None, self.files.audio.exists, self._write_audio)
        done("pose", asdict(self.config.pose), self._has_pose, self._solve_pose)
        done("masks", None, lambda: self._last_there(self.files.parsing, self.files.teeth), self._write_masks)
        done("background", None, self.files.background.exists, self._write_background)
        done("layers", None, lambda: self._last_there(self.files.target, self.files.torso), self._write_layers)
        source = None if self.config.action_units is None else file_hash(Path(self.config.action_units))
        done("action units", source, self.files.action_units.exists, self._write_action_units)
        done("emotion", None, self.files.valence_arousal.exists, self._write_emotion)
        done("audio features", "mel", self.files.audio_features("mel").exists, self._write_features)
        self._finish()

    # Steps: each makes its files and returns what to record.

    def _frame(self) -> dict[str, Any]:
        seconds = self.config.limit_seconds or self.info.seconds or 60.0
        rate = Fraction(24 / seconds).limit_denominator(1000)
        rate = min(max(rate, Fraction(1, 4)), Fraction(5))
        frames = ((float(i / rate), image) for i, image in enumerate(self._read(rate)))
        return {"square": asdict(find_framing(self.info, frames, self.config.size))}

    def _find_landmarks(self) -> dict[str, Any]:
        self._drop_frames()
        expected = None if self.info.seconds is None else round(self.info.seconds * FPS)
        if self.config.limit_seconds is not None:
            expected = int(self.config.limit_seconds * FPS)
        provider = open_provider(self.config.task_model)
        try:
            frames = track(self._read(), "landmarks", expected)
            found = track_landmarks(frames, provider, lambda i, image: write.write_original(self.files.root, i, image))
        finally:
            provider.close()
        count = len(found.points)
        if count < SHORTEST_S * FPS:
            raise UserError(f"{self.clip} lasts {count / FPS:.1f} s; give a clip of at least {SHORTEST_S:.0f} s.")
        check_faces(found.detected, self.clip, FPS)
        save_track(self.work / "landmarks.npz", found)
        lost = np.flatnonzero(~found.detected).tolist()
        return {"provider": found.provider, "frames": count, "frames_without_face": lost}

    def _write_audio(self) -> dict[str, Any]:
        samples = load_audio(self.clip)
        wanted = round(self.count * 16000 / FPS)
        samples = np.pad(samples[:wanted], (0, max(wanted - len(samples), 0)))
        write.write_audio(self.files.root, samples)
        return {"rate_hz": 16000}

    def _solve_pose(self) -> dict[str, Any]:
        found = self._track()
        points, depth = found.points[..., :2], found.points[..., 2]
        pose = solve_pose(points, depth, self.layout, self.size, FPS, found.flow, self.config.pose)
        model = project(pose.shape, pose.viewmats, pose.focal, self.size)
        calm = steady(bridge(points), model, self.layout)
        save_pose(self.work / "pose.npz", pose, calm)
        write.write_landmarks(self.files.root, calm, found.detected, pose.shape, self.layout)
        for index, row in enumerate(calm[:, list(self.layout.ibug68)]):
            write.write_ibug_landmarks(self.files.root, index, row)
        return {"provider": "bundle adjustment", "focal_px": round(pose.focal, 2)} | {
            name: round(value, 4) for name, value in pose.figures.items()
        }

    def _write_masks(self) -> dict[str, Any]:
        return make_masks(self.files, self._read(), self._pose()[1], self.layout)

    def _write_background(self) -> dict[str, Any]:
        return make_background(self.files, self._read(), self.count)

    def _write_layers(self) -> dict[str, Any]:
        return draw_layers(self.files, self._read(), self.count)

    def _write_action_units(self) -> dict[str, Any]:
        if self.config.action_units is not None:
            values = aus.read_openface(self.config.action_units, self.count)
            write.write_action_units(self.files.root, values, FPS)
            return {"provider": "OpenFace CSV"}
        pose, points = self._pose()
        head = aus.head_points(points, pose.viewmats, pose.focal, pose.shape, self.size)
        found = self._track().detected
        write.write_action_units(self.files.root, aus.action_units(head, self.layout, FPS), FPS, found)
        return {"provider": "landmarks"}

    def _write_emotion(self) -> dict[str, Any]:
        pose, points = self._pose()
        camera = np.array([[pose.focal, 0, self.size[1] / 2], [0, pose.focal, self.size[0] / 2], [0, 0, 1]])
        estimator = LandmarkEmotion()
        values = estimator.estimate(points, pose.viewmats, camera, pose.shape, self.layout, float(FPS))
        write.write_valence_arousal(self.files.root, values)
        return {"provider": estimator.name}

    def _write_features(self) -> dict[str, Any]:
        samples = load_audio(self.files.audio)
        features = audio_features("mel").extract(samples, self.count, FPS)
        write.write_audio_features(self.files.root, "mel", features)
        return {"provider": "mel"}

    def _finish(self) -> None:
        pose = self._pose()[0]
        steps = self.manifest["steps"]
        self.manifest |= {
            "frames": self.count,
            "width": self.size[1],
            "height": self.size[0],
            "providers": {name: record["provider"] for name, record in steps.items() if "provider" in record},
        }
        write.write_manifest(self.files.root, self.manifest)
        write.write_transforms(self.files.root, pose.viewmats, pose.focal, self.size[1], self.size[0])

    # What the steps share.

    def _read(self, rate: Fraction | int = FPS) -> Iterator[np.ndarray]:
        return read_frames(self.clip, rate, self.framing, self.config.limit_seconds)

    def _track(self) -> RawTrack:
        return load_track(self.work / "landmarks.npz")

    def _pose(self) -> tuple[PoseTrack, np.ndarray]:
        return load_pose(self.work / "pose.npz")

    def _has_landmarks(self) -> bool:
        return (self.work / "landmarks.npz").exists() and self.files.original(0).exists()

    def _has_pose(self) -> bool:
        last = self.files.ibug_landmarks(self.count - 1)
        return (self.work / "pose.npz").exists() and self.files.landmarks.exists() and last.exists()

    def _last_there(self, *names: Any) -> bool:
        return all(name(self.count - 1).exists() for name in names)

    def _drop_frames(self) -> None:
        """Forget an earlier run's frames and cameras: a shorter one must not leave the longer one's tail behind."""
        files = self.files
        for split in ("train", "val"):
            files.transforms(split).unlink(missing_ok=True)
        for name in (files.original, files.ibug_landmarks, files.parsing, files.teeth, files.target, files.torso):
            example = name(0)
            for path in example.parent.glob(f"*{example.suffix}"):
                if path.stem.isdigit():
                    path.unlink()


def _checked(clip: Path, config: PrepareConfig) -> ClipInfo:
    """The clip's header, or a sentence that says why it cannot be used."""
    if config.limit_seconds is not None and config.limit_seconds < SHORTEST_S:
        raise UserError(f"limit of {config.limit_seconds} s: at least {SHORTEST_S:.0f} s are needed.")
    if config.size is not None and (config.size < 64 or config.size % 2):
        raise UserError(f"size {config.size}: give an even number of pixels, 64 or more.")
    info = probe(clip)
    if not info.has_audio:
        raise UserError(f"{clip} has no sound, and lips cannot be learned without it; give a clip with its speech.")
    if info.seconds is not None and info.seconds < SHORTEST_S:
        raise UserError(f"{clip} lasts {info.seconds:.1f} s; give a clip of at least {SHORTEST_S:.0f} s.")
    return info


def _earlier(files: SubjectFiles, clip: Path, clip_hash: str) -> dict[str, Any]:
    """The manifest of an earlier run on the same clip; empty for a new folder."""
    if not files.root.exists() or not any(files.root.iterdir()):
        return {}
    old = read_json(files.manifest) if files.manifest.exists() else {}
    made_from = old.get("clip", {}).get("sha256") if isinstance(old.get("clip"), dict) else None
    if made_from != clip_hash:
        what = f"was made from another clip ({old['clip'].get('name')})" if made_from else "holds other files"
        raise UserError(f"{files.root} {what}; give a new folder for {clip.name}.")
    return old
