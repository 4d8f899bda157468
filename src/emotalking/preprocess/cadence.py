"""The true frame rate of a clip that was stored at a higher one by repeating frames (25 as 30, 24 as 60, ...).

Stored slot i then shows source frame floor(i * true / stored + phase). Lossy coding changes a repeated frame a
little, so no threshold on one frame separates it from a calm moment; but at the true rate and phase *all* slots that
must be repeats change clearly less than their neighbours, which stands out from the noise even in bad copies.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.ndimage import uniform_filter1d

from emotalking.errors import InputError

RATES = tuple(
    Fraction(*pair)
    for pair in (
        (10, 1), (12, 1), (25, 2), (15000, 1001), (15, 1), (20, 1), (24000, 1001), (24, 1), (25, 1), (30000, 1001),
        (30, 1), (48, 1), (50, 1), (60000, 1001),
    )
)  # fmt: skip
"""Frame rates of cameras, among which the true rate is searched."""
PHASES = 24
"""Phases tried within one source frame."""
WINDOW_S = 20.0
"""The phase may change where footage was edited after it was converted; it is estimated per window there."""
_CALM = 0.02
"""Change (grey levels) that counts as none."""
_LEAST_T = 4.5
"""Least t statistic between repeats and others, mean of the windows. Measured: clips without repeats reach 3.5 (a
periodic pattern of keyframes), converted ones 7 at the worst quality tried (x264 with CRF 34)."""
_SWITCH_NATS = 25.0
"""Evidence that a change of phase needs."""


@dataclass(frozen=True)
class Cadence:
    """Relation of the stored frames to the source's."""

    rate: Fraction
    """True frame rate."""
    sources: Int[np.ndarray, " S"]
    """For each stored slot the number of its source frame; two slots with one number show the same frame."""
    times: Float[np.ndarray, " S"]
    """For each stored slot the source's even time [stored slots] of that frame."""


def common_rate(fps: float) -> Fraction:
    """``fps`` as an exact rational: the usual rate within 0.05 %, else the number itself to 1/1000.

    Example:
        >>> common_rate(29.97)
        Fraction(30000, 1001)
    """
    near = min((*RATES, *(Fraction(n) for n in range(5, 121))), key=lambda rate: abs(float(rate) - fps))
    return near if abs(float(near) - fps) <= 5e-4 * fps else Fraction(fps).limit_denominator(1000)


def parse_rate(text: str | float | int | Fraction) -> Fraction:
    """Frame rate as an exact rational: 25, "30000/1001", or "29.97", which means the same.

    Raises:
        InputError: no rate between 10 and 120.
    """
    try:
        rate = common_rate(float(text)) if isinstance(text, float) or "." in str(text) else Fraction(str(text))
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 10 <= rate <= 120:
        raise InputError(f"fps {text}: give a frame rate from 10 to 120, such as 25, 30 or 30000/1001, or 'source'.")
    return rate


def find_cadence(change: Float[np.ndarray, " S"], stored: Fraction) -> Cadence | None:
    """The true rate and the source frame of every slot, or None if no stored frame is a repeat.

    Args:
        change: root mean square difference of every stored frame to the one before (grey levels; the first is 0).
        stored: stored frame rate.
    """
    if len(change) < 3 * stored:
        return None
    level = np.log(change + _CALM)
    level[0] = level[1:].mean()
    level -= uniform_filter1d(level, 31, mode="nearest")
    best = max(
        (_fit(level, rate, stored) for rate in RATES if rate < stored * Fraction(199, 200)),
        key=lambda fit: fit.t,
        default=None,
    )
    if best is None or best.t < _LEAST_T:
        return None
    # Rare repeats can be the beat of a keyframe pattern: the rarer, the clearer each must be.
    if best.repeat - best.own > (-0.33 if 1 - float(best.rate / stored) >= 0.1 else -0.7):
        return None
    phases = _follow(level, best, stored)
    position = np.arange(len(level)) * float(best.rate / stored) + phases
    sources = np.maximum.accumulate(np.floor(position + 1e-9).astype(np.int64))
    # Players and encoders show the source frame nearest to a slot: its own time is half a frame after its border.
    times = (sources - phases + 0.5) * float(stored / best.rate)
    return Cadence(best.rate, sources, np.maximum.accumulate(times))


