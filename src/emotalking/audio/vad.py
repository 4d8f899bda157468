"""Voice activity detection: a gate for the mouth, independent of voice, language, level and microphone.

Three measures of every 20 ms decide, none of which depends on the level of the recording:

1. *Sound*: power over the floor of steady noise (10th percentile of each frequency over 6 s), so that fans, hum, hiss
   and rooms are silence.
2. *Voice*: the strongest peak, within the pitch of voices, of the autocorrelation (Boersma 1993) of what exceeds
   the floor from 250 to 3500 Hz. Breath, knocks and drums have none: the square root of the power spectrum is
   transformed, so that one low tone cannot pass for a row of harmonics.
3. *Steadiness*: the correlation of the fine structure of the spectrum with that 120 ms later or earlier. The harmonics
   of notes stay in their places, those of talk glide (Seyerlehner et al., "Automatic music detection in television
   productions", 2007, distinguish music from speech by the same).

Speech is where voiced, gliding sound lasts. Unvoiced sound within reach of it counts too (fricatives, plosives), and so
do gaps shorter than 0.2 s, the closures inside words. Limits (``benchmarks/silence.py`` has figures): whispering is
classified as breath, sustained notes of a singer as music, and talk clearly weaker than its background music as music.

The recording is worked through in overlapping blocks: memory does not grow with its length but for one byte each 20 ms,
and the result does not depend on how the sound was cut into pieces.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy.ndimage import maximum_filter1d, minimum_filter1d, uniform_filter1d

from emotalking.audio.mel import HOP, WEAKEST_DB
from emotalking.audio.pieces import Piece, overlapping
from emotalking.io.audio import SAMPLE_RATE

STEP_S = HOP / SAMPLE_RATE

OPENS_S = (0.28, 0.08)
"""The gate begins to open so long before a sound and is open so long before it. Lips part 0.28 s before the first sound
of a sentence (median of 32 sentences of the GRID corpus, speaker 1)."""
CLOSES_S = (0.02, 0.20)
"""The gate begins to close so long after the last sound and is closed so long after it (the same sentences: lips are
closed at the end of the last word, and stay closed)."""

_FFT = 1024
FINE, QUICK = 1024, 512
"""Samples under the Hann windows: 64 ms to see single harmonics, 32 ms for the time of everything else."""
_HZ = np.fft.rfftfreq(_FFT, 1 / SAMPLE_RATE)
_VOICE_BAND = slice(*np.searchsorted(_HZ, (250, 3500.1)))
_HANN = {size: np.hanning(size + 1)[:-1].astype(np.float32) for size in (FINE, QUICK)}
"""Windows by their number of samples."""
_BANDS = np.searchsorted(_HZ, (47, 156, 312, 500, 703, 937, 1250, 1640, 2110, 2656, 3281, 4000, 5156, 6562))
ROW = 3 + len(_BANDS) + _VOICE_BAND.stop - _VOICE_BAND.start
"""Columns of :func:`rows`."""
_LAGS = np.arange(SAMPLE_RATE // 400, SAMPLE_RATE // 70)
"""Periods of voices, 70 to 400 Hz."""

FLOOR_EVERY = 25
FLOOR_REACH = 140
FLOOR_SMOOTH = 9
_OVER_FLOOR = 1.5
"""The 10th percentile of noise is below its mean."""
DIGITAL_SILENCE = 1e-8
_RANGE_DB, _RANGE_REACH = 42.0, 150
"""Sound so far under the loudest within 3 s is its echo or its room."""
_SOUND_DB, _VOICE_DB = 5.5, 6.0
"""Over the floor, in the four strongest bands."""
_VOICED = 0.26
_WEAKEST_TONE = 3e-4
_PEDESTAL = 0.2
_LOW_TONE_DB = -18.0
"""The voice band holds at least this share of the power of a voice; of a bass drum's it holds less."""
_STEADY = 0.67
_STEADY_LAG = 6
STEADY_REACH = 20
_VOICE_RUN = 3
"""Consecutive voiced steps that are certainly voice."""
_UNVOICED_REACH = 12
"""Steps around voice in which unvoiced sound belongs to it."""
_SHORTEST_PAUSE = 10
"""Steps; shorter gaps are part of the speech."""
_SHORTEST_SPEECH = 6
"""Steps; shorter speech is dropped."""

_BLOCK, _CONTEXT = 1500, 400
"""Steps decided at once, and steps on either side that can bear on them (multiples of FLOOR_EVERY)."""
_BEYOND = 4
"""Steps of sound that must follow them: windows reach beyond their steps, and the seams must not be seen."""
_GATE_REACH = int(np.ceil(max(*OPENS_S, *CLOSES_S) / STEP_S)) + 1
"""Steps on either side that bear on the gate."""


