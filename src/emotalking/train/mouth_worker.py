"""The mouth stage in a process of its own, on a second device, while this one trains the face.

The two are independent: each stage begins with its own random draws (:func:`emotalking.train.run.stage_builders`), so
that an avatar is the same whether they follow one another or not. The process keeps record and checkpoint in the folder
:data:`FOLDER` of the run's, which is removed once the run has its result; so an existing folder means that the mouth is
not finished.
"""

import json
import logging
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from emotalking.data import Subject
from emotalking.data.audio_features import PACKAGE_FEATURES, audio_feature
from emotalking.errors import UserError
from emotalking.io.files import write_bytes
from emotalking.io.locks import locked
from emotalking.io.reading import parse_json, read_text, reading
from emotalking.io.settings import from_dict
from emotalking.models.head import TalkingHead
from emotalking.progress import shown
from emotalking.train.callbacks.log import LOG, Callback, Row, RunLog, StopTraining, preview_image
from emotalking.train.callbacks.report import recorded
from emotalking.train.checkpoint import Checkpoint
from emotalking.train.config import TrainConfig
from emotalking.train.stages.mouth import MouthStage
from emotalking.train.sync import needs_sync
from emotalking.train.trainer import Trainer
from emotalking.train.workers import Worker, visible_name

_logger = logging.getLogger(__name__)

STAGE = "mouth"
FOLDER = STAGE
"""Name of the worker's folder in the run folder."""
JOB = "job.json"
OUTPUT = "output.txt"
BRANCH = "mouth.pt"
LOCK = "lock"
"""Files in that folder: job, output of the process, its last checkpoint with the trained branch, and lock."""
_PATIENCE = 0.3
"""Seconds between two checks of a process while waiting for it."""


class MouthWorker(Callback):
    """A mouth stage that another process trains, watched from the run that trains the face.

    Args:
        folder: run folder.
        subject: subject folder.
        record: the run's; the trained branch must have the same.
        device: where the process works.
        exclusive: there is no other device than this one, so nothing else is trained meanwhile.
    """

    log: RunLog
    """The run's record; to be set before the run begins."""

    def __init__(
        self, folder: Path, subject: Path, record: dict[str, Any], device: torch.device, *, exclusive: bool
    ) -> None:
        self.folder = folder / FOLDER
        self.exclusive = exclusive
        self.device = device
        self.iterations = int(record["train"][STAGE]["iterations"])
        self.seconds = 0.0
        """Time of the stage so far."""
        self.taken = False
        """True if the head has the trained mouth."""
        self._joined = False
        self._run = folder
        self._record = record
        self._read = 0
        self._old = self._number()
        self._worker: Worker | None = None
        if not (self.folder / BRANCH).exists():
            job = {"subject": str(subject.resolve()), "device": visible_name(str(device)), "record": record}
            write_bytes(self.folder / JOB, json.dumps(job).encode())
            output = self.folder / OUTPUT
            output.unlink(missing_ok=True)
            self._worker = Worker(__name__, [str(self.folder)], str(device), output)

    def on_run_begin(self, trainer: Trainer) -> None:
        """Show the stage; if nothing else can be trained meanwhile, wait for it."""
        self.log.announce(STAGE, self.iterations)
        self._task = trainer.progress.add_task(f"train {STAGE} ({self.device})", total=self.iterations, note="")
        if self.exclusive:
            self._wait(trainer)

    def on_interval(self, trainer: Trainer, done: int) -> None:
        """Copy new rows, and load the trained mouth if it is finished."""
        failed = None if self._joined else self._poll(trainer)
        if failed is not None:
            raise StopTraining(failed)

    def on_stage_end(self, trainer: Trainer) -> None:
        """Wait for the trained mouth and save it in a checkpoint; the face is saved before the wait."""
        if self._joined:
            return
        if not self.taken:
            trainer.save()
            self._wait(trainer)
        trainer.stage_seconds = {STAGE: self.seconds} | trainer.stage_seconds
        trainer.save()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._joined = True

    def _poll(self, trainer: Trainer) -> str | None:
        """Copy rows since the last call, and load the trained mouth into the head if it is finished.

        Returns:
            The failure as a sentence; None: none.
        """
        code = 0 if self._worker is None else self._worker.wait()
        for row in self._rows():
            if row["kind"] == "frames" and (self.folder / preview_image(row)).is_file():
                image = self._run / preview_image(row)
                image.parent.mkdir(exist_ok=True)
                shutil.copyfile(self.folder / preview_image(row), image)
            if row["kind"] == "step":
                self.seconds = row["seconds"]
                note = f"loss {row['loss']:.4f}"
                trainer.progress.update(self._task, completed=row["iteration"], note=note)
            self.log.mirror(row)
        if code == 0 and not self.taken:
            load_branch(trainer.head, self.folder / BRANCH, self._record)
            self.taken, self.log.external_branch = True, None
        if not code:
            return None
        why = "" if self._worker is None else self._worker.failure(code)
        return f"The mouth stage on {self.device} failed ({self.folder / OUTPUT}): {why}."

    def _wait(self, trainer: Trainer) -> None:
        """Wait until the head holds the trained mouth.

        Raises:
            UserError: it failed.
        """
        while (failed := self._poll(trainer)) is None and not self.taken:
            if self._worker is not None:
                self._worker.wait(_PATIENCE)
        if failed is not None:
            raise UserError(failed)

    def stop(self) -> None:
        """Make the process save and exit, if it still runs."""
        if self._worker is not None:
            self._worker.stop()

    def _rows(self) -> list[Row]:
        """New rows of the process's record.

        A resumed process first rewrites its record without the rows to be repeated; until then the old one is ignored.
        """
        number = self._number()
        if number is None or (self._worker is not None and number == self._old):
            return []
        with (self.folder / LOG).open("rb") as file:
            file.seek(self._read)
            whole, end, _ = file.read().rpartition(b"\n")
        self._read += len(whole + end)
        return [json.loads(line) for line in whole.splitlines()]

    def _number(self) -> int | None:
        """Inode of the process's current record."""
        path = self.folder / LOG
        return path.stat().st_ino if path.exists() else None


