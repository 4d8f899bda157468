"""The skin of the actor at rest: a lofted head with smooth features, as a function of two parameters.

The skin is parametrised by ``(x, t)``: ``x`` is the horizontal place on the frontal plane (metres, the person's left
positive) of the plain lofted head and ``t`` runs down the profile; in front of the face ``t`` is the height ``y``.
Eyes and mouth are holes in this parameter plane; the slit of the closed mouth is open there and pinched shut by
:func:`place`. All lengths in metres, head frame of docs/conventions.md.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator

from emotalking.testing.actor.style import ActorStyle

Values = Float[np.ndarray, "*n"]

EYE_X = 0.0315
EYE_Y = 0.005
EYE_Z = 0.0560
"""Centre of the person's left eyeball; the eyes are 0.063 apart."""
EYE_RADIUS = 0.0155
LID_RADIUS = 0.0165
MOUTH_Y = -0.0585
MOUTH_X = 0.0235
"""Half-width of the outer lip contour."""
SLIT_X = 0.0212
"""Half-width of the inner lip contour (and of the hole)."""
SLIT_HEIGHT = 0.0028
"""Half-height of the hole in the parameter plane."""
SKULL_DEPTH = 0.095
"""Depth of the skull behind its widest line."""
JAW_HINGE = np.array([0.0, -0.008, -0.008])

#                t       y      half-width  front z  centre z exponent tilt
_SECTIONS = np.array(
    [
        (0.1280, 0.1215, 0.0010, -0.004, -0.006, 2.0, 0.0),
        (0.1220, 0.1190, 0.0260, 0.026, -0.007, 2.0, 0.0),
        (0.1070, 0.1090, 0.0500, 0.0555, -0.009, 2.05, 0.0),
        (0.0850, 0.0850, 0.0660, 0.0745, -0.010, 2.15, 0.0),
        (0.0600, 0.0600, 0.0725, 0.0825, -0.010, 2.25, 0.0),
        (0.0350, 0.0350, 0.0738, 0.0840, -0.008, 2.3, 0.0),
        (0.0100, 0.0100, 0.0735, 0.0795, -0.005, 2.3, 0.0),
        (-0.0150, -0.0150, 0.0718, 0.0780, -0.002, 2.25, 0.0),
        (-0.0400, -0.0400, 0.0690, 0.0785, 0.001, 2.1, 0.001),
        (-0.0600, -0.0600, 0.0655, 0.0795, 0.004, 2.0, 0.004),
        (-0.0800, -0.0800, 0.0600, 0.0790, 0.008, 1.95, 0.012),
        (-0.0950, -0.0950, 0.0530, 0.0795, 0.012, 1.9, 0.020),
        (-0.1060, -0.1050, 0.0430, 0.0765, 0.012, 1.9, 0.027),
        (-0.1130, -0.1095, 0.0380, 0.0700, 0.010, 1.95, 0.030),
        (-0.1230, -0.1105, 0.0300, 0.0590, 0.006, 2.0, 0.030),
        (-0.1450, -0.1060, 0.0120, 0.0300, 0.000, 2.0, 0.026),
    ]
)
T_TOP, T_BOTTOM = _SECTIONS[0, 0], _SECTIONS[-1, 0]
_LOFT = PchipInterpolator(_SECTIONS[::-1, 0], _SECTIONS[::-1, 1:], axis=0)
_NOSE_RIDGE = PchipInterpolator(
    [-0.060, -0.0450, -0.0415, -0.0385, -0.0355, -0.0315, -0.0265, -0.018, -0.006, 0.006, 0.018, 0.040],
    [0.0, 0.0006, 0.0040, 0.0105, 0.0175, 0.0220, 0.0215, 0.0160, 0.0088, 0.0038, 0.0010, 0.0],
)


def bump(x: Values, y: Values, at: tuple[float, float | Values], size: tuple[float, float]) -> Values:
    """Gaussian hill of height 1."""
    return np.exp(-0.5 * (((x - at[0]) / size[0]) ** 2 + ((y - at[1]) / size[1]) ** 2))


def smoothstep(x: Values, low: float | Values, high: float | Values) -> Values:
    """0 below ``low``, 1 above ``high`` (either order), smooth between."""
    s = np.clip((x - low) / (high - low), 0, 1)
    return s * s * (3 - 2 * s)


