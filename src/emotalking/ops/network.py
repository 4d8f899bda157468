"""Motion networks with gradient: from features of points and codes of frames to offsets; what training runs."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from emotalking.ops.backends import Backend, Operation, cpu_kernel

MAX_WIDTH = 128
"""Widest layer of the CPU kernel; its attention maps side by side count as one."""
MAX_MAPS = 4
"""Most attention maps of the CPU kernel."""

NETWORK = Operation(
    "network",
    cpu_kernel("network:offsets", limits={"width": MAX_WIDTH, "maps": MAX_MAPS}),
    Backend("reference", "emotalking.ops.reference.network:offsets"),
)
"""Back ends have the arguments of :func:`emotalking.ops.reference.network.offsets`."""


@dataclass(frozen=True)
class AttentionMap:
    """A network from a point's features to what multiplies the entries of a code."""

    inner: Float[Tensor, "U F"]
    outer: Float[Tensor, "J U"]
    rectified: bool
    """The map is never negative."""
    share: Float[Tensor, "N 1"] | None = None
    """What multiplies it at each point, without gradient; None: 1."""


@dataclass(frozen=True)
class Network:
    """Weights of a motion network (docs/paper.md 4.3-4.5); none has a bias."""

    maps: tuple[AttentionMap, ...]
    first: Float[Tensor, "H FJ"]
    """Of the features, then of the attended codes, map by map."""
    second: Float[Tensor, "H H"]
    third: Float[Tensor, "O H"]

    @property
    def width(self) -> int:
        """Of its widest layer, which the kernel limits."""
        inner = sum(each.inner.shape[0] for each in self.maps)
        return max(inner, *self.first.shape)


def offsets(
    network: Network,
    features: Float[Tensor, "A N F"],
    codes: Float[Tensor, "B J"],
    bias: Float[Tensor, "B H"] | None = None,
    *,
    backend: str = "auto",
) -> Float[Tensor, "B N O"]:
    """``third relu(second relu(first [features, attention * code] + bias))``, attention = outer relu(inner features).

    Args:
        features: of each frame's points, or of points that all frames share (A = 1).
        codes: entries in the order of the maps; J may be 0.
        bias: what the first layer adds at every point.
        backend: ``reference`` is torch, ``cpu`` our kernel for float32; ``auto`` as in `ops.backends`.

    Returns:
        Offsets of B frames. Gradient flows to features, codes, bias and weights.

    Raises:
        ValueError: codes of another width than the maps' or for other frames, or the back end cannot serve.
        NoCompiler: ``backend="cpu"`` where the kernels can be neither loaded nor compiled.
    """
    keys = sum(each.outer.shape[0] for each in network.maps)
    if codes.shape[-1] != keys:
        raise ValueError(f"codes: expected {keys} a frame, got shape {tuple(codes.shape)}")
    if len(features) not in (1, len(codes)):
        raise ValueError(f"features: expected those of 1 or {len(codes)} frames, got shape {tuple(features.shape)}")
    sizes: dict[str, Any] = {"width": network.width, "maps": len(network.maps)}
    chosen = NETWORK.choose(backend if features.numel() else "reference", features, **sizes)
    return chosen(network, features, codes, bias)
