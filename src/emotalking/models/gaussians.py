"""A set of canonical 3-D Gaussians with raw (optimised) parameters (paper 3.1; docs/paper.md 3)."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from emotalking.ops.sh import num_bases, rgb_to_sh0, view_colours

PARAMETERS = ("means", "sh0", "sh_rest", "opacity_logits", "raw_scales", "raw_quats", "normal_residuals")
"""Names of the raw parameters, in the order of their optimizer groups."""


@dataclass
class Deformed:
    """Activated Gaussians of B frames, and the offsets of the network that moved them last."""

    means: Float[Tensor, "B N 3"]
    """World units."""
    quats: Float[Tensor, "B N 4"]
    """wxyz, not normalised."""
    scales: Float[Tensor, "B N 3"]
    """World units, > 0."""
    opacities: Float[Tensor, "B N"]
    """In (0, 1)."""
    offsets: dict[str, Tensor]
    """By name, for the motion regulariser: `d_means` in world units, `d_quats` and `d_scales` before activation. After
    `TalkingHead.add_emotion` they are the emotion network's alone, without the face network's."""
    attention: tuple[Float[Tensor, "N A"], Float[Tensor, "N 6"]] | None = None
    """Attention of each point to the entries of the audio code and to the action units; face only."""


class Gaussians(nn.Module):
    """Canonical Gaussians of one branch.

    Scales are activated by softplus (not exp), opacities by a sigmoid. Each carries one normal residual, which is
    added to its shortest axis (paper 3.1; GaussianShader).
    """

    means: nn.Parameter
    sh0: nn.Parameter
    sh_rest: nn.Parameter
    opacity_logits: nn.Parameter
    raw_scales: nn.Parameter
    raw_quats: nn.Parameter
    normal_residuals: nn.Parameter

    def __init__(
        self,
        points: Float[Tensor, "N 3"],
        colours: Float[Tensor, "N 3"],
        sh_degree: int,
        spacing: Float[Tensor, " N"] | None = None,
    ) -> None:
        """Start at ``points`` with ``colours`` in [0, 1], opacity 0.1, identity rotation.

        ``spacing`` is :func:`neighbour_distance`; None: measured here.

        As published, the logarithm of the nearest-neighbour distance is fed to the softplus as raw scale
        (docs/paper.md 3): a Gaussian starts at softplus(log d) = log(1 + d), nearly d.
        """
        super().__init__()
        self.sh_degree = sh_degree
        count = points.shape[0]
        spacing = neighbour_distance(points) if spacing is None else spacing
        tensors = {
            "means": points,
            "sh0": rgb_to_sh0(colours)[:, None, :],
            "sh_rest": points.new_zeros(count, num_bases(sh_degree) - 1, 3),
            "opacity_logits": torch.full((count,), float(np.log(0.1 / 0.9))),
            "raw_scales": spacing.log()[:, None].repeat(1, 3),
            "raw_quats": points.new_tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1),
            "normal_residuals": torch.zeros(count, 3),
        }
        for name, tensor in tensors.items():
            setattr(self, name, nn.Parameter(tensor.float().clone()))
        self.skin: UInt8[Tensor, "N 2"] | None
        """Weights of flush and gloss (`models.skin`) of a face; None until training has ended."""
        self.register_buffer("skin", None)
        self.shade: UInt8[Tensor, "N knots"] | None
        """Weights of its shade with emotion (`models.skin`), likewise; None also where it has none."""
        self.register_buffer("shade", None)

    @classmethod
    def empty(cls, count: int, sh_degree: int) -> "Gaussians":
        """Gaussians of the right shapes whose values will be loaded."""
        return cls(torch.zeros(count, 3), torch.zeros(count, 3), sh_degree, torch.ones(count))

    @property
    def count(self) -> int:
        """N."""
        return self.means.shape[0]

    @property
    def scales(self) -> Float[Tensor, "N 3"]:
        """Activated scales in world units."""
        return F.softplus(self.raw_scales)

    @property
    def opacities(self) -> Float[Tensor, "N"]:
        """Activated opacities in (0, 1)."""
        return self.opacity_logits.sigmoid()

    def deform(
        self,
        d_means: Float[Tensor, "B N 3"] | None = None,
        d_quats: Float[Tensor, "B N 4"] | None = None,
        d_scales: Float[Tensor, "B N 3"] | None = None,
    ) -> Deformed:
        """Add raw offsets (before activation) to the canonical parameters; without any, one static frame."""
        parts = {"d_means": d_means, "d_quats": d_quats, "d_scales": d_scales}
        offsets = {name: value for name, value in parts.items() if value is not None}
        frames = next(iter(offsets.values())).shape[0] if offsets else 1
        means = self.means.expand(frames, -1, -1)
        quats = self.raw_quats.expand(frames, -1, -1)
        raw_scales = self.raw_scales.expand(frames, -1, -1)
        return Deformed(
            means=means if d_means is None else means + d_means,
            quats=quats if d_quats is None else quats + d_quats,
            scales=F.softplus(raw_scales if d_scales is None else raw_scales + d_scales),
            opacities=self.opacities.expand(frames, -1),
            offsets=offsets,
        )

    def colours(
        self,
        means: Float[Tensor, "B N 3"],
        camera_centres: Float[Tensor, "B 3"],
        degree: int,
        tint: Float[Tensor, "1 N 3"] | None = None,
    ) -> Float[Tensor, "B N 3"]:
        """Colour of each Gaussian as viewed from ``camera_centres``, bands up to ``degree``; never negative.

        Args:
            tint: added to the constant coefficients.
        """
        sh0 = self.sh0 if tint is None else self.sh0 + tint[0, :, None]
        return view_colours(sh0, self.sh_rest, means, camera_centres, degree)


def raw_scales_of(scales: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
    """Raw scales whose activation (`Gaussians.scales`) is ``scales`` (> 0, world units)."""
    return torch.expm1(scales.clamp_min(1e-8)).log()


def neighbour_distance(points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
    """Root mean square distance to the three nearest other points, at least 1e-5; 0.01 for a single point."""
    if points.shape[0] < 2:
        return torch.full((points.shape[0],), 0.01)
    from scipy.spatial import KDTree  # an eighth of the time to the first frame, and only training needs it

    values = points.detach().cpu().numpy()
    neighbours = min(4, points.shape[0])
    distance, _ = KDTree(values).query(values, k=neighbours)
    return torch.from_numpy(np.sqrt((distance[:, 1:] ** 2).mean(1))).float().clamp_min(1e-5)
