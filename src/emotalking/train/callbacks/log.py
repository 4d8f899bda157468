"""The record of a run and the hooks that write it; the page and the TensorBoard events are made from the record alone.

The record has one JSON object a line. Every row has a ``kind``:

| kind | when | what |
|---|---|---|
| `run` | training begins or goes on | settings, preset, machine, versions, licences, the fixed frames |
| `stage` | a stage begins | its length and the limits that :mod:`emotalking.train.callbacks.warnings` needs |
| `step` | every few iterations | mean loss and terms, rates, Gaussians, speed, memory |
| `frames` | some times a stage | metrics of the preview frames, and the file of their image |
| `warning` | a failure is suspected | one sentence |
| `end` | training stops | `finished`, `interrupted` or `failed`, and why |
"""

import importlib.util
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from emotalking.errors import InputError, MissingPackageError
from emotalking.io.files import write_bytes
from emotalking.io.images import read_image
from emotalking.train.callbacks.rows import read_log

if TYPE_CHECKING:
    from emotalking.train.trainer import Trainer

_logger = logging.getLogger(__name__)

LOG = "log.jsonl"
"""Name of the record in the run folder."""
FOLDER = "tensorboard"
"""Folder of the events in the run folder."""
Row = dict[str, Any]
"""One line of the record."""
LOG_EVERY = 20
"""Iterations between two :meth:`Callback.on_interval`, each of which waits for the device once."""

PREVIEWS, MIN_PREVIEW_INTERVAL = 8, 100
"""Previews of a stage, and the fewest iterations between two: one costs about as much as 25 steps on a CPU."""


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
        """After every :data:`LOG_EVERY` iterations, a stage's last one, and before a checkpoint or interruption."""

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


