"""Audio features per video frame: the contract, the registry, the windows of the audio network."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NoReturn, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Integer

from emotalking.errors import UserError
from emotalking.speech.audio import iter_audio
from emotalking.speech.mel import CHANNELS, mel_spectra, normalise

PAST_FRAMES, FUTURE_FRAMES = 4, 3
WINDOW_FRAMES = PAST_FRAMES + 1 + FUTURE_FRAMES
"""The audio network sees frames i-4 .. i+3 (paper-spec 4.2)."""


@dataclass(frozen=True)
class FeatureTrack:
    """The features of one whole recording at their own rate; video frames are cut out of it on demand.

    A minute of log-mel takes 0.4 MB, so even hours of sound stay small.
    """

    values: Float[np.ndarray, "S C"]
    """Value s lies at the time (s + 1/2) / rate_hz."""
    rate_hz: float
    steps: int
    """Values per video frame."""
    duration_s: float

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
        first = indices.astype(np.float64) * (self.rate_hz / float(fps)) - self.steps / 2
        whole = np.floor(first + 1e-6).astype(np.int64)
        part = np.maximum(first - whole, 0.0).astype(np.float32)[:, None, None]
        rows = whole[:, None] + np.arange(self.steps + 1)
        inside = (rows >= 0) & (rows < len(self.values))
        if len(self.values):
            values = self.values[np.clip(rows, 0, len(self.values) - 1)] * inside[..., None]
        else:
            values = np.zeros((*rows.shape, self.values.shape[1]), np.float32)
        return (values[:, :-1] * (1 - part) + values[:, 1:] * part).astype(np.float32)

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


@runtime_checkable
class AudioFeatures(Protocol):
    """Something that turns speech into the numbers that drive a face."""

    @property
    def name(self) -> str:
        """As in the subject folder's file name and the avatar's metadata."""
        ...

    @property
    def channels(self) -> int:
        """Numbers per step."""
        ...

    @property
    def steps(self) -> int:
        """Steps per video frame."""
        ...

    @property
    def rate_hz(self) -> float:
        """Steps per second."""
        ...

    @property
    def reach_s(self) -> float:
        """Half the span of sound [s] that one frame's features see; the 8-frame window adds its frames on top."""
        ...

    def track(self, chunks: Iterable[Float[np.ndarray, " n"]]) -> FeatureTrack:
        """Features of one recording, given in consecutive pieces (float32 mono, 16 kHz)."""
        ...

    def extract(
        self, samples: Float[np.ndarray, " S"], num_frames: int, fps: Fraction | float | int
    ) -> Float[np.ndarray, "num_frames steps C"]:
        """Features of the first ``num_frames`` video frames."""
        ...


class LogMel:
    """The embedded features: 16 steps of 20 ms of normalised log-mel around each frame (see ``speech.mel``)."""

    name = "mel"
    channels = CHANNELS
    steps = 16
    rate_hz = 50.0
    reach_s = 0.1625

    def track(self, chunks: Iterable[Float[np.ndarray, " n"]]) -> FeatureTrack:
        """Features of one recording, normalised over the whole of it.

        Args:
            chunks: consecutive pieces of float32 mono at 16 kHz in [-1, 1].
        """
        spectra = mel_spectra(chunks)
        return FeatureTrack(normalise(spectra), self.rate_hz, self.steps, spectra.num_samples / 16000)

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
class ImportedFeatures:
    """Features that another program computes and a subject folder brings along; they cannot be made here."""

    name: str
    channels: int
    steps: int
    files: tuple[str, ...]
    """Where the layouts keep them."""
    rate_hz: float = 50.0
    reach_s: float = 0.16

    def track(self, chunks: Iterable[Float[np.ndarray, " n"]]) -> FeatureTrack:
        """Refused.

        Raises:
            UserError: always; it says what to provide.
        """
        self._refuse()

    def extract(
        self, samples: Float[np.ndarray, " S"], num_frames: int, fps: Fraction | float | int
    ) -> Float[np.ndarray, "num_frames steps C"]:
        """Refused.

        Raises:
            UserError: always; it says what to provide.
        """
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise UserError(
            f"'{self.name}' audio features cannot be computed here: provide them for this sound as an .npy array of "
            f"shape [frames, {self.steps}, {self.channels}], or train the avatar with 'mel', which needs no extra file."
        )


