"""What the head hides of neck, collar and torso, from the frames in which it is seen."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from emotalking.data.labels import BODY, WHOLE_HEAD, Label, mask_of
from emotalking.ops.box import bounds
from emotalking.ops.matting import nearest_colours
from emotalking.ops.pyramid import pull_push
from emotalking.preprocess.steps import map_frames

SAMPLES = 48
"""Frames of a clip that are laid over each other."""
UNKNOWN = 255
"""Label of what no frame shows."""
BACKGROUND_VOTES = 0.8
"""Share of the frames that must show background before none of the body is drawn there."""
FEWEST, SHARE = 3, 0.1
"""Frames that must show a pixel, and share of all."""
SMALLEST_PX = 7
"""Width of the smallest part that is used, at 512 px: slivers are errors of label maps."""
CORNERS = 200
TRACKED_HEIGHT = 256
"""Corners are tracked in frames of at most this height."""
FEWEST_CORNERS = 10
STRETCH = 0.15
"""Largest change of size or angle (radians) from frame to frame of one shot."""
NEAR_PX = 120
"""Body at this distance from the head, at 512 px, is what is aligned: collar and shoulders, not hands."""
AROUND_PX = 60
"""Body at this distance from the head, at 512 px, tells how much brighter or darker the frame is."""
SEAM_PX = 4
"""Body this close to the head, at 512 px, may be mixed with it."""
FILL_PX = 1
"""The same where a frame's own body gives way to that of other frames: no further, as it is exact in its own pose."""
MIXED_PX = 1.5
"""The least of it, whatever the frame's size: pixels next to a label map's edge are mixtures, and stood in frames of
256 px as a light line below a chin that is higher than recorded."""
JOIN_PX = 1.5
"""Standard deviation, at 512 px, over which a frame's own body goes over into that of other frames, at least a pixel:
the join would show as a line beside a head that moved."""
MISFIT = 14.0
"""Mean difference in grey levels, beside the head, above which a frame does not fit."""


Sample = tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"]]
"""A frame, RGB, and its label map."""


class _Reference(NamedTuple):
    """A frame that others are aligned with."""

    grey: UInt8[np.ndarray, "h w"]
    corners: Float32[np.ndarray, "K 1 2"]
    scale: float
    """Size of ``grey`` relative to the frame."""

    @classmethod
    def of(cls, image: np.ndarray, labels: np.ndarray) -> "_Reference | None":
        """None where the body shows too few corners."""
        grey, scale = _grey(image)
        body = mask_of(labels, *BODY) & _near(mask_of(labels, *WHOLE_HEAD), NEAR_PX * len(labels) / 512)
        inside = cv2.erode(body.astype(np.uint8), np.ones((5, 5), np.uint8))
        mask = cv2.resize(inside, grey.shape[::-1], interpolation=cv2.INTER_NEAREST)
        corners = cv2.goodFeaturesToTrack(grey, CORNERS, 0.005, 3, mask=mask)
        return None if corners is None or len(corners) < FEWEST_CORNERS else cls(grey, corners, scale)

    def motion(self, image: np.ndarray) -> Float[np.ndarray, "2 3"] | None:
        """Similarity from the reference's pixels to those of ``image``; None where there is no plausible one."""
        grey, _ = _grey(image)
        moved, found, _ = cv2.calcOpticalFlowPyrLK(self.grey, grey, self.corners, None, winSize=(15, 15), maxLevel=3)  # pyright: ignore[reportCallIssue, reportArgumentType]  # OpenCV's stub wants the optional output
        there = found[:, 0] > 0
        if there.sum() < FEWEST_CORNERS:
            return None
        matrix, fits = cv2.estimateAffinePartial2D(self.corners[there], moved[there], ransacReprojThreshold=1.0)
        if matrix is None or fits.sum() < FEWEST_CORNERS or np.abs(matrix[:, :2] - np.eye(2)).max() > STRETCH:
            return None
        matrix[:, 2] /= self.scale
        return matrix


