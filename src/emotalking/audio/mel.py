"""Log-mel spectra of speech, normalised to be independent of speaker and microphone.

The embedded audio features: no network, no language, no download. One column ("step") every 20 ms; 32 mel channels from
60 Hz to 7.6 kHz. Silence is exactly zero in every channel, as is the time before and after a recording.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import uniform_filter1d

from emotalking.audio.tracks import StepFeatures
from emotalking.data.audio_features import AUDIO_FEATURES, AudioFeature
from emotalking.io.audio import SAMPLE_RATE
from emotalking.io.rows import GrowingRows, blocks, spread

CHANNELS = AUDIO_FEATURES["mel"].channels
HOP = SAMPLE_RATE // 50
"""Samples from one step to the next: 20 ms. Step s is centred on (s + 1/2) 20 ms."""
WINDOW = 400
"""Samples under the Hann window: 25 ms."""
FFT = 512
LOWEST_HZ, HIGHEST_HZ = 60.0, 7600.0
PREEMPHASIS = 0.97
_HANN = np.hanning(WINDOW + 1)[:-1].astype(np.float32)

_AUDIBLE = 10.0 ** (-50 / 10)
"""Steps weaker than this, relative to the loudest one, do not enter the level."""
REACH_S = 0.1825
"""Reach [s] of a frame's features into the audio around its time: eight steps of 20 ms, half a window, and
half a step where the frame rate does not divide the steps'. The 8-frame window adds its own; level, noise, mean and
deviation are taken of the whole recording."""
WEAKEST_DB = -75.0
"""Level (after pre-emphasis) below which a recording holds no speech: room tone is not amplified into talk. Normal
speech measures -20 to -45 dB here."""
WEAKEST_SPEECH = 10.0 ** (WEAKEST_DB / 10)
"""The same as a mean square."""
_ACTIVE_DB = -25.0
"""Steps louder than this, relative to the speech level, count for the statistics."""
_GATE_DB = (-45.0, -35.0)
"""Below the first: silence; above the second: speech; loudness without the noise, relative to the speech level."""
_NOISE_GATE_DB = (-3.0, 3.0)
"""The same relative to the noise level: what is left of noise without its mean must not move lips."""
_NOISE_STEPS = 9
_NOISE_FACTOR = 1.5
"""The 10th percentile is below the mean of the noise. Clean speech, pauses or not, measures 0 to 0.08 of its
channel's active mean here, a noisy channel 0.2 to 0.9."""
_NOISE_CAP = 0.8
_BLOCK = 512
"""Steps transformed at once."""
_ENOUGH = 90_000
"""Steps (half an hour) from which on the statistics of a recording are taken from pieces spread over it."""


def mel_corners(lowest_hz: float | int, highest_hz: float | int, filters: int) -> Float[np.ndarray, " corners"]:
    """Corners of ``filters`` overlapping triangles, equally spaced on the mel scale 2595 log10(1 + f/700).

    O'Shaughnessy, "Speech Communication", 1987. Triangle i begins at corner i, peaks at i + 1 and ends at i + 2.

    Returns:
        ``filters`` + 2 frequencies, Hz.
    """
    lowest, highest = (2595.0 * np.log10(1.0 + hz / 700.0) for hz in (lowest_hz, highest_hz))
    return 700.0 * (10.0 ** (np.linspace(lowest, highest, filters + 2) / 2595.0) - 1.0)


def triangles(
    corners: Float[np.ndarray, " corners"], places: Float[np.ndarray, " bins"]
) -> Float[np.ndarray, "filters bins"]:
    """Triangles of height 1 between rising ``corners`` (:func:`mel_corners`), at ``places`` in the same unit."""
    low, peak, high = (corners[i : len(corners) - 2 + i, None] for i in range(3))
    rise, fall = (places - low) / (peak - low), (high - places) / (high - peak)
    return np.maximum(0.0, np.minimum(rise, fall))


