"""Choice of the devices to compute on, and concurrent work on one of them."""

import logging
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from emotalking.errors import DeviceError, InputError
from emotalking.ops.cuda.build import available

_logger = logging.getLogger(__name__)

Device = str | torch.device


def choose_device(device: Device = "auto") -> torch.device:
    """Resolve a device name; "auto" is a GPU if a usable one exists.

    Raises:
        InputError: no such device, or a GPU without the rasterizer that it needs.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() and _rasterizes() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise DeviceError(f"there is no device '{device}': use auto, cpu, cuda or cuda:N.") from error
    if chosen.type not in ("cpu", "cuda"):
        raise DeviceError(f"the device '{device}' is not supported: use auto, cpu, cuda or cuda:N.")
    if chosen.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (chosen.index or 0) >= count:
            raise DeviceError(f"the device '{device}' is not there ({count} GPUs are usable): use cpu.")
        if not _rasterizes():
            raise DeviceError("GPUs need cuda-bindings (or gsplat): pip install 'emotalking[gpu]', or use cpu.")
    return chosen


def parse_devices(names: str) -> list[str]:
    """Devices of a list such as "cuda:0,cuda:1"; "auto": every usable GPU, else the CPU.

    Raises:
        InputError: one cannot be used, or is named twice.
    """
    if names == "auto":
        count = torch.cuda.device_count() if choose_device("auto").type == "cuda" else 0
        return [f"cuda:{number}" for number in range(count)] or ["cpu"]
    chosen = [choose_device(name.strip()) for name in names.split(",")]
    devices = [f"cuda:{device.index or 0}" if device.type == "cuda" else device.type for device in chosen]
    if len(set(devices)) < len(devices):
        raise InputError(f"'{names}' names a device twice: name each once.")
    return devices


def _rasterizes() -> bool:
    """True if a rasterizer for GPUs is installed: the compiler bindings of our own kernels, or gsplat."""
    return available() or find_spec("gsplat") is not None


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
