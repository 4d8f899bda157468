"""Audio features of one recording over time."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from emotalking.audio.windows import FUTURE_FRAMES, PAST_FRAMES, audio_windows
from emotalking.errors import InputError
from emotalking.io.rows import Rows

_FAR = 4096
"""Gap in values above which two requested ones are read separately."""


class FeatureTrack(ABC):
    """The features of one whole recording; video frames are cut out of it on demand."""

    @abstractmethod
    def num_frames(self, fps: Fraction | float | int) -> int:
        """Frames that cover the recording."""

    @abstractmethod
    def frames(self, indices: Integer[np.ndarray, " N"], fps: Fraction | float | int) -> Float[np.ndarray, "N steps C"]:
        """Features of the video frames ``indices``, zero outside the recording."""

    def windows(
        self, start: int, stop: int, fps: Fraction | float | int, num_frames: int
    ) -> Float[Tensor, "N 8 C steps"]:
        """Windows of the audio encoder for the frames ``start`` .. ``stop - 1`` of a video of ``num_frames`` frames.

        Equals ``audio_windows(frames(arange(num_frames)))[start:stop]`` without keeping all of it in memory.
        """
        first = max(0, start - PAST_FRAMES)
        features = self.frames(np.arange(first, min(stop + FUTURE_FRAMES, num_frames)), fps)
        return audio_windows(torch.from_numpy(features), np.arange(start, stop) - first).contiguous()


@dataclass(frozen=True)
class StepFeatures(FeatureTrack):
    """Features at their own rate.

    A minute takes 0.4 MB (log-mel) to 12 MB (HuBERT); long recordings are on disk (:mod:`io.rows`).
    """

    values: Rows
    """[S, C]; value s is at the time (s + 1/2) / rate_hz."""
    rate_hz: float
    steps: int
    """Values per video frame."""
    duration_s: float
    lead: int = 0
    """A frame's values are centred this many steps after the time index / fps."""

    def num_frames(self, fps: Fraction | float | int) -> int:
        """Frames that cover the recording: ceil(duration * fps)."""
        # A recording that misses a whole frame by less than a sample still fills it.
        return int(np.ceil(self.duration_s * float(fps) - 1e-3))

    def frames(self, indices: Integer[np.ndarray, " N"], fps: Fraction | float | int) -> Float[np.ndarray, "N steps C"]:
        """Features of the video frames ``indices``: ``steps`` values centred on the time index / fps.

        Where the frame rate does not divide the feature rate, values are interpolated; outside the recording they
        are 0.
        """
        # First value of frame i: DeepSpeech's windows start at step 2i - 8 at 25 fps; the same centring here.
        first = indices.astype(np.float64) * (self.rate_hz / float(fps)) - self.steps / 2 + self.lead
        whole = np.floor(first + 1e-6).astype(np.int64)
        part = np.maximum(first - whole, 0.0).astype(np.float32)[:, None, None]
        values = self._at(whole[:, None] + np.arange(self.steps + 1))
        return (values[:, :-1] * (1 - part) + values[:, 1:] * part).astype(np.float32)

    def _at(self, requested: np.ndarray) -> np.ndarray:
        """Values of the rows ``requested`` [N, K], zero where there are none; neighbours are read at once."""
        count, width = self.values.shape
        inside = (requested >= 0) & (requested < count)
        if count and isinstance(self.values, np.ndarray):
            return np.where(inside[..., None], self.values[requested.clip(0, count - 1)], np.float32(0.0))
        out = np.zeros((*requested.shape, width), np.float32)
        if not inside.any():
            return out
        kept = requested[inside]
        rows, place = np.unique(kept, return_inverse=True)
        ends = np.flatnonzero(np.diff(rows) > _FAR) + 1
        read = [self.values[int(run[0]) : int(run[-1]) + 1][run - run[0]] for run in np.split(rows, ends)]
        out[inside] = np.concatenate(read)[place]
        return out


@dataclass(frozen=True)
class FrameFeatures(FeatureTrack):
    """Ready features, one row per video frame."""

    values: Float[np.ndarray, "N steps C"]
    """May be a mapped file: only the requested rows are read."""
    fps: float

    def num_frames(self, fps: Fraction | float | int) -> int:
        """Frames at the features' own rate.

        Raises:
            InputError: another rate is requested.
        """
        if abs(float(fps) - self.fps) > 1e-6:
            raise InputError(f"these audio features were made for {self.fps:g} fps, not for {float(fps):g}.")
        return len(self.values)

    def frames(self, indices: Integer[np.ndarray, " N"], fps: Fraction | float | int) -> Float[np.ndarray, "N steps C"]:
        """Rows ``indices``, zero outside the recording; ``fps`` is the features' own."""
        inside = (indices >= 0) & (indices < self.num_frames(fps))
        out = np.zeros((len(indices), *self.values.shape[1:]), np.float32)
        out[inside] = self.values[indices[inside]]
        return out
