"""Work that nothing needs at once, beside other work, where a CUDA graph is being captured."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor


def aside(work: Callable[[], Tensor], device: torch.device) -> Callable[[], Tensor]:
    """Do ``work``; what is returned gives its result to those who need it.

    In a graph the work becomes a branch of its own, and with it its part of the backward pass: an audio encoder is a
    hundred tiny kernels in a row, none of which keeps a GPU busy. Everywhere else it is simply done.
    """
    if device.type != "cuda" or not torch.cuda.is_current_stream_capturing():
        value = work()
        return lambda: value
    here, beside = torch.cuda.current_stream(device), _beside(device)
    beside.wait_stream(here)
    with torch.cuda.stream(beside):
        done = work()

    def wait() -> Tensor:
        here.wait_stream(beside)
        return done

    return wait


@cache
def _beside(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
