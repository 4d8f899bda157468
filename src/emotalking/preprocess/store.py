"""What the capture keeps between its steps (in ``.capture`` of the subject folder).

The large arrays are single precision and memory-mapped when they are read: an hour of landmarks is half a gigabyte on
disk and next to nothing in memory for a step that looks at some points, or at some frames at a time.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from emotalking.errors import UserError
from emotalking.io.arrays import load_array
from emotalking.io.files import replacing, write_bytes
from emotalking.preprocess.flow import PointFlow
from emotalking.preprocess.landmarks import RawTrack
from emotalking.preprocess.pose.solver import PoseTrack

CHUNK = 2048
"""Frames at a time."""


def _save(path: Path, array: np.ndarray) -> None:
    with replacing(path) as scratch, scratch.open("wb") as file:
        np.save(file, array)


def load(path: Path) -> np.ndarray:
    """A memory-mapped array, read-only."""
    try:
        return load_array(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} is damaged ({error}); remove it and prepare the clip again.") from None


@contextmanager
def build(path: Path, shape: tuple[int, ...]) -> Iterator[Float32[np.ndarray, "..."]]:
    """A float32 array on disk to be filled piece by piece; it becomes ``path`` when the block ends well."""
    with replacing(path) as scratch:
        array = np.lib.format.open_memmap(scratch, "w+", np.float32, shape)
        yield array
        array.flush()


def chunks(count: int, margin: int = 0) -> Iterator[tuple[slice, slice]]:
    """Cut ``count`` frames into pieces: (frames to look at, those of them that are new) for each piece.

    Args:
        count: frames.
        margin: frames before and behind each piece that are looked at too, for filters over time.

    Example:
        >>> for wide, inner in chunks(len(values), margin=8):
        ...     out[wide][inner] = smooth(values[wide])[inner]
    """
    for begin in range(0, count, CHUNK):
        low, high = max(begin - margin, 0), min(begin + CHUNK + margin, count)
        yield slice(low, high), slice(begin - low, min(begin + CHUNK, count) - low)


def save_track(folder: Path, track: RawTrack) -> None:
    """Write what the landmark provider and the optical flow saw."""
    _save(folder / "flow.npy", track.flow.displacement.astype(np.float32))
    _save(folder / "flow_valid.npy", track.flow.valid)
    _save(folder / "points.npy", track.points.astype(np.float32, copy=False))
    write_bytes(folder / "provider.txt", track.provider.encode())


def load_track(folder: Path) -> RawTrack:
    """Inverse of :func:`save_track`; the points are float32, memory-mapped."""
    flow = PointFlow(load(folder / "flow.npy").astype(np.float64), np.array(load(folder / "flow_valid.npy")))
    return RawTrack(load(folder / "points.npy"), flow, (folder / "provider.txt").read_text())


def save_pose(folder: Path, pose: PoseTrack) -> None:
    """Write the solved path."""
    facts: dict[str, Any] = {"focal": pose.focal, "figures": pose.figures}
    _save(folder / "viewmats.npy", pose.viewmats)
    _save(folder / "shape.npy", pose.shape)
    _save(folder / "sigma.npy", pose.sigma_px)
    write_bytes(folder / "pose.json", json.dumps(facts).encode())


def load_pose(folder: Path) -> PoseTrack:
    """Inverse of :func:`save_pose`."""
    try:
        facts = json.loads((folder / "pose.json").read_text())
        focal, figures = float(facts["focal"]), dict(facts["figures"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / 'pose.json'} is damaged ({error}); remove it and prepare the clip again.") from None
    viewmats, shape, sigma = (np.array(load(folder / f"{name}.npy")) for name in ("viewmats", "shape", "sigma"))
    return PoseTrack(viewmats, focal, shape, sigma, figures)
