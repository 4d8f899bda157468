"""Find the invisible mark in images: whole ones, where its place is known, or parts of unknown scale and position.

Two things are searched (:mod:`~emotalking.provenance.evidence`): the sum of the frames, and how they change with the
pattern's sign, as a square wave that begins at an unknown time. Their spectrum is divided by that around each
frequency. Where the lattice of the pattern's lines would lie at a given scale, the known lines are correlated with it,
for all positions at once: in the sum those that stay too, which alone may show that a frame is marked. Null
distribution: phases of the key are independent of an image that was made without it, so each correlation is a sum of
independent terms, whose probability of exceeding z, in units of its own deviation, is bounded (:func:`exponent`),
whatever the image shows. Times the number of scales, positions, signs and times tried this bounds the probability of a
false alarm: some 5e8 in parts of images, 48 in whole single frames, scaled or not, where a much weaker mark is
therefore certain. The lines that carry bits are others than the known ones, so the correlation
with the most probable of 2^32 payloads is bounded in the same way, and independently of the first: where the logarithms
of both bounds sum to -t, the probability is at most (1 + t) exp(-t). Refinement goes where the coarse search was
highest, which the count does not know; but neighbouring positions depend on each other, so that the bound holds with
room to spare (benchmarks/watermark.py).
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.special import log_ndtr

from emotalking.provenance.correlation import (
    Geometry,
    Spectrum,
    correlation_at,
    line_values,
    mixed,
    peak,
    still_correlation_at,
    turn,
    whitened,
)
from emotalking.provenance.evidence import Evidence
from emotalking.provenance.pattern import ACROSS, KEY, SMALLEST_SIDE, STILL_BAND, TILE, Lines, lines
from emotalking.provenance.payload import CODED_BITS, Payload, bit_errors, decode

UNITS = (0.4, 3.2)
"""Pixels in a unit that are searched, at the working size: 3.2 where a third of the frame was cut out."""
ALARM = 1e-5
"""Largest probability of a false alarm, of a whole file, with which a mark is reported."""
SHIFTS = 128
"""Positions tried in each direction, of a tile."""
_CANDIDATES = 6
"""Of parts; in a whole image there are no more places."""
_FRAMES, _FAMILIES = 3, 21
"""One over the share of :data:`ALARM` for whole images by their sum, by the known lines alone and by all, as single
frames show no more; and of each other way to be found: by their change, and parts by sum, change and both."""
_READINGS = 68
"""Times that bits are decoded at most: at 8 places of whole images, 6 of parts and where these are best (3), in two
spectra, for known tools and for all."""
_WORTH_READING = 2.8
"""Deviations below which nothing is read, as what has a payload that can be read has more."""
_DOUBT = 0.003
"""Largest probability of a payload's being another one with which it is told."""
_BAND_WIDTH = 0.025
"""Cycles per unit over which the strength of the mark that is left is averaged."""
_SAME = 0.02
"""Candidates whose scales differ by less are one."""
_NEAR = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""Steps of scale around a candidate."""
_FINE = (-0.5, -0.25, 0.0, 0.25, 0.5)
"""Steps of position around a candidate."""
_NOTHING = 1e-3
"""Flattened images below have rounding errors alone; a grey level is .25."""


@dataclass(frozen=True)
class Found:
    """The best candidate of a search, marked or not."""

    false_alarm: float
    """Bound of the probability that an image without the mark gives as strong a candidate."""
    z: float
    """Correlation of the known lines, in deviations."""
    payload: Payload | None
    """None: not readable."""
    bit_error: float | None
    """Share of wrong bits of the code word before their correction; None: not readable."""
    geometry: Geometry

    @property
    def marked(self) -> bool:
        """True if a false alarm is less probable than :data:`ALARM`."""
        return self.false_alarm <= ALARM


def search(evidence: Evidence, key: bytes = KEY) -> Found | None:
    """The most probable mark in images.

    Args:
        evidence: at the working size.
        key: of the pattern.

    Returns:
        The best candidate; None: the images are too small, or smooth all over.
    """
    if min(evidence.steady.shape[1:]) < SMALLEST_SIDE or float(np.abs(evidence.steady).max()) < _NOTHING:
        return None
    return search_lines(evidence, lines(key))


def search_lines(evidence: Evidence, chosen: Lines) -> Found:
    """:func:`search` for given lines, in images that are neither too small nor smooth."""
    size, spectra = evidence.steady.shape[1:], spectra_of(evidence)
    places = whole_places(*size)
    whole = [
        _best(
            spectrum,
            chosen,
            [(correlation_at(spectrum, chosen, one), one) for one in places],
            hypotheses(spectrum, len(places), whole=True),
        )
        for spectrum in spectra
    ]
    found = strongest(whole)
    if found.marked and found.payload is not None:
        return found
    parts = [_part(spectrum, chosen, max(size)) for spectrum in spectra]
    return strongest([found, *(_everywhere(spectra, chosen, one, max(size)) for one in [found, *parts])])


def hypotheses(spectrum: Spectrum, positions: int, *, whole: bool = False) -> int:
    """Number of tests by which the probability of a false alarm at one of them is multiplied.

    Args:
        positions: places that are tried.
        whole: these are those of whole images.
    """
    families = _FRAMES if whole and not spectrum.changes else _FAMILIES
    return families * positions * len(spectrum.mixtures)


def spectra_of(evidence: Evidence) -> list[Spectrum]:
    """Of the images' change, if it is known, and of their sum."""
    return [whitened(images) for images in (evidence.swinging, evidence.steady) if images is not None]


