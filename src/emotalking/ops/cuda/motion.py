"""The CUDA kernels of the motion networks for rendering: from constants and codes to moved Gaussians, without gradient.

What they compute :mod:`emotalking.models.motion` defines, and :meth:`emotalking.models.gaussians.Gaussians.deform`.
Products take operands in half precision and sum in single precision.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from emotalking.ops.cuda.build import Argument, kernel
from emotalking.ops.cuda.triplane import grid_of
from emotalking.ops.triplane import TriplaneSpec

VALUES = 10
"""Of a moved Gaussian: mean, quaternion (wxyz) and scales."""
_THREADS, _ROWS = 128, 64


def fragments(weight: Float[Tensor, "out in"]) -> Int[Tensor, "_"]:
    """A layer's weights in half precision, as the lanes of a warp take them (matrix.h), filled up to sixteens."""
    outer, inner = weight.shape
    padded = weight.new_zeros(-(-outer // 16) * 16, -(-inner // 16) * 16)
    padded[:outer, :inner] = weight
    # inner = 16 i + 8 r + 2 t + e, outer = 8 j + g: lane 4 g + t takes register r with halves e.
    split = padded.T.half().reshape(padded.shape[1] // 16, 2, 4, 2, padded.shape[0] // 8, 8)
    return split.permute(0, 4, 5, 2, 1, 3).contiguous().view(torch.int32).flatten()


@dataclass(frozen=True)
class Trunk:
    """A trunk of two layers behind the first, as the kernels take it."""

    hidden: int
    second: Int[Tensor, "_"]
    third: Int[Tensor, "_"]
    scales: Float[Tensor, "10"]
    """World units of each output."""

    @classmethod
    def of(cls, second: Float[Tensor, "H H"], third: Float[Tensor, "out H"], scales: Float[Tensor, "10"]) -> "Trunk":
        """Pack the weights of two layers without biases; outputs beyond ``out`` are zero."""
        return cls(second.shape[0], fragments(second), fragments(third), scales.contiguous())


def takes(hidden: int, code: int) -> bool:
    """True if the kernels take a trunk and an emotion code of these widths."""
    return hidden in (16, 32, 48, 64) and code in (0, 16, 32)


def _launch(name: str, sizes: tuple[int, int, int, int], count: int, frames: int, *arguments: Argument) -> None:
    device = next(each for each in arguments if isinstance(each, Tensor)).device
    definitions = tuple(f"{key}={size}" for key, size in zip(("HIDDEN", "KEYS", "LEVELS", "CODE"), sizes, strict=True))
    run = kernel("motion.cu", name, definitions, device.index or 0)
    run((-(-count // _ROWS), frames, 1), _THREADS, *arguments)


def move(
    trunk: Trunk,
    constant: Float[Tensor, "N H"],
    base: Float[Tensor, "N 10"],
    *,
    bias: Float[Tensor, "B H"] | None = None,
    attention: Float[Tensor, "N K"] | None = None,
    codes: Float[Tensor, "B K"] | None = None,
    first: Int[Tensor, "_"] | None = None,
    share: Float[Tensor, " N"] | None = None,
    activate: bool,
) -> Float[Tensor, "B N 10"]:
    """Gaussians moved by the face or the mouth network.

    Args:
        constant: first-layer products of each Gaussian.
        base: raw means, quaternions and scales.
        bias: first-layer products of each frame.
        attention: of each Gaussian to the entries of ``codes``; K is a multiple of 16. With it, ``codes`` and
            ``first``, the fragments of the layer that takes their product.
        share: of its offset that a Gaussian takes.
        activate: put the scales through their softplus: nothing will be added to them.
    """
    count, driver = len(constant), codes if bias is None else bias
    assert driver is not None
    keys = 0 if attention is None else attention.shape[1] // 16
    moved = constant.new_empty(len(driver), count, VALUES)
    _launch(
        "move", (trunk.hidden, keys, 1, 1), count, len(driver), count, constant,
        None if bias is None else bias.contiguous(), attention, None if codes is None else codes.contiguous(), first,
        trunk.second, trunk.third, base, share, trunk.scales, int(activate), moved,
    )  # fmt: skip
    return moved


@dataclass(frozen=True)
class Feelings:
    """The emotion network, as the kernel takes it."""

    spec: TriplaneSpec
    table: Float[Tensor, "3 E"]
    code: int
    narrow: Int[Tensor, "_"]
    """Attention, first layer."""
    attend: Int[Tensor, "_"]
    """Attention, second layer."""
    first: Int[Tensor, "_"]
    trunk: Trunk

    @classmethod
    def of(
        cls,
        spec: TriplaneSpec,
        table: Float[Tensor, "3 E"],
        attention: tuple[Float[Tensor, "16 F"], Float[Tensor, "C 16"]],
        first: Float[Tensor, "H FC"],
        trunk: Trunk,
    ) -> "Feelings":
        """Pack its weights; ``first`` takes features and code side by side."""
        features = 3 * spec.levels
        gap = first.new_zeros(len(first), -features % 16)
        first = torch.cat([first[:, :features], gap, first[:, features:]], 1)
        narrow, attend = (fragments(weight) for weight in attention)
        return cls(spec, table.contiguous(), attention[1].shape[0], narrow, attend, fragments(first), trunk)


def emote(feelings: Feelings, codes: Float[Tensor, "B C"], moved: Float[Tensor, "B N 10"]) -> None:
    """Add the emotion's offsets to what :func:`move` gave without activation, and activate it, in place.

    Args:
        codes: of valence and arousal.
    """
    spec, trunk = feelings.spec, feelings.trunk
    grid = grid_of(spec.scales, spec.strides, spec.offsets, float(spec.bound))
    sizes = trunk.hidden, 0, spec.levels, feelings.code // 16
    _launch(
        "emote", sizes, moved.shape[1], len(moved), grid, moved.shape[1], feelings.table, codes.contiguous(),
        feelings.narrow, feelings.attend, feelings.first, trunk.second, trunk.third, trunk.scales, moved,
    )  # fmt: skip
