"""Small corrections of the head in each training frame, learned with the scene (photometric bundle adjustment).

Tracked poses and expressions are off by a fraction of a pixel, differently in every frame, so that Gaussians which all
frames train become the average over misplaced frames: soft. Each frame therefore has a low-dimensional motion of the
whole head, which is learned from the same image terms. Frames that are not trained on are rendered without, so the
mean over the frames is left to the Gaussians.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.optim import Adam

from emotalking.models.gaussians import Deformed
from emotalking.ops.geometry import HEAD_RADIUS
from emotalking.train.config import CorrectionsConfig

MILLIMETRE = 1e-3
"""Unit of the corrections, world units: about a pixel of a 512-pixel frame."""
NUM_BASES = {0: 1, 1: 4, 2: 10}
"""Number of polynomials up to a degree."""


def polynomials(points: Float[Tensor, "*batch N 3"], degree: int) -> Float[Tensor, "*batch N K"]:
    """All products of up to ``degree`` coordinates of ``points``, in units of the head's radius."""
    x, y, z = (points / HEAD_RADIUS).unbind(-1)
    bases = [torch.ones_like(x)]
    if degree > 0:
        bases += [x, y, z]
    if degree > 1:
        bases += [x * x, x * y, x * z, y * y, y * z, z * z]
    return torch.stack(bases, -1)


class Corrections(nn.Module):
    """Motion of the head in each of F training frames: polynomials of the position, with three coefficients each.

    Degree 1 holds every small rigid motion, scaling and shear.
    """

    table: nn.Parameter

    def __init__(self, count: int, config: CorrectionsConfig) -> None:
        super().__init__()
        self._config = config
        self.table = nn.Parameter(torch.zeros(count, NUM_BASES[config.degree], 3))
        half = config.window // 2
        self._reach = nn.Buffer(torch.arange(-half, half + 1), persistent=False)
        weights = half + 1.0 - self._reach.abs()
        self._weights = nn.Buffer(weights / weights.sum(), persistent=False)

    def coefficients(self, frame: int | Int64[Tensor, "1"]) -> Float[Tensor, "K 3"]:
        """Coefficients [mm] of the training data's row ``frame``: averaged over the window, less the mean of all."""
        rows = (frame + self._reach).clamp(0, len(self.table) - 1)
        return torch.einsum("w,wkd->kd", self._weights, self.table.index_select(0, rows)) - self.table.detach().mean(0)

    def apply(self, deformed: Deformed, coefficients: Float[Tensor, "K 3"]) -> Deformed:
        """Gaussians moved by one frame's corrections; in place."""
        bases = polynomials(deformed.means.detach(), self._config.degree)
        deformed.means = deformed.means + MILLIMETRE * (bases @ coefficients)
        return deformed

    def size(self, coefficients: Float[Tensor, "K 3"]) -> Float[Tensor, ""]:
        """Weighted sum of squared coefficients [mm^2], which keeps a correction small."""
        return self._config.weight * coefficients.square().sum()

    def optimizer(self) -> Adam:
        """Their optimizer."""
        return Adam([{"name": "corrections", "params": [self.table], "lr": self._config.rate}], eps=1e-15, fused=True)
