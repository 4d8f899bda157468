"""One frame of a subject, the small rules for its masks (docs/paper.md 1.2, 1.3), and its place in the clip."""

import re
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Shaped, UInt8

from emotalking.data.labels import BODY, Label, mask_of
from emotalking.data.layouts import FaceLayout
from emotalking.errors import InputError
from emotalking.io.reading import reading
from emotalking.ops.box import Box

MOST_FRAMES = 10_000_000
"""Frames that a clip may have: days of them."""
TURNED = (35.0, 50.0)
"""Degrees away from the camera between which an emotion fades out: beyond, half of the face is a guess."""


@dataclass(frozen=True)
class LandmarkTrack:
    """The landmarks of a whole clip."""

    points: Float[np.ndarray, "N K 2"]
    """Pixels (x, y)."""
    detected: Bool[np.ndarray, " N"]
    """False where no face was found; the points of such a frame are a guess or NaN, all others are finite."""
    shape: Float[np.ndarray, "K 3"] | None
    """Neutral 3-D shape in the world (head) frame; None in a folder that another tool wrote."""
    layout: FaceLayout

    @property
    def ibug68(self) -> Float[np.ndarray, "N 68 2"]:
        """The 68 iBUG points of every frame, pixels."""
        return self.points[:, list(self.layout.ibug68)]

    def without_guesses(self) -> "LandmarkTrack":
        """The same with NaN for the points of frames in which no face was found."""
        return replace(self, points=np.where(self.detected[:, None, None], self.points, self.points.dtype.type(np.nan)))


@dataclass(frozen=True)
class Frame:
    """Images, masks and lip box of one video frame (docs/paper.md 1.2)."""

    index: int
    image: UInt8[np.ndarray, "H W 3"]
    """Training target (``gt_imgs``), RGB."""
    torso: UInt8[np.ndarray, "H W 4"]
    """Straight RGBA layer of torso and neck."""
    labels: UInt8[np.ndarray, "H W"]
    """Classes (:class:`Label`); teeth are ``MOUTH``."""
    teeth: Bool[np.ndarray, "H W"]
    lips_rect: Box

    @property
    def face(self) -> Bool[np.ndarray, "H W"]:
        """Head without hair, mouth interior and teeth."""
        return mask_of(self.labels, Label.HEAD)

    @property
    def hair(self) -> Bool[np.ndarray, "H W"]:
        """Hair."""
        return mask_of(self.labels, Label.HAIR)

    @property
    def mouth(self) -> Bool[np.ndarray, "H W"]:
        """Inside of the mouth, teeth included."""
        return mask_of(self.labels, Label.MOUTH)

    @property
    def head(self) -> Bool[np.ndarray, "H W"]:
        """Face or hair: what the face branch draws."""
        return mask_of(self.labels, Label.HEAD, Label.HAIR)

    @property
    def body(self) -> Bool[np.ndarray, "H W"]:
        """Torso or neck."""
        return mask_of(self.labels, *BODY)


def lips_rect_of(ibug68: Shaped[np.ndarray, "68 2"], width: int, height: int) -> Box:
    """Square around the outer lips (iBUG 48-59), side = the longer side of their box, cut at the image's border.

    Source: docs/paper.md 1.3.

    Args:
        ibug68: landmarks, pixels (x, y).
        width: image width, px.
        height: image height, px.
    """
    x, y = ibug68[48:60, 0].astype(np.int64), ibug68[48:60, 1].astype(np.int64)
    row, col = int(y.min() + y.max()) // 2, int(x.min() + x.max()) // 2
    half = int(max(y.max() - y.min(), x.max() - x.min())) // 2
    return Box(row - half, col - half, row + half, col + half).clipped(width, height)


def mouth_opening_of(ibug68: Shaped[np.ndarray, "*batch 68 2"]) -> Float[np.ndarray, "*batch"]:
    """Vertical extent of the inner lips (iBUG 60-67), pixels (docs/paper.md 1.3)."""
    inner = ibug68[..., 60:68, 1]
    return np.asarray(inner.max(-1) - inner.min(-1), np.float64)


def lip_gap(ibug68: Float[np.ndarray, "*batch 68 D"]) -> Float[np.ndarray, "*batch"]:
    """Distance of the inner lips, mean over three pairs of points (61-67, 62-66, 63-65), in the points' unit.

    Independent of the head's rotation; :func:`mouth_opening_of` is the extent that the paper takes.
    """
    inner = ibug68[..., [61, 62, 63], :] - ibug68[..., [67, 66, 65], :]
    return np.linalg.norm(inner, axis=-1).mean(-1)