@dataclass(frozen=True)
class Lid:
    """Lid contours of the person's left eye in eye coordinates (``e`` outwards, both metres from the eye's centre)."""

    upper: float
    lower: float
    half: float = 0.0142
    cant: float = 0.0013

    def _middle(self, u: Values) -> Values:
        return self.cant * u - 0.0004

    def upper_y(self, e: Values) -> Values:
        """Height of the open upper lid's edge at ``e``."""
        u = np.clip(e / self.half, -1, 1)
        return self._middle(u) + self.upper * (1 - np.abs(u) ** 2.3) ** 0.85 * (1 - 0.12 * u)

    def lower_y(self, e: Values) -> Values:
        """Height of the lower lid's edge at ``e``."""
        u = np.clip(e / self.half, -1, 1)
        return self._middle(u) - self.lower * (1 - np.abs(u) ** 2.2) ** 0.9 * (1 + 0.15 * u)


def lid_of(style: ActorStyle) -> Lid:
    """The open lids of ``style``."""
    return Lid(upper=0.0065 * style.eye_size, lower=0.0051 * style.eye_size)


def mouth_line(x: Values) -> Values:
    """Height of the closed mouth's line."""
    u = np.clip(np.abs(x) / MOUTH_X, 0, 1.3)
    return (
        MOUTH_Y
        - 0.0011 * np.exp(-((x / 0.004) ** 2))
        + 0.0006 * np.exp(-(((np.abs(x) - 0.007) / 0.004) ** 2))
        + 0.0009 * u**2
    )


def lip_outer(x: Values, style: ActorStyle, upper: bool) -> Values:
    """Height of the outer lip contour (parameter plane)."""
    u = np.clip(np.abs(x) / MOUTH_X, 0, 1)
    if upper:
        bow = 1 + 0.16 * np.exp(-(((np.abs(x) - 0.0055) / 0.0035) ** 2)) - 0.10 * np.exp(-((x / 0.0022) ** 2))
        return mouth_line(x) + (0.0068 * style.lip_fullness + SLIT_HEIGHT) * (1 - u**1.7) ** 1.0 * bow
    return mouth_line(x) - (0.0092 * style.lip_fullness + SLIT_HEIGHT) * (1 - u**2.3) ** 0.95


def slit(x: Values) -> Values:
    """Half-height of the mouth's hole in the parameter plane."""
    return SLIT_HEIGHT * np.clip(1 - (x / SLIT_X) ** 2, 0, 1) ** 0.8


def pinched(x: Values, t: Values) -> Values:
    """Height at which the closed mouth holds the parameter ``t``: the slit's two sides meet (all but a dark line)."""
    pinch = slit(x)
    beyond = t - mouth_line(x)
    squeeze = pinch * np.exp(-np.maximum(np.abs(beyond) - pinch, 0) / 0.009) * np.sign(beyond)
    return t - 0.97 * np.where(np.abs(beyond) < pinch, beyond, squeeze)


def theta_of(x: Values, t: Values, style: ActorStyle) -> Values:
    """Azimuth (radians, 0 in front) of a frontal place on the plain head."""
    return np.arcsin(np.clip(x / half_width(t, style), -1, 1))


def half_width(t: Values, style: ActorStyle) -> Values:
    """Half of the plain head's width at ``t``."""
    jaw = 1 + (style.jaw_width - 1) * smoothstep(t, -0.045, -0.085)
    return _LOFT(np.clip(t, T_BOTTOM, T_TOP))[..., 1] * style.face_width * jaw


def loft(theta: Values, t: Values, style: ActorStyle) -> Float[np.ndarray, "*n 3"]:
    """The plain head without features."""
    y, _, front, centre, exponent, tilt = np.moveaxis(_LOFT(np.clip(t, T_BOTTOM, T_TOP)), -1, 0)
    width = half_width(t, style)
    sine = np.abs(np.sin(theta))
    arc = np.clip(1 - sine**exponent, 0, 1) ** (1 / exponent)
    rear = SKULL_DEPTH * np.clip(1 - ((t - 0.03) / 0.11) ** 2, 0.05, 1) ** 0.5
    z = np.where(np.cos(theta) >= 0, centre + (front - centre) * arc, centre - rear * arc)
    return np.stack([width * np.sin(theta), y + tilt * (1 - np.cos(theta)), z], axis=-1)


def _nose(x: Values, y: Values, size: float) -> Values:
    """Forward displacement of the nose."""
    ridge = np.where((y > -0.06) & (y < 0.04), _NOSE_RIDGE(np.clip(y, -0.06, 0.04)), 0) * size
    width = (0.0064 + 0.0034 * smoothstep(y, 0.0, -0.030)) * (0.6 + 0.4 * size)
    dz = ridge * np.exp(-((np.abs(x) / width) ** 2.4))
    side = np.abs(x)
    dz = dz + 0.0090 * size * bump(side, y, (0.0118, -0.0335), (0.0040, 0.0048))  # wings
    dz = dz - 0.0050 * size * bump(side, y, (0.0062, -0.0392), (0.0024, 0.0015))  # nostrils
    return dz - 0.0009 * bump(side, y, (0.0195, -0.034), (0.0025, 0.005))  # crease behind the wing


