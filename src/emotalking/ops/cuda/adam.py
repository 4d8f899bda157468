"""The CUDA kernels behind `emotalking.ops.adam`."""

import ctypes

from emotalking.ops.adam import Part
from emotalking.ops.cuda.build import kernel

_PARTS = 48
"""Tensors of one launch: the arguments of a kernel have at most 4 KB."""
_THREADS, _CHUNK = 256, 1024


class _Part(ctypes.Structure):
    """``struct Part`` of adam.cu."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("value", "mean", "square", "steps", "grad", "rate")),
        *((name, ctypes.c_float) for name in ("beta1", "beta2", "eps", "decay")),
        ("count", ctypes.c_int),
        ("first_block", ctypes.c_int),
    )


class _Parts(ctypes.Structure):
    _fields_ = (("of", _Part * _PARTS),)


def update(parts: list[Part]) -> None:
    """`emotalking.ops.adam.update`, 48 tensors at a time."""
    for begin in range(0, len(parts), _PARTS):
        some = parts[begin : begin + _PARTS]
        table = _Parts()
        blocks = 0
        for row, part in zip(table.of, some, strict=False):
            for name in ("value", "mean", "square", "steps", "grad", "rate"):
                tensor = getattr(part, name)
                assert tensor.is_contiguous()
                setattr(row, name, tensor.data_ptr())
            row.beta1 = part.beta1
            row.beta2 = part.beta2
            row.eps = part.eps
            row.decay = part.decay
            row.count, row.first_block = part.value.numel(), blocks
            blocks += -(-part.value.numel() // _CHUNK)
        for name, grid, threads in (("update", blocks, _THREADS), ("count_step", 1, _PARTS)):
            launch = kernel("adam.cu", name, (f"PARTS={_PARTS}",), some[0].value.device.index or 0)
            launch((grid, 1, 1), threads, table, len(some))
