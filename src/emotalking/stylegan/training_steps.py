"""Training steps of a task: eager, or on a GPU one CUDA graph per kind of step."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer


@runtime_checkable
class Task(Protocol):
    """Iterative training of modules."""

    name: str
    modules: dict[str, nn.Module]
    """Modules stored in a checkpoint."""
    optimizers: dict[str, Optimizer]

    def kind(self, number: int) -> str:
        """Name the operations of step ``number``: steps of a kind do the same, with other random numbers."""
        ...

    def step(self, kind: str, number: Float[Tensor, ""]) -> dict[str, Tensor]:
        """Take one step; return its losses.

        Random numbers come from torch's generator of the device, and nothing synchronises with the host, so that a
        step can be captured: ``number`` is on the device too, and schedules are computed from it.
        """
        ...


def adam(
    module: nn.Module, rate: float | int, betas: tuple[float, float] = (0.9, 0.999), *, decay: float | int = 0.0
) -> Optimizer:
    """Adam (with weight ``decay``, AdamW) whose steps can be captured, and whose rate may be a tensor."""
    parameters = list(module.parameters())
    kind = AdamW if decay else Adam
    return kind(parameters, rate, betas, weight_decay=decay, fused=True, capturable=parameters[0].is_cuda)


class Steps:
    """Eager steps."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.device = next(p.device for module in task.modules.values() for p in module.parameters())
        self._number = torch.zeros((), device=self.device)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Context of all steps."""
        yield

    def take(self, number: int) -> dict[str, Tensor]:
        """Take one step; return its losses, detached."""
        self._number.fill_(number)
        return {name: value.detach() for name, value in self.task.step(self.task.kind(number), self._number).items()}


class _Captured(NamedTuple):
    graph: torch.cuda.CUDAGraph
    names: tuple[str, ...]
    values: Tensor


class GraphSteps(Steps):
    """Run the first step of a kind eagerly, which also loads every kernel, and replay later ones as a graph.

    A step of StyleGAN2 is thousands of launches, which take the host longer than the work takes the GPU.
    """

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._stream = torch.cuda.Stream(self.device)
        self._known: set[str] = set()
        self._graphs: dict[str, _Captured] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run on one stream that is not the default one, as capture requires."""
        outside = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(outside)
        with torch.cuda.stream(self._stream):
            yield
        outside.wait_stream(self._stream)

    def take(self, number: int) -> dict[str, Tensor]:
        """See :class:`Steps`."""
        kind = self.task.kind(number)
        if kind not in self._known:
            self._known.add(kind)
            return super().take(number)
        if kind not in self._graphs:
            self._graphs[kind] = self._capture(kind)
        self._number.fill_(number)
        captured = self._graphs[kind]
        captured.graph.replay()
        return dict(zip(captured.names, captured.values.clone().unbind(), strict=True))

    def _capture(self, kind: str) -> _Captured:
        graph, others = torch.cuda.CUDAGraph(), list(self._graphs.values())
        pool = others[0].graph.pool() if others else None
        collecting = gc.isenabled()
        gc.disable()  # No device memory may be freed during capture.
        try:
            with torch.cuda.graph(graph, pool=pool, stream=self._stream, capture_error_mode="thread_local"):
                terms = self.task.step(kind, self._number)
                values = torch.stack([value.detach().float() for value in terms.values()])
        finally:
            if collecting:
                gc.enable()
        return _Captured(graph, tuple(terms), values)


def steps_of(task: Task) -> Steps:
    """Steps of ``task`` for its device."""
    plain = Steps(task)
    return GraphSteps(task) if plain.device.type == "cuda" else plain
