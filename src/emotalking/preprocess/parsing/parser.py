"""Parsing of a talking-head clip into background, head, hair, mouth, neck and torso, and a teeth mask.

The embedded provider needs no downloaded network: face landmarks, MediaPipe's selfie segmentation (Apache-2.0, in its
wheel) and colours learned from the clip itself (``mask_model``).
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Shaped, UInt8

from emotalking.data.labels import Label, Masks
from emotalking.data.layouts import FaceLayout
from emotalking.errors import UserError
from emotalking.preprocess.parsing.edges import guided_upsample
from emotalking.preprocess.parsing.geometry import HeadFrame, face_zones
from emotalking.preprocess.parsing.labels import labels_from_matter, settle
from emotalking.preprocess.parsing.model import ClipModel, class_scores, fit_model, make_sample
from emotalking.preprocess.parsing.mouth import teeth_mask
from emotalking.preprocess.steps import PerWorker

WORK_SIZE = 256
"""Longer side of the image on which classes are estimated; their borders are then drawn at full resolution."""

PersonSegmenter = Callable[[np.ndarray], np.ndarray]
"""RGB uint8 [H, W, 3] to the probability of person, float32 [H, W]."""


@runtime_checkable
class ClipParser(Protocol):
    """A parser fitted to one clip.

    Two halves, so that the scores can be made steady over time between them (``mask_motion.Steadier``): ``scores`` is
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
        self,
        image: UInt8[np.ndarray, "H W 3"],
        points: Shaped[np.ndarray, "K 2"],
        scores: Float32[np.ndarray, "h w C"],
    ) -> Masks:
        """Labels of the frame at full resolution from its scores."""
        ...


@runtime_checkable
class ParsingProvider(Protocol):
    """A way to parse a clip."""

    name: str
    """Written into ``subject.json``."""

    def fit(self, images: Sequence[np.ndarray], points: Shaped[np.ndarray, "F K 2"], layout: FaceLayout) -> ClipParser:
        """Learn what must be learned from frames spread over the clip (about 40 are enough)."""
        ...


class SelfieSegmentation:
    """MediaPipe's selfie segmentation, 256 x 256, about 6 ms a frame (Apache-2.0, inside the mediapipe 0.10.21 wheel).

    Raises:
        UserError: if the installed mediapipe no longer carries it.
    """

    def __init__(self) -> None:
        os.environ.setdefault("GLOG_minloglevel", "2")
        import mediapipe

        solutions: Any = getattr(mediapipe, "solutions", None)
        if solutions is None:
            raise UserError(
                f"mediapipe {mediapipe.__version__} carries no person segmentation: use Python 3.11 or 3.12 with"
                " mediapipe 0.10.21, or import parsing images made elsewhere."
            )
        # Two threads must not share a graph: each takes its own.
        self._network: PerWorker[Any] = PerWorker(
            lambda: solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)
        )

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> Float32[np.ndarray, "H W"]:
        """Probability of person per pixel."""
        return np.asarray(self._network().process(image).segmentation_mask, np.float32)


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
        samples = [
            make_sample(image, place, self._person(image), head, layout, size)
            for image, place in zip(images, points, strict=True)
        ]
        return EmbeddedClipParser(fit_model(samples, head, layout), self._person)


class EmbeddedClipParser:
    """The embedded parser with what it learned of one clip."""

    def __init__(self, model: ClipModel, person: PersonSegmenter) -> None:
        self.model = model
        self._person = person

    def scores(
        self, image: UInt8[np.ndarray, "H W 3"], points: Shaped[np.ndarray, "K 2"]
    ) -> Float32[np.ndarray, "h w 4"]:
        """Probabilities of skin, hair, clothes and background (``mask_model``)."""
        model = self.model
        sample = make_sample(image, points, self._person(image), model.head, model.layout, _work_size(image.shape))
        return class_scores(sample, model)

    def decide(
        self,
        image: UInt8[np.ndarray, "H W 3"],
        points: Shaped[np.ndarray, "K 2"],
        scores: Float32[np.ndarray, "h w 4"],
    ) -> Masks:
        """See :class:`ClipParser`."""
        model, small = self.model, (scores.shape[0], scores.shape[1])
        near = np.asarray(points, np.float64) * (np.array(small) / image.shape[:2])[::-1]
        whole = settle(scores, face_zones(near, model.layout, small), model.head.affine_from_image(near))
        zones = face_zones(points, model.layout, (image.shape[0], image.shape[1]))
        labels = labels_from_matter(guided_upsample(whole, image), zones)
        teeth = teeth_mask(image, zones)
        labels[teeth] = Label.MOUTH
        return Masks(labels, teeth)


def _work_size(shape: tuple[int, ...]) -> tuple[int, int]:
    scale = min(1.0, WORK_SIZE / max(shape[:2]))
    return round(shape[0] * scale), round(shape[1] * scale)
