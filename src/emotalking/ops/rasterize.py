"""Differentiable splatting of 3-D Gaussians (one definition, several back ends).

:data:`RASTERIZE` lists the back ends, each with its device, type and limits; ``auto`` takes the first that fits the
inputs and can run here. :func:`emotalking.ops.backends.own_kernels` forbids our CUDA kernels, which never make the host
wait; the last, ``reference``, is plain torch and serves everything: float64, a gradient to the cameras, no C++
compiler.
They agree up to float rounding, with two exceptions: a contribution within rounding of one of the two
thresholds may be kept by one and dropped by another (which changes one pixel by less than 1 % of the contrast there),
and a quaternion of length zero counts as the identity, except in gsplat, which drops that Gaussian.
"""

from dataclasses import dataclass
from importlib.util import find_spec

import torch
from jaxtyping import Float, Int
from torch import Tensor

from emotalking.ops.backends import Backend, Operation, cpu_kernel, cuda_kernel
from emotalking.ops.cuda.rasterize import MAX_SIDE

RASTERIZE = Operation(
    "rasterize",
    cuda_kernel("rasterize:rasterize", limits={"side": MAX_SIDE}),
    Backend(
        "gsplat",
        "emotalking.ops.cuda.gsplat:rasterize",
        device="cuda",
        float32_only=True,
        gradients=("viewmats",),
        available=lambda: find_spec("gsplat") is not None,
    ),
    cpu_kernel("rasterize:rasterize"),
    Backend("reference", "emotalking.ops.reference.rasterize:rasterize", gradients=("viewmats", "Ks")),
)
"""Back ends have the arguments of :func:`emotalking.ops.reference.rasterize.rasterize`. A new one is a module with
such a function and a ``Backend`` in this list; from outside the package, ``RASTERIZE.register(Backend(...))``."""


@dataclass(frozen=True)
class Rasterized:
    """Result of :func:`rasterize`. ``features``, ``alpha`` and ``depth`` carry gradient; ``radii`` does not."""

    features: Float[Tensor, "*batch C H W D"]
    """Premultiplied: sum of weight * feature, plus transmittance * background."""
    alpha: Float[Tensor, "*batch C H W"]
    """Coverage, 1 - transmittance, in [0, 1)."""
    depth: Float[Tensor, "*batch C H W"]
    """Expected depth: sum of weight * camera z, not divided by alpha; the background counts 0."""
    radii: Int[Tensor, "*batch C N"]
    """Half the larger side of each Gaussian's box on the screen, integer pixels (int32); 0 = culled."""
    backend: str
    """The back end that ran: ``reference``, ``cpu``, ``cuda`` or ``gsplat``."""


def rasterize(
    means: Float[Tensor, "*batch N 3"],
    quats: Float[Tensor, "*batch N 4"],
    scales: Float[Tensor, "*batch N 3"],
    opacities: Float[Tensor, "*batch N"],
    features: Float[Tensor, "*batch N D"],
    viewmats: Float[Tensor, "*batch C 4 4"],
    Ks: Float[Tensor, "*batch C 3 3"],
    width: int,
    height: int,
    background: Float[Tensor, "D"] | None = None,
    *,
    backend: str = "auto",
    means2d_probe: Float[Tensor, "*batch C N 2"] | None = None,
    num_detached: int = 0,
    near: float = 0.01,
    validate: bool = True,
) -> Rasterized:
    """Render Gaussians into images of any number of channels, with alpha and expected depth in the same pass.

    EWA splatting as in 3DGS (arXiv 2308.04079): Gaussians are projected, sorted by the depth of their centres, and
    blended front to back with ``alpha = min(0.999, opacity * exp(-power))``; contributions below 1/255 are dropped and
    blending stops before transmittance would reach 1e-4 (`ops.splatting`). Leading batch dimensions carry *different*
    Gaussians (deformed frames); the ``C`` cameras of one batch entry share them. Skew in ``Ks`` is ignored.

    Convention: OpenCV cameras, pixel centres at .5, quaternions wxyz (`docs/conventions.md`).

    Args:
        means: world positions.
        quats: wxyz, need not be normalised.
        scales: standard deviations along the Gaussian's axes, world units, > 0.
        opacities: in [0, 1].
        features: any channels: colour, normal, attention; 1 or more of them.
        viewmats: world-to-camera, rigid.
        Ks: intrinsics in pixels.
        width: image width in pixels.
        height: image height in pixels.
        background: one value per channel, shared by all images; None is zero.
        backend: ``auto``, ``reference``, ``cpu``, ``cuda`` or ``gsplat`` (see the module); the result
            names the one that ran.
        means2d_probe: a zero tensor added to the projected centres, so that its gradient is the gradient of the loss
            with respect to the position on the screen, in pixels (densification reads it).
        num_detached: number of the last features without gradient to geometry and opacity.
        near: Gaussians with a smaller camera z are culled.
        validate: refuse NaN and infinity in the inputs: one reduction per input, and on CUDA a wait for the device.

    Returns:
        `Rasterized`.

    Raises:
        ValueError: a shape, size, device, dtype or value does not fit; the message names the argument.
        ImportError: gsplat is needed and not installed.
        NoCompiler: ``backend="cpu"`` where the kernels can be neither loaded nor compiled.

    Example:
        >>> out = rasterize(means, quats, scales, opacities, colours, viewmats, Ks, 512, 512)
        >>> out.features.shape  # [*batch, C, 512, 512, 3]
    """
    inputs = {
        "means": means, "quats": quats, "scales": scales, "opacities": opacities, "features": features,
        "viewmats": viewmats, "Ks": Ks, "background": background, "means2d_probe": means2d_probe,
    }  # fmt: skip
    _check_shapes(inputs, width, height, num_detached)
    if validate:
        _check_finite(inputs)
    batch = means.shape[:-2]

    def flat(value: Tensor) -> Tensor:
        return value.reshape(batch.numel(), *value.shape[len(batch) :])

    chosen = _choose(backend, means, {"viewmats": viewmats, "Ks": Ks}, max(width, height))
    outputs = chosen(
        *(flat(value) for value in (means, quats, scales, opacities, features, viewmats, Ks)),
        width, height, background, None if means2d_probe is None else flat(means2d_probe), near, num_detached,
    )  # fmt: skip
    image, alpha, depth, radii = (part.reshape(*batch, *part.shape[1:]) for part in outputs)
    return Rasterized(image, alpha, depth, radii, chosen.name)


