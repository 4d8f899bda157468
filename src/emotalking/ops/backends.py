"""Registry of back ends: the implementations of each operation, their capabilities, and the one that ran."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from emotalking.ops.cpu.build import NoCompiler
from emotalking.ops.cuda.build import available

_logger = logging.getLogger(__name__)
_OWN: ContextVar[bool] = ContextVar("own kernels", default=True)
_CHOSEN: ContextVar[Mapping[str, str]] = ContextVar("back ends by operation", default={})  # noqa: B039 (never mutated)


@contextmanager
def own_kernels(enabled: bool = True) -> Iterator[None]:
    """Allow ``auto`` to choose our own CUDA kernels for float32 on CUDA (the default), or forbid it.

    Without them a GPU runs gsplat and torch's own operations.
    """
    before = _OWN.set(enabled)
    try:
        yield
    finally:
        _OWN.reset(before)


@contextmanager
def use_backends(**chosen: str) -> Iterator[None]:
    """Make ``auto`` choose these back ends, by the operation's name: ``use_backends(rasterize="gsplat")``."""
    before = _CHOSEN.set({**_CHOSEN.get(), **chosen})
    try:
        yield
    finally:
        _CHOSEN.reset(before)


def own_kernels_enabled() -> bool:
    """True where ``auto`` may choose our CUDA kernels: :func:`own_kernels` allows it, and they can be compiled."""
    return _OWN.get() and available()


def builds(module: str) -> Callable[[], bool]:
    """Function that returns True if the compiled library of a module of `ops.cpu` can be built here."""

    def test() -> bool:
        try:
            import_module(module).library()
        except NoCompiler:
            return False
        return True

    return test


@dataclass(frozen=True)
class Backend:
    """One implementation of an operation and its capabilities."""

    name: str
    function: str
    """``module:function``; imported when it first runs."""
    device: str | None = None
    """Device type of its tensors; None: any."""
    float32_only: bool = False
    gradients: tuple[str, ...] = ()
    """Optional gradients that it supports."""
    limits: Mapping[str, int] = field(default_factory=dict)
    """Largest supported sizes, by the names of the ``sizes`` of :meth:`Operation.choose`."""
    available: Callable[[], bool] = lambda: True
    """True if ``auto`` may choose it here; called only for inputs that fit. Always False: chosen by name alone."""

    def obstacle(self, sample: Tensor, gradients: Sequence[str], sizes: Mapping[str, int]) -> str | None:
        """Reason that inputs do not fit; None: they do."""
        if self.device is not None and sample.device.type != self.device:
            return f"needs {self.device} tensors, got {sample.device}"
        if self.float32_only and sample.dtype != torch.float32:
            return f"needs float32, got {sample.dtype}"
        missing = [name for name in gradients if name not in self.gradients]
        if missing:
            return f"gives no gradient to {', '.join(missing)}; use 'reference'"
        large = [f"{name} {sizes[name]}, at most {most}" for name, most in self.limits.items() if sizes[name] > most]
        return f"takes no {large[0]}" if large else None

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Run it."""
        module, name = self.function.split(":")
        return getattr(import_module(module), name)(*arguments, **options)


def cpu_kernel(place: str, **more: Any) -> Backend:
    """Our compiled kernel for float32 tensors on the CPU: ``module:function`` in `ops.cpu`."""
    function = f"emotalking.ops.cpu.{place}"
    available = builds(function.partition(":")[0])
    return Backend("cpu", function, device="cpu", float32_only=True, available=available, **more)


def cuda_kernel(place: str, **more: Any) -> Backend:
    """Our kernel for float32 tensors on CUDA: ``module:function`` in `ops.cuda`."""
    function = f"emotalking.ops.cuda.{place}"
    return Backend("cuda", function, device="cuda", float32_only=True, available=own_kernels_enabled, **more)


class Operation:
    """A named operation with its back ends, in the order in which ``auto`` tries them; the reference is the last."""

    def __init__(self, name: str, *backends: Backend) -> None:
        self.name = name
        self.backends = {backend.name: backend for backend in backends}
        self.last_run: str | None = None
        """Name of the back end that was chosen last."""
        OPERATIONS[name] = self

    def register(self, backend: Backend, *, preferred: bool = False) -> None:
        """Add a back end, or replace the one of its name.

        Args:
            backend: with ``available=lambda: False`` ``auto`` never takes it.
            preferred: ``auto`` tries it before all others; else after them, but before the reference.
        """
        added = {backend.name: backend}
        ordered = (added if preferred else {}) | self.backends | added
        self.backends = dict(sorted(ordered.items(), key=lambda item: item[0] == "reference"))  # stable

    def choose(self, requested: str, sample: Tensor, gradients: Sequence[str] = (), **sizes: int) -> Backend:
        """Choose the back end for one call.

        Args:
            requested: its name, or ``auto``.
            sample: one of the inputs, all of which have its device and type.
            gradients: optional gradients that the call needs.
            sizes: those named in `Backend.limits`.

        Raises:
            ValueError: there is no such back end, or it cannot serve these inputs.
        """
        if requested == "auto":
            requested = _CHOSEN.get().get(self.name, "auto")
        if requested == "auto":
            fitting = (each for each in self.backends.values() if each.obstacle(sample, gradients, sizes) is None)
            backend = next(each for each in fitting if each.available())
        else:
            if requested not in self.backends:
                raise ValueError(f"backend: expected auto, {', '.join(self.backends)}, got {requested!r}")
            backend = self.backends[requested]
            obstacle = backend.obstacle(sample, gradients, sizes)
            if obstacle is not None:
                raise ValueError(f"backend={requested!r} {obstacle}")
        if backend.name != self.last_run:
            _logger.debug("%s runs on back end %s", self.name, backend.name)
            self.last_run = backend.name
        return backend


OPERATIONS: dict[str, Operation] = {}
"""All operations whose modules are imported, by name."""


def report() -> dict[str, str]:
    """The back end that each operation used last, by the operation's name."""
    return {name: operation.last_run for name, operation in OPERATIONS.items() if operation.last_run is not None}
