"""Work captured in a CUDA graph, to be launched as a whole."""

import gc
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import Any

import torch

_capturing = Lock()
"""One capture at a time: its side streams (`emotalking.ops.devices.on_side_stream`) are shared by the process."""


def capture(run: Callable[[], None], device: torch.device, pool: Any) -> Callable[[], None]:
    """Capture ``run``, which has run before, so that every kernel is loaded.

    Args:
        run: reads and writes tensors that are there already; what it makes lives in ``pool``.
        device: its GPU.
        pool: of memory (``torch.cuda.graph_pool_handle``), shared by graphs that never run at the same time.

    Returns:
        A function that launches the graph on the current stream.

    Raises:
        RuntimeError: ``run`` does something that cannot be captured.
    """
    graph = torch.cuda.CUDAGraph()
    gc_was_on = gc.isenabled()
    with _capturing, torch.cuda.device(device):
        stream = torch.cuda.Stream(device)
        torch.cuda.synchronize(device)
        gc.disable()  # nothing of the device may be freed meanwhile
        try:
            with torch.cuda.stream(stream):
                graph.capture_begin(pool=pool, capture_error_mode="thread_local")
                try:
                    run()
                except BaseException:
                    with suppress(RuntimeError):
                        graph.capture_end()
                    raise
                graph.capture_end()
        finally:
            if gc_was_on:
                gc.enable()
    return graph.replay
