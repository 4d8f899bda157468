"""Which back end an operation takes that is plain torch everywhere and has a kernel for GPUs."""

import torch
from torch import Tensor


def chosen_backend(backend: str, sample: Tensor) -> str:
    """``reference`` or ``cuda`` for inputs like ``sample``; ``auto`` takes the kernel for float32 on CUDA.

    Raises:
        ValueError: there is no such back end, or it cannot serve.
    """
    if backend not in ("auto", "reference", "cuda"):
        raise ValueError(f"backend: expected auto, reference or cuda, got {backend!r}")
    fits = sample.device.type == "cuda" and sample.dtype == torch.float32
    if backend == "cuda" and not fits:
        raise ValueError(f"backend='cuda' needs float32 on CUDA, got {sample.dtype} on {sample.device}")
    return "cuda" if fits and backend != "reference" else "reference"
