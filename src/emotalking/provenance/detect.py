"""Find the invisible mark in images: whole ones, where its place is known, or parts of unknown scale and position.

Two things are searched (:mod:`~emotalking.provenance.evidence`): the sum of the frames, and how they change with the
pattern's sign, as a square wave that begins at an unknown time. Their spectrum is divided by that around each
frequency. Where the lattice of the pattern's lines would lie at a given scale, the known lines are correlated with it,
for all positions at once. Null distribution: phases of the key are independent of an image that was made without it, so
each correlation is a sum of independent terms, and by Hoeffding's bound exceeds z, in units of its own deviation, with
a probability of at most exp(-z^2 / 2), whatever the image shows. Times the number of scales, positions, signs and times
tried this bounds the probability of a false alarm: some 5e8 in parts of images, 128 in whole ones, scaled or not, where
a much weaker mark is therefore certain. The lines that carry bits are others than the known ones, so the correlation
with the most probable of 2^32 payloads is bounded in the same way, and independently of the first: where the logarithms
of both bounds sum to -t, the probability is at most (1 + t) exp(-t). Refinement goes where the coarse search was
highest, which the count does not know; but neighbouring positions depend on each other, so that the bound holds with
room to spare (benchmarks/watermark.py).
"""

from dataclasses import dataclass, replace
from functools import cache

import cv2
import numpy as np
import scipy.fft
from jaxtyping import Complex, Float, Float32, Int

from emotalking.provenance.evidence import LONGEST, Evidence
from emotalking.provenance.pattern import ACROSS, BAND, KEY, SMALLEST_SIDE, TILE, Lines, lines
from emotalking.provenance.payload import CODED_BITS, Payload, bit_errors, decode

UNITS = (0.4, 3.2)
"""Pixels in a unit that are searched, at the working size: 3.2 where a third of the frame was cut out."""
ALARM = 1e-5
"""Largest probability of a false alarm, of a whole file, with which a mark is reported."""
_FINER = 4
"""Bins of the spectrum for each that an image has."""
_SHIFTS = 128
"""Positions tried in each direction, of a tile."""
_AROUND = 0.024
"""Width in cycles per pixel over which the spectrum's local power is averaged."""
_CANDIDATES = 6
"""Of parts; in a whole image there are no more places."""
_FAMILIES = 8
"""Whole images and parts, by their sum and by their change with the sign, by the known lines alone and by all."""
_PHASES = 8
"""Times of the change of sign that are tried, in half a period; the other half has the opposite sign."""
_READINGS = 56
"""Times that bits are decoded at most: at 8 places of whole images and 6 of parts, in two spectra, for known tools and
for all."""
_WORTH_READING = 2.8
"""Deviations below which nothing is read, as what has a payload that can be read has more."""
_DOUBT = 0.003
"""Largest probability of a payload's being another one with which it is told."""
_BAND_WIDTH = 0.012
"""Cycles per unit over which the strength of the mark that is left is averaged."""
_SAME = 0.02
"""Candidates whose scales differ by less are one."""
_NEAR = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""Steps of scale around a candidate."""
_NOTHING = 1e-3
"""Flattened images below have rounding errors alone; a grey level is .25."""
_LIMIT = 3.0
"""Lines count as at most so many deviations: what repeats in an image concentrates in few."""


@dataclass(frozen=True)
class Geometry:
    """How the pattern lies in an image."""

    unit_x: float
    """Pixels in a unit."""
    unit_y: float
    shift_x: float = 0.0
    """Position of the pattern's origin, pixels."""
    shift_y: float = 0.0
    mirrored: bool = False


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


@dataclass(frozen=True)
class _Spectrum:
    """Spectra of one image, or of four that are parts of a change, around their centre, and their local power."""

    values: Complex[np.ndarray, "C P Q"]
    power: Float32[np.ndarray, "P Q"]

    @property
    def mixtures(self) -> Float[np.ndarray, "M C"]:
        """Weights of the images that are tried; each with both signs."""
        return _square_waves() if len(self.values) > 1 else np.ones((1, 1))


