"""The face's triangle mesh: contours of lids and lips as exact rows of vertices, graded filling, holes cut out.

And its landmarks: named points of the mesh in the groups of ``data.layouts.FaceLayout``.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int32
from scipy.spatial import Delaunay

import emotalking.testing.actor.surface as surface
from emotalking.data.layouts import FaceLayout
from emotalking.testing.actor.parts import iris_vertices
from emotalking.testing.actor.style import ActorStyle
from emotalking.testing.actor.surface import EYE_X, EYE_Y, MOUTH_X, SLIT_X

ARC = 0.075
"""Metres of triangulation plane a radian of azimuth."""
_REACH = 1.85
"""Angular extent of the mesh, radians; hair covers the rest."""

_JAW_T = (0.010, -0.012, -0.032, -0.052, -0.070, -0.0845, -0.0965, -0.1050, -0.1080)
_JAW_DEG = (80.0, 80.0, 79.0, 77.0, 73.0, 66.0, 53.0, 29.0, 0.0)
_CROWN = ((66.0, 0.034), (57.0, 0.056), (44.0, 0.071), (30.0, 0.080), (15.0, 0.085), (0.0, 0.087))
"""Upper oval from the temple to the middle of the forehead: degrees, t."""
_RIGHT_BROW = ((-0.0515, 0.0235), (-0.0445, 0.0290), (-0.0360, 0.0310), (-0.0260, 0.0300), (-0.0150, 0.0255))
_NOSE_BRIDGE = ((0.0, 0.0085), (0.0, -0.0045), (0.0, -0.0175), (0.0, -0.0305))
_NOSE_BASE = ((-0.0135, -0.0375), (-0.0068, -0.0408), (0.0, -0.0412), (0.0068, -0.0408), (0.0135, -0.0375))
_FIELD = (
    (0.000, 0.070), (0.018, 0.068), (0.036, 0.060), (0.000, 0.054), (0.016, 0.052), (0.033, 0.046), (0.050, 0.043),
    (0.000, 0.038), (0.012, 0.038), (0.000, 0.022), (0.062, 0.022), (0.058, 0.008), (0.060, -0.008), (0.046, -0.010),
    (0.0315, -0.010), (0.020, -0.008), (0.010, -0.006), (0.011, -0.018), (0.0175, -0.030), (0.022, -0.020),
    (0.034, -0.020), (0.048, -0.022), (0.058, -0.024), (0.028, -0.032), (0.040, -0.036), (0.053, -0.038),
    (0.010, -0.0465), (0.000, -0.0465), (0.022, -0.044), (0.033, -0.050), (0.045, -0.052), (0.032, -0.062),
    (0.044, -0.066), (0.000, -0.0755), (0.013, -0.0760), (0.027, -0.0755), (0.037, -0.080), (0.000, -0.086),
    (0.016, -0.087), (0.000, -0.0965), (0.014, -0.0965), (0.028, -0.090),
    (0.020, 0.0185), (0.0315, 0.0195), (0.043, 0.0175),
)  # fmt: skip
"""Points (x >= 0, t) that cover forehead, temples, cheeks and chin; the others are their mirror images."""


@dataclass(frozen=True)
class Skin:
    """Mesh of the face in its parameter plane, and the names of its special vertices."""

    x: Float[np.ndarray, "V"]
    """Frontal place on the plain head, metres."""
    t: Float[np.ndarray, "V"]
    theta: Float[np.ndarray, "V"]
    faces: Int32[np.ndarray, "F 3"]
    rest: Float32[np.ndarray, "V 3"]
    """Positions at rest."""
    rows: dict[str, np.ndarray]
    """Vertex indices of the named rows of points (contours, brows, oval, ...)."""


class _Points:
    """Collects exact points; a corner shared by two rows is stored once."""

    def __init__(self) -> None:
        self.xy: list[tuple[float, float]] = []
        self.rows: dict[str, np.ndarray] = {}
        self._known: dict[tuple[float, float], int] = {}

    def add(self, name: str, row: Float[np.ndarray, "n 2"]) -> None:
        """Store ``row`` (frontal places, metres) under ``name``."""
        indices = []
        for x, y in row:
            key = (round(float(x), 7), round(float(y), 7))
            if key not in self._known:
                self._known[key] = len(self.xy)
                self.xy.append((float(x), float(y)))
            indices.append(self._known[key])
        self.rows[name] = np.array(indices, np.int32)


def _mirror(row: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
    return row * np.array([-1.0, 1.0])


def _contours(points: _Points, style: ActorStyle) -> None:
    """Rows of the lids (outer to inner corner) and lips (person's right to left)."""
    lid = surface.lid_of(style)
    e = lid.half * np.cos(np.linspace(0, np.pi, 17))
    for name, height in (("upper_lid", lid.upper_y(e)), ("lower_lid", lid.lower_y(e))):
        left = np.column_stack([EYE_X + e, EYE_Y + height])
        points.add(f"left_{name}", left)
        points.add(f"right_{name}", _mirror(left))
    u = -np.cos(np.linspace(0, np.pi, 25))
    x = SLIT_X * u
    points.add("lip_inner_upper", np.column_stack([x, surface.mouth_line(x) + surface.slit(x)]))
    points.add("lip_inner_lower", np.column_stack([x, surface.mouth_line(x) - surface.slit(x)]))
    x = MOUTH_X * u
    points.add("lip_outer_upper", np.column_stack([x, surface.lip_outer(x, style, True)]))
    points.add("lip_outer_lower", np.column_stack([x, surface.lip_outer(x, style, False)]))


def _landmark_rows(points: _Points, style: ActorStyle) -> None:
    """Brows, nose, jaw, oval and the field of points between."""
    lift = np.array([1.0, 0.6, 0.3, 0.0, 0.0]) * style.brow_angle
    brow = np.array(_RIGHT_BROW) + np.column_stack([np.zeros(5), lift])
    points.add("right_brow", brow)
    points.add("left_brow", _mirror(brow))
    points.add("nose_bridge", np.array(_NOSE_BRIDGE))
    points.add("nose_base", np.array(_NOSE_BASE))
    t = np.array(_JAW_T)
    right = np.column_stack([-surface.half_width(t, style) * np.sin(np.radians(_JAW_DEG)), t])
    points.add("jaw", np.concatenate([right, _mirror(right[-2::-1])]))
    degrees, t = np.array(_CROWN).T
    right = np.column_stack([-surface.half_width(t, style) * np.sin(np.radians(degrees)), t])
    points.add("crown", np.concatenate([right, _mirror(right[-2::-1])]))
    field = np.array(_FIELD)
    points.add("field_left", field)
    points.add("field_right", _mirror(field[field[:, 0] > 0]))


def _grid(box: tuple[float, float, float, float], step: float) -> Float[np.ndarray, "n 2"]:
    """Hexagonal grid in ``(x low, x high, y low, y high)``, symmetric in x for a symmetric box."""
    middle = 0.5 * (box[0] + box[1])
    columns = int((box[1] - middle) / step)
    x = middle + step * np.arange(-columns, columns + 1)
    y = np.arange(box[2], box[3], step * 0.866)
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    grid[1::2, :, 0] += 0.5 * step
    return grid.reshape(-1, 2)


def _spacing(plane: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n"]:
    """Wanted distance of neighbours in the triangulation plane."""
    x, y = np.abs(plane[:, 0]), plane[:, 1]
    fine = np.maximum(
        surface.smoothstep(np.hypot((x - 0.034) / 0.026, (y - EYE_Y) / 0.019), 1.25, 0.9),
        surface.smoothstep(np.hypot(x / 0.032, (y + 0.0585) / 0.019), 1.3, 0.9),
    )
    fine = np.maximum(fine, surface.smoothstep(np.hypot(x / 0.022, (y + 0.034) / 0.015), 1.2, 0.8))
    middle = surface.smoothstep(np.hypot(x / 0.075, (y + 0.01) / 0.10), 1.15, 0.85)
    return 0.0062 - 0.0030 * middle - 0.0015 * fine


def _filling() -> Float[np.ndarray, "n 2"]:
    """Graded points of the triangulation plane: the finest grid that the wanted spacing allows at each place."""
    kept = []
    limits = (0.0, 0.0021, 0.0034, 0.0055, 1.0)
    for low, high, step in zip(limits[:-1], limits[1:], (0.0018, 0.0028, 0.0044, 0.0062), strict=True):
        grid = _grid((-_REACH * ARC, _REACH * ARC, surface.T_BOTTOM, surface.T_TOP - 0.004), step)
        wanted = _spacing(grid)
        kept.append(grid[(wanted >= low) & (wanted < high)])
    return np.concatenate(kept)


def _in_hole(x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"], style: ActorStyle, margin: float) -> np.ndarray:
    """True inside an eye or the mouth (grown by ``margin``)."""
    lid = surface.lid_of(style)
    e = np.abs(x) - EYE_X
    eye = (
        (np.abs(e) < lid.half + margin) & (y - EYE_Y < lid.upper_y(e) + margin) & (y - EYE_Y > lid.lower_y(e) - margin)
    )
    mouth = (np.abs(x) < SLIT_X + margin) & (np.abs(y - surface.mouth_line(x)) < surface.slit(x) + margin)
    return eye | mouth


def build_skin(style: ActorStyle) -> Skin:
    """Triangulate the face of ``style``: lids and lips are rows of vertices, eyes and mouth are holes."""
    points = _Points()
    _contours(points, style)
    _landmark_rows(points, style)
    exact = np.array(points.xy)
    exact_plane = np.column_stack([surface.theta_of(exact[:, 0], exact[:, 1], style) * ARC, exact[:, 1]])
    filling = _filling()
    nearest = np.concatenate(
        [np.linalg.norm(part[:, None] - exact_plane[None], axis=-1).min(1) for part in np.array_split(filling, 8)]
    )
    filling = filling[nearest > 0.55 * _spacing(filling)]
    x_filling = surface.half_width(filling[:, 1], style) * np.sin(filling[:, 0] / ARC)
    frontal = np.abs(filling[:, 0]) < 1.3 * ARC
    filling = filling[~(frontal & _in_hole(x_filling, filling[:, 1], style, 0.0004))]
    plane = np.concatenate([exact_plane, filling])
    theta, t = plane[:, 0] / ARC, plane[:, 1]
    x = surface.half_width(t, style) * np.sin(theta)
    x[: len(exact)] = exact[:, 0]
    faces = Delaunay(plane).simplices
    middle = plane[faces].mean(1)
    in_hole = _in_hole(x[faces].mean(1), middle[:, 1], style, -1e-6) & (np.abs(middle[:, 0]) < 1.3 * ARC)
    faces = faces[~in_hole]
    a, b, c = (plane[faces[:, k]] for k in range(3))
    turn = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    faces = np.where(turn[:, None] > 0, faces, faces[:, ::-1])[np.abs(turn) > 1e-12]
    rest = surface.place(theta, t, style)
    return Skin(x, t, theta, np.ascontiguousarray(faces, np.int32), rest.astype(np.float32), points.rows)


@dataclass(frozen=True)
class LandmarkSet:
    """Mesh vertices and groups of the landmarks."""

    vertices: Int32[np.ndarray, "K"]
    layout: FaceLayout


class _Collector:
    """Assign one landmark per vertex, even if several groups contain it."""

    def __init__(self) -> None:
        self.vertices: list[int] = []
        self._known: dict[int, int] = {}

    def row(self, vertices: np.ndarray) -> tuple[int, ...]:
        for vertex in map(int, vertices):
            if vertex not in self._known:
                self._known[vertex] = len(self.vertices)
                self.vertices.append(vertex)
        return tuple(self._known[int(vertex)] for vertex in vertices)


def _loop(upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Right corner, upper lip, left corner, lower lip back."""
    return np.concatenate([upper, lower[-2:0:-1]])


def _ibug(skin: Skin) -> np.ndarray:
    """Vertices in iBUG-68 order."""
    rows = skin.rows
    lids = []
    for side in ("right", "left"):
        upper, lower = rows[f"{side}_upper_lid"], rows[f"{side}_lower_lid"]  # outer to inner corner
        ring = [upper[0], upper[5], upper[11], upper[16], lower[11], lower[5]]
        lids += ring if side == "right" else [ring[3], ring[2], ring[1], ring[0], ring[5], ring[4]]
    outer_up, outer_low = rows["lip_outer_upper"], rows["lip_outer_lower"]
    inner_up, inner_low = rows["lip_inner_upper"], rows["lip_inner_lower"]
    lips = [outer_up[k] for k in (0, 5, 9, 12, 15, 19, 24)] + [outer_low[k] for k in (19, 15, 12, 9, 5)]
    lips += [inner_up[k] for k in (0, 8, 12, 16, 24)] + [inner_low[k] for k in (16, 12, 8)]
    return np.concatenate(
        [rows["jaw"], rows["right_brow"], rows["left_brow"][::-1], rows["nose_bridge"], rows["nose_base"], lids, lips]
    )


def collect_landmarks(skin: Skin, first_eye_vertex: dict[str, int]) -> LandmarkSet:
    """Choose the landmarks of a face mesh.

    Args:
        skin: the face.
        first_eye_vertex: where the eyeballs "right" and "left" begin in the assembled mesh.
    """
    take = _Collector()
    rows = skin.rows
    every = slice(None, None, 2)
    groups: dict[str, tuple[int, ...]] = {}
    ibug = take.row(_ibug(skin))
    for side in ("right", "left"):
        for lid in ("upper_lid", "lower_lid"):
            groups[f"{side}_{lid}"] = take.row(rows[f"{side}_{lid}"][every])
        groups[f"{side}_brow"] = take.row(rows[f"{side}_brow"])
        iris = np.array(iris_vertices()) + first_eye_vertex[side]
        groups[f"{side}_iris"] = take.row(iris)
    groups["lips_outer"] = take.row(_loop(rows["lip_outer_upper"], rows["lip_outer_lower"])[every])
    groups["lips_inner"] = take.row(_loop(rows["lip_inner_upper"], rows["lip_inner_lower"])[every])
    groups["nose"] = take.row(rows["nose_bridge"])
    crown, jaw = rows["crown"], rows["jaw"]  # both from the person's right to the left
    middle = len(crown) // 2
    groups["oval"] = take.row(np.concatenate([crown[middle:], jaw[::-1], crown[:middle]]))
    corners = [rows[f"{side}_upper_lid"][end] for side in ("right", "left") for end in (0, -1)]
    rigid = np.concatenate([rows["nose_bridge"], corners, crown[[0, 1, -2, -1]], jaw[[0, -1]]])
    groups["rigid"] = take.row(rigid)
    take.row(np.concatenate([rows["field_left"], rows["field_right"]]))
    layout = FaceLayout(name="actor", ibug68=ibug, **groups)
    return LandmarkSet(np.array(take.vertices, np.int32), layout)
