"""Tensors that a subject's mesh warp computes once: fields over the template, its mesh, and its measures at rest."""

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.linalg import block_diag
from torch import Tensor

from emotalking.emotion.mesh_warp.displacement import (
    USUAL_OPENING,
    TemplateGrid,
    edge_basis,
    face_map,
    lid_share,
    skin_basis,
)
from emotalking.emotion.mesh_warp.expressions import ExpressionTable
from emotalking.emotion.mesh_warp.eyes import openness
from emotalking.emotion.mesh_warp.shading import fold_basis
from emotalking.emotion.mesh_warp.template import RINGS, FaceTemplate

LEAST_OPENING = 0.6
"""Share of the usual eye's opening below which eyes count as closing, regardless of the neutral face."""


def prepared_tensors(
    template: FaceTemplate, grid: TemplateGrid, table: ExpressionTable, *, corners: bool
) -> dict[str, Tensor]:
    """All tensors of a :class:`~emotalking.emotion.mesh_warp.warp.MeshWarp`, by name.

    Args:
        template: of the subject.
        grid: over it.
        table: of the expressions.
        corners: let the corners of the mouth rise and fall.
    """
    textures, columns = _textures(template, grid, table), _columns(template, table, corners)
    return textures | columns | _vertices(template) | _neutral_measures(template)


def mouth_width(points: Float[Tensor, "B K 2"], mouth: Int[Tensor, "4"]) -> Float[Tensor, " B"]:
    """Width of the mouth over that of both eyes: turning the head shortens both."""
    a, b, c, d = points[:, mouth].unbind(1)
    return (b - a).norm(dim=1) / (d - c).norm(dim=1).clamp(min=1e-6)


def _textures(template: FaceTemplate, grid: TemplateGrid, table: ExpressionTable) -> dict[str, Tensor]:
    """Fields over the grid: those of all units (moves, then folds), and how far and where skin may move."""
    face = face_map(template, grid, table.anchors)
    moves = np.concatenate([skin_basis(grid, table, face), edge_basis(template, grid, table, face)], 1)
    folds = fold_basis(grid, table, face)
    basis = np.asarray(block_diag(moves.reshape(len(moves), -1), folds.reshape(len(folds), -1)), np.float32)
    return {
        "basis": torch.from_numpy(basis),
        "reach": torch.from_numpy(face.reach.astype(np.float32)),
        "off_eyeballs": torch.from_numpy((face.off_eyes > 0).astype(np.float32)),
    }


def _columns(template: FaceTemplate, table: ExpressionTable, corners: bool) -> dict[str, Tensor]:
    """Strengths of the units over the circumplex, and which of them move the lids and widen the mouth."""
    knots = table.knots.clone()
    if not corners:
        knots[:, [table.columns.index(name) for name in table.corner]] = 0
    share = lid_share(template)
    drops = [share * float(table.lids.get(name, {}).get("upper", 0)) for name in table.columns]
    return {
        "knots": knots,
        "is_lid": torch.tensor([float(name in table.lids) for name in table.columns]),
        "lid_drop": torch.tensor(drops),
        "is_width": torch.tensor([float(name == "LW") for name in table.columns]),
    }


def _vertices(template: FaceTemplate) -> dict[str, Tensor]:
    """The template's mesh, flat and in the head frame, its oval, the middle of the face, and which landmarks move."""
    layout = template.layout
    across = template.points * np.array([1, -1]) * template.unit_length
    vertices = np.concatenate([across, template.depth[:, None] * template.unit_length], 1) + template.centre
    middle = vertices[[*layout.nose, *layout.eye_loop("right"), *layout.eye_loop("left")]].mean(0)
    mobile = np.ones((len(vertices) - len(RINGS) * len(layout.oval), 1), np.float32)
    mobile[list(layout.right_iris + layout.left_iris)] = 0
    return {
        "points": torch.from_numpy(template.points),
        "triangles": torch.from_numpy(template.triangles),
        "vertices": torch.from_numpy(vertices.astype(np.float32)),
        "oval": torch.tensor(layout.oval),
        "centre": torch.from_numpy(template.centre),
        "middle": torch.from_numpy(middle.astype(np.float32)),
        "mobile": torch.from_numpy(mobile),
    }


def _neutral_measures(template: FaceTemplate) -> dict[str, Tensor]:
    """Landmarks between which eyes and mouth are measured, and how open and wide they are at rest."""
    layout, points = template.layout, torch.from_numpy(template.points[None])
    loops = [layout.eye_loop(side) for side in ("right", "left")]
    longest = max(map(len, loops))
    eyes = torch.tensor([loop + loop[-1:] * (longest - len(loop)) for loop in loops])
    lips = layout.lips_outer
    # Ends of the mouth and of the line between the eyes' outer corners.
    mouth = torch.tensor([lips[0], lips[len(lips) // 2], layout.right_upper_lid[0], layout.left_upper_lid[0]])
    return {
        "eyes": eyes,
        "mouth": mouth,
        "width": mouth_width(points, mouth),
        # A face known from one image with closed eyes still has eyes that open.
        "openness": openness(points[:, eyes]).clamp(min=LEAST_OPENING * USUAL_OPENING),
    }
