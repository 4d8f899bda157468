"""Checkpoints: a versioned dict of tensors and plain values that resumes exactly."""

import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from emotalking.errors import InputError
from emotalking.io.files import clear_scratch, replacing
from emotalking.models.config import ModelConfig
from emotalking.models.gaussians import Gaussians
from emotalking.models.head import TalkingHead
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
        "stage_state": stage.state_dict(),
        "generator": generator.get_state(),
        "stage_seconds": stage_seconds,
    }
    write_payload(path, payload)


def write_payload(path: Path, payload: dict[str, Any]) -> None:
    """Write tensors and plain values; the old file is kept until the new one is complete.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        clear_scratch(path)
        with replacing(path) as scratch:
            torch.save(payload, scratch)
    except (OSError, RuntimeError) as error:  # torch's own writer knows no OSError
        raise InputError(
            f"The checkpoint {path} cannot be written ({str(error).splitlines()[0]}): free some space and resume."
        ) from error


@dataclass(frozen=True)
class Checkpoint:
    """State of a run to resume from."""

    payload: dict[str, Any]

    @classmethod
    def read(cls, path: Path, config: dict[str, Any]) -> "Checkpoint":
        """Load a checkpoint (weights only: nothing in it can run code).

        Raises:
            InputError: if it is damaged, of another version, or belongs to another configuration.
        """
        try:
            payload = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
            raise InputError(f"The checkpoint {path} is damaged: remove it and train again.") from error
        if not isinstance(payload, dict) or payload.get("version") != VERSION:
            raise InputError(f"The checkpoint {path} is of another version of emotalking: remove it and train again.")
        if upgrade_record(payload["config"]) != config:
            raise InputError(f"The checkpoint {path} was made with other settings: use the same, or do not resume.")
        return cls(payload)

    @property
    def stage(self) -> int:
        """Number of the stage that was running."""
        return self.payload["stage"]

    @property
    def stage_seconds(self) -> dict[str, float]:
        """Time spent in each stage so far."""
        return self.payload["stage_seconds"]

    def head(self, config: ModelConfig, device: torch.device | str) -> TalkingHead:
        """The model with the saved weights and Gaussian counts."""
        weights = self.payload["head"]
        head = TalkingHead(
            config,
            Gaussians.empty(weights["face.gaussians.means"].shape[0], config.face.sh_degree),
            Gaussians.empty(weights["mouth.gaussians.means"].shape[0], config.mouth.sh_degree),
        )
        head.load_state_dict(weights, strict=True)
        return head.to(device)

    def restore(self, stage: Stage, generator: torch.Generator) -> int:
        """Put the stage and the generator back; returns the iterations that are already done."""
        for name, optimizer in stage.optimizers.items():
            optimizer.load_state_dict(self.payload["optimizers"][name])
        stage.load_state_dict(self.payload["stage_state"])
        generator.set_state(self.payload["generator"])
        return self.payload["iteration"]
