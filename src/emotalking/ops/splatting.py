"""Constants of rendering, shared by all four rasterizers, and what our two kernels (CPU and CUDA) share."""

import ctypes
from collections.abc import Callable

import torch
from torch import Tensor

MAX_ALPHA = 0.999
"""A single Gaussian never covers a pixel fully, so 1 / (1 - alpha) in the backward pass stays finite. gsplat 1.5 has
0.999 compiled in (3DGS used 0.99); all back ends share its value so that an avatar renders the same on each."""

MIN_ALPHA = 1.0 / 255.0
"""Fainter contributions cannot change an 8-bit image; dropping them gives every Gaussian a finite extent."""

MIN_TRANSMITTANCE = 1e-4
"""Blending stops before the Gaussian that would leave this transmittance or less: anything behind is invisible."""

BLUR_2D = 0.3
"""Square pixels added to the projected variances, so that no Gaussian is thinner than the pixel grid (3DGS)."""

FRUSTUM_MARGIN = 0.3
"""The Jacobian of the projection is evaluated at most this fraction of the half field of view outside the image: the
linearisation explodes for Gaussians far outside the view."""

MAX_EXTENT = 3.33
"""Standard deviations after which a Gaussian of opacity 1 falls below ``MIN_ALPHA``: sqrt(2 ln 255) = 3.329, rounded up
to gsplat's number."""


class RasterSettings(ctypes.Structure):
    """Mirror of ``struct Settings`` in projection.h."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("count", "width", "height", "channels", "num_detached", "threads")),
        *(
            (name, ctypes.c_float)
            for name in ("near", "max_alpha", "min_alpha", "min_transmittance", "blur", "margin", "max_extent")
        ),
    )


def settings_of(
    count: int, width: int, height: int, channels: int, num_detached: int = 0, near: float = 0.01
) -> RasterSettings:
    """Settings of one pass over ``count`` Gaussians."""
    return RasterSettings(
        count, width, height, channels, num_detached, torch.get_num_threads(), near, MAX_ALPHA, MIN_ALPHA,
        MIN_TRANSMITTANCE, BLUR_2D, FRUSTUM_MARGIN, MAX_EXTENT,
    )  # fmt: skip


def in_passes(
    one_pass: Callable[..., tuple[Tensor, ...]], backend: str, most_side: int, most_channels: int,
    means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, features: Tensor, viewmats: Tensor, Ks: Tensor,
    width: int, height: int, background: Tensor | None, probe: Tensor | None, near: float, num_detached: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """`emotalking.ops.rasterize.rasterize` on one flat batch axis ``B``: features, alpha, depth, radii.

    Args:
        one_pass: the kernel for at most ``most_channels`` features.
        backend: its name.
        most_side: largest supported side in pixels.
    """
    if max(width, height) > most_side:
        raise ValueError(f"width, height: backend='{backend}' takes at most {most_side} pixels, got {width} x {height}")
    shared = [part.contiguous() for part in (means, quats, scales, opacities)]
    cameras = (viewmats.contiguous(), Ks.contiguous())
    probe = None if probe is None else probe.contiguous()
    free, passes = features.shape[-1] - num_detached, []
    for start in range(0, features.shape[-1], most_channels):
        part = features[..., start : start + most_channels].contiguous()
        behind = None if background is None else background[start : start + most_channels].contiguous()
        still = min(part.shape[-1], max(0, start + part.shape[-1] - free))
        settings = settings_of(means.shape[1], width, height, part.shape[-1], still, near)
        passes.append(one_pass(*shared, part, behind, probe, *cameras, settings))
    image = passes[0][0] if len(passes) == 1 else torch.cat([images for images, *_ in passes], dim=-1)
    return image, *passes[0][1:]
