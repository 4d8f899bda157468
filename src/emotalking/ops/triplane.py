"""The tri-plane position encoder: three stacks of dense bilinear grids (the paper's "hash" encoder H)."""

import math
from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Float
from torch import Tensor

from emotalking.ops.backends import Backend, Operation, cpu_kernel, cuda_kernel

TRIPLANE = Operation(
    "triplane",
    cuda_kernel("triplane:encode", limits={"levels": 32}),
    cpu_kernel("triplane:encode"),
    Backend("reference", "emotalking.ops.reference.triplane:encode"),
)
"""Back ends have the arguments of :func:`emotalking.ops.reference.triplane.encode`."""

PLANES = ((0, 1), (1, 2), (0, 2))
"""Axes of the planes xy, yz, xz, in the order of tables and features."""


@dataclass(frozen=True)
class TriplaneSpec:
    """Shape of one encoder: resolutions form a geometric series from ``base`` to ``finest``."""

    levels: int = 12
    """Grids per plane, one feature each."""
    base: float = 16.0
    """Resolution of the first level."""
    finest: float = 38.4
    """Resolution of the last level; smaller than ``base`` is allowed (the mouth's preset)."""
    bound: float = 0.15
    """Half side of the cube that the planes cover, world units."""

    def __post_init__(self) -> None:
        if self.levels < 1 or self.base < 2 or self.finest < 2 or self.bound <= 0:
            raise ValueError(f"TriplaneSpec: expected levels >= 1, base and finest >= 2, bound > 0, got {self}")

    @cached_property
    def scales(self) -> tuple[float, ...]:
        """Cells across the cube, one per level: resolution - 1."""
        steps = max(1, self.levels - 1)
        # Rounding keeps a whole number whole, so that the stride does not depend on the last bit of a power.
        return tuple(round(self.base * (self.finest / self.base) ** (i / steps) - 1, 9) for i in range(self.levels))

    @cached_property
    def strides(self) -> tuple[int, ...]:
        """Entries per row of each level's square grid: positions run up to scale + 0.5 and need the next corner too."""
        return tuple(math.ceil(scale) + 2 for scale in self.scales)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Offset of each level in a plane's table, and the table's length at the end.

        Levels begin at multiples of 8, as in gridencoder, so that its tables can be read.
        """
        starts = [0]
        for stride in self.strides:
            starts.append(starts[-1] + -(-(stride * stride) // 8) * 8)
        return tuple(starts)


FACE_TRIPLANE = TriplaneSpec(base=16.0, finest=256 * 0.15)
"""TalkingGaussian's face encoder: 9,464 entries per plane."""
MOUTH_TRIPLANE = TriplaneSpec(base=64.0, finest=384 * 0.15)
"""TalkingGaussian's mouth encoder: 46,600 entries per plane. Its last level is coarser than its first (factor 0.9905),
because upstream scales the wanted resolution by the bound and not the first one. Kept: published results used it."""
EMOTION_TRIPLANE = FACE_TRIPLANE
"""Assumption: the paper names a third encoder for emotion but no numbers; the face's are the natural reading."""


def entries_per_plane(spec: TriplaneSpec) -> int:
    """Length of one plane's table."""
    return spec.offsets[-1]


def num_features(spec: TriplaneSpec) -> int:
    """Features per point: one per plane and level."""
    return len(PLANES) * spec.levels


def encode(
    points: Float[Tensor, "*batch N 3"],
    table: Float[Tensor, "3 E"],
    spec: TriplaneSpec,
    *,
    backend: str = "auto",
) -> Float[Tensor, "*batch N F"]:
    """Bilinear features of points from the planes xy, yz and xz.

    With ``u = (x + bound) / (2 bound)`` the position inside level ``l`` is ``u * scale_l + 0.5``. A plane for which one
    of the point's coordinates is outside the cube gives zeros.

    Deviation: the paper calls this a hash grid. At both presets' sizes no level comes near the table limit of its code
    (2^17), so nothing is ever hashed there; these grids are dense and have the same values.

    Args:
        points: world positions.
        table: grid values of the three planes, ``E = entries_per_plane(spec)``.
        spec: the grids' sizes.
        backend: ``reference`` is torch (any device and float type), ``cpu`` and ``cuda`` are the devices' float32
            kernels; ``auto`` chooses the kernel where possible (on CUDA: :func:`emotalking.ops.backends.own_kernels`).

    Returns:
        ``F = 3 * levels`` features, plane by plane, coarse level first. Gradient flows to points and table.

    Raises:
        ValueError: the table's shape or dtype does not fit.
        NoCompiler: ``backend="cpu"`` where the kernels can be neither loaded nor compiled.
    """
    if table.shape != (len(PLANES), entries_per_plane(spec)):
        raise ValueError(f"table: expected shape {(len(PLANES), entries_per_plane(spec))}, got {tuple(table.shape)}")
    if points.shape[-1] != 3:
        raise ValueError(f"points: expected 3 coordinates, got shape {tuple(points.shape)}")
    if points.dtype != table.dtype or points.device != table.device:
        raise ValueError(
            f"table: expected {points.dtype} on {points.device} as points is, got {table.dtype} on {table.device}"
        )
    flat = points.reshape(-1, 3)
    chosen = TRIPLANE.choose(backend if len(flat) else "reference", points, levels=spec.levels)
    features = chosen(flat, table, spec.scales, spec.strides, spec.offsets, spec.bound)
    return features.reshape(*points.shape[:-1], num_features(spec))
