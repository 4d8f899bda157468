"""Clips that users upload, and the commands that make avatars of them: one at a time, each in a process of its own.

The folder of uploads has one folder a clip, named by the server: ``clip.json`` (what the user calls it, what is done),
``clip`` (the file as it came), ``check.json``, ``check.html``, ``subject/``, ``avatar.safetensors`` and its run folder.
The server itself never opens a clip.
"""

import json
import logging
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from emotalking.errors import InputError
from emotalking.io.files import holding, write_bytes
from emotalking.serve.notes import is_note, read_entries
from emotalking.serve.worker import Worker, visible_name

_logger = logging.getLogger(__name__)

Kind = Literal["check", "prepare", "train"]
State = Literal["running", "stopping", "finished", "failed", "cancelled"]
PRESETS = ("tiny", "fast", "paper")
SIZES = (256, 512)
ID = re.compile(r"[0-9a-f]{16}")
LOG_BYTES = 8192
"""Of the end of a job's output, what a client is told."""
_NEEDS: dict[Kind, Kind | None] = {"check": None, "prepare": None, "train": "prepare"}
_LONGEST_NAME = 80
_KEPT_JOBS = 50
_MODULE = "emotalking.serve.job_worker"


class JobError(InputError):
    """Something cannot be done now: another job runs, or a step before this one is missing."""


@runtime_checkable
class Process(Protocol):
    """The part of ``serve.worker.Worker`` that jobs use."""

    def wait(self, seconds: float | int | None = 0) -> int | None: ...
    def request_stop(self) -> None: ...
    def stop(self) -> None: ...
    def failure(self, code: int) -> str: ...


Launcher = Callable[[Sequence[str], Path, Path], Process]
"""Starts the arguments of a command ``emotalking``; then the files of its progress and of its output."""


def launcher(device: str) -> Launcher:
    """Starts commands that see one device alone."""
    return lambda arguments, progress, log: Worker(_MODULE, [str(progress), *arguments], device, log)


@dataclass
class Clip:
    """An uploaded clip; what is here is written into ``clip.json``."""

    id: str
    name: str
    """As the user calls it; never a path."""
    bytes: int
    uploaded: float
    """Seconds since 1970."""
    done: dict[str, float] = field(default_factory=dict)
    """Finished kinds of jobs, and when."""


@dataclass
class Job:
    """A command about a clip."""

    id: str
    kind: Kind
    clip: str
    options: dict[str, object]
    state: State = "running"
    message: str = ""
    """Why it failed."""
    started: float = 0.0
    ended: float | None = None
    """Seconds since 1970."""


