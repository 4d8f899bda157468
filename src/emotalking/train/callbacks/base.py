"""Hook points of a training run, for monitoring it or acting between its steps."""

from typing import TYPE_CHECKING

from torch import Tensor

from emotalking.errors import UserError

if TYPE_CHECKING:
    from emotalking.train.trainer import Trainer

LOG_EVERY = 20
"""Iterations between two :meth:`Callback.on_interval`, each of which waits for the device once."""

PREVIEWS, MIN_PREVIEW_INTERVAL = 8, 100
"""Previews of a stage, and the fewest iterations between two: one costs about as much as 25 steps on a CPU."""


class StopTraining(UserError):
    """Raised by :meth:`Callback.on_interval` to end the run: it is saved first, and the message is the reason."""


class Callback:
    """Receives the events of a run; each hook does nothing unless overridden.

    A callback draws nothing from the run's generator and changes no parameters of the running stage, so that a run is
    the same with any callbacks. :class:`emotalking.train.trainer.Trainer` calls the hooks of all callbacks in order.
    """

    def on_run_begin(self, trainer: "Trainer") -> None:
        """Before the first stage."""

    def on_stage_begin(self, trainer: "Trainer") -> None:
        """``trainer.stage`` begins, or goes on after ``trainer.done`` iterations."""

    def on_step(self, iteration: int, frame: int, terms: dict[str, Tensor]) -> None:
        """After a step, without waiting for the device: its weighted loss terms and the subject's frame."""

    def on_interval(self, trainer: "Trainer", done: int) -> None:
        """After every :data:`LOG_EVERY` iterations, the last one of a stage, and before a checkpoint or interruption.

        Raises:
            StopTraining: to save the run and end it.
        """

    def on_stage_end(self, trainer: "Trainer") -> None:
        """All iterations of ``trainer.stage`` are done."""

    def on_run_end(self, outcome: str) -> None:
        """The run is over: `finished`, `interrupted` or `failed`."""


def preview_interval(iterations: int) -> int:
    """Iterations between two previews: about a :data:`PREVIEWS`-th of the stage, a multiple of :data:`LOG_EVERY`."""
    return max(MIN_PREVIEW_INTERVAL, round(iterations / PREVIEWS / LOG_EVERY) * LOG_EVERY)


def is_preview_due(done: int, iterations: int) -> bool:
    """True if a preview is due after ``done`` of a stage's ``iterations``."""
    return done % preview_interval(iterations) == 0 or done == iterations
