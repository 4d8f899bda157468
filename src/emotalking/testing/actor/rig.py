"""Deformation of the face: action units, jaw, lips and lids as displacements of the skin at rest."""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float, Float32

import emotalking.testing.actor.surface as surface
from emotalking.testing.actor.skin import Skin
from emotalking.testing.actor.state import Viseme
from emotalking.testing.actor.style import ActorStyle
from emotalking.testing.actor.surface import EYE_X, EYE_Y, JAW_HINGE, MOUTH_X, MOUTH_Y, SLIT_X, bump, smoothstep

JAW_ANGLE = 0.21
"""Rotation of the wide open jaw (jaw = 1), radians."""
_UPPER_REACH, _LOWER_REACH = 0.0150, 0.0125
"""Distance from its edge up to which the skin follows a lid, metres."""

Field = Callable[
    [np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray | float, np.ndarray | float, np.ndarray | float]
]


def _stretch(side: np.ndarray, y: np.ndarray, height: float = 0.017) -> np.ndarray:
    """Horizontal pull of the lips, 1 at the mouth's corners."""
    u = side / MOUTH_X
    return u * np.exp(0.5 * (1 - u * u)) * np.exp(-(((y - MOUTH_Y) / height) ** 2))


def _fields() -> dict[str, Field]:
    """Displacements ``(dx outwards, dy, dz)``, millimetres at intensity 5 (AUs) or 1 (visemes); args side, y, line."""
    return {
        "AU01": lambda s, y, m: (
            0,
            9.0 * bump(s, y, (0.010, 0.0285), (0.011, 0.012)),
            0.5 * bump(s, y, (0.01, 0.04), (0.012, 0.01)),
        ),
        "AU02": lambda s, y, m: (0, 9.0 * bump(s, y, (0.043, 0.0300), (0.014, 0.012)), 0),
        "AU04": lambda s, y, m: (
            -4.2 * bump(s, y, (0.015, 0.026), (0.009, 0.010)) * smoothstep(s, 0.0, 0.008),
            -7.0 * bump(s, y, (0.014, 0.027), (0.014, 0.011)) - 1.5 * bump(s, y, (0.04, 0.03), (0.012, 0.01)),
            1.6 * bump(s, y, (0.006, 0.024), (0.007, 0.008)),
        ),
        "AU06": lambda s, y, m: (
            0,
            6.0 * bump(s, y, (0.040, -0.019), (0.015, 0.012)),
            3.4 * bump(s, y, (0.040, -0.014), (0.014, 0.011)),
        ),
        "AU09": lambda s, y, m: (
            0,
            3.6 * bump(s, y, (0.011, -0.026), (0.010, 0.013)) + 2.6 * bump(s, y, (0.010, -0.047), (0.012, 0.006)),
            0.8 * bump(s, y, (0.012, -0.012), (0.006, 0.008)),
        ),
        "AU12": lambda s, y, m: (
            7.0 * _stretch(s, y),
            11.0 * bump(s, y, (0.0270, -0.0570), (0.0115, 0.0125)) + 5.0 * bump(s, y, (0.037, -0.034), (0.013, 0.013)),
            4.5 * bump(s, y, (0.037, -0.033), (0.013, 0.012)) - 3.2 * bump(s, y, (0.025, -0.0585), (0.009, 0.010)),
        ),
        "AU15": lambda s, y, m: (1.0 * _stretch(s, y), -9.5 * bump(s, y, (0.0250, -0.0600), (0.0105, 0.0115)), 0),
        "AU17": lambda s, y, m: (
            0,
            4.0 * bump(s, y, (0.0, -0.087), (0.020, 0.010)) + 1.4 * bump(s, y, (0.0, -0.063), (0.018, 0.007)),
            2.4 * bump(s, y, (0.0, -0.072), (0.016, 0.010)),
        ),
        "AU20": lambda s, y, m: (
            6.0 * _stretch(s, y),
            -1.6 * bump(s, y, (0.026, -0.062), (0.010, 0.010)),
            -1.4 * bump(s, y, (0.02, -0.06), (0.016, 0.012)),
        ),
        "AU23": lambda s, y, m: (
            -1.2 * _stretch(s, y),
            -350 * (y - m) * bump(s, y, (0.0, MOUTH_Y), (0.021, 0.0085)),
            -1.2 * bump(s, y, (0.0, MOUTH_Y), (0.02, 0.008)),
        ),
        # tired faces sink: brows and cheeks follow the lids
        "AU43": lambda s, y, m: (
            0,
            -5.0 * bump(s, y, (0.030, 0.0300), (0.024, 0.012)) - 2.5 * bump(s, y, (0.040, -0.022), (0.016, 0.014)),
            0,
        ),
        "width": lambda s, y, m: (
            4.6 * _stretch(s, y),
            0.8 * bump(s, y, (0.026, -0.058), (0.010, 0.010)),
            -1.5 * bump(s, y, (0.022, -0.0585), (0.01, 0.012)),
        ),
        "pucker": lambda s, y, m: (
            -6.0 * _stretch(s, y, 0.020),
            70 * (y - m) * bump(s, y, (0.0, MOUTH_Y), (0.016, 0.009)),
            7.0 * bump(s, y, (0.0, MOUTH_Y), (0.017, 0.013)),
        ),
        "press": lambda s, y, m: (
            0,
            -260 * (y - m) * bump(s, y, (0.0, MOUTH_Y), (0.021, 0.0085)),
            -0.8 * bump(s, y, (0.0, MOUTH_Y), (0.02, 0.008)),
        ),
    }


