"""Losses of the steps, gathered on the device, read together and written into the run's record."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.optim import Optimizer

from emotalking.errors import UserError
from emotalking.train.callbacks.base import Callback
from emotalking.train.callbacks.log import RunLog, of_kind

if TYPE_CHECKING:
    from emotalking.train.trainer import Trainer


class TrainingFailed(UserError):
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
        self._mark, self._marked, self._row = time.perf_counter(), trainer.done, len(self._log.rows)
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
            gaussians={k: v.gaussians.count for k, v in branches.items() if k != self._log.external_branch},
            **stage.growth(),
            seconds=trainer.seconds,
            steps_per_second=(done - self._marked) / max(worked, 1e-9),
            memory=memory_mib(head.face.gaussians.means.device),
        )
        trainer.note = f"loss {row['loss']:.4f}"
        self._mark, self._marked, self._row = now, done, len(self._log.rows)

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
