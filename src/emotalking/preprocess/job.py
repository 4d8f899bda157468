"""What the steps of a capture share: the settings, the clip, its folder, and what earlier steps left there."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

import emotalking
from emotalking.data.files import SubjectFiles
from emotalking.data.tables import read_json
from emotalking.errors import UserError
from emotalking.io.video import SHORTEST_S, ClipInfo, Framing, probe
from emotalking.preprocess.choices import EMOTION_MODELS, NORMALS, PARSINGS, check_choice
from emotalking.preprocess.landmarks import RawTrack
from emotalking.preprocess.mediapipe_layout import MEDIAPIPE_LAYOUT
from emotalking.preprocess.pose.solver import PoseConfig, PoseTrack
from emotalking.preprocess.steps import Steps, digest, file_hash
from emotalking.preprocess.store import load, load_pose, load_track
from emotalking.preprocess.timeline import Timeline, parse_rate


@dataclass(frozen=True)
class PrepareConfig:
    """What a person may choose."""

    size: int | None = None
    """Side of the square frames in pixels; None: 512, or the clip's own where it is smaller."""
    limit_seconds: float | int | None = None
    """Use only the beginning of the clip, or of ``part``."""
    fps: Fraction | float | int | str = 25
    """Frames a second of the subject, kept as an exact rational ("30000/1001"); "source": the clip's true rate. The
    networks' audio windows are counted in frames, and were published for 25."""
    part: tuple[float | int, float | int] | None = None
    """Use only this, seconds after the clip's first picture; None: the useful part that the footage check found."""
    force: bool = False
    """Go on with a clip that the footage check calls unusable."""
    audio_offset: float | int | str = "auto"
    """How late the sound is, in seconds: it is moved earlier by that much. "auto": as measured from mouth and voice,
    if that can be trusted; "none": leave the sound where it is."""
    task_model: str | Path | None = None
    """A MediaPipe ``.task`` file for the landmarks; None: the embedded face mesh."""
    action_units: str | Path | None = None
    """A CSV that OpenFace wrote for the clip, at any frame rate; None: from the landmarks."""
    parsing: str = "embedded"
    """Who makes the masks: "embedded" (landmarks, person segmentation, the clip's colours), "bisenet" (teeth by
    colour) or "bisenet+easyportrait" (teeth by that network), as TalkingGaussian does."""
    emotion_model: str = "landmarks"
    """Estimator of valence and arousal: "landmarks" (rules), "emonet" (the paper's, 8 expressions) or "emonet5"."""
    normals: str = "mesh"
    """Where normal maps come from: "mesh" (the tracked landmarks), "network" (the paper's) or "none"."""
    device: str = "cpu"
    """Where the networks that were chosen above work."""
    pose: PoseConfig = PoseConfig()
    """Weights of the pose solver."""

    def __post_init__(self) -> None:
        """Refuse what no clip could satisfy."""
        if self.limit_seconds is not None and self.limit_seconds < SHORTEST_S:
            raise UserError(f"limit of {self.limit_seconds} s: at least {SHORTEST_S:.0f} s are needed.")
        if self.part is not None and not 0 <= self.part[0] <= self.part[1] - SHORTEST_S:
            raise UserError(
                f"part {self.part[0]:g},{self.part[1]:g}: give begin and end in s, {SHORTEST_S:.0f} or more apart."
            )
        if isinstance(self.audio_offset, str) and self.audio_offset not in ("auto", "none"):
            raise UserError(f"audio offset {self.audio_offset!r}: give auto, none, or seconds.")
        _ = self.rate
        if self.action_units is not None and not Path(self.action_units).is_file():
            raise UserError(f"{self.action_units}: there is no such file; give the CSV that OpenFace wrote.")
        if self.size is not None and (self.size < 64 or self.size % 2):
            raise UserError(f"size {self.size}: give an even number of pixels, 64 or more.")
        check_choice("parsing", self.parsing, PARSINGS)
        check_choice("emotion model", self.emotion_model, EMOTION_MODELS)
        check_choice("normals", self.normals, NORMALS)

    @property
    def rate(self) -> Fraction | None:
        """``fps`` as an exact number; None: the clip's own."""
        return None if self.fps == "source" else parse_rate(self.fps)


