"""Choice of the generator of a run's emotional targets."""

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
    """Hash of the file that it was read from; a run resumes only with the same one."""
    licences: dict[str, str] = field(default_factory=dict)
    """Licences of what it rests on, beyond this package."""
