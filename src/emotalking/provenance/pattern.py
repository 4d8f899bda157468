"""The pattern of the invisible mark: waves of a fixed lattice of frequencies with phases from a public key, and its
change of sign over time; and further waves that stay as they are.

The pattern repeats every :data:`TILE` units in x and y, so its spectrum is lines at the multiples of 1/TILE. The phases
of :data:`SYNC_SHARE` of the lines are known: by them scale and position are found. The sign of each other line is a bit
of the code word (:mod:`~emotalking.provenance.payload`). A fixed number of units lies across the shorter side of an
image, so that the pattern of a whole image is found in its place whatever size the image was given later.

In videos the pattern changes its sign each second (:func:`swing`): what stands still in the images cancels when the
detector takes the difference, and low frequencies, which codecs keep and where images are strongest, can carry bits.
A single frame shows no change: waves of higher frequencies, which images hardly have, stay the same and are all known.
"""

import hashlib
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Complex128, Float32, Float64, Int, UInt8

from emotalking.provenance.payload import CODED_BITS

KEY = b"EmoTalking mark 1"
"""Fixed and public: anyone can detect the mark, and anyone could add one."""
TILE = 256
"""Period in units."""
BAND, STILL_BAND = (0.02, 0.08), (0.08, 0.12)
"""Frequencies in cycles per unit of waves whose sign changes and of those that stay: lower ones drown in the image,
higher ones do not survive H.264."""
FALL, FALL_ALONE = 1.5, 0.5
"""Power of the frequency with which amplitudes fall, in videos and in images alone, where long waves drown."""
SYNC_ALONE = 0.6
"""Amplitude of known lines whose sign could change, in images alone, of that of lines that carry bits: what stays is
enough to find them."""
ACROSS = {400: 512, 288: 384, 200: 256, 0: 128}
"""Units across the shorter side of images that have at least so many pixels there: in small images a codec leaves
nothing of waves of few pixels."""
PERIOD_S = 2.0
"""Of the change of sign."""
RAMP_S = 0.12
"""Time that a change of sign takes, some frames."""
SMALLEST_SIDE = 64
"""Shorter side in pixels of the smallest image that is marked or searched."""
SYNC_SHARE = 0.3
"""More of it finds weaker marks, less of it reads weaker ones."""
_OFF_AXIS = 2
"""Lines of lower x or y index are left out: edges of images, of letters and of blocks of codecs lie there."""


@dataclass(frozen=True)
class Lines:
    """Lines of the lattice: the known ones, those that carry bits, and those that stay, which are known."""

    sync: Int[np.ndarray, "S 2"]
    """Indices (x, y) in cycles per tile."""
    sync_phases: Complex128[np.ndarray, " S"]
    data: Int[np.ndarray, "D 2"]
    data_phases: Complex128[np.ndarray, " D"]
    """Phases for bits that are 0; those of 1 are opposite."""
    bits: Int[np.ndarray, " D"]
    """Bit of the code word that each line carries."""
    still: Int[np.ndarray, "T 2"]
    still_phases: Complex128[np.ndarray, " T"]


@cache
def lines(key: bytes = KEY) -> Lines:
    """The lines of a key; half of the plane, as the other half is its conjugate."""
    lattice, phases, order = _drawn(BAND, key)
    sync, data = np.split(order, [round(SYNC_SHARE * len(order))])
    # Lines of one bit differ in radius: neighbours in the order of radius carry different bits.
    data = data[np.argsort(np.hypot(*lattice[data].T), kind="stable")]
    still, still_phases, _ = _drawn(STILL_BAND, key + b"/still")
    bits = _spread(len(data), key)
    return Lines(lattice[sync], phases[sync], lattice[data], phases[data], bits, still, still_phases)


