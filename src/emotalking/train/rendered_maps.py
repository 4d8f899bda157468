"""Extra rendered channels (normals and attention maps), and the loss terms of normals."""

import torch
from jaxtyping import Float
from torch import Tensor

from emotalking.losses.normal import normal_cosine, normal_l1
from emotalking.losses.normal_tv import normal_tv
from emotalking.models.gaussians import Deformed, Gaussians
from emotalking.models.head import Layer
from emotalking.ops.normals import camera_normals, normals_from_render
from emotalking.train.loss_config import NormalLosses


def normal_channels(
    gaussians: Gaussians, deformed: Deformed, viewmats: Float[Tensor, "B 4 4"]
) -> Float[Tensor, "B N 3"]:
    """Normals as colours, in the axes of each frame's camera: the ``extra`` of `render_layer` (paper 3.2)."""
    return camera_normals(deformed.quats, deformed.scales, deformed.means, viewmats, gaussians.normal_residuals)


def normal_terms(layer: Layer, target: Float[Tensor, "B H W 3"], weights: NormalLosses) -> dict[str, Tensor]:
    """Weighted terms of a layer that was rendered with :func:`normal_channels` (eqs. 11, 14, 17).

    Args:
        target: unit normals in camera space, zero where unknown.
    """
    rendered = normals_from_render(layer.extra.split([3, layer.extra.shape[-1] - 3], dim=-1)[0], layer.alpha)
    terms = {}
    if weights.normal:
        terms["normal"] = weights.normal * normal_l1(rendered, target)
    if weights.normal_cosine:
        terms["normal_cosine"] = weights.normal_cosine * normal_cosine(rendered, target)
    if weights.normal_tv:
        known = target.abs().amax(-1) > 0
        terms["normal_tv"] = weights.normal_tv * normal_tv(rendered, known)
    return terms


def attention_channels(face: Deformed) -> Float[Tensor, "1 N 2"]:
    """Strength (L2 norm) of the audio and of the action-unit attention of each Gaussian (docs/paper.md 4.3).

    Splatted as detached channels, their gradient flows to the attention networks and to what these read, and not
    through the image to geometry and opacity.
    """
    assert face.attention is not None
    return torch.stack([torch.linalg.vector_norm(part, dim=-1) for part in face.attention], -1)[None]
