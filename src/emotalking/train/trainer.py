"""One loop for all stages; it knows no method."""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

import torch
from torch import Tensor

from emotalking.errors import UserError
from emotalking.models.head import TalkingHead
from emotalking.progress import bar
from emotalking.train.checkpoint import Checkpoint, write_checkpoint
from emotalking.train.stages import Stage

LOG_EVERY = 25
"""Iterations between looks at the loss values; each look waits for the device once."""


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


class TrainingFailed(UserError):
    """A loss became NaN or infinite."""


class Trainer:
    """Runs stages one after another, with checkpoints, a log and a stop at the first bad number."""

    def __init__(
        self,
        head: TalkingHead,
        stages: list[Callable[[], Stage]],
        generator: torch.Generator,
        folder: Path,
        config: dict[str, Any],
        checkpoint_every: int,
    ) -> None:
        """Make a trainer.

        Args:
            stages: builders of the stages in order; each is called when its stage begins, because its optimizers
                must see the parameters that the stage before left behind.
            generator: CPU generator shared by all draws; saved with every checkpoint.
            folder: run folder for `checkpoint.pt` and `log.jsonl`.
            config: resolved configuration, stored in each checkpoint and compared on resume.
            checkpoint_every: iterations between checkpoints.
        """
        self.head, self.generator, self.folder, self.config = head, generator, folder, config
        self._builders = stages
        self._checkpoint_every = checkpoint_every
        self.stage_seconds: dict[str, float] = {}

    @property
    def checkpoint_path(self) -> Path:
        """Where the run is saved."""
        return self.folder / "checkpoint.pt"

    def run(self, resume: Checkpoint | None = None) -> None:
        """Train all stages, or what ``resume`` left of them.

        The head must already hold the checkpoint's weights (:meth:`Checkpoint.head`).

        Raises:
            TrainingFailed: naming stage, iteration, term and frame of the first value that is not finite.
        """
        first = 0 if resume is None else resume.stage
        self.folder.mkdir(parents=True, exist_ok=True)
        if resume is not None:
            self.stage_seconds = dict(resume.stage_seconds)
        with (self.folder / "log.jsonl").open("a" if resume else "w") as log, bar() as progress:
            for number in range(first, len(self._builders)):
                start = 0
                stage = self._builders[number]()
                if resume is not None and number == first:
                    start = resume.restore(stage, self.generator)
                task = progress.add_task(f"train {stage.name}", total=stage.iterations, completed=start, note="")
                began = time.perf_counter() - self.stage_seconds.get(stage.name, 0.0)

                def note(done: int, loss: float, task: Any = task) -> None:
                    progress.update(task, completed=done, note=f"loss {loss:.4f}")

                self._run_stage(number, stage, start, began, log, note)
                self.stage_seconds[stage.name] = time.perf_counter() - began

    def _run_stage(
        self, number: int, stage: Stage, start: int, began: float, log: TextIO, note: Callable[[int, float], None]
    ) -> None:
        pending: list[tuple[int, int, dict[str, Tensor]]] = []
        with deferred_interrupt() as interrupted:
            for iteration in range(start, stage.iterations):
                terms, frame = stage.losses(iteration)
                torch.stack(list(terms.values())).sum().backward()
                stage.before_update(iteration)
                for optimizer in stage.optimizers.values():
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)
                stage.after_update(iteration)
                pending.append((iteration, frame, {name: value.detach() for name, value in terms.items()}))
                done = iteration + 1
                if done % LOG_EVERY == 0 or done == stage.iterations:
                    note(done, self._look(stage, pending, log))
                if (done % self._checkpoint_every == 0 and done < stage.iterations) or interrupted():
                    self._look(stage, pending, log)
                    self._save(number, stage, done, began)
                if interrupted():
                    raise KeyboardInterrupt

    def _look(self, stage: Stage, pending: list[tuple[int, int, dict[str, Tensor]]], log: TextIO) -> float:
        """Bring the pending losses to the host, check and log them; returns their mean total."""
        if not pending:
            return 0.0
        totals = []
        names = list(dict.fromkeys(name for _, _, terms in pending for name in terms))
        flat = torch.stack([value for _, _, terms in pending for value in terms.values()]).cpu().tolist()
        values = iter(flat)
        sums = dict.fromkeys(names, 0.0)
        for iteration, frame, terms in pending:
            total = 0.0
            for name in terms:
                value = next(values)
                if not abs(value) < float("inf"):
                    raise TrainingFailed(
                        f"Training stopped: the loss '{name}' of stage '{stage.name}' became {value} at iteration "
                        f"{iteration} on frame {frame}: look at that frame, or continue from the last checkpoint "
                        "with lower rates."
                    )
                total += value
                sums[name] += value
            totals.append(total)
        mean = sum(totals) / len(totals)
        record = {"stage": stage.name, "iteration": pending[-1][0] + 1, "loss": mean}
        record |= {name: value / len(pending) for name, value in sums.items()}
        record |= {"face": self.head.face.gaussians.count, "mouth": self.head.mouth.gaussians.count}
        log.write(json.dumps(record) + "\n")
        log.flush()
        pending.clear()
        return mean

    def _save(self, number: int, stage: Stage, done: int, began: float) -> None:
        seconds = self.stage_seconds | {stage.name: time.perf_counter() - began}
        write_checkpoint(self.checkpoint_path, self.head, stage, number, done, self.generator, self.config, seconds)
