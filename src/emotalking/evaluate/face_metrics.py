"""Metrics of faces: landmarks, action units, and what moves that should not. Pure functions; nan goes in and out."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

LIPS = slice(48, 68)
"""iBUG numbers of the lips' points."""
UPPER_AUS = ("AU01", "AU02", "AU04", "AU05", "AU06", "AU07", "AU09", "AU45")
"""Action units of AUE-U (docs/paper.md 9.1)."""
LOWER_AUS = ("AU10", "AU12", "AU14", "AU15", "AU17", "AU20", "AU23", "AU25", "AU26")
"""Action units of AUE-L (docs/paper.md 9.1)."""


def landmark_distance(
    points: Float[np.ndarray, "N 68 2"], truth: Float[np.ndarray, "N 68 2"]
) -> Float[np.ndarray, " N"]:
    """LMD: how far the lips' landmarks (iBUG 48-67) lie from the true ones, px.

    Each set less its own mean, so that a shifted mouth costs nothing; mean Euclidean distance of the 20 points
    (docs/paper.md 9.1, TalkingGaussian's script).
    """
    a, b = points[:, LIPS], truth[:, LIPS]
    return np.linalg.norm((a - a.mean(1, keepdims=True)) - (b - b.mean(1, keepdims=True)), axis=-1).mean(1)


def unit_error(
    units: Mapping[str, Float[np.ndarray, " N"]],
    truth: Mapping[str, Float[np.ndarray, " N"]],
    names: tuple[str, ...],
) -> Float[np.ndarray, " N"]:
    """AUE: squared differences of action units' intensities (0 to 5), summed over ``names``.

    The baseline's script takes the mean over frames of this sum (docs/paper.md 9.1).
    """
    return np.sum([(units[name] - truth[name]) ** 2 for name in names], 0)


def unit_power(units: Mapping[str, Float[np.ndarray, " N"]], names: tuple[str, ...]) -> Float[np.ndarray, " N"]:
    """Squared intensities of action units, summed over ``names``: the AUE of a face at rest, where all units are 0.

    An AUE means something only far below it. Embedded units are 0 up to the noise of landmarks, so it is next to
    nothing in frames without a blink or an expression.
    """
    return np.sum([units[name] ** 2 for name in names], 0)


def second_difference(values: Float[np.ndarray, "N *rest"]) -> Float[np.ndarray, "N *rest"]:
    """v[t - 1] - 2 v[t] + v[t + 1]; nan in the first and last frame and beside nan.

    What moves evenly has none; motion that is slow against the frames has next to none.
    """
    out = np.full(values.shape, np.nan)
    out[1:-1] = values[:-2] - 2 * values[1:-1] + values[2:]
    return out


def point_jitter(points: Float[np.ndarray, "N R 2"]) -> Float[np.ndarray, " N"]:
    """Length of the second difference in time, mean over points that sit on the skull, px a frame squared.

    Real heads and every detector have some too: compare with the same metric of the recording.
    """
    return np.linalg.norm(second_difference(points), axis=-1).mean(1)


def flicker(tones: Float[np.ndarray, "N B B"]) -> Float[np.ndarray, " N"]:
    """Second difference in time of the brightness of B x B blocks of the face, absolute; the median over the blocks.

    The blocks move with the head; blinks and words change a few of them only, which the median passes over.
    """
    change = np.abs(second_difference(tones)).reshape(len(tones), -1)
    return np.median(change, 1)


def opening_energy(opening: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """Squared change of the gap (``data.frame.lip_gap``) since the frame before, px^2; nan in the first frame."""
    return np.concatenate([[np.nan], np.diff(opening) ** 2])[: len(opening)]


def silence_ratio(energy: Float[np.ndarray, " N"], gate: Float[np.ndarray, " N"]) -> float:
    """Mean energy of the mouth's motion in silence over that in speech; 0: still in silence, 1: as lively as in speech.

    Args:
        energy: of :func:`opening_energy`.
        gate: 1 in speech, 0 in silence (:class:`emotalking.audio.vad.VoiceActivity`); frames between count for
            neither, since lips may close there.

    Returns:
        nan if there is no silence, no speech, or no motion in speech.
    """
    known = ~np.isnan(energy)
    quiet, loud = energy[known & (gate <= 0)], energy[known & (gate >= 1)]
    if len(quiet) == 0 or len(loud) == 0 or loud.mean() == 0:
        return float("nan")
    return float(quiet.mean() / loud.mean())
