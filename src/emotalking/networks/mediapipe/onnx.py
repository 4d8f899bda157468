"""Operations of :mod:`~emotalking.networks.mediapipe.graph` as ONNX models, computed by ONNX Runtime on the CPU.

Their meaning is that of :mod:`~emotalking.networks.mediapipe.operations`. ONNX has channels first: values are kept so
as long as operations allow it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

_OPSET, _FORMAT = 18, 8
"""Versions of the operators and of the file format."""
_TO_FIRST, _TO_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


def _varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _field(number: int, value: int | str | bytes) -> bytes:
    """A field of a protocol buffer."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _attribute(name: str, value: int | str | Sequence[int]) -> bytes:
    if isinstance(value, int):
        content = _field(3, value) + _field(20, 2)
    elif isinstance(value, str):
        content = _field(4, value) + _field(20, 3)
    else:
        content = b"".join(_field(8, item) for item in value) + _field(20, 7)
    return _field(1, name) + content


def _float(number: int, name: str) -> bytes:
    """Input (11) or output (12) of a model: an array of float32 of any shape."""
    return _field(number, _field(1, name) + _field(2, _field(1, _field(1, 1))))


class _Model:
    """A model in the making. Values have the graph's names, [B, H, W, C]; with channels first they have others."""

    def __init__(self) -> None:
        self.content = b""
        self._first: dict[str, str] = {}
        self._last: dict[str, str] = {}
        self._count = 0

    def node(self, op: str, inputs: Sequence[str], **attributes: int | str | Sequence[int]) -> str:
        """Add an operation; the name of its result."""
        self._count += 1
        out = f"result {self._count}"
        names = b"".join(_field(1, name) for name in inputs) + _field(2, out)
        self.content += _field(
            1, names + _field(4, op) + b"".join(_field(5, _attribute(*a)) for a in attributes.items())
        )
        return out

    def constant(self, array: np.ndarray) -> str:
        """Add float32 or int64 numbers; their name."""
        self._count += 1
        name, kind = f"constant {self._count}", {"float32": 1, "int64": 7}[array.dtype.name]
        sizes = b"".join(_field(1, size) for size in array.shape)
        self.content += _field(5, sizes + _field(2, kind) + _field(8, name) + _field(9, array.tobytes()))
        return name

    def numbers(self, *values: int) -> str:
        """Add a list of whole numbers."""
        return self.constant(np.array(values, np.int64))

    def given(self, name: str) -> None:
        """Add an input."""
        self.content += _float(11, name)
        self._last[name] = name

    def wanted(self, name: str) -> str:
        """Add an output for a value."""
        out = self.node("Identity", [self.last(name)])
        self.content += _float(12, out)
        return out

    def set(self, name: str, result: str, *, first: bool) -> None:
        """Name a result."""
        (self._first if first else self._last)[name] = result

    def has_first(self, name: str) -> bool:
        """True if a value is there with its channels first."""
        return name in self._first

    def first(self, name: str) -> str:
        """A value with its channels first."""
        if name not in self._first:
            self._first[name] = self.node("Transpose", [self._last[name]], perm=_TO_FIRST)
        return self._first[name]

    def last(self, name: str) -> str:
        """A value as the graph has it."""
        if name not in self._last:
            self._last[name] = self.node("Transpose", [self._first[name]], perm=_TO_LAST)
        return self._last[name]

    def active(self, value: str, activation: str | None) -> str:
        """A value behind its activation."""
        if activation is None:
            return value
        value = self.node("Relu", [value])
        return value if activation == "relu" else self.node("Min", [value, self.constant(np.array(6, np.float32))])


Names = Sequence[str]
Weights = Sequence[np.ndarray]
Maker = Callable[..., str]
"""Model, names of the inputs that are no weights, weights, settings: adds the operation; the name of its result."""


def _convolution(model: _Model, names: Names, weights: Weights, **settings: Any) -> str:
    left, right, top, bottom = settings["padding"]
    inputs = [*names, *map(model.constant, weights)]
    shape = {"kernel_shape": settings["size"], "strides": settings["stride"], "group": settings["groups"]}
    out = model.node("Conv", inputs, pads=[top, left, bottom, right], **shape)
    return model.active(out, settings.get("activation"))


