"""Networks of the package, stored as lists of operations and their weights.

The files ``networks/data/mediapipe_*.safetensors`` are MediaPipe's TFLite graphs in another container
(``tools/convert_face_models.py``): half-precision weights, and a list of operations in their metadata. Arrays have
TFLite's order of axes, [B, H, W, C].
"""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from emotalking.io.tensors import read_tensors
from emotalking.networks.mediapipe.operations import OPERATIONS
from emotalking.networks.registry import BUNDLED

Step = tuple[Callable[..., Tensor], tuple[Tensor | str, ...], str, tuple[str, ...]]
"""Function, its arguments (constants, or names of earlier results), name of the result, and what is then free."""


class Graph:
    """A network: call it with batches, float32; it gives its outputs by name. Threads may share it."""

    def __init__(self, graph: dict[str, Any], weights: dict[str, Tensor], device: torch.device | str = "cpu") -> None:
        constants = {name: _in_memory_order(weight.float()).to(device) for name, weight in weights.items()}
        self._inputs: list[str] = graph["inputs"]
        self._outputs: dict[str, str] = graph["outputs"]
        last = {name: place for place, node in enumerate(graph["nodes"]) for name in node["inputs"]}
        kept = set(self._outputs.values())
        self._steps: list[Step] = []
        for place, node in enumerate(graph["nodes"]):
            settings = {name: value for name, value in node.items() if name not in ("op", "inputs", "output")}
            arguments = tuple(constants[name] if name in constants else name for name in node["inputs"])
            free = tuple({n for n in node["inputs"] if n not in constants and last[n] == place and n not in kept})
            self._steps.append((OPERATIONS[node["op"]](**settings), arguments, node["output"], free))

    @torch.inference_mode()
    def __call__(self, *inputs: Tensor) -> dict[str, Tensor]:
        """Run the operations in order."""
        values = dict(zip(self._inputs, inputs, strict=True))
        for work, arguments, name, free in self._steps:
            values[name] = work(*(values[a] if isinstance(a, str) else a for a in arguments))
            for done in free:
                del values[done]
        return {name: values[place] for name, place in self._outputs.items()}


def _in_memory_order(weight: Tensor) -> Tensor:
    """Kernels with their channels last, as the images have them: else every call copies them."""
    return weight.contiguous(memory_format=torch.channels_last) if weight.ndim == 4 else weight


@cache
def open_graph(name: str, device: torch.device | str = "cpu") -> Graph:
    """The network of the file ``mediapipe_{name}.safetensors``, loaded once on a device."""
    about, weights = read_tensors(BUNDLED / f"mediapipe_{name}.safetensors")
    return Graph(json.loads(about["graph"]), weights, device)
