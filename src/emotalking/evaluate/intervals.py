"""Confidence intervals and paired tests over video frames, resampled in blocks of time: neighbours are correlated."""

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float

BLOCK_S = 1.0
"""Seconds of a block: longer than a syllable or a blink, so that blocks are nearly independent of each other."""
LEAST_BLOCKS = 4
"""Minimum number of blocks for an interval or a p-value."""
DRAWS = 2000
"""Resamples of an interval, and sign patterns of a test with too many blocks to try all."""
_EXACT_BLOCKS = 12
"""Up to so many blocks all 2^n sign patterns are tried."""


@dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval."""

    low: float
    high: float


def block_frames(fps: float | int) -> int:
    """Frames of a block."""
    return max(1, round(BLOCK_S * fps))


def bootstrap(values: Float[np.ndarray, " N"], block: int, *, root: bool = False) -> Interval | None:
    """Interval of the mean of a series by the circular block bootstrap (Politis and Romano 1992), percentile method.

    Args:
        values: one a frame, in order of time; nan is left out of every mean.
        block: frames of a block; it is drawn with its neighbours, so that the likeness of neighbours is kept.
        root: of the root of the mean (a root mean square, from squares).

    Returns:
        None for fewer than `LEAST_BLOCKS` blocks, or without any value.
    """
    count = len(values)
    if count < LEAST_BLOCKS * block or np.isnan(values).all():
        return None
    starts = np.random.default_rng(0).integers(count, size=(DRAWS, math.ceil(count / block)))
    # Sums of every circular block at once: a resample is then a sum of a few numbers.
    there = ~np.isnan(values)
    sums, counts = (block_sums(series, block) for series in (np.where(there, values, 0.0), there.astype(float)))
    total, counted = sums[starts].sum(1), counts[starts].sum(1)
    means = total[counted > 0] / counted[counted > 0]
    means = np.sqrt(means) if root else means
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(low), float(high))


def paired_p(ours: Float[np.ndarray, " N"], theirs: Float[np.ndarray, " N"], block: int) -> float | None:
    """Two-sided p of a paired permutation test: may the difference of two systems on the same frames be chance?

    If the systems were equal, swapping them within a block of time would change nothing; so the mean difference is
    compared with what it is under random (up to 12 blocks: all) swaps of whole blocks.

    Args:
        ours: one value a frame.
        theirs: the same frames of the other system; a frame that is nan in either is left out.
        block: frames that are swapped together.

    Returns:
        None for fewer than `LEAST_BLOCKS` blocks; never 0: with n blocks the smallest is 2 / 2^n.
    """
    difference = ours - theirs
    pieces = [difference[start : start + block] for start in range(0, len(difference), block)]
    sums = np.array([np.nansum(piece) for piece in pieces if not np.isnan(piece).all()])
    if len(sums) < LEAST_BLOCKS:
        return None
    observed = abs(sums.sum())
    if len(sums) <= _EXACT_BLOCKS:
        signs = np.array(list(product((-1.0, 1.0), repeat=len(sums))))
        extra = 0
    else:
        signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(DRAWS, len(sums)))
        extra = 1  # The observed pattern is one of those that could have been drawn (Phipson and Smyth 2010).
    # Sums of the same numbers in another order may differ in their last bits.
    as_large = int((np.abs(signs @ sums) >= observed * (1 - 1e-9)).sum())
    return (as_large + extra) / (len(signs) + extra)


def block_sums(series: Float[np.ndarray, " N"], block: int) -> Float[np.ndarray, " N"]:
    """Sum of ``block`` neighbours from each position on, going round at the end."""
    running = np.concatenate([[0.0], np.cumsum(np.concatenate([series, np.resize(series, block - 1)]))])
    return running[block:] - running[:-block]
