"""Skin followed from keyframes to every frame: observations of the head pose without a detector's errors.

A landmark detector errs by a pixel or two in a way that depends on the view, the same in neighbouring frames, and
optical flow from frame to frame drifts, so poses far apart in time disagree about where hair and skin are. The patch
around a point compared with the same patch in a few keyframes, spread over the poses of the clip, has neither fault.
How far it moved is measured once; where it began in the keyframe is what the path says, and is corrected with it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

from emotalking.preprocess.steps import map_frames

LINKS = 3
"""Keyframes with which a frame is compared: those with the most similar poses."""
WINDOW = 1 / 16
"""Side of the compared patch as a share of the face's height."""
BACK_PX = 0.3
"""Tolerance of the way back, in pixels of a 512-pixel image."""
MARGIN = 3
"""Sides of a patch around all points in which they are searched."""
_CRITERIA = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 0.01)


@dataclass(frozen=True)
class KeyframeTracks:
    """Motion of R points from keyframes to all frames."""

    keys: Int[np.ndarray, "N L"]
    """Frames with which each frame was compared."""
    moves: Float32[np.ndarray, "N L R 2"]
    """Pixels from the point in the keyframe to the point in the frame; NaN where it was not found."""

    def points(self, path: Float[np.ndarray, "N R 2"]) -> Float[np.ndarray, "N R 2"]:
        """Where the points are in each frame if the keyframes have them where ``path`` does; NaN where unknown."""
        total, count = np.zeros(path.shape), np.zeros((*path.shape[:2], 1))
        for keys, moves in zip(self.keys.T, self.moves.swapaxes(0, 1), strict=True):
            found = np.isfinite(moves).all(-1, keepdims=True)
            total += np.where(found, path[keys] + moves, 0.0)
            count += found
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def choose_keyframes(
    path: Float[np.ndarray, "N R 2"], usable: Bool[np.ndarray, " N"], count: int
) -> tuple[Int[np.ndarray, " K"], Int[np.ndarray, "N L"]]:
    """Keyframes spread over the poses, and the most similar ones of each frame, itself left out.

    The first is the most usual pose; each further one is the frame that is most different from all before.

    Args:
        path: rigid points of each pose, pixels.
        usable: frames that may be keyframes.
        count: of keyframes.
    """
    flat = path.reshape(len(path), -1)
    among = np.flatnonzero(usable)
    keys = [int(among[np.square(flat[among] - np.median(flat[among], 0)).sum(1).argmin()])]
    distance = np.square(flat - flat[keys[0]]).sum(1)[:, None]
    while len(keys) < min(count, len(among)):
        keys.append(int(among[distance[among].min(1).argmax()]))
        distance = np.column_stack([distance, np.square(flat - flat[keys[-1]]).sum(1)])
    distance[keys, np.arange(len(keys))] = np.inf
    return np.array(keys), np.array(keys)[distance.argsort(1)[:, :LINKS]]


def follow_keyframes(
    frames: Iterable[UInt8[np.ndarray, "H W 3"]],
    keyframe: Callable[[int], UInt8[np.ndarray, "H W 3"]],
    path: Float[np.ndarray, "N R 2"],
    usable: Bool[np.ndarray, " N"],
    links: Int[np.ndarray, "N L"],
    face_px: float,
) -> KeyframeTracks:
    """Measure how points move from keyframes to all frames (Lucas-Kanade from the path, checked backwards).

    Args:
        frames: RGB, in order.
        keyframe: reads one frame, RGB.
        path: the points under the poses so far, pixels; NaN where one is not to be followed.
        usable: frames that show the face; the others get no observation.
        links: keyframes of each frame (:func:`choose_keyframes`).
        face_px: height of the face.
    """
    images = {int(key): cv2.cvtColor(keyframe(int(key)), cv2.COLOR_RGB2GRAY) for key in np.unique(links)}
    found = map_frames(frames, partial(_moves, images, links, path, usable, patch_side(face_px)), shared=True)
    return KeyframeTracks(links, np.stack(list(found)))


def _moves(
    images: dict[int, np.ndarray],
    links: np.ndarray,
    path: np.ndarray,
    usable: np.ndarray,
    side: int,
    index: int,
    frame: UInt8[np.ndarray, "H W 3"],
) -> Float32[np.ndarray, "L R 2"]:
    """Moves to one frame."""
    out = np.full((links.shape[1], *path.shape[1:]), np.nan, np.float32)
    if not usable[index]:
        return out
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    for link, key in enumerate(links[index]):
        moves, good = follow(images[int(key)], grey, path[key], path[index], side)
        out[link, good] = moves[good]
    return out


def patch_side(face_px: float) -> int:
    """Side of the compared patch in pixels, odd."""
    return max(9, int(face_px * WINDOW) | 1)


def follow(
    first: UInt8[np.ndarray, "H W"],
    second: UInt8[np.ndarray, "H W"],
    points: Float[np.ndarray, "R 2"],
    guess: Float[np.ndarray, "R 2"],
    side: int,
) -> tuple[Float[np.ndarray, "R 2"], Bool[np.ndarray, " R"]]:
    """Moves of ``points`` between two grey images, begun at ``guess``, and where the way back leads back.

    Points that are NaN in either are not followed.
    """
    known = np.flatnonzero(np.isfinite(points + guess).all(-1))
    moves, good = np.full(points.shape, np.nan), np.zeros(len(points), bool)
    if not len(known):
        return moves, good
    # OpenCV counts from pixel centres.
    here, there = (each[known] - 0.5 for each in (points, guess))
    window, corner = _around(np.concatenate([here, there]), MARGIN * side, first.shape)
    one, other = np.ascontiguousarray(first[window]), np.ascontiguousarray(second[window])
    here, there = ((each - corner).astype(np.float32) for each in (here, there))
    end, forth = _follow(one, other, here, there, side)
    back, returned = _follow(other, one, end, here, side)
    near = np.linalg.norm(back - here, axis=1) < BACK_PX * max(first.shape) / 512
    moves[known], good[known] = end - here, forth & returned & near
    return moves, good


def _around(
    points: Float[np.ndarray, "R 2"], margin: int, shape: tuple[int, ...]
) -> tuple[tuple[slice, slice], Int[np.ndarray, "2"]]:
    """The part of an image that shows ``points`` and ``margin`` pixels around them, and its first pixel (x, y)."""
    low, high = (
        np.clip(each, 0, shape[::-1]).astype(int) for each in (points.min(0) - margin, points.max(0) + margin + 1)
    )
    low -= low % 2  # the coarser level of the pyramid then has the same pixels as that of the whole image
    return (slice(low[1], high[1]), slice(low[0], high[0])), low


def _follow(
    first: np.ndarray, second: np.ndarray, begin: np.ndarray, guess: np.ndarray, side: int
) -> tuple[Float[np.ndarray, "R 2"], Bool[np.ndarray, " R"]]:
    end, status, _ = cv2.calcOpticalFlowPyrLK(
        first,
        second,
        begin,
        guess.copy(),
        winSize=(side, side),
        maxLevel=1,
        criteria=_CRITERIA,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )
    return end, status[:, 0] > 0
