"""State that the scenarios of one evaluation share."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from emotalking.data import Subject
from emotalking.evaluate.config import EvaluateConfig
from emotalking.evaluate.evaluation_models import EvaluationModels
from emotalking.evaluate.measure import Measurement, measure
from emotalking.evaluate.speech import Speech
from emotalking.models.avatar import Avatar
from emotalking.ops.composite import to_uint8


@dataclass
class Session:
    """A running evaluation."""

    avatar: Avatar
    subject: Subject
    options: EvaluateConfig
    models: EvaluationModels
    sounds: tuple[Speech, ...]
    folder: Path
    advance: Callable[[], Any] = field(default=lambda: None)
    """Called after each scored frame."""

    @property
    def fps(self) -> float:
        """Frame rate of the subject."""
        return float(self.subject.fps)

    def watched(self, frames: Iterable[Any], keep: dict[int, Any] | None = None) -> Iterator[Any]:
        """Iterate over ``frames``; store those whose numbers are keys of ``keep`` there, as uint8."""
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
        """Measure frames of the subject (:func:`emotalking.evaluate.measure.measure`) with this session's models."""
        return measure(frames, subject=self.subject, indices=indices, samples=samples, va=va, models=self.models)
