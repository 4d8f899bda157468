"""The actor's voice: random phoneme sequences, a formant synthesiser for them, and the mouth shapes that go with them.

The speech has no meaning; it only has to sound like speech to a feature extractor, with a spectrum that
determines the mouth's shape, and with exactly known times.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32
from scipy.signal import lfilter

from emotalking.testing.actor.state import Viseme

SAMPLE_RATE_HZ = 16_000
PAUSE = "_"
_BLOCK = 80
"""Samples between changes of the vocal tract (5 ms)."""


@dataclass(frozen=True)
class Phoneme:
    """Synthesis parameters and mouth shape of a phoneme."""

    formants: tuple[float, float, float]
    """Hz; for a consonant the places that the neighbours glide to."""
    voice: float
    """Level of the voiced source, 0..1."""
    noise: float
    """Level of the noise source, 0..1."""
    noise_hz: float
    noise_width_hz: float
    seconds: float
    viseme: Viseme
    grip: float
    """Strength with which the phoneme imposes its viseme on its neighbours."""
    burst: bool = False
    """A stop: silence, then a short noise."""


def _vowel(f1: float, f2: float, f3: float, jaw: float, width: float, pucker: float, seconds: float = 0.13) -> Phoneme:
    return Phoneme((f1, f2, f3), 1.0, 0.0, 2000.0, 1000.0, seconds, Viseme(jaw, width, pucker), 1.0)


PHONEMES: dict[str, Phoneme] = {
    PAUSE: Phoneme((500.0, 1500.0, 2500.0), 0.0, 0.0, 2000.0, 1000.0, 0.3, Viseme(), 1.2),
    "AA": _vowel(740.0, 1100.0, 2450.0, 0.85, 0.05, 0.0, 0.16),
    "AE": _vowel(680.0, 1720.0, 2420.0, 0.70, 0.45, 0.0, 0.15),
    "AH": _vowel(620.0, 1200.0, 2400.0, 0.52, 0.0, 0.0, 0.10),
    "AO": _vowel(560.0, 850.0, 2410.0, 0.66, -0.3, 0.45, 0.15),
    "EH": _vowel(540.0, 1850.0, 2480.0, 0.48, 0.35, 0.0, 0.11),
    "ER": _vowel(480.0, 1350.0, 1700.0, 0.30, -0.2, 0.35, 0.13),
    "IH": _vowel(400.0, 1990.0, 2560.0, 0.28, 0.40, 0.0, 0.09),
    "IY": _vowel(280.0, 2290.0, 3010.0, 0.17, 0.85, 0.0, 0.13),
    "OW": _vowel(450.0, 880.0, 2300.0, 0.42, -0.5, 0.75, 0.15),
    "UW": _vowel(300.0, 870.0, 2240.0, 0.16, -0.7, 1.0, 0.14),
    "M": Phoneme((260.0, 1050.0, 2200.0), 0.45, 0.0, 2000.0, 1000.0, 0.085, Viseme(0.10, 0.0, 0.05, 1.0), 3.5),
    "B": Phoneme((300.0, 800.0, 2100.0), 0.25, 0.25, 900.0, 900.0, 0.080, Viseme(0.10, 0.0, 0.05, 1.0), 3.5, True),
    "P": Phoneme((300.0, 800.0, 2100.0), 0.0, 0.45, 900.0, 1200.0, 0.090, Viseme(0.10, 0.0, 0.05, 1.0), 3.5, True),
    "F": Phoneme((350.0, 1200.0, 2300.0), 0.0, 0.30, 6500.0, 3500.0, 0.100, Viseme(0.13, 0.1, 0.0, 0.55), 2.2),
    "V": Phoneme((330.0, 1200.0, 2300.0), 0.45, 0.12, 6000.0, 3500.0, 0.075, Viseme(0.13, 0.1, 0.0, 0.55), 2.2),
    "T": Phoneme((350.0, 1750.0, 2700.0), 0.0, 0.60, 4200.0, 2200.0, 0.085, Viseme(0.16, 0.2, 0.0), 0.7, True),
    "D": Phoneme((330.0, 1750.0, 2700.0), 0.25, 0.35, 3800.0, 2000.0, 0.070, Viseme(0.17, 0.2, 0.0), 0.7, True),
    "K": Phoneme((320.0, 1900.0, 2400.0), 0.0, 0.55, 2100.0, 900.0, 0.090, Viseme(0.24, 0.05, 0.0), 0.5, True),
    "G": Phoneme((300.0, 1900.0, 2400.0), 0.25, 0.30, 1900.0, 900.0, 0.075, Viseme(0.24, 0.05, 0.0), 0.5, True),
    "S": Phoneme((320.0, 1700.0, 2600.0), 0.0, 0.65, 5600.0, 1800.0, 0.110, Viseme(0.09, 0.5, 0.0), 1.3),
    "Z": Phoneme((300.0, 1700.0, 2600.0), 0.35, 0.40, 5400.0, 1800.0, 0.085, Viseme(0.10, 0.5, 0.0), 1.3),
    "SH": Phoneme((320.0, 1800.0, 2500.0), 0.0, 0.65, 2900.0, 1200.0, 0.110, Viseme(0.12, -0.4, 0.65), 1.6),
    "N": Phoneme((280.0, 1650.0, 2600.0), 0.45, 0.0, 2000.0, 1000.0, 0.075, Viseme(0.18, 0.1, 0.0), 0.6),
    "L": Phoneme((360.0, 1250.0, 2700.0), 0.65, 0.0, 2000.0, 1000.0, 0.070, Viseme(0.26, 0.1, 0.0), 0.6),
    "R": Phoneme((340.0, 1150.0, 1550.0), 0.65, 0.0, 2000.0, 1000.0, 0.075, Viseme(0.18, -0.4, 0.55), 1.0),
    "W": Phoneme((310.0, 700.0, 2200.0), 0.60, 0.0, 2000.0, 1000.0, 0.075, Viseme(0.12, -0.7, 0.95), 1.8),
    "HH": Phoneme((500.0, 1500.0, 2500.0), 0.0, 0.22, 1500.0, 1800.0, 0.060, Viseme(0.30, 0.0, 0.0), 0.2),
}
"""The actor's sounds; ``PAUSE`` is silence with closed lips."""

