"""Values that move smoothly to new targets, frame by frame."""

import numpy as np
from jaxtyping import Float


def smoothstep(part: Float[np.ndarray, "..."] | float) -> Float[np.ndarray, "..."]:
    """0 to 1 with speed zero at both ends, constant outside."""
    part = np.clip(part, 0.0, 1.0)
    return np.asarray(part**2 * (3.0 - 2.0 * part))


class Glide:
    """An array that reaches each new target after a number of frames, without a jump."""

    def __init__(self, value: Float[np.ndarray, "..."]) -> None:
        self.value = self._from = self._to = np.asarray(value, np.float64)
        self._frames = self._done = 1

    def to(self, target: Float[np.ndarray, "..."], frames: int) -> None:
        """Move to ``target`` within ``frames`` frames; 0: with the next one."""
        self._from, self._to = self.value, np.asarray(target, np.float64)
        self._frames, self._done = max(1, frames), 0

    def step(self) -> Float[np.ndarray, "..."]:
        """The value of the next frame."""
        if self._done < self._frames:
            self._done += 1
            self.value = np.asarray(self._from + (self._to - self._from) * smoothstep(self._done / self._frames))
        return self.value