class Job:
    """One run of the capture on one clip; the steps are functions of it (``preprocess.prepare``)."""

    layout = MEDIAPIPE_LAYOUT

    def __init__(self, clip: Path, out: Path, config: PrepareConfig) -> None:
        self.clip, self.files, self.config = clip, SubjectFiles(out), config
        self.info = _usable(clip)
        self.work = out / ".capture"
        clip_hash = file_hash(clip)
        old = _earlier(self.files, clip, clip_hash)
        self.manifest: dict[str, Any] = {
            "emotalking": emotalking.__version__,
            "clip": {"name": clip.name, "sha256": clip_hash},
            "steps": old.get("steps", {}),
        }
        key = digest([clip_hash, emotalking.__version__])
        self.steps = Steps(out, self.manifest, key)

    @property
    def framing(self) -> Framing:
        """The square that step "framing" found."""
        return Framing(**self.steps.facts("framing")["square"])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the subject's frames, pixels."""
        return self.framing.size, self.framing.size

    @cached_property
    def timeline(self) -> Timeline:
        """The clock of the subject, which step "clock" found."""
        return Timeline.load(self.clock_file)

    @property
    def clock_file(self) -> Path:
        """Where :attr:`timeline` is kept."""
        return self.work / "clock.npz"

    @property
    def fps(self) -> Fraction:
        """Frames a second of the subject."""
        return self.timeline.fps

    @property
    def count(self) -> int:
        """Frames of the subject."""
        return len(self.timeline.pictures)

    def read(self) -> Iterator[UInt8[np.ndarray, "S S 3"]]:
        """The subject's frames in order, framed."""
        return self.timeline.read(self.clip, self.framing)

    def track(self) -> RawTrack:
        """What step "landmarks" saw."""
        return load_track(self.work)

    def pose(self) -> PoseTrack:
        """The head's path, which step "pose" found."""
        return load_pose(self.work)

    @property
    def points_file(self) -> Path:
        """Where :meth:`points` are kept."""
        return self.work / "steady.npy"

    def points(self) -> Float32[np.ndarray, "N K 2"]:
        """Steadied landmarks in pixels, memory-mapped."""
        return load(self.points_file)

    @property
    def head_file(self) -> Path:
        """Where :meth:`head` is kept."""
        return self.work / "head.npy"

    def head(self) -> Float32[np.ndarray, "N K 3"]:
        """The same landmarks in the head frame, world units, memory-mapped."""
        return load(self.head_file)

    def has_last(self, *names: Any) -> bool:
        """Whether the files of the last frame are there; ``names`` are methods of ``files``."""
        return all(name(self.count - 1).exists() for name in names)


def _usable(clip: Path) -> ClipInfo:
    """The clip's header, or a sentence that says why it cannot be used."""
    info = probe(clip)
    if not info.has_audio:
        raise UserError(f"{clip} has no sound, and lips cannot be learned without it; give a clip with its speech.")
    if info.seconds is not None and info.seconds < SHORTEST_S:
        raise UserError(f"{clip} lasts {info.seconds:.1f} s; give a clip of at least {SHORTEST_S:.0f} s.")
    return info


def _earlier(files: SubjectFiles, clip: Path, clip_hash: str) -> dict[str, Any]:
    """The manifest of an earlier run on the same clip; empty for a new folder, or one where nothing was achieved."""
    if not files.root.exists():
        return {}
    for scratch in files.root.rglob(".*.part"):  # a killed run's half-written files (emotalking.io.files)
        scratch.unlink(missing_ok=True)
    if not any(files.root.iterdir()):
        return {}
    old = read_json(files.manifest) if files.manifest.exists() else {}
    made_from = old.get("clip", {}).get("sha256") if isinstance(old.get("clip"), dict) else None
    if made_from is not None and "landmarks" not in old.get("steps", {}):
        return old if made_from == clip_hash else {}
    if made_from != clip_hash:
        what = f"was made from another clip ({old['clip'].get('name')})" if made_from else "holds other files"
        raise UserError(f"{files.root} {what}; give a new folder for {clip.name}.")
    return old
