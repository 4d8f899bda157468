"""Everything of the actor but the skin: eyes, teeth, tongue, ears, glasses, neck and clothes, as small meshes."""

from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Int32
from scipy.interpolate import PchipInterpolator

from emotalking.data.labels import Label
from emotalking.testing.actor.style import ActorStyle
from emotalking.testing.actor.surface import EYE_RADIUS, EYE_X, EYE_Y, EYE_Z, MOUTH_Y, smoothstep

IRIS_ANGLE = 0.46
"""Half-angle of the iris from the eyeball's centre, radians."""
EYE_SEGMENTS = 36
_EYE_RINGS = np.concatenate([np.linspace(0, IRIS_ANGLE, 6), np.linspace(IRIS_ANGLE, 1.45, 12)[1:]])
IRIS_RING = 5


@dataclass(frozen=True)
class Part:
    """A mesh with its appearance; positions in the head frame, metres."""

    vertices: Float[np.ndarray, "V 3"]
    faces: Int32[np.ndarray, "F 3"]
    colour: Float[np.ndarray, "V 3"]
    """Albedo, multiplied with the texture."""
    uv: Float[np.ndarray, "V 2"]
    """Place in the texture, 0..1."""
    label: int
    texture: str = "plain"
    gloss: float = 0.0
    """Strength of the sharp highlight."""
    teeth: bool = False
    jaw: Float[np.ndarray, "V"] | float = 0.0
    """Share of the jaw's rotation."""
    labels: Int32[np.ndarray, "F"] | None = field(default=None)
    """Class of each face where a part has several."""


def grid_faces(rows: int, columns: int, wrap: bool = False) -> Int32[np.ndarray, "F 3"]:
    """Two triangles a cell of a grid of vertices stored row by row; ``wrap`` joins the last column to the first."""
    r, c = np.meshgrid(np.arange(rows - 1), np.arange(columns if wrap else columns - 1), indexing="ij")
    right = (c + 1) % columns
    a, b = r * columns + c, r * columns + right
    d, e = (r + 1) * columns + c, (r + 1) * columns + right
    return np.concatenate([np.stack([a, d, b], -1).reshape(-1, 3), np.stack([b, d, e], -1).reshape(-1, 3)]).astype(
        np.int32
    )


def sheet(
    points: Float[np.ndarray, "R C 3"], colour: np.ndarray, label: int, *, wrap: bool = False, **attributes
) -> Part:
    """A grid of points as a part; ``colour`` broadcasts to the grid; uv run along columns and rows."""
    rows, columns = points.shape[:2]
    v, u = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, columns), indexing="ij")
    colours = np.broadcast_to(colour, (rows, columns, 3)).reshape(-1, 3)
    uv = np.stack([u, v], -1).reshape(-1, 2)
    return Part(points.reshape(-1, 3), grid_faces(rows, columns, wrap), colours, uv, label, **attributes)


def tube(
    path: Float[np.ndarray, "n 3"], radius: float, colour: np.ndarray, label: int, closed: bool, **attributes
) -> Part:
    """A round tube along a path."""
    along = np.roll(path, -1, 0) - np.roll(path, 1, 0) if closed else np.gradient(path, axis=0)
    along = along / np.linalg.norm(along, axis=1, keepdims=True)
    aside = np.cross(along, [0.0, 0.03, 1.0])
    aside = aside / np.linalg.norm(aside, axis=1, keepdims=True)
    third = np.cross(along, aside)
    angle = np.linspace(0, 2 * np.pi, 9)
    ring = np.cos(angle)[None, :, None] * aside[:, None] + np.sin(angle)[None, :, None] * third[:, None]
    points = path[:, None] + radius * ring
    if closed:
        points = np.concatenate([points, points[:1]])
    return sheet(points[:, ::-1], colour, label, **attributes)


