"""One pass over every picture of a clip, small and grey: cuts, black frames, exposure, and what the timeline needs."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from emotalking.io.video import Damage, pictures
from emotalking.preprocess.timeline import Scan, glance

_TILES = 4
"""Brightness histograms are compared in so many tiles a side: a cut changes most of them at once."""
_BINS = 32
_CUT_BESIDE = 4.0
"""Both measures of change stand out from the pictures around a cut by this factor. Measured: jump cuts between takes of
one speaker before one wall reach 5 to 26, the wildest heads and the beat of keyframes 3.5."""
_CUT_LEAP, _CUT_CHANGE = 0.02, 4.0
"""Less (share of pixels, grey levels) is noise whatever is around it; jump cuts reach 0.04 and 12."""
_BLACK_LEVEL = 24.0
"""Grey levels; video black is 16 in studio range, and lens caps leave noise."""
_BLACK_SPREAD = 10.0
"""Deviation within the picture, grey levels: a dark scene with a lit face has more."""


@dataclass(frozen=True)
class PictureScan:
    """What one look at every picture tells, [P] each."""

    scan: Scan
    """Times, changes and damage, as the timeline wants them."""
    brightness: Float[np.ndarray, " P"]
    """Mean grey level, 0 to 255."""
    spread: Float[np.ndarray, " P"]
    """Deviation of the grey levels within the picture."""
    leap: Float[np.ndarray, " P"]
    """Share of pixels (0 to 1) whose grey level class changed since the picture before, mean over tiles; first: 0."""

    @property
    def times(self) -> Float[np.ndarray, " P"]:
        """Seconds since the first picture."""
        return self.scan.times - self.scan.times[0]


def scan_pictures(clip: str | Path) -> PictureScan:
    """Look at every picture once; memory is a few numbers a picture.

    Raises:
        UserError: no video, or not one picture can be decoded.
    """
    damage = Damage()
    rows: list[tuple[float, float, float, float, float]] = []
    last: tuple[np.ndarray, np.ndarray] | None = None
    for time, frame in pictures(clip, damage):
        small = glance(frame)
        tiles = tile_classes(small)
        change, leap = 0.0, float(last is not None)
        if last is not None and last[0].shape == small.shape:
            change, leap = float(np.sqrt(((small - last[0]) ** 2).mean())), tile_leap(last[1], tiles)
        rows.append((time, change, float(small.mean()), float(small.std()), leap))
        last = small, tiles
    times, change, brightness, spread, leap = np.array(rows).T
    return PictureScan(Scan(times, change, damage), brightness, spread, leap)


def tile_leap(before: Float[np.ndarray, "tiles bins"], after: Float[np.ndarray, "tiles bins"]) -> float:
    """Share of pixels, 0 to 1, that leave their grey level class from one picture to the next, mean over tiles.

    Args:
        before: :func:`tile_classes` of a picture.
        after: of the next one.
    """
    return float(np.abs(before - after).sum() / 2 / len(before))


def tile_classes(small: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "tiles bins"]:
    """Histogram of each tile about its own mean (so that a flash or an exposure step alone changes nothing), sum 1.

    The classes have soft borders, so that noise at a border moves no pixel.
    """
    height, width = small.shape
    tile = (np.arange(height) * _TILES // height)[:, None] * _TILES + np.arange(width) * _TILES // width
    tile = tile.ravel()
    count = np.bincount(tile, minlength=_TILES**2)
    level = small.ravel() - (np.bincount(tile, small.ravel(), _TILES**2) / count)[tile]
    place = np.clip((level + 256.0) / 512.0 * _BINS - 0.5, 0, _BINS - 1.001)
    low = place.astype(np.intp)
    share, at = place - low, tile * _BINS + low
    size = _TILES**2 * _BINS
    table = np.bincount(at, 1 - share, size) + np.bincount(at + 1, share, size)
    return table.reshape(-1, _BINS) / count[:, None]


def find_cuts(change: Float[np.ndarray, " P"], leap: Float[np.ndarray, " P"]) -> list[int]:
    """Numbers of the pictures that begin a new shot; fades are not found.

    Args:
        change: root mean square difference to the picture before, grey levels.
        leap: see :func:`tile_leap`.
    """
    stands_out = (change > _CUT_CHANGE) & (leap > _CUT_LEAP)
    stands_out &= (change > _CUT_BESIDE * _beside(change)) & (leap > _CUT_BESIDE * _beside(leap))
    return np.flatnonzero(stands_out).tolist()


def _beside(values: np.ndarray) -> np.ndarray:
    """The most among the second to fourth neighbours of each; the direct ones may share a cut that was blended."""
    padded = np.pad(values, 4, mode="reflect" if len(values) > 4 else "edge")
    count = len(values)
    return np.max([padded[4 + k : 4 + k + count] for k in (-4, -3, -2, 2, 3, 4)], axis=0)


def black_frames(brightness: Float[np.ndarray, " P"], spread: Float[np.ndarray, " P"]) -> Bool[np.ndarray, " P"]:
    """Pictures that show nothing but black."""
    return (brightness < _BLACK_LEVEL) & (spread < _BLACK_SPREAD)


def exposure_range(
    times: Float[np.ndarray, " P"], brightness: Float[np.ndarray, " P"], good: Bool[np.ndarray, " P"]
) -> float:
    """How much the brightness of the picture wanders: (95th - 5th percentile) / mean of its medians over a second.

    Args:
        times: seconds.
        brightness: mean grey levels (or those of the face).
        good: pictures that count (not black).
    """
    values = [
        float(np.median(brightness[here]))
        for second in range(int(times[-1]) + 1)
        if (here := good & (times >= second) & (times < second + 1)).any()
    ]
    if len(values) < 2:
        return 0.0
    low, high = np.percentile(values, [5, 95])
    return float((high - low) / max(float(np.mean(values)), 1.0))


def longest_part(
    times: Float[np.ndarray, " P"], good: Bool[np.ndarray, " P"], cuts: list[int], step: float
) -> tuple[float, float]:
    """The longest stretch of good pictures without a cut, in seconds; (0, 0) if there is none.

    Args:
        times: of the pictures [s].
        good: pictures that training could use.
        cuts: numbers of the pictures that begin a new shot.
        step: how long the last picture stays [s].
    """
    borders = set(cuts)
    best, begin = (0.0, 0.0), None
    for i in range(len(times)):
        if begin is not None and (not good[i] or i in borders):
            begin = None
        if good[i]:
            begin = i if begin is None else begin
            end = float(times[i + 1]) if i + 1 < len(times) else float(times[i]) + step
            if end - float(times[begin]) > best[1] - best[0] + 1e-9:
                best = (float(times[begin]), end)
    return best
