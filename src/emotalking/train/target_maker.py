"""Which generator makes a run's emotional targets, and what the run's record says of it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from emotalking.emotion.generator import EmotionGenerator
from emotalking.train.data import TrainingData


@dataclass(frozen=True)
class TargetMaker:
    """A choice of generator."""

    name: str
    open: Callable[[TrainingData], EmotionGenerator]
    """The generator for some frames of the subject."""
    file_hash: str = ""
    """Of the file that it was read from; a run goes on only with the same one."""
    licences: dict[str, str] = field(default_factory=dict)
    """Of what it rests on, beyond this package."""