class Rig:
    """Deforms the vertices of a :class:`Skin`; linear fields first, then the jaw, then the lids on their spheres."""

    def __init__(self, skin: Skin, style: ActorStyle) -> None:
        self.rest = skin.rest.astype(np.float64)
        self.names = tuple(_fields())
        x, t = skin.x, skin.t
        side, sign = np.abs(x), np.sign(x)
        # fields are read where the closed lips meet, so that both sides of the slit move alike
        line, height = surface.mouth_line(x), surface.pinched(x, t)
        frontal = smoothstep(np.abs(skin.theta), 1.6, 1.2)
        keep_lids = self._keep_lids(side, t)
        basis = []
        for name, field in _fields().items():
            dx, dy, dz = (np.broadcast_to(part, x.shape) for part in field(side, height, line))
            moved = np.stack([sign * dx, dy, dz], axis=-1) * (1e-3 * frontal)[:, None]
            if name.startswith(("AU0", "AU43")):
                moved = moved * keep_lids[:, None]
            basis.append(moved.ravel())
        self._basis = np.array(basis)  # [fields, 3 V]
        self._jaw_open, self._jaw_sealed = (self._jaw_weight(x, t, frontal, sealed) for sealed in (False, True))
        self._prepare_lids(skin, style)

    @staticmethod
    def _keep_lids(side: np.ndarray, t: np.ndarray) -> np.ndarray:
        """0 on the lids' edges, which only :meth:`_move_lids` moves, 1 away from the eye."""
        e, h = side - EYE_X, t - EYE_Y
        return smoothstep(np.hypot(e / 0.0165, h / np.where(h > 0, 0.0090, 0.0080)), 0.85, 1.65)

    @staticmethod
    def _jaw_weight(x: np.ndarray, t: np.ndarray, frontal: np.ndarray, sealed: bool) -> np.ndarray:
        """Share of the jaw's rotation: 0 above the mouth, 1 below, 1/2 at its corners; sealed lips share alike."""
        side = np.abs(x)
        line = surface.mouth_line(x) + 0.030 * smoothstep(side, 0.024, 0.075)
        beyond = t - line
        distance = np.maximum(np.abs(beyond) - surface.slit(x), 0)
        width = 0.0105 + 0.55 * np.maximum(side - 0.021, 0)
        profile = np.zeros_like(x) if sealed else np.clip(1 - (side / SLIT_X) ** 2, 0, 1) ** 0.62
        part = 1 - (1 - profile) * np.exp(-((distance / width) ** 2))
        weight = 0.5 - 0.5 * np.sign(beyond) * part
        return weight * smoothstep(t, 0.0, -0.032) * frontal

    def _prepare_lids(self, skin: Skin, style: ActorStyle) -> None:
        lid = surface.lid_of(style)
        side = np.abs(skin.x)
        e, h = side - EYE_X, skin.t - EYE_Y
        self._eye = np.flatnonzero((np.abs(e) < 0.0215) & (np.abs(h) < 0.024) & (np.abs(skin.theta) < 1.4))
        e, h = e[self._eye], h[self._eye]
        across = np.clip(e, -lid.half, lid.half)
        upper, lower = lid.upper_y(across), lid.lower_y(across)
        middle = lid.cant * np.clip(e / lid.half, -1, 1) - 0.0004
        lateral = smoothstep(np.abs(e), 0.0215, 0.0142)
        above = h >= middle - 1e-9
        over = np.clip(1 - np.maximum(h - upper, 0) / _UPPER_REACH, 0, 1) ** 1.3 * lateral
        under = np.clip(1 - np.maximum(lower - h, 0) / _LOWER_REACH, 0, 1) ** 1.3 * lateral
        self._upper = np.where(above, over, 0)
        self._lower = np.where(above, 0, under)
        meet = lower + 0.16 * (upper - lower)  # where the closed lids touch
        self._fall = meet - upper
        self._rise = meet - lower
        self._side = side[self._eye]

    def aperture(self, aus: Mapping[str, float], gaze_pitch: float) -> tuple[float, float]:
        """Closure of upper and lower lid: 0 open at rest, 1 shut, negative wider than at rest."""
        blink = min(max(aus.get("AU45", 0.0), 0.0), 2.0) / 2.0
        blink = blink * blink * (3 - 2 * blink)
        unit = {name: value / 5.0 for name, value in aus.items()}
        upper = (
            0.52 * unit.get("AU43", 0.0)
            + 0.20 * unit.get("AU07", 0.0)
            + 0.08 * unit.get("AU06", 0.0)
            + 0.10 * unit.get("AU04", 0.0)
            - 0.42 * unit.get("AU05", 0.0)
            - 0.45 * gaze_pitch
        )
        lower = 0.85 * unit.get("AU07", 0.0) + 0.9 * unit.get("AU06", 0.0) - 0.3 * unit.get("AU05", 0.0)
        upper = min(max(upper, -0.45), 0.9)
        lower = min(max(lower, -0.6), 1.4)
        return upper + blink * (1 - upper), lower + blink * (1 - lower)

    def deform(self, aus: Mapping[str, float], viseme: Viseme, gaze_pitch: float = 0.0) -> Float32[np.ndarray, "V 3"]:
        """Skin vertices, head frame, metres.

        Args:
            aus: visible action units by name, 0..5.
            viseme: mouth shape.
            gaze_pitch: upward look in radians (the upper lid follows the eye).
        """
        amounts = np.array(
            [getattr(viseme, name) if hasattr(viseme, name) else aus.get(name, 0.0) / 5.0 for name in self.names]
        )
        points = self.rest + (amounts @ self._basis).reshape(-1, 3)
        seal = float(np.clip(viseme.press, 0, 1))
        points = rotate_jaw(points, viseme.jaw * (self._jaw_open + seal * (self._jaw_sealed - self._jaw_open)))
        self._move_lids(points, *self.aperture(aus, gaze_pitch))
        return points.astype(np.float32)

    def _move_lids(self, points: Float[np.ndarray, "V 3"], upper: float, lower: float) -> None:
        """Slide the lids over the eyeballs, in place."""
        before = points[self._eye, 1]
        after = before + self._upper * self._fall * upper + self._lower * self._rise * lower
        points[self._eye, 1] = after
        points[self._eye, 2] += surface.eye_depth(self._side, after) - surface.eye_depth(self._side, before)


def rotate_jaw(points: Float[np.ndarray, "V 3"], amount: Float[np.ndarray, "V"] | float) -> Float[np.ndarray, "V 3"]:
    """Turn points about the jaw's hinge; ``amount`` 1 is the wide open jaw."""
    angle = JAW_ANGLE * np.broadcast_to(np.asarray(amount, np.float64), points.shape[:1])
    cosine, sine = np.cos(angle), np.sin(angle)
    y, z = points[:, 1] - JAW_HINGE[1], points[:, 2] - JAW_HINGE[2]
    out = points.astype(np.float64)
    out[:, 1] = JAW_HINGE[1] + cosine * y - sine * z
    out[:, 2] = JAW_HINGE[2] + sine * y + cosine * z
    return out
