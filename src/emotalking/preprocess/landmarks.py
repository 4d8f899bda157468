"""Detectors of faces, landmarks and hands: MediaPipe's (Apache-2.0), whose models are part of its wheel."""

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

from emotalking.data.layouts import FaceLayout
from emotalking.errors import UserError
from emotalking.ops.box import Box

_RIGHT_UPPER_LID = (33, 246, 161, 160, 159, 158, 157, 173, 133)
_RIGHT_LOWER_LID = (33, 7, 163, 144, 145, 153, 154, 155, 133)
_LEFT_UPPER_LID = (263, 466, 388, 387, 386, 385, 384, 398, 362)
_LEFT_LOWER_LID = (263, 249, 390, 373, 374, 380, 381, 382, 362)
_OVAL = (
    (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377)
    + (152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)
)  # fmt: skip
_RIGID = (
    (168, 6, 197, 195, 5, 4, 1)  # nose ridge
    + (122, 351, 196, 419, 236, 456, 193, 417)  # sides of the nose bridge
    + (33, 133, 362, 263)  # eye corners
    + (10, 151, 9, 8, 109, 338, 67, 297, 103, 332, 54, 284, 108, 337)  # forehead
    + (21, 251, 162, 389, 127, 356, 71, 301)  # temples
    + (143, 372, 35, 265)  # outer rims of the eye sockets
)
_IBUG68 = (
    (127, 234, 132, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 361, 454, 356)  # jaw
    + (70, 63, 105, 66, 107, 336, 296, 334, 293, 300)  # brows
    + (168, 197, 5, 4, 98, 97, 2, 326, 327)  # nose
    + (33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380)  # eyes
    + (61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91)  # outer lips
    + (78, 81, 13, 311, 308, 402, 14, 178)  # inner lips
)  # fmt: skip

MEDIAPIPE_LAYOUT = FaceLayout(
    name="mediapipe478",
    right_upper_lid=_RIGHT_UPPER_LID,
    right_lower_lid=_RIGHT_LOWER_LID,
    left_upper_lid=_LEFT_UPPER_LID,
    left_lower_lid=_LEFT_LOWER_LID,
    right_brow=(70, 63, 105, 66, 107),
    left_brow=(300, 293, 334, 296, 336),
    lips_outer=(61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146),
    lips_inner=(78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95),
    oval=_OVAL,
    nose=(168, 6, 197, 195, 5, 4),
    right_iris=(468, 469, 470, 471, 472),
    left_iris=(473, 474, 475, 476, 477),
    rigid=_RIGID,
    ibug68=_IBUG68,
)
"""MediaPipe's 478 face points by name, in the published numbering of its face mesh (468 points) and irises (5 each)."""

_FACE_SCORE = 0.6
"""Blank walls give weak detections."""
OTHER_FACE = 0.4
"""A face of a poster is much smaller than the speaker's: less than this share of the height does not count."""
_HAND_SCORE = 0.6
_GAP = 0.12
"""Hands nearer to the face than this share of its height are about to cover it."""


@runtime_checkable
class LandmarkProvider(Protocol):
    """Detector of the landmarks of the main face, frame after frame."""

    @property
    def name(self) -> str:
        """Name in subject.json."""
        ...

    @property
    def layout(self) -> FaceLayout:
        """Meaning of the points."""
        ...

    def detect(self, image: UInt8[np.ndarray, "H W 3"]) -> Float32[np.ndarray, "K 3"] | None:
        """x, y, z in pixels (z: smaller is nearer, about the scale of x), or None if there is no face."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...


class MediaPipeMesh:
    """``mp.solutions.face_mesh`` with irises: tracks the face, and detects it again in a frame where it was lost."""

    name = "mediapipe-facemesh"
    layout = MEDIAPIPE_LAYOUT

    def __init__(self) -> None:
        with stderr_silenced():
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
                "(Apache-2.0), or omit it to use the embedded face mesh."
            )
        self.name = f"mediapipe-task:{Path(model).name}"
        with stderr_silenced():
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
        frame = self._mp.Image(image_format=self._mp.ImageFormat.SRGB, data=np.ascontiguousarray(image))
        faces = self._landmarker.detect_for_video(frame, self._time_ms).face_landmarks
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


_STDERR_LOCK = RLock()


@contextmanager
def stderr_silenced() -> Iterator[None]:
    """MediaPipe's native code writes to the error stream while it starts; users cannot act on that."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _STDERR_LOCK:  # two threads at once would each save the other's redirection and lose the stream for good
        saved, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(sink, 2)
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            os.close(sink)


class FaceFinder:
    """MediaPipe's full-range face detector (Apache-2.0, embedded), every image for itself."""

    def __init__(self) -> None:
        with stderr_silenced():
            self._detector = _solutions("face_detection").FaceDetection(model_selection=1, min_detection_confidence=0.5)
            self._detector.process(np.zeros((64, 64, 3), np.uint8))

    def find(self, image: UInt8[np.ndarray, "H W 3"]) -> list[Box]:
        """Boxes from the brows to the chin, the largest first."""
        height, width = image.shape[:2]
        boxes = []
        for found in self._detector.process(image).detections or []:
            face = found.location_data.relative_bounding_box
            if found.score[0] > _FACE_SCORE:
                top, left = face.ymin * height, face.xmin * width
                boxes.append(Box(top, left, top + face.height * height, left + face.width * width))
        return sorted(boxes, key=lambda box: -box.height)

    def close(self) -> None:
        """Free the model."""
        self._detector.close()


class HandFinder:
    """MediaPipe's hand landmarks (Apache-2.0, embedded, the light model), every image for itself."""

    def __init__(self) -> None:
        with stderr_silenced():
            self._hands: Any = _solutions("hands").Hands(
                static_image_mode=True, max_num_hands=2, model_complexity=0, min_detection_confidence=_HAND_SCORE
            )
            self._hands.process(np.zeros((64, 64, 3), np.uint8))

    def find(self, image: UInt8[np.ndarray, "H W 3"]) -> list[Float[np.ndarray, "21 2"]]:
        """Joints of each hand in pixels."""
        scale = np.array(image.shape[1::-1], np.float64)
        hands = self._hands.process(image).multi_hand_landmarks or []
        return [np.array([(point.x, point.y) for point in hand.landmark]) * scale for hand in hands]

    def close(self) -> None:
        """Free the model."""
        self._hands.close()


def count_other_faces(boxes: list[Box]) -> int:
    """Faces other than the largest that are large enough to be another speaker's."""
    return sum(box.height > OTHER_FACE * boxes[0].height for box in boxes[1:])


def hand_before_face(hand: Float[np.ndarray, "21 2"], oval: Float[np.ndarray, "P 2"]) -> bool:
    """True if a joint of the hand is inside the face's outline, or within a tenth of its height."""
    outline = oval.astype(np.float32).reshape(-1, 1, 2)
    margin = _GAP * float(np.ptp(oval[:, 1]))
    return any(cv2.pointPolygonTest(outline, (float(x), float(y)), True) > -margin for x, y in hand)
