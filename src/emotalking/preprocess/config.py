"""Options of ``prepare``, without anything heavy: the command line is made from them."""

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from emotalking.errors import InputError
from emotalking.networks.registry import model_path, models, sha256_of
from emotalking.options import Device, EmotionModel, OptionalInput, SoundTrack, Turn

PARSINGS: dict[str, tuple[str, ...]] = {
    "embedded": (),
    "bisenet": ("bisenet",),
    "bisenet+easyportrait": ("bisenet", "easyportrait"),
}
"""Methods of parsing, and the networks (``models.toml``) needed; "bisenet" finds teeth by colour, as "embedded"."""
EMOTION_MODELS: dict[str, tuple[str, ...]] = {"landmarks": (), "emonet": ("emonet8",), "emonet5": ("emonet5",)}
"""Estimators of valence and arousal, and the networks needed."""
NORMALS: dict[str, tuple[str, ...]] = {"mesh": (), "network": ("face_normals",), "none": ()}
"""Sources of normal maps, and the networks needed."""


def check_choice(name: str, chosen: str, table: dict[str, tuple[str, ...]]) -> None:
    """Refuse a choice that does not exist, or whose checkpoints are missing.

    Raises:
        InputError: naming the choices, or the missing file, its source, its licence and what does without it.
    """
    if chosen not in table:
        raise InputError(f"{name} {chosen!r}: give {', '.join(list(table)[:-1])} or {list(table)[-1]}.")
    for network in table[chosen]:
        model_path(network)


