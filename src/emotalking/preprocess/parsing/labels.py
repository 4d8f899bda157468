"""Label map of a frame from class scores: borders at full resolution, connected regions, neck, mouth and teeth."""

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from emotalking.data.labels import Label
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
GUIDE_RADIUS, GUIDE_EPSILON = 5, 4e-4
"""Window (working pixels) and regulariser of the guided filter (He et al. 2013), colours in [0, 1]."""
_LABEL_OF_MATERIAL = np.array([Label.HEAD, Label.HAIR, Label.TORSO, Label.BACKGROUND], np.uint8)


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
    material = scores.argmax(-1)
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
    mask = region.astype(np.uint8)
    whole = np.asarray(cv2.connectedComponents(mask, connectivity=4)[1], np.int32)
    loose = region & ~_marked(whole, root)[whole]
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    wider = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 3, 2 * reach + 3))
    core = np.asarray(cv2.connectedComponents(cv2.erode(mask, disc), connectivity=4)[1], np.int32)
    # A root along the region's border is hit by the disc, not by its centre.
    near_root = cv2.dilate((root & region).astype(np.uint8), disc).astype(bool)
    kept = _marked(core, near_root)[core]
    if not kept.any():
        return loose
    cut = cv2.dilate(((core > 0) & ~kept).astype(np.uint8), wider).astype(bool)
    near = cv2.dilate(kept.astype(np.uint8), wider).astype(bool)
    return loose | (region & cut & ~near)


def _marked(components: np.ndarray, mark: np.ndarray) -> np.ndarray:
    """For each component whether a pixel of it is in ``mark``; always False for the 0th, the rest."""
    table = np.zeros(int(components.max()) + 1, bool)
    table[components[mark]] = True
    table[0] = False
    return table


def _reassign_scores(scores: np.ndarray, kind: int, where: np.ndarray) -> None:
    """Move the score of ``kind`` to the likeliest other material of a person, in place."""
    if not where.any():
        return
    part = scores[where]
    mass = part[:, kind].copy()
    part[:, kind] = -1
    other = part[:, :BACKGROUND].argmax(1)
    part[:, kind] = 0
    part[np.arange(len(part)), other] += mass
    scores[where] = part


def labels_from_scores(scores: Float32[np.ndarray, "4 H W"], zones: FaceZones) -> UInt8[np.ndarray, "H W"]:
    """Decide the material of every pixel, divide skin into head and neck at the jaw, and clear islands and holes."""
    inside = np.where(scores[HAIR] > scores[SKIN], np.uint8(HAIR), np.uint8(SKIN))
    best = np.maximum(scores[HAIR], scores[SKIN])
    inside[scores[CLOTHES] > best] = CLOTHES
    np.maximum(best, scores[CLOTHES], out=best)
    material = np.where(scores[BACKGROUND] > best, np.uint8(BACKGROUND), inside)
    material[zones.oval] = SKIN
    material[zones.oval & ~zones.below_brows & (scores[HAIR] > scores[SKIN])] = HAIR
    person = _person_component(material != BACKGROUND, zones.oval)
    # A hole takes the likeliest material that is not background.
    material = np.where(person, np.where(material == BACKGROUND, inside, material), np.uint8(BACKGROUND))
    labels = _LABEL_OF_MATERIAL[material]
    labels[zones.under_jaw & ~zones.oval & (material == SKIN)] = Label.NECK
    smallest = max(4, int(SMALL_SHARE * labels.size))
    for label, others, root in (
        (Label.HEAD, (Label.HAIR, Label.NECK), None),
        (Label.HAIR, (Label.HEAD, Label.NECK, Label.TORSO), ~zones.under_jaw),
        (Label.NECK, (Label.TORSO, Label.HEAD), None),
        (Label.TORSO, (Label.NECK, Label.HAIR, Label.HEAD), None),
    ):
        _absorb_islands(labels, label, others, smallest, root)
    labels[open_mouth(zones)] = Label.MOUTH
    return labels


def _person_component(person: np.ndarray, face: np.ndarray) -> np.ndarray:
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
    labels: np.ndarray, label: Label, others: tuple[Label, ...], smallest: int, root: np.ndarray | None
) -> None:
    """Give islands of ``label`` to that of ``others`` which borders them most, in place.

    Islands are components below ``smallest`` pixels, and those of any size that do not touch ``root``.
    """
    count, components, stats, _ = cv2.connectedComponentsWithStats((labels == label).astype(np.uint8), connectivity=4)
    for island in range(1, count):
        x, y, w, h, area = stats[island]
        if area >= smallest and root is None:
            continue
        window = np.s_[max(y - 1, 0) : y + h + 1, max(x - 1, 0) : x + w + 1]
        mask = components[window] == island
        if area >= smallest and root is not None and (mask & root[window]).any():
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
    cols = np.flatnonzero(zones.lips.any(0))
    if len(cols) == 0:
        return zones.mouth
    size = max(2, round(THINNEST_MOUTH * (cols[-1] - cols[0])))
    parted = _opened(zones.mouth, size).astype(np.uint8)
    # Restore what the square cut off at the corners of an open mouth.
    return zones.mouth & cv2.dilate(parted, np.ones((2 * size + 1, 2 * size + 1), np.uint8)).astype(bool)


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


def guided_upsample(
    scores: Float32[np.ndarray, "h w C"], image: UInt8[np.ndarray, "H W 3"]
) -> Float32[np.ndarray, "C H W"]:
    """Upsample class scores to the image's resolution so that their borders follow its edges.

    Source: guided filter with a colour guide (He, Sun, Tang 2013), its coefficients computed small and applied large
    (He, Sun 2015). The last class is the remainder.

    Args:
        scores: probabilities that sum to 1 over the classes.
        image: RGB guide.

    Returns:
        One plane a class, which is what the decisions afterwards read fastest; values exceed [0, 1] slightly.
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
    rr = second[0][..., 0] - mr * mr + GUIDE_EPSILON
    rg = second[0][..., 1] - mr * mg
    rb = second[0][..., 2] - mr * mb
    gg = second[1][..., 0] - mg * mg + GUIDE_EPSILON
    gb = second[1][..., 1] - mg * mb
    bb = second[1][..., 2] - mb * mb + GUIDE_EPSILON
    # Inverse of the symmetric 3x3 covariance by cofactors.
    i_rr = gg * bb - gb * gb
    i_rg = gb * rb - rg * bb
    i_rb = rg * gb - gg * rb
    i_gg = rr * bb - rb * rb
    i_gb = rb * rg - rr * gb
    i_bb = rr * gg - rg * rg
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
