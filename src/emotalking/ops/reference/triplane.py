"""Tri-plane features in torch: one gather for all planes, levels and corners, so a GPU sees few launches."""

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=64)
def _constants(
    scales: tuple[float, ...], strides: tuple[int, ...], offsets: tuple[int, ...], dtype: torch.dtype,
    device: torch.device,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Per-level tensors on the device: scales, strides, first index [3, L], corner steps [L, 4], axes of the planes."""
    with torch.inference_mode(False):
        scale = torch.tensor(scales, dtype=dtype, device=device)
        stride = torch.tensor(strides, device=device)
        first = torch.tensor(offsets[:-1], device=device) + torch.arange(3, device=device)[:, None] * offsets[-1]
        corners = torch.stack((0 * stride, 0 * stride + 1, stride, stride + 1), dim=-1)
        axes = torch.tensor(((0, 1, 0), (1, 2, 2)), device=device)  # first and second axis of xy, yz, xz
    return scale, stride, first, corners, axes


def encode(
    points: Tensor, table: Tensor, scales: tuple[float, ...], strides: tuple[int, ...], offsets: tuple[int, ...],
    bound: float,
) -> Tensor:  # fmt: skip
    """`emotalking.ops.triplane.encode` for points ``[M, 3]``: ``[M, 3 * levels]``."""
    scale, stride, first, corners, (a, b) = _constants(scales, strides, offsets, points.dtype, points.device)
    u = (points + bound) / (2 * bound)
    inside = (u >= 0) & (u <= 1)
    position = u.clamp(0, 1)[:, :, None] * scale + 0.5  # [M, 3 axes, L]
    cell = position.detach().floor()
    frac = position - cell
    whole = cell.long()

    index = whole[:, a] + whole[:, b] * stride + first  # [M, 3 planes, L]
    corner = table.reshape(-1).index_select(0, (index[..., None] + corners).reshape(-1)).reshape(*index.shape, 4)
    low, high = torch.lerp(corner[..., 0::2], corner[..., 1::2], frac[:, a, :, None]).unbind(-1)
    values = torch.lerp(low, high, frac[:, b])
    return (values * (inside[:, a] & inside[:, b])[..., None]).flatten(1)
