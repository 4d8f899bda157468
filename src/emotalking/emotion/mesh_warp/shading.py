"""Light and shade of an expression: the turned surface under the light that falls on the frame.

Assumption: skin slides over the head, swells where it is pushed together, and folds at known places. (Detected depth
supports sliding weakly: r .27, benchmarks/expression_bases.py; it is itself a guess of the detector's.) The surface's
new normals are lit by the light that the frame's own skin shows: brightness over normals, a linear function (spherical
harmonics up to order 1; Ramamoorthi and Hanrahan, 2001, of a convex diffuse surface; order 2 would take nine numbers
from a face that shows half of all directions).
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy.interpolate import LinearNDInterpolator
from scipy.ndimage import gaussian_filter
from torch import Tensor

from emotalking.emotion.mesh_warp.displacement import FaceMap, TemplateGrid, polyline_distance, smoothstep
from emotalking.emotion.mesh_warp.expressions import ExpressionTable
from emotalking.emotion.mesh_warp.template import FaceTemplate

SURFACE_SIGMA, SKULL_SIGMA = 0.06, 0.15
"""Smoothing of the neutral surface, in eye-centre distances, as all lengths here: of what the light is read from, since
landmarks are coarse; and of what skin slides over, since the tip of the nose moves with its skin."""
THICKNESS = 0.10
"""Skin and what moves with it: it swells by this times the share by which it is pushed together. Stretched skin does
not sink as far: it rests on bone and teeth."""
SWELL_SIGMA = 0.06
"""Smoothing of the swelling: thick skin does not fold at every line."""
CAVITY_SIGMA, CAVITY_SHADE = 0.07, 8.0
"""Folds see less of the surroundings: log-gain for each unit that they lie below the mean of their vicinity."""
OUTLINE_FADE = (0.86, 1.05)
"""Radii, in multiples of the face oval's, between which relighting ends: the mesh does not model the jaw's turn."""
AMBIENT = 0.35
"""The least light on a surface, relative to one that faces the viewer: no part of a face is black."""
MOST = 0.28
"""Limit of the log-gain: expressions do not change the skin by more."""
PRIOR_LIGHT = (0.6, 0.0, -0.2, 0.4)
"""Light assumed where the skin shows little: constant, x (right), y (down), z (to the viewer); in front and above."""
PRIOR_WEIGHT = 0.02
"""Share of the pixels' weight that the prior has."""


def _line(face: FaceMap, line: dict) -> Float[np.ndarray, "H W"]:
    """A crease: a groove along a curve, with a swelling on its outer side; it thins out to both ends."""
    u, width = np.abs(face.u), line["width"]
    distance, along, side = polyline_distance(u, face.v, np.array(line["points"], float))
    taper = np.sin(np.pi * np.clip(along, 0, 1)) ** 0.7
    crease = np.exp(-0.5 * (distance / width) ** 2)
    # The swelling is two widths outwards; a negative one is on the other side of the curve.
    shifted = np.copysign(distance, -side * np.sign(line["ridge"])) - 2.2 * width
    ridge = abs(line["ridge"]) * np.exp(-0.5 * (shifted / (1.6 * width)) ** 2)
    return line["depth"] * (ridge - crease) * taper


def _spot(face: FaceMap, spot: dict) -> Float[np.ndarray, "H W"]:
    """A soft swelling (positive) or hollow (negative) on both halves of the face."""
    u = (np.hypot(face.u, 0.04) - spot["x"]) / spot["sx"]
    v = (face.v - spot["y"]) / spot["sy"]
    return spot["height"] * np.exp(-0.5 * (u**2 + v**2))


def _wave(face: FaceMap, wave: dict) -> Float[np.ndarray, "H W"]:
    """Folds of the forehead: a slow wave that follows the arch of the brows."""
    v = face.v - wave["y"]
    phase = 2 * np.pi * (v + wave["arch"] * np.cos(np.pi * np.clip(face.u / 0.7, -1, 1))) / wave["period"]
    return -wave["height"] * np.cos(phase) * np.exp(-0.5 * ((face.u / wave["sx"]) ** 2 + (v / wave["sy"]) ** 2))


