"""Cameras and face shape of a folder that another tracker made, in that tracker's own head frame."""

import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from emotalking.data.layouts import FaceLayout
from emotalking.errors import InputError, NoFaceError
from emotalking.preprocess.pose import rigid
from emotalking.preprocess.pose.solver import project

UNIT = 10.0
"""The published tracker counts in units ten times smaller than the cameras of the layout (docs/paper.md 1.1)."""
_FRAMES = 60
"""Frames, spread over the clip, on which the shape is fitted into the tracker's head frame."""
_SPREADS = np.array([0.1, *[0.3] * 3, *[0.03] * 3])
"""Standard deviations of log scale, rotation vector and place: they decide only what the views do not determine."""


def read_tracker_cameras(path: Path) -> tuple[Float[np.ndarray, "N 4 4"], float]:
    """World-to-camera matrices (OpenCV axes) and focal length (px) of a BFM tracker's ``track_params.pt``.

    Source: docs/paper.md 1 and 1.1: R = Rx(a) Ry(b) Rz(c), of which Rx and Ry are the transposes of the usual ones; the
    camera looks down -z; the translation is divided by ten.

    Raises:
        InputError: if the file is missing or holds something else (none of its content can run code).
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        euler = np.asarray(content["euler"], np.float64).reshape(-1, 3)
        moved = np.asarray(content["trans"], np.float64).reshape(len(euler), 3) / UNIT
        focal = float(np.asarray(content["focal"]).reshape(-1)[0])
    except FileNotFoundError:
        raise InputError(f"{path} is missing: copy it there, or prepare the clip again.") from None
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"{path} holds no tracked euler, trans and focal ({error}): track the clip again.") from None
    except (pickle.UnpicklingError, zipfile.BadZipFile):
        raise InputError(f"{path} holds more than tensors: save only euler, trans and focal.") from None
    if not len(euler) or not np.isfinite(euler).all() or not np.isfinite(moved).all() or not focal > 0:
        raise InputError(f"{path} holds a camera that is not finite or no positive focal length: track the clip again.")
    a, b, c = euler.T
    rotation = (
        Rotation.from_rotvec(np.outer(-a, [1, 0, 0]))
        * Rotation.from_rotvec(np.outer(-b, [0, 1, 0]))
        * Rotation.from_rotvec(np.outer(c, [0, 0, 1]))
    )
    views = np.tile(np.eye(4), (len(euler), 1, 1))
    views[:, :3, :3], views[:, :3, 3] = rotation.as_matrix(), moved
    return np.diag([1.0, -1.0, -1.0, 1.0]) @ views, focal


@dataclass(frozen=True)
class FittedShape:
    """A face shape under given cameras."""

    shape: Float[np.ndarray, "K 3"]
    """Neutral landmarks in the cameras' head frame."""
    scale: float
    """Size against a head whose eyes are 0.063 apart."""
    reprojection_px: float
    """Root mean square over the rigid points."""


def shape_under(
    points: Float[np.ndarray, "N K 2"],
    depth: Float[np.ndarray, "N K"],
    detected: Bool[np.ndarray, " N"],
    viewmats: Float[np.ndarray, "N 4 4"],
    focal: float,
    size: tuple[int, int],
    layout: FaceLayout,
) -> FittedShape:
    """The neutral landmark shape that given cameras see: the cameras stay as they are.

    The detector's own 3-D shape is moved into the cameras' head frame as a whole (scale, rotation, place; robust least
    squares on the rigid points), then every point is triangulated with that as its prior.

    Args:
        points: landmarks in pixels; NaN where a frame has no face.
        depth: the detector's depth of each point in pixels, smaller is nearer.
        detected: frames with a face.
        viewmats: world-to-camera, OpenCV axes.
        focal: pixels.
        size: image (height, width).
        layout: names the rigid points.

    Raises:
        InputError: if fewer than ten frames show a face.
    """
    if detected.sum() < 10:
        raise NoFaceError(f"only {int(detected.sum())} frames show a face: at least ten are needed for its shape.")
    begin = rigid.start(points, depth, detected, layout, size, focal / size[1])
    index = np.asarray(layout.rigid)
    frames = rigid.spread_over(np.flatnonzero(detected), _FRAMES)
    views, observed = viewmats[frames].astype(np.float64), points[frames][:, index]
    back = np.swapaxes(views[:, :3, :3], 1, 2)
    turn = Rotation.from_matrix(back @ begin.rotations[frames]).mean()
    scale = float(np.median(views[:, 2, 3] / begin.translations[frames, 2]))
    place = np.median(np.einsum("nij,nj->ni", back, scale * begin.translations[frames] - views[:, :3, 3]), 0)

    def placed(state: np.ndarray, shape: np.ndarray) -> np.ndarray:
        rotation = (Rotation.from_rotvec(state[1:4]) * turn).as_matrix()
        return scale * np.exp(state[0]) * shape @ rotation.T + place + state[4:]

    def misses(state: np.ndarray) -> np.ndarray:
        projected = project(placed(state, begin.shape[index]), views, focal, size)
        return np.concatenate([(projected - observed).ravel(), state / _SPREADS])

    state = np.asarray(least_squares(misses, np.zeros(7), loss="soft_l1", f_scale=size[1] / 256).x)
    prior = placed(state, begin.shape)
    spread = 0.004 * scale
    shape = rigid.triangulate(points, detected, viewmats.astype(np.float64), focal, size, prior, spread)
    error = project(shape[index], viewmats[detected].astype(np.float64), focal, size) - points[detected][:, index]
    return FittedShape(shape, scale * float(np.exp(state[0])), float(np.sqrt((error**2).sum(-1).mean())))