def _relief(x: Values, y: Values, style: ActorStyle) -> Values:
    """Forward displacement of everything but the nose and the eyes."""
    side = np.abs(x)
    full = style.lip_fullness
    dz = 0.0012 * bump(side, y, (0.027, 0.029), (0.018, 0.008))  # brow ridge
    dz = dz + 0.0035 * bump(side, y, (0.043, -0.021), (0.014, 0.014))  # cheekbone
    dz = dz + 0.0022 * bump(side, y, (0.030, -0.034), (0.012, 0.012))
    dz = dz + 0.0060 * bump(side, y, (0.0, -0.0945), (0.016, 0.011))  # chin
    dz = dz - 0.0034 * bump(side, y, (0.0, -0.0765), (0.018, 0.0045))  # fold under the lower lip
    dz = dz - 0.0022 * bump(side, y, (0.0285, -0.0605), (0.0045, 0.0065))  # mouth corners
    dz = dz - 0.0011 * bump(side, y, (0.0, -0.0475), (0.0028, 0.0045))  # philtrum
    dz = dz - 0.0009 * np.exp(-((fold_distance(side, y) / 0.0032) ** 2)) * smoothstep(y, -0.068, -0.05) * smoothstep(
        y, -0.028, -0.04
    )
    inside = np.clip(1 - (side / (MOUTH_X + 0.001)) ** 2, 0, 1) ** 1.2
    above = y - mouth_line(x)
    dz = dz + 0.0030 * full * inside * np.exp(-(((above - 0.0050) / 0.0042) ** 2))
    dz = dz + 0.0038 * full * inside * np.exp(-(((above + 0.0062) / 0.0052) ** 2))
    return dz + 0.0034 * np.exp(-((above / 0.018) ** 2)) * np.exp(-((side / 0.028) ** 2))  # teeth behind


def fold_distance(side: Values, y: Values) -> Values:
    """Signed horizontal distance from the nasolabial fold."""
    return side - (0.0205 + 0.30 * (-0.034 - y))


def lid_sphere(x: Values, y: Values) -> Values:
    """Depth of the sphere that carries the lids; falls away outside of it."""
    r2 = (np.abs(x) - EYE_X) ** 2 + (y - EYE_Y) ** 2
    inner = np.sqrt(np.maximum(LID_RADIUS**2 - r2, (0.25 * LID_RADIUS) ** 2))
    return EYE_Z + inner - np.maximum(r2 - LID_RADIUS**2 * (1 - 0.0625), 0) * 45


def socket(x: Values, y: Values) -> Values:
    """Depth of the flat floor of the eye socket."""
    e = np.abs(x) - EYE_X
    return 0.0676 - 0.19 * e - 1.5 * np.maximum(e, 0) ** 2 + 0.05 * (y - EYE_Y)


def _soft_max(a: Values, b: Values, width: float) -> Values:
    return b + width * np.logaddexp(0, (a - b) / width)


def eye_depth(x: Values, y: Values) -> Values:
    """Depth of lids and socket floor together (also used when the lids move)."""
    return _soft_max(socket(x, y), lid_sphere(x, y), 0.0007)


def place(theta: Values, t: Values, style: ActorStyle) -> Float[np.ndarray, "*n 3"]:
    """The skin at rest: lips closed, lids open.

    Args:
        theta: azimuth, radians, 0 in front, the person's left positive.
        t: height along the profile, ``T_BOTTOM..T_TOP``.
        style: proportions.

    Returns:
        Head-frame positions, metres.
    """
    points = loft(theta, t, style)
    x, y = points[..., 0], t
    frontal = smoothstep(np.abs(theta), 1.75, 1.2)
    dz = _nose(x, y, style.nose_size) + _relief(x, y, style)
    z = points[..., 2] + dz * frontal
    e = np.abs(x) - EYE_X
    reach = np.hypot(e / np.where(e < 0, 0.0205, 0.0225), (y - EYE_Y) / np.where(y > EYE_Y, 0.0185, 0.0200))
    into = smoothstep(reach, 1.22, 0.60) * frontal
    z = z + into * (eye_depth(x, y) - z)
    out = points.copy()
    out[..., 1] = points[..., 1] + pinched(x, y) - y
    out[..., 2] = z
    return out
