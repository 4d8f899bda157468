"""Smooth displacement of the face for each action unit, drawn once as textures over the subject's template."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from emotalking.emotion.mesh_warp.expressions import ExpressionTable
from emotalking.emotion.mesh_warp.template import RINGS, FaceTemplate

PITCH = 0.016
"""Texture spacing in eye-centre distances."""
LIPS_CLEARANCE = 0.20
"""Distance from the lips over which the moves of cheeks and chin rise from none to full."""
EYES_CLEARANCE = 0.16
"""The same around the eyes, for brows, cheeks and nose."""
REACH_EYES, REACH_LIPS = 0.55, 0.7
"""A skin move is limited to this share of its distance from the eyes and lips: skin between a brow and a lid can be
squeezed or stretched only so far, which keeps faces with low brows from folding."""
REACH_BROWS = (0.65, 1.0)
"""The same above the eyes: down or sideways, and up. Skin that a raised brow stretches does not fold."""
BROW_HEIGHT, BROW_SHARE = 0.16, 0.6
"""Height of a brow's hair below its landmarks, and the largest share of the distance from there to the lid."""
BROW_FADE, BROW_FADE_BELOW = 0.15, 0.4
"""Distances above and beside the brow, and below it, over which skin ceases to move as the brow does."""
USUAL_OPENING = 0.30
"""Area of the usual eye opening over the square of its width; narrower eyes move their lids less."""
LID_FADE = (0.10, 0.17)
"""Least and largest distance within the eye over which a lid's move dies out."""
OVAL_FADE = (0.97, RINGS[1] - 0.08)
"""Radii, in multiples of the face oval's, between which every move dies out."""


