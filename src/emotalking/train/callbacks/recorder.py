"""What the trainer tells about a run, written down: the one object between the loop and everything that watches it."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.optim import Optimizer

from emotalking.errors import UserError
from emotalking.models.head import TalkingHead
from emotalking.train.callbacks.log import Row, RunLog, of_kind
from emotalking.train.callbacks.warnings import alarms_of
from emotalking.train.step import Stage

_logger = logging.getLogger(__name__)

LOG_EVERY = 20
"""Iterations between looks at the loss values; each look waits for the device once."""
LOOKS, LOOK_EVERY = 8, 100
"""Looks at the fixed frames in a stage, and the fewest iterations between two: a look costs about a CPU's 25 steps."""


class TrainingFailed(UserError):
    """A loss became NaN or infinite."""


@runtime_checkable
class Watcher(Protocol):
    """Looks at the model from outside, some times a stage (:class:`emotalking.train.callbacks.preview.FixedFrames`)."""

    def look(self, head: TalkingHead, stage: str, iteration: int) -> dict[str, Any]:
        """Figures for a `frames` row."""
        ...

    def finish(self, head: TalkingHead, stage: str) -> None:
        """A stage ended, or was interrupted."""
        ...


class Recorder:
    """Gathers losses on the device, reads them together, and keeps the run's record.

    Nothing here draws from the run's generator or changes the model, so a run is the same whoever watches.

    Args:
        log: the run's record.
        head: what is trained.
        limits: of each stage, for its `stage` row (:func:`emotalking.train.callbacks.warnings.limits`).
        weights: of each stage, its terms' weights; a term without one has weight 1.
        watcher: looks at the fixed frames; None: nobody does.
        follow: is told each row as it is written (TensorBoard).
        external_branch: "face" or "mouth", if another process trains it; its Gaussians here are not the run's.
    """

    def __init__(
        self,
        log: RunLog,
        head: TalkingHead,
        *,
        limits: dict[str, dict[str, Any]] | None = None,
        weights: dict[str, dict[str, float]] | None = None,
        watcher: Watcher | None = None,
        follow: Callable[[Row], None] | None = None,
        external_branch: str | None = None,
    ) -> None:
        self.log, self._head, self._watcher, self._follow = log, head, watcher, follow
        self._limits, self._weights = limits or {}, weights or {}
        self.external_branch = external_branch
        self._pending: list[tuple[int, int, dict[str, Tensor]]] = []
        self._running: Stage | None = None
        self._said = {(row["name"], row["stage"]) for row in of_kind(log.rows, "warning")}

    def open(self, **about: Any) -> None:
        """Training begins or goes on."""
        self._write("run", version=1, time=time.strftime("%Y-%m-%d %H:%M:%S"), **about)

    def close(self, outcome: str, why: str) -> None:
        """Training stopped: `finished`, `interrupted` or `failed`."""
        if outcome == "interrupted" and self._watcher is not None and self._running is not None:
            self._watcher.finish(self._head, self._running.name)
        self._write("end", outcome=outcome, why=why, time=time.strftime("%Y-%m-%d %H:%M:%S"))

    def begin(self, stage: Stage, start: int, seconds: float) -> None:
        """A stage begins, or goes on after ``start`` iterations that took ``seconds``."""
        self._running = stage
        self.announce(stage.name, stage.iterations)
        self._began = time.perf_counter() - seconds
        self._mark, self._marked = time.perf_counter(), start
        device = self._head.face.gaussians.means.device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def announce(self, stage: str, iterations: int) -> None:
        """A stage belongs to the run, here or elsewhere; the order of these rows is that of the run's one axis."""
        if not of_kind(self.log.rows, "stage", stage):
            self._write("stage", stage=stage, iterations=iterations, **self._limits.get(stage, {}))

    def mirror(self, row: Row) -> None:
        """Keep what another process's record holds of a stage that is trained there."""
        if row["kind"] == "warning":
            self._warn(**{name: row[name] for name in ("name", "text", "stage", "iteration")})
        elif row["kind"] in ("step", "frames"):
            self._write(**row)

    def keep(self, iteration: int, frame: int, terms: dict[str, Tensor]) -> None:
        """Remember the weighted terms of a step, without waiting for the device."""
        self._pending.append((iteration, frame, terms))

    def look(self, done: int) -> float:
        """Bring the pending losses to the host, check and write them; at times, look at the fixed frames too.

        Returns:
            Their mean total; 0 if nothing is pending.

        Raises:
            TrainingFailed: naming stage, iteration, term and frame of the first value that is not finite.
        """
        if not self._pending:
            return 0.0
        sums, mean = self._read()
        stage, count = self._stage.name, len(self._pending)
        self._pending.clear()
        terms = {name: value / count for name, value in sums.items()}
        weights = self._weights.get(stage, {})
        raw = {name: value / weights[name] for name, value in terms.items() if weights.get(name, 1.0) not in (0.0, 1.0)}
        now = time.perf_counter()
        rate = (done - self._marked) / max(now - self._mark, 1e-9)
        self._write(
            "step",
            stage=stage,
            iteration=done,
            loss=mean,
            terms=terms,
            raw=raw,
            rates=rates_of(self._stage.optimizers),
            gaussians=self._gaussians(),
            **self._stage.growth(),
            seconds=now - self._began,
            steps_per_second=rate,
            memory=memory_mib(self._head.face.gaussians.means.device),
        )
        interval = look_interval(self._stage.iterations)
        if done % interval == 0 or done == self._stage.iterations:
            self.look_at_frames(done)
        if done == self._stage.iterations and self._watcher is not None:
            self._watcher.finish(self._head, stage)
        self._mark, self._marked = time.perf_counter(), done
        return mean

    def warn(self, name: str, text: str, iteration: int) -> None:
        """Keep a warning of the running stage and say it, unless it was said before."""
        self._warn(name, text, self._stage.name, iteration)

    def look_at_frames(self, done: int) -> None:
        """Write down how the fixed frames look after ``done`` iterations, and what is wrong with the running stage."""
        if self._watcher is not None:
            figures = self._watcher.look(self._head, self._stage.name, done)
            if self.external_branch is not None:
                figures.pop("sound_gain", None)  # Beside a mouth that is not trained yet, lips hide what they gained.
            self._write("frames", stage=self._stage.name, iteration=done, **figures)
        for alarm in alarms_of(self.log.rows, self._stage.name):
            self.warn(alarm.name, alarm.text, done)

    def _warn(self, name: str, text: str, stage: str, iteration: int) -> None:
        if (name, stage) in self._said:
            return
        self._said.add((name, stage))
        self._write("warning", name=name, stage=stage, iteration=iteration, text=text)
        _logger.warning("%s", text)

    @property
    def _stage(self) -> Stage:
        if self._running is None:
            raise RuntimeError("begin() was not called")
        return self._running

    def _read(self) -> tuple[dict[str, float], float]:
        """Sums of the pending terms by name, and their mean total."""
        names = list(dict.fromkeys(name for _, _, terms in self._pending for name in terms))
        flat = torch.stack([value for _, _, terms in self._pending for value in terms.values()]).cpu().tolist()
        values = iter(flat)
        sums = dict.fromkeys(names, 0.0)
        for iteration, frame, terms in self._pending:
            for name in terms:
                value = next(values)
                if not abs(value) < float("inf"):
                    text = (
                        f"Training stopped: the loss '{name}' of stage '{self._stage.name}' became {value} at "
                        f"iteration {iteration} on frame {frame}: look at that frame, or continue from the last "
                        "checkpoint with lower rates."
                    )
                    self._write("warning", name="not finite", stage=self._stage.name, iteration=iteration, text=text)
                    raise TrainingFailed(text)
                sums[name] += value
        return sums, sum(sums.values()) / len(self._pending)

    def _gaussians(self) -> dict[str, int]:
        """How many each branch has, as far as they are trained here."""
        branches = {"face": self._head.face, "mouth": self._head.mouth}
        return {name: branch.gaussians.count for name, branch in branches.items() if name != self.external_branch}

    def _write(self, kind: str, **values: Any) -> None:
        row = self.log.add(kind, **values)
        if self._follow is not None:
            self._follow(row)


def look_interval(iterations: int) -> int:
    """Iterations between two looks at the fixed frames: about a :data:`LOOKS`-th of the stage, whole log intervals."""
    return max(LOOK_EVERY, round(iterations / LOOKS / LOG_EVERY) * LOG_EVERY)


def rates_of(optimizers: dict[str, Optimizer]) -> dict[str, float]:
    """The learning rate of every group, by optimizer and group."""
    return {
        f"{name}.{group.get('name', number)}": float(group["lr"])
        for name, optimizer in optimizers.items()
        for number, group in enumerate(optimizer.param_groups)
    }


def memory_mib(device: torch.device) -> dict[str, float]:
    """Largest memory so far, MiB: `host` of the process (0 where the system does not tell), `gpu` of the stage."""
    # Not getrusage: its peak is inherited from the process that started this one.
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    host = next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)
    gpu = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else 0.0
    return {"host": round(host, 1), "gpu": round(gpu, 1)}
