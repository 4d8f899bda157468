"""Frames in the colours of BT.2100 (HLG and PQ, as phones film) and of other wide gamuts, in those of BT.709.

The steps are those of a player on an ordinary screen: signal to light, the curve of BT.2390 for what is brighter than
diffuse white, gamut by a matrix, light to signal by BT.1886. Light is in units of diffuse white, 203 cd/m2 (BT.2408).
"""

from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, UInt8, UInt16

WHITE = 203.0
"""cd/m2 of diffuse white, ITU-R BT.2408-7 table 1; white of the result."""
PEAK = 1000.0
"""cd/m2 of the brightest highlight: the nominal peak of HLG (BT.2100-2), and what most PQ material is graded for."""
_STEPS = 4096
"""Table entries of a signal: phones film 10 bits."""
_GAMMA = 2.4
"""ITU-R BT.1886."""
_HLG_GAMMA = 1.2
"""BT.2100-2 table 5, at 1000 cd/m2."""
_LUMA = np.array([0.2627, 0.6780, 0.0593], np.float32)
"""BT.2020-2 table 4."""
_TRC_PQ, _TRC_HLG = 16, 18
_BT2020, _P3_D65 = 9, 12
"""ITU-T H.273 tables 2 and 3."""
_TO_BT709 = {
    _BT2020: ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187)),
    _P3_D65: ((1.2249, -0.2247, 0.0), (-0.0420, 1.0419, 0.0), (-0.0197, -0.0786, 1.0979)),
}
"""Linear RGB to that of BT.709 (BT.2020: ITU-R BT.2407-0 annex 2; P3: from the primaries of SMPTE EG 432-1)."""


class WideColour(NamedTuple):
    """Colours that :func:`to_bt709` converts."""

    transfer: str
    """"HLG", "PQ" or "SDR"."""
    primaries: int
    """ITU-T H.273 table 2."""


def wide_colour(transfer: int, primaries: int) -> WideColour | None:
    """The colours behind two numbers of ITU-T H.273 (tables 3 and 2); None: BT.709, or treated as such."""
    if transfer in (_TRC_PQ, _TRC_HLG):
        known = primaries if primaries in _TO_BT709 else _BT2020
        return WideColour("PQ" if transfer == _TRC_PQ else "HLG", known)
    return WideColour("SDR", primaries) if primaries in _TO_BT709 else None


def to_bt709(image: UInt16[np.ndarray, "H W 3"], colour: WideColour) -> UInt8[np.ndarray, "H W 3"]:
    """Convert an image of R'G'B' signals (16 bits, full range) to BT.709, 8 bits."""
    light = np.take(_light(colour.transfer), image >> 4)
    if colour.transfer == "HLG":
        # OOTF (BT.2100-2 table 5): scene to display light, by the luminance of the scene.
        scene = np.maximum(cv2.transform(light, _LUMA[None]), np.float32(1e-6))
        light *= (cv2.pow(scene, _HLG_GAMMA - 1) * (PEAK / WHITE))[..., None]
    if colour.transfer != "SDR":
        peak = cv2.max(cv2.max(light[..., 0], light[..., 1]), light[..., 2])
        # Ratios of the components stay, so that highlights keep their hue.
        curve = _highlights()
        place = np.sqrt(np.minimum(peak, PEAK / WHITE)) * np.float32((_STEPS - 1) / np.sqrt(PEAK / WHITE))
        light *= curve[(place + 0.5).astype(np.uint16)][..., None]
    matrix = np.array(_TO_BT709[colour.primaries], np.float32)
    out = cv2.transform(light, matrix)
    np.clip(out, 0.0, 1.0, out=out)
    return np.rint(cv2.pow(out, 1 / _GAMMA) * 255).astype(np.uint8)


@cache
def _light(transfer: str) -> Float32[np.ndarray, " steps"]:
    """Light of a signal 0..1: of the scene (HLG), or of the display in units of white."""
    signal = np.linspace(0.0, 1.0, _STEPS)
    if transfer == "SDR":
        return (signal**_GAMMA).astype(np.float32)
    if transfer == "HLG":  # inverse OETF, BT.2100-2 table 5
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12).astype(np.float32)
    return (_pq_to_light(signal) / WHITE).astype(np.float32)


_M1 = 2610 / 16384
_M2 = 2523 / 4096 * 128
_C1 = 3424 / 4096
_C2 = 2413 / 4096 * 32
_C3 = 2392 / 4096 * 32
"""BT.2100-2 table 4."""


def _pq_to_light(signal: np.ndarray) -> np.ndarray:
    """EOTF of PQ, cd/m2 (BT.2100-2 table 4)."""
    power = signal ** (1 / _M2)
    return 10000.0 * (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1)


def _light_to_pq(light: np.ndarray) -> np.ndarray:
    """Inverse of :func:`_pq_to_light`."""
    power = (light / 10000.0) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2


@cache
def _highlights() -> Float32[np.ndarray, " steps"]:
    """Factor of light by its square root (evenly from 0 to the peak): the EETF of ITU-R BT.2390-11, 5.4.1.

    Below 0.4 of white nothing changes; from there on a Hermite spline in PQ leads to white for the peak.
    """
    light = np.linspace(0.0, np.sqrt(PEAK / WHITE), _STEPS) ** 2 * WHITE
    top = float(_light_to_pq(np.array([PEAK]))[0])
    source = _light_to_pq(light) / top
    most = float(_light_to_pq(np.array([WHITE]))[0]) / top
    knee = 1.5 * most - 0.5
    t = np.clip((source - knee) / (1 - knee), 0, 1)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * most
    mapped = _pq_to_light(np.where(source < knee, source, spline) * top)
    return np.where(light > 1e-9, mapped / np.maximum(light, 1e-9), 1.0).astype(np.float32)
