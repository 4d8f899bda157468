"""Parsing of a talking-head clip into background, head, hair, mouth, neck and torso, and a teeth mask.

The embedded provider needs no downloaded network: face landmarks, MediaPipe's selfie segmentation (Apache-2.0, part of
this package) and colours learned from the clip itself (:mod:`emotalking.preprocess.parsing.model`). Its scores are
averaged over time along the motion.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float32, Shaped, UInt8

from emotalking.data.labels import Label, Masks
from emotalking.data.layouts import FaceLayout
from emotalking.networks.mediapipe.graph import open_graph
from emotalking.ops.guided import guided_ranks
from emotalking.preprocess.parsing.geometry import HeadFrame, face_zones
from emotalking.preprocess.parsing.labels import labels_from_ranks, remove_detached, teeth_mask
from emotalking.preprocess.parsing.model import ClipModel, Sample, class_scores, fit_model, make_sample
from emotalking.preprocess.steps import map_frames

_PERSON_SIZE = 256
"""Side of the segmentation's input."""
WORK_SIZE = 256
"""Longer side of the image on which classes are estimated; their borders are then drawn at full resolution."""
MEMORY = 0.8
"""Weight of the past where the motion is certain: an average over about nine frames."""
COLOUR_TOLERANCE = 12.0
"""Difference of colour (levels, after the motion) at which the weight of the past falls to a third."""

_SIMILARITY = np.exp(-np.square(np.arange(256, dtype=np.float32) / np.float32(COLOUR_TOLERANCE)))

PersonSegmenter = Callable[[np.ndarray], np.ndarray]
"""RGB uint8 [H, W, 3] to the probability of person over the same view, float32 of any size."""


@runtime_checkable
class ClipParser(Protocol):
    """A parser fitted to one clip.

    Two halves, so that the scores can be smoothed over time between them (:class:`TemporalSmoother`): ``scores`` is
    called frame after frame, ``decide`` on several threads at once.
    """

    def scores(
        self, image: UInt8[np.ndarray, "H W 3"], points: Shaped[np.ndarray, "K 2"]
    ) -> Float32[np.ndarray, "h w C"]:
        """Probabilities of the parser's own classes for one RGB frame with its landmarks (px).

        At a working size of about 256 pixels a side; they sum to 1 over the last axis.
        """
        ...

    def decide(
        self, image: UInt8[np.ndarray, "H W 3"], points: Shaped[np.ndarray, "K 2"], scores: Float32[np.ndarray, "h w C"]
    ) -> Masks:
        """Label map and teeth of the frame, [H, W], from its (smoothed) scores at the working size."""
        ...


@runtime_checkable
class ParsingProvider(Protocol):
    """A method of parsing clips."""

    name: str
    """Written into ``subject.json``."""

    def fit(self, images: Sequence[np.ndarray], points: Shaped[np.ndarray, "F K 2"], layout: FaceLayout) -> ClipParser:
        """Learn what must be learned from frames spread over the clip (about 40 are enough)."""
        ...


class SelfieSegmentation:
    """MediaPipe's selfie segmentation, 256 x 256 (Apache-2.0, :mod:`emotalking.networks.mediapipe`)."""

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> Float32[np.ndarray, "h w"]:
        """See :data:`PersonSegmenter`."""
        small = cv2.resize(image, (_PERSON_SIZE, _PERSON_SIZE), interpolation=cv2.INTER_AREA)
        (mask,) = open_graph("person")(torch.from_numpy(small)[None].float() / 255).values()
        return mask[0, ..., 0].numpy()


class EmbeddedParsing:
    """Landmark polygons, person segmentation and the clip's own colours.

    Deviation: TalkingGaussian uses BiSeNet (19 classes) and a teeth network. Reason: their weights must be downloaded
    and rest on data sets for research only; this provider works offline after installation.
    """

    name = "embedded"

    def __init__(self, person: PersonSegmenter | None = None) -> None:
        self._person = person or SelfieSegmentation()

    def fit(
        self, images: Sequence[np.ndarray], points: Shaped[np.ndarray, "F K 2"], layout: FaceLayout
    ) -> "EmbeddedClipParser":
        """Learn the clip's colours and where they lie.

        Args:
            images: RGB uint8 frames of one size, spread over the clip.
            points: their landmarks, px; finite.
            layout: meaning of the landmarks.

        Raises:
            ValueError: if there is no frame, the counts differ or a landmark is not finite.
        """
        if len(images) == 0 or len(images) != len(points):
            raise ValueError(f"images, points: expected the same number, at least 1; got {len(images)}, {len(points)}")
        if not np.isfinite(points).all():
            raise ValueError("points: expected finite landmarks, got NaN or infinity; fit on frames with a face")
        size = _work_size(images[0].shape)
        head = HeadFrame.fit(points, layout)

        def sample(_: int, frame: tuple[np.ndarray, np.ndarray]) -> Sample:
            return make_sample(*frame, self._person(frame[0]), head, layout, size)

        samples = list(map_frames(zip(images, points, strict=True), sample, shared=True))
        return EmbeddedClipParser(fit_model(samples, head, layout), self._person)


