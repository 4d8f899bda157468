"""The compiled motion networks behind `emotalking.ops.motion`; inference only."""

import ctypes
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from emotalking.ops.cpu.build import kernels
from emotalking.ops.cpu.triplane import shape_arrays
from emotalking.ops.motion import EmotionNetwork, FixedBranch


class _Sizes(ctypes.Structure):
    """Mirror of ``struct Sizes`` in motion.cpp."""

    _fields_ = (
        *(
            (name, ctypes.c_int32)
            for name in (
                *("count", "frames", "threads", "hidden", "keys"),
                *("levels", "inner", "code", "emotion_hidden"),
            )
        ),
        ("bound", ctypes.c_float),
    )


library = kernels("motion.cpp", motion_move=(ctypes.POINTER(_Sizes), *"p" * 22))


def _blocks(values: Tensor) -> Tensor:
    """Constants of points [N, C] as the kernel reads them: [blocks, C, points of a block], zeros at the end."""
    block = library().motion_block()
    padded = F.pad(values, (0, 0, 0, -values.shape[0] % block))
    return padded.unflatten(0, (-1, block)).transpose(1, 2).contiguous()


def _inwards(weights: Tensor) -> Tensor:
    """Weights of a linear layer as the kernel reads them: [in, out]."""
    return weights.T.contiguous()


@dataclass(frozen=True)
class _Packed:
    """Tensors of a branch in the kernel's layouts."""

    points: tuple[Tensor | None, ...]
    weights: tuple[Tensor, ...]
    table: Tensor | None
    emotion: tuple[Tensor, ...]

    @classmethod
    def of(cls, branch: FixedBranch) -> "_Packed":
        share = None if branch.share is None else _blocks(branch.share[:, None])
        points = (*map(_blocks, (branch.gaussians, branch.hidden, branch.attention)), share)
        weights = tuple(map(_inwards, (branch.first, branch.second, branch.third)))
        network = branch.emotion
        if network is None:
            return cls(points, weights, None, ())
        layers = (*network.attention, network.first, network.second, network.third)
        return cls(points, weights, network.table.contiguous(), tuple(map(_inwards, layers)))


def _emotion_sizes(network: EmotionNetwork) -> dict[str, Any]:
    outer, inner = network.attention[1].shape
    return {
        "levels": network.spec.levels, "inner": inner, "code": outer, "emotion_hidden": network.second.shape[0],
        "bound": network.spec.bound,
    }  # fmt: skip


@torch.no_grad()
def move(
    branch: FixedBranch, codes: Tensor, bias: Tensor | None, emotion_codes: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`emotalking.ops.motion.move`."""
    packed = branch.packed.get("cpu")
    if packed is None:
        packed = branch.packed["cpu"] = _Packed.of(branch)
    frames, count = codes.shape[0], branch.gaussians.shape[0]
    network = branch.emotion
    sizes = _Sizes(count, frames, torch.get_num_threads(), *branch.first.shape)
    arrays: tuple[Any, ...] = (None, None, None)
    if network is not None:
        for name, value in _emotion_sizes(network).items():
            setattr(sizes, name, value)
        arrays = shape_arrays(network.spec.scales, network.spec.strides, network.spec.offsets)
    given = [None if each is None else each.contiguous() for each in (codes, bias, emotion_codes)]
    means, quats, scales = (branch.gaussians.new_empty(frames, count, width) for width in (3, 4, 3))
    tensors = (*packed.points, *packed.weights, *given[:2], packed.table)
    layers = packed.emotion or (None,) * 5
    library().motion_move(
        sizes, *map(_address, tensors), *arrays, *map(_address, (*layers, given[2], means, quats, scales))
    )
    return means, quats, scales


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
