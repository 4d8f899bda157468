"""Gaussians moved by the motion networks of a head whose parameters do not change; for rendering, without gradients."""

from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from emotalking.ops.backends import Backend, Operation, cpu_kernel, cuda_kernel
from emotalking.ops.triplane import TriplaneSpec

VALUES = 10
"""Numbers of a Gaussian that move: mean, quaternion, raw scales."""
MAX_WIDTH = 128
"""Widest layer of the CPU kernel."""
MAX_GPU_WIDTH = 64
"""Widest layer of the GPU kernel: a warp has all of it in registers."""

MOTION = Operation(
    "motion",
    cuda_kernel("motion:move", limits={"width": MAX_GPU_WIDTH}),
    cpu_kernel("motion:move", limits={"width": MAX_WIDTH}),
    Backend("reference", "emotalking.ops.reference.motion:move"),
)
"""Back ends have the arguments of :func:`emotalking.ops.reference.motion.move`."""


@dataclass(frozen=True)
class EmotionNetwork:
    """Weights of a network that reads tri-plane features at the moved positions (paper eq. 5)."""

    table: Float[Tensor, "3 G"]
    spec: TriplaneSpec
    attention: tuple[Float[Tensor, "A F"], Float[Tensor, "E A"]]
    """Features to the attention map of the code: linear, ReLU, linear, ReLU."""
    first: Float[Tensor, "H FE"]
    """Of features and attended code."""
    second: Float[Tensor, "H H"]
    third: Float[Tensor, "10 H"]
    """Offsets in world units."""


@dataclass(frozen=True)
class FixedBranch:
    """Gaussians of one branch and its motion network; nothing here depends on the frame."""

    gaussians: Float[Tensor, "N 10"]
    """Canonical means, quaternions and raw scales."""
    hidden: Float[Tensor, "N H"]
    """First-layer products of the features at the canonical means."""
    attention: Float[Tensor, "N J"]
    """Attention of each point to the entries of the frame's codes; J may be 0."""
    first: Float[Tensor, "H J"]
    """First-layer weights of the codes."""
    second: Float[Tensor, "H H"]
    third: Float[Tensor, "10 H"]
    """Offsets in world units."""
    share: Float[Tensor, " N"] | None = None
    """Share of its offset that each point takes; None: all."""
    emotion: EmotionNetwork | None = None
    packed: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """What a back end made of these tensors for its own use, by its name."""

    @property
    def width(self) -> int:
        """Of its widest layer, which back ends limit."""
        layers = [self.hidden, self.attention]
        if self.emotion is not None:
            inner, outer = self.emotion.attention
            layers += [self.emotion.first, self.emotion.second, inner.T, outer.T]
        return max(each.shape[-1] for each in layers)


def move(
    branch: FixedBranch,
    codes: Float[Tensor, "B J"],
    bias: Float[Tensor, "B H"] | None = None,
    emotion_codes: Float[Tensor, "B E"] | None = None,
    *,
    backend: str = "auto",
) -> tuple[Float[Tensor, "B N 3"], Float[Tensor, "B N 4"], Float[Tensor, "B N 3"]]:
    """Means, quaternions and activated scales of B frames (paper eqs. 3 to 5); no gradient flows.

    ``offsets = third relu(second relu(hidden + bias + first (attention * codes)))``, times ``share``; then the emotion
    network's offsets, at the moved means, are added.

    Args:
        codes: what the attention maps multiply.
        bias: what the first layer adds at every point.
        emotion_codes: embedded valence and arousal; None leaves the emotion network out.
        backend: ``reference`` is torch, ``cpu`` and ``cuda`` are our kernels for float32; ``auto`` as in
            `ops.backends`.

    Raises:
        ValueError: codes of another width, or emotion codes for a branch without emotion network.
        NoCompiler: ``backend="cpu"`` where the kernels can be neither loaded nor compiled.
    """
    if codes.shape[-1] != branch.attention.shape[-1]:
        raise ValueError(f"codes: expected {branch.attention.shape[-1]} a frame, got shape {tuple(codes.shape)}")
    if emotion_codes is not None and branch.emotion is None:
        raise ValueError("emotion_codes: this branch has no emotion network")
    empty = branch.gaussians.shape[0] == 0
    chosen = MOTION.choose("reference" if empty else backend, branch.hidden, width=branch.width)
    return chosen(branch, codes, bias, emotion_codes)
