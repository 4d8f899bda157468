"""Points of hair and ears, which lie behind the face and stay where they are when its skin moves.

A grimace or a raised brow slides most of a face's skin the same way for seconds, and a path that rests on the face
alone takes that for a nod: the face stays where it is, but hair and jaw, which lie up to a decimetre further back, are
up to three pixels off (512 px). What hair shows decides between both.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from emotalking.data.layouts import FaceLayout
from emotalking.preprocess.parsing.parser import PersonSegmenter
from emotalking.preprocess.pose import rigid
from emotalking.preprocess.pose.keyframes import follow, patch_side
from emotalking.preprocess.pose.track import PoseTrack, project

MOST = 120
"""Points at most."""
INSET_PX = 8
"""Distance from the person's outline, at 512 px: it is no place on the head, and what is behind it moves otherwise."""
APART_PX = 7
"""Distance between two points, at 512 px."""
PLACE = 0.0
"""Depth in the head frame at which the points are assumed first: that of the temples."""
SPREAD = 0.05
"""Standard deviation of it, world units."""
FEWEST_KEYS = 4
"""Keyframes in which a point must be found again."""
ERROR_PX = 2.5
"""Median distance from a rigid head, at 512 px, beyond which a point is none of it."""


@dataclass(frozen=True)
class Scalp:
    """E points of hair and ears."""

    keys: Int[np.ndarray, " K"]
    """Keyframes."""
    pixels: Float[np.ndarray, "K E 2"]
    """Where the points are in them, pixels; NaN where one was not found."""
    places: Float[np.ndarray, "E 3"]
    """About where they are in the head frame."""

    def begun(self, path: Float[np.ndarray, "N R 2"]) -> Float[np.ndarray, "N R 2"]:
        """Pixels of all points, the last E of which are these, with theirs as seen in the keyframes."""
        out = path.copy()
        out[self.keys, path.shape[1] - len(self.places) :] = self.pixels
        return out


def find_scalp(
    keyframe: Callable[[int], UInt8[np.ndarray, "H W 3"]],
    keys: Int[np.ndarray, " K"],
    person: PersonSegmenter,
    pose: PoseTrack,
    layout: FaceLayout,
    size: tuple[int, int],
    face_px: float,
) -> Scalp:
    """Find hair and ears: corners of the first keyframe, found again in the others.

    Args:
        keyframe: reads one frame, RGB.
        keys: keyframes, the most usual pose first.
        person: probability of a person.
        pose: the path so far.
        layout: meaning of its shape's points.
        size: image (height, width).
        face_px: height of the face.

    Returns:
        None to :data:`MOST` points.
    """
    unit, side, views, focal = max(size) / 512, patch_side(face_px), pose.viewmats[keys], pose.focal
    first = keyframe(int(keys[0]))
    face = project(pose.shape, views[:1], focal, size)[0]
    shown = cv2.resize(person(first), size[::-1]) > 0.5
    corners = _corners(first, _zone(shown, face, layout, unit), unit)
    guess = _at_depth(corners, views[0], focal, size)
    if not len(corners):
        return Scalp(keys, np.zeros((len(keys), 0, 2)), guess)
    grey, seen = cv2.cvtColor(first, cv2.COLOR_RGB2GRAY), [corners]
    for key, there in zip(keys[1:], project(guess, views[1:], focal, size), strict=True):
        moves, good = follow(grey, cv2.cvtColor(keyframe(int(key)), cv2.COLOR_RGB2GRAY), corners, there, side)
        seen.append(np.where(good[:, None], corners + moves, np.nan))
    pixels = np.stack(seen)
    often = np.isfinite(pixels).all(-1).sum(0) >= FEWEST_KEYS
    pixels, guess = pixels[:, often], guess[often]
    places = rigid.triangulate(pixels, np.ones(len(keys), bool), views, focal, size, guess, SPREAD)
    error = np.linalg.norm(project(places, views, focal, size) - pixels, axis=-1)
    still = np.array([np.nanmedian(each) < ERROR_PX * unit for each in error.T], bool)
    return Scalp(keys, pixels[:, still], places[still])


def _zone(
    person: Bool[np.ndarray, "H W"], face: Float[np.ndarray, "K 2"], layout: FaceLayout, unit: float
) -> UInt8[np.ndarray, "H W"]:
    """1 on hair and ears: the person above the base of the nose, well inside its outline, without the face."""
    inset = 2 * max(1, round(INSET_PX * unit)) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (inset, inset))
    zone = np.asarray(cv2.erode(person.astype(np.uint8), disc, borderValue=0), np.uint8)
    zone[max(0, int(face[layout.ibug68[33], 1])) :] = 0
    cv2.fillPoly(zone, [face[list(layout.oval)].round().astype(np.int32)], (0,))
    return zone


def _corners(image: UInt8[np.ndarray, "H W 3"], zone: UInt8[np.ndarray, "H W"], unit: float) -> np.ndarray:
    """Pixels [E, 2] of the zone's strongest corners."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    found = cv2.goodFeaturesToTrack(grey, MOST, 0.01, max(4, int(APART_PX * unit)), mask=zone)
    return np.zeros((0, 2)) if found is None else found[:, 0].astype(np.float64) + 0.5


def _at_depth(
    pixels: Float[np.ndarray, "E 2"], view: Float[np.ndarray, "4 4"], focal: float, size: tuple[int, int]
) -> Float[np.ndarray, "E 3"]:
    """Where the rays of ``pixels`` meet the plane :data:`PLACE` of the head frame."""
    rotation, origin = view[:3, :3], -view[:3, :3].T @ view[:3, 3]
    rays = np.column_stack([(pixels - np.array([size[1], size[0]]) / 2) / focal, np.ones(len(pixels))]) @ rotation
    return origin + ((PLACE - origin[2]) / rays[:, 2])[:, None] * rays
