"""Background plate, torso layer and training target of every frame (docs/paper.md 2, steps 5 and 6)."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from emotalking.data import writer as write
from emotalking.data.files import SubjectFiles
from emotalking.data.labels import BODY, WHOLE_HEAD, Label, mask_of
from emotalking.data.readers import read_masks, read_subject_image
from emotalking.errors import InputError
from emotalking.ops.box import bounds
from emotalking.ops.matting import border_reach, coverage, nearest_colours
from emotalking.ops.pyramid import pull_push
from emotalking.preprocess.hidden_body import SAMPLES, HiddenBody
from emotalking.preprocess.steps import each_frame, map_frames
from emotalking.progress import track

MIN_DISTANCE_PX = 5.0
"""A pixel nearer than this to the foreground is not trusted (TalkingGaussian's value, at any image size)."""
FADE_PX = 24.0
"""Distance into the hidden area over which structures at its border dissolve into a smooth fill."""
NECK_EXTENSION_PX = 72
"""Length by which the neck continues behind the chin, at 512 px image height."""
TORSO_EXTENSION_PX = 9
"""The same of the torso behind the head."""
HAIR_EXTENSION_PX = 40
"""The same of neck and torso sideways behind long hair."""
NOTCH_PX, HORN_PX = 14, 6
"""Radii, at 512 px, of what is filled and cut off along the top of the body behind the head."""
SLIVER_PX = 8
"""Width of strips, at 512 px, that label maps draw along a jaw and call neck; on their own they would stay when the
head moves."""
DARKENING = 0.997
"""Factor per pixel (at 512 px) on the way up behind the chin."""
SEAM_PX = 2
"""Body this close to the head, at 512 px, is mixed with it and takes the colour of the body further away."""
SOFTNESS_PX = 0.9
"""Standard deviation of the alpha border, at 512 px."""
LEAST_ALPHA = 0.2
"""Alpha below which a pixel's colour follows the frame in part: what noise would add costs bytes."""


def make_background(files: SubjectFiles, count: int) -> dict[str, Any]:
    """Write ``bc.jpg`` from every fourth frame and its parsing."""
    frames = map_frames(track(range(0, count, 4), "background"), partial(_shown, files))
    write.write_background(files.root, background_plate(frames))
    return {}


def _shown(files: SubjectFiles, _: int, frame: int) -> tuple[np.ndarray, np.ndarray]:
    return read_subject_image(files.original(frame)), read_masks(files, frame).labels


def draw_layers(files: SubjectFiles, frames: Iterator[UInt8[np.ndarray, "H W 3"]], count: int) -> dict[str, Any]:
    """Write ``gt_imgs/`` and ``torso_imgs/`` of all frames, from parsing and plate."""
    sampled = np.unique(np.linspace(0, count - 1, min(count, SAMPLES)).astype(int)).tolist()
    hidden = HiddenBody(partial(_shown, files, 0), sampled)
    each_frame(frames, partial(_draw, files, read_subject_image(files.background), hidden), "layers", count)
    return {}


def _draw(files: SubjectFiles, plate: np.ndarray, hidden: HiddenBody, index: int, image: np.ndarray) -> None:
    labels = read_masks(files, index).labels
    target = training_target(image, labels, plate)
    write.write_torso(files.root, index, torso_layer(target, labels, plate, hidden))
    write.write_target(files.root, index, target)


class PlateBuilder:
    """Background plate, collected frame by frame in constant memory.

    Each pixel takes its colour from the frame where it is farthest from the foreground, which avoids the person's
    soft border and shadow; what no frame shows is filled.

    Deviation: distances by a distance transform, and every frame offered is used, where TalkingGaussian builds a
    kd-tree for every 20th frame. Reason: the same rule in milliseconds.

    Deviation: hidden pixels continue the nearest known one only near the border and then blend into a smooth
    interpolation. Reason: nearest-pixel fill alone leaves streaks that show when the head moves.
    """

    def __init__(self, height: int, width: int) -> None:
        self._colour = np.zeros((height, width, 3), np.uint8)
        self._distance = np.full((height, width), MIN_DISTANCE_PX, np.float32)

    def add(self, image: UInt8[np.ndarray, "H W 3"], foreground: Bool[np.ndarray, "H W"]) -> None:
        """Add one RGB frame; ``foreground`` is True on the person."""
        if foreground.any():
            distance = cv2.distanceTransform((~foreground).astype(np.uint8), cv2.DIST_L2, 5)
        else:
            distance = np.full(foreground.shape, float(sum(foreground.shape)), np.float32)
        better = distance > self._distance
        self._distance[better] = distance[better]
        self._colour[better] = image[better]

    @property
    def known(self) -> Bool[np.ndarray, "H W"]:
        """True where some frame showed the background."""
        return self._distance > MIN_DISTANCE_PX

    def finish(self) -> UInt8[np.ndarray, "H W 3"]:
        """The plate, RGB.

        Raises:
            InputError: if no frame shows any background.
        """
        if not self.known.any():
            raise InputError("No background is visible in the clip: the person fills every frame; use a wider shot.")
        return fill_hidden(self._colour, self.known)


def fill_hidden(image: UInt8[np.ndarray, "H W 3"], known: Bool[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """Fill the pixels that are not ``known``: nearest known pixel at the border, smooth pull-push fill inside.

    Args:
        image: RGB; arbitrary where not known.
        known: at least one pixel is True.
    """
    if known.all():
        return image.copy()
    carried, distance = nearest_colours(image, known)
    nearest = cv2.GaussianBlur(carried.astype(np.float32), (0, 0), 1.5)
    weight = np.exp(-distance / FADE_PX)[..., None]
    filled = weight * nearest + (1 - weight) * pull_push(image.astype(np.float32), known.astype(np.float32))
    return np.where(known[..., None], image, np.clip(filled + 0.5, 0, 255).astype(np.uint8))


def background_plate(
    frames: Iterable[tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"]]],
) -> UInt8[np.ndarray, "H W 3"]:
    """The plate from (RGB frame, labels) pairs, read once.

    Raises:
        InputError: if there is no frame, or none shows background.
    """
    builder: PlateBuilder | None = None
    for image, labels in frames:
        if builder is None:
            builder = PlateBuilder(image.shape[0], image.shape[1])
        builder.add(image, np.asarray(labels != Label.BACKGROUND))
    if builder is None:
        raise InputError("The clip has no frame to take the background from: check that it can be played.")
    return builder.finish()


def torso_layer(
    image: UInt8[np.ndarray, "H W 3"],
    labels: UInt8[np.ndarray, "H W"],
    plate: UInt8[np.ndarray, "H W 3"] | None = None,
    hidden: HiddenBody | None = None,
) -> UInt8[np.ndarray, "H W 4"]:
    """Torso and neck as straight RGBA, continued behind head and hair so that a moving chin opens no gap.

    Deviation: TalkingGaussian repeats the top row of neck and torso column by column, 53 and 9 pixels high, with a
    factor .98 per pixel. Here the nearest body colour continues, blurred, with .997, under a top with round
    shoulders, and sideways behind hair below the chin; the alpha is soft by about two pixels. Reason: heads put
    over the torso of another frame (24 clips, extremes of the pose) showed gaps (a chin travels 70 pixels), columns,
    dark bands, corners next to the jaw and holes next to long hair.

    What other frames show behind the head is taken from there (:class:`HiddenBody`), and continued where it ends.
    Clear of the head, the layer over the plate is the frame.

    Args:
        image: RGB frame, over the plate if there is one (:func:`training_target`).
        labels: :class:`Label` per pixel.
        plate: clean background, RGB, which tells how much of its border the body covers; None: the outline alone does.
        hidden: what other frames show; None: nothing.
    """
    height, scale = len(image), len(image) / 512
    layer = np.zeros((*labels.shape, 4), np.uint8)
    labels = _without_slivers(labels, scale)
    rows = np.flatnonzero(mask_of(labels, *BODY).any(1))
    if len(rows) == 0:
        return layer
    # The rows above the extension do not change, so only the rows from there on are processed.
    window = np.s_[max(0, int(rows[0] - (NECK_EXTENSION_PX + 4) * scale)) :]
    head = mask_of(labels, *WHOLE_HEAD)[window]
    covered, chin = None, _chin(labels[window])
    seen, person = image[window], labels[window] != Label.BACKGROUND
    if plate is not None:
        covered = coverage(seen, person, plate[window], frame_height=height)
    if hidden is not None:
        image, labels = hidden.behind(image, labels)
    image, labels = image[window], labels[window]
    neck_behind, torso_behind = _behind_head(labels, chin, scale)
    colour = _body_colours(image, labels, neck_behind, torso_behind, scale)
    body = mask_of(labels, *BODY)
    alpha = _soft(body | neck_behind | torso_behind, scale)
    if plate is not None and covered is not None:
        mixed = 2 * border_reach(height) + 1
        by_head = cv2.dilate(head.view(np.uint8), np.ones((mixed, mixed), np.uint8))
        alpha = np.asarray(cv2.copyTo(alpha, by_head, covered), np.uint8)
        _match(colour, alpha, seen, plate[window], by_head == 0)
    layer[window] = cv2.merge([cv2.copyTo(colour, alpha), alpha])
    return layer


def _match(colour: np.ndarray, alpha: np.ndarray, seen: np.ndarray, plate: np.ndarray, where: np.ndarray) -> None:
    """Change the colours of a layer so that, over the plate, it is the frame that is ``seen``.

    With the colours of the nearest body alone the border of a shoulder is a row of light and dark dots.
    """
    clear = cv2.copyTo(alpha, where.view(np.uint8))
    cv2.copyTo(seen, cv2.inRange(clear, (255,), (255,)), colour)
    border = np.flatnonzero(cv2.inRange(clear, (1,), (254,)))
    share = alpha.ravel().take(border)[:, None] / np.float32(255)
    front, mixed, back = (each.reshape(-1, 3).take(border, 0).astype(np.float32) for each in (colour, seen, plate))
    lacking = mixed - share * front - (1 - share) * back
    colour.reshape(-1, 3)[border] = np.clip(front + lacking / np.maximum(share, LEAST_ALPHA) + 0.5, 0, 255)


def training_target(
    image: UInt8[np.ndarray, "H W 3"], labels: UInt8[np.ndarray, "H W"], plate: UInt8[np.ndarray, "H W 3"]
) -> UInt8[np.ndarray, "H W 3"]:
    """The frame with its background replaced by the plate, blended over about two pixels outside the person.

    Deviation: TalkingGaussian switches at the mask's edge. Reason: the frame's border pixels already mix person and
    background; a hard cut gives a saw-tooth, while the blend is invisible where plate and background agree.

    Args:
        image: RGB frame.
        labels: :class:`Label` per pixel.
        plate: clean background, RGB.
    """
    person = labels != Label.BACKGROUND
    outer = cv2.dilate(person.view(np.uint8), np.ones((3, 3), np.uint8))
    alpha = _soft(outer.view(bool), image.shape[0] / 512)
    out = plate.copy()
    cv2.copyTo(image, outer, out)
    border = np.flatnonzero(cv2.inRange(alpha, (1,), (254,)))  # elsewhere the mean is one of the two
    share = alpha.ravel().take(border)[:, None] / np.float32(255)
    front, back = (each.reshape(-1, 3).take(border, 0) for each in (image, plate))
    out.reshape(-1, 3)[border] = share * front + (1 - share) * back + 0.5
    return out


def _soft(mask: Bool[np.ndarray, "H W"], scale: float) -> UInt8[np.ndarray, "H W"]:
    """255 inside a mask, with its border blurred to about two pixels."""
    sigma = max(SOFTNESS_PX * scale, 0.6)
    size = 2 * round(4 * sigma) + 1  # OpenCV's choice for 8 bits cuts the blur off at three deviations
    return np.asarray(cv2.GaussianBlur(mask.view(np.uint8) * np.uint8(255), (size, size), sigma), np.uint8)


def _without_slivers(labels: np.ndarray, scale: float) -> np.ndarray:
    """Labels whose long strips of body along the head, narrower than :data:`SLIVER_PX`, are of the head."""
    size = 2 * max(1, round(SLIVER_PX / 2 * scale)) + 1
    window = bounds(mask_of(labels, *BODY), size)
    body = mask_of(labels[window], *BODY)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    thin = body & ~cv2.morphologyEx(body.view(np.uint8), cv2.MORPH_OPEN, disc).view(bool)
    count, found = cv2.connectedComponents(thin.view(np.uint8))
    parts = np.asarray(found, np.int32)
    # OpenCV's statistics of components take longer than the components: few pixels are of any.
    longest, of = np.zeros(count, int), parts[thin]
    for places in np.nonzero(thin):
        low, high = np.full(count, parts.size), np.zeros(count, int)
        np.minimum.at(low, of, places)
        np.maximum.at(high, of, places)
        longest = np.maximum(longest, high - low + 1)
    long = longest >= 3 * SLIVER_PX * scale
    long[0] = False
    if not long.any():
        return labels
    head = mask_of(labels[window], *WHOLE_HEAD).view(np.uint8)
    sliver = long.take(parts) & cv2.dilate(head, disc).view(bool)
    out = labels.copy()
    out[window][sliver] = Label.HEAD
    return out


def _chin(labels: np.ndarray) -> int | None:
    """The last row in which head and neck touch; None: in none."""
    touching = cv2.dilate((labels == Label.NECK).astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    contact = np.flatnonzero((touching & mask_of(labels, Label.HEAD)).any(1))
    return int(contact[-1]) if len(contact) else None


def _behind_head(labels: np.ndarray, chin: int | None, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Head and hair pixels behind which the neck (a long way up) and the torso (a little) continue."""
    # Only above body in the same column: a neck does not grow sideways behind the ears.
    rows = np.arange(len(labels), dtype=np.int16)[:, None]
    neck_label, torso_label, head = labels == Label.NECK, labels == Label.TORSO, mask_of(labels, *WHOLE_HEAD)
    # Clear of the outline, so that the layer is never visible next to a head that moved a little; but up to the body,
    # or a notch would show between them at a collar's tip.
    margin = np.ones((2 * max(1, round(3 * scale)) + 1,) * 2, np.uint8)
    person = (labels != Label.BACKGROUND).view(np.uint8)
    near_body = cv2.dilate(mask_of(labels, *BODY).view(np.uint8), margin).view(bool)
    allowed = head & (near_body | cv2.erode(person, margin).view(bool))
    neck, torso = (
        _reached(allowed & (rows <= np.where(source, rows, np.int16(-1)).max(0)), source, reach * scale)
        for source, reach in ((neck_label, NECK_EXTENSION_PX), (torso_label, TORSO_EXTENSION_PX))
    )
    if chin is not None:
        near = _reached(neck, neck_label | torso_label, TORSO_EXTENSION_PX * scale)
        neck &= near | _cap(neck_label.any(0), chin, labels.shape, NECK_EXTENSION_PX * scale)
        # Body is behind long hair, too; only there does hair reach below the chin.
        hanging = labels == Label.HAIR
        hanging[:chin] = False
        torso |= _reached(hanging, neck_label | torso_label, HAIR_EXTENSION_PX * scale)
    return _rounded(neck, torso, labels, allowed, scale)


def _reached(target: np.ndarray, source: np.ndarray, reach: float) -> Bool[np.ndarray, "H W"]:
    """Pixels of ``target`` that are at most ``reach`` pixels from ``source``."""
    out = np.zeros_like(target)
    if target.any():
        window = bounds(target, int(reach) + 2)
        inner = bounds(target[window] | source[window])  # shortest ways leave it nowhere
        away = (~source[window][inner]).view(np.uint8)
        distance = cv2.distanceTransform(away, cv2.DIST_L2, 5)
        out[window][inner] = target[window][inner] & (distance <= reach) & (not away.all())
    return out


def _rounded(
    neck: np.ndarray, torso: np.ndarray, labels: np.ndarray, allowed: np.ndarray, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Both regions without the horns, notches and specks that label maps leave where jaw, neck and collar meet."""
    out = np.zeros((2, *labels.shape), bool)
    sizes = [2 * max(1, round(radius * scale)) + 1 for radius in (NOTCH_PX, HORN_PX)]
    window = bounds(allowed | neck | torso, sum(sizes))  # what is further away changes no pixel of them
    neck, torso, labels, allowed = (part[window] for part in (neck, torso, labels, allowed))
    body = mask_of(labels, *BODY)
    solid = (body | neck | torso).view(np.uint8)
    for operation, size in zip((cv2.MORPH_CLOSE, cv2.MORPH_OPEN), sizes, strict=True):
        solid = cv2.morphologyEx(solid, operation, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))
    behind = solid.astype(bool) & (allowed | neck | torso) & ~body
    # Above the tip of a collar is skin; a jacket continued there shows as a knob.
    skin = cv2.dilate((neck | (labels == Label.NECK)).view(np.uint8), np.ones((sizes[1], sizes[1]), np.uint8))
    out[0][window] = behind & skin.view(bool)
    out[1][window] = behind & ~out[0][window]
    return out[0], out[1]


def _cap(row: Bool[np.ndarray, " W"], chin: int, shape: tuple[int, ...], height: float) -> Bool[np.ndarray, "H W"]:
    """A column with round shoulders over the columns of ``row``, ``height`` pixels above the ``chin``."""
    columns = np.flatnonzero(row)
    middle, half = (columns[0] + columns[-1]) / 2, max((columns[-1] - columns[0]) / 2, 1.0)
    x = np.clip(np.abs(np.arange(shape[1]) - middle) / half, 0, 1)
    return np.arange(shape[0])[:, None] >= chin - height * np.sqrt(1 - x**6)


def _extend_colours(
    image: np.ndarray, source: np.ndarray, border: np.ndarray, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Every pixel's nearest colour of ``source`` clear of its ``border``, and the distance to it."""
    inset = 2 * max(1, round(1.5 * scale)) + 1
    inner = cv2.erode(source.astype(np.uint8), np.ones((inset, inset), np.uint8)).astype(bool) & ~border
    if not inner.any():
        return nearest_colours(image, source)
    carried, distance = nearest_colours(image, inner)
    return carried, np.maximum(distance - inset // 2 - 1, 0)


def _body_colours(
    image: np.ndarray, labels: np.ndarray, neck_behind: np.ndarray, torso_behind: np.ndarray, scale: float
) -> UInt8[np.ndarray, "H W 3"]:
    """The frame's colours inside the body, continued outwards and behind the head."""
    body = mask_of(labels, *BODY)
    border = cv2.dilate((labels == Label.BACKGROUND).astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    seam = 2 * max(2, round(SEAM_PX * scale)) + 1
    head = mask_of(labels, *WHOLE_HEAD).astype(np.uint8)
    border |= cv2.dilate(head, np.ones((seam, seam), np.uint8)).astype(bool)
    carried, distance = _extend_colours(image, body, border, scale)
    mixed = (body & border) | ~body
    colour = image.copy()
    cv2.copyTo(carried, mixed.view(np.uint8), colour)
    # A strip of neck beside the jaw is all border: the nearest body is skin here, collar there, and shows as stitches.
    neck = neck_behind | (mixed & (labels == Label.NECK))
    for region, source, blur in ((torso_behind, body, 2.0), (neck, labels == Label.NECK, 5.0)):
        if not region.any():
            continue
        sigma = max(blur * scale, 1)
        reach = int(4 * sigma) + 2  # of OpenCV's filter
        window = bounds(region, reach)
        if source is body:
            near, away = carried[window], distance[window]
        else:
            whole = bounds(region | source, reach)
            near, away = _extend_colours(image[whole], source[whole], border[whole], scale)
            top, left = window[0].start - whole[0].start, window[1].start - whole[1].start
            within = np.s_[top : top + len(region[window]), left : left + region[window].shape[1]]
            near, away = near[within], away[within]
        smooth = cv2.GaussianBlur(near.astype(np.float32), (0, 0), sigma)
        part = region[window]
        places = np.flatnonzero(part)
        shade = np.float32(DARKENING) ** (np.ascontiguousarray(away).ravel().take(places) / np.float32(scale))
        darker = smooth.reshape(-1, 3).take(places, 0) * shade[:, None]
        colour[window][part] = np.clip(darker + 0.5, 0, 255).astype(np.uint8)
    return colour
