"""Table of expressions: strengths of action units at angles of the circumplex, and the displacement of each unit."""

import json
import math
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emotalking.models.motion import RADIAL_POWER
from emotalking.models.skin import FULL_RADIUS

KNOT_DEG = 11.25
"""Spacing of the knots; the file leaves out those that lie on the line between their neighbours."""

USUAL_LIFT, SMILING_LIFT = 0.02, 0.09
"""Lift of the mouth's corners that people who talk do not reach (five of them: -.042 to .004), and of one who beams
throughout (two who smile: .050, .054). Medians over clips; benchmarks/expression_bases.py."""
MAX_RESTING = 0.6
"""Largest share of a smile that is removed: stretched lips would fold (measured on a broadly smiling person)."""


@dataclass(frozen=True)
class ExpressionTable:
    """The packaged ``expressions.json``: in eye-centre distances, x outwards, y down, origin between the eyes."""

    anchors: dict[str, float]
    units: dict[str, dict[str, Any]]
    lids: dict[str, dict[str, float]]
    corner: dict[str, dict[str, float]]
    folds: dict[str, dict[str, Any]]
    unit_names: tuple[str, ...]
    fold_names: tuple[str, ...]
    knots: Float[Tensor, "knots columns"]
    """Coefficients at evenly spaced angles from 0; columns are the units, then the folds."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the coefficient columns."""
        return self.unit_names + self.fold_names


@cache
def load_expressions() -> ExpressionTable:
    """Read the packaged table."""
    data = json.loads(
        resources.files("emotalking.emotion.mesh_warp").joinpath("expressions.json").read_text("utf-8"), parse_int=float
    )
    unit_names = tuple(dict.fromkeys([*data["units"], *data["lids"], *data["corner"]]))
    fold_names = tuple(data["folds"])
    columns = [("units", name) for name in unit_names] + [("folds", name) for name in fold_names]
    rows = sorted(data["knots"], key=lambda knot: knot["angle_deg"])
    angles = np.array([row["angle_deg"] for row in rows])
    table = np.array([[row[kind].get(name, 0.0) for kind, name in columns] for row in rows])
    even = np.arange(0.0, 360.0, KNOT_DEG)
    knots = np.stack([np.interp(even, angles, column, period=360.0) for column in table.T], 1)
    return ExpressionTable(
        anchors=data["anchors"],
        units=data["units"],
        lids=data["lids"],
        corner=data["corner"],
        folds=data["folds"],
        unit_names=unit_names,
        fold_names=fold_names,
        knots=torch.from_numpy(knots.astype(np.float32)),
    )


def resting_expression_of(lift: float) -> tuple[float, float]:
    """Valence and arousal of a resting face's constant smile; (0, 0) for most people.

    Args:
        lift: of the mouth's corners (:func:`emotalking.emotion.mesh_warp.template.corner_lift`).
    """
    share = min(max((lift - USUAL_LIFT) / (SMILING_LIFT - USUAL_LIFT), 0.0), MAX_RESTING)
    strength = FULL_RADIUS * share ** (1 / RADIAL_POWER)
    return strength * math.cos(math.pi / 8), strength * math.sin(math.pi / 8)


def coefficients(va: Float[Tensor, "B 2"], knots: Float[Tensor, "knots columns"]) -> Float[Tensor, "B columns"]:
    """Coefficients of all units and folds for points of the circumplex.

    Linear in the angle between the table's knots, ``(r / 0.8) ** 0.75`` in the radius up to 0.8 and constant beyond.

    Args:
        va: valence and arousal in [-1, 1].
        knots: the table, rows evenly spaced in angle from 0.

    Returns:
        Coefficients; zeros at the origin.
    """
    count = knots.shape[0]
    angle = torch.atan2(va[:, 1], va[:, 0]) / (2 * torch.pi) * count
    low = angle.floor()
    weight = (angle - low)[:, None]
    index = low.long() % count
    ring = torch.lerp(knots[index], knots[(index + 1) % count], weight)
    radius = (va.norm(dim=1, keepdim=True) / FULL_RADIUS).clamp(max=1.0)
    return radius**RADIAL_POWER * ring
