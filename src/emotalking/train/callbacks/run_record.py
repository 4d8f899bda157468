"""Everything that a run leaves about itself: begun before the first step, ended however the run ends."""

import logging
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import emotalking
from emotalking.data import Subject
from emotalking.emotion.generator import EmotionGenerator
from emotalking.errors import UserError
from emotalking.models.head import TalkingHead
from emotalking.train.callbacks.log import RunLog
from emotalking.train.callbacks.page import write_page
from emotalking.train.callbacks.preview import PICTURES, FixedFrames, pick_frames
from emotalking.train.callbacks.recorder import Recorder
from emotalking.train.callbacks.warnings import limits
from emotalking.train.checkpoint import Checkpoint
from emotalking.train.config import TrainConfig
from emotalking.train.data import TrainingData

_logger = logging.getLogger(__name__)


@contextmanager
def recorded(
    folder: Path,
    head: TalkingHead,
    config: TrainConfig,
    subject: Subject,
    maker_of: Callable[[TrainingData], EmotionGenerator] | None,
    metadata: dict[str, Any],
    *,
    checkpoint: Checkpoint | None,
    tensorboard: bool = False,
    external_branch: str | None = None,
    mouth_device: torch.device | None = None,
    page: bool = True,
) -> Iterator[Recorder]:
    """The recorder of a run; when the block ends, well or not, the run's last row and its page are written.

    Args:
        folder: run folder.
        maker_of: the maker of emotional targets for some frames; None: the emotions are not looked at.
        metadata: the avatar's: its `run`, `licences` and `command`.
        checkpoint: what the run goes on from; None begins a new record.
        tensorboard: write TensorBoard events beside the record.
        external_branch: the branch that another process trains (:class:`Recorder`).
        mouth_device: its device, if that is another.
        page: write the page.

    Raises:
        UserError: the folder cannot be written to, or TensorBoard's writer is missing.
    """
    resume = None if checkpoint is None else (checkpoint.payload["stage_name"], checkpoint.payload["iteration"])
    if resume is None:
        for old in (folder / PICTURES).glob("*.jpg"):
            old.unlink()
    log = RunLog(folder, resume, external_branch)
    follow = None
    if tensorboard:
        from emotalking.train.callbacks.tensorboard import EventFiles

        follow = EventFiles(folder, log.rows)
    device = head.face.gaussians.means.device
    watcher, frames = _watcher(folder, config, subject, maker_of, device)
    recorder = Recorder(
        log,
        head,
        limits=limits(config),
        weights=weights_of(config),
        watcher=watcher,
        follow=follow,
        external_branch=external_branch,
    )
    recorder.open(
        subject=subject.files.root.name,
        resumed=resume,
        frames={"training": len(subject.train_indices), "held_out": len(subject.val_indices), "fixed": frames},
        machine=machine(device) | ({} if mouth_device is None else {"mouth_worker": machine(mouth_device)}),
        settings=metadata["run"],
        licences=metadata["licences"],
        command=metadata["command"],
    )
    try:
        yield recorder
    except KeyboardInterrupt:
        _end(recorder, folder, "interrupted", "Ctrl-C", page)
        raise
    except Exception as error:
        _end(recorder, folder, "failed", str(error), page)
        raise
    else:
        _end(recorder, folder, "finished", "", page)


def _watcher(
    folder: Path,
    config: TrainConfig,
    subject: Subject,
    maker_of: Callable[[TrainingData], EmotionGenerator] | None,
    device: torch.device,
) -> tuple[FixedFrames, list[int]]:
    """What looks at the fixed frames, and their numbers in the clip."""
    picked = pick_frames(subject)
    data = TrainingData.load(subject, picked.all, config.model.audio.features, device, normals=config.normals)
    feels = data.shape is not None and config.model.emotion.branch != "none"
    maker = maker_of(data) if maker_of is not None and feels else None
    return FixedFrames(data, picked, folder, maker), picked.fixed.tolist()


def _end(recorder: Recorder, folder: Path, outcome: str, why: str, page: bool) -> None:
    """The last row and the page; what keeps them from being written must not hide why the run ended."""
    try:
        recorder.close(outcome, why)
        if page:
            write_page(folder)
    except (UserError, OSError) as error:
        _logger.warning("the run's page was not written: %s", error)


def weights_of(config: TrainConfig) -> dict[str, dict[str, float]]:
    """Of each stage the weight of each term that has one: it is the field of the same name."""
    stages = ("mouth", "face", "emotion", "finetune")
    return {stage: {k: float(v) for k, v in vars(getattr(config, stage).losses).items()} for stage in stages}


def machine(device: torch.device) -> dict[str, Any]:
    """What a run works on and with."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    versions = {"emotalking": emotalking.__version__, "torch": torch.__version__, "python": platform.python_version()}
    return {"device": str(device), "name": name, "threads": torch.get_num_threads(), "versions": versions}