@dataclass(frozen=True)
class _Fit:
    """Fit of one rate to the changes (logarithms, local mean removed)."""

    rate: Fraction
    t: float
    repeat: float
    own: float
    spread: float


def _fit(level: np.ndarray, rate: Fraction, stored: Fraction) -> _Fit:
    """The best phase of each window; statistics averaged over the windows."""
    size = int(WINDOW_S * stored)
    begins = range(0, max(len(level) - size // 2, 1), size)
    statistics = [
        _best_phase(level[begin:] if begin == begins[-1] else level[begin : begin + size], begin, rate / stored)
        for begin in begins
    ]
    t, repeat, own, spread = np.mean(statistics, axis=0)
    return _Fit(rate, float(t), float(repeat), float(own), float(spread))


def _best_phase(level: np.ndarray, begin: int, ratio: Fraction) -> tuple[float, float, float, float]:
    """Welch's t between the slots ``begin``.. that should be repeats and the others, both means, common spread."""
    repeated = _repeats(np.arange(begin - 1, begin + len(level)), ratio).T.astype(np.float64)
    moments = np.stack([np.ones_like(level), level, level**2], 1)
    inside = repeated @ moments
    sides = np.stack([inside, moments.sum(0) - inside])  # [2, PHASES, 3]: repeats, others
    count = np.maximum(sides[..., 0], 1)
    mean = sides[..., 1] / count
    variance = np.maximum(sides[..., 2] / count - mean**2, 0)
    t = (mean[1] - mean[0]) / (np.sqrt((variance / count).sum(0)) + 1e-6)
    best = int(np.where(count.min(0) < 5, -np.inf, t).argmax())
    if count[:, best].min() < 5:
        return 0.0, 0.0, 0.0, 1.0
    spread = float(np.sqrt(variance[:, best]).mean())
    return float(t[best]), float(mean[0, best]), float(mean[1, best]), spread


def _repeats(slots: Int[np.ndarray, " S"], ratio: Fraction) -> Bool[np.ndarray, "S-1 P"]:
    """For every phase: True where a slot shows the same source frame as the slot before."""
    numbers = np.floor(slots[:, None] * float(ratio) + np.arange(PHASES) / PHASES + 1e-9)
    return np.asarray(numbers[1:] == numbers[:-1])


def _follow(level: np.ndarray, fit: _Fit, stored: Fraction) -> Float[np.ndarray, " S"]:
    """The most likely phase of every slot (Viterbi); it changes only where the evidence is strong."""
    grid = np.arange(PHASES) / PHASES
    repeated = _repeats(np.arange(-1, len(level)), fit.rate / stored)
    spread = max(fit.spread, 0.2)
    gain = ((level - fit.own) ** 2 - (level - fit.repeat) ** 2) / (2 * spread**2)
    score = np.where(repeated, np.clip(gain, -8, 8)[:, None], 0.0)
    total = np.zeros(PHASES)
    before = np.tile(np.arange(PHASES, dtype=np.int8), (len(level), 1))
    for i, row in enumerate(score):
        best = int(total.argmax())
        better = total < total[best] - _SWITCH_NATS
        before[i, better] = best
        total = np.maximum(total, total[best] - _SWITCH_NATS) + row
    # Neighbouring phases that repeat the same slots are equally likely: take the middle of them.
    ties = np.flatnonzero(total >= total.max() - 1e-6)
    state = int(ties[len(ties) // 2])
    states = np.empty(len(level), np.int64)
    for i in range(len(level) - 1, -1, -1):
        states[i] = state
        state = int(before[i, state])
    return grid[states]
