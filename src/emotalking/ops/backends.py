"""Which back end an operation takes that is plain torch everywhere and has a kernel of our own for GPUs."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from emotalking.ops.cuda.build import available

_OWN: ContextVar[bool] = ContextVar("own kernels", default=True)


@contextmanager
def own_kernels(wanted: bool = True) -> Iterator[None]:
    """Whether, inside, the back end ``auto`` takes our own CUDA kernels for float32 on CUDA, as it does by default.

    Without them a GPU takes gsplat and torch's own operations.
    """
    before = _OWN.set(wanted)
    try:
        yield
    finally:
        _OWN.reset(before)


def own_kernels_wanted() -> bool:
    """Whether ``auto`` takes our own kernels: :func:`own_kernels` says so, and they can be loaded."""
    return _OWN.get() and available()


def chosen_backend(backend: str, sample: Tensor) -> str:
    """``reference`` or ``cuda`` for inputs like ``sample``.

    Raises:
        ValueError: there is no such back end, or it cannot serve.
    """
    if backend not in ("auto", "reference", "cuda"):
        raise ValueError(f"backend: expected auto, reference or cuda, got {backend!r}")
    fits = sample.device.type == "cuda" and sample.dtype == torch.float32
    if backend == "cuda" and not fits:
        raise ValueError(f"backend='cuda' needs float32 on CUDA, got {sample.dtype} on {sample.device}")
    return "cuda" if backend == "cuda" or (backend == "auto" and fits and own_kernels_wanted()) else "reference"
