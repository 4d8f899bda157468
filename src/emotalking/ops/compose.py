"""Drawn layers over what is behind them, for rendering, without gradients."""

from jaxtyping import Float, UInt8
from torch import Tensor

from emotalking.ops.backends import Backend, Operation, cpu_kernel

COMPOSE = Operation(
    "compose",
    cpu_kernel("compose:compose"),
    Backend("reference", "emotalking.ops.reference.compose:compose"),
)
"""Back ends have the arguments of :func:`emotalking.ops.reference.compose.compose`."""

LAY_OVER = Operation(
    "lay_over",
    cpu_kernel("compose:lay_over"),
    Backend("reference", "emotalking.ops.reference.compose:lay_over"),
)
"""Back ends have the arguments of :func:`emotalking.ops.reference.compose.lay_over`."""


def compose(
    face: Float[Tensor, "B H W 4"],
    mouth: Float[Tensor, "B H W 4"],
    background: Float[Tensor, "B H W 3"],
    *,
    frame_height: int,
    backend: str = "auto",
) -> tuple[Float[Tensor, "B H W 3"], Float[Tensor, "B H W"]]:
    """:func:`emotalking.ops.composite.composite` of layers as :func:`emotalking.ops.splat.splat` draws them.

    Args:
        face: premultiplied colours and alpha.
        mouth: of the inside of the mouth.
        background: opaque, [0, 1].
        frame_height: pixels of the full frame, of which these may be a window.
        backend: ``cpu`` is our kernel for float32, ``reference`` torch; ``auto`` as in `ops.backends`.

    Returns:
        Colours, not clipped, and coverage of head and mouth in [0, 1].

    Raises:
        ValueError: the images are of different sizes.
        NoCompiler: ``backend="cpu"`` where the kernels can be neither loaded nor compiled.
    """
    if not face.shape == mouth.shape == (*background.shape[:-1], 4):
        shapes = ", ".join(str(tuple(each.shape)) for each in (face, mouth, background))
        raise ValueError(f"face, mouth [B, H, W, 4] and background [B, H, W, 3] do not fit together: {shapes}")
    chosen = COMPOSE.choose(backend if face.numel() else "reference", face)
    return chosen(face, mouth, background, frame_height)


def lay_over(
    layers: UInt8[Tensor, "*batch H W 4"], plate: Float[Tensor, "*#batch H W 3"], *, backend: str = "auto"
) -> Float[Tensor, "*batch H W 3"]:
    """Straight RGBA layers in 8 bit over opaque plates in [0, 1].

    Args:
        layers: one or more.
        plate: one for all, or one each.
        backend: ``cpu`` is our kernel for float32 plates, ``reference`` torch; ``auto`` as in `ops.backends`.

    Raises:
        ValueError: the images are of different sizes.
        NoCompiler: ``backend="cpu"`` where the kernels can be neither loaded nor compiled.
    """
    if layers.shape[-3:-1] != plate.shape[-3:-1] or layers.shape[-1] != 4 or plate.shape[-1] != 3:
        raise ValueError(
            f"plate: expected [H, W, 3] of layers [H, W, 4], got {tuple(plate.shape)} and {tuple(layers.shape)}"
        )
    return LAY_OVER.choose(backend, plate)(layers, plate)
