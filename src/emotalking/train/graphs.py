"""Training steps as CUDA graphs: the host sends the inputs of a step, and launches it as a whole.

A plain step is more than a thousand launches, which take the host seven times as long as the GPU. Everything that
differs from step to step (frame, colours, learning rates) is in one small vector on the device, so the same graph
serves until a densification replaces the Gaussians.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from emotalking.ops import adam
from emotalking.train.step import SLOTS, GraphKey, Stage, StepInputs, Steps

Kind = tuple[GraphKey, tuple[torch.Size | int | None, ...]]
"""Common properties of the steps that one graph serves: operations, and shapes of their inputs."""


class Captured(NamedTuple):
    """Steps of one kind as a graph."""

    graph: torch.cuda.CUDAGraph
    names: tuple[str, ...]
    values: Tensor
    """The terms, which each replay writes here."""
    inputs: StepInputs
    """The places from which each replay reads its inputs."""


class GraphSteps(Steps):
    """Runs the first step of a kind without a graph, which also loads every kernel, and later ones as a graph.

    After Gaussians were replaced this is repeated: other sizes may take other kernels.
    """

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._device = stage.context.device
        self._stream = torch.cuda.Stream(self._device)
        self._groups = [group for optimizer in stage.optimizers.values() for group in optimizer.param_groups]
        self._known: set[Kind] = set()
        self._graphs: dict[Kind, Captured] = {}
        self._vector = self._host = torch.empty(0)
        self._copied: list[torch.cuda.Event] = []
        self._rates: Tensor | None = None
        self._step = 0
        # A graph of its own keeps the shared memory pool alive when a densification discards all others.
        self._anchor = torch.cuda.CUDAGraph()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Everything on one stream that is not the default one, as capturing wants it."""
        outside = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(outside)
        with torch.cuda.stream(self._stream):
            self._anchor.capture_begin()
            torch.zeros(1, device=self._device)
            self._anchor.capture_end()
            yield
        outside.wait_stream(self._stream)

    def step(self, iteration: int) -> tuple[dict[str, Tensor], int]:
        """See :class:`Steps`."""
        stage = self.stage
        stage.before_update(iteration)
        key, inputs = stage.inputs(iteration)
        kind = key, inputs.shapes()
        if kind in self._known:
            terms = self._replay(kind, inputs)
        else:
            self._known.add(kind)
            live = stage.terms(key, inputs.moved(self._device, gather=True))
            self.backward_and_update(live)
            terms = {name: value.detach() for name, value in live.items()}
        if stage.after_update(iteration):
            self._graphs.clear()
            self._known.clear()
        return terms, stage.subject_frame(inputs)

    def update(self) -> None:
        """See :class:`Steps`. A captured update reads its rates from the device, so that a schedule reaches it."""
        if self._rates is None:
            super().update()
        else:
            adam.update(adam.parts_of(list(self.stage.optimizers.values()), self._rates))

    def _replay(self, kind: Kind, inputs: StepInputs) -> dict[str, Tensor]:
        self._send(inputs)
        captured = self._graphs.get(kind)
        if captured is None:
            captured = self._graphs[kind] = self._capture(kind, inputs)
        for place, tensor in zip(captured.inputs.tensors(), inputs.tensors(), strict=True):
            place.copy_(tensor, non_blocking=True)
        captured.graph.replay()
        return dict(zip(captured.names, captured.values.clone().unbind(), strict=True))

    def _send(self, inputs: StepInputs) -> None:
        """Put the small numbers and the learning rates where the graphs read them."""
        values = [*inputs.scalars, *(float(group["lr"]) for group in self._groups)]
        if not self._copied:
            self._vector = torch.zeros(len(values), device=self._device)
            self._host = torch.zeros(SLOTS, len(values)).pin_memory()
            self._copied = [torch.cuda.Event() for _ in range(SLOTS)]
        slot, self._step = self._step % SLOTS, self._step + 1
        self._copied[slot].synchronize()
        self._host[slot] = torch.tensor(values)
        self._vector.copy_(self._host[slot], non_blocking=True)
        self._copied[slot].record()

    def _capture(self, kind: Kind, inputs: StepInputs) -> Captured:
        inputs = inputs.with_tensors(lambda tensor: tensor.to(self._device, copy=True))
        scalars, rates = self._vector.split((len(inputs.scalars), len(self._groups)))
        graph = torch.cuda.CUDAGraph()
        gc_was_on = gc.isenabled()
        gc.disable()  # Nothing of the device may be freed meanwhile.
        try:
            torch.cuda.synchronize(self._device)
            graph.capture_begin(pool=self._anchor.pool(), capture_error_mode="thread_local")
            terms = self.stage.terms(kind[0], inputs.with_scalars(scalars))
            self._rates = rates
            self.backward_and_update(terms)
            values = torch.stack([value.detach() for value in terms.values()])
            graph.capture_end()
        finally:
            self._rates = None
            if gc_was_on:
                gc.enable()
        return Captured(graph, tuple(terms), values, inputs)
