"""Who and what else is in the picture: other faces, and hands before the face."""

from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from emotalking.ops.box import Box
from emotalking.preprocess.landmarks import _solutions, quiet

_FACE_SCORE = 0.6
"""Blank walls give weak detections."""
OTHER_FACE = 0.4
"""A face of a poster is much smaller than the speaker's: less than this share of the height does not count."""
_HAND_SCORE = 0.6
_GAP = 0.12
"""Hands nearer to the face than this share of its height are about to cover it."""


class FaceFinder:
    """MediaPipe's full-range face detector (Apache-2.0, embedded), every picture for itself."""

    def __init__(self) -> None:
        with quiet():
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
    """MediaPipe's hand landmarks (Apache-2.0, embedded, the light model), every picture for itself."""

    def __init__(self) -> None:
        with quiet():
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
    """Faces besides the largest that are large enough to be another speaker's."""
    return sum(box.height > OTHER_FACE * boxes[0].height for box in boxes[1:])


def hand_before_face(hand: Float[np.ndarray, "21 2"], oval: Float[np.ndarray, "P 2"]) -> bool:
    """Whether a joint of the hand lies inside the face's outline, or within a tenth of its height."""
    outline = oval.astype(np.float32).reshape(-1, 1, 2)
    margin = _GAP * float(np.ptp(oval[:, 1]))
    return any(cv2.pointPolygonTest(outline, (float(x), float(y)), True) > -margin for x, y in hand)