class Jobs:
    """Clips and jobs of a server.

    Args:
        folder: of the uploads, made if missing.
        device: of the commands, such as auto, cpu or cuda:1.
        max_bytes: largest clip.
        keep_free: bytes of the disk that an upload leaves free.
        launch: starts commands; None: processes of this package.
        trained: called with name and file of an avatar whose training has ended.

    Raises:
        InputError: the folder cannot be made or read, or is another server's.
    """

    def __init__(
        self,
        folder: Path,
        *,
        device: str = "auto",
        max_bytes: int = 4 << 30,
        keep_free: int = 2 << 30,
        launch: Launcher | None = None,
        trained: Callable[[str, Path], None] = lambda name, path: None,
    ) -> None:
        self.folder, self.max_bytes, self.keep_free = Path(folder), max_bytes, keep_free
        self._device, self._launch, self._trained = device, launch or launcher(device), trained
        self._lock = threading.RLock()
        self._jobs: dict[str, Job] = {}
        self._running: tuple[Job, Process, threading.Thread] | None = None
        self._closed = False
        self._held = ExitStack()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._held.enter_context(holding(self.folder))
            self._clips = {clip.id: clip for clip in self._known()}
        except OSError as error:
            self._held.close()
            raise InputError(f"the folder for uploads, {folder}, cannot be used ({error.strerror}).") from error

    # Clips -----------------------------------------------------------------------------------------------------

    def clips(self) -> list[Clip]:
        """All clips, newest first."""
        with self._lock:
            return sorted(self._clips.values(), key=lambda clip: clip.uploaded, reverse=True)

    def clip(self, identity: str) -> Clip:
        """The clip of an id.

        Raises:
            KeyError: there is none.
        """
        with self._lock:
            return self._clips[identity]

    def path(self, clip: Clip, name: str = "") -> Path:
        """A file in a clip's folder."""
        return self.folder / clip.id / name

    def new_file(self) -> Path:
        """An empty place for an upload, for `add` or removal.

        Raises:
            JobError: the disk is too full for a clip.
        """
        self.check_space()
        path = self.folder / f"{secrets.token_hex(8)}.part"
        path.touch(mode=0o600, exist_ok=False)
        return path

    def check_space(self) -> None:
        """Raise JobError if the disk is too full for more."""
        if shutil.disk_usage(self.folder).free < self.keep_free:
            raise JobError("the server's disk is full: remove clips that are not needed any more.")

    def add(self, part: Path, name: str) -> Clip:
        """Take an uploaded file, which is moved, as a clip.

        Args:
            part: of `new_file`.
            name: what the user calls it; what cannot be shown is left out.
        """
        shown = "".join(letter for letter in name if letter.isprintable()).strip()[:_LONGEST_NAME]
        clip = Clip(part.stem, shown or "clip", part.stat().st_size, time.time())
        self.path(clip).mkdir()
        try:
            part.rename(self.path(clip, "clip"))
            with self._lock:
                self._save(clip)
                self._clips[clip.id] = clip
        except BaseException:
            shutil.rmtree(self.path(clip), ignore_errors=True)  # nobody would find it again
            raise
        return clip

    def remove(self, clip: Clip) -> None:
        """Delete a clip and all that was made of it.

        Raises:
            JobError: a job about it runs, or a file cannot be removed.
        """
        with self._lock:
            if self._running is not None and self._running[0].clip == clip.id:
                raise JobError("a job of this clip is running: cancel it first.")
            del self._clips[clip.id]
        try:
            shutil.rmtree(self.path(clip))
        except OSError as error:
            with self._lock:
                self._clips[clip.id] = clip
            raise JobError(f"this clip cannot be removed ({error.strerror}).") from error

    def avatar_name(self, clip: Clip) -> str:
        """Name of a clip's avatar: the clip's, in letters that addresses may have, and the beginning of its id."""
        plain = re.sub(r"[^a-z0-9]+", "-", Path(clip.name).stem.lower()).strip("-")[:32].strip("-")
        return f"{plain or 'avatar'}-{clip.id[:4]}"

    def offer_avatar(self, clip: Clip) -> str:
        """Have the avatar of a clip served; returns its name.

        Raises:
            JobError: it has not been trained.
            InputError: its file cannot be used.
        """
        if "train" not in clip.done:
            raise JobError("this clip's avatar has not been trained yet.")
        name = self.avatar_name(clip)
        self._trained(name, self.path(clip, "avatar.safetensors"))
        return name

    def facts(self, clip: Clip) -> dict[str, object]:
        """What a client is told about a clip."""
        told: dict[str, object] = asdict(clip)
        if "check" in clip.done:
            told["check"] = read_entries(self.path(clip, "check.json"), ("verdict", "reasons", "warnings", "seconds"))
        return told | {"avatar": self.avatar_name(clip) if "train" in clip.done else None}

    # Jobs ------------------------------------------------------------------------------------------------------

    def jobs(self) -> list[Job]:
        """Jobs since the server's start, newest first."""
        with self._lock:
            return list(self._jobs.values())[::-1]

    def job(self, identity: str) -> Job:
        """The job of an id.

        Raises:
            KeyError: there is none.
        """
        with self._lock:
            return self._jobs[identity]

    def start(self, clip: Clip, kind: Kind, *, preset: str = "fast", size: int | None = None, consent: str = "") -> Job:
        """Start a job.

        Args:
            preset: of a training.
            size: side of a prepared clip's frames; None: the command's default.
            consent: statement of the person shown, for a training; empty: none.

        Raises:
            JobError: another one runs, or the step before is missing.
        """
        need = _NEEDS[kind]
        with self._lock:
            if self._closed:
                raise JobError("the server is stopping.")
            if self._running is not None:
                raise JobError("another job is running: wait for its end, or cancel it.")
            if need is not None and need not in clip.done:
                raise JobError(f"this clip has to be prepared before it can be used for '{kind}'.")
            options: dict[str, object] = {"train": {"preset": preset}, "prepare": {"size": size}}.get(kind, {})
            job = Job(secrets.token_hex(8), kind, clip.id, options, started=time.time())
            self.path(clip, "progress.json").unlink(missing_ok=True)
            self.path(clip, "job.log").unlink(missing_ok=True)
            if kind == "train":
                self.path(clip, "consent.txt").unlink(missing_ok=True)
                if consent:  # a file: a sentence could name one on this machine
                    write_bytes(self.path(clip, "consent.txt"), consent.encode("utf-8", "replace"))
            command = self._command(clip, kind, preset, size)
            try:
                process = self._launch(command, self.path(clip, "progress.json"), self.path(clip, "job.log"))
            except OSError as error:
                raise JobError(f"the server cannot start a job now ({error.strerror}).") from error
            watcher = threading.Thread(target=self._watch, args=(job, process), name="serve-job", daemon=True)
            self._running = job, process, watcher
            self._jobs[job.id] = job
            while len(self._jobs) > _KEPT_JOBS:
                del self._jobs[next(iter(self._jobs))]
            watcher.start()
            return job

    def cancel(self, job: Job) -> None:
        """Ask a job to stop; what it has done is kept, and the same job goes on from there."""
        with self._lock:
            if self._running is not None and self._running[0] is job and job.state == "running":
                job.state = "stopping"
                self._running[1].request_stop()

    def close(self) -> None:
        """End the running job, start no other, and leave the folder to others."""
        with self._lock:
            self._closed = True
            running = self._running
        if running is not None:
            job, process, watcher = running
            self.cancel(job)
            process.stop()
            watcher.join()
        self._held.close()

    def progress(self, job: Job) -> dict[str, object]:
        """What a client is told about a job: its state, its progress and the end of its output."""
        told: dict[str, object] = asdict(job)
        with self._lock:
            newest = job is next(reversed(self._jobs.values())) or self._running is not None and self._running[0] is job
            clip = self._clips.get(job.clip)
        if clip is not None and newest:
            told["progress"] = read_entries(self.path(clip, "progress.json"), ("what", "done", "total"))
            told["log"] = self._log(clip)
        return told

    # Within ----------------------------------------------------------------------------------------------------

    def _command(self, clip: Clip, kind: Kind, preset: str, size: int | None) -> list[str]:
        device = ["--device", visible_name(self._device)]
        film, subject, avatar = (str(self.path(clip, name)) for name in ("clip", "subject", "avatar.safetensors"))
        if kind == "check":
            page, measures = (str(self.path(clip, f"check.{ending}")) for ending in ("html", "json"))
            return ["check", film, "--page", page, "--json", measures, "--overwrite"]
        if kind == "prepare":
            return ["prepare", film, "-o", subject, *device, *([] if size is None else ["--size", str(size)])]
        statement = self.path(clip, "consent.txt")
        consent = ["--consent", str(statement)] if statement.exists() else []
        return ["train", subject, "-o", avatar, "--preset", preset, *device, *consent]

    def _watch(self, job: Job, process: Process) -> None:
        code = process.wait(None)
        clip = self.clip(job.clip)
        with self._lock:
            try:
                self._conclude(job, clip, process, code or 0)
            except (InputError, OSError):
                _logger.exception("the end of a job of the clip %s cannot be noted", clip.id)
                clip.done.pop(job.kind, None)
                job.state, job.message = "failed", "its result cannot be noted: the server's disk may be full"
            finally:
                job.ended = time.time()
                self._running = None
        if job.state == "finished" and job.kind == "train":
            self._offer(clip)

    def _conclude(self, job: Job, clip: Clip, process: Process, code: int) -> None:
        judged = job.kind == "check" and bool(read_entries(self.path(clip, "check.json"), ("verdict",)))
        if job.state == "stopping":
            job.state = "cancelled"
        elif code == 0 or (judged and code == 2):  # an unusable clip is an answer, too
            job.state = "finished"
            clip.done[job.kind] = time.time()
            self._save(clip)
        else:
            job.state, job.message = "failed", self._plain(process.failure(code), clip)

    def _offer(self, clip: Clip) -> None:
        try:
            self.offer_avatar(clip)
        except InputError:
            _logger.exception("the avatar of the clip %s cannot be served", clip.id)

    def _log(self, clip: Clip) -> str:
        """The end of the output of a clip's newest job."""
        try:
            with self.path(clip, "job.log").open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - LOG_BYTES))
                return self._plain(file.read().decode("utf-8", "replace"), clip)
        except OSError:
            return ""

    def _plain(self, text: str, clip: Clip) -> str:
        """A command's words for a user who does not see the server's folders."""
        home = str(self.path(clip))
        return text.replace(f"{home}/clip", clip.name).replace(f"{home}/", "").replace(str(self.folder), "")

    def _save(self, clip: Clip) -> None:
        write_bytes(self.path(clip, "clip.json"), (json.dumps(asdict(clip), indent=1) + "\n").encode())

    def _known(self) -> list[Clip]:
        """Clips of earlier runs of the server; what an interrupted upload left is removed."""
        for part in self.folder.glob("*.part"):
            part.unlink()
        found: list[Clip] = []
        for folder in self.folder.iterdir():
            told = read_entries(folder / "clip.json", ("name", "bytes", "uploaded", "done"))
            if not ID.fullmatch(folder.name):
                continue
            if is_note(told):
                found.append(Clip(folder.name, **told))
            else:
                _logger.warning("the clip of %s is left out: its clip.json is damaged", folder)
        return found
