"""From class scores to the labels of a frame: what hangs together, and where the neck begins."""

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from emotalking.data.labels import Label
from emotalking.preprocess.parsing.geometry import CELLS, FaceZones, place_in_head
from emotalking.preprocess.parsing.model import BACKGROUND, CLOTHES, HAIR, SKIN
from emotalking.preprocess.parsing.mouth import open_mouth

SMALL_SHARE = 5e-4
"""Islands below this share of the image are absorbed by what surrounds them."""
BRIDGE = 0.07
"""Half the width, in eye distances, of what a region may hang by: a thinner bridge does not join it to its root."""
_LABEL_OF_MATTER = np.array([Label.HEAD, Label.HAIR, Label.TORSO, Label.BACKGROUND], np.uint8)


def settle(
    scores: Float32[np.ndarray, "h w 4"], zones: FaceZones, to_map: Float[np.ndarray, "2 3"]
) -> Float32[np.ndarray, "h w 4"]:
    """Take from every matter what does not hang on its root; the next likeliest matter of a person gets it.

    Roots: the face for skin, the crown for hair, the picture's lower border for clothes, the jaw for the neck. What is
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
    matter = scores.argmax(-1)
    bottom = np.zeros(matter.shape, bool)
    bottom[-1] = True
    face = cv2.dilate(zones.oval.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    neck = (matter == SKIN) & zones.under_jaw & ~zones.oval
    for region, root, kind, bridge in (
        ((matter == SKIN) & ~zones.under_jaw | zones.oval, zones.oval, SKIN, reach),
        (neck, face, SKIN, reach),
        # An ear may leave little of the hair that joins a lock to the crown.
        (matter == HAIR, (height < 0.2) & ~zones.oval, HAIR, 1),
        (matter == CLOTHES, bottom, CLOTHES, reach),
    ):
        _give_away(scores, kind, unrooted(region, root, bridge) & ~zones.oval)
    return scores


def unrooted(region: Bool[np.ndarray, "h w"], root: Bool[np.ndarray, "h w"], reach: int) -> Bool[np.ndarray, "h w"]:
    """The parts of ``region`` that do not hang on ``root``, or only by a bridge of at most ``2 * reach`` pixels.

    Fringes too thin to hold a disc of that size stay, so that strands and outlines are not eaten.
    """
    mask = region.astype(np.uint8)
    whole = np.asarray(cv2.connectedComponents(mask, connectivity=4)[1], np.int32)
    loose = region & ~_marked(whole, root)[whole]
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    wider = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 3, 2 * reach + 3))
    core = np.asarray(cv2.connectedComponents(cv2.erode(mask, disc), connectivity=4)[1], np.int32)
    # A root that lies along the region's border is met by the disc, not by its centre.
    near_root = cv2.dilate((root & region).astype(np.uint8), disc).astype(bool)
    kept = _marked(core, near_root)[core]
    if not kept.any():
        return loose
    cut = cv2.dilate(((core > 0) & ~kept).astype(np.uint8), wider).astype(bool)
    near = cv2.dilate(kept.astype(np.uint8), wider).astype(bool)
    return loose | (region & cut & ~near)


def _marked(components: np.ndarray, mark: np.ndarray) -> np.ndarray:
    """For each component whether a pixel of it is in ``mark``; the 0th, what is none, never is."""
    table = np.zeros(int(components.max()) + 1, bool)
    table[components[mark]] = True
    table[0] = False
    return table


def _give_away(scores: np.ndarray, kind: int, where: np.ndarray) -> None:
    """Move the score of ``kind`` to the likeliest other matter of a person, in place."""
    if not where.any():
        return
    part = scores[where]
    mass = part[:, kind].copy()
    part[:, kind] = -1
    other = part[:, :BACKGROUND].argmax(1)
    part[:, kind] = 0
    part[np.arange(len(part)), other] += mass
    scores[where] = part


def labels_from_matter(scores: Float32[np.ndarray, "4 H W"], zones: FaceZones) -> UInt8[np.ndarray, "H W"]:
    """Decide the matter of every pixel, divide skin into head and neck at the jaw, and clear islands and holes."""
    inside = np.where(scores[HAIR] > scores[SKIN], np.uint8(HAIR), np.uint8(SKIN))
    best = np.maximum(scores[HAIR], scores[SKIN])
    inside[scores[CLOTHES] > best] = CLOTHES
    np.maximum(best, scores[CLOTHES], out=best)
    matter = np.where(scores[BACKGROUND] > best, np.uint8(BACKGROUND), inside)
    matter[zones.oval] = SKIN
    matter[zones.oval & ~zones.below_brows & (scores[HAIR] > scores[SKIN])] = HAIR
    person = _one_body(matter != BACKGROUND, zones.oval)
    # A hole takes the likeliest matter that is not background.
    matter = np.where(person, np.where(matter == BACKGROUND, inside, matter), np.uint8(BACKGROUND))
    labels = _LABEL_OF_MATTER[matter]
    labels[zones.under_jaw & ~zones.oval & (matter == SKIN)] = Label.NECK
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