class VoiceActivity:
    """Voice activity of a recording, computed on demand.

    Hours of sound take minutes, and a video can begin long before that.
    """

    def __init__(self, decided: Iterable[Bool[np.ndarray, " _"]]) -> None:
        """``decided``: consecutive pieces of :attr:`speaking`, taken one by one."""
        self._rest = iter(decided)
        self._activity = np.zeros(0, bool)

    @property
    def speaking(self) -> Bool[np.ndarray, " S"]:
        """True where somebody speaks; step s is centred on (s + 1/2) 20 ms. Computes the whole recording."""
        self.finish()
        return self._activity

    def finish(self) -> None:
        """Compute the whole recording."""
        self._compute(None)

    def _compute(self, steps: int | None) -> None:
        """Compute at least ``steps`` steps, where there are so many; None: all."""
        while steps is None or len(self._activity) < steps:
            piece = next(self._rest, None)
            if piece is None:
                return
            self._activity = np.concatenate([self._activity, piece])

    def at(self, times_s: Float[np.ndarray, " T"]) -> Float[np.ndarray, " T"]:
        """The gate at times: 1 in speech, 0 in silence, smooth between (:data:`OPENS_S`, :data:`CLOSES_S`), float32.

        Outside the recording there is silence.
        """
        self._compute(int(np.floor(times_s.max(initial=0.0) / STEP_S)) + _GATE_REACH + 1)
        return gate_at(self._activity, times_s)

    def frames(self, start: int, stop: int, fps: Fraction | float | int) -> Float[np.ndarray, " N"]:
        """The gate of the video frames ``start`` .. ``stop - 1``, each at the middle of the time that it is shown."""
        return self.at((np.arange(start, stop) + 0.5) / float(fps))


def gate_at(
    activity: Bool[np.ndarray, "*B S"], times_s: Float[np.ndarray, "*B T"], first: Integer[np.ndarray, "*B"] | int = 0
) -> Float[np.ndarray, "*B T"]:
    """The gate at times, as :meth:`VoiceActivity.at`, of one or of several recordings.

    Args:
        activity: of every step.
        times_s: seconds from the beginning of the first step.
        first: step at which the recording begins.
    """
    steps = np.floor(times_s / STEP_S).astype(np.int64)[..., None] + np.arange(-_GATE_REACH, _GATE_REACH + 1)
    ahead = (steps + 0.5) * STEP_S - times_s[..., None]
    distance = np.maximum(np.abs(ahead) - STEP_S / 2, 0.0)
    far, near = np.where(ahead > 0, OPENS_S[0], CLOSES_S[1]), np.where(ahead > 0, OPENS_S[1], CLOSES_S[0])
    ramp = np.clip((far - distance) / (far - near), 0.0, 1.0)
    count = activity.shape[-1]
    inside = (steps >= np.asarray(first)[..., None, None]) & (steps < count)
    if not inside.any():
        return np.zeros(times_s.shape, np.float32)
    flat = np.clip(steps, 0, count - 1).reshape(*activity.shape[:-1], -1)
    active = np.take_along_axis(activity, flat, -1).reshape(steps.shape) & inside
    # The ease of a smoothstep: speed zero at both ends, so that lips neither start nor stop with a jerk.
    return (active * ramp**2 * (3.0 - 2.0 * ramp)).max(-1).astype(np.float32)


def voice_activity(chunks: Iterable[Float[np.ndarray, " _"]]) -> VoiceActivity:
    """Detect speech in a recording; lazily, when the result is read.

    Args:
        chunks: consecutive pieces of float32 mono at 16 kHz in [-1, 1], of any length.
    """
    return VoiceActivity(map(_decide_middle, overlapping(chunks, _BLOCK, _CONTEXT, HOP, _BEYOND * HOP)))


def _decide_middle(piece: Piece) -> Bool[np.ndarray, " steps"]:
    return decide(_measure(piece.samples))[piece.before : piece.before + piece.steps]


@dataclass(frozen=True)
class Measures:
    """Measures of every step."""

    over_floor: Float[np.ndarray, "*B S"]
    """dB, of the strongest bands."""
    level: Float[np.ndarray, "*B S"]
    """Level above the floor, dB."""
    voiced: Float[np.ndarray, "*B S"]
    """0 (noise) to 1 (a periodic sound)."""
    voice_share: Float[np.ndarray, "*B S"]
    """dB: power of the voice band in all."""
    steady: Float[np.ndarray, "*B S"]
    """-1..1: correlation of the fine structure over 120 ms."""


def _measure(samples: np.ndarray) -> Measures:
    quick, fine = _spectra(samples, QUICK), _spectra(samples, FINE)
    audible = quick.sum(1) > DIGITAL_SILENCE
    return measures(rows(quick, fine, _noise_floor(quick, audible), _noise_floor(fine, audible)))