def _choose(backend: str, means: Tensor, cameras: dict[str, Tensor], side: int) -> Backend:
    """Choose the back end of a call; on a GPU ``auto`` never falls back to the slow reference for lack of a package."""
    needed = [name for name, value in cameras.items() if value.requires_grad]
    chosen = RASTERIZE.choose(backend, means, needed, side=side)
    if backend == "auto" and chosen.name == "reference":
        if RASTERIZE.backends["cuda"].obstacle(means, needed, {"side": side}) is None:
            return RASTERIZE.choose("gsplat", means)  # not installed: its call raises ImportError
    return chosen


def _check_shapes(inputs: dict[str, Tensor | None], width: int, height: int, num_detached: int) -> None:
    """Refuse shapes, devices and dtypes that do not fit together, naming the argument."""
    means = inputs["means"]
    features = inputs["features"]
    viewmats = inputs["viewmats"]
    assert means is not None and features is not None and viewmats is not None
    if means.ndim < 2 or features.ndim < 2 or viewmats.ndim < 3:
        raise ValueError(
            "means [*batch, N, 3], features [*batch, N, D] or viewmats [*batch, C, 4, 4] has too few dimensions: "
            f"got {tuple(means.shape)}, {tuple(features.shape)}, {tuple(viewmats.shape)}"
        )
    batch = means.shape[:-2]
    N = means.shape[-2]
    D = features.shape[-1]
    C = viewmats.shape[-3]
    expected = {
        "means": (*batch, N, 3), "quats": (*batch, N, 4), "scales": (*batch, N, 3), "opacities": (*batch, N),
        "features": (*batch, N, D), "viewmats": (*batch, C, 4, 4), "Ks": (*batch, C, 3, 3), "background": (D,),
        "means2d_probe": (*batch, C, N, 2),
    }  # fmt: skip
    for name, value in inputs.items():
        if value is None:
            continue
        if tuple(value.shape) != expected[name]:
            raise ValueError(f"{name}: expected shape {expected[name]}, got {tuple(value.shape)}")
        if value.device != means.device or value.dtype != means.dtype:
            raise ValueError(
                f"{name}: expected {means.dtype} on {means.device} as means is, got {value.dtype} on {value.device}"
            )
    if D < 1:
        raise ValueError("features: expected at least one channel, got 0")
    if batch.numel() < 1 or C < 1:
        raise ValueError(f"means, viewmats: expected at least one batch entry and camera, got {tuple(batch)} and {C}")
    if width < 1 or height < 1:
        raise ValueError(f"width, height: expected at least 1 pixel, got {width} x {height}")
    if not 0 <= num_detached <= D:
        raise ValueError(f"num_detached: expected 0 to {D} of the features, got {num_detached}")


def _check_finite(inputs: dict[str, Tensor | None]) -> None:
    """Refuse NaN and infinity. A sum is finite only if every term is: one pass and one wait, unlike isfinite().all().

    The sum runs in float64, so that large but finite float32 values cannot overflow it.
    """
    present = {name: value for name, value in inputs.items() if value is not None and value.numel()}
    sums = torch.stack([value.detach().sum(dtype=torch.float64) for value in present.values()])
    if not bool(torch.isfinite(sums.sum())):
        for name, total in zip(present, sums.tolist(), strict=True):
            if total - total != 0:
                raise ValueError(f"{name}: expected finite numbers, got NaN or infinity")
