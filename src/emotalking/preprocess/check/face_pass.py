"""Second pass over a clip: faces, hands and sharpness in frames spread over it, and all of a densely tracked part."""

import base64
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from emotalking.data.layouts import FaceLayout
from emotalking.io.display import Framing, ShownFrame, to_rgb
from emotalking.io.images import encode_image
from emotalking.io.video import AS_NOTED, View, decode_frames
from emotalking.networks.crops import batches
from emotalking.ops.box import Box
from emotalking.preprocess.check import appearance, measures
from emotalking.preprocess.check.verdict import Still
from emotalking.preprocess.detectors import FaceFinder, HandFinder, count_other_faces, hand_before_face, upright_score
from emotalking.preprocess.landmarks import open_provider
from emotalking.preprocess.steps import map_frames, one_thread
from emotalking.progress import track

_FACE_SIDE = 2.5
"""The square given to the landmarker is so many times as high as the detected box (brows to chin)."""
_SIDE = 384
"""Pixels to which it is shrunk; the landmarker's own input is 192 around the face."""
_MOVED = 0.15
"""The square follows the face when its centre has moved by this share of its side."""
_DETECT_SIDE = 640
_STILL_SIDE = 200
_TOGETHER = 4
"""Frames whose landmarks are searched together: more would be faster, and take more memory where frames are large."""
_HAND_EVERY = 3
"""Hands are searched in every third of the spread frames: they cost most, and stay for seconds."""


@dataclass
class FaceScan:
    """Observations of the second pass; rows in the order of time."""

    numbers: list[int] = field(default_factory=list)
    """Numbers of the frames in which landmarks were searched."""
    spread: list[bool] = field(default_factory=list)
    """True for those spread over the clip (the others belong to the densely tracked part only)."""
    points: list[Float[np.ndarray, "K 3"] | None] = field(default_factory=list)
    """Landmarks in pixels of the clip."""
    other_faces: dict[int, int] = field(default_factory=dict)
    """Other large faces, by the number of the frame; spread frames only, as all that follow."""
    hands: dict[int, bool] = field(default_factory=dict)
    """True: a hand is before the face; every third of them."""
    detail: dict[int, float] = field(default_factory=dict)
    blockiness: dict[int, float] = field(default_factory=dict)
    light: dict[int, float] = field(default_factory=dict)
    noise: dict[int, float] = field(default_factory=dict)
    lines: dict[int, float] = field(default_factory=dict)
    eyes: dict[int, float] = field(default_factory=dict)
    lips: dict[int, float] = field(default_factory=dict)
    colour: dict[int, float] = field(default_factory=dict)
    """Measures of ``appearance`` and ``measures``."""
    upright: list[list[float]] = field(default_factory=list)
    """Scores of an upright face in each still, as it is and turned clockwise by 90, 180 and 270 degrees."""
    stills: list[Still] = field(default_factory=list)
    layout: FaceLayout | None = None
    boxes: dict[int, list[Box]] = field(default_factory=dict)
    """Faces in the whole frame at full size, by frame number; only for the requested frames."""

    def track(self) -> Float[np.ndarray, "F K 3"]:
        """All landmarks; NaN rows without a face."""
        some = next((row for row in self.points if row is not None), None)
        if some is None:
            return np.full((len(self.points), 1, 3), np.nan)
        return np.stack([np.full(some.shape, np.nan) if row is None else row for row in self.points]).astype(np.float64)

    @property
    def detected(self) -> Bool[np.ndarray, " F"]:
        """Frames with a face."""
        return np.array([row is not None for row in self.points], bool)


@one_thread()
def scan_faces(
    clip: str | Path,
    spread: set[int],
    close: set[int],
    stills: set[int],
    first: float = 0.0,
    boxes: Collection[int] = (),
    view: View = AS_NOTED,
) -> FaceScan:
    """Search the frames numbered ``spread`` for everything and those of ``close`` for the landmarks.

    Args:
        clip: the clip.
        spread: numbers of frames over the whole clip.
        close: numbers of neighbouring frames.
        stills: those of ``spread`` that are kept for the page.
        first: time stamp of the first frame [s]; the stills count from it.
        boxes: numbers of frames whose faces are needed in ``FaceScan.boxes``.
        view: size and turn of the frames.

    Raises:
        InputError: no video.
    """
    out, also = FaceScan(), set(boxes)
    wanted = spread | close | also
    if not wanted:
        return out
    finder = FaceFinder()
    hands = HandFinder()
    provider = open_provider()
    out.layout = provider.layout
    frames = ((n, time, frame) for n, (time, frame) in enumerate(decode_frames(clip, view=view)) if n in wanted)

    def find(_: int, item: tuple[int, float, ShownFrame]) -> tuple[int, float, np.ndarray, list[Box]]:
        number, time, frame = item
        image = to_rgb(frame)
        if number in also:
            out.boxes[number] = finder.find(image)
        return number, time, image, _find_faces(finder, image) if number in spread else []

    # Each frame for itself beside the landmarks, which follow the face; few at a time, for frames may be large.
    seen = map_frames(islice(frames, len(wanted)), find, shared=True, most=2)

    def shown() -> Iterator[tuple[int, float, np.ndarray, Framing | None]]:
        square: Framing | None = None
        for number, time, image, found in track(seen, "faces", len(wanted)):
            if number in spread:
                square = _follow(square, found, image.shape[:2])
                out.other_faces[number] = count_other_faces(found)
            if number in spread or number in close:
                yield number, time, image, square

    def followed() -> Iterator[tuple[int, float, np.ndarray, np.ndarray | None]]:
        for part in batches(shown(), _TOGETHER):
            small = [_shrunk(image if square is None else square.apply(image)) for _, _, image, square in part]
            for (number, time, image, square), row in zip(part, provider.detect_many(small), strict=True):
                points = None if row is None else _into_clip(row, square, image.shape[:2])
                out.numbers.append(number)
                out.spread.append(number in spread)
                out.points.append(points)
                if number in spread:
                    yield number, time, image, points

    def look(index: int, item: tuple[int, float, np.ndarray, np.ndarray | None]) -> None:
        number, time, image, points = item
        _examine(out, number, image, points, hands if index % _HAND_EVERY == 0 else None)
        if number in stills:
            _keep_still(out, image, time - first)

    try:
        for _ in map_frames(followed(), look, shared=True, most=1):
            pass
    finally:
        provider.close()
    return out