class HiddenBody:
    """The body of a clip in the pixels of one of its frames, as far as any frame shows it.

    Samples are aligned by the motion of collar and shoulders. Each pixel takes the class that most of them show, and
    the median of their colours.

    Args:
        read: RGB frame and label map of an index.
        indices: of the samples; the middle one is the reference.
    """

    def __init__(self, read: Callable[[int], Sample], indices: Sequence[int]) -> None:
        self._reference = _Reference.of(*read(indices[len(indices) // 2])) if len(indices) else None
        if self._reference is None:
            return
        images: np.ndarray | None = None
        classes, count = [], 0
        for found in map_frames(indices, partial(_aligned, self._reference, read), shared=True):
            if found is None:
                continue
            if images is None:  # all in one piece: a copy of large frames would be hundreds of megabytes
                images = np.empty((len(indices), *found[0].shape), np.uint8)
            images[count] = found[0]
            classes.append(found[1])
            count += 1
        if images is None or count < FEWEST:
            self._reference = None
            return
        self._colour, self._labels = _composed(images[:count], np.stack(classes))

    def motion(self, image: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "2 3"] | None:
        """The body's motion from the reference to a frame, a similarity in pixels; None: not found."""
        return None if self._reference is None else self._reference.motion(image)

    def behind(
        self, image: UInt8[np.ndarray, "H W 3"], labels: UInt8[np.ndarray, "H W"]
    ) -> tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"]]:
        """A frame and its label map with the head taken away as far as what is behind it is known.

        Colours are shifted smoothly to those of the frame's own body. A frame that does not fit stays as it is.
        """
        motion = self.motion(image)
        rows = np.flatnonzero(mask_of(labels, *BODY).any(1))
        if motion is None or len(rows) == 0:
            return image, labels
        scale = len(labels) / 512
        out = image.copy()
        classes = labels.copy()
        top = max(0, int(rows[0] - NEAR_PX * scale))
        box = bounds(mask_of(labels[top:], *WHOLE_HEAD), int(AROUND_PX * scale))
        box = slice(box[0].start + top, box[0].stop + top), box[1]
        image, labels = image[box], labels[box]
        if not labels.size:
            return out, classes
        motion[:, 2] -= box[1].start, box[0].start
        size = image.shape[1::-1]
        known = _warp(self._labels, motion, size, cv2.INTER_NEAREST)
        colour = _warp(self._colour, motion, size, cv2.INTER_LINEAR)
        head, body = mask_of(labels, *WHOLE_HEAD), mask_of(labels, *BODY)
        shown = mask_of(known, *BODY)
        away = _distance(head)
        compared = body & shown & (away > 2 * SEAM_PX * scale)
        beside = compared & (away <= NEAR_PX / 3 * scale)
        hidden = head | (body & (away <= max(FILL_PX * scale, MIXED_PX)))
        if beside.any():
            shift = _shift(colour, image, compared)
            places = np.flatnonzero(beside)
            there, seen, shifted = (
                np.ascontiguousarray(each).reshape(-1, 3).take(places, 0) for each in (colour, image, shift)
            )
            if np.abs(seen - (there + shifted)).mean() <= MISFIT:
                filled = hidden & shown
                moved = cv2.add(colour, shift, dtype=cv2.CV_8U)
                _join(moved, image, body & shown & ~hidden, filled, max(JOIN_PX * scale, 1.0))
                cv2.copyTo(moved, filled.view(np.uint8), out[box])
                filled |= hidden & (known == Label.BACKGROUND)
                np.copyto(classes[box], known, where=filled)
        return out, classes


def _aligned(reference: _Reference, read: Callable[[int], Sample], _: int, index: int) -> Sample | None:
    """A sample in the reference's pixels, without what is near its head; None where it does not fit."""
    image, labels = read(index)
    motion = reference.motion(image)
    if motion is None:
        return None
    size = image.shape[1::-1]
    seen = np.where(_near(mask_of(labels, *WHOLE_HEAD), SEAM_PX * len(labels) / 512), np.uint8(UNKNOWN), labels)
    moved = _warp(image, motion, size, cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return moved, _warp(seen, motion, size, cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)


def _composed(
    images: UInt8[np.ndarray, "K H W 3"], classes: UInt8[np.ndarray, "K H W"]
) -> tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"]]:
    """Median colours and classes of aligned frames."""
    background, neck, torso = ((classes == label).sum(0) for label in (Label.BACKGROUND, Label.NECK, Label.TORSO))
    seen, body = background + neck + torso, neck + torso
    labels = np.full(seen.shape, UNKNOWN, np.uint8)
    labels[background >= BACKGROUND_VOTES * seen] = Label.BACKGROUND
    labels[body > background] = Label.TORSO
    labels[(body > background) & (neck >= torso)] = Label.NECK
    labels[seen < max(FEWEST, SHARE * len(images))] = UNKNOWN
    size = 2 * max(1, round(SMALLEST_PX / 2 * len(labels) / 512)) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    for classes_of in ((Label.BACKGROUND,), BODY):
        part = mask_of(labels, *classes_of)
        whole = cv2.morphologyEx(part.astype(np.uint8), cv2.MORPH_OPEN, disc).astype(bool)
        labels[part & ~whole] = UNKNOWN
    colour = np.zeros(images.shape[1:], np.uint8)
    pixels = mask_of(labels, *BODY)
    if pixels.any():
        valid = classes[:, pixels] == labels[pixels]
        ordered = np.sort(np.where(valid[..., None], images[:, pixels], np.uint8(255)), axis=0)
        middle = (np.maximum(valid.sum(0), 1) - 1) // 2
        colour[pixels] = np.take_along_axis(ordered, middle[None, :, None], 0)[0]
        colour, _ = nearest_colours(colour, pixels)  # the body's edge, interpolated, would be mixed with black
    return colour, labels


def _shift(colour: np.ndarray, image: np.ndarray, compared: Bool[np.ndarray, "H W"]) -> Float32[np.ndarray, "H W 3"]:
    """The smooth part of how ``image`` differs from ``colour`` where they are ``compared``."""
    difference = cv2.subtract(image, colour, mask=compared.view(np.uint8), dtype=cv2.CV_32F)
    size = (max(2, image.shape[1] // 16), max(2, image.shape[0] // 16))
    weight = cv2.resize(compared.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    total = cv2.resize(difference, size, interpolation=cv2.INTER_AREA)
    smooth = np.ascontiguousarray(pull_push(total / np.maximum(weight, 1e-3)[..., None], np.minimum(weight, 1.0)))
    return np.asarray(cv2.resize(smooth, image.shape[1::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def _join(moved: np.ndarray, image: np.ndarray, own: np.ndarray, filled: np.ndarray, sigma: float) -> None:
    """Bring the colours next to ``own`` pixels nearer to how ``image`` continues there."""
    window = bounds(filled, int(4 * sigma) + 2)
    part, mask = moved[window], own[window]
    lacking = cv2.subtract(image[window], part, mask=mask.view(np.uint8), dtype=cv2.CV_32F)
    lacking, weight = (cv2.GaussianBlur(each, (0, 0), sigma) for each in (lacking, mask.astype(np.float32)))
    moved[window] = cv2.add(part, lacking / np.maximum(weight, 0.5)[..., None], dtype=cv2.CV_8U)


def _head(labels: np.ndarray) -> Bool[np.ndarray, "H W"]:
    return mask_of(labels, *WHOLE_HEAD)


def _near(mask: np.ndarray, pixels: float) -> Bool[np.ndarray, "H W"]:
    """True at most ``pixels`` from ``mask``."""
    return _distance(mask) <= pixels


def _distance(mask: np.ndarray) -> Float32[np.ndarray, "H W"]:
    """Distance to ``mask`` in pixels."""
    return np.asarray(cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3), np.float32)


def _grey(image: np.ndarray) -> tuple[UInt8[np.ndarray, "h w"], float]:
    grey, scale = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), min(1.0, TRACKED_HEIGHT / len(image))
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(grey), scale


def _warp(image: np.ndarray, motion: np.ndarray, size: tuple[int, ...], flags: int) -> np.ndarray:
    """An image of ``size`` (width, height) along ``motion``; what comes from beyond the edge is :data:`UNKNOWN`."""
    fill = (UNKNOWN,) * 3
    return cv2.warpAffine(image, motion, size, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=fill)
