"""Posterior probabilities of materials in numpy: the back end where there is no compiled one."""

from typing import Any

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8

BINS = 32
HANGING = 3.0
"""Penalty of clothes, in nats, where they are connected to the temple."""
IMPOSSIBLE = 20.0
"""Penalty, in nats, of what cannot be at a place."""
ANYWHERE = float(np.log(0.2))
"""Log probability that the still background does not show its own colour."""


def colour_bins(lab: UInt8[np.ndarray, "h w 3"]) -> Shaped[np.ndarray, "h w"]:
    """8-bit Lab to one of 32^3 bins; chroma is binned twice as finely as lightness."""
    lightness = lab[..., 0].astype(np.int32) >> 3
    a = np.clip((lab[..., 1].astype(np.int32) - 64) >> 2, 0, BINS - 1)
    b = np.clip((lab[..., 2].astype(np.int32) - 64) >> 2, 0, BINS - 1)
    return (lightness * BINS + a) * BINS + b


def material_posteriors(
    lab: np.ndarray,
    colours: np.ndarray,
    still: Any,
    person: np.ndarray,
    log_prior: np.ndarray,
    hanging: np.ndarray,
    oval: np.ndarray,
    below_brows: np.ndarray,
) -> np.ndarray:
    """See :func:`emotalking.ops.materials.material_posteriors`."""
    skin, hair, clothes, background = cv2.split(colours[colour_bins(lab)])
    seen = still.density - np.float32(0.5) * (np.square(lab - still.lab).sum(-1) / still.variance)
    # Where the background was never visible its colour is NaN.
    background = np.where(np.isnan(seen), background, np.fmax(seen, background + np.float32(ANYWHERE)))
    prior, log_person = cv2.split(log_prior), np.log(person)
    skin, hair, clothes = (x + (y + log_person) for x, y in zip((skin, hair, clothes), prior, strict=True))
    background = background + np.log1p(-person)
    clothes -= np.float32(HANGING) * hanging
    hair[below_brows] -= IMPOSSIBLE
    clothes[oval] -= IMPOSSIBLE
    background[oval] -= IMPOSSIBLE
    logits = np.stack([skin, hair, clothes, background], -1)
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)
