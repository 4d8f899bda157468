"""Download of the optional pretrained models into the model folder, from their authors' addresses."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from emotalking.errors import InputError, MissingModelError
from emotalking.io.locks import locked
from emotalking.networks.registry import WEIGHT_FILES, Model, model_folders
from emotalking.networks.transfer import (
    NETWORK_ERRORS,
    RemoteFile,
    fetch,
    host_of,
    matches,
    reason,
    remote_json,
    remote_size,
)

ENDPOINT_VARIABLE = "HF_ENDPOINT"
"""Environment variable that names another server in place of :data:`ENDPOINT`."""
ENDPOINT = "https://huggingface.co"
LOCK = ".downloads.lock"
"""In the model folder: one process at a time downloads into it."""
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Download:
    """What getting a model takes."""

    model: Model
    files: tuple[RemoteFile, ...]
    path: Path
    """Place of the file, or of the folder with all files."""

    @property
    def size(self) -> int | None:
        """Bytes of all files; None where the server does not say."""
        sizes = [file.size for file in self.files]
        return sum(size for size in sizes if size is not None) if None not in sizes else None

    @property
    def check(self) -> str:
        """What vouches for the content."""
        if self.model.repo is not None:
            return f"checksums that {host_of(self.files[0].url)} states"
        known = self.model.sha256
        if known is None:
            return "no published checksum: the SHA-256 of what arrives is recorded, and compared from then on"
        return f"SHA-256 {known}" if len(known) == 64 else f"SHA-256 {known}... (its first {len(known)} digits)"


def find_download(model: Model) -> Download:
    """Ask the server of a model which files there are, and of which size.

    Raises:
        MissingModelError: the model has no address that a program can use; the message says what to do by hand.
        InputError: the server cannot be reached or has no such file; the message says what to copy where.
    """
    path = model_folders()[0] / model.files[0]
    if not model.downloadable:
        raise MissingModelError(by_hand(model))
    _logger.info("asking %s for %s", host_of(_address(model)), model.name)
    try:
        if model.repo is not None:
            return Download(model, _repository_files(model.repo), path)
        url = str(model.url)
        return Download(model, (RemoteFile(model.files[0], url, remote_size(url), model.sha256),), path)
    except (*NETWORK_ERRORS, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{host_of(_address(model))} has not given {model.name} ({reason(error)}): without a network here,"
            f" {_copying(model)}."
        ) from error


def download(job: Download) -> Path:
    """Bring a model into the model folder; an interrupted download continues. Nothing of its content is run.

    Returns:
        Its place: where it was already, or ``job.path``.

    Raises:
        InputError: the connection was lost, the content is not the published one, or the disk is full or cannot be
            written.
    """
    folder = job.path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / LOCK, lambda: _logger.info("waiting for another download into %s", folder)):
            there = job.model.installed()
            return there if there is not None else _fetched(job)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written ({error.strerror}): choose another folder by EMOTALKING_MODELS."
        ) from error


def by_hand(model: Model) -> str:
    """What to do where no program can fetch a model."""
    return f"{model.name} has to be fetched by hand, as its authors give no plain address: {_copying(model)}."


def _copying(model: Model) -> str:
    """Instruction to bring a model from another machine or a browser."""
    path = model_folders()[0] / model.files[0]
    if model.repo is not None:
        what = f"config.json and {' or '.join(WEIGHT_FILES)} of {_address(model)}"
        return f"fetch {what} and copy them into the folder {path}"
    known = "" if model.sha256 is None else f" (SHA-256 {model.sha256}{'' if len(model.sha256) == 64 else '...'})"
    what = model.url or f"{model.files[0]} from {model.source}"
    return f"fetch {what} and copy it to {path}{known}"


def _address(model: Model) -> str:
    """Page of a model's files."""
    return str(model.url) if model.repo is None else f"{_endpoint()}/{model.repo}"


def _endpoint() -> str:
    """Server of Hugging Face's repositories.

    Raises:
        InputError: the environment names something else than a server.
    """
    found = (os.environ.get(ENDPOINT_VARIABLE) or ENDPOINT).rstrip("/")
    if not found.startswith(("http://", "https://")):
        raise InputError(f"{ENDPOINT_VARIABLE} is '{found}': give an address such as {ENDPOINT}.")
    return found


def _repository_files(repo: str) -> tuple[RemoteFile, ...]:
    """Configuration and weights in the newest version of a repository, each with its checksum."""
    base = f"{_endpoint()}/api/models/{repo}"
    version = remote_json(f"{base}/revision/main")["sha"]
    entries = {entry["path"]: entry for entry in remote_json(f"{base}/tree/{quote(version)}")}
    weights = next((name for name in WEIGHT_FILES if name in entries), None)
    if weights is None or "config.json" not in entries:
        raise ValueError(f"{repo} holds no config.json with {' or '.join(WEIGHT_FILES)}")
    found: list[RemoteFile] = []
    for name in (weights, "config.json"):
        large = entries[name].get("lfs")
        url = f"{_endpoint()}/{repo}/resolve/{quote(version)}/{name}"
        sha256, git_object = (large["oid"], None) if large else (None, entries[name]["oid"])
        found.append(RemoteFile(name, url, int(entries[name]["size"]), sha256, git_object))
    return tuple(found)


def _fetched(job: Download) -> Path:
    """Fetch all files; a folder gets its name when it is complete."""
    if job.path.exists():
        raise InputError(f"{job.path} is there and is no model: move it away.")
    if job.model.repo is None:
        fetch(job.files[0], job.path)
        return job.path
    scratch = job.path.with_name(f".{job.path.name}.part")
    scratch.mkdir(exist_ok=True)
    for file in job.files:
        if not matches(file, scratch / file.name):
            fetch(file, scratch / file.name)
    for leftover in scratch.glob(".*.part*"):  # of a file that the repository has replaced by another
        leftover.unlink()
    scratch.rename(job.path)
    return job.path
