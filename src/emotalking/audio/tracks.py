"""Audio features of one recording over time, and the windows of them that the audio network sees."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Float, Integer

from emotalking.errors import UserError
from emotalking.io.rows import Rows

PAST_FRAMES, FUTURE_FRAMES = 4, 3
WINDOW_FRAMES = PAST_FRAMES + 1 + FUTURE_FRAMES
"""The audio network sees frames i-4 .. i+3 (docs/paper.md 4.2)."""

_FAR = 4096
"""Values between two wanted ones from which on they are read apart."""


@dataclass(frozen=True)
class FeatureTrack:
    """The features of one whole recording at their own rate; video frames are cut out of it on demand.

    A minute takes 0.4 MB (log-mel) to 12 MB (HuBERT); what is long lies on disk (:mod:`io.rows`).
    """

    values: Rows
    """[S, C]; value s lies at the time (s + 1/2) / rate_hz."""
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
        # First value of frame i: DeepSpeech's windows start at step 2i - 8 at 25 frames/s; the same centring here.
        first = indices.astype(np.float64) * (self.rate_hz / float(fps)) - self.steps / 2 + self.lead
        whole = np.floor(first + 1e-6).astype(np.int64)
        part = np.maximum(first - whole, 0.0).astype(np.float32)[:, None, None]
        values = self._at(whole[:, None] + np.arange(self.steps + 1))
        return (values[:, :-1] * (1 - part) + values[:, 1:] * part).astype(np.float32)

    def _at(self, wanted: np.ndarray) -> np.ndarray:
        """Values of the rows ``wanted`` [N, K], zero where there are none; neighbours are read in one go."""
        count, width = self.values.shape
        out = np.zeros((*wanted.shape, width), np.float32)
        inside = (wanted >= 0) & (wanted < count)
        if not inside.any():
            return out
        kept = wanted[inside]
        rows, place = np.unique(kept, return_inverse=True)
        ends = np.flatnonzero(np.diff(rows) > _FAR) + 1
        read = [self.values[int(run[0]) : int(run[-1]) + 1][run - run[0]] for run in np.split(rows, ends)]
        out[inside] = np.concatenate(read)[place]
        return out

    def windows(
        self, start: int, stop: int, fps: Fraction | float | int, num_frames: int
    ) -> Float[np.ndarray, "N 8 C steps"]:
        """What the audio network sees for the frames ``start`` .. ``stop - 1`` of a video of ``num_frames`` frames.

        Equals ``audio_windows(frames(arange(num_frames)))[start:stop]`` without ever holding all of it.
        """
        reach = np.arange(start - PAST_FRAMES, stop + FUTURE_FRAMES)
        features = self.frames(reach, fps)
        features[(reach < 0) | (reach >= num_frames)] = 0.0
        return np.ascontiguousarray(_sliding(features))


class ComputedFeatures(ABC):
    """What every kind of audio features (``audio.features.AudioFeatures``) does alike."""

    @abstractmethod
    def track(self, chunks: Iterable[Float[np.ndarray, " n"]]) -> FeatureTrack:
        """Features of one recording, given in consecutive pieces."""

    def extract(
        self, samples: Float[np.ndarray, " S"], num_frames: int, fps: Fraction | float | int
    ) -> Float[np.ndarray, "num_frames steps C"]:
        """Features of the first ``num_frames`` video frames; frames past the end of the sound are silence (0).

        Args:
            samples: float32 mono at 16 kHz in [-1, 1].
            num_frames: video frames wanted.
            fps: their rate [Hz].
        """
        return self.track([samples]).frames(np.arange(num_frames), fps)


@dataclass(frozen=True)
class FrameFeatures:
    """Ready features, one row per video frame; the same questions as :class:`FeatureTrack` answers."""

    values: Float[np.ndarray, "N steps C"]
    """May be a mapped file: only the rows asked for are read."""
    fps: float

    @property
    def duration_s(self) -> float:
        """Length of the recording [s]."""
        return len(self.values) / self.fps

    def num_frames(self, fps: Fraction | float | int) -> int:
        """Frames at the features' own rate.

        Raises:
            UserError: another rate is asked for.
        """
        if abs(float(fps) - self.fps) > 1e-6:
            raise UserError(f"these audio features were made for {self.fps:g} frames/s, not for {float(fps):g}.")
        return len(self.values)

    def windows(
        self, start: int, stop: int, fps: Fraction | float | int, num_frames: int
    ) -> Float[np.ndarray, "N 8 C steps"]:
        """As :meth:`FeatureTrack.windows`."""
        features = self.values[: min(num_frames, self.num_frames(fps))]
        return np.stack([window_at(features, i) for i in range(start, stop)])


def audio_windows(features: Float[np.ndarray, "N steps C"]) -> Float[np.ndarray, "N 8 C steps"]:
    """The 8-frame windows [i-4, i+4) of every frame, zero outside the recording (docs/paper.md 4.2).

    Returns:
        A read-only view (no memory of its own): index it to get copies.
    """
    return _sliding(np.pad(features, ((PAST_FRAMES, FUTURE_FRAMES), (0, 0), (0, 0))))


def window_at(features: Float[np.ndarray, "N steps C"], i: int) -> Float[np.ndarray, "8 C steps"]:
    """``audio_windows(features)[i]`` alone; frames outside the recording give zeros."""
    window = np.zeros((WINDOW_FRAMES, features.shape[2], features.shape[1]), np.float32)
    first, last = max(0, i - PAST_FRAMES), min(len(features), i + FUTURE_FRAMES + 1)
    if first < last:
        offset = first - (i - PAST_FRAMES)
        window[offset : offset + last - first] = features[first:last].transpose(0, 2, 1)
    return window


def _sliding(padded: np.ndarray) -> np.ndarray:
    """[N+7, steps, C] to [N, 8, C, steps]."""
    return np.lib.stride_tricks.sliding_window_view(padded, WINDOW_FRAMES, axis=0).transpose(0, 3, 2, 1)
