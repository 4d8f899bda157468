"""Parsing of a talking-head clip into background, head, hair, mouth, neck and torso, and a teeth mask.

The embedded provider needs no downloaded network: face landmarks, MediaPipe's selfie segmentation (Apache-2.0, in its
wheel) and colours learned from the clip itself (``mask_model``).
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Shaped, UInt8

from emotalking.capture.mask_geometry import FaceZones, HeadFrame, face_zones
from emotalking.capture.mask_model import (
    BACKGROUND,
    CLOTHES,
    HAIR,
    SKIN,
    ClipModel,
    class_scores,
    fit_model,
    make_sample,
)
from emotalking.errors import UserError
from emotalking.subject.layouts import FaceLayout, Label

WORK_SIZE = 256
"""Longer side of the image on which classes are estimated; their borders are then drawn at full resolution."""
GUIDE_RADIUS, GUIDE_EPSILON = 5, 4e-4
"""Window (working pixels) and regulariser of the guided filter (He et al. 2013), colours in [0, 1]."""
SMALL_SHARE = 5e-4
"""Islands below this share of the image are absorbed by what surrounds them."""

TEETH_REDNESS, TEETH_SATURATION, TEETH_LIGHTNESS = 0.6, 0.75, 0.6
"""Teeth are below these shares of the lips' redness (Lab a) or of the skin's saturation, and above this share of the
skin's lightness."""
_LABEL_OF_MATTER = np.array([Label.HEAD, Label.HAIR, Label.TORSO, Label.BACKGROUND], np.uint8)

PersonSegmenter = Callable[[np.ndarray], np.ndarray]
"""RGB uint8 [H, W, 3] to the probability of person, float32 [H, W]."""


@dataclass(frozen=True)
class Parsing:
    """Classes of one frame."""

    labels: UInt8[np.ndarray, "H W"]
    """:class:`Label`; teeth are ``MOUTH``."""
    teeth: Bool[np.ndarray, "H W"]


@runtime_checkable
class ClipParser(Protocol):
    """A parser fitted to one clip; call it on the clip's frames."""

    def __call__(self, image: UInt8[np.ndarray, "H W 3"], points: Shaped[np.ndarray, "K 2"]) -> Parsing:
        """Parse one RGB frame with its landmarks (px)."""
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
        self._network: Any = solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> Float32[np.ndarray, "H W"]:
        """Probability of person per pixel."""
        return np.asarray(self._network.process(image).segmentation_mask, np.float32)


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

    def __call__(self, image: UInt8[np.ndarray, "H W 3"], points: Shaped[np.ndarray, "K 2"]) -> Parsing:
        """Parse one RGB frame with its landmarks (px)."""
        model, size = self.model, _work_size(image.shape)
        sample = make_sample(image, points, self._person(image), model.head, model.layout, size)
        scores = guided_upsample(class_scores(sample, model), image)
        zones = face_zones(points, model.layout, (image.shape[0], image.shape[1]))
        labels = labels_from_matter(scores, zones)
        teeth = teeth_mask(image, zones)
        labels[teeth] = Label.MOUTH
        return Parsing(labels, teeth)


def _work_size(shape: tuple[int, ...]) -> tuple[int, int]:
    scale = min(1.0, WORK_SIZE / max(shape[:2]))
    return round(shape[0] * scale), round(shape[1] * scale)


