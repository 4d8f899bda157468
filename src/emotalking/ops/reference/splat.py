"""Drawing for rendering as colours and the differentiable rasterizer have it: any device, any float type."""

import torch
from torch import Tensor

from emotalking.ops.geometry import camera_centre
from emotalking.ops.rasterize import rasterize
from emotalking.ops.sh import view_colours
from emotalking.ops.splat import Look


@torch.no_grad()
def splat(
    means: Tensor, quats: Tensor, scales: Tensor, look: Look, viewmats: Tensor, K: Tensor, width: int, height: int
) -> Tensor:
    """See :func:`emotalking.ops.splat.splat`."""
    frames = len(means)
    centres = camera_centre(viewmats)
    if look.tint is None:
        colours = view_colours(look.sh0, look.sh_rest, means, centres, look.degree)
    else:
        each = zip((look.sh0 + look.tint[:, :, None]).unbind(), means[:, None], centres[:, None], strict=True)
        colours = torch.cat([view_colours(sh0, look.sh_rest, one, centre, look.degree) for sh0, one, centre in each])
    raster = rasterize(
        means, quats, scales, look.opacities.expand(frames, -1), colours, viewmats[:, None],
        K.expand(frames, 1, 3, 3), width, height, validate=False,
    )  # fmt: skip
    return torch.cat([raster.features[:, 0], raster.alpha[:, 0, ..., None]], -1)
