"""The path of a head through a clip, and where it puts points of the head."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class PoseTrack:
    """The solved path, in the world frame of docs/conventions.md."""

    viewmats: Float[np.ndarray, "N 4 4"]
    """World (head) to camera, OpenCV axes."""
    focal: float
    """Pixels; the principal point is the image centre."""
    shape: Float[np.ndarray, "K 3"]
    """Neutral face: every landmark's robust mean place in the head frame."""
    sigma_px: Float[np.ndarray, " R"]
    """Measured noise of each rigid point around the model."""
    statistics: dict[str, float] = field(default_factory=dict)
    """Measures of the rigid points, in pixels: ``reprojection_px`` (rms); jitter (:func:`jitter_px`) of the landmarks
    ``jitter_landmarks_px``, of what the path leaves of them ``noise_px``, of poses solved frame by frame
    ``jitter_per_frame_pose_px``, and of this path ``jitter_px``; how far the skin slides from frame to frame against
    the head (median distance between the path's motion and the optical flow), frame by frame
    ``slip_per_frame_pose_px`` and on this path ``slip_px`` (with flow only). ``focal_ratio`` with ``focal_sigma``
    (relative); ``focal_evidence``, the share (0..1) that the observations have in it, and ``focal_ratio_alone``, what
    they alone would give. ``yaw_span_deg``, ``pitch_span_deg``, ``roll_span_deg``."""


def project(
    shape: Float[np.ndarray, "R 3"], viewmats: Float[np.ndarray, "N 4 4"], focal: float, size: tuple[int, int]
) -> Float[np.ndarray, "N R 2"]:
    """Pixels of head-frame points under each pose; ``size`` is (height, width)."""
    p = np.einsum("nij,kj->nki", viewmats[:, :3, :3], shape) + viewmats[:, None, :3, 3]
    return focal * p[..., :2] / p[..., 2:] + np.array([size[1] / 2, size[0] / 2])
