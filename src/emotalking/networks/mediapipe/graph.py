"""Networks of the package, stored as lists of operations and their weights.

The files ``networks/data/mediapipe_*.safetensors`` are MediaPipe's TFLite graphs in another container
(``tools/convert_face_models.py``): half-precision weights, and a list of operations in their metadata. Arrays have
TFLite's order of axes, [B, H, W, C].
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor

from emotalking.io.tensors import read_tensors
from emotalking.networks.mediapipe import onnx
from emotalking.networks.mediapipe.operations import OPERATIONS
from emotalking.networks.registry import BUNDLED


class _Step(NamedTuple):
    """Operations that are called together."""

    work: Callable[..., Sequence[Tensor]]
    inputs: tuple[Tensor | str, ...]
    """Constants, or names of earlier results."""
    outputs: tuple[str, ...]
    free: tuple[str, ...]
    """Results that nothing needs afterwards."""


class Graph:
    """A network: call it with batches, float32; it gives its outputs by name. Threads may share it.

    Args:
        graph: inputs, outputs and nodes.
        weights: constants by name.
        device: where it computes.
        compiled: on a CPU, operations that ONNX knows are computed by its run-time, in a third of PyTorch's time.
    """

    def __init__(
        self,
        graph: dict[str, Any],
        weights: dict[str, Tensor],
        device: torch.device | str = "cpu",
        *,
        compiled: bool = True,
    ) -> None:
        compiled = compiled and torch.device(device).type == "cpu"
        constants = {name: _in_memory_order(weight.float()).to(device) for name, weight in weights.items()}
        self._inputs: list[str] = graph["inputs"]
        self._outputs: dict[str, str] = graph["outputs"]
        blocks: list[list[dict[str, Any]]] = []
        for known, together in groupby(graph["nodes"], lambda node: compiled and node["op"] in onnx.KNOWN):
            run = list(together)
            blocks += [run] if known else [[node] for node in run]
        last = {name: place for place, block in enumerate(blocks) for node in block for name in node["inputs"]}
        kept = set(self._outputs.values())
        self._steps: list[_Step] = []
        for place, block in enumerate(blocks):
            made = [node["output"] for node in block]
            needed = tuple(dict.fromkeys(name for node in block for name in node["inputs"] if name not in made))
            wanted = tuple(name for name in made if name in kept or last.get(name, -1) > place)
            free = tuple(name for name in needed if name not in constants and last[name] == place and name not in kept)
            if compiled and block[0]["op"] in onnx.KNOWN:
                needed = tuple(name for name in needed if name not in constants)
                self._steps.append(_Step(onnx.compiled(block, constants, needed, wanted), needed, wanted, free))
            else:
                arguments = tuple(constants[name] if name in constants else name for name in block[0]["inputs"])
                self._steps.append(_Step(_operation(block[0]), arguments, tuple(made), free))

    @torch.inference_mode()
    def __call__(self, *inputs: Tensor) -> dict[str, Tensor]:
        """Run the operations in order."""
        values = dict(zip(self._inputs, inputs, strict=True))
        for step in self._steps:
            found = step.work(*(values[a] if isinstance(a, str) else a for a in step.inputs))
            values.update(zip(step.outputs, found, strict=True))
            for done in step.free:
                del values[done]
        return {name: values[place] for name, place in self._outputs.items()}


def _operation(node: Mapping[str, Any]) -> Callable[..., Sequence[Tensor]]:
    settings = {name: value for name, value in node.items() if name not in ("op", "inputs", "output")}
    work = OPERATIONS[node["op"]](**settings)
    return lambda *values: (work(*values),)


def _in_memory_order(weight: Tensor) -> Tensor:
    """Kernels with their channels last, as the images have them: else every call copies them."""
    return weight.contiguous(memory_format=torch.channels_last) if weight.ndim == 4 else weight


@cache
def open_graph(name: str, device: torch.device | str = "cpu") -> Graph:
    """The network of the file ``mediapipe_{name}.safetensors``, loaded once on a device."""
    about, weights = read_tensors(BUNDLED / f"mediapipe_{name}.safetensors")
    return Graph(json.loads(about["graph"]), weights, device)
