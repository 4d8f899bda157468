"""The CUDA kernels that finish a frame: layers over torso and plate, in 8 bit.

What they compute is defined by :func:`emotalking.ops.composite.composite` and `emotalking.player.finish`.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from emotalking.ops.composite import reach_of
from emotalking.ops.cuda.build import kernel

Finish = Literal["plate", "matte", "transparent"]
"""RGB over torso and plate; the same with the head's coverage as a fourth channel; RGBA with straight alpha."""

_KINDS: dict[Finish, int] = {"plate": 0, "matte": 1, "transparent": 2}
_THREADS = 256


def addresses(tensors: Sequence[Tensor]) -> Int64[Tensor, " B"]:
    """Where contiguous tensors lie in their device's memory, on the host; the caller keeps them."""
    assert all(each.is_contiguous() for each in tensors)
    return torch.tensor([each.data_ptr() for each in tensors], dtype=torch.int64)


def compose(
    face: Float[Tensor, "B H W 4"],
    mouth: Float[Tensor, "B H W 4"],
    torsos: Int64[Tensor, " B"],
    plates: Int64[Tensor, " B"] | None,
    finish: Finish,
    out: UInt8[Tensor, "B H W channels"],
) -> None:
    """Write finished frames into ``out``.

    Args:
        face: premultiplied colours and alpha.
        mouth: of the inside of the mouth.
        torsos: addresses of straight RGBA images ``[H, W, 4]`` in 8 bit.
        plates: addresses of RGB images ``[H, W, 3]`` in [0, 1]; not read where transparent.
    """
    frames, height, width, _ = face.shape
    reach = reach_of(height)
    device = face.device.index or 0
    definitions = (f"KIND={_KINDS[finish]}",)
    widened, sums = face.new_empty(frames, height, width), face.new_empty(frames, height, 4)
    assert out.is_contiguous() and out.shape == (frames, height, width, 3 if finish == "plate" else 4)
    kernel("compose.cu", "widen_rows", definitions, device)(
        (height, frames, 1), _THREADS, height, width, reach, mouth, widened, sums
    )
    kernel("compose.cu", "compose", definitions, device)(
        (-(-height * width // _THREADS), frames, 1), _THREADS, height, width, reach, face, mouth, widened, sums, torsos,
        plates, out,
    )  # fmt: skip
