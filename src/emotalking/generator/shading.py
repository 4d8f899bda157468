"""Soft light and shade of folds, as log-gain textures over the template."""

import numpy as np
from jaxtyping import Float

from emotalking.generator.displacement import FaceMap, TemplateGrid, polyline_distance
from emotalking.generator.expressions import ExpressionTable


def _line(face: FaceMap, line: dict) -> Float[np.ndarray, "H W"]:
    """A crease: dark along a curve, with a lighter ridge on its outer side; it thins out to both ends."""
    u, width = np.abs(face.u), line["width"]
    distance, along, side = polyline_distance(u, face.v, np.array(line["points"], float))
    taper = np.sin(np.pi * np.clip(along, 0, 1)) ** 0.7
    crease = np.exp(-0.5 * (distance / width) ** 2)
    # The ridge lies two widths outwards; a negative strength puts it on the other side of the curve.
    shifted = np.copysign(distance, -side * np.sign(line["ridge"])) - 2.2 * width
    ridge = abs(line["ridge"]) * np.exp(-0.5 * (shifted / (1.6 * width)) ** 2)
    return (ridge - crease) * taper


def _spot(face: FaceMap, spot: dict) -> Float[np.ndarray, "H W"]:
    """A soft light (positive) or dark (negative) patch on both halves of the face."""
    u = (np.hypot(face.u, 0.04) - spot["x"]) / spot["sx"]
    v = (face.v - spot["y"]) / spot["sy"]
    return spot["gain"] * np.exp(-0.5 * (u**2 + v**2))


def _wave(face: FaceMap, wave: dict) -> Float[np.ndarray, "H W"]:
    """Folds of the forehead: a slow wave that follows the arch of the brows."""
    v = face.v - wave["y"]
    phase = 2 * np.pi * (v + wave["arch"] * np.cos(np.pi * np.clip(face.u / 0.7, -1, 1))) / wave["period"]
    return -wave["gain"] * np.cos(phase) * np.exp(-0.5 * ((face.u / wave["sx"]) ** 2 + (v / wave["sy"]) ** 2))


def shading_basis(grid: TemplateGrid, table: ExpressionTable, face: FaceMap) -> Float[np.ndarray, "S H W"]:
    """Log-gain of every texel for each shading term at coefficient 1, in ``table.shading_names``' order."""
    basis = np.zeros((len(table.shading_names), grid.height, grid.width))
    for k, name in enumerate(table.shading_names):
        term = table.shading[name]
        for kind, draw in (("lines", _line), ("spots", _spot), ("waves", _wave)):
            for item in term.get(kind, ()):
                basis[k] += draw(face, item)
    # Eyeballs and lips are not skin: they are not relit.
    return (basis * face.inside * face.off_lips * face.off_eyes**0.5).astype(np.float32)