def _transposed_convolution(model: _Model, names: Names, weights: Weights, stride: list[int]) -> str:
    return model.node("ConvTranspose", [*names, *map(model.constant, weights)], strides=stride)


def _pool(op: str) -> Maker:
    return lambda model, names, _, size, stride: model.node(op, names, kernel_shape=size, strides=stride)


def _scaled(model: _Model, name: str, weight: np.ndarray) -> str:
    """A value times a weight for each channel."""
    shape = {"kernel_shape": [1, 1], "strides": [1, 1], "group": weight.size}
    return model.node("Conv", [name, model.constant(weight.reshape(-1, 1, 1, 1))], **shape)


def _prelu(model: _Model, names: Names, weights: Weights) -> str:
    # x + (1 - weight) relu(-x). The run-time keeps convolutions in an order of memory of its own, and adds in the same
    # pass: a tenth less for the whole face mesh than with a minimum and a product. Its own PRelu takes half as long
    # again.
    (name,), weight = names, weights[0].ravel()
    if (weight <= 1).all():
        negative = model.node("Relu", [_scaled(model, name, weight - 1)])
    else:
        negative = _scaled(model, model.node("Relu", [_scaled(model, name, np.full_like(weight, -1))]), 1 - weight)
    return model.node("Add", [negative, name])


def _resize(model: _Model, names: Names, _: Weights, size: list[int]) -> str:
    how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel", "axes": [2, 3]}
    return model.node("Resize", [*names, "", "", model.numbers(*size)], **how)


def _depth_to_space(model: _Model, names: Names, _: Weights, block: int) -> str:
    return model.node("DepthToSpace", names, blocksize=block, mode="DCR")


def _pad(model: _Model, names: Names, _: Weights, padding: list[int]) -> str:
    before, after = ([*padding[side::2], 0, 0, 0, 0][:4] for side in (0, 1))  # from the last axis on
    first = [[side[k] for k in (3, 0, 2, 1)] for side in (before, after)]
    return model.node("Pad", [*names, model.numbers(*first[0], *first[1])])


FIRST: dict[str, Maker] = {
    "convolution": _convolution,
    "transposed_convolution": _transposed_convolution,
    "max_pool": _pool("MaxPool"),
    "average_pool": _pool("AveragePool"),
    "prelu": _prelu,
    "resize": _resize,
    "depth_to_space": _depth_to_space,
    "pad": _pad,
}
"""Operations on values with their channels first."""


def _elementwise(*ops: str) -> Maker:
    """One operation after another, the first on all values."""

    def make(model: _Model, names: Names, _: Weights, activation: str | None = None) -> str:
        for op in ops:
            names = [model.node(op, names)]
        return model.active(names[0], activation)

    return make


def _squared_difference(model: _Model, names: Names, _: Weights, activation: str | None = None) -> str:
    difference = model.node("Sub", names)
    return model.active(model.node("Mul", [difference, difference]), activation)


ANY: dict[str, Maker] = {
    "add": _elementwise("Add"),
    "sub": _elementwise("Sub"),
    "mul": _elementwise("Mul"),
    "div": _elementwise("Div"),
    "squared_difference": _squared_difference,
    "neg": _elementwise("Neg"),
    "sqrt": _elementwise("Sqrt"),
    "rsqrt": _elementwise("Sqrt", "Reciprocal"),
    "sigmoid": _elementwise("Sigmoid"),
    "hard_swish": _elementwise("HardSwish"),
    "relu": _elementwise("Relu"),
}
"""Operations on values in either order, number by number; weights are among the names."""


def _reshape(model: _Model, names: Names, _: Weights, shape: list[int]) -> str:
    return model.node("Reshape", [*names, model.numbers(-1, *shape[1:])])