@cache
def _square_waves() -> Float[np.ndarray, "M 4"]:
    """Weights of the harmonics' cosine and sine in square waves that begin at each of the times tried."""
    angles = np.pi / _PHASES * np.arange(_PHASES)
    return np.stack([np.cos(angles), np.sin(angles), -np.cos(3 * angles), -np.sin(3 * angles)], 1)


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
    chosen, size = lines(key), evidence.steady.shape[1:]
    spectra = _spectra(evidence)
    places = _whole(*size)
    whole = [
        _best(spectrum, chosen, [(_z(spectrum, chosen, one), one) for one in places], len(places))
        for spectrum in spectra
    ]
    found = _strongest(whole)
    if found.marked and found.payload is not None:
        return found
    return _strongest([found, *(_part(spectrum, chosen, max(size)) for spectrum in spectra)])


def _spectra(evidence: Evidence) -> list[_Spectrum]:
    """Of the images' change, if it is known, and of their sum."""
    return [_whitened(images) for images in (evidence.swinging, evidence.steady) if images is not None]


def _part(spectrum: _Spectrum, chosen: Lines, longest: int) -> Found:
    """The most probable mark at any scale and position."""
    candidates, positions = _coarse(spectrum, chosen, longest)
    refined = [_refined(spectrum, chosen, one, longest) for one in candidates]
    positions += sum(tried for _, _, tried in refined)
    return _best(spectrum, chosen, [(z, geometry) for z, geometry, _ in refined], positions)


