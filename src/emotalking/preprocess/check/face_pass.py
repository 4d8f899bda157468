"""The second pass over a clip: faces, hands and sharpness in pictures spread over it, and every one of a close look."""

import base64
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from emotalking.data.layouts import FaceLayout
from emotalking.io.images import encode_image
from emotalking.io.video import Framing, pictures, to_rgb
from emotalking.ops.box import Box
from emotalking.preprocess.check import face
from emotalking.preprocess.check.occlusions import FaceFinder, HandFinder, count_other_faces, hand_before_face
from emotalking.preprocess.check.quality import blockiness, detail
from emotalking.preprocess.check.results import Still
from emotalking.preprocess.landmarks import open_provider
from emotalking.progress import track

_FACE_SIDE = 2.5
"""The square given to the landmarker is so many times as high as the detected box (brows to chin)."""
_SIDE = 384
"""Pixels to which it is shrunk; the landmarker's own input is 256 around the face."""
_MOVED = 0.15
"""The square follows the face when its centre has moved by this share of its side."""
_DETECT_SIDE = 640
_STILL_SIDE = 200
_HAND_EVERY = 3
"""Hands are looked for in every third of the spread pictures: they cost most, and stay for seconds."""


@dataclass
class Looks:
    """What was seen; rows in the order of time."""

    numbers: list[int] = field(default_factory=list)
    """Of the pictures that were looked at."""
    spread: list[bool] = field(default_factory=list)
    """Those spread over the clip (the others belong to the close look only)."""
    points: list[Float[np.ndarray, "K 3"] | None] = field(default_factory=list)
    """Landmarks in pixels of the clip."""
    rivals: dict[int, int] = field(default_factory=dict)
    """Other large faces, by the number of the picture; spread pictures only, as all that follow."""
    hands: dict[int, bool] = field(default_factory=dict)
    """Whether a hand is before the face; every third of them."""
    detail: dict[int, float] = field(default_factory=dict)
    blockiness: dict[int, float] = field(default_factory=dict)
    stills: list[Still] = field(default_factory=list)
    layout: FaceLayout | None = None

    def track(self) -> Float[np.ndarray, "F K 3"]:
        """All landmarks; NaN rows without a face."""
        some = next((row for row in self.points if row is not None), None)
        if some is None:
            return np.full((len(self.points), 1, 3), np.nan)
        return np.stack([np.full(some.shape, np.nan) if row is None else row for row in self.points]).astype(np.float64)

    @property
    def seen(self) -> Bool[np.ndarray, " F"]:
        """Pictures with a face."""
        return np.array([row is not None for row in self.points], bool)


def look(clip: str | Path, spread: set[int], close: set[int], stills: set[int], first: float = 0.0) -> Looks:
    """Search the pictures numbered ``spread`` for everything and those of ``close`` for the landmarks.

    Args:
        clip: the clip.
        spread: numbers of pictures over the whole clip.
        close: numbers of neighbouring pictures.
        stills: those of ``spread`` that are kept for the page.
        first: time stamp of the first picture [s]; the stills count from it.

    Raises:
        UserError: no video.
    """
    out = Looks()
    wanted = sorted(spread | close)
    if not wanted:
        return out
    finder, hands, provider = FaceFinder(), HandFinder(), open_provider()
    out.layout = provider.layout
    square: Framing | None = None
    frames = ((n, time, frame) for n, (time, frame) in enumerate(pictures(clip)) if n in spread or n in close)
    try:
        for number, time, frame in track(frames, "faces", len(wanted)):
            image = to_rgb(frame)
            if number in spread:
                boxes = _find_faces(finder, image)
                square = _follow(square, boxes, image.shape[:2])
                out.rivals[number] = count_other_faces(boxes)
            points = provider.detect(_shrunk(image if square is None else square.apply(image)))
            points = None if points is None else _into_clip(points, square, image.shape[:2])
            out.numbers.append(number)
            out.spread.append(number in spread)
            out.points.append(points)
            if number in spread:
                _examine(out, number, image, points, hands)
                if number in stills:
                    out.stills.append(Still(time - first, f"{time - first:.1f} s", _jpeg(image)))
            if number == wanted[-1]:
                break
    finally:
        for model in (finder, hands, provider):
            model.close()
    return out


