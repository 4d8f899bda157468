"""Place of a subject's square frames in the clip that they were cut from, for pasting back."""

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Int

from emotalking.errors import InputError


@dataclass(frozen=True)
class ClipCrop:
    """The same square of every frame of a clip, and the clip's frame behind each frame of the subject."""

    left: int
    top: int
    side: int
    """Pixels of the clip."""
    width: int
    """Size of the upright clip (after rotation), px."""
    height: int
    clip_frames: Int[np.ndarray, " N"]
    """Number of the clip's frame (as decoded, from 0) for every frame of the subject; never decreases."""

    def only(self, frames: Int[np.ndarray, " n"]) -> "ClipCrop":
        """The same square for a selection of the frames."""
        return replace(self, clip_frames=self.clip_frames[frames])

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values, the frame numbers as runs."""
        square = {"left": self.left, "top": self.top, "side": self.side}
        return square | {"clip": [self.width, self.height], "pictures": to_runs(self.clip_frames)}

    @classmethod
    def from_json(cls, facts: Any, where: str) -> "ClipCrop | None":
        """Inverse of :meth:`to_json`; None where nothing (or no frame numbers) was recorded.

        Raises:
            InputError: the values make no square inside a clip; ``where`` names the file.
        """
        if not isinstance(facts, dict) or "pictures" not in facts:
            return None
        try:
            left, top, side = (int(facts[name]) for name in ("left", "top", "side"))
            width, height = (int(value) for value in facts["clip"])
            crop = cls(left, top, side, width, height, from_runs(str(facts["pictures"])))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{where}: the framing is malformed ({error}): prepare the clip again.") from None
        if left < 0 or top < 0 or side < 1 or left + side > width or top + side > height:
            raise InputError(f"{where}: the framing is no square inside the clip: prepare the clip again.")
        return crop


def to_runs(numbers: Int[np.ndarray, " N"]) -> str:
    """Whole numbers as runs of consecutive ones: [4, 5, 6, 6, 7, 9] is "4-6,6-7,9"."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs if len(run))


def from_runs(text: str) -> Int[np.ndarray, " N"]:
    """Inverse of :func:`to_runs`.

    Raises:
        ValueError: malformed.
    """
    numbers: list[np.ndarray] = [np.zeros(0, np.int64)]
    for run in text.split(",") if text else []:
        match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", run)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise ValueError(f"'{run}' is no run of numbers")
        numbers.append(np.arange(int(match[1]), int(match[2] or match[1]) + 1))
    return np.concatenate(numbers)
