"""What the steps of a capture share: the settings, the clip, its folder, and what earlier steps left there."""

from collections.abc import Iterator
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

import emotalking
from emotalking.data.files import SubjectFiles
from emotalking.data.readers import read_json
from emotalking.errors import UserError
from emotalking.io.video import SHORTEST_S, ClipInfo, Framing, probe
from emotalking.preprocess.config import PrepareConfig
from emotalking.preprocess.landmarks import RawTrack
from emotalking.preprocess.mediapipe_layout import MEDIAPIPE_LAYOUT
from emotalking.preprocess.pose.solver import PoseTrack
from emotalking.preprocess.steps import Steps, digest, file_hash
from emotalking.preprocess.store import load, load_pose, load_track
from emotalking.preprocess.timeline import Timeline


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
