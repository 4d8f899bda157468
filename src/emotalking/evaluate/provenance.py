"""Provenance of a report: code, packages, machine, command and a fingerprint of the data."""

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

import emotalking
from emotalking.data import Subject
from emotalking.data.frame import to_runs
from emotalking.errors import InputError
from emotalking.networks.registry import sha256_of

PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "opencv-python-headless",
    "av",
    "gsplat",
    "safetensors",
    "soundfile",
    "soxr",
    "transformers",
)
"""Packages whose versions can change a metric; those that are not installed are omitted."""


def provenance(subject: Subject, avatar: Path | None = None, command: str = "") -> dict[str, Any]:
    """Everything that a reader needs to reproduce a report, as plain values ready for JSON.

    Args:
        subject: what was measured against.
        avatar: the avatar file that was measured, if one was.
        command: how the report was made.

    Returns:
        `code` (version, commit), `packages`, `machine`, `command`, `data` (clip, splits) and `avatar`.

    Raises:
        InputError: a target frame or the avatar file cannot be read.
    """
    return {
        "code": code(),
        "packages": packages(),
        "machine": machine(),
        "command": command,
        "data": data(subject),
        "avatar": None if avatar is None else {"file": avatar.name, "sha256": file_sha256(avatar)},
    }


def code() -> dict[str, Any]:
    """Version of this package, and the commit where it runs from a git checkout of its own (else None)."""
    # A package installed inside another repository must not report that repository's commit.
    ours = _git("ls-files", "--error-unmatch", "__init__.py") is not None
    changes = _git("status", "--porcelain", "--untracked-files=no") if ours else None
    return {
        "version": emotalking.__version__,
        "commit": _git("rev-parse", "HEAD") if ours else None,
        "uncommitted_changes": bool(changes),
    }


def packages() -> dict[str, str]:
    """Versions of Python and of the installed packages among :data:`PACKAGES`."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def machine() -> dict[str, Any]:
    """CPU, cores, threads of torch, GPU and system; nothing that names the very machine."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.system(),
    }


def data(subject: Subject) -> dict[str, Any]:
    """Fingerprint of a subject: the clip it was made from, and both splits.

    The splits are contiguous and disjoint in folders of ``emotalking prepare``; `disjoint` states it for this one.
    """
    manifest = subject.manifest
    clip = manifest.get("clip") if isinstance(manifest.get("clip"), dict) else None
    return {
        "clip": clip,
        "frames": subject.num_frames,
        "fps": str(subject.fps),
        "size": [subject.width, subject.height],
        "train": split(subject, subject.train_indices),
        "val": split(subject, subject.val_indices),
        "disjoint": not np.intersect1d(subject.train_indices, subject.val_indices).size,
    }


def split(subject: Subject, indices: Int[np.ndarray, " F"]) -> dict[str, Any]:
    """Frames of a split with two SHA-256 sums.

    Returns:
        `frames` (runs such as "0-1616"), `count`, `contiguous`, `numbers_sha256` over the frame numbers (little-endian
        64-bit, in order), and `targets_sha256` over the sums of *all* its target images' files, in order. Files, not
        decoded pixels: JPEG decoders may differ by a level, and the same file gives the same pixels on one machine.
    """
    numbers = np.asarray(indices, "<i8")
    targets = hashlib.sha256()
    for index in numbers:
        targets.update(bytes.fromhex(file_sha256(subject.files.target(int(index)))))
    return {
        "frames": to_runs(numbers),
        "count": len(numbers),
        "contiguous": bool((np.diff(numbers) == 1).all()),
        "numbers_sha256": hashlib.sha256(numbers.tobytes()).hexdigest(),
        "targets_sha256": targets.hexdigest(),
        "targets_hashed": "every file",
    }


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read in pieces.

    Raises:
        InputError: it is missing or cannot be read.
    """
    try:
        return sha256_of(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): the report needs its hash.") from error


def facts_sha256(facts: Mapping[str, object]) -> str:
    """Hash of facts, whatever their order: what is of the same facts is not made again."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def source_sha256() -> str:
    """Hash of this package's modules: results of another source are not reused."""
    root = Path(emotalking.__file__).parent
    sums = [file_sha256(path) for path in sorted(root.rglob("*.py"))]
    return hashlib.sha256("".join(sums).encode()).hexdigest()


def _git(*arguments: str) -> str | None:
    """Output of git in the folder of the package; None if it fails or is not installed."""
    command: Sequence[str] = ("git", "-C", str(Path(emotalking.__file__).parent), *arguments)
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout.strip() if run.returncode == 0 else None


def _processor() -> str:
    """Name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    named = (text.split(":", 1)[1].strip() for text in lines if text.startswith("model name"))
    return next(named, platform.processor())