def guided_upsample(
    scores: Float32[np.ndarray, "h w C"], image: UInt8[np.ndarray, "H W 3"]
) -> Float32[np.ndarray, "C H W"]:
    """Bring class scores to the image's resolution so that their borders follow its edges.

    Source: guided filter with a colour guide (He, Sun, Tang 2013), its coefficients computed small and applied large
    (He, Sun 2015). The last class is what the others leave.

    Args:
        scores: probabilities that sum to 1 over the classes.
        image: RGB guide.

    Returns:
        One plane a class, which is what the decisions afterwards read fastest; values leave [0, 1] slightly.
    """
    height, width = image.shape[:2]
    small = cv2.resize(image, scores.shape[1::-1], interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    targets = np.ascontiguousarray(scores[..., :-1])

    def mean(x: np.ndarray) -> np.ndarray:
        return cv2.blur(x, (2 * GUIDE_RADIUS + 1, 2 * GUIDE_RADIUS + 1), borderType=cv2.BORDER_REFLECT)

    mean_guide, mean_target = mean(small), mean(targets)
    r, g, b = (small[..., c] for c in range(3))
    second = mean(np.dstack([r * r, r * g, r * b])), mean(np.dstack([g * g, g * b, b * b]))
    mr, mg, mb = (mean_guide[..., c] for c in range(3))
    rr, rg, rb = second[0][..., 0] - mr * mr, second[0][..., 1] - mr * mg, second[0][..., 2] - mr * mb
    gg, gb, bb = second[1][..., 0] - mg * mg, second[1][..., 1] - mg * mb, second[1][..., 2] - mb * mb
    rr, gg, bb = rr + GUIDE_EPSILON, gg + GUIDE_EPSILON, bb + GUIDE_EPSILON
    # Inverse of the symmetric 3x3 covariance by cofactors.
    i_rr, i_rg, i_rb = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
    i_gg, i_gb, i_bb = rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg
    determinant = rr * i_rr + rg * i_rg + rb * i_rb
    planes = [np.multiply(image[..., k], np.float32(1 / 255), dtype=np.float32) for k in range(3)]
    result = np.empty((scores.shape[-1], height, width), np.float32)
    for c in range(targets.shape[-1]):
        target = targets[..., c]
        cross = mean(small * target[..., None]) - mean_guide * mean_target[..., c : c + 1]
        cr, cg, cb = (cross[..., k] / determinant for k in range(3))
        slope = [
            i_rr * cr + i_rg * cg + i_rb * cb,
            i_rg * cr + i_gg * cg + i_gb * cb,
            i_rb * cr + i_gb * cg + i_bb * cb,
        ]
        offset = mean_target[..., c] - slope[0] * mr - slope[1] * mg - slope[2] * mb
        cv2.resize(mean(offset), (width, height), dst=result[c], interpolation=cv2.INTER_LINEAR)
        for part, plane in zip(slope, planes, strict=True):
            cv2.accumulateProduct(cv2.resize(mean(part), (width, height)), plane, result[c])
    np.subtract(1, result[:-1].sum(0), out=result[-1])
    return result


def labels_from_matter(scores: Float32[np.ndarray, "4 H W"], zones: FaceZones) -> UInt8[np.ndarray, "H W"]:
    """Decide the matter of every pixel, divide skin into head and neck at the jaw, and clear islands and holes."""
    inside = np.where(scores[HAIR] > scores[SKIN], np.uint8(HAIR), np.uint8(SKIN))
    best = np.maximum(scores[HAIR], scores[SKIN])
    inside[scores[CLOTHES] > best] = CLOTHES
    np.maximum(best, scores[CLOTHES], out=best)
    matter = np.where(scores[BACKGROUND] > best, np.uint8(BACKGROUND), inside)
    matter[zones.oval] = SKIN
    matter[zones.oval & ~zones.below_brows & (scores[HAIR] > scores[SKIN])] = HAIR
    person = _one_body((matter != BACKGROUND), zones.oval)
    # A hole takes the likeliest matter that is not background.
    matter = np.where(person, np.where(matter == BACKGROUND, inside, matter), np.uint8(BACKGROUND))
    labels = _LABEL_OF_MATTER[matter]
    labels[zones.under_jaw & ~zones.oval & (matter == SKIN)] = Label.NECK
    smallest = max(4, int(SMALL_SHARE * labels.size))
    _absorb_islands(labels, Label.HEAD, (Label.HAIR, Label.NECK), smallest)
    near_head = cv2.dilate((labels == Label.HEAD).astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    # Hair that does not reach the head above the jaw is a shadow on neck or clothes.
    rooted = near_head & ~zones.under_jaw
    _absorb_islands(labels, Label.HAIR, (Label.HEAD, Label.NECK, Label.TORSO), smallest, unless_touching=rooted)
    # Skin that does not hang on the head is clothing, or a hand.
    _absorb_islands(labels, Label.NECK, (Label.TORSO, Label.HEAD), smallest, unless_touching=near_head)
    # Clothes leave the picture at the bottom; what looks like cloth elsewhere is hair, an ornament or a hat.
    bottom = np.zeros(labels.shape, bool)
    bottom[-1] = True
    _absorb_islands(labels, Label.TORSO, (Label.NECK, Label.HAIR, Label.HEAD), smallest, unless_touching=bottom)
    labels[_open_mouth(zones)] = Label.MOUTH
    return labels


def _one_body(person: np.ndarray, face: np.ndarray) -> np.ndarray:
    """The component that holds the face, without small holes."""
    _, components = cv2.connectedComponents(person.astype(np.uint8), connectivity=4)
    inside = components[face]
    if inside.size == 0:
        return person
    body = components == np.bincount(inside[inside > 0], minlength=1).argmax()
    count, holes, stats, _ = cv2.connectedComponentsWithStats((~body).astype(np.uint8), connectivity=4)
    largest = max(4, int(4 * SMALL_SHARE * body.size))
    small = np.zeros(count, bool)
    small[1:] = stats[1:, cv2.CC_STAT_AREA] < largest
    return body | small[holes]


def _absorb_islands(
    labels: np.ndarray,
    label: Label,
    others: tuple[Label, ...],
    smallest: int,
    unless_touching: np.ndarray | None = None,
) -> None:
    """Give islands of ``label`` to that of ``others`` which borders them most, in place.

    Islands are components below ``smallest`` pixels, and components of any size that do not touch ``unless_touching``.
    """
    count, components, stats, _ = cv2.connectedComponentsWithStats((labels == label).astype(np.uint8), connectivity=4)
    for island in range(1, count):
        x, y, w, h, area = stats[island]
        window = np.s_[max(y - 1, 0) : y + h + 1, max(x - 1, 0) : x + w + 1]
        mask = components[window] == island
        if area >= smallest and (unless_touching is None or (mask & unless_touching[window]).any()):
            continue
        rim = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & ~mask
        around = np.bincount(labels[window][rim], minlength=len(Label))
        best = max(others, key=lambda other: around[other])
        if around[best]:
            labels[window][mask] = best


def teeth_mask(image: UInt8[np.ndarray, "H W 3"], zones: FaceZones) -> Bool[np.ndarray, "H W"]:
    """Pixels nearly as bright as skin and much paler than lips and skin, inside the inner lips or just outside.

    Landmarks draw the inner lips a pixel or two too tight, so teeth may reach that far beyond them.

    Deviation: TalkingGaussian takes a class of a portrait segmentation network. Reason: as for the parsing.
    """
    teeth, mouth = np.zeros(zones.mouth.shape, bool), _open_mouth(zones)
    if not mouth.any():
        return teeth
    reach = 2 * max(1, round(image.shape[0] / 256)) + 1
    rows, cols = np.flatnonzero(zones.lips.any(1)), np.flatnonzero(zones.lips.any(0))
    window = np.s_[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    lab = cv2.cvtColor(np.ascontiguousarray(image[window]), cv2.COLOR_RGB2LAB).astype(np.float32)
    lips = lab[(zones.lips & ~zones.mouth)[window]]
    # Every fourth pixel of every fourth row is plenty for a median.
    face = image[::4, ::4][(zones.below_brows & ~zones.lips)[::4, ::4]]
    if len(lips) == 0 or len(face) == 0:
        return teeth
    skin_lightness = np.median(cv2.cvtColor(face[None], cv2.COLOR_RGB2LAB)[..., 0])
    skin_saturation = np.median(_saturation(face))
    neutral = 128.0
    lip_redness = max(float(np.median(lips[:, 1])) - neutral, 4.0)
    whole = mouth[window].astype(np.uint8)
    near = cv2.dilate(whole, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))).astype(bool)
    # Either sign will do: video halves the resolution of chroma, so thin teeth inherit some of the lips' red.
    pale = lab[..., 1] - neutral < TEETH_REDNESS * lip_redness
    pale |= _saturation(image[window]) < TEETH_SATURATION * skin_saturation
    bright = lab[..., 0] > TEETH_LIGHTNESS * skin_lightness
    teeth[window] = _opened(pale & bright & near & zones.lips[window], 2)
    return teeth


def _open_mouth(zones: FaceZones) -> np.ndarray:
    """The inner lips without slivers: closed lips leave a thread of polygon that is lip, not mouth."""
    return _opened(zones.mouth, max(2, round(zones.mouth.shape[0] / 200)))


def _opened(mask: np.ndarray, size: int) -> np.ndarray:
    """Opening by a square; OpenCV's own shifts the mask when the side is even, for it does not mirror the square."""
    square, centre = np.ones((size, size), np.uint8), size // 2
    eroded = cv2.erode(mask.astype(np.uint8), square, anchor=(centre, centre))
    mirrored = size - 1 - centre
    return cv2.dilate(eroded, square, anchor=(mirrored, mirrored)).astype(bool)


def _saturation(image: np.ndarray) -> np.ndarray:
    """HSV saturation in [0, 1]."""
    value = image.max(-1).astype(np.float32)
    return 1 - image.min(-1) / np.maximum(value, 1)