@one_thread()
def find_boxes(clip: str | Path, numbers: Collection[int], view: View = AS_NOTED) -> dict[int, list[Box]]:
    """Faces in the frames with these numbers, in one more pass over the clip."""
    wanted, finder = set(numbers), FaceFinder()
    frames = ((n, frame) for n, (_, frame) in enumerate(decode_frames(clip, view=view)) if n in wanted)
    return {n: finder.find(to_rgb(frame)) for n, frame in islice(frames, len(wanted))}


def _keep_still(out: FaceScan, image: np.ndarray, seconds: float) -> None:
    """Keep a frame for the page, and score its four turns."""
    small = _shrunk(image, _DETECT_SIDE)
    turned = (np.ascontiguousarray(np.rot90(small, -quarters)) for quarters in range(4))
    out.upright.append([upright_score(one) for one in turned])
    out.stills.append(Still(seconds, f"{seconds:.1f} s", _jpeg(image)))


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
    """The square around the largest face; the old one while it still fits, so that tracking stays stable."""
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


def _examine(
    out: FaceScan, number: int, image: np.ndarray, points: np.ndarray | None, hands: HandFinder | None
) -> None:
    """Blur, blocks and, unless ``hands`` is None, hands in one frame with a face."""
    if points is None or out.layout is None:
        return
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    oval = points[list(out.layout.oval), :2]
    low = np.maximum(oval.min(0).astype(int), 0)
    high = np.minimum(oval.max(0).astype(int) + 1, image.shape[1::-1])
    if (high - low >= 32).all():
        face = np.asarray(grey[low[1] : high[1], low[0] : high[0]])
        out.detail[number] = measures.detail(face)
        out.noise[number] = appearance.noise_level(face)
        out.lines[number] = appearance.line_contrast(face)
    flat = points[:, :2].astype(np.float64)
    out.light[number] = appearance.face_light(image, flat, out.layout)
    out.eyes[number] = appearance.eyes_brightness(image, flat, out.layout)
    out.lips[number] = appearance.lips_contrast(image, flat, out.layout)
    out.colour[number] = appearance.colour_spread(image)
    out.blockiness[number] = measures.blockiness(np.asarray(grey))
    if hands is not None:
        small = _shrunk(image, _DETECT_SIDE)
        scale = image.shape[1] / small.shape[1]
        out.hands[number] = any(hand_before_face(hand * scale, oval) for hand in hands.find(small))


def _jpeg(image: np.ndarray) -> str:
    return base64.b64encode(encode_image(_shrunk(image, _STILL_SIDE), ".jpg", 82)).decode()


def _median(values: dict[int, float]) -> float:
    return float(np.median(list(values.values()))) if values else 0.0


def summary(faces: FaceScan, size: tuple[int, int]) -> dict[str, float | int | tuple[float, ...]]:
    """Measures of :class:`~.verdict.Footage` that come from the spread frames and from all landmarks.

    Args:
        faces: of :func:`scan_faces`.
        size: (height, width) of the clip.
    """
    spread = np.array(faces.spread, bool)
    others = list(faces.other_faces.values())
    facts: dict[str, float | int | tuple[float, ...]] = {
        "faces_looked_at": int(spread.sum()),
        "face_share": float(faces.detected[spread].mean()) if spread.any() else 0.0,
        "other_face_share": float(np.mean([count > 0 for count in others])) if others else 0.0,
        "hand_share": float(np.mean(list(faces.hands.values()))) if faces.hands else 0.0,
        "detail": _median(faces.detail),
        "blockiness": _median(faces.blockiness),
        "face_light": _median(faces.light),
        "noise": _median(faces.noise),
        "line_contrast": float(np.percentile(list(faces.lines.values()), 90)) if faces.lines else 0.0,
        "eyes_brightness": _median(faces.eyes),
        "lips_contrast": _median(faces.lips),
        "colour_spread": _median(faces.colour),
        "upright": tuple(np.mean(faces.upright, 0).tolist()) if faces.upright else (0.0,) * 4,
    }
    if faces.layout is None or not faces.detected.any():
        none = dict.fromkeys(("cropped_share", "face_px", "roll", "frontal_share"), 0.0)
        return facts | none | dict.fromkeys(("yaw", "pitch"), (0.0, 0.0))
    points = faces.track()[faces.detected]
    turn = measures.head_turn(points, faces.layout)
    ranges = np.percentile(turn, [2, 98], axis=0)
    return facts | {
        "cropped_share": float(measures.cropped(points, faces.layout, size).mean()),
        "face_px": float(np.median(measures.face_height(points, faces.layout))),
        "yaw": (float(ranges[0, 0]), float(ranges[1, 0])),
        "pitch": (float(ranges[0, 1]), float(ranges[1, 1])),
        "roll": float(np.median(measures.head_roll(points, faces.layout))),
        "frontal_share": float((np.abs(turn) < (25.0, 25.0)).all(1).mean()),
    }
