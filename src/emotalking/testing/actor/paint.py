"""Textures of the actor, painted by smooth functions of the place on the face."""

import cv2
import numpy as np
from jaxtyping import Float32

import emotalking.testing.actor.surface as surface
from emotalking.testing.actor.hair import flow, hairline, strands
from emotalking.testing.actor.parts import IRIS_ANGLE
from emotalking.testing.actor.style import ActorStyle
from emotalking.testing.actor.surface import EYE_X, EYE_Y, MOUTH_X, bump, smoothstep

SKIN_REACH = 1.85
"""The skin texture covers azimuths of +- this, radians."""

Texture = Float32[np.ndarray, "h w 3"]


def skin_uv(theta: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Place in the skin texture, 0..1. [..., 2]"""
    return np.stack([0.5 + 0.5 * theta / SKIN_REACH, (surface.T_TOP - t) / (surface.T_TOP - surface.T_BOTTOM)], -1)


def _over(base: np.ndarray, colour: np.ndarray, amount: np.ndarray) -> np.ndarray:
    return base + (np.asarray(colour) - base) * np.clip(amount, 0, 1)[..., None]


def _tint(base: np.ndarray, factor: tuple[float, float, float], amount: np.ndarray) -> np.ndarray:
    return base * (1 + (np.array(factor) - 1) * np.clip(amount, 0, 1)[..., None])


def skin(style: ActorStyle, size: int) -> Texture:
    """The face's albedo over ``(theta, t)``."""
    theta = (np.arange(size) + 0.5) / size * 2 * SKIN_REACH - SKIN_REACH
    t = surface.T_TOP - (np.arange(size) + 0.5) / size * (surface.T_TOP - surface.T_BOTTOM)
    theta, t = np.meshgrid(theta, t)
    x = surface.half_width(t, style) * np.sin(theta)
    front = np.abs(theta) < 1.4
    s = np.where(front, np.abs(x), 0.2)
    base = np.broadcast_to(np.array(style.skin), (*x.shape, 3)).copy()
    base *= (1 + 0.006 * strands(x * 30, t * 90, 1, 0.5, 3.0) * strands(t * 30, x * 90, 2, 0.5, 3.0))[..., None]
    base = _complexion(base, s, t, style)
    base = _folds(base, s, t)
    if style.beard > 0:
        base = _beard(base, x, s, t, theta, style)
    base = _lips(base, x, s, t, style)
    base = _eyes(base, s, t, style)
    base = _brows(base, x, s, t, style)
    scalp = smoothstep(t - hairline(theta, style), -0.008, 0.006)
    root = np.array(style.hair) * 0.75
    streak = 0.75 + 0.25 * strands(*flow(theta, t, style), 2, 25.0, 70.0)
    base = _over(base, root, scalp * np.clip(streak, 0.2, 1) * np.where(s < 0.1, 0.92, 1))
    return np.clip(base, 0.01, 1).astype(np.float32)


def _complexion(base: np.ndarray, s: np.ndarray, t: np.ndarray, style: ActorStyle) -> np.ndarray:
    rosy = (1.02, 0.80, 0.80)
    base = _tint(base, rosy, style.blush * 1.0 * bump(s, t, (0.041, -0.024), (0.016, 0.013)))
    base = _tint(base, rosy, style.blush * 0.8 * bump(s, t, (0.0, -0.031), (0.011, 0.009)))
    base = _tint(base, rosy, style.blush * 0.4 * bump(s, t, (0.0, -0.095), (0.018, 0.010)))
    base = _tint(base, (1.04, 1.05, 1.05), bump(s, t, (0.0, 0.055), (0.035, 0.018)))
    base = _tint(base, (1.03, 1.04, 1.04), bump(s, t, (0.0, -0.015), (0.005, 0.014)))
    return _tint(base, (0.93, 0.86, 0.86), bump(s, t, (0.0315, -0.0065), (0.014, 0.0045)) * 0.8)


def _folds(base: np.ndarray, s: np.ndarray, t: np.ndarray) -> np.ndarray:
    fold = (
        np.exp(-((surface.fold_distance(s, t) / 0.0022) ** 2))
        * smoothstep(t, -0.062, -0.050)
        * smoothstep(t, -0.030, -0.037)
    )
    base = _tint(base, (0.86, 0.78, 0.76), 0.55 * fold)
    base = _tint(base, (0.80, 0.68, 0.66), 0.7 * bump(s, t, (0.0, -0.0772), (0.013, 0.0030)))
    nostril = np.exp(-((np.hypot((s - 0.0062) / 0.0029, (t + 0.0394 + 0.10 * (s - 0.0062)) / 0.0014)) ** 4))
    wing = (
        np.exp(-(((np.hypot((s - 0.0125) / 0.0062, (t + 0.0335) / 0.0068) - 1) / 0.16) ** 2))
        * smoothstep(s, 0.0125, 0.0165)
        * smoothstep(t, -0.043, -0.037)
    )
    base = _tint(base, (0.74, 0.60, 0.57), 0.55 * wing)
    base = _tint(base, (0.80, 0.68, 0.66), 0.8 * bump(s, t, (0.0, -0.0405), (0.008, 0.0014)))
    base = _tint(base, (0.90, 0.82, 0.80), 0.6 * bump(s, t, (0.0, -0.0475), (0.0022, 0.0045)))
    return _over(base, np.array([0.17, 0.08, 0.065]), 0.9 * nostril)


def _lips(base: np.ndarray, x: np.ndarray, s: np.ndarray, t: np.ndarray, style: ActorStyle) -> np.ndarray:
    """Red of the lips, their edge, and the dark line between them."""
    upper, lower = surface.lip_outer(s, style, True), surface.lip_outer(s, style, False)
    line = surface.mouth_line(s)
    soft = 0.0007
    inside = (
        smoothstep(upper - t, -soft, 1.2 * soft)
        * smoothstep(t - lower, -soft, 1.8 * soft)
        * smoothstep(MOUTH_X + 0.0002 - s, -0.0004, 0.002)
    )
    wrinkle = 1 + 0.045 * strands(x * 60, t * 60, 12, 4.0, 14.0)
    above = smoothstep(t, line - 0.001, line + 0.001)
    red = np.array(style.lips) * (wrinkle * (1.04 - 0.18 * above))[..., None]
    base = _over(base, red, 0.93 * inside)
    base = _tint(base, (1.10, 1.13, 1.13), 0.8 * inside * bump(s, t, (0.0, -0.0685), (0.010, 0.0016)))
    shadow = np.exp(-(((np.abs(t - line) - surface.slit(s)) / 0.0011) ** 2)) * smoothstep(
        MOUTH_X + 0.003 - s, 0.0, 0.003
    )
    base = _tint(base, (0.50, 0.32, 0.32), 0.75 * shadow)
    return _tint(base, (0.62, 0.45, 0.43), 0.75 * bump(s, t, (MOUTH_X + 0.0004, line - 0.0002), (0.0019, 0.0014)))


def _eyes(base: np.ndarray, s: np.ndarray, t: np.ndarray, style: ActorStyle) -> np.ndarray:
    """Sockets, creases of the lids, dark lash lines."""
    lid = surface.lid_of(style)
    e, h = s - EYE_X, t - EYE_Y
    across = np.clip(e, -lid.half, lid.half)
    base = _tint(base, (1.05, 0.98, 0.98), 0.8 * bump(e, h, (0.0, 0.009), (0.0165, 0.0065)))
    base = _tint(base, (0.86, 0.76, 0.76), 0.7 * bump(e, h, (-0.0165, 0.001), (0.0035, 0.006)))
    within = smoothstep(np.abs(e), 0.0172, 0.0125)
    crease_y = lid.upper_y(across * 0.93) * 0.9 + 0.0044
    crease = np.exp(-(((h - crease_y) / 0.00075) ** 2)) * within
    base = _tint(base, (0.52, 0.38, 0.36), 0.75 * crease)
    base = _tint(base, (1.07, 1.07, 1.06), 0.7 * np.exp(-(((h - crease_y + 0.0022) / 0.0010) ** 2)) * within)
    bag = np.exp(-(((h - lid.lower_y(across) + 0.0052 - 20 * np.maximum(e, -0.01) ** 2) / 0.0009) ** 2)) * smoothstep(
        np.abs(e), 0.013, 0.007
    )
    base = _tint(base, (0.84, 0.74, 0.73), 0.55 * bag)
    reach = smoothstep(np.abs(e), lid.half + 0.0016, lid.half - 0.001)
    heavy = 0.0012 + 0.0007 * style.lashes * smoothstep(e, -0.012, 0.010)
    upper = smoothstep(h - lid.upper_y(across), heavy, 0.3 * heavy) * smoothstep(h, -0.003, 0.0005) * reach
    base = _over(base, np.array(style.brows) * 0.45, (0.62 + 0.33 * style.lashes) * upper)
    lower = smoothstep(lid.lower_y(across) - h, 0.0011, 0.0002) * smoothstep(h, 0.002, -0.0005) * reach
    return _over(base, np.array(style.skin) * np.array([0.62, 0.46, 0.43]), (0.60 + 0.2 * style.lashes) * lower)


def _brows(base: np.ndarray, x: np.ndarray, s: np.ndarray, t: np.ndarray, style: ActorStyle) -> np.ndarray:
    """Hairs of the brows along an arch."""
    u = np.clip((s - 0.0115) / (0.0535 - 0.0115), 0, 1)
    arch = (
        0.0248
        + 0.0064 * np.sin(np.pi * np.clip(u * 1.02, 0, 1) ** 0.85 * 0.72)
        - 0.0052 * np.clip(u - 0.62, 0, 1) / 0.38 * u
    )
    arch = arch + style.brow_angle * u
    half = style.brow_thickness * (
        0.0033 - 0.0022 * np.clip(u - 0.25, 0, 1) ** 1.3 - 0.0009 * np.clip(0.12 - u, 0, 1) / 0.12
    )
    along = smoothstep(s, 0.0095, 0.0145) * smoothstep(s, 0.0555, 0.0480)
    d = (t - arch) / np.maximum(half, 1e-4)
    hairs = strands(s * 28 - (t - arch) * (14 + 34 * u), u * 3, 21, 4.0, 22.0)
    mask = np.exp(-(np.abs(d) ** 3.0)) * along
    return _over(base, np.array(style.brows), mask * np.clip(0.86 + 0.13 * hairs, 0, 1))


def _beard(
    base: np.ndarray, x: np.ndarray, s: np.ndarray, t: np.ndarray, theta: np.ndarray, style: ActorStyle
) -> np.ndarray:
    """Short full beard and moustache."""
    cheek = -0.040 - 0.022 * smoothstep(s, 0.062, 0.030) + 0.055 * smoothstep(np.abs(theta), 0.9, 1.45)
    area = smoothstep(cheek - t, -0.004, 0.008)
    area = np.where(np.abs(theta) > 1.62, 0, area)
    moustache = np.exp(-((np.abs(t + 0.0478 + 0.16 * s) / 0.0072) ** 4)) * smoothstep(s, 0.037, 0.028)
    corner = np.exp(-(np.hypot((s - 0.0315) / 0.0075, (t + 0.0585) / 0.0085) ** 4))
    bare = np.exp(-((np.hypot(s / 0.0095, (t + 0.0715) / 0.0020)) ** 4)) * 0.35
    area = np.maximum(area * (1 - bare), np.maximum(moustache, corner) * smoothstep(t, -0.0405, -0.0440))
    hairs = cv2.GaussianBlur(
        np.random.default_rng(31).normal(size=x.shape), (0, 0), 0.0008 * len(x), None, 0.0022 * len(x)
    )
    hairs = hairs / hairs.std()
    return _over(base, np.array(style.hair) * 0.62, style.beard * area * np.clip(0.82 + 0.10 * hairs, 0, 1))


def hair(style: ActorStyle, size: int) -> Texture:
    """Strands of the shell over ``(theta, t)``, columns -pi..pi, rows from the crown to the nape."""
    theta, t = np.meshgrid(np.linspace(-np.pi, np.pi, 2 * size), np.linspace(surface.T_TOP - 1e-4, -0.088, size))
    across, along = flow(theta, t, style)
    value = (
        0.11 * strands(across, along, 3, 4.0, 11.0)
        + 0.13 * strands(across, along, 41, 14.0, 45.0)
        + 0.08 * strands(across, along * 2, 42, 45.0, 110.0)
    )
    band = np.exp(-(((t - 0.093 + 0.004 * strands(across, along, 43, 8.0, 20.0)) / 0.012) ** 2))
    calm = 0.55 if style.hair_style == "cropped" else 1.0
    return _hair_colour(calm * value + 0.30 * band - 0.05, style)


def curtain(style: ActorStyle, size: int) -> Texture:
    """Strands of the long hair along the face, columns front to back, rows downwards."""
    u, s = np.meshgrid(np.linspace(0, 1, size), np.linspace(0, 1, size))
    across = 1.6 * u
    value = (
        0.12 * strands(across, 3 * s, 6, 3.0, 8.0)
        + 0.15 * strands(across, 3 * s, 44, 9.0, 26.0)
        + 0.08 * strands(across, 4 * s, 45, 26.0, 60.0)
    )
    value = value + 0.22 * np.exp(-(((s - 0.42) / 0.10) ** 2)) - 0.55 * np.exp(-((u / 0.05) ** 2))
    return _hair_colour(value, style)


def _hair_colour(value: np.ndarray, style: ActorStyle) -> Texture:
    tone = np.exp(value)[..., None]
    sheen = np.array([1.06, 1.0, 0.94]) ** np.clip(value * 2, -1, 1)[..., None]
    gleam = 0.10 * np.clip(value, 0, 1)[..., None] * np.array([1.0, 0.93, 0.85])
    return np.clip(np.array(style.hair) * tone * sheen + gleam, 0.01, 1).astype(np.float32)


def eye(style: ActorStyle, size: int) -> Texture:
    """Sclera, iris, pupil; radius in the texture is proportional to the angle from the pupil."""
    axis = ((np.arange(size) + 0.5) / size - 0.5) * 3.0
    x, y = np.meshgrid(axis, axis)
    r, angle = np.hypot(x, y), np.arctan2(y, x)
    base = np.broadcast_to(np.array([0.93, 0.915, 0.90]), (size, size, 3)).copy()
    base = _tint(base, (0.95, 0.76, 0.72), smoothstep(r, 0.65, 1.15) * 0.9)
    q = r / IRIS_ANGLE
    fibre = strands(angle / (2 * np.pi) * 6, r * 9, 51, 3.0, 9.0)
    iris = (
        np.array(style.iris)[None, None]
        * (
            0.95
            + 0.14 * fibre
            + 0.42 * np.exp(-(((q - 0.56) / 0.18) ** 2))
            + 0.35 * smoothstep(y / IRIS_ANGLE, -0.2, 0.9)
        )[..., None]
    )
    iris = _tint(iris, (0.22, 0.22, 0.24), smoothstep(q, 0.78, 0.99))
    iris = _over(iris, np.array([0.02, 0.018, 0.018]), smoothstep(q, 0.46, 0.39))
    return np.clip(_over(base, iris, smoothstep(q, 1.05, 0.96)), 0.01, 1).astype(np.float32)


def teeth(size: int, upper: bool) -> Texture:
    """Light enamel with darker gaps; columns run along the arch."""
    u = np.linspace(-1, 1, size)
    v = np.linspace(0, 1, size // 2)[:, None]
    edges = np.array([0.0, 0.24, 0.43, 0.62, 0.80, 0.95]) if upper else np.array([0.0, 0.15, 0.31, 0.49, 0.68, 0.86])
    gap = np.exp(-(((np.abs(u)[None] - edges[:, None]) / 0.016) ** 2)).sum(0)[None]
    bite = v if upper else 1 - v
    gum = smoothstep(bite, 0.24, 0.14)
    colour = np.ones((size // 2, size, 3)) * np.array([0.95, 0.93, 0.88])
    colour = _tint(colour, (0.62, 0.52, 0.46), gap * (0.35 + 0.4 * smoothstep(bite, 0.85, 1.0)))
    return _over(colour, np.array([0.72, 0.40, 0.40]), gum + 0 * gap).astype(np.float32)


def knit(size: int, ribs: int, rough: float) -> Texture:
    """Grey cloth pattern around 1: vertical ribs and some roughness."""
    u, v = np.meshgrid(np.linspace(0, 1, size), np.linspace(0, 1, size))
    value = 1 + 0.07 * np.sin(2 * np.pi * ribs * u) + rough * strands(u * 24, v * 160, 61, 1.0, 6.0)
    return np.repeat(value[..., None], 3, -1).astype(np.float32)
