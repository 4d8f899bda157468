"""Training of the generators' networks: tasks, eager or captured steps, and the resumable loop."""

import gc
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer

from emotalking.errors import InputError
from emotalking.io.reading import reading
from emotalking.networks.weights import read_torch
from emotalking.progress import bar
from emotalking.train.callbacks.log import LOG_EVERY, Row, RunLog
from emotalking.train.checkpoint import write_payload
from emotalking.train.trainer import deferred_interrupt

VERSION = 3


class Task:
    """Iterative training of modules."""

    name: str
    modules: dict[str, nn.Module]
    """Modules stored in a checkpoint."""
    optimizers: dict[str, Optimizer]

    def kind(self, number: int) -> str:
        """Name the operations of step ``number``: steps of a kind do the same, with other random numbers."""
        return "plain"

    def step(self, kind: str, number: Float[Tensor, ""]) -> dict[str, Tensor]:
        """Take one step; return its losses.

        Random numbers come from torch's generator of the device, and nothing synchronises with the host, so that a
        step can be captured: ``number`` is on the device too, and schedules are computed from it.
        """
        raise NotImplementedError

    def update(self, loss: Float[Tensor, ""], *names: str) -> None:
        """Step the named optimizers down ``loss``; all of them where none is named."""
        optimizers = [self.optimizers[name] for name in names or self.optimizers]
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()


def weighted_sum(terms: dict[str, Tensor], weights: object) -> Float[Tensor, ""]:
    """Sum of the terms, each times the field of ``weights`` with its name."""
    return torch.stack([getattr(weights, name) * term for name, term in terms.items()]).sum()


def adam(
    module: nn.Module, rate: float | int, betas: tuple[float, float] = (0.9, 0.999), *, decay: float | int = 0.0
) -> Optimizer:
    """Adam (with weight ``decay``, AdamW) whose steps can be captured, and whose rate may be a tensor."""
    parameters = list(module.parameters())
    kind = AdamW if decay else Adam
    return kind(parameters, rate, betas, weight_decay=decay, fused=True, capturable=parameters[0].is_cuda)


class Steps:
    """Eager steps."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.device = next(p.device for module in task.modules.values() for p in module.parameters())
        self._number = torch.zeros((), device=self.device)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Context of all steps."""
        yield

    def take(self, number: int) -> dict[str, Tensor]:
        """Take one step; return its losses, detached."""
        self._number.fill_(number)
        return {name: value.detach() for name, value in self.task.step(self.task.kind(number), self._number).items()}


class _Captured(NamedTuple):
    graph: torch.cuda.CUDAGraph
    names: tuple[str, ...]
    values: Tensor


class GraphSteps(Steps):
    """Run the first step of a kind eagerly, which also loads every kernel, and replay later ones as a graph.

    A step of StyleGAN2 is thousands of launches, which take the host longer than the work takes the GPU.
    """

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._stream = torch.cuda.Stream(self.device)
        self._known: set[str] = set()
        self._graphs: dict[str, _Captured] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run on one stream that is not the default one, as capture requires."""
        outside = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(outside)
        with torch.cuda.stream(self._stream):
            yield
        outside.wait_stream(self._stream)

    def take(self, number: int) -> dict[str, Tensor]:
        """See :class:`Steps`."""
        kind = self.task.kind(number)
        if kind not in self._known:
            self._known.add(kind)
            return super().take(number)
        if kind not in self._graphs:
            self._graphs[kind] = self._capture(kind)
        self._number.fill_(number)
        captured = self._graphs[kind]
        captured.graph.replay()
        return dict(zip(captured.names, captured.values.clone().unbind(), strict=True))

    def _capture(self, kind: str) -> _Captured:
        graph, others = torch.cuda.CUDAGraph(), list(self._graphs.values())
        pool = others[0].graph.pool() if others else None
        collecting = gc.isenabled()
        gc.disable()  # No device memory may be freed during capture.
        try:
            with torch.cuda.graph(graph, pool=pool, stream=self._stream, capture_error_mode="thread_local"):
                terms = self.task.step(kind, self._number)
                values = torch.stack([value.detach().float() for value in terms.values()])
        finally:
            if collecting:
                gc.enable()
        return _Captured(graph, tuple(terms), values)


def steps_of(task: Task) -> Steps:
    """Steps of ``task`` for its device."""
    plain = Steps(task)
    return GraphSteps(task) if plain.device.type == "cuda" else plain


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
        InputError: a loss is not finite, a checkpoint is damaged or another training's, or the disk is full.
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
        raise InputError(
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
    with reading(f"The checkpoint {path}", "belongs to a training with other settings", "remove it and train again"):
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
        return int(payload["done"])
