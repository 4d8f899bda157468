"""One loop for all stages; it knows no method."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from emotalking.errors import UserError
from emotalking.models.head import TalkingHead
from emotalking.progress import bar
from emotalking.train.callbacks.log import RunLog
from emotalking.train.callbacks.recorder import LOG_EVERY, Recorder
from emotalking.train.checkpoint import Checkpoint, write_checkpoint
from emotalking.train.mouth_worker import MouthWorker
from emotalking.train.step import Stage, steps_of


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C end the current iteration first, so that what is saved is a whole one; a second one stops at once.

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
    """Runs stages one after another, with checkpoints; what happens is told to a recorder."""

    def __init__(
        self,
        head: TalkingHead,
        stages: list[Callable[[], Stage]],
        generator: torch.Generator,
        folder: Path,
        config: dict[str, Any],
        checkpoint_every: int,
        recorder: Recorder | None = None,
        mouth_worker: MouthWorker | None = None,
    ) -> None:
        """Make a trainer.

        Args:
            stages: builders of the stages in order; each is called when its stage begins, because its optimizers
                must see the parameters that the stage before left behind.
            generator: CPU generator shared by all draws; saved with every checkpoint.
            folder: run folder for `checkpoint.pt`.
            config: resolved configuration, stored in each checkpoint and compared on resume.
            checkpoint_every: iterations between checkpoints.
            recorder: keeps the run's record; None: one that writes a new record into ``folder`` and watches nothing.
            mouth_worker: the first stage, which another process trains while this one takes the second.
        """
        self.head, self.generator, self.folder, self.config = head, generator, folder, config
        self._builders = stages
        self._checkpoint_every = checkpoint_every
        self._recorder = Recorder(RunLog(folder), head) if recorder is None else recorder
        self._mouth_worker = mouth_worker
        self.stage_seconds: dict[str, float] = {}

    @property
    def checkpoint_path(self) -> Path:
        """Where the run is saved."""
        return self.folder / "checkpoint.pt"

    def run(self, resume: Checkpoint | None = None) -> None:
        """Train all stages, or what ``resume`` left of them.

        The head must already hold the checkpoint's weights (:meth:`Checkpoint.head`).

        Raises:
            TrainingFailed: see :meth:`Recorder.look`.
            UserError: the stage that another process trains failed; what is trained here was saved.
        """
        first = 0 if resume is None else resume.stage
        if self._mouth_worker is not None:
            first = max(first, 1)
        self.folder.mkdir(parents=True, exist_ok=True)
        if resume is not None:
            self.stage_seconds = dict(resume.stage_seconds)
        with bar() as progress:
            if self._mouth_worker is not None:
                self._mouth_worker.begin(self._recorder, self.head, progress)
                if self._mouth_worker.exclusive:
                    self._mouth_worker.wait()
            for number in range(first, len(self._builders)):
                start = 0
                stage = self._builders[number]()
                if resume is not None and number == first:
                    start = resume.restore(stage, self.generator)
                task = progress.add_task(f"train {stage.name}", total=stage.iterations, completed=start, note="")
                before = self.stage_seconds.get(stage.name, 0.0)
                began = time.perf_counter() - before
                self._recorder.begin(stage, start, before)

                def note(done: int, loss: float, task: Any = task) -> None:
                    progress.update(task, completed=done, note=f"loss {loss:.4f}")

                self._run_stage(number, stage, start, began, note)
                self.stage_seconds[stage.name] = time.perf_counter() - began
                if self._mouth_worker is not None:
                    self._join(number, stage, self._mouth_worker)

    def _run_stage(
        self, number: int, stage: Stage, start: int, began: float, note: Callable[[int, float], None]
    ) -> None:
        recorder, worker, failed = self._recorder, self._mouth_worker, None
        with deferred_interrupt() as interrupted, steps_of(stage) as steps:
            for iteration in range(start, stage.iterations):
                terms, frame = steps.step(iteration)
                recorder.keep(iteration, frame, terms)
                done = iteration + 1
                if done % LOG_EVERY == 0 or done == stage.iterations:
                    failed = None if worker is None else worker.look()
                    note(done, recorder.look(done))
                if (done % self._checkpoint_every == 0 and done < stage.iterations) or interrupted() or failed:
                    recorder.look(done)
                    self._save(number, stage, done, time.perf_counter() - began)
                if interrupted():
                    raise KeyboardInterrupt
                if failed:
                    raise UserError(failed)

    def _join(self, number: int, stage: Stage, worker: MouthWorker) -> None:
        """Have the whole of what was trained at the same time; ``stage`` is saved before that is waited for."""
        seconds = self.stage_seconds[stage.name]
        if not worker.taken:
            self._save(number, stage, stage.iterations, seconds)
            worker.wait()
            self._recorder.look_at_frames(stage.iterations)
        self.stage_seconds = {worker.name: worker.seconds} | self.stage_seconds
        self._save(number, stage, stage.iterations, seconds)
        worker.clear()
        self._mouth_worker = None

    def _save(self, number: int, stage: Stage, done: int, seconds: float) -> None:
        taken = self.stage_seconds | {stage.name: seconds}
        write_checkpoint(self.checkpoint_path, self.head, stage, number, done, self.generator, self.config, taken)
