"""Entry point of the process of :mod:`emotalking.train.mouth_worker`: the mouth stage of a run."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from emotalking.data import Subject
from emotalking.errors import UserError
from emotalking.io.settings import from_dict
from emotalking.progress import shown
from emotalking.train.callbacks.report import recorded
from emotalking.train.checkpoint import Checkpoint
from emotalking.train.config import TrainConfig
from emotalking.train.mouth_worker import BRANCH, JOB, locked, write_branch
from emotalking.train.run import make_context, stage_builders
from emotalking.train.trainer import Trainer


def train_mouth(folder: Path) -> None:
    """Train the mouth of the job in ``folder``, from its checkpoint if there is one, and write it for the parent.

    Raises:
        UserError: as :func:`emotalking.train.run.train`.
    """
    job = json.loads((folder / JOB).read_text())
    record = job["record"]
    device = torch.device(job["device"])
    subject = Subject.open(job["subject"])
    config = from_dict(TrainConfig, record["train"])
    path = folder / "checkpoint.pt"
    checkpoint = Checkpoint.read(path, record) if path.exists() else None
    context = make_context(config, subject, device, folder, checkpoint, external_branch="face")
    about = {"run": record, "licences": {}, "command": ""}
    with recorded(
        folder, context, subject, about, maker_of=None, checkpoint=checkpoint, external_branch="face", page=False
    ) as (_, callbacks):
        mouth, every = stage_builders(context)[:1], config.checkpoint_every
        Trainer(context.head, mouth, context.generator, folder, record, every, callbacks).run(checkpoint)
        write_branch(context.head, folder / BRANCH, record)


def main(arguments: Sequence[str]) -> int:
    """Train the mouth of the job in the folder ``arguments[0]``; exit code."""
    folder = Path(arguments[0])
    with shown(), locked(folder):
        try:
            train_mouth(folder)
        except UserError as error:
            sys.stderr.write(f"{error}\n")
            return 2
        except KeyboardInterrupt:
            return 130
    return 0
