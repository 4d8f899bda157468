"""Choice of the generator of a run's emotional targets, made before the training frames are read."""

from collections.abc import Callable
from dataclasses import dataclass, field

from emotalking.emotion.generator import EmotionGenerator
from emotalking.train.data import TrainingData


@dataclass(frozen=True)
class TargetMaker:
    """A generator that was chosen but not opened yet; it makes nothing itself (:attr:`open` does)."""

    name: str
    open: Callable[[TrainingData], EmotionGenerator]
    """Makes the :class:`EmotionGenerator` from the training frames."""
    file_hash: str = ""
    """Hash of the file that it was read from; a run resumes only with the same one."""
    licences: dict[str, str] = field(default_factory=dict)
    """Licences of what it rests on, beyond this package."""