def turned_deg(viewmats: Float[np.ndarray, "*batch 4 4"]) -> Float[np.ndarray, "*batch"]:
    """Degrees between the face's direction and the line from it to the camera."""
    forward, place = -viewmats[..., :3, 2].astype(np.float64), viewmats[..., :3, 3].astype(np.float64)
    cosine = (forward * place).sum(-1) / np.linalg.norm(place, axis=-1)
    return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def emotion_share(viewmats: Float[np.ndarray, "*batch 4 4"]) -> Float[np.ndarray, "*batch"]:
    """Share of an emotion that a face can show: 1 towards the camera, falling to 0 over :data:`TURNED`."""
    return np.asarray(np.interp(turned_deg(viewmats), TURNED, (1.0, 0.0)))


def from_neutral(
    va: Float[np.ndarray, "N 2"], neutral: Float[np.ndarray, "2"], gain: float | int = 1.0
) -> Float32[np.ndarray, "N 2"]:
    """Valence and arousal as changes from a person's neutral reading, ``gain`` times as strong.

    Taken before both are squashed into (-1, 1), where the readings of one face add up.
    """
    plain, usual = (np.arctanh(np.clip(values, -0.99, 0.99)) for values in (va, neutral))
    return np.tanh(gain * (plain - usual)).astype(np.float32)


@dataclass(frozen=True)
class ClipCrop:
    """The same square of every frame of a clip, and the clip's frame behind each of the subject's (for paste-back)."""

    left: int
    top: int
    side: int
    """Pixels of the clip."""
    width: int
    """Size of the upright clip (after rotation), px."""
    height: int
    clip_frames: Int[np.ndarray, " N"]
    """Number of the clip's frame (as decoded, from 0) for every frame of the subject; never decreases."""
    turn: int = 0
    """Degrees clockwise by which the clip was turned, in addition to what it notes: 0, 90, 180 or 270."""

    def only(self, frames: Int[np.ndarray, " n"]) -> "ClipCrop":
        """The same square for a selection of the frames."""
        return replace(self, clip_frames=self.clip_frames[frames])

    def to_json(self) -> dict[str, object]:
        """Convert to plain values, the frame numbers as runs."""
        square: dict[str, object] = {"left": self.left, "top": self.top, "side": self.side}
        turn = {"turn": self.turn} if self.turn else {}
        return square | turn | {"clip": [self.width, self.height], "clip_frames": to_runs(self.clip_frames)}

    @classmethod
    def from_json(cls, facts: object, where: str, count: int | None = None) -> "ClipCrop | None":
        """Inverse of :meth:`to_json`; None where nothing (or no frame numbers) was recorded.

        Args:
            facts: plain values.
            where: names the file in messages.
            count: frames of the subject; None: any number.

        Raises:
            InputError: the values make no square inside a clip, or name another number of frames.
        """
        if not isinstance(facts, dict):
            return None
        numbers = facts.get("clip_frames", facts.get("pictures"))  # the name before 0.2.0
        if numbers is None:
            return None
        with reading(f"{where}: the framing", "is malformed", "prepare the clip again"):
            left, top, side = (int(facts[name]) for name in ("left", "top", "side"))
            width, height = (int(value) for value in facts["clip"])
            turn = int(facts.get("turn", 0))
            crop = cls(left, top, side, width, height, from_runs(str(numbers), count), turn)
        inside = left >= 0 and top >= 0 and side >= 1 and left + side <= width and top + side <= height
        if not inside or turn not in range(0, 360, 90):
            raise InputError(f"{where}: the framing is no square inside the clip: prepare the clip again.")
        return crop


def to_runs(numbers: Int[np.ndarray, " N"]) -> str:
    """Whole numbers as runs of consecutive ones: [4, 5, 6, 6, 7, 9] is "4-6,6-7,9"."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs if len(run))


def from_runs(text: str, count: int | None = None) -> Int[np.ndarray, " N"]:
    """Inverse of :func:`to_runs`.

    Args:
        text: the runs.
        count: of the numbers; None: up to :data:`MOST_FRAMES`.

    Raises:
        ValueError: malformed, or other than ``count`` numbers, which are not made then.
    """
    runs, left = [], MOST_FRAMES if count is None else count
    for run in text.split(",") if text else []:
        match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", run, re.ASCII)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        left -= last - first + 1
        if last < first or left < 0:
            raise ValueError(f"'{run[:40]}' is no run of numbers" + (f" among {count}" if left < 0 else ""))
        runs.append(np.arange(first, last + 1))
    if count is not None and left:
        raise ValueError(f"{left} of {count} frames are missing in '{text[:40]}'")
    return np.concatenate([np.zeros(0, np.int64), *runs])
