"""Posterior probabilities of skin, hair, clothes and background from colours and places of pixels."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8

from emotalking.ops.backends import Backend, Operation, builds

_ON_HOST = torch.empty(0)
"""Sample of numpy arrays for :meth:`Operation.choose`."""

MATERIAL_POSTERIORS = Operation(
    "material_posteriors",
    Backend(
        "cpu", "emotalking.ops.cpu.materials:material_posteriors", available=builds("emotalking.ops.cpu.materials")
    ),
    Backend("reference", "emotalking.ops.reference.materials:material_posteriors"),
)
"""Back ends have the arguments of :func:`material_posteriors`."""


class StillBackground(NamedTuple):
    """A background that does not move, pixel by pixel."""

    lab: Float32[np.ndarray, "h w 3"]
    """8-bit Lab colour; NaN where it was never visible."""
    variance: Float32[np.ndarray, "h w"]
    density: Float32[np.ndarray, "h w"]
    """Log density of its own colour."""


def material_posteriors(
    lab: UInt8[np.ndarray, "h w 3"],
    colours: Float32[np.ndarray, "32768 4"],
    still: StillBackground,
    person: Float32[np.ndarray, "h w"],
    log_prior: Float32[np.ndarray, "h w 3"],
    hanging: Float32[np.ndarray, "h w"],
    oval: Bool[np.ndarray, "h w"],
    below_brows: Bool[np.ndarray, "h w"],
    *,
    backend: str = "auto",
) -> Float32[np.ndarray, "h w 4"]:
    """Naive Bayes of colour and place, pixel by pixel.

    Args:
        lab: image in 8-bit Lab.
        colours: log density of each colour bin under skin, hair, clothes, background
            (:func:`~emotalking.ops.reference.materials.colour_bins`).
        still: what is known of the background.
        person: probability that a pixel is of the person, in (0, 1).
        log_prior: log shares of skin, hair, clothes among the person's pixels.
        hanging: 1 where clothes are unlikely, 0 elsewhere.
        oval: where there are no clothes and no background.
        below_brows: where there is no hair.
        backend: ``cpu`` is our kernel, ``reference`` numpy; ``auto`` as in `ops.backends`.

    Raises:
        NoCompiler: ``backend="cpu"`` where the kernels can be neither loaded nor compiled.
    """
    return MATERIAL_POSTERIORS.choose(backend, _ON_HOST)(
        lab, colours, still, person, log_prior, hanging, oval, below_brows
    )
