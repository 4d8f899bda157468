"""Options of ``figures``, without anything heavy: the command line is made from them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, get_args

from emotalking.errors import InputError
from emotalking.options import PathLike, Reads

FigureName = Literal["attention", "normals", "layers", "interpolation", "sweep", "transitions", "comparison"]
FIGURES: tuple[FigureName, ...] = get_args(FigureName)


@dataclass(frozen=True)
class FiguresConfig:
    """Options of ``figures``."""

    only: tuple[FigureName, ...] = FIGURES
    """attention maps; normals given and rendered; masks and layers; grid over valence and arousal; once around the
    circle of radius 0.8; emotions during speech; comparison with other systems."""
    against: Annotated[Mapping[str, PathLike], Reads()] = field(default_factory=dict)
    """another system's frames of this subject for the comparison: a folder, a video, or an output folder as of
    'compare'; for several, give it several times."""
    start: Mapping[str, int] = field(default_factory=dict)
    """the subject's frame that the first frame of another system shows, of all or of a named one; None: by their
    number."""
    audio: Annotated[PathLike | None, Reads()] = None
    """speech of the emotions; None: the end of the subject's own recording."""
    frames: int = 3
    """held-out frames in the still figures."""
    seconds: float | int = 8
    """length of the videos."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "audio", None if self.audio is None else str(self.audio))
        if not self.only or not set(self.only) <= set(FIGURES):
            raise InputError(
                f"there are {', '.join(FIGURES)}, not {', '.join(self.only) or 'none'}: give some of them."
            )
        if not 1 <= self.frames <= 12:
            raise InputError(f"{self.frames} frames do not fit a figure: give 1 to 12.")
        if not 1 <= self.seconds <= 600:
            raise InputError(f"videos of {self.seconds:g} s are not made: give 1 to 600 seconds.")