@contextmanager
def mouth_worker(
    folder: Path,
    subject: Path,
    record: dict[str, Any],
    config: TrainConfig,
    checkpoint: Checkpoint | None,
    device: torch.device,
    mouth_device: torch.device | None,
    *,
    resume: bool,
) -> Iterator[MouthWorker | None]:
    """The mouth stage in another process, which ends with the block; None: the stages follow one another here.

    Args:
        folder: run folder.
        checkpoint: checkpoint that the run resumes from.
        device: the run's.
        mouth_device: a second one. Without it, a mouth that was begun in a process is still finished in one, first.
        resume: go on with that mouth.
    """
    begun = (folder / FOLDER).exists()
    if begun and not (resume and (checkpoint is None or checkpoint.payload["stage_name"] == "face")):
        with locked(folder / FOLDER / LOCK):  # a worker may still be saving because its run was killed
            shutil.rmtree(folder / FOLDER)
        begun = False
    reason = None if begun else _why_not(config, checkpoint)
    if mouth_device is not None and reason is not None:
        _logger.info("one stage after another, because %s: %s is left idle", reason, mouth_device)
    if not begun and (mouth_device is None or reason is not None):
        yield None
        return
    when = "first, as it was begun in a process of its own" if mouth_device is None else "at the same time as the face"
    _logger.info("the mouth is trained on %s, %s", mouth_device or device, when)
    mouth = MouthWorker(folder, subject, record, mouth_device or device, exclusive=mouth_device is None)
    try:
        yield mouth
    finally:
        mouth.stop()


def _why_not(config: TrainConfig, checkpoint: Checkpoint | None) -> str | None:
    """Reason that the stages must follow one another; None: they need not."""
    from emotalking.train.run import STAGES  # It imports this module.

    if checkpoint is not None:
        return "the run was begun so"
    if needs_sync(config):
        return "the sync loss needs the finished mouth"
    if not (config.mouth.iterations and config.face.iterations):
        return "there are not both a mouth and a face stage"
    if STAGES.mouth is not MouthStage:
        return f"a second process does not know the mouth stage {STAGES.mouth.__name__} of this program"
    if audio_feature(config.model.audio.features) not in PACKAGE_FEATURES:
        return f"a second process does not know the audio features '{config.model.audio.features}' of this program"
    return None


def load_branch(head: TalkingHead, path: Path, record: dict[str, Any]) -> None:
    """Put the trained mouth of a worker's last checkpoint into ``head``.

    Raises:
        InputError: it is damaged, or of a run with other settings.
    """
    device = head.mouth.gaussians.means.device
    trained = Checkpoint.read(path, record).head(head.config, device).mouth
    head.mouth.gaussians = trained.gaussians
    head.mouth.load_state_dict(trained.state_dict(), strict=True)


def train_mouth(folder: Path) -> None:
    """Train the mouth of the job in ``folder``, from its checkpoint if there is one, and leave it for the parent.

    Raises:
        UserError: as :func:`emotalking.train.run.train`.
    """
    from emotalking.train.run import make_context, stage_builders  # It starts this process.

    with reading(folder / JOB, "is no job of a worker", "train again"):
        job = parse_json(read_text(folder / JOB), dict)
        record, device, subject = job["record"], torch.device(job["device"]), Subject.open(job["subject"])
        config = from_dict(TrainConfig, record["train"])
    path = folder / "checkpoint.pt"
    checkpoint = Checkpoint.read(path, record) if path.exists() else None
    context = make_context(config, subject, device, folder, checkpoint, external_branch="face")
    about = {"run": record, "licences": {}, "command": ""}
    with recorded(
        folder, context, subject, about, maker_of=None, checkpoint=checkpoint, external_branch="face", page=False
    ) as (_, callbacks):
        mouth, every = stage_builders(context)[:1], config.checkpoint_every
        trainer = Trainer(context.head, mouth, context.generator, folder, record, every, callbacks)
        trainer.run(checkpoint)
        trainer.save()
        path.replace(folder / BRANCH)


def main(arguments: Sequence[str]) -> int:
    """Train the mouth of the job in the folder ``arguments[0]``; exit code."""
    folder = Path(arguments[0])
    with shown(), locked(folder / LOCK):
        try:
            train_mouth(folder)
        except UserError as error:
            sys.stderr.write(f"{error}\n")
            return 2
        except KeyboardInterrupt:
            return 130
    return 0
