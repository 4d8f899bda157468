"""Checkpoints: a versioned dict of tensors and plain values that resumes exactly."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from emotalking.errors import InputError
from emotalking.io.files import remove_stale, replacing
from emotalking.io.reading import reading, reason
from emotalking.io.torch_files import read_torch
from emotalking.models.config import ModelConfig
from emotalking.models.head import TalkingHead, loaded_head
from emotalking.train.config import upgrade_record
from emotalking.train.step import Stage

VERSION = 1
"""Raised when older checkpoints cannot be read any more."""


def write_checkpoint(
    path: Path,
    head: TalkingHead,
    stage: Stage,
    number: int,
    done: int,
    generator: torch.Generator,
    config: dict[str, Any],
    stage_seconds: dict[str, float],
) -> None:
    """Save the run after ``done`` iterations of stage ``number``; the old file is kept until the new one is complete.

    Raises:
        InputError: the weights are not finite any more, or the disk is full; the old checkpoint is still good.
    """
    for name, value in head.state_dict().items():
        if not bool(torch.isfinite(value).all()):
            raise InputError(
                f"Training stopped: '{name}' was no longer finite at iteration {done} of stage '{stage.name}': "
                "continue from the last checkpoint with lower rates."
            )
    payload = {
        "version": VERSION,
        "config": config,
        "stage": number,
        "stage_name": stage.name,
        "iteration": done,
        "head": head.state_dict(),
        "optimizers": {name: optimizer.state_dict() for name, optimizer in stage.optimizers.items()},
        "stage_state": stage.state_dict() | stage.context.state_dict(),
        "generator": generator.get_state(),
        "stage_seconds": stage_seconds,
    }
    write_payload(path, payload)


def write_payload(path: Path, payload: dict[str, Any]) -> None:
    """Write tensors and plain values; the old file is kept until the new one is complete.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        remove_stale(path)
        with replacing(path) as scratch:
            torch.save(payload, scratch)
    except (OSError, RuntimeError) as error:  # torch's own writer knows no OSError
        raise InputError(
            f"The checkpoint {path} cannot be written ({reason(error).splitlines()[0]}): free some space and resume."
        ) from error


_LONGEST_S = 1e9
_OTHER_RUN, _REMEDY = "does not fit this run", "remove it and train again"
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "stage": int,
    "stage_name": str,
    "iteration": int,
    "head": dict,
    "optimizers": dict,
    "stage_state": dict,
    "generator": torch.Tensor,
    "stage_seconds": dict,
}
"""Content of a checkpoint, besides its version and config."""


@dataclass(frozen=True)
class Checkpoint:
    """State of a run to resume from."""

    payload: dict[str, Any]
    path: Path
    """For messages."""

    @classmethod
    def read(cls, path: Path, config: dict[str, Any]) -> "Checkpoint":
        """Load a checkpoint (weights only: nothing in it can run code), if it is as it was written.

        Raises:
            InputError: if it is damaged, of another version, or belongs to another configuration.
        """
        with reading(f"The checkpoint {path}", "is damaged", _REMEDY):
            payload = read_torch(path, checksums=True)
        version = payload.get("version") if isinstance(payload, dict) else None
        if not isinstance(version, int) or version != VERSION:
            raise InputError(f"The checkpoint {path} is of another version of emotalking: remove it and train again.")
        with reading(f"The checkpoint {path}", "is damaged", _REMEDY):
            same = bool(upgrade_record(payload.get("config")) == config)
        if not same:
            raise InputError(f"The checkpoint {path} was made with other settings: use the same, or do not resume.")
        for name, kind in _FIELDS.items():
            if not isinstance(payload.get(name), kind):
                raise InputError(f"The checkpoint {path} is damaged (no usable '{name}'): {_REMEDY}.")
        seconds = payload["stage_seconds"].items()
        if not all(isinstance(k, str) and isinstance(v, float | int) and 0 <= v < _LONGEST_S for k, v in seconds):
            raise InputError(f"The checkpoint {path} is damaged (no usable 'stage_seconds'): {_REMEDY}.")
        return cls(payload, path)

    @property
    def stage(self) -> int:
        """Number of the stage that was running."""
        return self.payload["stage"]

    def check_stage(self, count: int) -> None:
        """Refuse a checkpoint of a stage that is none of the run's ``count`` stages.

        Raises:
            InputError: it is one.
        """
        if not 0 <= self.stage < count:
            raise InputError(f"The checkpoint {self.path} {_OTHER_RUN} (stage {self.stage} of {count}): {_REMEDY}.")

    @property
    def stage_seconds(self) -> dict[str, float]:
        """Time spent in each stage so far."""
        return self.payload["stage_seconds"]

    def head(self, config: ModelConfig, device: torch.device | str) -> TalkingHead:
        """The model with the saved weights and Gaussian counts.

        Raises:
            InputError: the weights are not those of such a model.
        """
        with reading(f"The checkpoint {self.path}", _OTHER_RUN, _REMEDY):
            return loaded_head(config, self.payload["head"]).to(device)

    def restore(self, stage: Stage, generator: torch.Generator) -> int:
        """Put the stage and the generator back; returns the iterations that are already done.

        Raises:
            InputError: the state is not one of such a stage.
        """
        with reading(f"The checkpoint {self.path}", _OTHER_RUN, _REMEDY):
            done = self.payload["iteration"]
            if self.payload["stage_name"] != stage.name or not 0 <= done <= stage.iterations:
                raise ValueError(f"{done} iterations of the stage '{self.payload['stage_name'][:20]}'")
            for name, optimizer in stage.optimizers.items():
                _restore_optimizer(optimizer, self.payload["optimizers"][name])
            stage.load_state_dict(self.payload["stage_state"])
            stage.context.load_state_dict(self.payload["stage_state"])
            generator.set_state(self.payload["generator"])
        return done


def _restore_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Put moments and rates back; the config, which is the same, gives all other settings.

    Raises:
        ValueError, KeyError, TypeError: moments are missing, of other shapes than their parameters (which torch does
            not compare) or not finite, or a rate is no number.
    """
    settings = [{k: v for k, v in group.items() if k not in ("params", "lr")} for group in optimizer.param_groups]
    optimizer.load_state_dict(saved)
    for group, ours in zip(optimizer.param_groups, settings, strict=True):
        group.update(ours)
        if not math.isfinite(float(group["lr"])):
            raise ValueError("a learning rate that is not finite")
    for parameter, state in optimizer.state.items():
        if state.keys() != {"step", "exp_avg", "exp_avg_sq"}:
            raise ValueError(f"moments called {', '.join(map(str, state))[:80]}")
        for name, value in state.items():
            if value.shape != (() if name == "step" else parameter.shape) or not bool(torch.isfinite(value).all()):
                raise ValueError(f"{name}: {list(value.shape)} for a parameter of {list(parameter.shape)}")
