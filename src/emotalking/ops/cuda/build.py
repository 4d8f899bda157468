"""Compile the package's CUDA kernels at first use with NVRTC, which comes with PyTorch, and launch them."""

import ctypes
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_HERE = Path(__file__).parent
_HEADERS = {
    path.name: path
    for path in (*_HERE.glob("*.h"), *(_HERE.parent / "cpu" / name for name in ("projection.h", "hiding.h")))
}
"""By name; the last two are shared by CPU and GPU."""

Argument = Tensor | int | float | ctypes.Structure | None
Launch = Callable[..., None]


class NoKernels(RuntimeError):
    """The CUDA kernels cannot be compiled here."""


@cache
def available() -> bool:
    """True if NVIDIA's bindings are installed."""
    try:
        _bindings("nvrtc")
    except NoKernels:
        return False
    return True


def _bindings(name: str) -> Any:
    """A module of NVIDIA's bindings."""
    try:
        return import_module(f"cuda.bindings.{name}")
    except ImportError as error:
        raise NoKernels("the CUDA kernels need cuda-bindings: pip install 'emotalking[gpu]'") from error


def _checked(answer: tuple[Any, ...]) -> Any:
    """The value of a call of the CUDA bindings, whose first item is its error code."""
    code, *values = answer
    if int(code) != 0:
        raise NoKernels(f"CUDA call failed with {code!r}")
    return values[0] if values else None


@cache
def compile_kernels(source: str, definitions: tuple[str, ...], device: int) -> bytes:
    """Machine code of ``ops/cuda/<source>`` for the architecture of ``device``.

    Args:
        definitions: macros, ``NAME=value``.

    Raises:
        NoKernels: the bindings are missing or the compiler refuses.
    """
    major, minor = torch.cuda.get_device_capability(device)
    return compile_for(source, definitions, f"sm_{major}{minor}")


def compile_for(source: str, definitions: tuple[str, ...], architecture: str) -> bytes:
    """Machine code of ``ops/cuda/<source>`` for an architecture such as ``sm_90``; needs no GPU."""
    nvrtc = _bindings("nvrtc")
    code = (_HERE / source).read_text().encode()
    headers = [path.read_text().encode() for path in _HEADERS.values()]
    names = [name.encode() for name in _HEADERS]
    program = _checked(nvrtc.nvrtcCreateProgram(code, source.encode(), len(names), headers, names))
    options = [f"--gpu-architecture={architecture}", "--std=c++17", "--device-as-default-execution-space"]
    options = [option.encode() for option in [*options, *(f"-D{definition}" for definition in definitions)]]
    (failed,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    if int(failed) != 0:
        log = b" " * _checked(nvrtc.nvrtcGetProgramLogSize(program))
        _checked(nvrtc.nvrtcGetProgramLog(program, log))
        raise NoKernels(f"{source} does not compile: {log.decode()[:2000]}")
    binary = b" " * _checked(nvrtc.nvrtcGetCUBINSize(program))
    _checked(nvrtc.nvrtcGetCUBIN(program, binary))
    _checked(nvrtc.nvrtcDestroyProgram(program))
    return binary


@cache
def kernel(source: str, name: str, definitions: tuple[str, ...], device: int) -> Launch:
    """The kernel ``name`` of ``ops/cuda/<source>`` as ``launch(grid, block, *arguments)`` on the current stream.

    Tensors are passed by address and must be contiguous; the caller keeps them alive as PyTorch's own kernels do, by
    the allocator's order on the stream. Ints become 32-bit and floats single precision.
    """
    driver = _bindings("driver")
    with torch.cuda.device(device):
        torch.empty(1, device="cuda")  # Makes PyTorch create the context.
        context = _checked(driver.cuCtxGetCurrent())
        module = _checked(driver.cuModuleLoadData(compile_kernels(source, definitions, device)))
    function = _checked(driver.cuModuleGetFunction(module, name.encode()))

    def launch(grid: tuple[int, int, int], block: int, *arguments: Argument) -> None:
        if 0 in grid:  # The driver refuses it.
            return
        packed = tuple(_packed(argument) for argument in arguments)
        stream = torch.cuda.current_stream(device).cuda_stream
        addresses = (ctypes.c_void_p * len(packed))(*(ctypes.addressof(value) for value in packed))
        with torch.cuda.device(device):  # Restores the thread's own device.
            _checked(driver.cuCtxSetCurrent(context))  # The thread of a backward pass may have none.
            _checked(driver.cuLaunchKernel(function, *grid, block, 1, 1, 0, stream, ctypes.addressof(addresses), 0))

    return launch


def _packed(argument: Argument) -> Any:
    """Convert a kernel argument to a C value."""
    if argument is None:
        return ctypes.c_void_p(0)
    if isinstance(argument, Tensor):
        assert argument.is_contiguous()
        return ctypes.c_void_p(argument.data_ptr())
    if isinstance(argument, ctypes.Structure):
        return argument
    return ctypes.c_int(argument) if isinstance(argument, int) else ctypes.c_float(argument)