_VOWELS = tuple(name for name, sound in PHONEMES.items() if sound.voice == 1.0)
_ONSETS = tuple(name for name in PHONEMES if name != PAUSE and name not in _VOWELS)
_CODAS = ("M", "N", "L", "S", "T", "K", "P", "F", "R", "Z")


@dataclass(frozen=True)
class Segment:
    """One sound in time."""

    phoneme: str
    start: float
    """Seconds."""
    end: float
    stress: float = 1.0
    """Loudness and width of articulation."""


def babble(seconds: float, seed: int) -> tuple[Segment, ...]:
    """Random sentences: phrases of short words from a seeded generator, pauses between; silence at both ends.

    Args:
        seconds: length, > 0.
        seed: same seed, same sentences.

    Returns:
        Segments that cover ``[0, seconds]`` without gap.
    """
    if not seconds > 0:
        raise ValueError(f"seconds: expected > 0, got {seconds}")
    rng = np.random.default_rng(seed)
    pause = rng.uniform(0.2, 0.45)
    result = [Segment(PAUSE, 0.0, min(pause, seconds))]
    while result[-1].end < seconds - 0.35:
        pace = rng.uniform(0.9, 1.2)
        for _ in range(rng.integers(4, 11)):  # syllables of a phrase
            names = [rng.choice(_ONSETS)] if rng.random() < 0.85 else []
            names.append(rng.choice(_VOWELS))
            if rng.random() < 0.35:
                names.append(rng.choice(_CODAS))
            stress = float(rng.uniform(0.7, 1.25))
            for name in names:
                length = PHONEMES[str(name)].seconds * pace * float(rng.uniform(0.85, 1.2))
                result.append(Segment(str(name), result[-1].end, result[-1].end + length, stress))
            if result[-1].end > seconds - 0.35:
                break
        rest = float(rng.uniform(0.15, 0.6))
        result.append(Segment(PAUSE, result[-1].end, result[-1].end + rest))
    last = [segment for segment in result if segment.start < seconds]
    return (*last[:-1], Segment(last[-1].phoneme, last[-1].start, seconds, last[-1].stress))


def viseme_curves(segments: tuple[Segment, ...], times: Float[np.ndarray, "T"]) -> Float32[np.ndarray, "T 4"]:
    """Mouth shapes ``(jaw, width, pucker, press)`` with coarticulation.

    Source: dominance functions (Cohen and Massaro 1993): each sound pulls the mouth towards its target with a bell
    over time whose height is the sound's grip; the mouth takes the weighted mean.

    Args:
        segments: sounds in time.
        times: seconds.
    """
    centre = np.array([0.5 * (s.start + s.end) for s in segments])
    half = np.array([0.5 * (s.end - s.start) for s in segments])
    grip = np.array([PHONEMES[s.phoneme].grip for s in segments])
    target = np.array([PHONEMES[s.phoneme].viseme.array() for s in segments], np.float64)
    target[:, 0] *= np.array([s.stress for s in segments])
    outside = np.maximum(np.abs(times[:, None] - centre) - 0.55 * half, 0)
    dominance = grip * np.exp(-((outside / (0.030 + 0.35 * np.minimum(half, 0.08))) ** 2)) + 1e-9
    curves = dominance @ target / dominance.sum(1, keepdims=True)
    curves[:, 0] = np.clip(curves[:, 0], 0, 1)
    return curves.astype(np.float32)