def _drawn(
    band: tuple[float, float], key: bytes
) -> tuple[Int[np.ndarray, "n 2"], Complex128[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Lines of a band, with phases and in an order that are drawn."""
    reach = np.arange(-TILE // 2, TILE // 2)
    x, y = (axis.ravel() for axis in np.meshgrid(reach, np.arange(TILE // 2)))
    radius = np.hypot(x, y) / TILE
    chosen = (radius >= band[0]) & (radius < band[1]) & (np.abs(x) >= _OFF_AXIS) & (y >= _OFF_AXIS)
    lattice = np.stack([x, y], 1)[chosen]
    drawn = np.frombuffer(hashlib.shake_256(key).digest(8 * len(lattice)), "<u4").reshape(-1, 2)
    return lattice, np.exp(2j * np.pi * drawn[:, 0] / 2.0**32), np.argsort(drawn[:, 1], kind="stable")


def _spread(count: int, key: bytes) -> Int[np.ndarray, " D"]:
    """A bit for each of ``count`` lines: all bits once in random order, then all again."""
    out = []
    for turn in range(-(-count // CODED_BITS)):
        drawn = np.frombuffer(hashlib.shake_256(key + b"/%d" % turn).digest(4 * CODED_BITS), "<u4")
        out.append(np.argsort(drawn, kind="stable"))
    return np.concatenate(out)[:count]


def unit_of(height: int, width: int) -> float:
    """Pixels in a unit of images of this size."""
    side = min(height, width)
    return side / next(units for least, units in ACROSS.items() if side >= least)


def pattern(
    code_word: UInt8[np.ndarray, "256"], height: int, width: int, key: bytes = KEY, *, alone: bool = False
) -> Float32[np.ndarray, "H W"]:
    """The pattern of a code word for images of one size, with a mean square of 1.

    Long waves are the strongest: they are less visible (LPIPS) and a codec keeps more of them.
    """
    chosen = lines(key)
    signs = 1.0 - 2.0 * code_word[chosen.bits].astype(np.float64)
    index = np.concatenate([chosen.sync, chosen.data])
    phases = np.concatenate([chosen.sync_phases * (SYNC_ALONE if alone else 1.0), chosen.data_phases * signs])
    return _waves(index, phases * np.hypot(*index.T) ** -(FALL_ALONE if alone else FALL), height, width)


def still_pattern(height: int, width: int, key: bytes = KEY) -> Float32[np.ndarray, "H W"]:
    """The waves that stay, for images of one size, with a mean square of 1."""
    return _waves(lines(key).still, lines(key).still_phases, height, width)


def _waves(
    index: Int[np.ndarray, "n 2"], amplitudes: Complex128[np.ndarray, " n"], height: int, width: int
) -> Float32[np.ndarray, "H W"]:
    grid = np.zeros((TILE // 2, TILE), np.complex128)
    grid[index[:, 1], index[:, 0]] = amplitudes / np.sqrt(
        (np.abs(amplitudes) ** 2).sum() / 2
    )  # negative x from the end
    used_y, used_x = (np.flatnonzero(grid.any(axis)) for axis in (1, 0))
    period = TILE * unit_of(height, width)
    x, y = ((np.arange(count) + 0.5) / period for count in (width, height))
    waves_y = np.exp(2j * np.pi * y[:, None] * used_y)
    waves_x = np.exp(2j * np.pi * x * np.where(used_x < TILE // 2, used_x, used_x - TILE)[:, None])
    return (waves_y @ grid[np.ix_(used_y, used_x)] @ waves_x).real.astype(np.float32)


def swing(times: Float64[np.ndarray, " T"]) -> Float32[np.ndarray, " T"]:
    """Factors (-1 to 1) of the pattern in frames shown at ``times`` [s]: 1 from the beginning, -1 around 1 s."""
    triangle = 4.0 * np.abs(np.mod(times / PERIOD_S, 1.0) - 0.5) - 1.0
    return np.clip(triangle * (PERIOD_S / 2 / RAMP_S), -1.0, 1.0).astype(np.float32)
