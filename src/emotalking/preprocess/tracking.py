"""Face landmarks of every frame and the optical flow between frames, and the square around the head.

Landmark detectors jitter by a fraction of a pixel in every frame (:mod:`emotalking.preprocess.smoothing` takes that
out); the image itself gives the motion between two frames about five times as exactly. The pose solver uses both.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from emotalking.errors import InputError, NoFaceError
from emotalking.io.display import Framing
from emotalking.networks.crops import batches
from emotalking.ops.box import Box
from emotalking.preprocess.detectors import count_other_faces
from emotalking.preprocess.landmarks import LandmarkProvider
from emotalking.preprocess.steps import map_frames, one_thread

LONGEST_GAP_S = 1.0
"""Frames without a face are bridged over at most this long."""
MOST_LOST = 0.1
"""Share of frames without a face beyond which a clip is refused."""
_TOGETHER = 16
"""Frames that are handed on together."""
MOST_OTHERS = 0.5
"""Share of frames with a second face beyond which a clip is refused."""


@dataclass(frozen=True)
class PointFlow:
    """Displacement of image points from each frame to the next."""

    displacement: Float[np.ndarray, "M R 2"]
    """Pixels from frame n to n + 1 at the rigid points; M = N - 1."""
    valid: Bool[np.ndarray, "M R"]
    """False where tracking failed or does not return to its start."""


class FlowTracker:
    """Feed frames in order; ``result`` holds the flow between them (Lucas-Kanade in a pyramid, checked backwards)."""

    def __init__(self, back_tolerance: float = 0.2) -> None:
        self._tolerance = back_tolerance
        self._grey: np.ndarray | None = None
        self._points: np.ndarray | None = None
        self._moves: list[np.ndarray] = []
        self._valid: list[np.ndarray] = []

    def advance(self, image: UInt8[np.ndarray, "H W 3"], points: Float[np.ndarray, "R 2"], face_px: float) -> None:
        """Add a frame.

        Args:
            image: RGB.
            points: pixels (x, y), NaN if the frame shows no face.
            face_px: height of the face; windows of a twelfth of it are compared.
        """
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        if self._grey is not None and self._points is not None:
            move, valid = self._pair(self._grey, grey, self._points, face_px)
            self._moves.append(move)
            self._valid.append(valid)
        self._grey, self._points = grey, points.astype(np.float32)

    def _pair(
        self, first: np.ndarray, second: np.ndarray, points: np.ndarray, face_px: float
    ) -> tuple[np.ndarray, np.ndarray]:
        usable = np.isfinite(points).all(-1)
        move, valid = np.zeros_like(points), np.zeros(len(points), bool)
        if not usable.any():
            return move, valid
        begin = points[usable] - 0.5  # OpenCV counts from pixel centres
        side = max(9, int(face_px / 12) | 1) if np.isfinite(face_px) else 21
        criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 0.003)

        def follow(a: np.ndarray, b: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            moved, status, _ = cv2.calcOpticalFlowPyrLK(
                a, b, at, at.copy(), winSize=(side, side), maxLevel=3, criteria=criteria, minEigThreshold=1e-4
            )
            return moved, status[:, 0] > 0

        end, found = follow(first, second, begin)
        back, returned = follow(second, first, end)
        move[usable] = end - begin
        valid[usable] = found & returned & (np.linalg.norm(back - begin, axis=1) < self._tolerance)
        return move, valid

    def result(self, count: int) -> PointFlow:
        """The flow of all frames added so far; ``count`` is the number of points."""
        if not self._moves:
            return PointFlow(np.zeros((0, count, 2)), np.zeros((0, count), bool))
        return PointFlow(np.stack(self._moves).astype(np.float64), np.stack(self._valid))


@dataclass(frozen=True)
class RawTrack:
    """Landmarks of the provider and optical flow."""

    points: Float[np.ndarray, "N K 3"]
    """x, y, z in pixels (z: smaller is nearer); NaN where no face was found."""
    flow: PointFlow
    provider: str

    @property
    def detected(self) -> Bool[np.ndarray, " N"]:
        """Frames with a face."""
        return np.asarray(np.isfinite(self.points).all((1, 2)))


def find_framing(
    clip: Path,
    size: tuple[int, int],
    detections: Iterable[tuple[float, list[Box]]],
    target: int | None = None,
    most: int = 512,
) -> Framing:
    """Steady head-and-shoulders square around the one face of a clip.

    A square clip keeps its framing. Otherwise the square is about twice as high as the face, as in the usual
    talking-head sets, and is inside the frame.

    Args:
        clip: named in errors.
        size: (height, width) of its frames.
        detections: (time in seconds, faces by :class:`~.detectors.FaceFinder`) of some frames, spread over the clip.
        target: side of the result in pixels; None: ``most``, or the square's own side where that is less. Never
            enlarges.
        most: see ``target``.

    Raises:
        NoFaceError: no face in any frame.
        InputError: a second face of similar size in most frames, or ``target`` is too large.
    """
    found = list(detections)
    faces = [boxes[0] for _, boxes in found if boxes]
    others = [time for time, boxes in found if count_other_faces(boxes)]
    if len(others) > MOST_OTHERS * len(found):
        raise InputError(
            f"{clip} shows two faces at {others[0]:.1f} s; cut or crop the clip so that it shows one person."
        )
    if not faces:
        raise NoFaceError(f"{clip}: no face was found in {len(found)} frames; give a clip of a person's face.")
    height, width = size
    x, y, tall = np.median(np.array([(*box.centre, box.height) for box in faces]), 0)
    side = min(size)
    if width != height:
        # The detector's box spans brows to chin, about 0.8 of the face.
        side = int(min(side, round(tall / 0.8 * 2.0)))
    left = int(np.clip(round(x - side / 2), 0, width - side))
    top = int(np.clip(round(y + 0.05 * side - side / 2), 0, height - side))
    if target is not None and target > side:
        raise InputError(
            f"{clip}: size {target} is more than the {side} pixels around the head; frames are never enlarged."
        )
    pixels = min(most if target is None else target, side)
    return Framing(left, top, side, pixels - pixels % 2)


@one_thread()
def track_landmarks(
    frames: Iterable[UInt8[np.ndarray, "H W 3"]],
    provider: LandmarkProvider,
    on_frame: Callable[[int, UInt8[np.ndarray, "H W 3"]], None] | None = None,
) -> RawTrack:
    """Landmarks of every frame and the optical flow at the rigid points.

    Args:
        frames: in order.
        provider: finds the points.
        on_frame: called with each frame (to write it, so that the clip is decoded once).

    Raises:
        InputError: if no frame shows a face.
    """
    rigid = np.asarray(provider.layout.rigid)
    flow = FlowTracker()
    rows: list[np.ndarray | None] = []

    def detect(_: int, images: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
        return images, provider.detect_many(images)

    def follow(_: int, seen: tuple[list[np.ndarray], list[np.ndarray | None]]) -> None:
        for image, found in zip(*seen, strict=True):
            if on_frame is not None:
                on_frame(len(rows), image)
            rows.append(found)
            if found is None:
                flow.advance(image, np.full((len(rigid), 2), np.nan), 0.0)
            else:
                flow.advance(image, found[rigid, :2].astype(np.float64), float(np.ptp(found[:, 1])))

    # Reading, detection and flow in a thread each, every one of them in order.
    seen = map_frames(batches(frames, _TOGETHER), detect, shared=True, most=1)
    for _ in map_frames(seen, follow, shared=True, most=1):
        pass
    some = next((row for row in rows if row is not None), None)
    if some is None:
        raise NoFaceError(f"no face was found in {len(rows)} frames; give a clip of a person's face.")
    points = np.stack([np.full_like(some, np.nan) if row is None else row for row in rows])
    return RawTrack(points, flow.result(len(rigid)), provider.name)


def check_faces(detected: Bool[np.ndarray, " N"], path: Path, fps: float | int = 25) -> None:
    """Refuse a clip that loses the face for long.

    Raises:
        InputError: names the times without a face.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], ~detected, [0]]).astype(int)))
    gaps = list(zip(edges[::2], edges[1::2], strict=True))
    longest = max((b - a for a, b in gaps), default=0)
    if longest <= LONGEST_GAP_S * fps and (~detected).mean() <= MOST_LOST:
        return
    times = ", ".join(f"{a / fps:.1f}-{b / fps:.1f} s" for a, b in gaps[:8]) + (", ..." if len(gaps) > 8 else "")
    raise NoFaceError(f"{path} shows no face at {times}; cut these parts out of the clip.")