@cache
def mel_filterbank() -> Float[np.ndarray, "channels bins"]:
    """Weights of the channels over the power spectrum.

    Returns:
        [32, 257] weights with peak 1; neighbours overlap by half and sum to 1 between the outer centres.
    """
    bins = np.arange(FFT // 2 + 1) * SAMPLE_RATE / FFT
    return triangles(mel_corners(LOWEST_HZ, HIGHEST_HZ, CHANNELS), bins).astype(np.float32)


@dataclass(frozen=True)
class MelSpectra:
    """Mel power and mean square, step by step, before any normalisation."""

    power: GrowingRows
    """[steps, channels], of the pre-emphasised signal."""
    mean_square: Float[np.ndarray, " steps"]
    """Spectrum of the pre-emphasised, windowed signal."""
    num_samples: int


def mel_spectra(chunks: Iterable[Float[np.ndarray, " n"]]) -> MelSpectra:
    """Mel spectra of consecutive pieces of one recording; the result does not depend on the pieces.

    Args:
        chunks: float32 mono at 16 kHz, pieces of any length.
    """
    powers, squares = GrowingRows(CHANNELS), [np.zeros(0, np.float32)]
    counted = Counted(chunks)
    for windows in iter_windows(counted, WINDOW, HOP, (WINDOW - HOP) // 2):
        power, square = mel_power(windows)
        powers.append(power)
        squares.append(square)
    return MelSpectra(powers, np.concatenate(squares), counted.samples)


def mel_power(
    windows: Float[np.ndarray, "steps window"],
) -> tuple[Float[np.ndarray, "steps channels"], Float[np.ndarray, " steps"]]:
    """Power in the channels and mean square of windows of the pre-emphasised signal, float32."""
    frames = windows * _HANN
    power = np.abs(np.fft.rfft(frames, FFT)) ** 2 @ mel_filterbank().T
    return power.astype(np.float32), ((frames**2).sum(-1) / (_HANN**2).sum()).astype(np.float32)


class Counted:
    """Pre-emphasised chunks of a recording, with a count of the samples that went by."""

    def __init__(self, chunks: Iterable[np.ndarray]) -> None:
        self.chunks = chunks
        self.samples = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        previous = np.zeros(1, np.float32)
        for chunk in self.chunks:
            if len(chunk):
                self.samples += len(chunk)
                joined = np.concatenate([previous, chunk])
                previous = joined[-1:]
                yield joined[1:] - np.float32(PREEMPHASIS) * joined[:-1]


def iter_windows(
    counted: Counted, window: int, hop: int, lead: int, multiple: int = 1
) -> Iterator[Float[np.ndarray, "steps window"]]:
    """Windows of a recording, up to `_BLOCK` at a time; silence before and after it.

    Args:
        counted: the recording.
        window: samples.
        hop: samples from one window to the next.
        lead: samples by which the first one begins before the recording.
        multiple: their number is a multiple of this, and covers the recording.
    """
    pending = [np.zeros(lead, np.float32)]
    length, done = lead, 0
    full = (_BLOCK - 1) * hop + window
    for chunk in counted:
        pending.append(chunk)
        length += len(chunk)
        if length < full:
            continue
        signal = np.concatenate(pending)
        while len(signal) >= full:
            yield np.lib.stride_tricks.sliding_window_view(signal[:full], window)[::hop]
            signal = signal[_BLOCK * hop :]
            done += _BLOCK
        pending, length = [signal], len(signal)
    rest = multiple * -(-counted.samples // (multiple * hop)) - done
    if rest > 0:
        end = (rest - 1) * hop + window
        signal = np.concatenate([*pending, np.zeros(max(0, end - length), np.float32)])[:end]
        yield np.lib.stride_tricks.sliding_window_view(signal, window)[::hop]


def normalise(spectra: MelSpectra) -> GrowingRows:
    """Normalise spectra to features independent of level, microphone and timbre of the voice.

    1. The level is the mean square of the steps above a gate (50 dB under the loudest, then 10 dB under the mean, as
       loudness meters do, ITU-R BS.1770), so pauses do not count.
    2. Each channel's logarithm loses its mean and gets unit variance over the active steps (cepstral mean and variance
       normalisation, Viikki & Laurila 1998), which removes the frequency response of microphone and voice.
    3. What is more than 2 deviations under the mean is floored, and steps under a gate fade to the floor, so that the
       floor, 0, means silence: ``max(0, z + 2)``. The gate's loudness is without steady noise (the 10th percentile of
       each channel, smoothed over 180 ms), which stays in the channels: taking it off them takes soft speech along
       (ridge regression of a reporter's mouth opening: r .58 with it taken off, .63 without).

    Returns:
        [steps, 32] float32 >= 0; active speech has mean about 2 and deviation about 1 in every channel.
    """
    power, mean_square = spectra.power, spectra.mean_square
    picked = spread(len(power), _ENOUGH)
    some = np.concatenate([power[pick] for pick in picked])
    levels = _levels(some, np.concatenate([mean_square[pick] for pick in picked]), speech_level(mean_square))
    values = GrowingRows(CHANNELS)
    for pick in blocks(len(power)):
        part = power[pick]
        values.append(np.zeros_like(part) if levels is None else levels.normalised(part, mean_square[pick]))
    return values


def normalised_by(
    heard: Float[np.ndarray, "n channels"],
    heard_square: Float[np.ndarray, " n"],
    power: Float[np.ndarray, "steps channels"],
    mean_square: Float[np.ndarray, " steps"],
) -> Float[np.ndarray, "steps channels"]:
    """Steps normalised by the statistics of others: all that was ``heard`` so far, of a live stream."""
    levels = _levels(heard, heard_square, speech_level(heard_square)) if len(heard) else None
    return np.zeros_like(power) if levels is None else levels.normalised(power, mean_square)


def log_mel(chunks: Iterable[Float[np.ndarray, " n"]]) -> GrowingRows:
    """Normalised mel spectra, [steps, 32], of one recording; see :func:`normalise`."""
    return normalise(mel_spectra(chunks))


def track(chunks: Iterable[Float[np.ndarray, " n"]], feature: AudioFeature) -> StepFeatures:
    """Features of one recording, normalised over the whole of it: level, noise, mean and deviation of its channels.

    Args:
        chunks: consecutive pieces of float32 mono at 16 kHz in [-1, 1].
        feature: the row of these features.
    """
    spectra = mel_spectra(chunks)
    return StepFeatures(normalise(spectra), feature.rate_hz, feature.steps, spectra.num_samples / SAMPLE_RATE)


@dataclass(frozen=True)
class _Levels:
    """Statistics that :func:`normalise` takes off a recording."""

    level: float
    noise: Float[np.ndarray, " channels"]
    gate_db: tuple[float, float]
    floor: Float[np.ndarray, " channels"]
    mean: Float[np.ndarray, " channels"]
    deviation: Float[np.ndarray, " channels"]

    def normalised(
        self, power: Float[np.ndarray, "steps channels"], mean_square: Float[np.ndarray, " steps"]
    ) -> Float[np.ndarray, "steps channels"]:
        """Steps of the recording as features."""
        clean = np.maximum(power - self.noise, 0.0)
        kept = clean.sum(-1) / np.maximum(power.sum(-1), 1e-20)
        loudness_db = 10.0 * np.log10(np.maximum(mean_square * kept / self.level, 1e-12))
        closed, opened = self.gate_db
        gate = np.clip((loudness_db - closed) / (opened - closed), 0.0, 1.0)[:, None]
        above = (np.log(np.maximum(power, self.floor)) - self.mean) / self.deviation
        return (gate * np.maximum(0.0, above + 2.0)).astype(np.float32)


def _levels(power: np.ndarray, mean_square: np.ndarray, level: float) -> _Levels | None:
    """Statistics of the steps ``power`` [S, C] with ``mean_square`` [S]; None: there is no speech."""
    active: Bool[np.ndarray, " steps"] = mean_square > level * 10.0 ** (_ACTIVE_DB / 10)
    if level < WEAKEST_SPEECH or not active.any():
        return None
    # Digital silence around a recording carries no information about the noise of its room.
    noise = _noise_power(power[mean_square > 1e-8 * level], power[active].mean(0))
    noise_share = noise.sum() / np.maximum(power[active].mean(0).sum(), 1e-20)
    noise_db = 10.0 * float(np.log10(np.maximum(noise_share, 1e-12)))
    closed, opened = (max(own, noise_db + above) for own, above in zip(_GATE_DB, _NOISE_GATE_DB, strict=True))
    # The floor is 60 dB under the channel's own mean, and 70 dB under the whole, so that noise in an empty channel
    # (telephone speech is empty above 4 kHz) is not amplified into speech.
    mean_power = power[active].mean(0)
    floor = 1e-6 * mean_power + 1e-7 * mean_power.sum() + 1e-20
    log_power = np.log(np.maximum(power[active], floor))
    deviation = np.maximum(log_power.std(0), 0.5)
    return _Levels(level, noise, (closed, opened), floor, log_power.mean(0), deviation)


def speech_level(mean_square: Float[np.ndarray, " steps"]) -> float:
    """Mean square of the steps that carry the speech; 0 for silence."""
    if not mean_square.any():
        return 0.0
    audible = mean_square[mean_square > _AUDIBLE * mean_square.max()]
    return float(audible[audible > 0.1 * audible.mean()].mean())


def _noise_power(sounding: np.ndarray, speech: np.ndarray) -> np.ndarray:
    """Steady noise in each channel of the power ``sounding`` [n, C], never all of the mean of the active steps."""
    smooth = uniform_filter1d(sounding, _NOISE_STEPS, axis=0, mode="nearest")
    return np.minimum(_NOISE_FACTOR * np.percentile(smooth, 10, axis=0), _NOISE_CAP * speech).astype(np.float32)
