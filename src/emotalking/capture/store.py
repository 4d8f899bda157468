"""What the capture keeps between its steps (in ``.capture`` of the subject folder)."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from emotalking.capture.flow import PointFlow
from emotalking.capture.landmarks import RawTrack
from emotalking.capture.pose import PoseTrack
from emotalking.errors import UserError
from emotalking.files import write_bytes


def _save(path: Path, **arrays: Any) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_bytes(path, buffer.getvalue())


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged ({error}); remove it and prepare the clip again.") from None


def save_track(path: Path, track: RawTrack) -> None:
    """Write what the landmark provider and the optical flow saw."""
    points = track.points.astype(np.float32)
    move = track.flow.displacement.astype(np.float32)
    _save(path, points=points, flow=move, flow_valid=track.flow.valid, provider=np.array(track.provider))


def load_track(path: Path) -> RawTrack:
    """Inverse of :func:`save_track`."""
    data = _load(path)
    flow = PointFlow(data["flow"].astype(np.float64), data["flow_valid"])
    return RawTrack(data["points"].astype(np.float64), flow, str(data["provider"]))


def save_pose(path: Path, pose: PoseTrack, points: Float[np.ndarray, "N K 2"]) -> None:
    """Write the solved path and the steadied landmarks."""
    _save(
        path,
        viewmats=pose.viewmats,
        focal=np.array(pose.focal),
        shape=pose.shape,
        sigma_px=pose.sigma_px,
        figures=np.array(json.dumps(pose.figures)),
        points=points,
    )


def load_pose(path: Path) -> tuple[PoseTrack, Float[np.ndarray, "N K 2"]]:
    """Inverse of :func:`save_pose`."""
    data = _load(path)
    figures = json.loads(str(data["figures"]))
    pose = PoseTrack(data["viewmats"], float(data["focal"]), data["shape"], data["sigma_px"], figures)
    return pose, data["points"]
