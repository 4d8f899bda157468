"""Audio features per video frame: computed from sound, or read from files of other programs."""

import importlib
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import Float

from emotalking.audio.tracks import FrameFeatures, StepFeatures
from emotalking.data.audio_features import DEFAULT_FEATURE, audio_feature
from emotalking.errors import InputError
from emotalking.io.arrays import load_array, mapped_array
from emotalking.io.audio import iter_audio
from emotalking.io.files import replacing
from emotalking.io.reading import reading
from emotalking.progress import doing

_CHUNK = 2048
"""Frames of features written or checked at a time."""


def feature_track(
    audio: str | Path | Float[np.ndarray, " S"] | Iterable[Float[np.ndarray, " n"]], name: str = DEFAULT_FEATURE
) -> StepFeatures:
    """Compute the features ``name`` of one recording in one pass, in memory that does not grow with its length.

    Args:
        audio: sound file, float32 mono samples at 16 kHz, or consecutive pieces of such samples.
        name: of a row of ``data.audio_features.AUDIO_FEATURES``.

    Raises:
        InputError: unknown features, features that only other programs compute, or a file that cannot be read.
    """
    feature = audio_feature(name)
    if feature.module is None:
        raise InputError(
            f"'{feature.name}' audio features cannot be computed here: provide them for this sound as an .npy array of "
            f"shape [frames, {feature.steps}, {feature.channels}], or train the avatar with '{DEFAULT_FEATURE}', which "
            "needs no extra file."
        )
    if isinstance(audio, str | Path):
        audio = iter_audio(audio)
    chunks = [audio] if isinstance(audio, np.ndarray) else audio
    with doing(f"'{feature.name}' audio features"):
        return importlib.import_module(feature.module).track(chunks, feature)


def extract_features(
    samples: Float[np.ndarray, " S"], num_frames: int, fps: Fraction | float | int, name: str = DEFAULT_FEATURE
) -> Float[np.ndarray, "num_frames steps C"]:
    """Features of the first ``num_frames`` video frames; frames past the end of the sound are silence (0).

    Args:
        samples: float32 mono at 16 kHz in [-1, 1].
        num_frames: number of video frames.
        fps: of the video.
        name: as in :func:`feature_track`.
    """
    return feature_track(samples, name).frames(np.arange(num_frames), fps)


def load_features(path: str | Path, name: str, fps: Fraction | float | int) -> FrameFeatures:
    """Features of a recording that another program computed, one row per video frame; rows are read when needed.

    Raises:
        InputError: the file is not a numeric array of shape [frames, steps, channels], or not all of it is finite.
    """
    path, feature = Path(path), audio_feature(name)
    with reading(path, "cannot be read as an .npy array of audio features", "extract it again"):
        values = load_array(path, mmap_mode="r")
    if values.shape[1:] != feature.shape or values.dtype.kind != "f":
        found = f"{values.dtype} {list(values.shape)}"
        raise InputError(
            f"{path} holds {found}, but '{feature.name}' features are floats of shape [frames, "
            f"{feature.steps}, {feature.channels}]."
        )
    for begin in range(0, len(values), _CHUNK):
        if not np.isfinite(values[begin : begin + _CHUNK]).all():
            raise InputError(f"{path} holds numbers that are not finite from frame {begin} on: extract it again.")
    return FrameFeatures(values, float(fps))


def write_features(path: Path, sound: Path, name: str, count: int, fps: Fraction) -> None:
    """Write the features ``name`` of the file ``sound`` for ``count`` frames as float32 ``.npy``."""
    feature, track = audio_feature(name), feature_track(sound, name)
    with replacing(path) as scratch:
        out = mapped_array(scratch, (count, *feature.shape))
        for begin in range(0, count, _CHUNK):
            index = np.arange(begin, min(begin + _CHUNK, count))
            out[index] = track.frames(index, fps)
        out.flush()
