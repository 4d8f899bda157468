"""The CUDA kernels behind `emotalking.ops.motion`: products on the tensor cores."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from emotalking.ops.cuda.build import Argument, kernel
from emotalking.ops.cuda.triplane import grid_of
from emotalking.ops.motion import VALUES, EmotionNetwork, FixedBranch

_THREADS, _ROWS = 128, 64


def fragments(weight: Float[Tensor, "out in"]) -> Int[Tensor, "_"]:
    """A layer's weights as the lanes of a warp take them (matrix.h), filled up to sixteens.

    They are the sum of two numbers in half precision: first come all of the larger ones.
    """
    outer, inner = weight.shape
    padded = weight.new_zeros(16 * _sixteens(outer), 16 * _sixteens(inner))
    padded[:outer, :inner] = weight
    # inner = 16 i + 8 r + 2 t + e, outer = 8 j + g: lane 4 g + t takes register r with halves e.
    split = (
        padded.T.reshape(padded.shape[1] // 16, 2, 4, 2, padded.shape[0] // 8, 8).permute(0, 4, 5, 2, 1, 3).flatten()
    )
    high = split.half()
    return torch.cat([high, (split - high.float()).half()]).view(torch.int32)


def _sixteens(size: int) -> int:
    return -(-size // 16)


def _filled(values: Float[Tensor, "n m"]) -> Float[Tensor, "n M"]:
    """With columns of zeros up to sixteens."""
    return torch.nn.functional.pad(values, (0, -values.shape[1] % 16)).contiguous()


@dataclass(frozen=True)
class _Trunk:
    """A network behind its constant part, as the kernels take it."""

    first: Int[Tensor, "_"]
    second: Int[Tensor, "_"]
    third: Int[Tensor, "_"]
    scales: Float[Tensor, "10"]
    """Of the third layer's outputs: its smallest weights would be too small for half precision."""

    @classmethod
    def of(cls, first: Tensor, second: Tensor, third: Tensor) -> "_Trunk":
        scales = third.abs().amax(1).clamp(min=1e-12)
        return cls(fragments(first), fragments(second), fragments(third / scales[:, None]), scales.contiguous())


@dataclass(frozen=True)
class _Emotion:
    """The emotion network, as its kernel takes it."""

    sizes: tuple[int, int, int, int, int]
    table: Float[Tensor, "3 E"]
    attention: tuple[Int[Tensor, "_"], Int[Tensor, "_"]]
    trunk: _Trunk

    @classmethod
    def of(cls, network: EmotionNetwork) -> "_Emotion":
        features = 3 * network.spec.levels
        inner, outer = network.attention
        first = torch.cat([_filled(network.first[:, :features]), network.first[:, features:]], 1)
        widths = _sixteens(len(network.second)), 0, network.spec.levels, _sixteens(len(inner)), _sixteens(len(outer))
        attention = fragments(inner), fragments(outer)
        return cls(widths, network.table.contiguous(), attention, _Trunk.of(first, network.second, network.third))


@dataclass(frozen=True)
class _Packed:
    """A branch, as the kernels take it."""

    gaussians: Float[Tensor, "N 10"]
    hidden: Float[Tensor, "N H"]
    attention: Float[Tensor, "N J"]
    share: Float[Tensor, " N"] | None
    trunk: _Trunk
    emotion: _Emotion | None

    @classmethod
    def of(cls, branch: FixedBranch) -> "_Packed":
        """Packed once."""
        if "cuda" not in branch.packed:
            branch.packed["cuda"] = cls(
                branch.gaussians.contiguous(),
                _filled(branch.hidden),
                _filled(branch.attention),
                None if branch.share is None else branch.share.contiguous(),
                _Trunk.of(branch.first, branch.second, branch.third),
                None if branch.emotion is None else _Emotion.of(branch.emotion),
            )
        return branch.packed["cuda"]


def _launch(name: str, sizes: tuple[int, ...], like: Float[Tensor, "B N 10"], *arguments: Argument) -> None:
    names = ("HIDDEN", "KEYS", "LEVELS", "NARROW", "CODE")
    definitions = tuple(f"{key}={size}" for key, size in zip(names, sizes, strict=True))
    run = kernel("motion.cu", name, definitions, like.device.index or 0)
    run((-(-like.shape[1] // _ROWS), len(like), 1), _THREADS, *arguments)


@torch.no_grad()
def moved(
    branch: FixedBranch, codes: Tensor, bias: Tensor | None, emotion_codes: Tensor | None
) -> Float[Tensor, "B N 10"]:
    """Means, quaternions and activated scales side by side; arguments as :func:`emotalking.ops.motion.move`."""
    packed, trunk = (one := _Packed.of(branch)), one.trunk
    count, keys = len(packed.gaussians), packed.attention.shape[1] // 16
    out = packed.hidden.new_empty(len(codes), count, VALUES)
    _launch(
        "move", (packed.hidden.shape[1] // 16, keys, 1, 1, 1), out, count, packed.hidden,
        None if bias is None else _filled(bias), packed.attention, _filled(codes), trunk.first, trunk.second,
        trunk.third, packed.gaussians, packed.share, trunk.scales, int(emotion_codes is None), out,
    )  # fmt: skip
    if emotion_codes is not None:
        assert packed.emotion is not None and branch.emotion is not None
        spec, emotion, trunk = branch.emotion.spec, packed.emotion, packed.emotion.trunk
        grid = grid_of(spec.scales, spec.strides, spec.offsets, float(spec.bound))
        _launch(
            "emote", emotion.sizes, out, grid, count, emotion.table, _filled(emotion_codes), *emotion.attention,
            trunk.first, trunk.second, trunk.third, trunk.scales, out,
        )  # fmt: skip
    return out


def move(
    branch: FixedBranch, codes: Tensor, bias: Tensor | None, emotion_codes: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`emotalking.ops.motion.move`."""
    means, quats, scales = moved(branch, codes, bias, emotion_codes).split([3, 4, 3], -1)
    return means, quats, scales