def _slice(model: _Model, names: Names, _: Weights, begin: list[int], size: list[int], shape: list[int]) -> str:
    ends = (first + count for first, count in zip(begin[1:], size[1:], strict=True))
    places = model.numbers(*begin[1:]), model.numbers(*ends), model.numbers(*range(1, len(begin)))
    return _reshape(model, [model.node("Slice", [*names, *places])], (), shape)


def _linear(model: _Model, names: Names, weights: Weights, activation: str | None = None) -> str:
    flat = model.node("Reshape", [*names, model.numbers(-1, weights[0].shape[1])])
    return model.active(model.node("Gemm", [flat, *map(model.constant, weights)], transB=1), activation)


def _reduction(op: str) -> Maker:
    def make(model: _Model, names: Names, _: Weights, axes: list[int], keep: bool) -> str:
        return model.node(op, [*names, model.numbers(*axes)], keepdims=int(keep))

    return make


def _concatenate(model: _Model, names: Names, weights: Weights, axis: int) -> str:
    """Weights are repeated for each of a batch."""
    if weights:
        count = model.node("Shape", [next(name for name in names if not name.startswith("constant"))], end=1)
        sizes = model.node("Concat", [count, model.numbers(*weights[0].shape[1:])], axis=0)
        names = [model.node("Expand", [name, sizes]) if name.startswith("constant") else name for name in names]
    return model.node("Concat", names, axis=axis)


def _transpose(model: _Model, names: Names, _: Weights, axes: list[int]) -> str:
    return model.node("Transpose", names, perm=axes)


LAST: dict[str, Maker] = {
    "reshape": _reshape,
    "slice": _slice,
    "linear": _linear,
    "mean": _reduction("ReduceMean"),
    "sum": _reduction("ReduceSum"),
    "concatenate": _concatenate,
    "transpose": _transpose,
}
"""Operations on values as the graph has them; those of "concatenate" may be weights."""

KNOWN = frozenset({*FIRST, *ANY, *LAST})
"""Operations that :func:`compiled` takes."""


def _add(model: _Model, node: Mapping[str, Any], weights: Mapping[str, np.ndarray]) -> None:
    """Add an operation of the graph."""
    op, inputs = node["op"], node["inputs"]
    settings = {name: value for name, value in node.items() if name not in ("op", "inputs", "output")}
    own = [weights[name] for name in inputs if name in weights]
    given = [name for name in inputs if name not in weights]
    if op in FIRST:
        model.set(node["output"], FIRST[op](model, [model.first(n) for n in given], own, **settings), first=True)
        return
    # A weight of several numbers lies along the last axes.
    first = op in ANY and all(map(model.has_first, given)) and all(weight.size == 1 for weight in own)
    place = model.first if first else model.last
    names = [model.constant(weights[name]) if name in weights and op != "linear" else name for name in inputs]
    names = [place(name) if name in given else name for name in names if op != "linear" or name in given]
    model.set(node["output"], (ANY | LAST)[op](model, names, own, **settings), first=first)


def compiled(
    nodes: Sequence[Mapping[str, Any]], weights: Mapping[str, Tensor], inputs: Sequence[str], outputs: Sequence[str]
) -> Callable[..., list[Tensor]]:
    """A function of the values ``inputs`` that gives the values ``outputs``, in one thread; threads may share it.

    Args:
        nodes: operations, all of them :data:`KNOWN`, in order.
        weights: constants by name, float32.
        inputs: names of the values that the operations need.
        outputs: names of their results that are wanted.
    """
    import onnxruntime

    model = _Model()
    for name in inputs:
        model.given(name)
    arrays = {name: weight.contiguous().numpy() for name, weight in weights.items()}
    for node in nodes:
        _add(model, node, arrays)
    results = [model.wanted(name) for name in outputs]
    graph = model.content + _field(2, "graph")
    file = _field(1, _FORMAT) + _field(8, _field(1, "") + _field(2, _OPSET)) + _field(7, graph)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def run(*values: Tensor) -> list[Tensor]:
        given = {name: value.contiguous().numpy() for name, value in zip(inputs, values, strict=True)}
        return [torch.from_numpy(array) for array in session.run(results, given)]

    return run
