"""Weights of flush and gloss of the face's Gaussians, from the neutral landmarks and the colours that were learned."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy.interpolate import LinearNDInterpolator
from scipy.ndimage import map_coordinates
from torch import Tensor

from emotalking.data.layouts import FaceLayout
from emotalking.emotion.mesh_warp.displacement import FaceMap, face_map, smoothstep, template_grid
from emotalking.emotion.mesh_warp.expressions import load_expressions
from emotalking.emotion.mesh_warp.template import build_template
from emotalking.models.gaussians import Gaussians
from emotalking.models.skin import FULL, MOST_LIGHT
from emotalking.ops.sh import C0

FLUSHED = ((0.62, 0.62, 0.34, 0.3, 1.0), (0.0, 0.72, 0.2, 0.2, 0.5))
"""Where blood shows most: x, y, spread in both, weight; in eye-centre distances, origin between the eyes, y down."""
EVERYWHERE = 0.4
"""Weight of all skin."""
OUTLINE = (0.88, 1.06)
"""Radii, in multiples of the face oval's, between which the skin's weights end."""
OFF_SURFACE = (0.25, 0.5)
"""Distances from the tracked surface, in eye-centre distances, between which they end as well."""
LUMA = (0.2126, 0.7152, 0.0722)


def skin_weights(shape: Float[np.ndarray, "K 3"], layout: FaceLayout, gaussians: Gaussians) -> UInt8[Tensor, "N 2"]:
    """Weights of flush and gloss (`models.skin`).

    Args:
        shape: neutral landmarks in the head frame.
        layout: their meaning.
        gaussians: of the face, with their final colours.
    """
    template = build_template(np.asarray(shape, np.float64), layout)
    grid = template_grid(template)
    face = face_map(template, grid, load_expressions().anchors)
    means = gaussians.means.detach().cpu().numpy().astype(np.float64)
    local = (means - template.centre) / template.unit_length * np.array([1, -1, 1])
    places = (local[:, :2] - grid.origin).T[::-1] / grid.pitch

    def at(texture: np.ndarray) -> Float[np.ndarray, " N"]:
        return map_coordinates(texture, places, order=1, mode="constant")

    surface = LinearNDInterpolator(template.points, template.depth)(local[:, :2])
    near = 1 - smoothstep(np.nan_to_num(np.abs(local[:, 2] - surface), nan=np.inf), *OFF_SURFACE)
    is_skin = at((1 - smoothstep(face.radius, *OUTLINE)) * face.off_lips * face.off_eyes) * near
    colours = (C0 * gaussians.sh0.detach()[:, 0] + 0.5).cpu().numpy().astype(np.float64)
    brightness = colours @ np.array(LUMA)
    middle = np.median(brightness[is_skin > 0.5]) if (is_skin > 0.5).any() else 1.0
    light = np.clip(brightness - middle, 0, MOST_LIGHT) / MOST_LIGHT
    weights = np.stack([is_skin * at(_flushed(face, FLUSHED)), is_skin * light], 1)
    return torch.from_numpy((FULL * weights.clip(0, 1)).round().astype(np.uint8)).to(gaussians.means.device)


def _flushed(face: FaceMap, spots: Sequence[tuple[float, float, float, float, float]]) -> Float[np.ndarray, "H W"]:
    """The strongest of the spots at each texel, on both halves of the face, over what all skin has."""
    u = np.abs(face.u)
    each = [w * np.exp(-0.5 * (((u - x) / sx) ** 2 + ((face.v - y) / sy) ** 2)) for x, y, sx, sy, w in spots]
    return EVERYWHERE + (1 - EVERYWHERE) * np.max(each, 0)
