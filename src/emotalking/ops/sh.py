"""Colours that depend on the viewing direction: real spherical harmonics of degree 0 to 3."""

import torch
from jaxtyping import Float
from torch import Tensor

from emotalking.ops.backends import Backend, Operation, cpu_kernel, cuda_kernel

C0 = 0.28209479177387814
"""The constant basis function, 1 / (2 sqrt(pi)): ``rgb = C0 * sh0 + 0.5``."""
MAX_DEGREE = 3
VIEW_COLOURS = Operation(
    "view_colours",
    cuda_kernel("shade:view_colours"),
    cpu_kernel("shade:view_colours"),
    Backend("reference", "emotalking.ops.sh:view_colours_reference"),
)


def num_bases(degree: int) -> int:
    """Number of coefficients of a colour channel up to ``degree``.

    Raises:
        ValueError: the degree is not 0 to 3.
    """
    if not 0 <= degree <= MAX_DEGREE:
        raise ValueError(f"degree: expected 0 to {MAX_DEGREE}, got {degree}")
    return (degree + 1) ** 2


def basis(directions: Float[Tensor, "*batch 3"], degree: int) -> Float[Tensor, "*batch K"]:
    """The ``(degree + 1)^2`` real spherical harmonics at unit ``directions``, in 3DGS's order and sign."""
    num_bases(degree)  # refuses other degrees
    x, y, z = directions.unbind(-1)
    values = [torch.full_like(x, C0)]
    if degree >= 1:
        c = 0.4886025119029199
        values += [-c * y, c * z, -c * x]
    if degree >= 2:
        xx = x * x
        yy = y * y
        zz = z * z
        c = 1.0925484305920792
        c0 = 0.31539156525252005
        c2 = 0.5462742152960396
        values += [c * x * y, -c * y * z, c0 * (2 * zz - xx - yy), -c * x * z, c2 * (xx - yy)]
        if degree >= 3:
            values += [
                -0.5900435899266435 * y * (3 * xx - yy),
                2.890611442640554 * x * y * z,
                -0.4570457994644658 * y * (4 * zz - xx - yy),
                0.3731763325901154 * z * (2 * zz - 3 * xx - 3 * yy),
                -0.4570457994644658 * x * (4 * zz - xx - yy),
                1.445305721320277 * z * (xx - yy),
                -0.5900435899266435 * x * (xx - 3 * yy),
            ]
    return torch.stack(values, dim=-1)


def evaluate_sh(
    coeffs: Float[Tensor, "*batch N K 3"], directions: Float[Tensor, "*batch N 3"], degree: int
) -> Float[Tensor, "*batch N 3"]:
    """Colours as viewed along ``directions``.

    Args:
        coeffs: at least ``(degree + 1)^2`` coefficients per channel; later ones are ignored, as in training that raises
            the degree step by step.
        directions: from the camera centre to the Gaussian, world frame, any length above zero.
        degree: 0 to 3.

    Returns:
        ``sum of coefficient * basis + 0.5``, not clamped. Both tensors carry gradient.

    Raises:
        ValueError: the degree is out of range, or there are fewer coefficients than it needs.
    """
    needed = num_bases(degree)
    if coeffs.shape[-2] < needed:
        raise ValueError(f"coeffs: degree {degree} needs {needed} coefficients, got {coeffs.shape[-2]}")
    if degree == 0:
        return C0 * coeffs[..., 0, :] + 0.5
    values = basis(torch.nn.functional.normalize(directions, dim=-1), degree)
    return (values[..., None, :] @ coeffs[..., :needed, :]).squeeze(-2) + 0.5


def view_colours(
    sh0: Float[Tensor, "N 1 3"],
    sh_rest: Float[Tensor, "N R 3"],
    means: Float[Tensor, "B N 3"],
    camera_centres: Float[Tensor, "B 3"],
    degree: int,
    *,
    backend: str = "auto",
) -> Float[Tensor, "B N 3"]:
    """Colours of N Gaussians as viewed from B cameras, never negative: :func:`evaluate_sh` along each line of sight.

    Args:
        sh0: constant coefficients.
        sh_rest: the higher ones, R + 1 >= (degree + 1)^2.
        means: positions of each camera's Gaussians; no gradient flows to them.
        camera_centres: carry no gradient here.
        backend: ``reference`` is torch, ``cpu`` and ``cuda`` our kernels for float32; ``auto`` as in `ops.backends`.

    Raises:
        ValueError: the degree is out of range, or there are fewer coefficients than it needs.
    """
    needed = num_bases(degree)
    if sh_rest.shape[-2] + 1 < needed:
        raise ValueError(f"sh_rest: degree {degree} needs {needed - 1} coefficients, got {sh_rest.shape[-2]}")
    chosen = VIEW_COLOURS.choose(backend if means.numel() else "reference", means)
    return chosen(sh0, sh_rest, means, camera_centres, degree)


def view_colours_reference(sh0: Tensor, sh_rest: Tensor, means: Tensor, camera_centres: Tensor, degree: int) -> Tensor:
    """:func:`view_colours` in plain torch."""
    directions = (means - camera_centres[:, None]).detach()
    coefficients = torch.cat([sh0, sh_rest], 1).expand(means.shape[0], -1, -1, -1)
    return evaluate_sh(coefficients, directions, degree).clamp_min(0.0)


def rgb_to_sh0(rgb: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """Constant coefficient of the colour ``rgb``, the same from all directions."""
    return (rgb - 0.5) / C0