def _tracks(segments: tuple[Segment, ...], count: int) -> Float[np.ndarray, "blocks 7"]:
    """Per block of 5 ms: three formants, voice, noise, noise centre and width."""
    time = (np.arange(count) + 0.5) * _BLOCK / SAMPLE_RATE_HZ
    index = np.clip(np.searchsorted([s.start for s in segments], time, side="right") - 1, 0, len(segments) - 1)
    sounds = [PHONEMES[s.phoneme] for s in segments]
    table = np.array(
        [
            [*p.formants, p.voice * s.stress, p.noise * s.stress, p.noise_hz, p.noise_width_hz]
            for p, s in zip(sounds, segments, strict=True)
        ]
    )
    tracks = table[index]
    start, end = (np.array([getattr(s, edge) for s in segments])[index] for edge in ("start", "end"))
    burst = np.array([p.burst for p in sounds])[index]
    done = (time - start) / (end - start)
    tracks[burst & (done < 0.55), 4] = 0.0
    silent = np.array([s.phoneme == PAUSE for s in segments])[index]
    smooth = np.hanning(13)
    smooth /= smooth.sum()
    padded = np.pad(tracks[:, :3], ((6, 6), (0, 0)), mode="edge")
    tracks[:, :3] = np.stack([np.convolve(padded[:, k], smooth, mode="valid") for k in range(3)], -1)
    for k, length in ((3, 7), (4, 3)):
        window = np.hanning(length + 2)[1:-1]
        tracks[:, k] = np.convolve(tracks[:, k], window / window.sum(), mode="same")
    tracks[silent, 3:5] = 0.0
    return tracks


def _resonator(frequency: float, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Second-order resonance with gain 1 at 0 Hz."""
    r = np.exp(-np.pi * width / SAMPLE_RATE_HZ)
    a = np.array([1.0, -2 * r * np.cos(2 * np.pi * frequency / SAMPLE_RATE_HZ), r * r])
    return np.array([a.sum()]), a


def _glottis(count: int, rng: np.random.Generator, pitch_hz: float) -> Float[np.ndarray, "n"]:
    """Flow derivative of a voice with a gently moving pitch (Rosenberg pulses)."""
    time = np.arange(count) / SAMPLE_RATE_HZ
    melody = sum(
        a * np.sin(2 * np.pi * f * time + p)
        for a, f, p in zip((0.09, 0.06, 0.03), rng.uniform(0.2, 2.2, 3), rng.uniform(0, 6.28, 3), strict=True)
    )
    phase = np.cumsum(pitch_hz * (1 + melody) / SAMPLE_RATE_HZ) % 1
    x = phase / 0.62
    flow = np.where(x < 1, 6.75 * x * x * (1 - x), 0.0)
    return np.diff(flow, prepend=flow[0]) * 8


def synthesize(segments: tuple[Segment, ...], seed: int = 0, pitch_hz: float = 118.0) -> Float32[np.ndarray, "S"]:
    """Sound of ``segments``: source and filter, 16 kHz mono in [-1, 1]; exactly zero inside pauses.

    Args:
        segments: sounds that cover the time from 0 without gap.
        seed: of noise and melody.
        pitch_hz: mean pitch.
    """
    samples = round(segments[-1].end * SAMPLE_RATE_HZ)
    blocks = -(-samples // _BLOCK)
    tracks = _tracks(segments, blocks)
    rng = np.random.default_rng(seed)
    count = blocks * _BLOCK
    step = np.linspace(0, 1, _BLOCK, endpoint=False)
    levels = np.concatenate([tracks[:, 3:5], np.zeros((1, 2))])
    ramps = (levels[:-1, None] + step[None, :, None] * (levels[1:] - levels[:-1])[:, None]).reshape(count, 2)
    voiced = _glottis(count, rng, pitch_hz) * ramps[:, 0]
    hiss = rng.normal(size=count) * 0.06 * ramps[:, 1]
    states = [np.zeros(2) for _ in range(5)]
    out = np.zeros(count)
    for block in range(blocks):
        span = slice(block * _BLOCK, (block + 1) * _BLOCK)
        wave = voiced[span]
        f1, f2, f3 = tracks[block, :3]
        for k, (frequency, width) in enumerate(((f1, 70.0), (f2, 90.0), (f3, 140.0), (3600.0, 220.0))):
            wave, states[k] = lfilter(*_resonator(frequency, width), wave, zi=states[k])
        b, a = _resonator(tracks[block, 5], tracks[block, 6])
        gain = abs(np.polyval(a[::-1], np.exp(-2j * np.pi * tracks[block, 5] / SAMPLE_RATE_HZ))) / b
        rush, states[4] = lfilter(b * gain, a, hiss[span], zi=states[4])
        out[span] = wave + rush
    gate = np.ones(count)
    for segment in segments:
        if segment.phoneme == PAUSE:
            gate[round((segment.start + 0.02) * SAMPLE_RATE_HZ) : round((segment.end - 0.005) * SAMPLE_RATE_HZ)] = 0
    fade = np.hanning(161)
    out = (out * np.convolve(gate, fade / fade.sum(), mode="same") * (gate > 0))[:samples]
    return (out * 0.3 / max(np.percentile(np.abs(out), 99.5), 1e-6)).clip(-1, 1).astype(np.float32)
