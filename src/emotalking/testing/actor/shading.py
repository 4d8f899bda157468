"""Light on the actor: soft wrapped key and fill, sky, and highlights, in the room's frame."""

import numpy as np
from jaxtyping import Float, Float32

from emotalking.testing.actor.body import KEY_LIGHT

_FLIP = np.array([1.0, -1.0, -1.0])
"""Room axes (y up, z to the viewer) to OpenCV camera axes."""
KEY = (KEY_LIGHT * _FLIP).astype(np.float32)
FILL = np.array([0.80, -0.10, -0.60], np.float32) / np.float32(np.linalg.norm([0.80, 0.10, 0.60]))
_HALF_KEY = (KEY + np.array([0, 0, -1], np.float32)) / np.linalg.norm(KEY + np.array([0, 0, -1], np.float32))
_HALF_FILL = (FILL + np.array([0, 0, -1], np.float32)) / np.linalg.norm(FILL + np.array([0, 0, -1], np.float32))
_WRAP = np.array([0.42, 0.24, 0.18], np.float32)
"""Extent of light past the terminator in red, green and blue (subsurface scattering of skin)."""
_KEY_COLOUR = np.array([0.70, 0.67, 0.63], np.float32)
_FILL_COLOUR = np.array([0.20, 0.215, 0.235], np.float32)
_SKY, _GROUND = np.array([0.46, 0.465, 0.48], np.float32), np.array([0.30, 0.27, 0.255], np.float32)


def light(
    normals: Float32[np.ndarray, "V 3"],
    ambient: Float32[np.ndarray, "V"],
    shadow: Float32[np.ndarray, "V"],
    soft: Float32[np.ndarray, "V"],
) -> Float32[np.ndarray, "V 4"]:
    """Light on a vertex: RGB factor for the albedo, and a broad highlight to add.

    Args:
        normals: unit, camera space (OpenCV axes).
        ambient: visible share of the surroundings, 0..1.
        shadow: visible share of the key light, 0..1.
        soft: 1 for skin (light wraps around, broad highlight), 0 else.
    """
    wrap = 0.12 + soft[:, None] * (_WRAP - 0.12)
    towards = (normals @ KEY)[:, None]
    key = np.clip((towards + wrap) / (1 + wrap), 0, 1) ** 1.15
    fill = np.clip((normals @ FILL)[:, None] * 0.7 + 0.3, 0, 1)
    up = (0.5 - 0.5 * normals[:, 1])[:, None]
    sky = (_GROUND + (_SKY - _GROUND) * up) * (0.42 + 0.58 * ambient[:, None])
    shaded = shadow[:, None] ** (0.75 + soft[:, None] * np.array([-0.15, 0.0, 0.08], np.float32))
    total = sky + _KEY_COLOUR * key * (0.12 + 0.88 * shaded) + _FILL_COLOUR * fill * (0.4 + 0.6 * ambient[:, None])
    shine = np.clip(normals @ _HALF_KEY, 0, 1) ** 22 * shadow * 0.085 + np.clip(normals @ _HALF_FILL, 0, 1) ** 18 * 0.02
    return np.concatenate([total, (shine * (0.45 + 0.55 * soft))[:, None]], axis=1).astype(np.float32)


def highlight(normals: Float32[np.ndarray, "n 3"]) -> Float32[np.ndarray, "n"]:
    """Sharp highlight of wet surfaces (eyes, teeth) at pixels."""
    return np.clip(normals @ _HALF_KEY, 0, 1) ** 130 * 1.1 + np.clip(normals @ _HALF_FILL, 0, 1) ** 160 * 0.22


def shade(albedo: Float[np.ndarray, "*n 3"], lit: Float[np.ndarray, "*n 4"]) -> Float32[np.ndarray, "*n 3"]:
    """Colour of a lit surface, rolled off softly towards white."""
    colour = albedo * lit[..., :3] + lit[..., 3:]
    over = np.maximum(colour - 0.8, 0)
    return (np.minimum(colour, 0.8) + over / (1 + 2.2 * over)).astype(np.float32)