def eyeball() -> Part:
    """One eyeball at the origin looking along +z; vertex 0 is the pupil, ring :data:`IRIS_RING` the iris' rim."""
    angle = np.arange(EYE_SEGMENTS) * (2 * np.pi / EYE_SEGMENTS)
    rings = _EYE_RINGS[1:]
    radius = EYE_RADIUS + 0.0005 * np.exp(-((rings / 0.38) ** 4))
    direction = np.stack(
        [
            np.sin(rings)[:, None] * np.cos(angle),
            np.sin(rings)[:, None] * np.sin(angle),
            np.broadcast_to(np.cos(rings)[:, None], (len(rings), EYE_SEGMENTS)),
        ],
        axis=-1,
    )
    vertices = np.concatenate([[[0, 0, EYE_RADIUS + 0.0005]], (radius[:, None, None] * direction).reshape(-1, 3)])
    fan = np.stack(
        [np.zeros(EYE_SEGMENTS), 1 + np.arange(EYE_SEGMENTS), 1 + (np.arange(EYE_SEGMENTS) + 1) % EYE_SEGMENTS], -1
    )
    faces = np.concatenate([fan.astype(np.int32), 1 + grid_faces(len(rings), EYE_SEGMENTS, wrap=True)])
    # azimuthal texture: radius proportional to the angle from the pupil
    round_about = np.stack([np.cos(angle), -np.sin(angle)], -1)
    polar = np.concatenate([np.zeros((1, 2)), (rings[:, None, None] / 3.0 * round_about).reshape(-1, 2)])
    uv = 0.5 + polar
    return Part(vertices, faces, np.ones_like(vertices), uv, Label.HEAD, texture="eye", gloss=1.0)