_REGISTRY: dict[str, AudioFeatures] = {
    "mel": LogMel(),
    "deepspeech": ImportedFeatures("deepspeech", 29, 16, ("aud_ds.npy", "aud.npy")),
    "esperanto": ImportedFeatures("esperanto", 44, 16, ("aud_eo.npy",)),
    "hubert": ImportedFeatures("hubert", 1024, 2, ("aud_hu.npy",)),
}
_FOLDER_NAMES = {"ds": "deepspeech", "eo": "esperanto", "hu": "hubert"}
AUDIO_FEATURES: tuple[str, ...] = tuple(_REGISTRY)


def audio_features(name: str) -> AudioFeatures:
    """The features called ``name``, which may also be the name that subject folders give them (``aud_ds.npy``: "ds").

    Raises:
        UserError: no such features.
    """
    name = _FOLDER_NAMES.get(name, name)
    if name not in _REGISTRY:
        raise UserError(f"there are no audio features called '{name}': choose one of {', '.join(_REGISTRY)}.")
    return _REGISTRY[name]


def imported_track(path: str | Path, features: AudioFeatures, fps: Fraction | float | int) -> "FrameFeatures":
    """Features of a recording that another program computed, one row per video frame.

    Raises:
        UserError: the file is not a numeric array of shape [frames, steps, channels].
    """
    path = Path(path)
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} cannot be read as an .npy array of audio features ({error}).") from error
    expected = (features.steps, features.channels)
    if not isinstance(values, np.ndarray) or values.shape[1:] != expected or values.dtype.kind != "f":
        found = f"{values.dtype} {list(values.shape)}" if isinstance(values, np.ndarray) else "an archive"
        raise UserError(
            f"{path} holds {found}, but '{features.name}' features are floats of shape [frames, "
            f"{expected[0]}, {expected[1]}]."
        )
    return FrameFeatures(values.astype(np.float32), float(fps))


@dataclass(frozen=True)
class FrameFeatures:
    """Ready features, one row per video frame; the same questions as :class:`FeatureTrack` answers."""

    values: Float[np.ndarray, "N steps C"]
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


def features_of(path: str | Path, name: str = "mel") -> FeatureTrack:
    """Features of a sound file in one pass, in memory that hardly grows with its length (see ``iter_audio``)."""
    return audio_features(name).track(iter_audio(path))


def audio_windows(features: Float[np.ndarray, "N steps C"]) -> Float[np.ndarray, "N 8 C steps"]:
    """The 8-frame windows [i-4, i+4) of every frame, zero outside the recording (paper-spec 4.2).

    Returns:
        A read-only view (no memory of its own): index it to get copies.
    """
    return _sliding(np.pad(features, ((PAST_FRAMES, FUTURE_FRAMES), (0, 0), (0, 0))))


def window_at(features: Float[np.ndarray, "N steps C"], i: int) -> Float[np.ndarray, "8 C steps"]:
    """``audio_windows(features)[i]`` alone; frames outside the recording give zeros."""
    window = np.zeros((WINDOW_FRAMES, features.shape[2], features.shape[1]), features.dtype)
    first, last = max(0, i - PAST_FRAMES), min(len(features), i + FUTURE_FRAMES + 1)
    if first < last:
        offset = first - (i - PAST_FRAMES)
        window[offset : offset + last - first] = features[first:last].transpose(0, 2, 1)
    return window


def _sliding(padded: np.ndarray) -> np.ndarray:
    """[N+7, steps, C] to [N, 8, C, steps]."""
    return np.lib.stride_tricks.sliding_window_view(padded, WINDOW_FRAMES, axis=0).transpose(0, 3, 2, 1)
