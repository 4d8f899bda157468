"""The per-clip model of the embedded parser: colours and places of skin, hair, clothes and background.

Method (own): landmarks and a person segmentation name pixels that are certain; these give first colour histograms.
Expectation maximisation over sampled frames then re-estimates the histograms and a spatial prior that lives in the
head frame, so that it follows the head. A still background also gets a colour per pixel.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import cv2
import numpy as np
from jaxtyping import Float, Float32, Shaped, UInt8
from scipy.ndimage import gaussian_filter

from emotalking.data.layouts import FaceLayout
from emotalking.ops.materials import StillBackground, material_posteriors
from emotalking.ops.reference.materials import BINS, colour_bins
from emotalking.preprocess.parsing.geometry import (
    BOTTOM,
    CELLS,
    LEFT,
    MAP_SIZE,
    RIGHT,
    TOP,
    FaceZones,
    HeadFrame,
    apply_affine,
    face_zones,
    from_head,
    place_in_head,
    to_head,
)
from emotalking.preprocess.steps import map_frames

SKIN, HAIR, CLOTHES, BACKGROUND = range(4)
"""Material classes, told apart by colour; geometry divides skin into head and neck afterwards."""
UNIFORM_SHARE = 0.02
"""Share of a flat histogram in every colour model: no colour is impossible anywhere."""
BAND = 0.016
"""Half width of the border band where colour may move the person's outline, as a share of the image's longer side."""
RAY_STEPS = 20
LOCK = 0.08
"""Half the width, in eye distances, of the narrowest lock of hair that is followed onto the shoulders."""


@dataclass(frozen=True)
class Sample:
    """One frame at working size."""

    lab: UInt8[np.ndarray, "h w 3"]
    person: Float32[np.ndarray, "h w"]
    zones: FaceZones
    to_map: Float[np.ndarray, "2 3"]
    hanging: Float32[np.ndarray, "h w"]
    """1 next to the neck where no background separates the pixel from the temple: hair is there, or clothes under hair;
    0 elsewhere."""

    @cached_property
    def place(self) -> tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]:
        """x and y of every pixel in the head frame, eye distances."""
        return place_in_head(self.to_map, self.zones.size)

    @cached_property
    def bins(self) -> Shaped[np.ndarray, "h w"]:
        """Colour bin of every pixel."""
        return colour_bins(self.lab)


@dataclass(frozen=True)
class ClipModel:
    """Everything learned from the sampled frames; applied to any frame of the clip."""

    head: HeadFrame
    layout: FaceLayout
    colours: Float32[np.ndarray, "bins 4"]
    """Log density of each colour bin under skin, hair, clothes, background."""
    log_prior: Float32[np.ndarray, "rows cols 3"]
    """Logarithm of the share of skin, hair, clothes among the person's pixels, in the head frame."""
    plate: Float32[np.ndarray, "h w 3"]
    """Lab colour of the background at working size; NaN where it was never visible."""
    plate_noise: Float32[np.ndarray, "h w"]

    @cached_property
    def still(self) -> StillBackground:
        """The plate with the square of its noise and the log density of its own colour.

        A bin holds 8 x 4 x 4 levels, and densities are per bin.
        """
        density = np.float32(np.log(0.8 * 128 / 15.75)) - 3 * np.log(self.plate_noise)
        return StillBackground(self.plate, np.square(self.plate_noise), density)


def make_sample(
    image: UInt8[np.ndarray, "H W 3"],
    points: Shaped[np.ndarray, "K 2"],
    person: Float32[np.ndarray, "R C"],
    head: HeadFrame,
    layout: FaceLayout,
    size: tuple[int, int],
) -> Sample:
    """Resize one frame, and its ``person`` of any size, to working ``size`` (height, width)."""
    scale = np.array([size[1] / image.shape[1], size[0] / image.shape[0]])
    small = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB)
    points = np.asarray(points, np.float64) * scale
    person = cv2.resize(person, size[::-1], interpolation=cv2.INTER_AREA)
    to_map = head.affine_from_image(points)
    hanging = _hanging(person, to_map, _jaw(head, layout)[1])
    return Sample(lab, person, face_zones(points, layout, size), to_map, hanging)


