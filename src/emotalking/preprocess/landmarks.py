"""Face landmarks of every frame, as the detector sees them (:mod:`emotalking.preprocess.smoothing` calms them).

The embedded provider is MediaPipe's face mesh (478 points, Apache-2.0), whose model comes inside its wheel.
"""

import importlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from emotalking.data.layouts import FaceLayout
from emotalking.errors import NoFaceError, UserError
from emotalking.io.video import ClipInfo, Framing
from emotalking.preprocess.flow import FlowTracker, PointFlow
from emotalking.preprocess.mediapipe_layout import MEDIAPIPE_LAYOUT

LONGEST_GAP_S = 1.0
"""Frames without a face are bridged over at most this long."""
MOST_LOST = 0.1
"""Share of frames without a face beyond which the clip is refused."""


@runtime_checkable
class LandmarkProvider(Protocol):
    """Something that finds the points of the main face, frame after frame."""

    @property
    def name(self) -> str:
        """As recorded in subject.json."""
        ...

    @property
    def layout(self) -> FaceLayout:
        """What the points mean."""
        ...

    def detect(self, image: UInt8[np.ndarray, "H W 3"]) -> Float32[np.ndarray, "K 3"] | None:
        """x, y, z in pixels (z: smaller is nearer, about the scale of x), or None if there is no face."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...


@dataclass(frozen=True)
class RawTrack:
    """What the provider and the optical flow saw."""

    points: Float[np.ndarray, "N K 3"]
    """Pixels; NaN where no face was found."""
    flow: PointFlow
    provider: str

    @property
    def detected(self) -> Bool[np.ndarray, " N"]:
        """Frames with a face."""
        return np.asarray(np.isfinite(self.points).all((1, 2)))


class MediaPipeMesh:
    """``mp.solutions.face_mesh`` with irises: follows the face, and looks anew in a frame where it lost it."""

    name = "mediapipe-facemesh"
    layout = MEDIAPIPE_LAYOUT

    def __init__(self) -> None:
        with quiet():
            self._mesh = _solutions("face_mesh").FaceMesh(
                static_image_mode=False, max_num_faces=1, refine_landmarks=True, min_detection_confidence=0.5
            )
            self._mesh.process(np.zeros((64, 64, 3), np.uint8))

    def detect(self, image: UInt8[np.ndarray, "H W 3"]) -> Float32[np.ndarray, "K 3"] | None:
        """See :class:`LandmarkProvider`."""
        faces = self._mesh.process(image).multi_face_landmarks or self._mesh.process(image).multi_face_landmarks
        if not faces:
            return None
        return _to_pixels(faces[0].landmark, image)

    def close(self) -> None:
        """See :class:`LandmarkProvider`."""
        self._mesh.close()


class MediaPipeTask:
    """MediaPipe's face landmarker with a ``.task`` file that the user downloaded (works with every mediapipe)."""

    layout = MEDIAPIPE_LAYOUT

    def __init__(self, model: str | Path) -> None:
        if not Path(model).is_file():
            raise UserError(
                f"{model}: there is no such file; download face_landmarker.task from MediaPipe's model page "
                "(Apache-2.0), or leave the option out to use the embedded face mesh."
            )
        self.name = f"mediapipe-task:{Path(model).name}"
        with quiet():
            self._mp = importlib.import_module("mediapipe")
            tasks, vision = self._mp.tasks, self._mp.tasks.vision
            options = vision.FaceLandmarkerOptions(
                base_options=tasks.BaseOptions(model_asset_path=str(model)),
                running_mode=vision.RunningMode.VIDEO,
                num_faces=1,
            )
            self._landmarker = vision.FaceLandmarker.create_from_options(options)
        self._time_ms = 0

    def detect(self, image: UInt8[np.ndarray, "H W 3"]) -> Float32[np.ndarray, "K 3"] | None:
        """See :class:`LandmarkProvider`."""
        self._time_ms += 40
        picture = self._mp.Image(image_format=self._mp.ImageFormat.SRGB, data=np.ascontiguousarray(image))
        faces = self._landmarker.detect_for_video(picture, self._time_ms).face_landmarks
        return _to_pixels(faces[0], image) if faces else None

    def close(self) -> None:
        """See :class:`LandmarkProvider`."""
        self._landmarker.close()


def open_provider(task_model: str | Path | None = None) -> LandmarkProvider:
    """The embedded face mesh, or the landmarker of ``task_model`` (a ``.task`` file)."""
    return MediaPipeMesh() if task_model is None else MediaPipeTask(task_model)