def fold_basis(grid: TemplateGrid, table: ExpressionTable, face: FaceMap) -> Float[np.ndarray, "S H W"]:
    """Height of every texel for each fold at coefficient 1, in ``table.fold_names``' order, towards the viewer."""
    basis = np.zeros((len(table.fold_names), grid.height, grid.width))
    for k, name in enumerate(table.fold_names):
        for kind, draw in (("lines", _line), ("spots", _spot), ("waves", _wave)):
            for item in table.folds[name].get(kind, ()):
                basis[k] += draw(face, item)
    return (basis * face.inside).astype(np.float32)


@dataclass
class Relight:
    """The resting surface of a person, and the shading of its expressions in a frame's light.

    Slopes are depth towards the viewer per template unit, right and down; ``n ~ (-slope, 1)``.
    """

    slopes: Float[Tensor, "2 H W"]
    """Slopes of the resting face."""
    skull: Float[Tensor, "2 H W"]
    """Slopes of the smooth surface under the skin."""
    skin: Float[Tensor, "1 H W"]
    """1 where the skin is relit: not on the lips and eyeballs, not beyond the face."""

    @classmethod
    def of(cls, template: FaceTemplate, grid: TemplateGrid, face: FaceMap) -> "Relight":
        """From the subject's neutral landmarks."""
        holes = [i for side in (template.layout.right_iris, template.layout.left_iris) for i in side]
        used = np.setdiff1d(np.arange(len(template.points)), holes)
        surface = LinearNDInterpolator(template.points[used], template.depth[used])
        depth = np.nan_to_num(surface(face.x, face.y), nan=float(template.depth.min()))
        slopes, skull = (
            _slopes(gaussian_filter(depth, sigma / grid.pitch), grid.pitch) for sigma in (SURFACE_SIGMA, SKULL_SIGMA)
        )
        # Eyeballs and lips are not skin; the eyes' fade is wide, since lashes are not to be relit.
        skin = (1 - smoothstep(face.radius, *OUTLINE_FADE)) * face.off_lips * face.off_eyes**0.5
        return cls(slopes, skull, torch.from_numpy(skin[None]).float())

    def to(self, device: torch.device | str) -> None:
        """Move the maps."""
        self.slopes, self.skull, self.skin = (t.to(device) for t in (self.slopes, self.skull, self.skin))

    def turned(
        self, moves: Float[Tensor, "B 2 H W"], folds: Float[Tensor, "B 1 H W"], grid: TemplateGrid
    ) -> tuple[Float[Tensor, "B 2 H W"], Float[Tensor, "B 1 H W"]]:
        """Slopes under an expression, and how far folds lie above the mean of their vicinity.

        Args:
            moves: of the skin (x right, y down).
            folds: heights of the folds.
            grid: their texels and this surface's.
        """
        squeezed = -torch.gradient(moves[:, 0], spacing=grid.pitch, dim=2)[0]
        squeezed = squeezed - torch.gradient(moves[:, 1], spacing=grid.pitch, dim=1)[0]
        height = THICKNESS * _blur(squeezed[:, None].clamp(min=0) * self.skin, SWELL_SIGMA / grid.pitch) + folds
        where = moves.permute(0, 2, 3, 1) / moves.new_tensor(grid.size) * 2 + _plane(grid, moves)
        slid = F.grid_sample(
            self.skull.expand(len(moves), -1, -1, -1), where, padding_mode="border", align_corners=True
        )
        right, down = (torch.gradient(height[:, 0], spacing=grid.pitch, dim=d)[0] for d in (2, 1))
        slopes = self.slopes + slid - self.skull + torch.stack([right, down], 1)
        return slopes, folds - _blur(folds, CAVITY_SIGMA / grid.pitch)

    def gain(
        self, slopes: Float[Tensor, "B 2 H W"], above: Float[Tensor, "B 1 H W"], light: Float[Tensor, "B 4"]
    ) -> Float[Tensor, "B 1 H W"]:
        """Log-gain of the skin from rest to the turned surface."""
        ratio = torch.log(irradiance(slopes, light) / irradiance(self.slopes[None], light))
        change = (ratio + CAVITY_SHADE * above.clamp(max=0)) * self.skin
        return MOST * torch.tanh(change / MOST)