def networks(names: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """Record for ``subject.json`` of the networks that a step uses: file, its SHA-256, licence.

    Raises:
        MissingModelError: a checkpoint is missing.
    """
    paths = {name: model_path(name) for name in names}
    return {
        name: {"file": path.name, "sha256": sha256_of(path), "licence": models()[name].licence}
        for name, path in paths.items()
    }


@dataclass(frozen=True)
class PoseConfig:
    """Weights of the pose solver."""

    cutoff_hz: float = 8.0
    """Head motion faster than this [Hz] is taken for noise (a nodding head stays below 3 Hz)."""
    focal_ratio: float = 2.2
    """Prior of focal length / image width: a frontal talking clip is nearly the same for any focal length."""
    focal_spread: float = 0.25
    """Standard deviation of that prior, of the focal length's logarithm."""
    focal_doubt: float = 0.25
    """Systematic standard deviation of the log focal length that the observations of a head turning far would give; it
    grows as (1 + (focal_turn_deg / turn)^2)^(1/2) for a head that turns less. Measured with MediaPipe on the synthetic
    actor: true 1.4, 2.1, 3.2 alone give 2.0, 2.2, 2.0 for turns of 7 degrees rms and 1.5, 1.9, 2.2 for 21."""
    focal_turn_deg: float = 8.0
    """Root mean square of yaw and pitch [degrees] at which half of the variance is due to small rotation."""
    shape_spread: tuple[float, float, float] = (0.0015, 0.0015, 0.002)
    """Standard deviation (world units; x, y, z) of a point around the detector's 3-D shape, against fifty frames."""
    flow_px: float = 0.035
    """Standard deviation given to the optical flow, in pixels of a 512-pixel image. Less than its own scatter (about a
    tenth), because landmark errors are correlated between points and neighbouring frames and weigh too much. On the
    synthetic actor, whose pose is known, the rotation error is 1.12 degrees at .07, 0.94 at .04, 1.08 at .015."""
    huber: float = 2.0
    """Residuals beyond this many standard deviations count linearly."""
    iterations: int = 20
    """Gauss-Newton steps at most."""
    keyframes: int = 24
    """Frames, spread over the poses, from which skin, hair and ears (:mod:`emotalking.preprocess.pose.scalp`) are
    followed to all others to refine the path (:mod:`emotalking.preprocess.pose.keyframes`); 0: not. Hair of held-out
    frames agrees with that of the training frame of the most similar pose to 30.5 dB, by skin alone to 29.3, by the
    detector's landmarks to 28.6 (256 px, 60 s); 28.2, 28.1 and 27.3 (512 px, 71 s; benchmarks/poses.py)."""


@dataclass(frozen=True)
class PrepareConfig:
    """Options of ``prepare``."""

    size: int | None = None
    """side of the square frames in pixels; None: 512, or the clip's own where it is smaller."""
    seconds: float | int | None = None
    """use only the beginning of the clip, or of the part."""
    fps: Fraction | float | int | str = "25"
    """frame rate of the subject, kept as an exact rational (30000/1001); source: the clip's true rate. The networks'
    audio windows are counted in frames, and were published for 25."""
    part: tuple[float | int, float | int] | None = None
    """use only this part, begin and end in seconds after the clip's first frame; None: the useful part that the footage
    check found."""
    force: bool = False
    """continue with a clip that the footage check calls unusable."""
    audio_offset: float | int | str = "auto"
    """delay of the sound in seconds, by which it is moved earlier. auto: as measured from mouth and voice, if that can
    be trusted; none: the sound stays where it is."""
    audio_track: SoundTrack = None
    turn: Turn = 0
    action_units: OptionalInput = None
    """CSV that OpenFace wrote for the clip, at any frame rate; None: measured from the landmarks."""
    parsing: Literal["embedded", "bisenet", "bisenet+easyportrait"] = "embedded"
    """face parsing: embedded (landmarks, person segmentation, the clip's colours), bisenet (teeth by colour) or
    bisenet+easyportrait (teeth by that network), as TalkingGaussian does."""
    emotion_model: EmotionModel = "landmarks"
    normals: Literal["mesh", "network", "none"] = "mesh"
    """normal maps: mesh (of the tracked landmarks), network (the paper's) or none."""
    device: Device = "auto"
    pose: PoseConfig = PoseConfig()
    """Weights of the pose solver."""

    def __post_init__(self) -> None:
        """Refuse what no clip could satisfy."""
        if self.seconds is not None or self.part is not None:
            self._check_length()
        offset = self.audio_offset
        if offset not in ("auto", "none") if isinstance(offset, str) else not math.isfinite(offset):
            raise InputError(f"audio offset {self.audio_offset!r}: give auto, none, or seconds.")
        if self.fps != "25":
            _ = self.rate
        if self.action_units is not None and not Path(self.action_units).is_file():
            raise InputError(f"{self.action_units}: there is no such file; give the CSV that OpenFace wrote.")
        if self.size is not None and (self.size < 64 or self.size % 2):
            raise InputError(f"size {self.size}: give an even number of pixels, 64 or more.")
        if self.turn not in (0, 90, 180, 270):
            raise InputError(f"turn {self.turn}: give 0, 90, 180 or 270 degrees.")
        check_choice("parsing", self.parsing, PARSINGS)
        check_choice("emotion model", self.emotion_model, EMOTION_MODELS)
        check_choice("normals", self.normals, NORMALS)

    def _check_length(self) -> None:
        from emotalking.io.video import SHORTEST_S  # heavy, and the command line is made without it

        if self.seconds is not None and not SHORTEST_S <= self.seconds < math.inf:  # NaN too
            raise InputError(f"limit of {self.seconds} s: at least {SHORTEST_S:.0f} s are needed, a finite number.")
        if self.part is not None and not 0 <= self.part[0] <= self.part[1] - SHORTEST_S:
            raise InputError(
                f"part {self.part[0]:g},{self.part[1]:g}: give begin and end in s, {SHORTEST_S:.0f} or more apart."
            )

    @property
    def rate(self) -> Fraction | None:
        """``fps`` as an exact number; None: the clip's own."""
        from emotalking.preprocess.cadence import parse_rate

        return None if self.fps == "source" else parse_rate(self.fps)