def iris_vertices() -> list[int]:
    """Vertices of :func:`eyeball`: pupil, then the iris' rim to its right in the image, above, left, below."""
    first = 1 + (IRIS_RING - 1) * EYE_SEGMENTS
    return [0, *(first + k * EYE_SEGMENTS // 4 for k in range(4))]


def eye_centre(sign: int) -> Float[np.ndarray, "3"]:
    """Centre of an eyeball; ``sign`` +1 is the person's left."""
    return np.array([sign * EYE_X, EYE_Y, EYE_Z])


def mouth_parts() -> list[Part]:
    """Dark cavity, upper and lower teeth, tongue."""
    parts = []
    for upper in (True, False):
        u = np.linspace(-1, 1, 41)
        v = np.linspace(0, 1, 7)[:, None]
        x = 0.0225 * u
        top, bottom = (0.010, -0.0062) if upper else (-0.0030, -0.0145)
        edge = 0.0008 * np.abs(u) ** 2 if upper else 0.0
        y = MOUTH_Y + top + (bottom - top) * v + (edge * v if upper else 0.0) + 0 * u
        z = (0.0745 if upper else 0.0725) - 21.0 * x**2 + 0.0016 * np.sin(np.pi * np.clip(v, 0, 1)) + 0 * v
        shade = (0.97 - 0.38 * np.abs(u) ** 2.2)[None, :, None] * np.array([1.0, 0.975, 0.93])
        points = np.stack([np.broadcast_to(x, y.shape), y, np.broadcast_to(z, y.shape)], -1)
        parts.append(
            sheet(
                points,
                shade,
                Label.MOUTH,
                texture="teeth" if upper else "teeth_lower",
                gloss=0.25,
                teeth=True,
                jaw=0.0 if upper else 1.0,
            )
        )
    across, back = np.meshgrid(np.linspace(-1, 1, 21), np.linspace(0, 1, 12))
    dome = np.sqrt(np.clip(1 - across**2, 0, 1))
    tongue = np.stack(
        [
            0.0155 * across,
            MOUTH_Y
            - 0.0185
            + 0.0085 * dome
            - 0.001 * np.exp(-((across / 0.12) ** 2))
            + 0.007 * np.sin(np.pi * 0.6 * back),
            0.0665 - 0.030 * back - 0.006 * across**2,
        ],
        -1,
    )
    tongue[0, :, 1] -= 0.006
    red = np.array([0.70, 0.36, 0.35]) * (1 - 0.75 * back[..., None])
    parts.append(sheet(tongue[:, ::-1], red[:, ::-1], Label.MOUTH, gloss=0.3, jaw=0.9))
    angle, depth = np.meshgrid(np.linspace(0, 2 * np.pi, 33), np.linspace(0, 1, 9))
    radius = np.cos(0.5 * np.pi * depth) ** 0.7
    lower = np.clip(-np.sin(angle), 0, 1)
    cavity = np.stack(
        [
            0.0270 * radius * np.cos(angle),
            MOUTH_Y - 0.002 + (0.017 + 0.004 * lower) * radius * np.sin(angle),
            0.0640 - 0.045 * depth + 0 * angle,
        ],
        -1,
    )
    cavity[..., 2] -= 14.0 * cavity[..., 0] ** 2
    dark = np.array([0.30, 0.10, 0.09]) * (1 - 0.93 * smoothstep(depth, 0.0, 0.5))[..., None]
    jaw = (lower * (1 - 0.5 * depth)).reshape(-1)
    parts.append(sheet(cavity, dark, Label.MOUTH, jaw=jaw))
    return parts


def ears(style: ActorStyle) -> list[Part]:
    """Both ears."""
    radius, angle = np.meshgrid(np.linspace(0.02, 1, 15), np.linspace(0, 2 * np.pi, 37), indexing="ij")
    ahead, up = radius * np.cos(angle), radius * np.sin(angle)
    lobe = smoothstep(up, -0.2, -0.9)
    forward = 0.0165 * ahead * (1 - 0.35 * lobe)
    height = 0.0295 * up
    rim = np.exp(-(((radius - 0.86) / 0.13) ** 2)) * smoothstep(ahead, 0.95, 0.2) * (1 - 0.75 * lobe)
    anti = (
        np.exp(-(((np.hypot(ahead - 0.18, (up + 0.05) * 0.8) - 0.52) / 0.11) ** 2))
        * smoothstep(ahead, 0.5, -0.1)
        * (1 - lobe)
    )
    bowl = np.exp(-((np.hypot(ahead - 0.25, up + 0.12) / 0.33) ** 2))
    out = 0.0045 * rim + 0.0022 * anti - 0.0045 * bowl + 0.012 * smoothstep(-ahead, -0.9, 1.0) * (1 - 0.4 * lobe)
    out = out - 0.004 * smoothstep(radius, 0.93, 1.0)
    red = np.array(style.skin) * (1 - np.array([0.02, 0.16, 0.15]) * (0.35 + style.blush))
    tone = (
        1 - 0.50 * bowl - 0.25 * np.exp(-(((radius - 0.69) / 0.09) ** 2)) * (1 - lobe) * smoothstep(ahead, 0.6, 0.0)
    )[..., None] * red
    parts = []
    for sign in (1, -1):
        points = np.stack(
            [sign * (0.0705 * style.face_width + out), 0.0005 + height - 0.0025 * ahead, -0.012 + forward], -1
        )
        order = slice(None, None, -1) if sign > 0 else slice(None)
        parts.append(sheet(points[:, order], tone[:, order], Label.HEAD))
    return parts


def glasses() -> list[Part]:
    """Round frames, bridge and temples."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    dark = np.array([0.075, 0.06, 0.055])
    parts = []
    for sign in (1, -1):
        x = sign * (0.0325 + 0.0235 * np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** 0.85)
        y = 0.0025 + 0.0195 * np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** 0.85
        rim = np.stack([x, y, 0.0835 - 3.2 * x**2], -1)
        parts.append(tube(rim, 0.00125, dark, Label.HEAD, True, gloss=0.35))
        s = np.linspace(0, 1, 12)
        arm = np.stack([sign * (0.0555 + 0.021 * np.sin(0.5 * np.pi * s)), 0.009 + 0 * s, 0.0735 - 0.085 * s], -1)
        parts.append(tube(arm, 0.00125, dark, Label.HEAD, False, gloss=0.35))
    s = np.linspace(-1, 1, 11)
    bridge = np.stack([0.0095 * s, 0.0085 - 0.003 * s**2, 0.0860 - 0.002 * s**2], -1)
    return [*parts, tube(bridge, 0.0012, dark, Label.HEAD, False, gloss=0.35)]


#                  y      half-width half-depth centre z  tilt (front lower)
_TORSO = np.array(
    [
        (0.030, 0.050, 0.050, -0.022, 0.000),
        (-0.060, 0.0500, 0.052, -0.018, 0.000),
        (-0.100, 0.0505, 0.054, -0.014, 0.004),
        (-0.122, 0.0530, 0.056, -0.012, 0.010),
        (-0.136, 0.0610, 0.060, -0.012, 0.014),
        (-0.146, 0.0830, 0.066, -0.013, 0.016),
        (-0.156, 0.1180, 0.074, -0.015, 0.014),
        (-0.170, 0.1530, 0.082, -0.017, 0.010),
        (-0.192, 0.1800, 0.088, -0.019, 0.006),
        (-0.230, 0.1960, 0.092, -0.021, 0.002),
        (-0.420, 0.2020, 0.094, -0.022, 0.000),
    ]
)
_COLLAR_ROW = 4.15


def torso(style: ActorStyle) -> list[Part]:
    """Neck (running up behind the head), shoulders under a jumper, and its collar."""
    rows, columns = 90, 96
    k = np.linspace(0, len(_TORSO) - 1, rows)
    phi = np.linspace(-np.pi, np.pi, columns)
    points = _torso_points(k, phi)
    cloth = k > _COLLAR_ROW
    colour = np.where(cloth[:, None, None], np.array(style.cloth), _neck_colour(points, phi, style))
    uv = np.stack(
        [
            np.broadcast_to(phi / (2 * np.pi) + 0.5, (rows, columns)),
            np.broadcast_to((k / 10)[:, None], (rows, columns)),
        ],
        -1,
    )
    faces = grid_faces(rows, columns)
    labels = np.where(faces.max(1) // columns >= np.argmax(cloth), Label.TORSO, Label.NECK)
    body = Part(
        points.reshape(-1, 3),
        faces,
        colour.reshape(-1, 3),
        uv.reshape(-1, 2),
        Label.TORSO,
        "cloth",
        labels=labels.astype(np.int32),
    )
    around = np.linspace(0, 2 * np.pi, 13)
    ring = _torso_points(np.array([_COLLAR_ROW + 0.12]), phi)[0]
    outward = np.stack([np.sin(phi), 0 * phi, np.cos(phi)], -1)
    band = (
        ring[None]
        + 0.0042 * np.cos(around)[:, None, None] * outward[None]
        + np.stack([0 * around, 0.0085 * np.sin(around), 0 * around], -1)[:, None]
        + 0.0022 * outward[None]
    )
    collar = sheet(band[::-1], np.array(style.cloth) * 0.9, Label.TORSO, texture="collar")
    return [body, collar, _shirt_rim(style, phi)]


def _torso_points(k: Float[np.ndarray, "R"], phi: Float[np.ndarray, "C"]) -> Float[np.ndarray, "R C 3"]:
    y, a, b, centre, tilt = PchipInterpolator(np.arange(len(_TORSO)), _TORSO)(k).T[:, :, None]
    return np.stack([a * np.sin(phi), y - tilt * np.cos(phi), centre + b * np.cos(phi)], -1)


def _neck_colour(points: Float[np.ndarray, "R C 3"], phi: Float[np.ndarray, "C"], style: ActorStyle) -> np.ndarray:
    """Skin with the chin's shadow and the soft cords of the neck."""
    y = points[..., 1]
    shadow = 0.50 + 0.42 * smoothstep(y, -0.098, -0.142)
    cords = 1 - 0.10 * np.exp(-(((np.abs(phi) - 0.50) / 0.16) ** 2)) * smoothstep(y, -0.09, -0.13)
    notch = 1 - 0.16 * np.exp(-((phi / 0.16) ** 2)) * smoothstep(y, -0.125, -0.145)
    warm = np.stack([shadow**0.88, shadow, shadow**1.06], -1)
    return np.array(style.skin) * warm * (cords * notch)[..., None]


def _shirt_rim(style: ActorStyle, phi: Float[np.ndarray, "C"]) -> Part:
    """A thin edge of a light shirt inside the collar."""
    low, high = _torso_points(np.array([_COLLAR_ROW + 0.1, _COLLAR_ROW - 0.30]), phi)
    outward = np.stack([np.sin(phi), 0 * phi, np.cos(phi)], -1)
    v = np.linspace(1, 0, 5)[:, None, None]
    points = low * (1 - v) + high * v + outward * (0.0018 + 0.0008 * np.sin(np.pi * v))
    return sheet(points, np.array(style.cloth_accent), Label.TORSO)


def moved(part: Part, rotation: Float[np.ndarray, "3 3"], centre: Float[np.ndarray, "3"]) -> Part:
    """The part turned about its origin and put at ``centre``."""
    return replace(part, vertices=part.vertices @ rotation.T + centre)
