"""Options of ``prepare``, without anything heavy: the command line is made from them."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from emotalking.errors import InputError
from emotalking.options import Device, EmotionModel, PathLike
from emotalking.preprocess.choices import EMOTION_MODELS, NORMALS, PARSINGS, check_choice

if TYPE_CHECKING:
    from emotalking.preprocess.pose.solver import PoseConfig


@dataclass(frozen=True)
class PrepareConfig:
    """Options of ``prepare``."""

    size: int | None = None
    """Side of the square frames in pixels; None: 512, or the clip's own where it is smaller."""
    seconds: float | int | None = None
    """Use only the beginning of the clip, or of the part."""
    fps: Fraction | float | int | str = "25"
    """Frame rate of the subject, kept as an exact rational (30000/1001); source: the clip's true rate. The networks'
    audio windows are counted in frames, and were published for 25."""
    part: tuple[float | int, float | int] | None = None
    """Use only this part, begin and end in seconds after the clip's first frame; None: the useful part that the footage
    check found."""
    force: bool = False
    """Go on with a clip that the footage check calls unusable."""
    audio_offset: float | int | str = "auto"
    """How late the sound is, in seconds: it is moved earlier by that much. auto: as measured from mouth and voice,
    if that can be trusted; none: leave the sound where it is."""
    landmarker: PathLike | None = None
    """MediaPipe .task file for the landmarks; None: the embedded face mesh."""
    action_units: PathLike | None = None
    """CSV that OpenFace wrote for the clip, at any frame rate; None: measured from the landmarks."""
    parsing: Literal["embedded", "bisenet", "bisenet+easyportrait"] = "embedded"
    """Face parsing: embedded (landmarks, person segmentation, the clip's colours), bisenet (teeth by colour) or
    bisenet+easyportrait (teeth by that network), as TalkingGaussian does."""
    emotion_model: EmotionModel = "landmarks"
    normals: Literal["mesh", "network", "none"] = "mesh"
    """Normal maps: mesh (of the tracked landmarks), network (the paper's) or none."""
    device: Device = "auto"
    pose: "PoseConfig | None" = None
    """Weights of the pose solver; None: the defaults."""

    def __post_init__(self) -> None:
        """Refuse what no clip could satisfy."""
        from emotalking.io.video import SHORTEST_S

        if self.seconds is not None and self.seconds < SHORTEST_S:
            raise InputError(f"limit of {self.seconds} s: at least {SHORTEST_S:.0f} s are needed.")
        if self.part is not None and not 0 <= self.part[0] <= self.part[1] - SHORTEST_S:
            raise InputError(
                f"part {self.part[0]:g},{self.part[1]:g}: give begin and end in s, {SHORTEST_S:.0f} or more apart."
            )
        if isinstance(self.audio_offset, str) and self.audio_offset not in ("auto", "none"):
            raise InputError(f"audio offset {self.audio_offset!r}: give auto, none, or seconds.")
        _ = self.rate
        if self.action_units is not None and not Path(self.action_units).is_file():
            raise InputError(f"{self.action_units}: there is no such file; give the CSV that OpenFace wrote.")
        if self.size is not None and (self.size < 64 or self.size % 2):
            raise InputError(f"size {self.size}: give an even number of pixels, 64 or more.")
        check_choice("parsing", self.parsing, PARSINGS)
        check_choice("emotion model", self.emotion_model, EMOTION_MODELS)
        check_choice("normals", self.normals, NORMALS)

    @property
    def rate(self) -> Fraction | None:
        """``fps`` as an exact number; None: the clip's own."""
        from emotalking.preprocess.timeline import parse_rate

        return None if self.fps == "source" else parse_rate(self.fps)
