"""Correlation of the pattern's known lines with the spectrum of images, at any scale and position."""

from dataclasses import dataclass, replace
from functools import cache

import cv2
import numpy as np
import scipy.fft
from jaxtyping import Complex, Float, Float32, Int

from emotalking.provenance.evidence import LONGEST
from emotalking.provenance.pattern import BAND, TILE, Lines

_FINER = 4
"""Bins of the spectrum for each that an image has."""
_AROUND = 0.024
"""Width in cycles per pixel over which the spectrum's local power is averaged."""
PHASES = 8
"""Times of the change of sign that are tried, in half a period."""
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
class Spectrum:
    """Spectra of one image, or of four that are parts of a change, around their centre, and their local power."""

    values: Complex[np.ndarray, "C P Q"]
    power: Float32[np.ndarray, "P Q"]

    @property
    def changes(self) -> bool:
        """True for parts of a change."""
        return len(self.values) > 1

    @property
    def mixtures(self) -> Float[np.ndarray, "M D"]:
        """Weights that are tried: of the parts of a change, or of lines of changing sign and of those that stay."""
        return _square_waves() if self.changes else np.array([[1.0, 1.0], [-1.0, 1.0]])


@cache
def _square_waves() -> Float[np.ndarray, "M 4"]:
    """Weights of the harmonics' cosine and sine in square waves that begin at each of the times tried."""
    angles = np.pi / PHASES * np.arange(2 * PHASES)
    return np.stack([np.cos(angles), np.sin(angles), -np.cos(3 * angles), -np.sin(3 * angles)], 1)


def whitened(images: Float32[np.ndarray, "C H W"]) -> Spectrum:
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
    return Spectrum(values, np.maximum(power, 1e-12 * float(power.max())))


def _bins(spectrum: Spectrum, x: np.ndarray, y: np.ndarray) -> Complex[np.ndarray, "C n"]:
    """Whitened values at frequencies in cycles per pixel, from the nearest bin."""
    bins = spectrum.values.shape[1]
    column, row = np.rint(x * bins).astype(np.int64), np.rint(y * bins).astype(np.int64)
    conjugate = column < 0
    column, row = np.abs(column), np.where(conjugate, -row, row) % bins
    found = spectrum.values[:, row, column] / np.sqrt(spectrum.power[row, column])
    return np.where(conjugate, found.conj(), found)


def line_values(
    spectrum: Spectrum, index: Int[np.ndarray, "n 2"], geometry: Geometry
) -> tuple[Complex[np.ndarray, "C n"], Float[np.ndarray, "2 n"]]:
    """Weighted values of lines, none of them too large, and their frequencies in cycles per pixel."""
    x, y = indices(index, geometry)
    places = np.stack([x / (TILE * geometry.unit_x), y / (TILE * geometry.unit_y)])
    values = _bins(spectrum, *places)
    values = values / np.maximum(np.abs(values) / _LIMIT, 1.0)
    if spectrum.changes:  # long waves count most: of their change a codec leaves more
        values = values * np.sqrt(TILE * BAND[0] / np.hypot(x, y))
    return values, places


def known_lines(
    spectrum: Spectrum, chosen: Lines, geometry: Geometry
) -> tuple[Complex[np.ndarray, "D n"], Int[np.ndarray, "n 2"], Float[np.ndarray, "2 n"]]:
    """Values of the known lines less their phases, for each of the weights of a mixture, indices and frequencies."""
    if spectrum.changes:
        values, places = line_values(spectrum, chosen.sync, geometry)
        return values * chosen.sync_phases.conj(), chosen.sync, places
    index = np.concatenate([chosen.sync, chosen.still])
    values, places = line_values(spectrum, index, geometry)
    turned = values * np.concatenate([chosen.sync_phases, chosen.still_phases]).conj()
    stays = np.arange(len(index)) >= len(chosen.sync)
    return np.concatenate([turned * ~stays, turned * stays]), index, places