class RunLog:
    """Rows in memory and, each at once, on disk.

    Args:
        folder: run folder, created if missing.
        resume: the stage's name and its iterations that a checkpoint holds; None begins a new record. Rows
            after the checkpoint are removed, as they will be written again: every curve stays one line.
        limits: of each stage, more for its `stage` row (:func:`emotalking.train.callbacks.warnings.limits`).

    Raises:
        InputError: the record cannot be read or written.
    """

    def __init__(
        self,
        folder: Path,
        resume: tuple[str, int] | None = None,
        limits: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._path = folder / LOG
        self._limits = limits or {}
        self.listeners: list[Callable[[Row], None]] = []
        """Called with each row that is added."""
        self.rows: list[Row] = []
        """All rows, oldest first."""
        if resume is not None and self._path.exists():
            self.rows = until(read_log(self._path), *resume)
        with self._writing():
            folder.mkdir(parents=True, exist_ok=True)
            write_bytes(self._path, "".join(_line(row) for row in self.rows).encode())

    def add(self, kind: str, **values: Any) -> Row:
        """Write a row.

        Raises:
            InputError: the disk is full or the folder gone.
        """
        row = {"kind": kind} | values
        with self._writing(), self._path.open("a") as file:
            file.write(_line(row))
        self.rows.append(row)
        for listener in self.listeners:
            listener(row)
        return row

    def announce(self, stage: str, iterations: int) -> None:
        """Add the `stage` row, once; the order of these rows is that of the run's one axis of iterations."""
        if not of_kind(self.rows, "stage", stage):
            self.add("stage", stage=stage, iterations=iterations, **self._limits.get(stage, {}))

    def warn(self, name: str, text: str, stage: str, iteration: int) -> None:
        """Add a `warning` row and log it, once a stage."""
        if not any(row["name"] == name for row in of_kind(self.rows, "warning", stage)):
            self.add("warning", name=name, stage=stage, iteration=iteration, text=text)
            _logger.warning("%s", text)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(
                f"The run's record {self._path} cannot be written ({error}): free some space and resume."
            ) from error


def _line(row: Row) -> str:
    return json.dumps(row) + "\n"


def until(rows: list[Row], stage: str, iteration: int) -> list[Row]:
    """``rows`` without those after ``iteration`` of ``stage``; beginnings and ends of the run are kept."""
    kept: list[Row] = []
    beyond = False
    for row in rows:
        beyond = beyond or (row.get("stage") == stage and row["kind"] != "stage" and row["iteration"] > iteration)
        if not beyond or row["kind"] in ("run", "end"):
            kept.append(row)
    return kept


def of_kind(rows: list[Row], kind: str, stage: str | None = None) -> list[Row]:
    """Rows of a kind, of one stage or of all."""
    return [row for row in rows if row["kind"] == kind and stage in (None, row.get("stage"))]


def stage_starts(rows: list[Row]) -> dict[str, int]:
    """The place of each stage's first iteration on the run's one axis of iterations, in order."""
    starts, place = {}, 0
    for row in of_kind(rows, "stage"):
        starts[row["stage"]] = place
        place += row["iterations"]
    return starts


class TrainingFailed(InputError):
    """A loss became NaN or infinite."""


class StepLog(Callback):
    """Write a `step` row every interval, and stop the run at the first loss that is not finite.

    Args:
        log: the run's record.
        weights: of each stage, the weights of its terms, for their raw values; a term without one has weight 1.
    """

    def __init__(self, log: RunLog, weights: dict[str, dict[str, float]] | None = None) -> None:
        self._log = log
        self._weights = weights or {}
        self._pending: list[tuple[int, int, dict[str, Tensor]]] = []

    def on_stage_begin(self, trainer: "Trainer") -> None:
        """Add the `stage` row unless it is there, and start the clock."""
        self._log.announce(trainer.stage.name, trainer.stage.iterations)
        self._mark = time.perf_counter()
        self._marked = trainer.done
        self._row = len(self._log.rows)
        device = trainer.head.face.gaussians.means.device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def on_step(self, iteration: int, frame: int, terms: dict[str, Tensor]) -> None:
        """Keep the terms of a step."""
        self._pending.append((iteration, frame, terms))

    def on_interval(self, trainer: "Trainer", done: int) -> None:
        """Bring the pending losses to the host, check and write them.

        Raises:
            TrainingFailed: naming stage, iteration, term and frame of the first value that is not finite.
        """
        stage, head = trainer.stage, trainer.head
        sums, count = self._read(stage.name), len(self._pending)
        self._pending.clear()
        terms = {name: value / count for name, value in sums.items()}
        weights = self._weights.get(stage.name, {})
        now = time.perf_counter()
        previews = of_kind(self._log.rows[self._row :], "frames", stage.name)
        worked = now - self._mark - sum(row["seconds"] for row in previews)
        branches = {"face": head.face, "mouth": head.mouth}
        row = self._log.add(
            "step",
            stage=stage.name,
            iteration=done,
            loss=sum(sums.values()) / count,
            terms=terms,
            raw={name: value / weights[name] for name, value in terms.items() if weights.get(name, 1) not in (0, 1)},
            rates=rates_of(stage.optimizers),
            gaussians={k: v.gaussians.count for k, v in branches.items()},
            **stage.growth(),
            seconds=trainer.seconds,
            steps_per_second=(done - self._marked) / max(worked, 1e-9),
            memory=memory_mib(head.face.gaussians.means.device),
        )
        trainer.note = f"loss {row['loss']:.4f}"
        self._mark = now
        self._marked = done
        self._row = len(self._log.rows)

    def _read(self, stage: str) -> dict[str, float]:
        """Sums of the pending terms by name."""
        values = iter(torch.stack([value for *_, terms in self._pending for value in terms.values()]).cpu().tolist())
        sums: dict[str, float] = {}
        for iteration, frame, terms in self._pending:
            for name in terms:
                value = next(values)
                if not abs(value) < float("inf"):
                    text = (
                        f"Training stopped: the loss '{name}' of stage '{stage}' became {value} at iteration "
                        f"{iteration} on frame {frame}: look at that frame, or continue from the last checkpoint with "
                        "lower rates."
                    )
                    self._log.add("warning", name="not finite", stage=stage, iteration=iteration, text=text)
                    raise TrainingFailed(text)
                sums[name] = sums.get(name, 0.0) + value
        return sums


def rates_of(optimizers: dict[str, Optimizer]) -> dict[str, float]:
    """The learning rate of every group, by optimizer and group."""
    return {
        f"{name}.{group.get('name', number)}": float(group["lr"])
        for name, optimizer in optimizers.items()
        for number, group in enumerate(optimizer.param_groups)
    }


def memory_mib(device: torch.device) -> dict[str, float]:
    """Peak memory, MiB: `host` of the process (0 where the system does not tell), `gpu` of the stage."""
    # Not getrusage: its peak is inherited from the process that started this one.
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    host = next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)
    gpu = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else 0.0
    return {"host": round(host, 1), "gpu": round(gpu, 1)}


