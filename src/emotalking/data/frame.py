"""One frame of a subject, its masks, and the small rules that derive them (docs/paper.md 1.2, 1.3)."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8

from emotalking.data.labels import Label, mask_of
from emotalking.data.layouts import FaceLayout
from emotalking.ops.box import Box

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
        return mask_of(self.labels, Label.NECK, Label.TORSO)


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
