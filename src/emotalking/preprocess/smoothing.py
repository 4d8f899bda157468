"""Smoothing of landmarks that removes the detector's noise and keeps fast events.

The head's own motion is already steady in the solved path, which used the optical flow; only what is left, expressions
and noise, is filtered here. A fixed filter that is calm enough for a resting face flattens blinks and the closures of
/p/, /b/ and /m/, which last three to five frames; so each group of points that moves together (an eye, the lips, ...)
has a smoother whose strength follows the group's own motion against the detector's noise: strong while it rests, none
while it moves. It filters both ways in time and so has no lag.

Optical flow at these points was tried instead and rejected: on compressed video it drags lips and lids, and what
it follows at the outline is the background.
"""

import numpy as np
from jaxtyping import Bool, Float
from scipy.linalg import solveh_banded
from scipy.ndimage import maximum_filter1d

from emotalking.data.layouts import FaceLayout
from emotalking.preprocess.pose.solver import jitter_px

_GROUPS = {
    "right eye": (10.0, 1.4),
    "left eye": (10.0, 1.4),
    "lips": (3.0, 1.0),
    "brows": (30.0, 1.4),
    "lower face": (10.0, 1.2),
    "upper face": (100.0, 1.4),
}
"""By group: weight of second differences at 25 frames a second while it rests; and how many times the detector's noise
its second difference must be for it to move. Measured on blinks and lip closures of real clips: at 1.0 nothing is lost,
at 1.4 two per cent of their depth and half of the shake that remains at 1.0, at 2.0 ten to thirty per cent."""
_JUMP = 6.0
"""A frame whose rigid points are this many times the noise off their neighbours' is a detector error."""


def bridge(points: Float[np.ndarray, "N K D"]) -> Float[np.ndarray, "N K D"]:
    """Fill frames without a face linearly from their neighbours."""
    good = np.flatnonzero(np.isfinite(points).all((1, 2)))
    at = np.interp(np.arange(len(points)), good, np.arange(len(good)))
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, len(good) - 1)
    share = (at - low)[:, None, None]
    return points[good[low]] * (1 - share) + points[good[high]] * share


def steady(
    points: Float[np.ndarray, "N K 2"],
    model: Float[np.ndarray, "N K 2"],
    layout: FaceLayout,
    noise: float | None = None,
    fps: float | int = 25,
) -> Float[np.ndarray, "N K 2"]:
    """Take the detector's noise out of the landmarks, with no lag, and bridge the frames without a face.

    Frames in which the detector slipped as a whole count as frames without a face. In those, the face keeps to the
    solved path, and its expression goes evenly from that before to that after.

    Args:
        points: detected, pixels; NaN where a frame has no face.
        model: the neutral face projected by the pose, same points.
        layout: names the groups.
        noise: frame-to-frame noise of the detector in pixels (``PoseTrack.statistics["noise_px"]``), the same for all
            parts of a clip; None: measured in these frames.
        fps: frame rate.
    """
    rest = np.asarray(points, np.float64) - model
    if len(rest) < 5:
        return model + bridge(rest)
    rigid = list(layout.rigid)
    noise = max(jitter_px(rest[:, rigid]) if noise is None else noise, 1e-3)
    good = np.asarray(np.isfinite(rest).all((1, 2)))
    good &= ~_slips(rest[:, rigid], good, noise)
    rest = bridge(np.where(good[:, None, None], rest, np.nan))
    trust = np.where(good, 1.0, 0.05)  # the even passage is weighted lightly, so that it joins its ends without a kink
    # The same motion bends less from frame to frame at a higher rate.
    rate = (float(fps) / 25.0) ** 2
    out = np.array(model, np.float64)
    for name, index in _groups(model, layout).items():
        bend = maximum_filter1d(_bend(rest[:, index]), 3)
        resting, moving = _GROUPS[name]
        strength = resting * rate**2 / (1.0 + (bend / (moving * noise)) ** 8)
        out[:, index] += _smooth(rest[:, index], trust, strength)
    return out


def _slips(rest: np.ndarray, good: np.ndarray, noise: float) -> Bool[np.ndarray, " N"]:
    """Single frames whose rigid points (their residuals to the pose) jump away from both neighbours and return."""
    filled = bridge(np.where(good[:, None, None], rest, np.nan))
    off = filled[1:-1] - (filled[:-2] + filled[2:]) / 2
    out = np.zeros(len(rest), bool)
    size = np.sqrt(np.median((off**2).sum(-1), -1) / 2)
    # One bad frame also bends its neighbours: only the worst of three slips.
    out[1:-1] = (size > _JUMP * noise) & (size >= maximum_filter1d(size, 3, mode="constant"))
    return out


def _groups(model: np.ndarray, layout: FaceLayout) -> dict[str, list[int]]:
    """Points that move together; every point is in one group."""
    named = {
        "right eye": {*layout.right_upper_lid, *layout.right_lower_lid, *layout.right_iris},
        "left eye": {*layout.left_upper_lid, *layout.left_lower_lid, *layout.left_iris},
        "lips": {*layout.lips_outer, *layout.lips_inner},
        "brows": {*layout.right_brow, *layout.left_brow},
    }
    rest = set(range(model.shape[1])) - set().union(*named.values())
    height = model[:, :, 1].mean(0)
    named["lower face"] = {k for k in rest if height[k] > height[layout.nose[-1]]}
    named["upper face"] = rest - named["lower face"]
    return {name: sorted(group) for name, group in named.items() if group}


def _bend(rest: np.ndarray) -> np.ndarray:
    """Second difference of a group in each frame, on the scale of :func:`jitter_px`."""
    bend = np.sqrt((np.diff(rest, 2, axis=0) ** 2).mean((1, 2)) / 6.0)
    return np.pad(bend, 1, mode="edge")


def _smooth(values: np.ndarray, trust: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Whittaker's smoother: least of ``trust (x - values)^2 + strength (second difference of x)^2``, banded."""
    count, c = len(values), (1.0, -2.0, 1.0)
    band = np.zeros((3, count))
    band[2] = trust
    for i in range(3):
        for j in range(i, 3):
            band[2 + i - j, j : j + count - 2] += c[i] * c[j] * strength[1:-1]
    columns = values.reshape(count, -1) * trust[:, None]
    return np.asarray(solveh_banded(band, columns, check_finite=False)).reshape(values.shape)
