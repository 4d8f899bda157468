"""Label map of a frame from class scores: borders at full resolution, connected regions, neck, mouth and teeth."""

from functools import cache

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from emotalking.data.labels import Label
from emotalking.ops.box import bounds
from emotalking.ops.regions import absorb_islands, connected_to, fill_holes
from emotalking.preprocess.parsing.geometry import CELLS, FaceZones, place_in_head
from emotalking.preprocess.parsing.model import BACKGROUND, CLOTHES, HAIR, SKIN

SMALL_SHARE = 5e-4
"""Islands below this share of the image are absorbed by what surrounds them."""
BRIDGE = 0.07
"""Half the width, in eye distances, of the thinnest bridge that connects a region to its root."""
TEETH_REDNESS = 0.6
"""Teeth are below this share of the lips' redness (Lab a) or ..."""
TEETH_SATURATION = 0.75
"""... below this share of the skin's saturation, and ..."""
TEETH_LIGHTNESS = 0.6
"""... above this share of the skin's lightness."""
THINNEST_MOUTH = 0.045
"""Lips parted by less than this share of the mouth's width are closed."""


def remove_detached(
    scores: Float32[np.ndarray, "h w 4"], zones: FaceZones, to_map: Float[np.ndarray, "2 3"]
) -> Float32[np.ndarray, "h w 4"]:
    """Remove from every material what is not connected to its root; the next likeliest material of a person gets it.

    Roots: the face for skin, the crown for hair, the image's lower border for clothes, the jaw for the neck. What is
    cut off is, for example, the shadow inside a hood (no hair), a tie (no neck) or dark locks (no clothes).

    Args:
        scores: skin, hair, clothes, background at working size, summing to 1.
        zones: the landmarks' zones at that size.
        to_map: similarity from its pixels to the head frame's cells.
    """
    scores = scores.copy()
    scale = float(np.hypot(to_map[0, 0], to_map[1, 0]))  # cells a pixel
    reach = max(1, round(BRIDGE * CELLS / scale))
    _, height = place_in_head(to_map, (scores.shape[0], scores.shape[1]))
    material = _likeliest(scores)
    bottom = np.zeros(material.shape, bool)
    bottom[-1] = True
    face = cv2.dilate(zones.oval.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    neck = (material == SKIN) & zones.under_jaw & ~zones.oval
    for region, root, kind, bridge in (
        ((material == SKIN) & ~zones.under_jaw | zones.oval, zones.oval, SKIN, reach),
        (neck, face, SKIN, reach),
        # An ear may cover most of the hair that joins a lock to the crown.
        (material == HAIR, (height < 0.2) & ~zones.oval, HAIR, 1),
        (material == CLOTHES, bottom, CLOTHES, reach),
    ):
        _reassign_scores(scores, kind, detached(region, root, bridge) & ~zones.oval)
    return scores


def detached(region: Bool[np.ndarray, "h w"], root: Bool[np.ndarray, "h w"], reach: int) -> Bool[np.ndarray, "h w"]:
    """Parts of ``region`` that are not connected to ``root``, or only by a bridge of at most ``2 * reach`` pixels.

    Fringes too thin to hold a disc of that size stay, so that strands and outlines are not eaten.
    """
    loose = region & ~connected_to(region, root)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    core = cv2.erode(region.view(np.uint8), disc).view(bool)
    # A root along the region's border is hit by the disc, not by its centre.
    kept = connected_to(core, cv2.dilate((root & region).view(np.uint8), disc).view(bool))
    cut = core & ~kept
    if not cut.any() or not kept.any():
        return loose
    wider = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 3, 2 * reach + 3))
    away, near = (cv2.dilate(part.view(np.uint8), wider).view(bool) for part in (cut, kept))
    return loose | (region & away & ~near)


def _likeliest(scores: np.ndarray) -> UInt8[np.ndarray, "h w"]:
    """Material of the highest score; numpy and OpenCV reduce a last axis of four at a tenth of the speed."""
    best, *others = cv2.split(scores)
    material = np.zeros(best.shape, np.uint8)
    for index, other in enumerate(others, start=1):
        material[other > best] = index
        np.maximum(best, other, out=best)
    return material


def _reassign_scores(scores: np.ndarray, kind: int, where: np.ndarray) -> None:
    """Move the score of ``kind`` to the likeliest other material of a person, in place."""
    places = np.flatnonzero(where)
    if len(places) == 0:
        return
    flat = scores.reshape(-1, scores.shape[-1])
    part = flat.take(places, 0)
    mass = part[:, kind].copy()
    part[:, kind] = -1
    other = part[:, :BACKGROUND].argmax(1)
    part[:, kind] = 0
    part[np.arange(len(part)), other] += mass
    flat[places] = part


