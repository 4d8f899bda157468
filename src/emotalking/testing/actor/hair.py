"""Hair: a shell over the skull whose thickness makes the hairline and the locks, and curtains for long hair."""

import numpy as np
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator

import emotalking.testing.actor.surface as surface
from emotalking.data.labels import Label
from emotalking.testing.actor.parts import Part, sheet
from emotalking.testing.actor.style import ActorStyle
from emotalking.testing.actor.surface import smoothstep

_LINES = {
    # degrees from the front -> height of the hairline on the profile
    "short": (
        (0, 0.0885), (20, 0.0875), (34, 0.0840), (46, 0.0750), (55, 0.0600), (63, 0.0420), (69, 0.0250),
        (75, 0.0080), (82, -0.0030), (90, -0.0020), (98, 0.0200), (112, -0.0200), (130, -0.0550), (180, -0.0620),
    ),
    "cropped": (
        (0, 0.0880), (18, 0.0895), (32, 0.0890), (44, 0.0780), (53, 0.0630), (62, 0.0460), (68, 0.0270),
        (75, 0.0060), (82, -0.0140), (90, -0.0120), (98, 0.0200), (112, -0.0200), (130, -0.0500), (180, -0.0550),
    ),
    "long": (
        (0, 0.0900), (14, 0.0890), (30, 0.0820), (43, 0.0690), (52, 0.0540), (60, 0.0330), (67, 0.0100),
        (72, -0.0150), (80, -0.0500), (100, -0.0800), (130, -0.0850), (180, -0.0850),
    ),
}  # fmt: skip
_PART = {"short": 0.42, "cropped": 9.0, "long": 0.12}
"""Azimuth of the parting."""


def strands(across: np.ndarray, along: np.ndarray, seed: int, low: float, high: float) -> np.ndarray:
    """Smooth noise of about unit variance, fine in ``across`` (``low..high`` cycles), slow in ``along``."""
    rng = np.random.default_rng(seed)
    count = 14
    frequency = rng.uniform(low, high, count) * 2 * np.pi
    bend = rng.uniform(-2.5, 2.5, count)
    phase = rng.uniform(0, 2 * np.pi, count)
    return (
        sum(np.sin(f * across + b * along + p) for f, b, p in zip(frequency, bend, phase, strict=True))
        * (2 / count) ** 0.5
    )


def hairline(theta: np.ndarray, style: ActorStyle) -> np.ndarray:
    """Height ``t`` of the hairline."""
    degrees, height = np.array(_LINES[style.hair_style]).T
    return PchipInterpolator(degrees, height)(np.clip(np.degrees(np.abs(theta)), 0, 180))


