"""Options of ``evaluate`` and ``ablate``, without anything heavy: the command line is made from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from emotalking.errors import InputError
from emotalking.options import EmotionModel, Expert, Frames, Lpips, PathLike, Preset, Reads, Settings

Scenario = Literal["self", "cross", "emotion"]
SCENARIOS: tuple[Scenario, ...] = get_args(Scenario)
Variant = Literal["no_normal", "no_sync", "combined", "no_emotion", "full"]


def _check_frames(frames: int | None) -> None:
    if frames is not None and frames < 1:
        raise InputError(f"{frames} frames cannot be scored: give at least 1.")


@dataclass(frozen=True)
class EvaluateConfig:
    """Options of ``evaluate``."""

    scenarios: tuple[Scenario, ...] = SCENARIOS
    """self-reconstruction, cross-domain audio, emotion-conditioned."""
    audio: Annotated[Sequence[PathLike], Reads()] = ()
    """sound files for the cross-domain and emotion scenarios; none: the paper's ten sentences by hibari and espeak,
    in two voices."""
    frames: Frames = None
    evenly: bool = False
    """spread the frames of the self-reconstruction over all held-out ones; then nothing in time can be measured."""
    expert: Expert = "auto"
    emotion_model: EmotionModel = "landmarks"
    lpips: Lpips = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "audio", tuple(map(str, self.audio)))
        unknown = [name for name in self.scenarios if name not in SCENARIOS]
        if unknown or not self.scenarios:
            raise InputError(f"there is no scenario '{', '.join(unknown)}': give {', '.join(SCENARIOS)}.")
        _check_frames(self.frames)
        if self.evenly and self.frames is None:
            raise InputError("'evenly' spreads a limited number of frames: also give 'frames'.")


@dataclass(frozen=True)
class AblationConfig:
    """Options of ``ablate``."""

    preset: Preset = "fast"
    settings: Settings = ()
    variants: tuple[Variant, ...] = get_args(Variant)
    """rows of the table."""
    frames: Frames = None
    expert: Expert = "auto"
    """sync expert that measures: syncnet, personal, a file, none, own (one made for this), or auto: syncnet where its
    checkpoint is there, else own."""
    emotion_model: EmotionModel = "landmarks"
    lpips: Lpips = "auto"
    expert_steps: int | None = None
    """training steps of the personal sync experts; None: 600 on a GPU, 200 on a CPU."""

    def __post_init__(self) -> None:
        """Refuse, before hours of training, what the evaluation could not use."""
        _check_frames(self.frames)
        if self.expert_steps is not None and self.expert_steps < 1:
            raise InputError(f"steps of the expert: {self.expert_steps}; give 1 or more.")