class EmbeddedClipParser:
    """The embedded parser, fitted to one clip."""

    def __init__(self, model: ClipModel, person: PersonSegmenter) -> None:
        self.model = model
        self._person = person

    def scores(
        self, image: UInt8[np.ndarray, "H W 3"], points: Shaped[np.ndarray, "K 2"]
    ) -> Float32[np.ndarray, "h w 4"]:
        """Probabilities of skin, hair, clothes and background (:mod:`emotalking.preprocess.parsing.model`)."""
        model = self.model
        sample = make_sample(image, points, self._person(image), model.head, model.layout, _work_size(image.shape))
        return class_scores(sample, model)

    def decide(
        self, image: UInt8[np.ndarray, "H W 3"], points: Shaped[np.ndarray, "K 2"], scores: Float32[np.ndarray, "h w 4"]
    ) -> Masks:
        """See :class:`ClipParser`."""
        model, small = self.model, (scores.shape[0], scores.shape[1])
        near = np.asarray(points, np.float64) * (np.array(small) / image.shape[:2])[::-1]
        whole = remove_detached(scores, face_zones(near, model.layout, small), model.head.affine_from_image(near))
        zones = face_zones(points, model.layout, (image.shape[0], image.shape[1]))
        labels = labels_from_ranks(guided_ranks(whole, image), zones)
        teeth = teeth_mask(image, zones)
        labels[teeth] = Label.MOUTH
        return Masks(labels, teeth)


def _work_size(shape: tuple[int, ...]) -> tuple[int, int]:
    scale = min(1.0, WORK_SIZE / max(shape[:2]))
    return round(shape[0] * scale), round(shape[1] * scale)


class TemporalSmoother:
    """Temporal smoothing of a clip's class probabilities, fed frame by frame, in order.

    The past is moved to where it went (dense optical flow, DIS: Kroeger et al. 2016) and counts only where it matches
    the present, so that there is no lag and newly visible pixels have no history.
    """

    def __init__(self) -> None:
        self._flow = SmallFlow()
        self._past: np.ndarray | None = None

    def __call__(
        self, image: UInt8[np.ndarray, "H W 3"], scores: Float32[np.ndarray, "h w C"]
    ) -> Float32[np.ndarray, "h w C"]:
        """The smoothed scores of the next frame; they sum to 1 if what is given does."""
        small = cv2.resize(image, scores.shape[1::-1], interpolation=cv2.INTER_AREA)
        flow, similarity = self._flow(small)
        if self._past is not None:
            past = warp_back(self._past, flow, cv2.INTER_LINEAR)
            weight = cv2.merge([MEMORY * similarity] * scores.shape[-1])
            # numpy takes three times as long along a last axis of four.
            scores = cv2.accumulateProduct(cv2.subtract(past, scores), weight, scores.copy())
        self._past = scores
        return scores


class SmallFlow:
    """Motion from each frame back to the one before it, and the similarity of their colours."""

    def __init__(self) -> None:
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._image: np.ndarray | None = None
        self._grey: np.ndarray | None = None

    def __call__(
        self, image: UInt8[np.ndarray, "h w 3"]
    ) -> tuple[Float32[np.ndarray, "h w 2"], Float32[np.ndarray, "h w"]]:
        """Flow (pixels, from this frame to the previous one) and similarity in [0, 1]; zeros at the first frame."""
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        flow, similarity = np.zeros((*grey.shape, 2), np.float32), np.zeros(grey.shape, np.float32)
        if self._image is not None and self._grey is not None:
            flow = np.asarray(self._dis.calc(grey, self._grey, flow), np.float32)
            moved = warp_back(self._image, flow, cv2.INTER_LINEAR)
            red, green, blue = cv2.split(cv2.blur(cv2.absdiff(image, moved), (3, 3)))
            similarity = np.asarray(cv2.LUT(cv2.max(cv2.max(red, green), blue), _SIMILARITY), np.float32)
        self._image, self._grey = image, grey
        return flow, similarity


def warp_back(array: np.ndarray, flow: Float32[np.ndarray, "h w 2"], interpolation: int) -> np.ndarray:
    """The previous frame's ``array``, moved to this frame; ``flow`` points from this frame to the previous one."""
    rows, cols = _places(*flow.shape[:2])
    x, y = cols + flow[..., 0], rows + flow[..., 1]
    moved = cv2.remap(array, x, y, interpolation, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved).reshape(array.shape)  # OpenCV drops a single channel


@lru_cache(8)
def _places(height: int, width: int) -> Float32[np.ndarray, "2 h w"]:
    """Row and column of every pixel."""
    return np.indices((height, width), np.float32)


def flicker(
    before: UInt8[np.ndarray, "h w"],
    after: UInt8[np.ndarray, "h w"],
    flow: Float32[np.ndarray, "h w 2"],
    similarity: Float32[np.ndarray, "h w"],
) -> Bool[np.ndarray, "h w"]:
    """Pixels whose label changes from one frame to the next although they show the same point.

    A border that moves by less than a pixel is rounded differently in every frame; a label that was no more than a
    pixel away is therefore no change.

    Args:
        before: labels of the earlier frame.
        after: of the later one.
        flow: motion from the later to the earlier frame, px.
        similarity: of the colours after that motion, 0..1; only pixels above 0.5 are counted.
    """
    rows, cols = np.indices(after.shape)
    x = np.rint(cols + flow[..., 0]).astype(np.intp)
    y = np.rint(rows + flow[..., 1]).astype(np.intp)
    inside = (x >= 0) & (y >= 0) & (x < after.shape[1]) & (y < after.shape[0])
    moved = before[y.clip(0, after.shape[0] - 1), x.clip(0, after.shape[1] - 1)]
    near = np.zeros(after.shape, bool)
    for label in np.unique(after):
        around = cv2.dilate((moved == label).astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
        near |= around & (after == label)
    return inside & (similarity > 0.5) & ~near
