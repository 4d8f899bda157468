"""The actor's landmark set: named points of the face mesh in the groups of ``data.layouts.FaceLayout``."""

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Int32

from emotalking.testing.actor.parts import iris_vertices
from emotalking.testing.actor.skin import Skin


@dataclass(frozen=True)
class ActorLayout:
    """Index groups into the actor's landmarks; the field names and ordering rules are those of ``FaceLayout``.

    (This room may import ``ops`` only; ``FaceLayout(**dataclasses.asdict(layout))`` converts, and a test checks it.)
    """

    name: str
    right_upper_lid: tuple[int, ...]
    right_lower_lid: tuple[int, ...]
    left_upper_lid: tuple[int, ...]
    left_lower_lid: tuple[int, ...]
    right_brow: tuple[int, ...]
    left_brow: tuple[int, ...]
    lips_outer: tuple[int, ...]
    lips_inner: tuple[int, ...]
    oval: tuple[int, ...]
    nose: tuple[int, ...]
    right_iris: tuple[int, ...]
    left_iris: tuple[int, ...]
    rigid: tuple[int, ...]
    ibug68: tuple[int, ...]


@dataclass(frozen=True)
class LandmarkSet:
    """Mesh vertices, names and groups of the landmarks."""

    vertices: Int32[np.ndarray, "K"]
    names: tuple[str, ...]
    layout: ActorLayout


class _Collector:
    """Assign one landmark per vertex, even if several groups contain it."""

    def __init__(self) -> None:
        self.vertices: list[int] = []
        self.names: list[str] = []
        self._known: dict[int, int] = {}

    def row(self, name: str, vertices: np.ndarray) -> tuple[int, ...]:
        for number, vertex in enumerate(map(int, vertices)):
            if vertex not in self._known:
                self._known[vertex] = len(self.vertices)
                self.vertices.append(vertex)
                self.names.append(f"{name}_{number}")
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
    ibug = take.row("ibug", _ibug(skin))
    for side in ("right", "left"):
        for lid in ("upper_lid", "lower_lid"):
            groups[f"{side}_{lid}"] = take.row(f"{side}_{lid}", rows[f"{side}_{lid}"][every])
        groups[f"{side}_brow"] = take.row(f"{side}_brow", rows[f"{side}_brow"])
        iris = np.array(iris_vertices()) + first_eye_vertex[side]
        groups[f"{side}_iris"] = take.row(f"{side}_iris", iris)
    groups["lips_outer"] = take.row("lips_outer", _loop(rows["lip_outer_upper"], rows["lip_outer_lower"])[every])
    groups["lips_inner"] = take.row("lips_inner", _loop(rows["lip_inner_upper"], rows["lip_inner_lower"])[every])
    groups["nose"] = take.row("nose", rows["nose_bridge"])
    crown, jaw = rows["crown"], rows["jaw"]  # both from the person's right to the left
    middle = len(crown) // 2
    groups["oval"] = take.row("oval", np.concatenate([crown[middle:], jaw[::-1], crown[:middle]]))
    corners = [rows[f"{side}_upper_lid"][end] for side in ("right", "left") for end in (0, -1)]
    rigid = np.concatenate([rows["nose_bridge"], corners, crown[[0, 1, -2, -1]], jaw[[0, -1]]])
    groups["rigid"] = take.row("rigid", rigid)
    take.row("field", np.concatenate([rows["field_left"], rows["field_right"]]))
    layout = ActorLayout(name="actor", ibug68=ibug, **groups)
    assert {f.name for f in fields(layout)} == {*groups, "name", "ibug68"}
    return LandmarkSet(np.array(take.vertices, np.int32), tuple(take.names), layout)
