"""Waves added to finished 8-bit images, as strong as each image hides them: the invisible mark is put in by this."""

import ctypes
from dataclasses import dataclass

from jaxtyping import Float32, UInt8
from torch import Tensor

from emotalking.ops.backends import Backend, Operation, cpu_kernel, cuda_kernel

ADD_WAVES = Operation(
    "add_waves",
    cuda_kernel("waves:add_waves"),
    cpu_kernel("waves:add_waves"),
    Backend("reference", "emotalking.ops.reference.waves:add_waves"),
)
"""Back ends have the arguments of :func:`emotalking.ops.reference.waves.add_waves`."""

STEPS = 7
"""Steps of brightness to a grey level: none, then blue, red, both, green, with blue, with red, and all (.114, .299,
.413, .587, .701, .886 and 1 of Rec. 601: within .03 of sevenths)."""


class PackedHiding(ctypes.Structure):
    """Mirror of ``struct Hiding`` in hiding.h."""

    _fields_ = (
        ("cell", ctypes.c_int32),
        ("clip", ctypes.c_int32),
        *(
            (name, 2 * ctypes.c_float)
            for name in ("growth", "cost", "distance", "strongest", "smooth", "down", "across")
        ),
        *((name, ctypes.c_float) for name in ("fall", "faint", "dark", "bright", "fade", "more")),
    )


@dataclass(frozen=True)
class Hiding:
    """How strong two waves may be where an image hides them, in grey levels of 255; pairs are of both waves.

    Texture is the mean difference of neighbouring pixels, in levels, around a cell.
    """

    cell: int
    """Side of the cells in which texture and brightness are measured, pixels."""
    clip: int
    """Differences of neighbouring pixels count up to so many levels."""
    growth: tuple[float, float]
    """Power of one and the texture with which the strength grows."""
    cost: tuple[float, float]
    """Distance made by waves with a deviation of one level where an image is smooth."""
    distance: tuple[float, float]
    """Distance that they may make in the image."""
    strongest: tuple[float, float]
    """Largest deviations."""
    smooth: tuple[float, float]
    """Texture up to which the strength is a share (``faint``), and from which it is whole."""
    down: tuple[float, float]
    """Height at which waves are strongest, and deviation of that, in shares of the image."""
    across: tuple[float, float]
    """The same of its width."""
    fall: float
    """Power of one and the texture with which the distance falls."""
    faint: float
    dark: float
    """Level at which the waves vanish."""
    bright: float
    """The same among bright ones."""
    fade: float
    """Range of levels over which they do."""
    more: float
    """By how much of their strength they are stronger in the middle."""

    def packed(self) -> PackedHiding:
        """As kernels take it."""
        return PackedHiding(**vars(self))


def add_waves(
    images: UInt8[Tensor, "B H W C"],
    waves: Float32[Tensor, "2 H W"],
    factors: Float32[Tensor, " B"],
    hiding: Hiding,
    *,
    backend: str = "auto",
) -> UInt8[Tensor, "B H W C"]:
    """Images with the waves in the brightness of their colours; a fourth channel stays as it is.

    Args:
        images: RGB or RGBA.
        waves: of a mean square of 1; the first is multiplied by the image's factor.
        factors: one for each image.
        hiding: how strong they may be.
        backend: ``cuda`` and ``cpu`` are our kernels, ``reference`` torch, from which they differ by one level in
            pixels where the sum lies within single precision of a half; ``auto`` as in `ops.backends`.

    Raises:
        ValueError: the sizes differ.
        NoCompiler: ``backend="cpu"`` where the kernels can be neither loaded nor compiled.
    """
    if images.shape[1:3] != waves.shape[1:] or images.shape[-1] not in (3, 4) or len(images) != len(factors):
        shapes = ", ".join(str(tuple(each.shape)) for each in (images, waves, factors))
        raise ValueError(f"images [B, H, W, 3 or 4], waves [2, H, W] and factors [B] do not fit together: {shapes}")
    return ADD_WAVES.choose(backend if images.numel() else "reference", waves)(images, waves, factors, hiding)