def irradiance(slopes: Float[Tensor, "b 2 H W"], light: Float[Tensor, "B 4"]) -> Float[Tensor, "B 1 H W"]:
    """Light on a surface, at least :data:`AMBIENT` of that on one that faces the viewer."""
    length = (1 + slopes.square().sum(1, keepdim=True)).sqrt()
    constant, right, down, front = (light[:, k, None, None, None] for k in range(4))
    falls = constant + (front - right * slopes[:, :1] - down * slopes[:, 1:]) / length
    floor = AMBIENT * (constant + front)
    # A smooth maximum: the light has no edge where the floor begins.
    return (falls + floor + ((falls - floor).square() + (0.2 * floor).square()).sqrt()) / 2


def fit_light(
    brightness: Float[Tensor, "B P"], slopes: Float[Tensor, "B P 2"], weight: Float[Tensor, "B P"]
) -> Float[Tensor, "B 4"]:
    """The linear light under which skin of one colour shows this brightness; spots of other colours are outvoted.

    Args:
        brightness: of pixels, any scale.
        slopes: of the surface there.
        weight: 0 for what is not skin.

    Returns:
        Coefficients of 1, x (right), y (down), z (to the viewer); 1 in sum for a surface that faces the viewer.
    """
    mean = (brightness * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp_min(1e-6)
    value = brightness / mean.clamp_min(1e-3)
    normal = unit_normals(slopes.transpose(1, 2)[..., None])[..., 0].transpose(1, 2)
    design = torch.cat([torch.ones_like(normal[..., :1]), normal], 2)
    prior = design.new_tensor(PRIOR_LIGHT).expand(len(value), -1)
    light = prior
    trust = weight
    for _ in range(3):
        total = trust.sum(1).clamp_min(1.0) * PRIOR_WEIGHT
        weighted = (design * trust[..., None]).transpose(1, 2)
        gram = weighted @ design + total[:, None, None] * torch.eye(4, device=design.device, dtype=design.dtype)
        target = (weighted @ value[..., None])[..., 0] + total[:, None] * prior
        light = torch.linalg.solve(gram, target)
        off = value - (design @ light[..., None])[..., 0]
        trust = weight / (1 + (off / 0.15).square())
    front = light[:, :1] + light[:, 3:]
    return light / torch.where(front > 0.1, front, 1.0)


def unit_normals(slopes: Float[Tensor, "b 2 H W"]) -> Float[Tensor, "b 3 H W"]:
    """Normals (x right, y down, z to the viewer) of a surface with these slopes."""
    return torch.cat([-slopes, torch.ones_like(slopes[:, :1])], 1) * (1 + slopes.square().sum(1, keepdim=True)).rsqrt()


def _slopes(depth: Float[np.ndarray, "H W"], pitch: float) -> Float[Tensor, "2 H W"]:
    down, right = np.gradient(depth, pitch)
    return torch.from_numpy(np.stack([right, down]).astype(np.float32))


def _plane(grid: TemplateGrid, like: Tensor) -> Float[Tensor, "1 H W 2"]:
    """Every texel's own place, as `grid_sample` counts."""
    axes = [torch.linspace(-1, 1, n, device=like.device, dtype=like.dtype) for n in (grid.height, grid.width)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], 2)[None]


def _blur(planes: Float[Tensor, "B 1 H W"], sigma: float) -> Float[Tensor, "B 1 H W"]:
    """Gaussian of ``sigma`` texels."""
    reach = int(np.ceil(2.5 * sigma))
    taps = torch.arange(-reach, reach + 1, device=planes.device, dtype=planes.dtype)
    taps = torch.exp(-0.5 * (taps / sigma).square())
    taps = taps / taps.sum()
    padded = F.pad(planes, (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(padded, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1))
