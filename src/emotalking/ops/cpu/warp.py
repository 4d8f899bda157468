"""The compiled operations behind `emotalking.ops.warp`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from emotalking.ops.cpu.build import kernels
from emotalking.ops.warp import ROUNDS

library = kernels("warp.cpp", invert_field="ppp" + "liiiiiifii" + "pp", remap="ppppp" + "iliiiiiii" + "pp")


def invert_field(planes: Tensor, places: Tensor, jacobian: Tensor, scale: int, step: int) -> tuple[Tensor, Tensor]:
    """See :func:`emotalking.ops.warp.invert_field`."""
    given = [each.contiguous() for each in (planes, places, jacobian)]
    frames, channels, *size = planes.shape
    m, n = places.shape[2:]
    out = [planes.new_empty(frames, wide, scale * m, scale * n) for wide in (2, channels - 2)]
    library().invert_field(
        *(each.data_ptr() for each in given), frames, channels, *size, m, n, scale, step, ROUNDS,
        torch.get_num_threads(), *(each.data_ptr() for each in out),
    )  # fmt: skip
    return out[0], out[1]


def remap(
    images: Tensor, labels: Tensor, flow: Tensor, log_gain: Tensor, lit: int, colour: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """See :func:`emotalking.ops.warp.remap`."""
    given = [each.contiguous() for each in (images, labels, flow, log_gain, images.new_tensor(colour))]
    out = torch.empty_like(given[0]), torch.empty_like(given[1])
    scale = 1 if flow.shape[3] >= images.shape[3] else 2
    library().remap(
        *(each.data_ptr() for each in given), lit, *images.shape, *flow.shape[2:], scale, torch.get_num_threads(),
        *(each.data_ptr() for each in out),
    )  # fmt: skip
    return out