def _hanging(person: np.ndarray, to_map: np.ndarray, half_width: float) -> Float32[np.ndarray, "h w"]:
    """1 for pixels next to the neck whose ray to the temple on their side stays on the person."""
    step = 2
    height, width = (-(-side // step) for side in person.shape)
    x, y = place_in_head(to_map * [step, step, 1], (height, width))
    whole = np.zeros(x.shape, np.float32)
    left = np.flatnonzero((np.abs(x) > half_width) & (y > 0))
    temples = (np.array([[-1.25 * half_width, -0.3], [1.25 * half_width, -0.3]]) - (LEFT, TOP)) * CELLS
    temples = apply_affine(cv2.invertAffineTransform(to_map), temples).astype(np.float32)
    begin = step * np.stack([left % width, left // width]).astype(np.float32)
    way = temples.T[:, (x.ravel()[left] > 0).astype(int)] - begin
    for share in np.linspace(0, 1, RAY_STEPS, dtype=np.float32):
        if not len(left):
            break
        cols, rows = begin + share * way
        inside = np.flatnonzero(cv2.remap(person, cols[None], rows[None], cv2.INTER_NEAREST)[0] > 0.5)
        if len(inside) < len(left):
            left, begin, way = left[inside], begin.take(inside, 1), way.take(inside, 1)
    whole.ravel()[left] = 1
    return cv2.resize(cv2.blur(whole, (3, 3)), person.shape[::-1])


def person_prior(person: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Probability of person without colours: the segmentation's, certain away from its outline."""
    radius = max(1, round(BAND * max(person.shape)))
    near = cv2.blur((person > 0.5).astype(np.float32), (2 * radius + 1, 2 * radius + 1))
    soft = np.clip(person, 0.04, 0.96)
    soft[(near > 1 - 1e-4) & (person > 0.75)] = 0.9999
    soft[(near < 1e-4) & (person < 0.25)] = 0.0001
    return soft


def class_scores(sample: Sample, model: ClipModel) -> Float32[np.ndarray, "h w 4"]:
    """Posterior probabilities of skin, hair, clothes, background at working size."""
    size, zones = (sample.person.shape[0], sample.person.shape[1]), sample.zones
    prior = from_head(model.log_prior, sample.to_map, size)
    person = person_prior(sample.person)
    return material_posteriors(
        sample.lab, model.colours, model.still, person, prior, sample.hanging, zones.oval, zones.below_brows
    )


def fit_model(samples: Sequence[Sample], head: HeadFrame, layout: FaceLayout, rounds: int = 4) -> ClipModel:
    """Expectation maximisation from certain pixels.

    Args:
        samples: frames spread over the clip, at one working size.
        head: head frame of the clip.
        layout: meaning of the landmarks.
        rounds: passes over the samples.
    """
    certain = _without_skin([_certain(sample, head, layout) for sample in samples], samples)
    seeds = _without_locks(certain, samples, _colours(certain, samples))
    plate, noise = _background_plate(samples)
    start = _first_prior(head, layout)
    model = ClipModel(head, layout, _colours(seeds, samples), np.log(start), plate, noise)
    for _ in range(rounds):
        counts = np.zeros((BINS**3, 4))
        mean = np.zeros((*MAP_SIZE, 4), np.float32)
        seen = map_frames(zip(samples, seeds, strict=True), partial(_seen, model), shared=True)
        for histogram, placed in seen:
            counts += histogram
            mean += placed
        person = mean[..., :BACKGROUND]
        person = cv2.GaussianBlur(person, (0, 0), 0.06 * CELLS)
        # The first prior weighs like a fifth of the frames: it decides where no person was visible.
        weighted = person + 0.2 * len(samples) * start
        colours = _log_density(counts)
        model = replace(model, colours=colours, log_prior=np.log(weighted / weighted.sum(-1, keepdims=True)))
        # By now hair knows its shadows, which lead on into the locks on the shoulders.
        seeds = _without_locks(certain, samples, colours)
    return model


def _seen(model: ClipModel, _: int, item: tuple[Sample, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """What a sample adds to the histograms and, in the head frame, to the prior."""
    sample, seed = item
    scores = class_scores(sample, model)
    weight = np.repeat(_trust(scores) * ~_not_skin(sample)[..., None], 4, -1)
    weight[..., CLOTHES] *= 1 - sample.hanging
    return _histogram(sample.bins, np.maximum(scores, 2 * seed) * weight), to_head(scores, sample.to_map)


def _trust(scores: np.ndarray) -> np.ndarray:
    """Weight of a pixel in the histograms: undecided pixels would blur the colour models into each other."""
    best, *others = cv2.split(scores)  # numpy reduces a last axis of four at a tenth of the speed
    for other in others:
        best = cv2.max(best, other)
    return (np.clip(2 * best - 1, 0, 1) ** 2)[..., None]


def _colours(seeds: Sequence[np.ndarray], samples: Sequence[Sample]) -> Float32[np.ndarray, "bins 4"]:
    """Log density of each material's colours over its seeds."""
    return _log_density(np.sum([_histogram(s.bins, seed) for s, seed in zip(samples, seeds, strict=True)], axis=0))


def _typical_bins(material: int, colours: np.ndarray) -> np.ndarray:
    """Bins that are at least a fiftieth as frequent in ``material`` as its commonest."""
    return colours[:, material] > np.log(0.02) + colours[:, material].max()


def _without_skin(seeds: Sequence[np.ndarray], samples: Sequence[Sample]) -> list[np.ndarray]:
    """A high forehead reaches into the zone where hair is sought, bare shoulders into that of clothes."""
    like_skin = _typical_bins(SKIN, _colours(seeds, samples))
    result = [seed.copy() for seed in seeds]
    for seed, sample in zip(result, samples, strict=True):
        seed[like_skin[sample.bins], HAIR : CLOTHES + 1] = 0
    return result


def _without_locks(seeds: Sequence[np.ndarray], samples: Sequence[Sample], colours: np.ndarray) -> list[np.ndarray]:
    """Long hair reaches the zone of clothes. Dark clothes resemble dark hair, but no path of hair leads to them."""
    like_hair = _typical_bins(HAIR, colours)
    result = [seed.copy() for seed in seeds]
    for seed, sample in zip(result, samples, strict=True):
        path = like_hair[sample.bins] & (sample.person > 0.5) & ~sample.zones.oval
        radius = max(1, round(LOCK * CELLS / float(np.hypot(*sample.to_map[:, 0]))))
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        path = cv2.morphologyEx(path.astype(np.uint8), cv2.MORPH_OPEN, disc)
        locks = np.asarray(cv2.connectedComponents(path, connectivity=4)[1], np.int32)
        rooted = np.zeros(locks.max() + 1, bool)
        rooted[locks[seed[..., HAIR] > 0]] = True
        rooted[0] = False
        seed[rooted[locks], CLOTHES] = 0
    return result


def _certain(sample: Sample, head: HeadFrame, layout: FaceLayout) -> Float32[np.ndarray, "h w 4"]:
    """Pixels whose material landmarks and person segmentation determine, one-hot."""
    person = sample.person
    zones = sample.zones
    x, y = sample.place
    radius = max(1, round(1.5 * BAND * max(person.shape)))
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    inside = cv2.erode((person > 0.9).astype(np.uint8), kernel).astype(bool)
    outside = cv2.dilate((person > 0.1).astype(np.uint8), kernel) == 0
    wide_oval = cv2.dilate(zones.oval.astype(np.uint8), kernel).astype(bool)
    skin = zones.below_brows & ~_not_skin(sample)
    hair = inside & ~wide_oval & (y < -0.9) & (np.abs(x) < 1.3)
    chin, half_width = _jaw(head, layout)
    shoulders = (y > chin + 0.15) & (np.abs(x) > 1.15 * half_width) & (sample.hanging == 0)
    clothes = inside & (shoulders | (y > chin + 0.9))
    return np.stack([skin, hair, clothes, outside], -1).astype(np.float32)


def _not_skin(sample: Sample) -> Shaped[np.ndarray, "h w"]:
    """Parts of the oval that may not show skin: lips, eyes, brows, and its rim above the mouth, where hair may fall.

    The rim below shows the shade of the jaw, by which the neck is known.
    """
    zones, radius = sample.zones, max(1, round(1.5 * BAND * max(sample.person.shape)))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    inner = cv2.erode(zones.oval.astype(np.uint8), disc).astype(bool)
    return zones.lips | zones.eyes | (zones.oval & ~inner & (sample.place[1] < 0.9))


def _jaw(head: HeadFrame, layout: FaceLayout) -> tuple[float, float]:
    """Height of the chin and half the width of the jaw in the head frame, eye distances."""
    jaw = head.reference[list(layout.ibug68[4:13])]
    return float(head.reference[layout.ibug68[8], 1]), float(np.abs(jaw[:, 0]).max())


def _histogram(bins: np.ndarray, weights: np.ndarray) -> np.ndarray:
    flat = bins.ravel()
    columns = [np.bincount(flat, weights[..., c].ravel(), BINS**3) for c in range(weights.shape[-1])]
    return np.stack(columns, -1)


def _log_density(counts: np.ndarray) -> Float32[np.ndarray, "bins 4"]:
    cube = gaussian_filter(counts.reshape(BINS, BINS, BINS, 4), (1.0, 0.8, 0.8, 0)).reshape(-1, 4)
    density = cube / np.maximum(cube.sum(0), 1e-6)
    return np.log((1 - UNIFORM_SHARE) * density + UNIFORM_SHARE / BINS**3).astype(np.float32)


def _background_plate(samples: Sequence[Sample]) -> tuple[np.ndarray, np.ndarray]:
    """Median Lab colour and noise per pixel over the samples where the pixel is certainly background."""
    radius = max(1, round(2 * BAND * max(samples[0].person.shape)))
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    colours = np.stack([sample.lab for sample in samples]).astype(np.float32)
    for colour, sample in zip(colours, samples, strict=True):
        colour[cv2.dilate((sample.person > 0.1).astype(np.uint8), kernel) > 0] = np.nan
    seen = np.isfinite(colours[..., 0]).sum(0)
    known = seen >= min(3, len(samples))
    plate = np.full(colours.shape[1:], np.nan, np.float32)
    noise = np.ones(plate.shape[:2], np.float32)
    shown = colours[:, known]
    plate[known] = _median(shown)
    spread = _median(np.abs(shown - plate[known]).max(-1))
    noise[known] = np.clip(1.5 * spread, 3.0, 30.0)
    return plate, noise


def _median(values: Float32[np.ndarray, "F *rest"]) -> Float32[np.ndarray, "*rest"]:
    """Median over the first axis of what is not NaN, at a fraction of `np.nanmedian`'s time."""
    count = np.isfinite(values).sum(0, keepdims=True)
    ordered = np.sort(values, axis=0)  # NaN behind all numbers
    low, high = (np.take_along_axis(ordered, np.maximum(at, 0), 0)[0] for at in ((count - 1) // 2, count // 2))
    return (low + high) / 2


def _first_prior(head: HeadFrame, layout: FaceLayout) -> Float32[np.ndarray, "rows cols 3"]:
    """Soft prior places of skin, hair and clothes on anyone, in the head frame."""
    cells = (head.reference - (LEFT, TOP)) * CELLS
    zones = face_zones(cells, layout, MAP_SIZE)
    y, x = np.meshgrid(np.linspace(TOP, BOTTOM, MAP_SIZE[0]), np.linspace(LEFT, RIGHT, MAP_SIZE[1]), indexing="ij")
    chin, half_width = _jaw(head, layout)
    neck = (np.abs(x) < half_width) & (y > 0.5 * chin) & (y < chin + 0.55)
    # Ears and temples are outside the oval.
    wide = cv2.dilate(zones.oval.astype(np.uint8), np.ones((1, int(0.5 * CELLS)), np.uint8)).astype(bool)
    ears = wide & (y > -0.3) & (y < 0.6 * chin)
    skin = np.where(zones.oval, 1.0, np.where(ears, 0.6, np.where(neck, 0.7, 0.06)))
    hair = np.where(zones.below_brows, 0.001, np.where(y < 0.55 * chin, 0.5, np.where(neck, 0.02, 0.1)))
    clothes = np.where(y > chin + 0.3, 0.6, np.where(y > 0.75 * chin, 0.15, 0.004)) * np.where(zones.oval, 0.01, 1)
    prior = np.stack([skin, hair, clothes], -1).astype(np.float32)
    prior = cv2.GaussianBlur(prior, (0, 0), 0.12 * CELLS)
    return prior / prior.sum(-1, keepdims=True)