def rows(
    quick: Float[np.ndarray, "*B S bins"],
    fine: Float[np.ndarray, "*B S bins"],
    floor: Float[np.ndarray, "*B #S bins"],
    fine_floor: Float[np.ndarray, "*B #S bins"],
) -> Float[np.ndarray, "*B S columns"]:
    """What is known of each step by its own spectra (:func:`powers`) and the noise under it, for :func:`measures`."""
    clean = np.maximum(quick - _OVER_FLOOR * floor, 0.0)
    fine_clean = np.maximum(fine[..., _VOICE_BAND] - _OVER_FLOOR * fine_floor[..., _VOICE_BAND], 0.0)
    ratio = np.add.reduceat(quick, _BANDS, axis=-1) / (np.add.reduceat(floor, _BANDS, axis=-1) + 1e-9)
    level = _db(clean.sum(-1))
    alone = np.stack([level, _voicing(clean, floor), _db(clean[..., _VOICE_BAND].sum(-1)) - level], -1)
    return np.concatenate([alone, ratio, _fine_structure(fine_clean)], -1).astype(np.float32)


def measures(rows: Float[np.ndarray, "*B S columns"]) -> Measures:
    """Measures of consecutive steps."""
    level, voiced, voice_share = np.moveaxis(rows[..., :3], -1, 0)
    ratio, fine = np.split(rows[..., 3:], [len(_BANDS)], -1)
    strongest = np.sort(uniform_filter1d(ratio, 3, axis=-2), axis=-1)[..., -4:].mean(-1)
    return Measures(_db(strongest), level, voiced, voice_share, _steadiness(fine))


def decide(
    measures: Measures, ongoing: Bool[np.ndarray, "*B"] | bool = False, first: Integer[np.ndarray, "*B"] | int = 0
) -> Bool[np.ndarray, "*B S"]:
    """Decide between speech and its absence, step by step.

    Args:
        measures: of the steps of one recording, or of several.
        ongoing: these are all steps so far and more will follow: speech at the end is taken for longer than it is known
            to be, a pause for shorter, and the first sound for speech until voice may have followed.
        first: step at which the recording begins; those before it are its own first ones, mirrored.
    """
    count = measures.level.shape[-1]
    ongoing, first = np.asarray(ongoing)[..., None], np.asarray(first)[..., None]
    loudest = maximum_filter1d(measures.level, 2 * _RANGE_REACH + 1, mode="nearest")
    sound = (measures.over_floor > _SOUND_DB) & (measures.level > np.maximum(WEAKEST_DB, loudest - _RANGE_DB))
    sound &= np.arange(count) >= first
    voiced = measures.voiced > _VOICED
    # The steadiness of a passage is that of its loudest voiced steps.
    weight = 10.0 ** (measures.level / 20.0) * voiced + 1e-9
    span = 2 * STEADY_REACH + 1
    steady = uniform_filter1d(weight * measures.steady, span) / uniform_filter1d(weight, span)
    voice = (
        sound & voiced & (measures.over_floor > _VOICE_DB) & (measures.voice_share > _LOW_TONE_DB) & (steady < _STEADY)
    )
    certain = _opened(voice, _VOICE_RUN)
    near = _dilated(certain, 2 * _UNVOICED_REACH + 1) & sound & (steady < _STEADY + 0.1)
    # Somebody has begun to send sound: most likely it is speech.
    talk = np.where(ongoing & (count - first <= _UNVOICED_REACH), sound, near | certain)
    # Closing would eat the ends of the recording: it is done with room around. What follows may be speech: then a pause
    # is short, and speech is long enough.
    room = np.zeros((*talk.shape[:-1], _SHORTEST_PAUSE), bool)
    around = np.concatenate([room, talk, room | ongoing], -1)
    talk |= _closed(around, _SHORTEST_PAUSE + 1)[..., _SHORTEST_PAUSE:-_SHORTEST_PAUSE]
    continued = np.concatenate([talk, room[..., :_SHORTEST_SPEECH] | (ongoing & talk[..., -1:])], -1)
    return _opened(continued, _SHORTEST_SPEECH)[..., :count]


def _closed(steps: Bool[np.ndarray, "*B S"], size: int) -> Bool[np.ndarray, "*B S"]:
    """Gaps shorter than ``size`` (odd) steps filled."""
    return _eroded(_dilated(steps, size), size)


def _opened(steps: Bool[np.ndarray, "*B S"], size: int) -> Bool[np.ndarray, "*B S"]:
    """Runs shorter than ``size`` steps removed."""
    return _dilated(_eroded(steps, size), size)


def _eroded(steps: Bool[np.ndarray, "*B S"], size: int) -> Bool[np.ndarray, "*B S"]:
    return minimum_filter1d(steps.view(np.uint8), size, mode="constant").view(bool)


