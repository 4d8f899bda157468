"""The mouth stage in a process of its own, on a second device, while this one trains the face.

The two are independent: each stage begins with its own random draws (:func:`emotalking.train.run.
stage_builders`), so that an avatar is the same whether they follow one another or not. The process keeps record and
checkpoint in the folder :data:`FOLDER` of the run's (:mod:`emotalking.train.mouth_worker_main`), which is removed once
the run has its result; so an existing folder means that the mouth is not finished.
"""

import json
import logging
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from emotalking.errors import UserError
from emotalking.io.files import replacing, write_bytes
from emotalking.models.gaussians import Gaussians
from emotalking.models.head import TalkingHead
from emotalking.train.callbacks.log import LOG, Callback, Row, RunLog, StopTraining
from emotalking.train.checkpoint import Checkpoint
from emotalking.train.config import TrainConfig, upgrade_record
from emotalking.train.sync import needs_sync
from emotalking.train.workers import Worker, visible_name

if TYPE_CHECKING:
    from emotalking.train.trainer import Trainer

_logger = logging.getLogger(__name__)

STAGE = "mouth"
FOLDER = STAGE
"""Name of the worker's folder in the run folder."""
JOB = "job.json"
OUTPUT = "output.txt"
BRANCH = "mouth.safetensors"
LOCK = "lock"
"""Files in that folder: job, output of the process, trained branch, and lock."""
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
            self._worker = Worker("emotalking.train.mouth_worker_main", [str(self.folder)], str(device), output)

    def on_run_begin(self, trainer: "Trainer") -> None:
        """Show the stage; if nothing else can be trained meanwhile, wait for it."""
        self.log.announce(STAGE, self.iterations)
        self._task = trainer.progress.add_task(f"train {STAGE} ({self.device})", total=self.iterations, note="")
        if self.exclusive:
            self._wait(trainer)

    def on_interval(self, trainer: "Trainer", done: int) -> None:
        """Copy new rows, and load the trained mouth if it is finished."""
        failed = None if self._joined else self._poll(trainer)
        if failed is not None:
            raise StopTraining(failed)

    def on_stage_end(self, trainer: "Trainer") -> None:
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

    def _poll(self, trainer: "Trainer") -> str | None:
        """Copy rows since the last call, and load the trained mouth into the head if it is finished.

        Returns:
            The failure as a sentence; None: none.
        """
        code = 0 if self._worker is None else self._worker.wait()
        for row in self._rows():
            if row["kind"] == "frames" and (self.folder / row["picture"]).exists():
                (self._run / row["picture"]).parent.mkdir(exist_ok=True)
                shutil.copyfile(self.folder / row["picture"], self._run / row["picture"])
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

    def _wait(self, trainer: "Trainer") -> None:
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
        with locked(folder / FOLDER):
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


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the mouth's ``folder``, after waiting for a worker that is still saving because its run was killed."""
    with (folder / LOCK).open("w") as lock:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(lock.fileno(), msvcrt.LK_LOCK, 1)
        else:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _why_not(config: TrainConfig, checkpoint: Checkpoint | None) -> str | None:
    """Reason that the stages must follow one another; None: they need not."""
    if checkpoint is not None:
        return "the run was begun so"
    if needs_sync(config):
        return "the sync loss needs the finished mouth"
    if not (config.mouth.iterations and config.face.iterations):
        return "there are not both a mouth and a face stage"
    return None


def write_branch(head: TalkingHead, path: Path, record: dict[str, Any]) -> None:
    """Write the trained mouth.

    Raises:
        UserError: the disk is full.
    """
    weights = {name: value.detach().cpu().contiguous() for name, value in head.mouth.state_dict().items()}
    try:
        with replacing(path) as scratch:
            save_file(weights, scratch, metadata={"record": json.dumps(record)})
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be written ({error}): free some space and resume.") from error


def load_branch(head: TalkingHead, path: Path, record: dict[str, Any]) -> None:
    """Put the mouth that :func:`write_branch` wrote into ``head``.

    Raises:
        UserError: it is damaged, or of a run with other settings.
    """
    try:
        with safe_open(path, framework="pt") as file:
            stored = json.loads((file.metadata() or {}).get("record", "null"))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if upgrade_record(stored) != json.loads(json.dumps(record)):
            raise UserError(f"{path} was made with other settings: use the same, or do not resume.")
        gaussians, mouth = weights["gaussians.means"], head.mouth
        device = mouth.gaussians.means.device
        mouth.gaussians = Gaussians.empty(gaussians.shape[0], head.config.mouth.sh_degree)
        mouth.load_state_dict(weights, strict=True)
        mouth.to(device)
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise UserError(f"{path} is damaged: remove {path.parent} and resume.") from error
