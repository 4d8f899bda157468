"""A subject's frontal face template: coordinates, closing rings and triangles, all made from the neutral shape."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import Delaunay

from emotalking.data.layouts import FaceLayout

RINGS = (1.13, 1.4)
"""Two rings around the face oval, in multiples of its radius: the field dies out between them."""


@dataclass(frozen=True)
class FaceTemplate:
    """The frontal view of the neutral face.

    Unit: the distance of the eye centres. x to the viewer's right, y down, origin between the eyes.
    V = K + 2 * len(oval) vertices: the landmarks, then the rings.
    """

    layout: FaceLayout
    points: Float[np.ndarray, "V 2"]
    depth: Float[np.ndarray, " V"]
    """Out of the face, towards the viewer."""
    triangles: Int[np.ndarray, "T 3"]
    unit_length: float
    """Eye-centre distance in world units."""
    centre: Float[np.ndarray, " 3"]
    """World position of the point between the eyes."""

    def group(self, name: str) -> Float[np.ndarray, "n 2"]:
        """Template coordinates of a named group of the layout."""
        return self.points[list(getattr(self.layout, name))]

    def eye(self, side: str) -> Float[np.ndarray, "n 2"]:
        """The closed loop of one eye's lids."""
        return self.points[list(self.layout.eye_loop(side))]


def corner_lift(template: FaceTemplate) -> float:
    """Height of the mouth's corners above the line between the lips' middles, in eye-centre distances."""
    outer, inner = template.group("lips_outer"), template.group("lips_inner")
    corners = (outer[0] + outer[len(outer) // 2]) / 2
    seam = (inner[len(inner) // 4] + inner[3 * len(inner) // 4]) / 2
    return float(seam[1] - corners[1])


def ring_points(oval: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "m d"]:
    """The rings around a face oval, innermost first."""
    centre = oval.mean(0)
    return np.concatenate([centre + scale * (oval - centre) for scale in RINGS])


def build_template(shape: Float[np.ndarray, "K 3"], layout: FaceLayout) -> FaceTemplate:
    """Make the template of a subject.

    Args:
        shape: neutral 3-D landmarks in the head frame (x right, y up, z out of the face), world units.
        layout: meaning of the landmarks.

    Raises:
        ValueError: if the shape is not finite or the layout names points that it does not have.
    """
    indices = [i for v in vars(layout).values() if isinstance(v, tuple) for i in v]
    if not indices or max(indices) >= len(shape):
        raise ValueError(f"layout {layout.name} names point {max(indices, default=-1)}, shape has {len(shape)}")
    if not np.isfinite(shape).all():
        raise ValueError("shape must be finite")
    right, left = layout.eye_centres(shape)
    centre = (right + left) / 2
    unit = float(np.linalg.norm(left - right))
    local = (shape - centre) / unit * np.array([1.0, -1.0, 1.0])
    local = np.concatenate([local, ring_points(local[list(layout.oval)])])
    triangles = Delaunay(local[:, :2]).simplices
    return FaceTemplate(
        layout=layout,
        points=local[:, :2].astype(np.float32),
        depth=local[:, 2].astype(np.float32),
        triangles=triangles.astype(np.int64),
        unit_length=unit,
        centre=centre.astype(np.float32),
    )