def _whole(height: int, width: int) -> list[Geometry]:
    """Where the pattern lies in a whole image, whatever size it was given."""
    x, y = -(width // 2) - 0.5, -(height // 2) - 0.5
    units = (min(height, width) / across for across in ACROSS.values())
    return [
        Geometry(unit, unit, width + x if mirrored else x, y, mirrored) for unit in units for mirrored in (False, True)
    ]


def _best(spectrum: _Spectrum, chosen: Lines, candidates: list[tuple[float, Geometry]], positions: int) -> Found:
    hypotheses = _FAMILIES * positions * 2 * len(spectrum.mixtures)
    judged = [_judged(spectrum, chosen, geometry, z, hypotheses) for z, geometry in candidates]
    return min(judged, key=lambda one: (one.false_alarm, -one.z))


def _strongest(found: list[Found]) -> Found:
    """Of marks, one that can be read."""
    return min(found, key=lambda one: (not one.marked, one.marked and not one.payload, one.false_alarm, -one.z))


def recheck(evidence: Evidence, known: Geometry, key: bytes = KEY) -> Found:
    """The mark at a geometry that was found elsewhere in the file."""
    chosen = lines(key)
    return _strongest(
        [_best(spectrum, chosen, [(_z(spectrum, chosen, known), known)], 1) for spectrum in _spectra(evidence)]
    )


def _whitened(images: Float32[np.ndarray, "C H W"]) -> _Spectrum:
    """Spectra around the images' centre: rows, and half of the columns, as the images are real."""
    count, height, width = images.shape
    bins = min(_FINER << (max(height, width) - 1).bit_length(), LONGEST)
    padded = np.zeros((count, bins, bins), np.float32)
    padded[:, :height, :width] = images
    padded = np.roll(padded, (-(height // 2), -(width // 2)), (1, 2))
    values = np.asarray(scipy.fft.rfft2(padded))
    squares = (np.real(values) ** 2 + np.imag(values) ** 2).mean(0)
    half = round(_AROUND * bins / 2)
    around = 2 * half + 1
    # Rows wrap around; the columns continue in the other half, as its conjugate.
    left = np.roll(squares[::-1, 1 : half + 1][:, ::-1], 1, axis=0)
    wide = np.concatenate([left, squares], 1)
    wide = np.concatenate([wide[-half:], wide, wide[:half]])
    power = cv2.blur(wide, (around, around))[half:-half, half:]
    return _Spectrum(values, np.maximum(power, 1e-12 * float(power.max())))


def _bins(spectrum: _Spectrum, x: np.ndarray, y: np.ndarray) -> Complex[np.ndarray, "C n"]:
    """Whitened values at frequencies in cycles per pixel, from the nearest bin."""
    bins = spectrum.values.shape[1]
    column, row = np.rint(x * bins).astype(np.int64), np.rint(y * bins).astype(np.int64)
    conjugate = column < 0
    column, row = np.abs(column), np.where(conjugate, -row, row) % bins
    found = spectrum.values[:, row, column] / np.sqrt(spectrum.power[row, column])
    return np.where(conjugate, found.conj(), found)


def _lines(
    spectrum: _Spectrum, index: Int[np.ndarray, "n 2"], geometry: Geometry
) -> tuple[Complex[np.ndarray, "C n"], Float[np.ndarray, "2 n"]]:
    """Weighted values of lines, none of them too large, and their frequencies in cycles per pixel."""
    x, y = _indices(index, geometry)
    places = np.stack([x / (TILE * geometry.unit_x), y / (TILE * geometry.unit_y)])
    values = _bins(spectrum, *places)
    values = values / np.maximum(np.abs(values) / _LIMIT, 1.0)
    if len(values) > 1:  # long waves count most: of their change a codec leaves more
        values = values * np.sqrt(TILE * BAND[0] / np.hypot(x, y))
    return values, places


def _correlation(
    spectrum: _Spectrum, chosen: Lines, geometry: Geometry, shifts: int
) -> tuple[Float32[np.ndarray, "M N N"], Float[np.ndarray, " M"]]:
    """Correlation of the known lines for all positions of a tile (:data:`TILE` / ``shifts`` units apart), and its
    deviation; of each mixture."""
    x, y = _indices(chosen.sync, geometry)
    values, _ = _lines(spectrum, chosen.sync, geometry)
    turned = values * chosen.sync_phases.conj()
    maps = []
    for first, second in zip(turned[::2], turned[1::2] if len(turned) > 1 else [0.0], strict=True):
        # One transform for two images: real parts of transforms are those of grids made Hermitian.
        grid = np.zeros((shifts, shifts), np.complex64)
        grid[y, x] = (first + 1j * second) / 2
        grid[-y, -x] = np.conj(first - 1j * second) / 2
        both = np.asarray(scipy.fft.ifft2(grid, norm="forward", overwrite_x=True))
        maps += [np.real(both), np.imag(both)]
    mixtures = spectrum.mixtures.astype(np.float32)
    stack = np.stack(maps[: len(turned)]).reshape(len(turned), -1)
    return (mixtures @ stack).reshape(-1, shifts, shifts), _deviations(spectrum, values)


def _deviations(spectrum: _Spectrum, values: Complex[np.ndarray, "C n"]) -> Float[np.ndarray, " M"]:
    """Deviation of the sum of the real parts with random phases, of each mixture."""
    products = np.real(values @ values.conj().T)
    squares = np.einsum("mc,cd,md->m", spectrum.mixtures, products, spectrum.mixtures)
    return np.sqrt(np.maximum(squares, 1e-30) / 2)


def _indices(index: np.ndarray, geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """Indices of lines in an image that may be mirrored."""
    return (-index[:, 0] if geometry.mirrored else index[:, 0]), index[:, 1]


def _peak(spectrum: _Spectrum, chosen: Lines, geometry: Geometry, shifts: int) -> tuple[float, Geometry]:
    """The best position at a scale, with its correlation in deviations."""
    correlation, deviations = _correlation(spectrum, chosen, geometry, shifts)
    strong = np.abs(correlation).max((1, 2)) / deviations
    best = np.abs(correlation[int(strong.argmax())])
    row, column = divmod(int(best.argmax()), shifts)
    step = TILE / shifts
    moved = replace(geometry, shift_x=column * step * geometry.unit_x, shift_y=row * step * geometry.unit_y)
    return float(strong.max()), moved


def _coarse(spectrum: _Spectrum, chosen: Lines, longest: int) -> tuple[list[Geometry], int]:
    """The best candidates over all scales and positions, and the number of those."""
    scales = np.arange(1 / UNITS[1], 1 / UNITS[0], _scale_step(longest))
    geometries = [Geometry(1 / scale, 1 / scale, mirrored=mirrored) for scale in scales for mirrored in (False, True)]
    scored = sorted((_peak(spectrum, chosen, one, _SHIFTS) for one in geometries), key=lambda pair: -pair[0])
    kept: list[Geometry] = []
    for _, geometry in scored:
        if not any(abs(one.unit_x / geometry.unit_x - 1) < _SAME and one.mirrored == geometry.mirrored for one in kept):
            kept.append(geometry)
        if len(kept) == _CANDIDATES:
            break
    return kept, len(geometries) * _SHIFTS**2


def _scale_step(longest: int) -> float:
    """Step of units per pixel by which the pattern moves by a third of a radian at the edges of an image."""
    return 0.32 / (BAND[1] * longest)


def _refined(spectrum: _Spectrum, chosen: Lines, start: Geometry, longest: int) -> tuple[float, Geometry, int]:
    """The best scale around a candidate, in x and y apart, and position: correlation, geometry, positions tried."""
    step = _scale_step(longest)
    per_pixel = 1 / start.unit_x
    tried = [
        replace(start, unit_x=1 / (per_pixel + step * x), unit_y=1 / (per_pixel + step * y))
        for x in _NEAR
        for y in _NEAR
    ]
    z, best = max((_peak(spectrum, chosen, one, 2 * _SHIFTS) for one in tried), key=lambda pair: pair[0])
    # Positions within a step of the grid.
    fine = TILE / (2 * _SHIFTS) * np.linspace(-0.5, 0.5, 5)
    around = [
        replace(best, shift_x=best.shift_x + x * best.unit_x, shift_y=best.shift_y + y * best.unit_y)
        for x in fine
        for y in fine
    ]
    z, best = max(((_z(spectrum, chosen, one), one) for one in around), key=lambda pair: pair[0])
    return z, best, len(tried) * (2 * _SHIFTS) ** 2 + len(around)


def _aligned(
    spectrum: _Spectrum, index: np.ndarray, phases: np.ndarray, geometry: Geometry
) -> Complex[np.ndarray, "C n"]:
    """Values of lines, whose real part is large where they agree with ``phases``."""
    values, places = _lines(spectrum, index, geometry)
    turn = np.exp(2j * np.pi * (places[0] * geometry.shift_x + places[1] * geometry.shift_y))
    return values * turn * phases.conj()


def _mixed(
    spectrum: _Spectrum, chosen: Lines, geometry: Geometry
) -> tuple[float, Float[np.ndarray, " C"], Float[np.ndarray, " S"]]:
    """Correlation of the known lines at one geometry, in deviations; the mixture and sign where it is largest, and the
    lines' parts in it."""
    values = np.real(_aligned(spectrum, chosen.sync, chosen.sync_phases, geometry))
    found = spectrum.mixtures @ values.sum(1) / _deviations(spectrum, _lines(spectrum, chosen.sync, geometry)[0])
    best = int(np.abs(found).argmax())
    mixture = spectrum.mixtures[best] * (np.sign(found[best]) or 1.0)
    return float(abs(found[best])), mixture, mixture @ values


def _z(spectrum: _Spectrum, chosen: Lines, geometry: Geometry) -> float:
    return _mixed(spectrum, chosen, geometry)[0]


def _judged(spectrum: _Spectrum, chosen: Lines, geometry: Geometry, z: float, hypotheses: int) -> Found:
    """A candidate with its payload, if that can be read, and the probability of its being a false alarm."""
    certain = z * abs(z) / 2 - float(np.log(hypotheses))  # at least, less by the logarithm of chance
    nothing = Found(min(float(np.exp(-certain)), 1.0), z, None, None, geometry)
    if z < _WORTH_READING:
        return nothing
    soft, variance = _soft(spectrum, chosen, geometry)
    reading = decode(soft, variance, thorough=nothing.marked)
    read = max(reading.score, 0.0) ** 2 / (2 * variance) - float(np.log(_READINGS * reading.choices))
    together = max(certain, 0.0) + max(read, 0.0)
    false_alarm = min(nothing.false_alarm, float((1 + together) * np.exp(-together)))
    if false_alarm > ALARM or reading.doubt > _DOUBT:
        return replace(nothing, false_alarm=false_alarm)
    return Found(false_alarm, z, reading.payload, bit_errors(soft, reading.payload), geometry)


def _soft(spectrum: _Spectrum, chosen: Lines, geometry: Geometry) -> tuple[Float[np.ndarray, "256"], float]:
    """Evidence of each bit of the code word, and the variance of its sum with random signs.

    Lines count by what is left of the known lines of such a radius.
    """
    _, mixture, known = _mixed(spectrum, chosen, geometry)
    there, here = (np.hypot(index[:, 0], index[:, 1]) / TILE for index in (chosen.sync, chosen.data))
    near = np.exp(-(((here[:, None] - there) / _BAND_WIDTH) ** 2) / 2)
    left = near @ known / near.sum(1)
    values = (mixture @ _aligned(spectrum, chosen.data, chosen.data_phases, geometry)) * np.maximum(
        left, 0.2 * float(np.abs(known.mean()))
    )
    return np.bincount(chosen.bits, np.real(values), CODED_BITS), float(np.square(np.abs(values)).sum() / 2)