def _dilated(steps: Bool[np.ndarray, "*B S"], size: int) -> Bool[np.ndarray, "*B S"]:
    return maximum_filter1d(steps.view(np.uint8), size, mode="constant", origin=size % 2 - 1).view(bool)


def _spectra(samples: np.ndarray, window: int) -> Float[np.ndarray, "S bins"]:
    """Power spectra of windows centred on the steps."""
    steps = -(-len(samples) // HOP)
    lead = (window - HOP) // 2
    padded = np.pad(samples, (lead, max(0, (steps - 1) * HOP + window - lead - len(samples))))
    return powers(padded[: (steps - 1) * HOP + window], window)


def powers(samples: Float[np.ndarray, "*B n"], window: int) -> Float[np.ndarray, "*B S bins"]:
    """Power spectra of all windows in ``samples``, a step from one to the next; a full-scale square wave has sum 1."""
    hann = _HANN[window]
    windows = np.lib.stride_tricks.sliding_window_view(samples, window, -1)[..., ::HOP, :] * hann
    power = np.abs(np.fft.rfft(windows, _FFT)) ** 2
    return (power * (2.0 / _FFT / float((hann**2).sum()))).astype(np.float32)


def steady_noise(smooth: Float[np.ndarray, "S bins"]) -> Float[np.ndarray, " bins"]:
    """10th percentile of each frequency over sounding steps, each the mean of `FLOOR_SMOOTH`."""
    # Neighbours are smoothed: every third is as informative as all.
    ordered = np.sort(smooth[::3], axis=0)  # five times as fast as `numpy.percentile`
    low, part = divmod(0.1 * (len(ordered) - 1), 1)
    below, above = ordered[int(low)], ordered[min(int(low) + 1, len(ordered) - 1)]
    return below + (above - below) * np.float32(part)


def _noise_floor(power: np.ndarray, audible: np.ndarray) -> Float[np.ndarray, "S bins"]:
    """10th percentile of each frequency over the sounding steps of about 3 s before and after; 0 without any."""
    smooth = uniform_filter1d(power, FLOOR_SMOOTH, axis=0, mode="nearest")
    floor = np.zeros_like(power)
    for begin in range(0, len(power), FLOOR_EVERY):
        span = slice(max(0, begin - FLOOR_REACH), begin + FLOOR_EVERY + FLOOR_REACH)
        around = smooth[span][audible[span]]
        if len(around) >= FLOOR_EVERY:
            floor[begin : begin + FLOOR_EVERY] = steady_noise(around)
    return floor


@cache
def _own_correlation() -> Float[np.ndarray, " lags"]:
    """Autocorrelation of the window at the periods of voices."""
    own = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(QUICK + 1)[:-1], _FFT)) ** 2)
    return np.maximum(own[_LAGS] / own[0], 0.3)


def _voicing(clean: np.ndarray, floor: np.ndarray) -> Float[np.ndarray, "*B S"]:
    """Highest autocorrelation within the pitch of voices, over that of the window itself."""
    band = clean[..., _VOICE_BAND]
    # What is left of noise when its floor is taken off is a comb of its chance peaks: the floor, without its own tones,
    # goes under it again.
    pedestal = uniform_filter1d(floor[..., _VOICE_BAND], 33, axis=-1)
    whole = np.zeros_like(clean)
    whole[..., _VOICE_BAND] = np.sqrt(band + _PEDESTAL * pedestal + _WEAKEST_TONE * band.max(-1, keepdims=True))
    correlation = np.fft.irfft(whole, axis=-1)
    peaks = correlation[..., _LAGS] / _own_correlation() / np.maximum(correlation[..., :1], 1e-12)
    return np.where(clean.sum(-1) > 1e-9, peaks.max(-1), 0.0)


def _fine_structure(clean: np.ndarray) -> Float[np.ndarray, "*B S voice"]:
    """What is left of each logarithmic spectrum without its envelope, of length 1."""
    log_power = np.log(clean + 1e-3 * clean.max(-1, keepdims=True) + 1e-10)
    fine = log_power - uniform_filter1d(log_power, 17, axis=-1)
    return fine / np.sqrt((fine**2).sum(-1, keepdims=True) + 1e-9)


def _steadiness(fine: Float[np.ndarray, "*B S voice"]) -> Float[np.ndarray, "*B S"]:
    """Correlation of each step's fine structure with that of 120 ms before or after, whichever is higher."""
    lag = min(_STEADY_LAG, fine.shape[-2])
    correlation = (fine[..., :-lag, :] * fine[..., lag:, :]).sum(-1)
    none = np.zeros((*fine.shape[:-2], lag))
    return np.maximum(np.concatenate([none, correlation], -1), np.concatenate([correlation, none], -1))


def _db(power: np.ndarray) -> np.ndarray:
    return 10.0 * np.log10(power + 1e-12)
