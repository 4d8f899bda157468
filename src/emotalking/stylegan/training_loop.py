"""Training loop of the generators' networks: resumable checkpoints, a log, a progress bar, a stop at NaN."""

import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emotalking.errors import UserError
from emotalking.networks.weights import read_torch
from emotalking.progress import bar
from emotalking.stylegan.training_steps import Task, steps_of
from emotalking.train.callbacks.log import LOG_EVERY, Row, RunLog
from emotalking.train.checkpoint import write_payload
from emotalking.train.trainer import deferred_interrupt

VERSION = 3


def run(
    task: Task,
    steps: int,
    folder: Path,
    *,
    seed: int = 0,
    checkpoint_every: int = 1000,
    seconds: float | int | None = None,
    settings: dict[str, Any] | None = None,
) -> list[Row]:
    """Train, or resume from the folder's checkpoint; a finished training is not repeated.

    Ctrl-C finishes the step, saves and raises KeyboardInterrupt; a second one stops at once.

    Args:
        task: its modules and optimizers are restored from the checkpoint if there is one.
        steps: total number of steps.
        folder: of the run; gets the checkpoint ``NAME.pt``, which stays (:func:`clear`), and ``NAME/log.jsonl``.
        seed: random seed. A resumed run draws the same numbers as an uninterrupted one.
        checkpoint_every: steps between checkpoints.
        seconds: stop after this time (where a machine's time is limited).
        settings: plain values; a checkpoint made with others is refused.

    Returns:
        Rows of the log.

    Raises:
        UserError: a loss is not finite, a checkpoint is damaged or another training's, or the disk is full.
    """
    header = {"version": VERSION, "task": task.name, "settings": settings or {}}
    path = folder / f"{task.name}.pt"
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        done = _resume(task, path, header) if path.exists() else 0
        log = RunLog(folder / task.name, (task.name, done) if done else None)
        began, gathered = time.monotonic(), dict[str, list[Tensor]]()
        runner = steps_of(task)
        with bar() as progress, deferred_interrupt() as interrupted, runner.running():
            task_id = progress.add_task(task.name, total=steps, completed=done, note="")
            while done < steps and (seconds is None or time.monotonic() - began < seconds):
                for name, value in runner.take(done).items():
                    gathered.setdefault(name, []).append(value)
                done += 1
                if done % LOG_EVERY == 0 or done == steps or interrupted():
                    terms = _means(gathered, task.name, done)
                    log.add("step", stage=task.name, iteration=done, terms=terms, seconds=time.monotonic() - began)
                    progress.update(task_id, note=" ".join(f"{name} {value:.3g}" for name, value in terms.items()))
                    gathered = {}
                progress.advance(task_id)
                if done % checkpoint_every == 0 or done == steps or interrupted():
                    _save(task, path, header | {"done": done})
                if interrupted():
                    raise KeyboardInterrupt
    return log.rows


def clear(task_names: list[str], folder: Path) -> None:
    """Remove the checkpoints of trainings whose result is stored elsewhere."""
    for name in task_names:
        (folder / f"{name}.pt").unlink(missing_ok=True)


def _means(gathered: dict[str, list[Tensor]], name: str, step: int) -> dict[str, float]:
    terms = {term: float(torch.stack([v.float() for v in values]).mean()) for term, values in gathered.items()}
    wrong = [term for term, value in terms.items() if not math.isfinite(value)]
    if wrong:
        raise UserError(
            f"Training '{name}' stopped at step {step}: the loss '{wrong[0]}' is not finite: remove its run folder and"
            " train again with another seed."
        )
    return terms


def _save(task: Task, path: Path, header: dict[str, Any]) -> None:
    payload = header | {
        "modules": {name: module.state_dict() for name, module in task.modules.items()},
        "optimizers": {name: optimizer.state_dict() for name, optimizer in task.optimizers.items()},
        "draws": [torch.get_rng_state(), *torch.cuda.get_rng_state_all()],
    }
    write_payload(path, payload)


def _resume(task: Task, path: Path, header: dict[str, Any]) -> int:
    """Restore the task and torch's generators; return the number of finished steps."""
    payload: Any = read_torch(path)
    try:
        if not isinstance(payload, dict) or any(payload[name] != mark for name, mark in header.items()):
            raise KeyError(task.name)
        for name, module in task.modules.items():
            module.load_state_dict(payload["modules"][name])
        for name, optimizer in task.optimizers.items():
            optimizer.load_state_dict(payload["optimizers"][name])
        on_cpu, *on_gpus = payload["draws"]
        torch.set_rng_state(on_cpu)
        # Another machine may have other devices; their generators continue from the seed.
        for device, state in enumerate(on_gpus[: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(state, device)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"The checkpoint {path} belongs to a training with other settings: remove it and train again."
        ) from error
    return int(payload["done"])