def _correlations(
    spectrum: Spectrum, chosen: Lines, geometry: Geometry, shifts: int
) -> tuple[Float32[np.ndarray, "M N N"], Float[np.ndarray, " M"]]:
    """Correlation of the known lines for all positions of a tile (:data:`TILE` / ``shifts`` units apart), and its
    deviation; of each mixture."""
    turned, index, _ = known_lines(spectrum, chosen, geometry)
    x, y = indices(index, geometry)
    maps = []
    for first, second in zip(turned[::2], turned[1::2], strict=True):
        # One transform for two images: real parts of transforms are those of grids made Hermitian.
        grid = np.zeros((shifts, shifts), np.complex64)
        grid[y, x] = (first + 1j * second) / 2
        grid[-y, -x] = np.conj(first - 1j * second) / 2
        both = np.asarray(scipy.fft.ifft2(grid, norm="forward", overwrite_x=True))
        maps += [np.real(both), np.imag(both)]
    mixtures = spectrum.mixtures.astype(np.float32)
    stack = np.stack(maps).reshape(len(turned), -1)
    return (mixtures @ stack).reshape(-1, shifts, shifts), deviations_of(spectrum, turned)


def deviations_of(spectrum: Spectrum, values: Complex[np.ndarray, "D n"]) -> Float[np.ndarray, " M"]:
    """Deviation of the sum of the real parts with random phases, of each mixture."""
    products = np.real(values @ values.conj().T)
    squares = np.einsum("mc,cd,md->m", spectrum.mixtures, products, spectrum.mixtures)
    return np.sqrt(np.maximum(squares, 1e-30) / 2)


def indices(index: np.ndarray, geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """Indices of lines in an image that may be mirrored."""
    return (-index[:, 0] if geometry.mirrored else index[:, 0]), index[:, 1]


def peak(spectrum: Spectrum, chosen: Lines, geometry: Geometry, shifts: int) -> tuple[float, Geometry]:
    """The best position at a scale, with its correlation in deviations."""
    correlation, deviations = _correlations(spectrum, chosen, geometry, shifts)
    strong = correlation.max((1, 2)) / deviations
    best = correlation[int(strong.argmax())]
    row, column = divmod(int(best.argmax()), shifts)
    step = TILE / shifts
    moved = replace(geometry, shift_x=column * step * geometry.unit_x, shift_y=row * step * geometry.unit_y)
    return float(strong.max()), moved


def turn(places: Float[np.ndarray, "2 n"], geometry: Geometry) -> Complex[np.ndarray, " n"]:
    """Factors that move lines to the pattern's origin."""
    return np.exp(2j * np.pi * (places[0] * geometry.shift_x + places[1] * geometry.shift_y))


def mixed(
    spectrum: Spectrum, chosen: Lines, geometry: Geometry
) -> tuple[float, Float[np.ndarray, " D"], Float[np.ndarray, " S"]]:
    """Correlation of the known lines at one geometry, in deviations; the mixture where it is largest, and in it the
    parts of the known lines whose sign changes."""
    turned, _, places = known_lines(spectrum, chosen, geometry)
    values = np.real(turned * turn(places, geometry))
    found = spectrum.mixtures @ values.sum(1) / deviations_of(spectrum, turned)
    best = int(found.argmax())
    mixture = spectrum.mixtures[best]
    return float(found[best]), mixture, (mixture @ values)[: len(chosen.sync)]


def correlation_at(spectrum: Spectrum, chosen: Lines, geometry: Geometry) -> float:
    """Correlation of all known lines at one geometry, in deviations."""
    return mixed(spectrum, chosen, geometry)[0]


def still_correlation_at(spectrum: Spectrum, chosen: Lines, geometry: Geometry) -> float:
    """Correlation of the lines that stay alone, in deviations."""
    values, places = line_values(spectrum, chosen.still, geometry)
    turned = np.real(values * chosen.still_phases.conj() * turn(places, geometry))
    return float(turned.sum() / np.sqrt(np.square(np.abs(values)).sum() / 2))
