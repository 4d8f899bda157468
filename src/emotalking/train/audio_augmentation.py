"""The clip's own sound as other voices and microphones would give it, for the audio encoders' pretraining."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy.signal import istft, stft
from torch import Tensor

from emotalking.audio.features import feature_track
from emotalking.audio.streams import feature_streams, live_windows
from emotalking.audio.windows import audio_windows
from emotalking.data import Subject
from emotalking.data.audio_features import audio_feature
from emotalking.errors import MissingModelError, MissingPackageError
from emotalking.io.audio import SAMPLE_RATE, load_audio, resample
from emotalking.progress import track

SPEEDS = (0.9, 1.1)
VOICES = (0.87, 1.15)
"""Factors of pitch and formants, which together make a larger or a smaller speaker."""
NOISE_DB = 15.0
"""White noise under the level of the whole clip."""
LOOK_AHEADS_MS = (80, 160)
"""Of the windows that a live player has."""
LIVE_WEIGHT = 4
"""How often each of these windows counts: a quarter of all examples are live then."""
_FFT, _HOP = 1024, 256
_ONSET = 2.0
"""Growth of loudness from one frame of the phase vocoder to the next at which a sound begins."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LipExamples:
    """Audio windows and where each is in the clip."""

    windows: Float[Tensor, "N 8 C S"]
    rows: Float[Tensor, " N"]
    """Row of the training data, between two rows where the tempo is another."""

    def targets(self, motion: Float[Tensor, "F M"]) -> Float[Tensor, "N M"]:
        """Lips of these examples, interpolated between the training frames' ``motion``."""
        low = self.rows.floor().long()
        part = (self.rows - low)[:, None].to(motion.dtype)
        return torch.lerp(motion[low], motion[(low + 1).clamp_max(len(motion) - 1)], part)


def augmented_examples(
    subject: Subject, indices: Int64[np.ndarray, " F"], features: str, device: torch.device | str
) -> list[LipExamples]:
    """The training frames' windows from the clip's sound at other tempos, of other voices, with noise, and live.

    Nothing where the folder has no sound, or features that cannot be computed here.

    Args:
        indices: the training frames.
        features: name of the audio features.
    """
    if audio_feature(features).module is None or not subject.files.audio.exists():
        return []
    samples = load_audio(subject.files.audio)
    rng = np.random.default_rng(0)
    level = float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))
    noise = rng.standard_normal(len(samples)).astype(np.float32) * np.float32(level * 10.0 ** (-NOISE_DB / 20))
    changed: list[tuple[float, Callable[[], np.ndarray]]] = [
        *((speed, lambda speed=speed: faster(samples, speed)) for speed in SPEEDS),
        *((1.0, lambda voice=voice: other_voice(samples, voice)) for voice in VOICES),
        (1.0, lambda: samples + noise),
    ]
    try:
        return [
            *(
                _examples(subject, indices, features, device, make(), speed)
                for speed, make in track(changed, "vary the sound")
            ),
            *_live_examples(subject, indices, features, device, samples),
        ]
    except (MissingPackageError, MissingModelError) as error:
        _logger.info("audio pretraining goes without other voices: %s", error)
        return []


def _live_examples(
    subject: Subject, indices: np.ndarray, features: str, device: torch.device | str, samples: np.ndarray
) -> list[LipExamples]:
    """Windows of every second frame that lack the sound to come.

    Without them lips follow live sound less than the whole file. With 80 ms of future sound the width of a reporter's
    lips, read linearly from the codes of held-out frames, has r .24 and .32 (two seeds); with them .43 and .39.
    """
    if audio_feature(features).streams is None:
        return []
    streams = feature_streams(features, torch.device(device))
    made = []
    for number, look_ahead_ms in enumerate(LOOK_AHEADS_MS[: len(indices)]):
        rows = np.arange(number, len(indices), 2 * len(LOOK_AHEADS_MS))
        windows = live_windows(samples, indices[rows], subject.fps, look_ahead_ms, streams)
        made.append(LipExamples(windows.to(device), torch.from_numpy(rows).double().to(device)))
    return LIVE_WEIGHT * made


def silent_examples(windows: Float[Tensor, "F 8 C S"], closed: Int64[Tensor, " n"]) -> LipExamples:
    """Digital silence (0 in every feature) with the lips of the frames ``closed``.

    Few clips have any, and what an encoder makes of sound that it never heard is by chance: one head's lips were 10 %
    of the distance between the eyes apart in silence, and snapped open before the first word.
    """
    return LipExamples(torch.zeros_like(windows[closed]), closed.double())


def _examples(
    subject: Subject,
    indices: np.ndarray,
    features: str,
    device: torch.device | str,
    samples: np.ndarray,
    speed: float,
) -> LipExamples:
    """Windows of ``samples``, ``speed`` times as fast as the clip, for all frames between two training frames."""
    count = int(subject.num_frames / speed)
    values = feature_track(samples, features).frames(np.arange(count), subject.fps)
    places = np.arange(count) * speed
    below = np.searchsorted(indices, places, side="right") - 1
    above = np.minimum(below + 1, len(indices) - 1)
    exact = indices[np.maximum(below, 0)] == places
    within = (below >= 0) & (exact | (indices[above] - indices[np.maximum(below, 0)] == 1))
    rows = below + np.where(exact, 0.0, places - indices[np.maximum(below, 0)])
    sound = torch.from_numpy(values).to(device)
    frames = np.flatnonzero(within)
    return LipExamples(audio_windows(sound, frames), torch.from_numpy(rows[within]).to(device))


def faster(samples: Float[np.ndarray, " S"], speed: float) -> Float[np.ndarray, " n"]:
    """The sound ``speed`` times as fast, and as high."""
    return resample(samples, round(SAMPLE_RATE * speed), SAMPLE_RATE)


def other_voice(samples: Float[np.ndarray, " S"], factor: float) -> Float[np.ndarray, " S"]:
    """Pitch and formants times ``factor``, at the same tempo: played faster, and stretched by a phase vocoder.

    Flanagan and Golden, "Phase vocoder", 1966.
    """
    quick = faster(samples, factor)
    _, _, spectra = stft(quick, nperseg=_FFT, noverlap=_FFT - _HOP)
    places = np.arange(0, spectra.shape[1] - 1, 1.0 / factor)
    low = places.astype(np.int64)
    part = (places - low)[None]
    loud, phase = np.abs(spectra), np.angle(spectra)
    size = (1 - part) * loud[:, low] + part * loud[:, low + 1]
    advance = 2.0 * np.pi * _HOP * np.arange(len(spectra))[:, None] / _FFT
    turn = phase[:, low + 1] - phase[:, low] - advance
    step = advance + turn - 2.0 * np.pi * np.round(turn / (2.0 * np.pi))
    loudness = loud.sum(0)
    onset = loudness[low + 1] > _ONSET * loudness[low]
    phases = np.empty_like(step)
    current = phase[:, 0]
    for frame in range(len(places)):
        phases[:, frame] = current
        # Phases that ran on through a pause fit nowhere after it: a sound begins with its own.
        current = phase[:, low[frame] + 1] if onset[frame] else current + step[:, frame]
    _, made = istft(size * np.exp(1j * phases), nperseg=_FFT, noverlap=_FFT - _HOP)
    made = made[: len(samples)].astype(np.float32)
    return np.pad(made, (0, len(samples) - len(made)))