def _to_pixels(landmarks: Any, image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    points = np.array([(p.x, p.y, p.z) for p in landmarks], np.float32)
    return points * np.array([width, height, width], np.float32)


def _solutions(name: str) -> Any:
    """MediaPipe's embedded solution ``name``."""
    try:
        return importlib.import_module(f"mediapipe.python.solutions.{name}")
    except ImportError as error:
        raise UserError(
            "The installed mediapipe carries no models; use Python 3.11 or 3.12 with mediapipe 0.10.21."
        ) from error


_QUIET = RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """MediaPipe's native code writes to the error stream while it starts; nobody can act on that."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _QUIET:  # two threads at once would save each other's silence, and the stream would be lost for good
        saved, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(sink, 2)
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            os.close(sink)


def find_framing(
    info: ClipInfo, frames: Iterable[tuple[float, UInt8[np.ndarray, "H W 3"]]], size: int | None = None
) -> Framing:
    """Look at some frames of the clip: exactly one face? Then a steady head-and-shoulders square around it.

    A square clip keeps its framing. Otherwise the square is about twice as high as the face, as in the usual
    talking-head sets, and lies inside the frame.

    Args:
        info: the clip.
        frames: (time in seconds, image) of some frames, spread over the clip.
        size: side of the result in pixels; None: 512, or the square's own side where that is less. Never enlarges.

    Raises:
        UserError: no face in any frame, or a second face of similar size.
    """
    with quiet():
        detector = _solutions("face_detection").FaceDetection(model_selection=1, min_detection_confidence=0.5)
        detector.process(np.zeros((64, 64, 3), np.uint8))
    boxes, count = [], 0
    for time, image in frames:
        count += 1
        found = [(d.score[0], d.location_data.relative_bounding_box) for d in detector.process(image).detections or []]
        # Blank walls give weak detections; a face of a poster is much smaller than the speaker's.
        found = sorted((b.height * info.height, b) for score, b in found if score > 0.6)
        if len(found) > 1 and found[-2][0] > 0.4 * found[-1][0]:
            raise UserError(
                f"{info.path} shows two faces at {time:.1f} s; cut or crop the clip so that one person is seen."
            )
        if found:
            box = found[-1][1]
            boxes.append(
                [(box.xmin + box.width / 2) * info.width, (box.ymin + box.height / 2) * info.height, found[-1][0]]
            )
    detector.close()
    if not boxes:
        raise NoFaceError(
            f"{info.path}: no face was found in {count} frames looked at; give a clip of a person's face."
        )
    x, y, height = np.median(np.array(boxes), 0)
    side = min(info.width, info.height)
    if info.width != info.height:
        # The detector's box spans brows to chin, about 0.8 of the face.
        side = int(min(side, round(height / 0.8 * 2.0)))
    left = int(np.clip(round(x - side / 2), 0, info.width - side))
    top = int(np.clip(round(y + 0.05 * side - side / 2), 0, info.height - side))
    target = min(512 if size is None else size, side)
    if size is not None and size > side:
        raise UserError(
            f"{info.path}: size {size} is more than the {side} pixels around the head; frames are never enlarged."
        )
    return Framing(left, top, side, target - target % 2)


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
        UserError: if no frame shows a face.
    """
    rigid = np.asarray(provider.layout.rigid)
    flow = FlowTracker()
    rows: list[np.ndarray | None] = []
    for index, image in enumerate(frames):
        found = provider.detect(image)
        rows.append(found)
        if found is None:
            flow.advance(image, np.full((len(rigid), 2), np.nan), 0.0)
        else:
            flow.advance(image, found[rigid, :2].astype(np.float64), float(np.ptp(found[:, 1])))
        if on_frame is not None:
            on_frame(index, image)
    some = next((row for row in rows if row is not None), None)
    if some is None:
        raise NoFaceError(f"no face was found in {len(rows)} frames; give a clip of a person's face.")
    points = np.stack([np.full_like(some, np.nan) if row is None else row for row in rows])
    return RawTrack(points, flow.result(len(rigid)), provider.name)


def check_faces(detected: Bool[np.ndarray, " N"], path: Path, fps: float | int = 25) -> None:
    """Refuse a clip that loses the face for long.

    Raises:
        UserError: names the times without a face.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], ~detected, [0]]).astype(int)))
    gaps = list(zip(edges[::2], edges[1::2], strict=True))
    longest = max((b - a for a, b in gaps), default=0)
    if longest <= LONGEST_GAP_S * fps and (~detected).mean() <= MOST_LOST:
        return
    times = ", ".join(f"{a / fps:.1f}-{b / fps:.1f} s" for a, b in gaps[:8]) + (", ..." if len(gaps) > 8 else "")
    raise NoFaceError(f"{path} shows no face at {times}; cut these parts out of the clip.")
