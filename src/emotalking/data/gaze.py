"""Direction of the eyes in the head, from the tracked irises."""

import numpy as np
from jaxtyping import Float

from emotalking.data.blink import AU45_OPEN
from emotalking.data.layouts import FaceLayout

IRIS_RADIUS = 0.0105
"""Distance [m] of the iris from the centre that the eye turns about."""
IRIS_DEPTH = 0.002
"""The iris lies this far [m] before the middle of the eye's corners."""


def _camera_centre(viewmats: Float[np.ndarray, "*batch 4 4"]) -> Float[np.ndarray, "*batch 3"]:
    return -np.einsum("...ij,...i->...j", viewmats[..., :3, :3], viewmats[..., :3, 3])


def camera_direction(viewmats: Float[np.ndarray, "*batch 4 4"]) -> Float[np.ndarray, "*batch 2"]:
    """Direction from the head's origin to the camera: radians to the viewer's right and up, in the head."""
    x, y, z = np.moveaxis(_camera_centre(viewmats), -1, 0)
    return np.stack([np.arctan2(x, z), np.arctan2(y, np.hypot(x, z))], -1)


def measure_gaze(
    points: Float[np.ndarray, "N K 2"],
    viewmats: Float[np.ndarray, "N 4 4"],
    focal: float,
    size: tuple[int, int],
    shape: Float[np.ndarray, "K 3"],
    layout: FaceLayout,
    closure: Float[np.ndarray, " N"],
) -> Float[np.ndarray, "N 2"] | None:
    """Gaze of both eyes together: radians to the viewer's right and up, in the head's frame.

    Each iris is carried back onto the plane where it lies in the head, so that the head's own motion is no gaze; its
    way from the middle of the eye's corners is an angle of the eyeball. Blinks are bridged.

    Assumption: in the median frame the person looks at the camera. So (0, 0) is along the head's axis, and eyes on the
    camera have the gaze :func:`camera_direction`, whatever the shape of the eyes.

    Args:
        points: landmarks, pixels.
        viewmats: head to camera.
        focal: pixels.
        size: image (width, height).
        shape: neutral landmarks in the head frame.
        closure: AU45.

    Returns:
        None where the layout has no irises.
    """
    if not (layout.right_iris and layout.left_iris):
        return None
    rotation, centre = viewmats[:, :3, :3].astype(np.float64), _camera_centre(viewmats.astype(np.float64))
    turned = []
    for iris, lid in ((layout.right_iris, layout.right_upper_lid), (layout.left_iris, layout.left_upper_lid)):
        middle = shape[[lid[0], lid[-1]]].mean(0)
        pixels = points[:, list(iris)].mean(1)
        rays = np.column_stack([(pixels - np.array(size) / 2) / focal, np.ones(len(pixels))])
        rays = np.einsum("nij,ni->nj", rotation, rays)
        along = (middle[2] + IRIS_DEPTH - centre[:, 2]) / rays[:, 2]
        turned.append((centre + along[:, None] * rays)[:, :2] - middle[:2])
    angles = np.arcsin(np.clip(np.mean(turned, 0) / IRIS_RADIUS, -1.0, 1.0))
    opened = np.flatnonzero((closure < AU45_OPEN) & np.isfinite(angles).all(1))
    if not len(opened):
        return np.zeros((len(points), 2), np.float32) + camera_direction(viewmats).astype(np.float32)
    angles -= np.median(angles[opened] - camera_direction(viewmats)[opened], 0)
    frames = np.arange(len(angles))
    return np.stack([np.interp(frames, opened, side[opened]) for side in angles.T], 1).astype(np.float32)