def _find_faces(finder: FaceFinder, image: np.ndarray) -> list[Box]:
    small = _shrunk(image, _DETECT_SIDE)
    scale = image.shape[1] / small.shape[1]
    return [box.scaled(scale) for box in finder.find(small)]


def _shrunk(image: np.ndarray, side: int = _SIDE) -> UInt8[np.ndarray, "h w 3"]:
    scale = side / max(image.shape[:2])
    if scale >= 1:
        return np.ascontiguousarray(image)
    return np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


def _follow(square: Framing | None, boxes: list[Box], size: tuple[int, int]) -> Framing | None:
    """The square around the largest face; the old one while it still fits, so that tracking is not upset."""
    if not boxes:
        return square
    side = int(min(max(_FACE_SIDE * boxes[0].height, 64.0), *size))
    x, y = boxes[0].centre
    x = int(np.clip(x - side / 2, 0, size[1] - side))
    y = int(np.clip(y - side / 2, 0, size[0] - side))
    if square is not None and max(abs(x - square.left), abs(y - square.top), abs(side - square.side)) < _MOVED * side:
        return square
    return Framing(x, y, side, min(side, _SIDE))


def _into_clip(points: np.ndarray, square: Framing | None, size: tuple[int, int]) -> np.ndarray:
    if square is None:
        return points * max(1.0, max(size) / _SIDE)
    return points * (square.side / square.size) + np.array([square.left, square.top, 0.0], np.float32)


def _examine(out: Looks, number: int, image: np.ndarray, points: np.ndarray | None, hands: HandFinder) -> None:
    """Blur, blocks and hands in one picture with a face."""
    if points is None or out.layout is None:
        return
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    oval = points[list(out.layout.oval), :2]
    low = np.maximum(oval.min(0).astype(int), 0)
    high = np.minimum(oval.max(0).astype(int) + 1, image.shape[1::-1])
    if (high - low >= 32).all():
        out.detail[number] = detail(np.asarray(grey[low[1] : high[1], low[0] : high[0]]))
    out.blockiness[number] = blockiness(np.asarray(grey))
    if len(out.rivals) % _HAND_EVERY == 1:
        small = _shrunk(image, _DETECT_SIDE)
        scale = image.shape[1] / small.shape[1]
        out.hands[number] = any(hand_before_face(hand * scale, oval) for hand in hands.find(small))


def _jpeg(image: np.ndarray) -> str:
    return base64.b64encode(encode_image(_shrunk(image, _STILL_SIDE), ".jpg", 82)).decode()


def summary(looks: Looks, size: tuple[int, int]) -> dict[str, float | int | tuple[float, float]]:
    """The measures of :class:`~.record.Footage` that come from the spread pictures and from all landmarks.

    Args:
        looks: of :func:`look`.
        size: (height, width) of the clip.
    """
    spread = np.array(looks.spread, bool)
    rivals = list(looks.rivals.values())
    facts: dict[str, float | int | tuple[float, float]] = {
        "faces_looked_at": int(spread.sum()),
        "face_share": float(looks.seen[spread].mean()) if spread.any() else 0.0,
        "other_face_share": float(np.mean([count > 0 for count in rivals])) if rivals else 0.0,
        "hand_share": float(np.mean(list(looks.hands.values()))) if looks.hands else 0.0,
        "detail": float(np.median(list(looks.detail.values()))) if looks.detail else 0.0,
        "blockiness": float(np.median(list(looks.blockiness.values()))) if looks.blockiness else 0.0,
    }
    if looks.layout is None or not looks.seen.any():
        nothing = (0.0, 0.0)
        return facts | {
            "cropped_share": 0.0,
            "face_px": 0.0,
            "yaw": nothing,
            "pitch": nothing,
            "roll": 0.0,
            "frontal_share": 0.0,
        }
    points = looks.track()[looks.seen]
    turn = face.head_turn(points, looks.layout)
    ranges = np.percentile(turn, [2, 98], axis=0)
    return facts | {
        "cropped_share": float(face.cropped(points, looks.layout, size).mean()),
        "face_px": float(np.median(face.face_height(points, looks.layout))),
        "yaw": (float(ranges[0, 0]), float(ranges[1, 0])),
        "pitch": (float(ranges[0, 1]), float(ranges[1, 1])),
        "roll": float(np.median(face.head_roll(points, looks.layout))),
        "frontal_share": float((np.abs(turn) < (25.0, 25.0)).all(1).mean()),
    }
