"""Training steps as CUDA graphs: the host says what a step is about, and launches all of it at once.

A plain step is more than a thousand launches, which take the host seven times as long as the GPU. Everything that
differs from step to step (frame, colours, learning rates) lies in one small vector on the device, so the same graph
serves until a densification replaces the Gaussians.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from emotalking.ops import adam
from emotalking.train.step import SLOTS, Inputs, Plan, Program, Stage, Steps


class Captured(NamedTuple):
    """A program as a graph."""

    graph: torch.cuda.CUDAGraph
    names: tuple[str, ...]
    values: Tensor
    """The terms, where each replay leaves them."""
    tensors: dict[str, Tensor]
    """Where each replay finds the plan's."""


class GraphSteps(Steps):
    """Takes a program's first step as it is, which also loads every kernel, and the later ones as a graph.

    So it does again when Gaussians were replaced: other sizes may take other kernels.
    """

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._stream = torch.cuda.Stream(stage.device)
        self._groups = [group for optimizer in stage.optimizers.values() for group in optimizer.param_groups]
        self._known: set[Program] = set()
        self._graphs: dict[Program, Captured] = {}
        self._vector = self._host = torch.empty(0)
        self._copied: list[torch.cuda.Event] = []
        self._rates: Tensor | None = None
        self._step = 0
        # Held by a graph of its own, the graphs' memory stays when a densification throws all of them away.
        self._anchor = torch.cuda.CUDAGraph()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Everything on one stream that is not the default one, as capturing wants it."""
        outside = torch.cuda.current_stream(self.stage.device)
        self._stream.wait_stream(outside)
        with torch.cuda.stream(self._stream):
            self._anchor.capture_begin()
            torch.zeros(1, device=self.stage.device)
            self._anchor.capture_end()
            yield
        outside.wait_stream(self._stream)

    def take(self, iteration: int) -> tuple[dict[str, Tensor], int]:
        """See :class:`Steps`."""
        stage = self.stage
        stage.before_update(iteration)
        plan = stage.plan(iteration)
        if plan.program in self._known:
            terms = self._replay(plan)
        else:
            self._known.add(plan.program)
            made = stage.terms(plan.program, Inputs.of(plan, stage.device, gather=True))
            self.learn(made)
            terms = {name: value.detach() for name, value in made.items()}
        if stage.after_update(iteration):
            self._graphs.clear()
            self._known.clear()
        return terms, stage.subject_frame(plan.frame)

    def update(self) -> None:
        """See :class:`Steps`. A captured update reads its rates from the device, so that a schedule reaches it."""
        if self._rates is None:
            super().update()
        else:
            adam.update(adam.parts_of(list(self.stage.optimizers.values()), self._rates))

    def _replay(self, plan: Plan) -> dict[str, Tensor]:
        self._send(plan)
        captured = self._graphs.get(plan.program)
        if captured is None:
            captured = self._graphs[plan.program] = self._capture(plan)
        for name, tensor in plan.tensors.items():
            captured.tensors[name].copy_(tensor, non_blocking=True)
        captured.graph.replay()
        return dict(zip(captured.names, captured.values.clone().unbind(), strict=True))

    def _send(self, plan: Plan) -> None:
        """Put frame, numbers and learning rates where the graphs read them."""
        values = [plan.frame, *plan.numbers, *(float(group["lr"]) for group in self._groups)]
        if not self._copied:
            self._vector = torch.zeros(len(values), device=self.stage.device)
            self._host = torch.zeros(SLOTS, len(values)).pin_memory()
            self._copied = [torch.cuda.Event() for _ in range(SLOTS)]
        slot, self._step = self._step % SLOTS, self._step + 1
        self._copied[slot].synchronize()
        self._host[slot] = torch.tensor(values)
        self._vector.copy_(self._host[slot], non_blocking=True)
        self._copied[slot].record()

    def _capture(self, plan: Plan) -> Captured:
        tensors = {name: tensor.to(self.stage.device, copy=True) for name, tensor in plan.tensors.items()}
        count = len(plan.numbers)
        graph = torch.cuda.CUDAGraph()
        gc_was_on = gc.isenabled()
        gc.disable()  # Nothing of the device may be freed meanwhile.
        try:
            torch.cuda.synchronize(self.stage.device)
            graph.capture_begin(pool=self._anchor.pool(), capture_error_mode="thread_local")
            inputs = Inputs(self._vector[:1].long(), self._vector[1 : 1 + count], tensors)
            terms = self.stage.terms(plan.program, inputs)
            self._rates = self._vector[1 + count :]
            self.learn(terms)
            values = torch.stack([value.detach() for value in terms.values()])
            graph.capture_end()
        finally:
            self._rates = None
            if gc_was_on:
                gc.enable()
        return Captured(graph, tuple(terms), values, tensors)
