"""Metrics of emotion control (docs/paper.md 9.3): pure functions on what was commanded and what a model read."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from emotalking.emotion.circumplex import TestPoint

SAME_POINT = 0.02
"""A commanded valence and arousal within this of a labelled point is that point."""


def squared_error(measured: Float[np.ndarray, " N"], commanded: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """Of each frame; V-RMSE and A-RMSE are the root of its mean. Valence and arousal lie in [-1, 1]."""
    return (measured - commanded) ** 2


def sign_agreement(measured: Float[np.ndarray, " N"], commanded: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """V-SA, A-SA: 1 where both have the same sign, else 0; the sign of 0 is 0. nan where not measured."""
    same = (np.sign(measured) == np.sign(commanded)).astype(np.float64)
    return np.where(np.isnan(measured), np.nan, same)


def label_of(commanded: Float[np.ndarray, "N 2"], points: Sequence[TestPoint]) -> list[str | None]:
    """The expression that belongs to each commanded valence and arousal; None where no labelled point is there."""
    places = np.array([(point.valence, point.arousal) for point in points])
    distance = np.abs(commanded[:, None] - places).max(-1)
    nearest = distance.argmin(1)
    return [points[at].label if gap[at] <= SAME_POINT else None for at, gap in zip(nearest, distance, strict=True)]


def ranks(
    scores: Float[np.ndarray, "N E"], classes: Sequence[str], labels: Sequence[str | None]
) -> Int[np.ndarray, " N"]:
    """Place of each frame's label among its class scores, 0: the highest; -1: no label, no such class, or no face."""
    out = np.full(len(scores), -1)
    for frame, label in enumerate(labels):
        if label is not None and label in classes and not np.isnan(scores[frame]).any():
            out[frame] = int((scores[frame] > scores[frame, list(classes).index(label)]).sum())
    return out


def top_k(place: Int[np.ndarray, " N"], k: int) -> Float[np.ndarray, " N"]:
    """E-Acc, percent: 100 where the label is among the ``k`` highest scores, else 0; nan where :func:`ranks` has -1."""
    return np.where(place < 0, np.nan, 100.0 * (place < k))
