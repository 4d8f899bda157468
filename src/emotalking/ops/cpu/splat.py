"""The compiled drawing for rendering behind `emotalking.ops.splat`; inference only."""

import ctypes

import torch
import torch.nn.functional as F
from torch import Tensor

from emotalking.ops.cpu.build import kernels
from emotalking.ops.geometry import camera_centre
from emotalking.ops.sh import num_bases
from emotalking.ops.splat import Look
from emotalking.ops.splatting import MAX_EXTENT, MIN_ALPHA, RasterSettings, settings_of

library = kernels("splat.cpp", splat_image=(ctypes.POINTER(RasterSettings), *"ppppipppp"))


def _packed(look: Look) -> Tensor:
    """Opacities and colours as the kernel reads them: [blocks, 2 + 3 * bases, Gaussians of a block]."""
    opacities = look.opacities[:, None]
    half = (2 * (opacities / MIN_ALPHA).log()).clamp_min(0.0).sqrt().clamp_max(MAX_EXTENT)
    half = torch.where(opacities >= MIN_ALPHA, half, 0.0)
    rest = look.sh_rest[:, : num_bases(look.degree) - 1]
    values = torch.cat([opacities.log2().clamp_min(-126.0), half, look.sh0.flatten(1), rest.flatten(1)], -1)
    block = library().splat_block()
    return F.pad(values, (0, 0, 0, -len(values) % block)).unflatten(0, (-1, block)).transpose(1, 2).contiguous()


def _tinted(packed: Tensor, tint: Tensor) -> Tensor:
    """The same with ``tint`` [N, 3] added to the constant coefficients."""
    blocks, _, block = packed.shape
    out = packed.clone()
    out[:, 2:5] += F.pad(tint, (0, 0, 0, blocks * block - len(tint))).view(blocks, block, 3).transpose(1, 2)
    return out


@torch.no_grad()
def splat(
    means: Tensor, quats: Tensor, scales: Tensor, look: Look, viewmats: Tensor, K: Tensor, width: int, height: int
) -> Tensor:
    """See :func:`emotalking.ops.splat.splat`; a view of planes ``[B, 4, H, W]``."""
    packed = look.packed.get("cpu")
    if packed is None:
        packed = look.packed["cpu"] = _packed(look)
    frames, count = means.shape[:2]
    moved = [each.contiguous() for each in (means, quats, scales)]
    cameras = [each.contiguous() for each in (viewmats, K.expand(frames, 3, 3), camera_centre(viewmats))]
    settings = settings_of(count, width, height, 3)
    planes = means.new_empty(frames, 4, height, width)
    base = packed
    for frame in range(frames):
        if look.tint is not None:
            packed = _tinted(base, look.tint[frame])
        library().splat_image(
            settings, *(each[frame].data_ptr() for each in moved), packed.data_ptr(), num_bases(look.degree),
            *(each[frame].data_ptr() for each in cameras), planes[frame].data_ptr(),
        )  # fmt: skip
    return planes.movedim(1, -1)
