"""Valence and arousal over time from the sound of a voice: rules with published constants, nothing trained.

Arousal is mostly *vocal effort*: how loudly somebody speaks, whatever the level of the recording. Effort E, in dB above
normal conversation, is a hidden number that moves three measures; its most probable value is taken.

- *Balance* of the powers above and below 1 kHz (to 3.4 kHz): a shout is 8 dB brighter than conversation
  (:data:`EFFORT_SPECTRA`).
- *Pitch*: .2 to .6 semitones per dB (Gramming et al. 1987), above 120 Hz for men and 210 Hz for women (Traunmueller and
  Eriksson 1995); which of both is speaking is a second hidden number.
- *Level*, relative to the speaker's own median only: a recording's gain is unknown.

To effort come the *range of pitch* (lively speech has more of it: Traunmueller and Eriksson 1995) and the *rate* of
phones; excited speech has more of all (Juslin and Laukka 2003, Psychological Bulletin 129, table 7).

Valence is hardly in the voice: in corpora of acted and real emotions prosody explains arousal several times as well
(Eyben et al. 2016). Wide pitch at normal effort counts as pleasant, effort with a narrow one as unpleasant, at most
:data:`MOST_VALENCE`. Words are not understood.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

from emotalking.audio.mel import HOP, WEAKEST_SPEECH
from emotalking.audio.prosody import (
    COLUMNS,
    HIGH,
    HIGH_HZ,
    LOW,
    LOW_HZ,
    PHONE,
    SEMITONES,
    VOICING,
    AcousticStream,
    phone_beginnings,
    prosody,
)
from emotalking.emotion.tracks import EmotionTrack
from emotalking.io.audio import SAMPLE_RATE

STEP_S = HOP / SAMPLE_RATE
EVERY_S = 0.2
"""Keyframes of a track."""
SMOOTH_S = 0.8
"""Standard deviation of the time that is seen around a moment: words do not count, phrases do."""
MOST_VALENCE = 0.25

_CENTRES_HZ = np.array([315, 400, 500, 630, 800, 1000, 1250, 1600, 2000, 2500, 3150])
EFFORT_SPECTRA = {
    0.0: (33.98, 34.59, 34.27, 32.06, 28.30, 25.01, 23.00, 20.15, 17.32, 13.18, 11.55),
    5.99: (38.57, 39.11, 40.15, 38.78, 36.37, 33.86, 31.89, 28.58, 25.32, 22.35, 20.15),
    12.50: (43.78, 43.30, 44.85, 45.55, 44.05, 42.16, 40.53, 37.70, 34.39, 30.98, 28.21),
    19.95: (46.51, 47.40, 49.24, 51.21, 51.44, 51.31, 49.63, 47.65, 44.32, 40.80, 38.13),
}
"""dB per Hz in third octaves from 315 Hz to 3150 Hz of normal, raised, loud and shouted speech, by level above normal
(ANSI S3.5-1997, table 3)."""
_SOUNDS_BALANCE = 6.0
"""Standard deviation [dB] of the balance of single voiced sounds (hibari's voice 7, ten recordings 5 to 9)."""


def _effort_balance() -> tuple[float, float]:
    """Balance [dB] of normal speech, and its slope [dB per dB of effort]."""
    power = 10.0 ** (np.array(list(EFFORT_SPECTRA.values())) / 10) * _CENTRES_HZ
    low, high = (power[:, (_CENTRES_HZ > begin) & (_CENTRES_HZ < end)].sum(1) for begin, end in (LOW_HZ, HIGH_HZ))
    slope, normal = np.polyfit(list(EFFORT_SPECTRA), 10 * np.log10(high / low), 1)
    # The mean of decibels lies below the decibels of the mean.
    return float(normal) - np.log(10) / 20 * _SOUNDS_BALANCE**2, float(slope)


NORMAL_BALANCE_DB, BALANCE_SLOPE = _effort_balance()
PITCH_SLOPE = 0.4
"""Semitones per dB."""
NORMAL_PITCH = tuple(12 * np.log2(hz / 100) for hz in (120, 210))
"""Mean pitch of men and of women, semitones above 100 Hz."""
NORMAL_RANGE, RANGE_SPREAD = 2.8, 1.2
"""Standard deviation of a speaker's pitch in semitones: usual, and how it varies between kinds of talk (Traunmueller
and Eriksson 1995; 2 to 4)."""
NORMAL_RATE, RATE_SPREAD = 13.0, 2.5
"""Phones per second of speech: 6.2 syllables of 2.3 phones (English of Pellegrino et al. 2011, Language 87), less the
tenth that the recogniser leaves out."""
_SPEAKER_PITCH, _SPEAKER_BALANCE, _SPEAKER_EFFORT = 2.5, 4.0, 6.0
"""Spread between speakers (and microphones) that effort does not explain [semitones, dB], and of effort itself [dB]."""
_MOMENT_PITCH, _MOMENT_BALANCE, _MOMENT_LEVEL, _MOMENT_EFFORT = 2.0, 3.0, 3.0, 4.0
"""The same between moments of one speaker: intonation, vowels, distance."""
_EFFORT_SCALE = 12.0
"""dB of effort for one unit before squashing: loud speech is at .8, a shout at .95 if all of it is seen."""
_RANGE_SHARE, _RATE_SHARE = 0.25, 0.2
_VOICED = 0.35
_SPEECH_RANGE = 10.0**-3.5
"""Power of the weakest speech, relative to the loud steps."""
_OVER_FLOOR = 4.0
"""Power of a voiced step over the floor of noise."""
_ENOUGH_VOICED = 0.25
"""Share of voiced steps around a moment from which on its measures count in full."""
_ENOUGH_S = 1.5
"""Seconds of voice from which on range and rate count in full."""
_FEWEST_PHONES = 5.0
"""Rate below which the recogniser understands little (singing, laughter), so that it tells of no haste."""
_PAUSE_S = 0.5
"""Longer pauses do not count as slow speech."""
_JUMP = 9.0
"""Semitones beside the median beyond which a pitch is taken for an error."""


@dataclass(frozen=True)
class _Voice:
    """Measures of the steps of a stretch of sound."""

    voiced: Bool[np.ndarray, " S"]
    talking: Bool[np.ndarray, " S"]
    """With short pauses."""
    pitch: Float[np.ndarray, " S"]
    balance: Float[np.ndarray, " S"]
    level: Float[np.ndarray, " S"]
    phones: Float[np.ndarray, " S"]

    @classmethod
    def of(cls, rows: Float[np.ndarray, "S columns"]) -> "_Voice":
        """From the rows of :mod:`emotalking.audio.prosody`, without noise."""
        low, high = (rows[:, band] - _floor(rows[:, band]) for band in (LOW, HIGH))
        power = rows[:, LOW] + rows[:, HIGH]
        weakest = max(_SPEECH_RANGE * float(np.quantile(power, 0.95)), WEAKEST_SPEECH) if len(power) else 0.0
        speech = (power > weakest) & (low + high > _OVER_FLOOR * (power - low - high))
        voiced = speech & (rows[:, VOICING] > _VOICED)
        if voiced.any():
            voiced &= np.abs(rows[:, SEMITONES] - np.median(rows[voiced, SEMITONES])) < _JUMP
        tiny = np.maximum(1e-12, 1e-3 * power)
        low, high = np.maximum(low, tiny), np.maximum(high, tiny)
        reach = round(_PAUSE_S / 2 / STEP_S)
        talking = maximum_filter1d(speech, 2 * reach + 1, mode="constant")
        level, balance = 10 * np.log10(low + high), 10 * np.log10(high / low)
        return cls(voiced, talking, rows[:, SEMITONES], balance, level, rows[:, PHONE])


def _floor(power: Float[np.ndarray, " S"]) -> float:
    """Mean power of steady noise: about 1.5 times its 10th percentile."""
    return 1.5 * float(np.quantile(power, 0.1)) if len(power) else 0.0


@dataclass(frozen=True)
class _Usual:
    """What is usual for the speaker: medians, and the effort that they tell of."""

    pitch: float
    balance: float
    level: float
    effort: float

    @classmethod
    def of(cls, voice: _Voice) -> "_Usual":
        here = voice.voiced
        if not here.any():
            return cls(0.0, 0.0, 0.0, 0.0)
        pitch, level = float(np.median(voice.pitch[here])), float(np.median(voice.level[here]))
        # Spectra of speech are dominated by its loud steps.
        balance = float(np.average(voice.balance[here], weights=10 ** (voice.level[here] / 20)))
        seen = min(1.0, here.sum() * STEP_S / _ENOUGH_S)
        return cls(pitch, balance, level, seen * _speaker_effort(pitch, balance))


def _speaker_effort(pitch: float, balance: float) -> float:
    """Most probable effort [dB] of a man or a woman, each weighted by its probability."""
    slopes = np.array([BALANCE_SLOPE, PITCH_SLOPE])
    spread = np.diag([_SPEAKER_BALANCE**2, _SPEAKER_PITCH**2])
    expected = np.array([[balance - NORMAL_BALANCE_DB, pitch - normal] for normal in NORMAL_PITCH])
    inverse = np.linalg.inv(spread + _SPEAKER_EFFORT**2 * np.outer(slopes, slopes))
    efforts = _SPEAKER_EFFORT**2 * expected @ inverse @ slopes
    likelihood = np.exp(-0.5 * np.einsum("si,ij,sj->s", expected, inverse, expected))
    return float((efforts * likelihood).sum() / max(likelihood.sum(), 1e-300))


@dataclass(frozen=True)
class _Moments:
    """Weighted means of the measures around M moments."""

    share: Float[np.ndarray, " M"]
    """Voiced share of the time around."""
    pitch: Float[np.ndarray, " M"]
    balance: Float[np.ndarray, " M"]
    level: Float[np.ndarray, " M"]
    deviation: Float[np.ndarray, " M"]
    """Of the pitch, in semitones, over a longer time."""
    voiced_s: Float[np.ndarray, " M"]
    """Seconds of voice in that time."""
    rate: Float[np.ndarray, " M"]
    """Phones per second of talking in that time."""


def _valence_arousal(usual: _Usual, moments: _Moments, gain: float) -> Float[np.ndarray, "M 2"]:
    """Valence and arousal of moments."""
    seen = np.minimum(1.0, moments.share / _ENOUGH_VOICED)
    slopes_and_spreads = (
        (PITCH_SLOPE, _MOMENT_PITCH, moments.pitch - usual.pitch),
        (BALANCE_SLOPE, _MOMENT_BALANCE, moments.balance - usual.balance),
        (1.0, _MOMENT_LEVEL, moments.level - usual.level),
    )
    evidence = seen * sum(slope / spread**2 * change for slope, spread, change in slopes_and_spreads)
    precision = 1 / _MOMENT_EFFORT**2 + seen * sum(slope**2 / spread**2 for slope, spread, _ in slopes_and_spreads)
    effort = usual.effort + evidence / precision
    enough = np.minimum(1.0, moments.voiced_s / _ENOUGH_S)
    liveliness = enough * np.clip((moments.deviation - NORMAL_RANGE) / RANGE_SPREAD, -2, 2)
    recognised = np.minimum(1.0, moments.rate / _FEWEST_PHONES)
    haste = enough * recognised * np.clip((moments.rate - NORMAL_RATE) / RATE_SPREAD, -2, 2)
    arousal = np.tanh(gain * (effort / _EFFORT_SCALE + _RANGE_SHARE * liveliness + _RATE_SHARE * haste))
    pleasant = liveliness / 2 - np.maximum(effort, 0) / _EFFORT_SCALE
    valence = MOST_VALENCE * np.tanh(gain * pleasant)
    return np.column_stack([valence, arousal])


def voice_emotion(chunks: Iterable[Float[np.ndarray, " _"]], gain: float | int = 1.0) -> EmotionTrack:
    """Valence and arousal of a recording, every 0.2 s.

    The level of the recording does not matter; steady noise, a telephone's band and a voice that stays the same
    throughout cost accuracy (``benchmarks/voice_emotion.py``).

    Args:
        chunks: consecutive pieces of float32 mono at 16 kHz in [-1, 1], of any length.
        gain: strength: 0 is neutral throughout.

    Raises:
        MissingModelError: the package hama is missing.
        ValueError: a gain that is negative or not finite.
    """
    _check_gain(gain)
    rows = prosody(chunks)
    voice = _Voice.of(rows)
    if not voice.voiced.any():
        return EmotionTrack.constant(0.0, 0.0)
    values = _valence_arousal(_Usual.of(voice), _around(voice, SMOOTH_S / STEP_S), gain)
    every = np.arange(0, len(rows), round(EVERY_S / STEP_S))
    return EmotionTrack((every + 0.5) * STEP_S, values[every].clip(-1, 1))


def _around(voice: _Voice, width: float) -> _Moments:
    """Means around every step, with Gaussian weights of ``width`` steps; range and rate of twice the time."""
    weight = voice.voiced.astype(np.float64)

    def near(values: np.ndarray, steps: float = width) -> np.ndarray:
        return gaussian_filter1d(values.astype(np.float64), steps, mode="constant")

    def mean(values: np.ndarray, steps: float = width) -> np.ndarray:
        return near(weight * values, steps) / np.maximum(near(weight, steps), 1e-9)

    wide = 2 * width
    variance = mean(voice.pitch**2, wide) - mean(voice.pitch, wide) ** 2
    span_s = wide * np.sqrt(2 * np.pi) * STEP_S
    rate = near(voice.phones * voice.talking, wide) / np.maximum(near(voice.talking, wide), 1e-9) / STEP_S
    return _Moments(
        near(weight),
        mean(voice.pitch),
        mean(voice.balance),
        mean(voice.level),
        np.sqrt(np.maximum(variance, 0.0)),
        near(weight, wide) * span_s,
        rate,
    )


def _check_gain(gain: float | int) -> None:
    if not 0 <= gain < np.inf:
        raise ValueError(f"gain: expected a finite number of at least 0, got {gain}")


class VoiceEmotion:
    """Valence and arousal of a voice while it is heard, from the past only.

    What is usual for the speaker is learned from the last half minute, so the first seconds say little and stay near
    neutral. Values move with time constants of a second.

    Example:
        >>> emotion = VoiceEmotion()
        >>> valence, arousal = emotion.push(samples)
    """

    def __init__(self, gain: float | int = 1.0) -> None:
        """Begin a stream.

        Args:
            gain: strength: 0 is neutral throughout.

        Raises:
            ValueError: a gain that is negative or not finite.
        """
        _check_gain(gain)
        self._gain = gain
        self._acoustics = AcousticStream()
        self._pending = np.zeros(0, np.float32)
        self._heard = np.zeros(0, np.float32)
        """The last sound, in which phones are recognised."""
        self._rows = np.zeros((0, COLUMNS), np.float32)
        self._blocks = 0
        self._value = np.zeros(2)

    def push(self, samples: Float[np.ndarray, " n"]) -> tuple[float, float]:
        """Valence and arousal after ``samples`` more, float32 mono at 16 kHz in [-1, 1].

        The result does not depend on the pieces in which the sound comes.

        Raises:
            MissingModelError: the package hama is missing.
        """
        self._pending = np.concatenate([self._pending, samples.astype(np.float32)])
        while len(self._pending) >= _BLOCK:
            self._advance(self._pending[:_BLOCK])
            self._pending = self._pending[_BLOCK:]
        return float(self._value[0]), float(self._value[1])

    def _advance(self, sound: Float[np.ndarray, " n"]) -> None:
        """Hear a block, and follow it."""
        rows = self._acoustics.push(sound)
        fresh = np.column_stack([rows, np.zeros(len(rows), np.float32)])
        self._rows = np.concatenate([self._rows, fresh])[-_HISTORY:]
        self._heard = np.concatenate([self._heard, sound])[-_PHONES_SEEN * HOP :]
        self._blocks += 1
        if self._blocks % _PHONES_EVERY == 0:
            self._hear_phones()
        voice = _Voice.of(self._rows)
        target = np.zeros(2)
        if voice.voiced.any():
            target = _valence_arousal(_Usual.of(voice), _lately(voice), self._gain)[0]
        self._value += (1 - np.exp(-_BLOCK / SAMPLE_RATE / _FOLLOW_S)) * (target - self._value)

    def _hear_phones(self) -> None:
        """Phones of the steps that have enough sound after them since the last time."""
        begins = phone_beginnings(self._heard)
        begins = begins[: len(begins) - _ROWS_BEHIND]
        count = min(len(self._rows), _PHONES_NEW + _PHONES_LAG, len(begins))
        self._rows[len(self._rows) - count : -_PHONES_LAG, PHONE] = begins[len(begins) - count : -_PHONES_LAG]


_BLOCK = SAMPLE_RATE // 10
"""Samples heard at once: 0.1 s."""
_HISTORY = 1500
"""Steps from which the usual is taken: 30 s."""
_PHONES_EVERY, _PHONES_NEW = 10, 50
"""Phones are recognised again after so many blocks: so many steps."""
_PHONES_LAG, _PHONES_SEEN, _ROWS_BEHIND = 15, 150, 2
"""Steps that must follow a phone, that the recogniser sees, and by which rows come later than their sound."""
_NEAR_S, _WIDE_S, _FOLLOW_S = 1.2, 3.0, 0.5
"""Time constants: of the moment, of range and rate, and of the change of the result."""


def _lately(voice: _Voice) -> _Moments:
    """Means of the last steps, with weights that fall exponentially into the past."""
    age = np.arange(len(voice.voiced))[::-1] * STEP_S
    near, wide = np.exp(-age / _NEAR_S), np.exp(-age / _WIDE_S)
    weight, long = near * voice.voiced, wide * voice.voiced
    known = wide * voice.talking * (age >= _PHONES_LAG * STEP_S)

    def mean(values: np.ndarray, weights: np.ndarray) -> float:
        return float((weights * values).sum() / max(weights.sum(), 1e-9))

    variance = mean(voice.pitch**2, long) - mean(voice.pitch, long) ** 2
    return _Moments(
        np.array([weight.sum() * STEP_S / _NEAR_S]),
        np.array([mean(voice.pitch, weight)]),
        np.array([mean(voice.balance, weight)]),
        np.array([mean(voice.level, weight)]),
        np.array([np.sqrt(max(variance, 0.0))]),
        np.array([long.sum() * STEP_S]),
        np.array([mean(voice.phones, known) / STEP_S]),
    )