def _part(spectrum: Spectrum, chosen: Lines, longest: int) -> Found:
    """The most probable mark at any scale and position."""
    candidates = [_refined(spectrum, chosen, one, longest) for one in _coarse(spectrum, chosen, longest)]
    return _best(spectrum, chosen, candidates, hypotheses(spectrum, part_positions(longest)))


def part_positions(longest: int) -> int:
    """Scales and positions at which parts are tried."""
    refined = len(_NEAR) ** 2 * ((2 * SHIFTS) ** 2 + len(_FINE) ** 2)
    return len(part_places(longest)) * SHIFTS**2 + _CANDIDATES * refined


def _everywhere(spectra: list[Spectrum], chosen: Lines, found: Found, longest: int) -> Found:
    """A candidate by all that its place shows: the change, and in the sum the waves that stay, which are others."""
    tried = _scales(found.geometry, longest)
    read = [
        _best(
            one,
            chosen,
            [max(((correlation_at(one, chosen, place), place) for place in tried), key=lambda pair: pair[0])],
            hypotheses(one, len(tried)),
        )
        for one in spectra
    ]
    if len(spectra) > 1:
        stays = max(still_correlation_at(spectra[-1], chosen, place) for place in tried)
        both = max(exponent(stays), 0.0) + max(exponent(read[0].z), 0.0)
        tests = hypotheses(spectra[0], 2 * part_positions(longest) * len(tried) ** 2)
        found = replace(found, false_alarm=min(found.false_alarm, tests * (1 + both) * float(np.exp(-both))))
    near = strongest(read)
    if found.marked and found.payload is None and near.payload is not None:
        return replace(found, payload=near.payload, bit_error=near.bit_error)
    return found


