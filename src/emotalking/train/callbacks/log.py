"""The run's own record, one JSON object a line: the one source of the page and the TensorBoard events.

Every row has a ``kind``:

| kind | when | what |
|---|---|---|
| `run` | training begins or goes on | settings, preset, machine, versions, licences, the fixed frames |
| `stage` | a stage begins | its length and the limits that :mod:`emotalking.train.callbacks.warnings` needs |
| `step` | every few iterations | mean loss and terms, rates, Gaussians, speed, memory |
| `frames` | some times a stage | metrics of the preview frames, and the file of their image |
| `warning` | a failure is suspected | one sentence |
| `end` | training stops | `finished`, `interrupted` or `failed`, and why |
"""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from emotalking.errors import UserError
from emotalking.io.files import write_bytes

_logger = logging.getLogger(__name__)

LOG = "log.jsonl"
"""Name of the record in the run folder."""
Row = dict[str, Any]
"""One line."""


class RunLog:
    """Rows in memory and, each at once, on disk.

    Args:
        folder: run folder, created if missing.
        resume: the stage's name and its iterations that a checkpoint holds; None begins a new record. Rows
            after the checkpoint are removed, as they will be written again: every curve stays one line.
        external_branch: "face" or "mouth", if another process trains it: its Gaussians here are not the run's, and the
            curves of its stage are copied again in full from the record of that process.
        limits: of each stage, more for its `stage` row (:func:`emotalking.train.callbacks.warnings.limits`).

    Raises:
        UserError: the record cannot be read or written.
    """

    def __init__(
        self,
        folder: Path,
        resume: tuple[str, int] | None = None,
        external_branch: str | None = None,
        limits: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._path = folder / LOG
        self._limits = limits or {}
        self.external_branch = external_branch
        self.listeners: list[Callable[[Row], None]] = []
        """Called with each row that is added."""
        self.rows: list[Row] = []
        """All rows, oldest first."""
        if resume is not None and self._path.exists():
            mirrored = {("step", external_branch), ("frames", external_branch)}
            kept = until(read_log(self._path), *resume)
            self.rows = [row for row in kept if (row["kind"], row.get("stage")) not in mirrored]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_bytes(self._path, "".join(_line(row) for row in self.rows).encode())
        except OSError as error:
            raise self._unwritable(error) from error

    def add(self, kind: str, **values: Any) -> Row:
        """Write a row.

        Raises:
            UserError: the disk is full or the folder gone.
        """
        row = {"kind": kind} | values
        try:
            with self._path.open("a") as file:
                file.write(_line(row))
        except OSError as error:
            raise self._unwritable(error) from error
        self.rows.append(row)
        for listener in self.listeners:
            listener(row)
        return row

    def announce(self, stage: str, iterations: int) -> None:
        """Add the `stage` row, once; the order of these rows is that of the run's one axis of iterations."""
        if not of_kind(self.rows, "stage", stage):
            self.add("stage", stage=stage, iterations=iterations, **self._limits.get(stage, {}))

    def warn(self, name: str, text: str, stage: str, iteration: int) -> None:
        """Add a `warning` row and log it, once a stage."""
        if not any(row["name"] == name for row in of_kind(self.rows, "warning", stage)):
            self.add("warning", name=name, stage=stage, iteration=iteration, text=text)
            _logger.warning("%s", text)

    def mirror(self, row: Row) -> None:
        """Copy a row of the record of another process, if it is about the stage that is trained there."""
        if row["kind"] == "warning":
            self.warn(row["name"], row["text"], row["stage"], row["iteration"])
        elif row["kind"] in ("step", "frames"):
            self.add(**row)

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(f"The run's record {self._path} cannot be written ({error}): free some space and resume.")


def _line(row: Row) -> str:
    return json.dumps(row) + "\n"


def read_log(path: Path) -> list[Row]:
    """The rows of a record; a last line that was cut off by a crash is left out.

    Raises:
        UserError: there is none, or it is not one of this version's.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The run's record {path} cannot be read ({error}): name the folder of a run.") from error
    rows: list[Row] = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines) and not line.endswith("\n"):
                break
            raise UserError(f"Line {number} of {path} is damaged: remove that line.") from error
        if not isinstance(row, dict) or "kind" not in row:
            raise UserError(f"{path} was written by another version of emotalking: train again.")
        rows.append(row)
    return rows


def until(rows: list[Row], stage: str, iteration: int) -> list[Row]:
    """``rows`` without those after ``iteration`` of ``stage``; beginnings and ends of the run are kept."""
    kept: list[Row] = []
    beyond = False
    for row in rows:
        beyond = beyond or (row.get("stage") == stage and row["kind"] != "stage" and row["iteration"] > iteration)
        if not beyond or row["kind"] in ("run", "end"):
            kept.append(row)
    return kept


def of_kind(rows: list[Row], kind: str, stage: str | None = None) -> list[Row]:
    """Rows of a kind, of one stage or of all."""
    return [row for row in rows if row["kind"] == kind and stage in (None, row.get("stage"))]