def require_writer() -> None:
    """Raise InputError if tensorboardX is not installed."""
    if importlib.util.find_spec("tensorboardX") is None:
        raise MissingPackageError(
            "TensorBoard events need tensorboardX, which is not installed: pip install 'emotalking[tensorboard]'."
        )


class EventFiles:
    """Listener of a record (:attr:`RunLog.listeners`) that writes its rows as events.

    All events are rewritten from the full record when a run begins or resumes, so that a resumed run's curves have
    neither gaps nor loops.

    Args:
        folder: run folder; the events go into :data:`FOLDER` in it.
        rows: the record, which may grow.

    Raises:
        InputError: the package tensorboardX is missing.
    """

    def __init__(self, folder: Path, rows: list[Row]) -> None:
        require_writer()
        from tensorboardX import SummaryWriter

        self._folder = folder
        self._rows = rows
        for old in (folder / FOLDER).glob("events.*"):
            old.unlink()
        self._writer = SummaryWriter(str(folder / FOLDER), flush_secs=10)
        for row in rows:
            self(row)

    def __call__(self, row: Row) -> None:
        """Write ``row``; kinds without curves are texts, or nothing."""
        kind = row["kind"]
        if kind == "end":
            self._writer.flush()
        if kind not in ("step", "frames", "warning"):
            return
        stage = row["stage"]
        at = stage_starts(self._rows)[stage] + row["iteration"]
        if kind == "warning":
            self._writer.add_text(f"warning/{stage}", row["text"], at)
            return
        for name, value in scalars(row).items():
            self._writer.add_scalar(name, value, at)
        image = self._folder / preview_image(row)
        if image.is_file():
            self._writer.add_image(f"fixed_frames/{stage}", read_image(image), at, dataformats="HWC")

    def close(self) -> None:
        """Bring everything to disk."""
        self._writer.close()


def preview_image(row: Row) -> str:
    """The image's file of a `frames` row, in the run folder; empty: none."""
    return row.get("image", row.get("picture", ""))


def scalars(row: Row) -> dict[str, float]:
    """A `step` or `frames` row as curves by name: ``group/stage/what``."""
    stage = row["stage"]
    if row["kind"] == "frames":
        plain = {k: v for k, v in row.items() if isinstance(v, int | float) and k not in ("iteration", "seconds")}
        return {f"fixed_frames/{stage}/{name}": float(value) for name, value in plain.items()}
    found = {f"loss/{stage}/total": row["loss"], f"speed/{stage}/steps_per_second": row["steps_per_second"]}
    groups = {"loss": "terms", "raw": "raw", "rate": "rates", "memory_MiB": "memory"}
    for group, key in groups.items():
        found |= {f"{group}/{stage}/{name}": value for name, value in row[key].items()}
    found |= {f"gaussians/{branch}": count for branch, count in row["gaussians"].items()}
    found |= {f"gaussians/{stage}/{name}": row[name] for name in ("grown", "pruned") if name in row}
    return {name: float(value) for name, value in found.items() if math.isfinite(value)}