def labels_from_ranks(ranks: UInt8[np.ndarray, "H W"], zones: FaceZones) -> UInt8[np.ndarray, "H W"]:
    """Decide the material of every pixel, divide skin into head and neck at the jaw, and clear islands and holes.

    Args:
        ranks: of skin, hair, clothes, background (:func:`~emotalking.ops.guided.guided_ranks`).
        zones: the landmarks' zones.
    """
    person = (ranks < 1 << (BACKGROUND - 1)) | zones.oval
    smallest = max(4, int(SMALL_SHARE * person.size))
    if zones.oval.any():
        # A hole of the person keeps its likeliest material that is not background.
        person = fill_holes(connected_to(person, zones.oval, most=True), max(4, int(4 * SMALL_SHARE * person.size)))
    facts = ranks & np.uint8((1 << (BACKGROUND - 1)) - 1)
    for bit, fact in enumerate((zones.oval, zones.below_brows, zones.under_jaw, person), start=BACKGROUND - 1):
        facts |= fact.view(np.uint8) * np.uint8(1 << bit)  # numpy shifts at an eighth of the speed
    labels = np.asarray(cv2.LUT(facts, _label_table()), np.uint8)
    for label, others, root in (
        (Label.HEAD, (Label.HAIR, Label.NECK), None),
        (Label.HAIR, (Label.HEAD, Label.NECK, Label.TORSO), ~zones.under_jaw),
        (Label.NECK, (Label.TORSO, Label.HEAD), None),
        (Label.TORSO, (Label.NECK, Label.HAIR, Label.HEAD), None),
    ):
        absorb_islands(labels, label, others, smallest, root)
    np.copyto(labels, np.uint8(Label.MOUTH), where=open_mouth(zones))
    return labels


@cache
def _label_table() -> UInt8[np.ndarray, "256"]:
    """Label of every combination of facts about a pixel: bits of :func:`labels_from_ranks`."""
    facts = np.arange(256)
    hairy, dressed, oval, below_brows, under_jaw, person = (facts >> bit & 1 for bit in range(6))
    skin = np.where(oval, ~(hairy & ~below_brows & 1) & 1, ~(hairy | dressed) & 1)
    labels = np.where(dressed & ~oval & 1, Label.TORSO, Label.HAIR)
    labels = np.where(skin, np.where(under_jaw & ~oval & 1, Label.NECK, Label.HEAD), labels)
    return np.where(person, labels, Label.BACKGROUND).astype(np.uint8)


def teeth_mask(image: UInt8[np.ndarray, "H W 3"], zones: FaceZones) -> Bool[np.ndarray, "H W"]:
    """Pixels nearly as bright as skin and much paler than lips and skin, inside the inner lips or just outside.

    Landmarks draw the inner lips a pixel or two too tight, so teeth may reach that far beyond them.

    Deviation: TalkingGaussian takes a class of a portrait segmentation network. Reason: as for the parsing.
    """
    teeth, mouth = np.zeros(zones.mouth.shape, bool), open_mouth(zones)
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


def open_mouth(zones: FaceZones) -> np.ndarray:
    """The inner lips without slivers: a thin polygon between closed lips is lip, not mouth."""
    left, _, width, _ = cv2.boundingRect(zones.lips.view(np.uint8))
    if width == 0:
        return zones.mouth
    size = max(2, round(THINNEST_MOUTH * (width - 1)))
    out = np.zeros(zones.mouth.shape, bool)
    window = bounds(zones.mouth, 1)
    mouth = np.ascontiguousarray(zones.mouth[window])
    parted = _opened(mouth, size).view(np.uint8)
    # Restore what the square cut off at the corners of an open mouth.
    out[window] = mouth & cv2.dilate(parted, np.ones((2 * size + 1, 2 * size + 1), np.uint8)).view(bool)
    return out


def _opened(mask: np.ndarray, size: int) -> np.ndarray:
    """Opening by a square; OpenCV's own shifts the mask when the side is even, for it does not mirror the square."""
    square, centre = np.ones((size, size), np.uint8), size // 2
    eroded = cv2.erode(mask.astype(np.uint8), square, anchor=(centre, centre))
    mirrored = size - 1 - centre
    return cv2.dilate(eroded, square, anchor=(mirrored, mirrored)).view(bool)


def _saturation(image: np.ndarray) -> np.ndarray:
    """HSV saturation in [0, 1]."""
    value = image.max(-1).astype(np.float32)
    return 1 - image.min(-1) / np.maximum(value, 1)
