"""Record of a run: started before the first step, completed whether the run succeeds or fails."""

import logging
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import emotalking
from emotalking.data import Subject
from emotalking.emotion.generator import EmotionGenerator
from emotalking.errors import UserError
from emotalking.train.callbacks.base import Callback
from emotalking.train.callbacks.log import RunLog
from emotalking.train.callbacks.page import write_page
from emotalking.train.callbacks.preview import IMAGES, Preview, pick_frames
from emotalking.train.callbacks.step_log import StepLog
from emotalking.train.callbacks.tensorboard import EventFiles
from emotalking.train.callbacks.warnings import EarlyWarnings, limits
from emotalking.train.checkpoint import Checkpoint
from emotalking.train.config import TrainConfig
from emotalking.train.context import Context
from emotalking.train.data import TrainingData

_logger = logging.getLogger(__name__)


@contextmanager
def recorded(
    folder: Path,
    context: Context,
    subject: Subject,
    metadata: dict[str, Any],
    *,
    maker_of: Callable[[TrainingData], EmotionGenerator] | None,
    checkpoint: Checkpoint | None,
    tensorboard: bool = False,
    external_branch: str | None = None,
    mouth_device: torch.device | None = None,
    page: bool = True,
) -> Iterator[tuple[RunLog, list[Callback]]]:
    """The record of a run and the callbacks that keep it; the last row and the page are written when the block ends.

    Args:
        folder: run folder.
        metadata: the avatar's: its `run`, `licences` and `command`.
        maker_of: the maker of emotional targets for some frames; None: the emotions are not measured.
        checkpoint: what the run goes on from; None begins a new record.
        tensorboard: also write TensorBoard events.
        external_branch: the branch that another process trains.
        mouth_device: its device, if that is another.
        page: write the page.

    Raises:
        UserError: the folder cannot be written to, or TensorBoard's writer is missing.
    """
    config, device = context.config, context.data.device
    resume = None if checkpoint is None else (checkpoint.payload["stage_name"], checkpoint.payload["iteration"])
    if resume is None:
        for old in (folder / IMAGES).glob("*.jpg"):
            old.unlink()
    log = RunLog(folder, resume, external_branch, limits(config))
    if tensorboard:
        log.listeners.append(EventFiles(folder, log.rows))
    picked = pick_frames(subject)
    data = TrainingData.load(subject, picked.all, config.model.audio.features, device, normals=config.normals)
    emotional = data.shape is not None and config.model.emotion.branch != "none"
    preview = Preview(log, data, picked, folder, maker_of(data) if maker_of is not None and emotional else None)
    callbacks = [StepLog(log, weights_of(config)), preview, EarlyWarnings(log)]
    log.add(
        "run",
        version=1,
        time=_now(),
        subject=subject.files.root.name,
        resumed=resume,
        frames={
            "training": len(subject.train_indices),
            "held_out": len(subject.val_indices),
            "fixed": picked.fixed.tolist(),
        },
        machine=machine(device) | ({} if mouth_device is None else {"mouth_worker": machine(mouth_device)}),
        settings=metadata["run"],
        licences=metadata["licences"],
        command=metadata["command"],
    )
    outcome, why = "failed", "the process was told to exit"
    try:
        yield log, callbacks
        outcome, why = "finished", ""
    except KeyboardInterrupt:
        outcome, why = "interrupted", "Ctrl-C"
        raise
    except Exception as error:
        outcome, why = "failed", str(error)
        raise
    finally:
        try:
            for callback in callbacks:
                callback.on_run_end(outcome)
            log.add("end", outcome=outcome, why=why, time=_now())
            if page:
                write_page(folder)
        except (UserError, OSError) as error:  # It must not hide why the run ended.
            _logger.warning("the run's page was not written: %s", error)


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def weights_of(config: TrainConfig) -> dict[str, dict[str, float]]:
    """Weights of each stage's terms: the fields of its losses config."""
    stages = ("mouth", "face", "emotion", "finetune")
    return {stage: {k: float(v) for k, v in vars(getattr(config, stage).losses).items()} for stage in stages}


def machine(device: torch.device) -> dict[str, Any]:
    """Device, its name, threads and versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    versions = {"emotalking": emotalking.__version__, "torch": torch.__version__, "python": platform.python_version()}
    return {"device": str(device), "name": name, "threads": torch.get_num_threads(), "versions": versions}
