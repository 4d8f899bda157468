"""Weights of flush, gloss and shade of the face's Gaussians: where they lie on the neutral face, and their colours."""

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
from emotalking.emotion.mesh_warp.template import FaceTemplate, build_template
from emotalking.emotion.mesh_warp.warp import MeshWarp
from emotalking.models.gaussians import Gaussians
from emotalking.models.head import TalkingHead
from emotalking.models.skin import FULL, FULL_RADIUS, MOST_LIGHT, SHADE_KNOTS, shade_codes
from emotalking.ops.composite import LUMA
from emotalking.ops.sh import C0
from emotalking.train.data import TrainingData

FLUSHED = ((0.62, 0.62, 0.34, 0.3, 1.0), (0.0, 0.72, 0.2, 0.2, 0.5))
"""Where blood shows most: x, y, spread in both, weight; in eye-centre distances, origin between the eyes, y down."""
EVERYWHERE = 0.4
"""Weight of all skin."""
OUTLINE = (0.88, 1.06)
"""Radii, in multiples of the face oval's, between which the skin's weights end."""
OFF_SURFACE = (0.25, 0.5)
"""Distances from the tracked surface, in eye-centre distances, between which they end as well."""
LIGHT_FRAMES = 12
"""Training frames, spread over the clip, whose mean light the shade is of."""


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
    local, near = _on_face(template, gaussians)
    places = (local[:, :2] - grid.origin).T[::-1] / grid.pitch

    def at(texture: np.ndarray) -> Float[np.ndarray, " N"]:
        return map_coordinates(texture, places, order=1, mode="constant")

    is_skin = at((1 - smoothstep(face.radius, *OUTLINE)) * face.off_lips * face.off_eyes) * near
    colours = (C0 * gaussians.sh0.detach()[:, 0] + 0.5).cpu().numpy().astype(np.float64)
    brightness = colours @ np.array(LUMA)
    middle = np.median(brightness[is_skin > 0.5]) if (is_skin > 0.5).any() else 1.0
    light = np.clip(brightness - middle, 0, MOST_LIGHT) / MOST_LIGHT
    weights = np.stack([is_skin * at(_flushed(face, FLUSHED)), is_skin * light], 1)
    return torch.from_numpy((FULL * weights.clip(0, 1)).round().astype(np.uint8)).to(gaussians.means.device)


def colour_skin(head: TalkingHead, data: TrainingData, maker: MeshWarp | None) -> None:
    """Give a trained head the weights of `models.skin`.

    Args:
        head: with places and colours as they will stay.
        data: the training frames.
        maker: the generator whose shade the head shows; None: it shows none.
    """
    assert data.shape is not None  # emotional heads have one
    gaussians = head.face.gaussians
    gaussians.skin = skin_weights(data.shape.cpu().numpy(), data.layout, gaussians)
    if maker is not None:
        gaussians.shade = shade_weights(maker, data, gaussians)


def shade_weights(maker: MeshWarp, data: TrainingData, gaussians: Gaussians) -> UInt8[Tensor, "N knots"]:
    """Weights of the shade (`models.skin`): the generator's relighting at full emotions, in the clip's mean light.

    Args:
        maker: the subject's generator.
        data: the training frames.
        gaussians: of the face, with their final places.
    """
    assert data.shape is not None  # the generator was made of it
    seen = torch.isfinite(data.points).flatten(1).all(1).nonzero()[:, 0].cpu().numpy()
    rows = seen[np.linspace(0, len(seen) - 1, min(LIGHT_FRAMES, len(seen))).round().astype(int)]
    lights = []
    for row in map(int, rows):
        one, views = slice(row, row + 1), data.conditions.viewmats
        lights.append(maker.light_on(data.image(row), data.points[one], data.labels[one], views[one]))
    angles = torch.arange(SHADE_KNOTS, device=data.device) * (2 * torch.pi / SHADE_KNOTS)
    emotions = FULL_RADIUS * torch.stack([angles.cos(), angles.sin()], 1)
    change = maker.shades_at(gaussians.means.detach(), emotions, torch.stack(lights).mean(0))
    template = build_template(data.shape.cpu().numpy().astype(np.float64), data.layout)
    _, near = _on_face(template, gaussians)
    return shade_codes((change * torch.from_numpy(near).to(change)).T)


def _on_face(template: FaceTemplate, gaussians: Gaussians) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, " N"]]:
    """Places in the template's axes and lengths, and 1 at the tracked surface, falling to 0 off it (`OFF_SURFACE`)."""
    means = gaussians.means.detach().cpu().numpy().astype(np.float64)
    local = (means - template.centre) / template.unit_length * np.array([1, -1, 1])
    surface = LinearNDInterpolator(template.points, template.depth)(local[:, :2])
    return local, 1 - smoothstep(np.nan_to_num(np.abs(local[:, 2] - surface), nan=np.inf), *OFF_SURFACE)


def _flushed(face: FaceMap, spots: Sequence[tuple[float, float, float, float, float]]) -> Float[np.ndarray, "H W"]:
    """The strongest of the spots at each texel, on both halves of the face, over what all skin has."""
    u = np.abs(face.u)
    each = [w * np.exp(-0.5 * (((u - x) / sx) ** 2 + ((face.v - y) / sy) ** 2)) for x, y, sx, sy, w in spots]
    return EVERYWHERE + (1 - EVERYWHERE) * np.max(each, 0)