def whole_places(height: int, width: int) -> list[Geometry]:
    """Where the pattern lies in a whole image, whatever size it was given."""
    x, y = -(width // 2) - 0.5, -(height // 2) - 0.5
    units = (min(height, width) / across for across in ACROSS.values())
    return [
        Geometry(unit, unit, width + x if mirrored else x, y, mirrored) for unit in units for mirrored in (False, True)
    ]


def _best(
    spectrum: Spectrum,
    chosen: Lines,
    candidates: list[tuple[float, Geometry]],
    tests: int,
) -> Found:
    judged = [_judged(spectrum, chosen, geometry, z, tests) for z, geometry in candidates]
    return min(judged, key=lambda one: (one.false_alarm, -one.z))


def strongest(found: list[Found]) -> Found:
    """Of marks, one that can be read."""
    return min(found, key=lambda one: (not one.marked, one.marked and not one.payload, one.false_alarm, -one.z))


def recheck(evidence: Evidence, known: Geometry, key: bytes = KEY) -> Found:
    """The mark at a geometry that was found elsewhere in the file."""
    chosen = lines(key)
    return strongest(
        [
            _best(spectrum, chosen, [(correlation_at(spectrum, chosen, known), known)], hypotheses(spectrum, 1))
            for spectrum in spectra_of(evidence)
        ]
    )


def part_places(longest: int) -> list[Geometry]:
    """Scales at which parts are tried, plain and mirrored."""
    scales = np.arange(1 / UNITS[1], 1 / UNITS[0], _scale_step(longest))
    return [Geometry(1 / scale, 1 / scale, mirrored=mirrored) for scale in scales for mirrored in (False, True)]


def _coarse(spectrum: Spectrum, chosen: Lines, longest: int) -> list[Geometry]:
    """The best candidates over all scales and positions."""
    scored = sorted((peak(spectrum, chosen, one, SHIFTS) for one in part_places(longest)), key=lambda pair: -pair[0])
    kept: list[Geometry] = []
    for _, geometry in scored:
        if not any(abs(one.unit_x / geometry.unit_x - 1) < _SAME and one.mirrored == geometry.mirrored for one in kept):
            kept.append(geometry)
        if len(kept) == _CANDIDATES:
            break
    return kept


def _scale_step(longest: int) -> float:
    """Step of units per pixel by which the pattern moves by a third of a radian at the edges of an image."""
    return 0.32 / (STILL_BAND[1] * longest)


def _scales(start: Geometry, longest: int) -> list[Geometry]:
    """Scales around a candidate's, in x and y apart, with the pattern's origin at the same of its units."""
    step = _scale_step(longest)
    factors_x, factors_y = ([1 / (1 + step * unit * steps) for steps in _NEAR] for unit in (start.unit_x, start.unit_y))
    return [
        replace(
            start,
            unit_x=start.unit_x * x,
            unit_y=start.unit_y * y,
            shift_x=start.shift_x * x,
            shift_y=start.shift_y * y,
        )
        for x in factors_x
        for y in factors_y
    ]


def _refined(spectrum: Spectrum, chosen: Lines, start: Geometry, longest: int) -> tuple[float, Geometry]:
    """The best scale around a candidate, in x and y apart, and position, with its correlation."""
    tried = (peak(spectrum, chosen, one, 2 * SHIFTS) for one in _scales(start, longest))
    _, best = max(tried, key=lambda pair: pair[0])
    step_x, step_y = (TILE / (2 * SHIFTS) * unit for unit in (best.unit_x, best.unit_y))
    around = [
        replace(best, shift_x=best.shift_x + x * step_x, shift_y=best.shift_y + y * step_y)
        for x in _FINE
        for y in _FINE
    ]
    return max(((correlation_at(spectrum, chosen, one), one) for one in around), key=lambda pair: pair[0])


def exponent(z: float) -> float:
    """Logarithm of one over the most probability with which a sum of waves with random phases exceeds z deviations.

    The cosine of a random phase has less of a tail than a normal variable of its variance: their densities cross four
    times, so that it has the smaller mean of every function whose fourth derivative is not negative, and so have sums.
    From that for cubes beyond a level follows a probability of at most 2 e^3 / 9 times the normal one (Pinelis,
    Extremal probabilistic problems and Hotelling's T^2 test, 1994); Hoeffding's exp(-z^2 / 2) is larger from 2 on.
    """
    normal = -float(log_ndtr(-z)) - float(np.log(2 * np.exp(3) / 9))
    return max(normal, z * max(z, 0.0) / 2)


def _judged(spectrum: Spectrum, chosen: Lines, geometry: Geometry, z: float, tests: int) -> Found:
    """A candidate with its payload, if that can be read, and the probability of its being a false alarm."""
    certain = exponent(z) - float(np.log(tests))  # at least, less by the logarithm of chance
    nothing = Found(min(float(np.exp(-certain)), 1.0), z, None, None, geometry)
    if z < _WORTH_READING:
        return nothing
    soft, variance = _soft(spectrum, chosen, geometry)
    reading = decode(soft, variance, thorough=nothing.marked)
    read = exponent(reading.score / np.sqrt(variance)) - float(np.log(_READINGS * reading.choices))
    together = max(certain, 0.0) + max(read, 0.0)
    false_alarm = min(nothing.false_alarm, float((1 + together) * np.exp(-together)))
    if false_alarm > ALARM or reading.doubt > _DOUBT:
        return replace(nothing, false_alarm=false_alarm)
    return Found(false_alarm, z, reading.payload, bit_errors(soft, reading.payload), geometry)


def _soft(spectrum: Spectrum, chosen: Lines, geometry: Geometry) -> tuple[Float[np.ndarray, "256"], float]:
    """Evidence of each bit of the code word, and the variance of its sum with random signs.

    Lines count by what is left of the known lines of such a radius.
    """
    _, mixture, known = mixed(spectrum, chosen, geometry)
    there, here = (np.hypot(index[:, 0], index[:, 1]) / TILE for index in (chosen.sync, chosen.data))
    near = np.exp(-(((here[:, None] - there) / _BAND_WIDTH) ** 2) / 2)
    left = near @ known / near.sum(1)
    data, places = line_values(spectrum, chosen.data, geometry)
    data = data * chosen.data_phases.conj() * turn(places, geometry)
    values = (mixture[: len(data)] @ data) * np.maximum(left, 0.2 * float(np.abs(known.mean())))
    return np.bincount(chosen.bits, np.real(values), CODED_BITS), float(np.square(np.abs(values)).sum() / 2)