def flow(theta: np.ndarray, t: np.ndarray, style: ActorStyle) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates ``(across, along)`` of the strands."""
    part = _PART[style.hair_style]
    if style.hair_style == "cropped":
        return theta * 0.5 + 1.5 * t, t * 30
    away = np.abs(theta - part)
    top = smoothstep(t, 0.070, 0.105) * smoothstep(away, 1.5, 0.5)
    tilt = 3.0 if style.hair_style == "short" else 1.2
    sweep = np.where(theta < part, 1.0, -1.0)
    return 0.42 * theta + sweep * (tilt + 4.0 * top) * (t - 0.085), (t * 25 + away * 1.5)


def _thickness(theta: np.ndarray, t: np.ndarray, style: ActorStyle) -> np.ndarray:
    above = t - hairline(theta, style)
    across, along = flow(theta, t, style)
    part = _PART[style.hair_style]
    top = smoothstep(t, 0.04, 0.11)
    if style.hair_style == "cropped":
        full = 0.0045 + 0.0045 * top
        return full * smoothstep(above, -0.006, 0.016) - 0.0016 + 0.0003 * strands(across, along, 5, 14.0, 40.0)
    short = style.hair_style == "short"
    side = 0.0075 if short else 0.0120
    full = side + (0.0175 - side) * top
    quiff = (
        0.0075
        * np.exp(-(((above - 0.010) / 0.011) ** 2))
        * smoothstep(np.abs(theta), 1.0, 0.35)
        * (1.0 if short else 0.35)
    )
    groove = 0.0065 * np.exp(-(((theta - part) / 0.055) ** 2)) * smoothstep(t, 0.080, 0.092)
    lift = 1 + 0.28 * np.exp(-(((theta - part + 0.42) / 0.35) ** 2)) * top
    lock = 0.0013 * strands(across, along, 3, 4.0, 11.0)
    edge = smoothstep(
        above + 0.0013 * strands(across, along, 9, 6.0, 16.0) * smoothstep(np.abs(theta), 1.2, 0.9), -0.004, 0.013
    )
    return full * lift * edge + quiff - groove + lock * edge - 0.0018


def hair(style: ActorStyle) -> list[Part]:
    """Meshes of the hair; texture "hair" is painted over ``(theta, t)``, see :mod:`.paint`."""
    theta = np.linspace(-np.pi, np.pi, 145)
    t = np.linspace(surface.T_TOP - 1e-4, -0.088, 62)
    theta, t = np.meshgrid(theta, t)
    base = surface.loft(theta, t, style)
    normal = _grid_normals(base)
    normal[t > 0.124] = (0, 1, 0)
    thick = _thickness(theta, t, style)
    points = base + normal * thick[..., None]
    visible = (thick > -0.0045) & (t > hairline(theta, style) - 0.02)
    shell = sheet(points, np.ones(3), Label.HAIR, texture="hair")
    keep = visible.reshape(-1)[shell.faces].any(1)
    shell = Part(shell.vertices, shell.faces[keep], shell.colour, shell.uv, Label.HAIR, "hair", gloss=0.0)
    return [shell, *(_curtain(sign, style) for sign in (1, -1))] if style.hair_style == "long" else [shell]


def _grid_normals(points: Float[np.ndarray, "R C 3"]) -> Float[np.ndarray, "R C 3"]:
    down, aside = np.gradient(points, axis=0), np.gradient(points, axis=1)
    normal = np.cross(down, aside)
    return normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)


def _curtain(sign: int, style: ActorStyle) -> Part:
    """Long hair along the face and neck."""
    s, u = np.meshgrid(np.linspace(0, 1, 60), np.linspace(0, 1, 44), indexing="ij")
    knots = np.array([0, 0.2, 0.4, 0.6, 0.75, 0.9, 1.0])
    y = PchipInterpolator(knots, [0.085, 0.040, -0.010, -0.060, -0.100, -0.145, -0.172])(s)
    wide = PchipInterpolator(knots, [0.0700, 0.0850, 0.0880, 0.0850, 0.0810, 0.0800, 0.0740])(s) * style.face_width
    front = np.radians(PchipInterpolator(knots, [44, 55, 61, 56, 45, 40, 42])(s))
    phi = front + u * (np.radians(143) - front)
    lock = 0.0012 * strands(1.6 * u, 3 * s, 6, 3.0, 8.0) + 0.0006 * strands(1.6 * u, 3 * s, 7, 9.0, 18.0)
    ragged = 0.006 * strands(1.6 * u, 0 * s, 8, 3.0, 9.0) * smoothstep(s, 0.8, 1.0)
    wave = 0.0025 * np.sin(9 * s + 2 * u)
    radius = wide + lock + wave - 0.014 * np.exp(-((u / 0.07) ** 2)) * smoothstep(s, 0.05, 0.3)
    deep = 0.086 + lock - 0.012 * np.exp(-((u / 0.07) ** 2))
    points = np.stack([sign * radius * np.sin(phi), y + ragged, -0.010 + deep * np.cos(phi)], -1)
    part = sheet(points if sign > 0 else points[:, ::-1], np.ones(3), Label.HAIR, texture="curtain")
    return part