@dataclass(frozen=True)
class TemplateGrid:
    """A regular grid over the template; texture column j is at ``origin + pitch * j``."""

    origin: tuple[float, float]
    height: int
    width: int
    pitch: float = PITCH

    @property
    def size(self) -> tuple[float, float]:
        """Distance from the first to the last column and row."""
        return self.pitch * (self.width - 1), self.pitch * (self.height - 1)

    def coarse(self) -> "TemplateGrid":
        """Every second texel of every second row."""
        return TemplateGrid(self.origin, self.height // 2 + 1, self.width // 2 + 1, 2 * self.pitch)

    def coordinates(self) -> tuple[Float[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
        """Template x and y of every texel."""
        x = self.origin[0] + self.pitch * np.arange(self.width)
        y = self.origin[1] + self.pitch * np.arange(self.height)
        return tuple(np.meshgrid(x, y))  # pyright: ignore[reportReturnType]


def template_grid(template: FaceTemplate) -> TemplateGrid:
    """The grid that covers the template and a margin of two texels; its sizes are odd."""
    low, high = template.points.min(0) - 2 * PITCH, template.points.max(0) + 2 * PITCH
    width, height = (int(n) for n in np.ceil((high - low) / PITCH) + 1)
    return TemplateGrid((float(low[0]), float(low[1])), height // 2 * 2 + 1, width // 2 * 2 + 1)


def smoothstep(x: Float[np.ndarray, "*s"], low: float, high: float) -> Float[np.ndarray, "*s"]:
    """0 below ``low``, 1 above ``high``, twice continuously differentiable in between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t**3 * (t * (6 * t - 15) + 10)


def distance_outside(
    x: Float[np.ndarray, "H W"], y: Float[np.ndarray, "H W"], loop: Float[np.ndarray, "n 2"]
) -> Float[np.ndarray, "H W"]:
    """Distance to a closed polygon, zero inside."""
    closed = np.concatenate([loop, loop[:1]])
    distance = polyline_distance(x, y, closed)[0]
    inside = np.zeros(x.shape, bool)
    for (ax, ay), (bx, by) in zip(closed[:-1], closed[1:], strict=True):
        # Even-odd rule: count the edges that a ray to the right crosses.
        if ay != by:
            inside ^= ((ay > y) != (by > y)) & (x < ax + (bx - ax) * (y - ay) / (by - ay))
    return np.where(inside, 0.0, distance)


def polyline_distance(
    x: Float[np.ndarray, "H W"], y: Float[np.ndarray, "H W"], line: Float[np.ndarray, "n 2"]
) -> tuple[Float[np.ndarray, "H W"], Float[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
    """Distance to a polyline, position along it (0..1) of the nearest point, and the side (positive: right of it).

    "Right" is relative to the line's direction, with y down.
    """
    best = np.full(x.shape, np.inf)
    along, side = np.zeros(x.shape), np.zeros(x.shape)
    lengths = np.linalg.norm(np.diff(line, axis=0), axis=1)
    starts = np.concatenate([[0.0], np.cumsum(lengths)])
    for k, length in enumerate(lengths):
        if length == 0:
            continue
        ax, ay = line[k]
        tx, ty = (line[k + 1] - line[k]) / length
        t = np.clip((x - ax) * tx + (y - ay) * ty, 0, length)
        d = np.hypot(x - ax - t * tx, y - ay - t * ty)
        closer = d < best
        best = np.where(closer, d, best)
        along = np.where(closer, (starts[k] + t) / starts[-1], along)
        side = np.where(closer, tx * (y - ay) - ty * (x - ax), side)
    return best, along, side


@dataclass(frozen=True)
class FaceMap:
    """Position of each texel on the face, with this person's proportions taken out."""

    x: Float[np.ndarray, "H W"]
    """Template x, and..."""
    y: Float[np.ndarray, "H W"]
    """...y."""
    u: Float[np.ndarray, "H W"]
    """Signed distance from the midline (the viewer's right is positive)."""
    v: Float[np.ndarray, "H W"]
    """Height on the table's face, whose brows, mouth and chin are at the anchors."""
    radius: Float[np.ndarray, "H W"]
    """Distance from the face's middle in multiples of the oval's there."""
    inside: Float[np.ndarray, "H W"]
    """1 on the face, falling to 0 at the outer ring."""
    off_lips: Float[np.ndarray, "H W"]
    """0 on the lips and between them, rising to 1."""
    off_eyes: Float[np.ndarray, "H W"]
    """0 on the eyes, rising to 1."""
    off_lids: Float[np.ndarray, "H W"]
    """The same for moves, rising more evenly: between brow and lid there is little room."""
    on_brow: Float[np.ndarray, "H W"]
    """1 on the brows, which move as a piece over their height (hair on the skin over a bone), falling to 0 around."""
    brow_v: Float[np.ndarray, "H W"]
    """Height on the table's face of the brow's upper edge, at each texel's x."""
    brow_scale: Float[np.ndarray, "H W"]
    """Shortens vertical moves where this person's brows lie closer to the eyes than the table's."""
    lips_distance: Float[np.ndarray, "H W"]
    reach: Float[np.ndarray, "2 H W"]
    """Longest move of skin that keeps its distance from eyes and lips: down or sideways, and up. A brow's is that of
    its lower edge."""


def face_map(template: FaceTemplate, grid: TemplateGrid, anchors: dict[str, float]) -> FaceMap:
    """Masks and person-free coordinates of every texel."""
    x, y = grid.coordinates()
    lips = template.group("lips_outer")
    brow = (template.group("right_brow").mean(0) + template.group("left_brow").mean(0)) / 2
    mouth = (lips.min(0) + lips.max(0)) / 2
    oval = template.group("oval")
    chin = oval[:, 1].max()
    heights = np.array([min(brow[1], -0.1), 0.0, mouth[1], max(chin, mouth[1] + 0.2)])
    targets = np.array([anchors["brow"], 0.0, anchors["mouth"], anchors["chin"]])
    upper, lower, on_brow = _brows(template, x, y)
    # Beyond the brows and the chin lengths are kept as they are.
    v, brow_v = (
        np.interp(at, heights, targets) + np.minimum(at - heights[0], 0) + np.maximum(at - heights[-1], 0)
        for at in (y, upper)
    )
    u = x - np.interp(y, [0.0, mouth[1]], [0.0, mouth[0]])

    centre = oval.mean(0)
    angles = np.arctan2(*(oval - centre).T[::-1])
    order = np.argsort(angles)
    radius = np.hypot(*(oval - centre).T)
    reach = np.interp(np.arctan2(y - centre[1], x - centre[0]), angles[order], radius[order], period=2 * np.pi)
    rho = np.hypot(x - centre[0], y - centre[1]) / reach

    lips_distance = distance_outside(x, y, lips)
    eyes, edge = (
        np.minimum(*(distance_outside(x, at, template.eye(side)) for side in ("right", "left")))
        for at in (y, y + on_brow * np.maximum(lower - y, 0))
    )
    above = 1 - smoothstep(y, -0.08, 0.0)
    shares = np.stack([REACH_EYES + above * (share - REACH_EYES) for share in REACH_BROWS])
    near = np.clip(eyes / EYES_CLEARANCE, 0, 1)
    return FaceMap(
        x=x,
        y=y,
        u=u,
        v=v,
        radius=rho,
        inside=1 - smoothstep(rho, *OVAL_FADE),
        off_lips=smoothstep(lips_distance, 0.0, LIPS_CLEARANCE),
        off_eyes=smoothstep(eyes, 0.0, EYES_CLEARANCE),
        off_lids=near**2 * (3 - 2 * near),
        on_brow=on_brow,
        brow_v=brow_v,
        brow_scale=1 + (np.clip(heights[0] / targets[0], 0.5, 1.1) - 1) * (1 - smoothstep(y, -0.1, 0.35)),
        lips_distance=lips_distance,
        reach=np.minimum(shares * edge, REACH_LIPS * lips_distance) + 1e-3,
    )


def _brows(
    template: FaceTemplate, x: Float[np.ndarray, "H W"], y: Float[np.ndarray, "H W"]
) -> tuple[Float[np.ndarray, "H W"], Float[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
    """Upper and lower edge (y) of the brows at each texel's x, and 1 on the brows, falling to 0 around."""
    line = np.concatenate([template.group("right_brow"), template.group("left_brow")])
    line = line[np.argsort(line[:, 0])]
    room = min(template.eye(side)[:, 1].min() for side in ("right", "left")) - line[:, 1].mean()
    upper = np.interp(x, *line.T)
    lower = upper + np.clip(BROW_SHARE * room, 0, BROW_HEIGHT)
    across, ends = np.abs(x), np.abs(line[:, 0])
    # The thin outer ends go over into the temples.
    beside = np.maximum(ends.min() - across, across - ends.max() + BROW_FADE)
    within = smoothstep(y - upper, -BROW_FADE, 0.0) * (1 - smoothstep(y - lower, 0.0, BROW_FADE_BELOW))
    return upper, lower, within * (1 - smoothstep(beside, 0.0, BROW_FADE))


def _bump(face: FaceMap, bump: dict[str, float]) -> Float[np.ndarray, "2 H W"]:
    """A Gaussian push on both halves of the face; smooth across the midline."""
    vertical, on_brow = (np.exp(-0.5 * ((v - bump["y"]) / bump["sy"]) ** 2) for v in (face.v, face.brow_v))
    if bump["y"] < 0:  # of a brow
        vertical += face.on_brow * (on_brow - vertical)
    right, left = (np.exp(-0.5 * ((side * face.u - bump["x"]) / bump["sx"]) ** 2) for side in (1, -1))
    both = np.exp(-0.5 * ((np.hypot(face.u, 0.04) - bump["x"]) / bump["sx"]) ** 2)
    return np.stack([bump["out"] * (right - left) * vertical, bump["down"] * both * vertical])


def opening(eye: Float[np.ndarray, "n 2"]) -> float:
    """Area of an eye's outline over the square of its width."""
    x, y = eye.T
    area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
    return float(area / np.ptp(x) ** 2)


def _lid(
    face: FaceMap, lid: Float[np.ndarray, "n 2"], eye: Float[np.ndarray, "m 2"], upper: bool
) -> Float[np.ndarray, "H W"]:
    """Weight of a lid's move: full on the lid's middle, none at the corners, fading to both sides of its edge."""
    order = np.argsort(lid[:, 0])
    edge = np.interp(face.x, lid[order, 0], lid[order, 1])
    low, high = eye[:, 0].min(), eye[:, 0].max()
    profile = np.clip(1 - ((face.x - (low + high) / 2) / (0.53 * (high - low))) ** 2, 0, None)
    profile = profile**2 * (3 - 2 * profile)
    outward = (edge - face.y) if upper else (face.y - edge)
    # Within the eye a lid's move fades as far as the eye is high: a steeper one would fold what the eyeball covers.
    inwards = float(np.clip(1.1 * np.ptp(eye[:, 1]), *LID_FADE))
    return profile * (1 - smoothstep(outward, 0.0, 0.11)) * (1 - smoothstep(-outward, 0.0, inwards))


def lid_share(template: FaceTemplate) -> float:
    """Share of the table's moves of lids that the eyes show: narrow ones move less, and both of a person alike.

    Each in proportion to its own opening, the narrower one lags: surprise showed one wide eye.
    """
    shares = [np.clip(opening(template.eye(side)) / USUAL_OPENING, 0.5, 1.2) for side in ("right", "left")]
    return float(np.mean(shares))


def _lids(face: FaceMap, template: FaceTemplate, move: dict[str, float]) -> Float[np.ndarray, "2 H W"]:
    field, share = np.zeros((2, *face.x.shape)), lid_share(template)
    for side in ("right", "left"):
        eye = template.eye(side)
        for part in ("upper", "lower"):
            field[1] += share * move[part] * _lid(face, template.group(f"{side}_{part}_lid"), eye, part == "upper")
    return field


def _corner(face: FaceMap, template: FaceTemplate, move: dict[str, float]) -> Float[np.ndarray, "2 H W"]:
    """Both lips get one move that depends only on x, so that their opening stays, and their width in proportion.

    A move with one side is that of the person's left corner alone.
    """
    lips = template.group("lips_outer")
    middle, half = (lips[:, 0].min() + lips[:, 0].max()) / 2, np.ptp(lips[:, 0]) / 2
    across = np.clip((face.x - middle) / half, -1.15, 1.15)
    if move.get("sides") == 1:
        across = across.clip(min=0)
    fade = np.exp(-0.5 * (face.lips_distance / move["fade"]) ** 2)
    return np.stack([move["out"] * across * fade, move["down"] * across**2 * fade])


def skin_basis(grid: TemplateGrid, table: ExpressionTable, face: FaceMap) -> Float[np.ndarray, "U 2 H W"]:
    """The move (x right, y down) of the skin around eyes and lips, for each unit at coefficient 1.

    The units come in ``table.unit_names``' order; the sum over units is to be limited to ``face.reach``.
    """
    basis = np.zeros((len(table.unit_names), 2, grid.height, grid.width))
    for k, name in enumerate(table.unit_names):
        unit = table.units.get(name)
        if unit is None:
            continue
        for bump in unit["bumps"]:
            basis[k] += _bump(face, bump)
        if unit["clear_of"] == "eyes":
            basis[k] *= face.off_lids
    basis[:, 1] *= face.brow_scale
    return (basis * face.off_lips * face.inside).astype(np.float32)


def edge_basis(
    template: FaceTemplate, grid: TemplateGrid, table: ExpressionTable, face: FaceMap
) -> Float[np.ndarray, "U 2 H W"]:
    """The move (x right, y down) of lid edges and lips, for each unit at coefficient 1, like :func:`skin_basis`."""
    basis = np.zeros((len(table.unit_names), 2, grid.height, grid.width))
    for k, name in enumerate(table.unit_names):
        if name in table.lids:
            basis[k] += _lids(face, template, table.lids[name])
        if name in table.corner:
            basis[k] += _corner(face, template, table.corner[name])
    return (basis * face.inside).astype(np.float32)
