"""Concurrent work on a second CUDA stream while a CUDA graph is captured."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor


def on_side_stream(work: Callable[[], Tensor], device: torch.device) -> Callable[[], Tensor]:
    """Run ``work`` on a second stream of ``device`` if its current stream is being captured, else at once.

    In a graph the work becomes a branch of its own, and with it its part of the backward pass: an audio encoder is a
    hundred tiny kernels in a row, none of which keeps a GPU busy.

    Returns:
        A function that waits for the work and returns its result.
    """
    if device.type != "cuda" or not torch.cuda.is_current_stream_capturing():
        value = work()
        return lambda: value
    main, side = torch.cuda.current_stream(device), _side_stream(device)
    side.wait_stream(main)
    with torch.cuda.stream(side):
        value = work()

    def wait() -> Tensor:
        main.wait_stream(side)
        return value

    return wait


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
