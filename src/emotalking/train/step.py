"""One training step: what the host decides, what the device does, and how a GPU is kept busy with it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.optim import Optimizer

from emotalking.ops.backends import own_kernels

SLOTS = 64
"""Steps that the host may be ahead of the device."""


@dataclass(frozen=True)
class Program:
    """Which operations a step consists of: steps of one program differ in their :class:`Inputs` alone.

    So a program is captured once in a CUDA graph, and after that a step is one launch.
    """

    moving: bool = True
    """The Gaussians follow the networks, and do not stand in their canonical places."""
    growing: bool = False
    """Statistics for the next densification are gathered."""
    degree: int | None = None
    """Highest spherical-harmonic degree of the colours; None: all."""
    size: tuple[int, int] | None = None
    """Width and height of the part of the frame that is rendered; None: all of it."""
    emotional: bool = False
    """The plan brings the target's picture."""
    normals: bool = False
    """It brings a normal map."""
    patch: int | None = None
    """Side of the perceptual term's patches, whose places the plan brings; None: there is no such term."""
    sync: bool = False
    """There is a sync term, whose window the plan brings."""


@dataclass(frozen=True)
class Plan:
    """What the host decides of a step before the device begins it."""

    frame: int
    """Row of the training data."""
    program: Program
    """What will be done."""
    numbers: tuple[float, ...]
    """With what: always as many in one stage."""
    tensors: dict[str, Tensor] = field(default_factory=dict)
    """And with what else, of the same shapes in all plans of a program: a target that is not simply the recorded frame,
    where patches lie, what is heard. On the device or the host."""


@dataclass(frozen=True)
class Inputs:
    """A plan's values where the device reads them."""

    frame: int | Int64[Tensor, "1"]
    """A number to cut out by, or, where the device has to know it, one to gather by."""
    numbers: Float[Tensor, "M"]
    tensors: dict[str, Tensor]

    @classmethod
    def of(cls, plan: Plan, device: torch.device, gather: bool = False) -> "Inputs":
        """Moved to ``device``; ``gather``: the frame's number, too."""
        numbers = torch.tensor([plan.frame, *plan.numbers], dtype=torch.float32).to(device)
        tensors = {name: tensor.to(device) for name, tensor in plan.tensors.items()}
        return cls(numbers[:1].long() if gather else plan.frame, numbers[1:], tensors)


class Stage:
    """One stage of the recipe: its parameters, losses, sampler and growth. The trainer knows nothing else.

    Its steps are planned by the host and done by the device.
    """

    name: str
    iterations: int
    optimizers: dict[str, Optimizer]
    device: torch.device
    own_kernels: bool
    """Whether its steps are to run on our own kernels, from CUDA graphs (`TrainConfig.gpu`)."""

    def plan(self, iteration: int) -> Plan:
        """All draws of a step."""
        raise NotImplementedError

    def terms(self, program: Program, inputs: Inputs) -> dict[str, Tensor]:
        """Weighted loss terms. With our own kernels, nothing in here may wait for the device."""
        raise NotImplementedError

    def subject_frame(self, frame: int) -> int:
        """The subject's number of a row of the training data."""
        raise NotImplementedError

    def gather(self) -> None:
        """Called after the backward pass: what is to be kept of its gradients; likewise without waiting."""

    def before_update(self, iteration: int) -> None:
        """Set the learning rates of a step."""

    def after_update(self, iteration: int) -> bool:
        """Called after the optimizers' step: growth and pruning. Whether tensors were replaced by others."""
        return False

    def figures(self) -> dict[str, int]:
        """What changed since the last call, for the run's record."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Everything but weights, optimizers and the generator that a resumed run needs."""
        raise NotImplementedError

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""
        raise NotImplementedError

    def losses(self, iteration: int) -> tuple[dict[str, Tensor], int]:
        """Weighted loss terms of one step, and the subject's number of the frame that they are of."""
        plan = self.plan(iteration)
        return self.terms(plan.program, Inputs.of(plan, self.device, self.own_kernels)), self.subject_frame(plan.frame)


class Steps:
    """Takes a stage's steps, one after another, as they are."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def take(self, iteration: int) -> tuple[dict[str, Tensor], int]:
        """One step: losses, gradients, update. The terms, and the subject's number of the frame."""
        self.stage.before_update(iteration)
        terms, frame = self.stage.losses(iteration)
        self.learn(terms)
        self.stage.after_update(iteration)
        return {name: value.detach() for name, value in terms.items()}, frame

    def learn(self, terms: dict[str, Tensor]) -> None:
        """Gradients and update."""
        torch.stack(list(terms.values())).sum().backward()
        self.stage.gather()
        self.update()
        for optimizer in self.stage.optimizers.values():
            optimizer.zero_grad(set_to_none=True)

    def update(self) -> None:
        """Change the parameters by their gradients."""
        for optimizer in self.stage.optimizers.values():
            optimizer.step()


@contextmanager
def steps_of(stage: Stage) -> Iterator[Steps]:
    """What takes the steps of ``stage`` on its device: graphs of our own kernels where these are wanted."""
    if not stage.own_kernels:
        with own_kernels(False):
            yield Steps(stage)
        return
    from emotalking.train.graphs import GraphSteps

    steps = GraphSteps(stage)
    with own_kernels(), steps.running():
        yield steps
