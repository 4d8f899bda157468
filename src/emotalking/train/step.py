"""One training step: its inputs, the base class of all stages, and the plain loop (CUDA graphs: ``train.graphs``)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.optim import Optimizer

from emotalking.ops.backends import own_kernels
from emotalking.train.context import Context
from emotalking.train.perceptual import Patches
from emotalking.train.sync_source import SyncWindow
from emotalking.train.targets import Target

SLOTS = 64
"""Steps that the host may be ahead of the device."""
OFF = torch.zeros(())
ON = torch.ones(())
Parts = TypeVar("Parts", bound=tuple[Any, ...])


@dataclass(frozen=True)
class GraphKey:
    """Operations of a step, beyond what the shapes of its :class:`StepInputs` imply.

    Steps of one key and of the same shapes are captured once in a CUDA graph, and after that each is one launch.
    """

    moving: bool = True
    """Gaussians are deformed by the networks, not at their canonical positions."""
    growing: bool = False
    """Statistics for the next densification are gathered."""
    degree: int | None = None
    """Highest spherical-harmonic degree of the colours; None: all."""


class StepInputs(NamedTuple):
    """All that the host decides of a step before the device begins it; steps that share a graph have the same shapes.

    A stage gives them on the host or the device; :meth:`moved` puts them where its terms read them.
    """

    frame: int | Int64[Tensor, "1"]
    """Row of the training data: a number to cut out by, or, where the device has to know it, one to gather by."""
    backdrop: Float[Tensor, "3"] = torch.zeros(3)
    """Colour that replaces masked regions."""
    compare_hair: Float[Tensor, ""] = ON
    """0: hair counts as masked."""
    hair_attention: Float[Tensor, ""] = OFF
    """1: attention on the hair is penalised."""
    glance: Float[Tensor, "2"] = torch.zeros(2)
    """By how much the eyes of the frame are turned, radians to the viewer's right and up."""
    target: Target | None = None
    """Target image, where it is not simply the recorded frame."""
    patches: Patches | None = None
    """Patches of the perceptual term."""
    sync: SyncWindow | None = None
    """Frames and speech of the sync term."""

    @property
    def scalars(self) -> list[float]:
        """The small numbers, which a graph reads from one vector; inverse of :meth:`with_scalars`."""
        numbers = self.backdrop, self.compare_hair, self.hair_attention, self.glance
        return [float(self.frame), *torch.cat([each.flatten() for each in numbers]).tolist()]

    def with_scalars(self, vector: Float[Tensor, "8"]) -> "StepInputs":
        """These inputs with the small numbers as views of ``vector``, on its device."""
        frame, backdrop, compare_hair, hair_attention, glance = vector.split((1, 3, 1, 1, 2))
        return self._replace(
            frame=frame.long(),
            backdrop=backdrop,
            compare_hair=compare_hair[0],
            hair_attention=hair_attention[0],
            glance=glance,
        )

    def with_tensors(self, function: Callable[[Tensor], Tensor]) -> "StepInputs":
        """These inputs with ``function`` applied to every tensor of target, patches and sync window."""
        target, patches, sync = (_mapped(function, part) for part in (self.target, self.patches, self.sync))
        return self._replace(target=target, patches=patches, sync=sync)

    def tensors(self) -> list[Tensor]:
        """The tensors of target, patches and sync window, in a fixed order."""
        return [value for value in self._values() if isinstance(value, Tensor)]

    def shapes(self) -> tuple[torch.Size | int | None, ...]:
        """The shapes of :meth:`tensors`, and what else of target, patches and sync window decides about operations."""
        return tuple(value.shape if isinstance(value, Tensor) else value for value in self._values())

    def _values(self) -> list[Tensor | int | None]:
        return [value for part in (self.target, self.patches, self.sync) for value in part or (None,)]

    def moved(self, device: torch.device, *, gather: bool) -> "StepInputs":
        """These inputs on ``device``; ``gather``: the frame's number, too."""
        there = self.with_scalars(torch.tensor(self.scalars).to(device))
        there = there.with_tensors(lambda tensor: tensor.to(device))
        return there if gather else there._replace(frame=self.frame)


def _mapped(function: Callable[[Tensor], Tensor], part: Parts | None) -> Parts | None:
    if part is None:
        return None
    return type(part)(*(function(value) if isinstance(value, Tensor) else value for value in part))


class Stage:
    """One stage of the recipe: its parameters, losses, frames and growth; the one base of all stages.

    The host draws a step's inputs, the device does the rest.
    """

    name: str
    optimizers: dict[str, Optimizer]

    def __init__(self, context: Context, iterations: int) -> None:
        self.context = context
        self.iterations = iterations

    def begin(self) -> None:
        """Change the model before the first step; not called where a run goes on in the middle of the stage."""

    def inputs(self, iteration: int) -> tuple[GraphKey, StepInputs]:
        """All draws of a step."""
        raise NotImplementedError

    def terms(self, key: GraphKey, inputs: StepInputs) -> dict[str, Tensor]:
        """Weighted loss terms. With our own kernels, nothing in here may wait for the device."""
        raise NotImplementedError

    def after_backward(self) -> None:
        """Gather statistics of the gradients before the update; likewise without waiting."""

    def before_update(self, iteration: int) -> None:
        """Set the learning rates of a step."""

    def after_update(self, iteration: int) -> bool:
        """Grow and prune after the optimizers' step. Returns True where tensors were replaced by others."""
        return False

    def growth(self) -> dict[str, int]:
        """Gaussians added and removed since the last call, for the run's record."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Everything but weights, optimizers and the generator that a resumed run needs."""
        raise NotImplementedError

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""
        raise NotImplementedError

    def subject_frame(self, inputs: StepInputs) -> int:
        """The subject's number of the frame that inputs from :meth:`inputs` are of."""
        return int(self.context.data.indices[inputs.frame])

    def losses(self, iteration: int) -> tuple[dict[str, Tensor], int]:
        """Weighted loss terms of one step, and the subject's number of the frame that they are of."""
        key, inputs = self.inputs(iteration)
        moved = inputs.moved(self.context.device, gather=self.context.own_kernels)
        return self.terms(key, moved), self.subject_frame(inputs)


class Steps:
    """Runs a stage's steps, one after another, one launch at a time."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def step(self, iteration: int) -> tuple[dict[str, Tensor], int]:
        """One step: losses, gradients, update. Returns the terms, and the subject's number of the frame."""
        self.stage.before_update(iteration)
        terms, frame = self.stage.losses(iteration)
        self.backward_and_update(terms)
        self.stage.after_update(iteration)
        return {name: value.detach() for name, value in terms.items()}, frame

    def backward_and_update(self, terms: dict[str, Tensor]) -> None:
        """Gradients and update."""
        torch.stack(list(terms.values())).sum().backward()
        self.stage.after_backward()
        self.update()
        for optimizer in self.stage.optimizers.values():
            optimizer.zero_grad(set_to_none=True)

    def update(self) -> None:
        """Change the parameters by their gradients."""
        for optimizer in self.stage.optimizers.values():
            optimizer.step()


@contextmanager
def steps_of(stage: Stage) -> Iterator[Steps]:
    """Yield the loop of ``stage``: CUDA graphs of our own kernels where the config wants them, else plain steps."""
    if not stage.context.own_kernels:
        with own_kernels(False):
            yield Steps(stage)
        return
    from emotalking.train.graphs import GraphSteps

    steps = GraphSteps(stage)
    with own_kernels(), steps.running():
        yield steps
