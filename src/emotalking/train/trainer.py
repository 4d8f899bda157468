"""One loop for all stages; it knows no method."""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from rich.progress import Progress

from emotalking.models.head import TalkingHead
from emotalking.progress import bar
from emotalking.train.callbacks.log import LOG_EVERY, Callback, RunLog, StepLog
from emotalking.train.checkpoint import Checkpoint, write_checkpoint
from emotalking.train.step import Stage, steps_of

_logger = logging.getLogger(__name__)


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C end the current iteration first, so that a complete one is saved; a second one stops at once.

    Yields a function that tells whether Ctrl-C was pressed. Outside the main thread nothing is changed.
    """
    pressed = False
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


class Trainer:
    """Run stages one after another, with checkpoints. What else happens in a run is the callbacks' business.

    Attributes:
        head: the model.
        stage: the running stage.
        done: iterations of it that are done.
        progress: the bars.
        note: text next to the running stage's bar, set by callbacks.
        stage_seconds: time that each stage has taken so far.
    """

    stage: Stage
    progress: Progress

    def __init__(
        self,
        head: TalkingHead,
        stages: list[Callable[[], Stage]],
        generator: torch.Generator,
        folder: Path,
        config: dict[str, Any],
        checkpoint_every: int,
        callbacks: Sequence[Callback] | None = None,
    ) -> None:
        """Make a trainer.

        Args:
            stages: builders of the stages in order; each is called when its stage begins, because its optimizers
                must see the parameters that the stage before left behind.
            generator: CPU generator shared by all draws; saved with every checkpoint.
            folder: run folder for `checkpoint.pt`.
            config: resolved configuration, stored in each checkpoint and compared on resume.
            checkpoint_every: iterations between checkpoints.
            callbacks: called at the hook points in this order; None: a new record of the losses in ``folder``.
        """
        self.head = head
        self.generator = generator
        self.folder = folder
        self.config = config
        self._builders = stages
        self._checkpoint_every = checkpoint_every
        self._callbacks = [StepLog(RunLog(folder))] if callbacks is None else list(callbacks)
        self._number = 0
        self._began = 0.0
        self.done = 0
        self.note = ""
        self.stage_seconds: dict[str, float] = {}

    @property
    def checkpoint_path(self) -> Path:
        """File of the run's checkpoint."""
        return self.folder / "checkpoint.pt"

    @property
    def seconds(self) -> float:
        """Time that the running stage has taken so far."""
        return time.perf_counter() - self._began

    def run(self, resume: Checkpoint | None = None) -> None:
        """Train all stages, or what ``resume`` left of them.

        The head must already hold the checkpoint's weights (:meth:`Checkpoint.head`).

        Raises:
            TrainingFailed: a loss is not finite (:class:`StepLog`).
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if resume is not None:
            resume.check_stage(len(self._builders))
            self.stage_seconds = dict(resume.stage_seconds)
        first = 0 if resume is None else resume.stage
        with bar() as self.progress:
            for callback in self._callbacks:
                callback.on_run_begin(self)
            for number in range(first, len(self._builders)):
                self._number = number
                stage = self.stage = self._builders[number]()
                continued = resume is not None and number == resume.stage
                self.done = resume.restore(stage, self.generator) if resume is not None and continued else 0
                if continued:
                    _logger.info("going on from iteration %d of the stage %s", self.done, stage.name)
                if self.done == 0:
                    stage.begin()
                self._began = time.perf_counter() - self.stage_seconds.get(stage.name, 0.0)
                for callback in self._callbacks:
                    callback.on_stage_begin(self)
                self._run_stage(stage)
                self.stage_seconds[stage.name] = self.seconds
                for callback in self._callbacks:
                    callback.on_stage_end(self)

    def _run_stage(self, stage: Stage) -> None:
        bar = self.progress.add_task(f"train {stage.name}", total=stage.iterations, completed=self.done, note="")
        with deferred_interrupt() as interrupted, steps_of(stage) as steps:
            for iteration in range(self.done, stage.iterations):
                terms, frame = steps.step(iteration)
                for callback in self._callbacks:
                    callback.on_step(iteration, frame, terms)
                done = self.done = iteration + 1
                pressed = interrupted()
                due = done % self._checkpoint_every == 0 and done < stage.iterations
                if done % LOG_EVERY == 0 or done == stage.iterations or due or pressed:
                    for callback in self._callbacks:
                        callback.on_interval(self, done)
                    self.progress.update(bar, completed=done, note=self.note)
                if due or pressed:
                    self.stage_seconds[stage.name] = self.seconds
                    self.save()
                if pressed:
                    raise KeyboardInterrupt

    def save(self) -> None:
        """Write the checkpoint.

        Raises:
            InputError: see :func:`write_checkpoint`.
        """
        stage, number, done = self.stage, self._number, self.done
        args = (self.head, stage, number, done, self.generator, self.config, self.stage_seconds)
        write_checkpoint(self.checkpoint_path, *args)
