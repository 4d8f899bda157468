"""An evaluation at work: what was asked for, and what its scenarios share."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from emotalking.data import Subject
from emotalking.errors import UserError
from emotalking.evaluate.evaluation_models import EvaluationModels
from emotalking.evaluate.measure import Measurement, measure
from emotalking.evaluate.speech import Speech
from emotalking.models.avatar import Avatar
from emotalking.ops.composite import to_uint8

SCENARIOS = ("self", "cross", "emotion")


@dataclass(frozen=True)
class Options:
    """What to evaluate and who measures."""

    scenarios: tuple[str, ...] = SCENARIOS
    audio: tuple[str, ...] = ()
    """Sound files for the cross-domain and emotion scenarios; none: the curated sentences of the offline speaker."""
    frames: int | None = None
    """At most so many frames of each run (self: the first held-out ones in a row); None: all."""
    evenly: bool = False
    """Spread the frames of the self-reconstruction over all held-out ones; then nothing in time can be measured."""
    expert: str = "auto"
    """Sync expert: none, personal, syncnet, a file, or auto (:func:`~.evaluation_models.find_expert`)."""
    emotion_model: str = "landmarks"
    """Model of valence, arousal and expression."""
    lpips: str = "auto"
    """LPIPS backbone: alex, vgg, squeeze, none, or auto: the first whose weights are there."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Options":
        """From plain values, as a program or a report has them.

        Raises:
            UserError: an option that does not exist, or a value that cannot be.
        """
        known = {entry.name for entry in fields(cls)}
        for name in values:
            if name not in known:
                raise UserError(f"there is no option '{name}' of an evaluation: there are {', '.join(sorted(known))}.")
        plain: dict[str, Any] = {
            name: tuple(map(str, value)) if isinstance(value, list | tuple) else value for name, value in values.items()
        }
        return cls(**plain)

    def __post_init__(self) -> None:
        unknown = [name for name in self.scenarios if name not in SCENARIOS]
        if unknown or not self.scenarios:
            raise UserError(f"there is no scenario '{', '.join(unknown)}': give {', '.join(SCENARIOS)} or all.")
        if self.frames is not None and self.frames < 1:
            raise UserError(f"{self.frames} frames cannot be scored: give --frames 1 or more.")
        if self.evenly and self.frames is None:
            raise UserError("--evenly spreads a limited number of frames: give --frames N too.")


@dataclass
class Session:
    """An evaluation at work."""

    avatar: Avatar
    subject: Subject
    options: Options
    models: EvaluationModels
    sounds: tuple[Speech, ...]
    folder: Path
    advance: Callable[[], Any] = field(default=lambda: None)
    """Called after each scored frame."""

    @property
    def fps(self) -> float:
        """Frames a second of the subject."""
        return float(self.subject.fps)

    def watched(self, frames: Iterable[Any], keep: dict[int, Any] | None = None) -> Iterator[Any]:
        """``frames``; those whose numbers are keys of ``keep`` are kept there as uint8, the others are let go."""
        for number, frame in enumerate(frames):
            if keep is not None and number in keep:
                keep[number] = frame if isinstance(frame, np.ndarray) else to_uint8(frame)
            yield frame
            self.advance()

    def measure(
        self,
        frames: Iterable[Any],
        indices: Int64[np.ndarray, " N"] | None,
        samples: Float[np.ndarray, " S"] | None,
        va: Float[np.ndarray, "N 2"] | None,
    ) -> Measurement:
        """Score frames of the subject."""
        return measure(frames, subject=self.subject, indices=indices, samples=samples, va=va, models=self.models)
