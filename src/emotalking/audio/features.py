"""Audio features per video frame: the contract and the registry of kinds."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from emotalking.audio.mel import LogMel
from emotalking.audio.phones import Phones
from emotalking.audio.tracks import ComputedFeatures, FeatureTrack, FrameFeatures
from emotalking.audio.transformers import HUBERT, WAV2VEC2
from emotalking.errors import UserError
from emotalking.io.audio import iter_audio
from emotalking.io.files import replacing

_CHUNK = 2048
"""Frames of features written or looked through at a time."""


@runtime_checkable
class AudioFeatures(Protocol):
    """Something that turns speech into the numbers that drive a face."""

    @property
    def name(self) -> str:
        """As in the avatar's metadata."""
        ...

    @property
    def file(self) -> str:
        """As in the subject folder's file name, ``aud_{file}.npy``."""
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
        """How far [s] from the time of a frame the sound still enters its features; the 8-frame window adds its own.

        Level, noise, mean and deviation are taken of the whole recording by every kind and are not counted here.
        """
        ...

    def track(self, chunks: Iterable[Float[np.ndarray, " n"]]) -> FeatureTrack:
        """Features of one recording, given in consecutive pieces (float32 mono, 16 kHz), in constant memory."""
        ...

    def extract(
        self, samples: Float[np.ndarray, " S"], num_frames: int, fps: Fraction | float | int
    ) -> Float[np.ndarray, "num_frames steps C"]:
        """Features of the first ``num_frames`` video frames."""
        ...


@dataclass(frozen=True)
class ImportedFeatures(ComputedFeatures):
    """Features that another program computes and a subject folder brings along; they cannot be made here."""

    name: str
    file: str
    channels: int
    steps: int
    rate_hz: float = 50.0
    reach_s: float = math.inf
    """Both are made by networks that see the whole recording."""

    def track(self, chunks: Iterable[Float[np.ndarray, " n"]]) -> FeatureTrack:
        """Refused.

        Raises:
            UserError: always; it says what to provide.
        """
        raise UserError(
            f"'{self.name}' audio features cannot be computed here: provide them for this sound as an .npy array of "
            f"shape [frames, {self.steps}, {self.channels}], or train the avatar with 'mel', which needs no extra file."
        )


_KINDS: tuple[AudioFeatures, ...] = (
    LogMel(),
    Phones(),
    HUBERT,
    WAV2VEC2,
    ImportedFeatures("deepspeech", "ds", 29, 16),
    ImportedFeatures("esperanto", "eo", 44, 16),
)
AUDIO_FEATURES: tuple[str, ...] = tuple(kind.name for kind in _KINDS)


def audio_features(name: str) -> AudioFeatures:
    """The features called ``name``, which may also be the name that subject folders give them (``aud_ds.npy``: "ds").

    Raises:
        UserError: no such features.
    """
    found = next((kind for kind in _KINDS if name in (kind.name, kind.file)), None)
    if found is None:
        raise UserError(f"there are no audio features called '{name}': choose one of {', '.join(AUDIO_FEATURES)}.")
    return found


def imported_track(path: str | Path, features: AudioFeatures, fps: Fraction | float | int) -> FrameFeatures:
    """Features of a recording that another program computed, one row per video frame; rows are read when needed.

    Raises:
        UserError: the file is not a numeric array of shape [frames, steps, channels], or not all of it is finite.
    """
    path = Path(path)
    try:
        values = np.load(path, allow_pickle=False, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} cannot be read as an .npy array of audio features ({error}).") from error
    expected = (features.steps, features.channels)
    if not isinstance(values, np.ndarray) or values.shape[1:] != expected or values.dtype.kind != "f":
        found = f"{values.dtype} {list(values.shape)}" if isinstance(values, np.ndarray) else "an archive"
        raise UserError(
            f"{path} holds {found}, but '{features.name}' features are floats of shape [frames, "
            f"{expected[0]}, {expected[1]}]."
        )
    for begin in range(0, len(values), _CHUNK):
        if not np.isfinite(values[begin : begin + _CHUNK]).all():
            raise UserError(f"{path} holds numbers that are not finite from frame {begin} on: extract it again.")
    return FrameFeatures(values, float(fps))


def features_of(path: str | Path, name: str = "mel") -> FeatureTrack:
    """Features of a sound file in one pass, in memory that does not grow with its length."""
    return audio_features(name).track(iter_audio(path))


def write_features(path: Path, sound: Path, name: str, count: int, fps: Fraction) -> None:
    """Write the features ``name`` of the file ``sound`` for ``count`` frames as float32 ``.npy``."""
    provider = audio_features(name)
    heard = provider.track(iter_audio(sound))
    with replacing(path) as scratch:
        out = np.lib.format.open_memmap(scratch, "w+", np.float32, (count, provider.steps, provider.channels))
        for begin in range(0, count, _CHUNK):
            index = np.arange(begin, min(begin + _CHUNK, count))
            out[index] = heard.frames(index, fps)
        out.flush()
