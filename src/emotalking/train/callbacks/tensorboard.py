"""TensorBoard events of a run's record: an optional view of it, never its source."""

import importlib.util
import math
from pathlib import Path

from emotalking.errors import MissingPackageError
from emotalking.io.images import read_image
from emotalking.train.callbacks.log import Row

FOLDER = "tensorboard"
"""Folder of the events in the run folder."""


def require_writer() -> None:
    """Raise UserError if tensorboardX is not installed."""
    if importlib.util.find_spec("tensorboardX") is None:
        raise MissingPackageError(
            "TensorBoard events need tensorboardX, which is not installed: pip install 'emotalking[tensorboard]'."
        )


class EventFiles:
    """Listener of a record (:attr:`RunLog.listeners`) that writes its rows as events.

    All events are rewritten from the full record when a run begins or resumes, so that a resumed run's curves have
    neither gaps nor loops.

    Args:
        folder: run folder; the events go into :data:`FOLDER` in it.
        rows: the record so far.

    Raises:
        UserError: the package tensorboardX is missing.
    """

    def __init__(self, folder: Path, rows: list[Row]) -> None:
        require_writer()
        from tensorboardX import SummaryWriter

        self._folder = folder
        for old in (folder / FOLDER).glob("events.*"):
            old.unlink()
        self._writer = SummaryWriter(str(folder / FOLDER), flush_secs=10)
        self._begins: dict[str, int] = {}
        self._next = 0
        for row in rows:
            self(row)

    def __call__(self, row: Row) -> None:
        """Write ``row``; kinds without curves are texts, or nothing."""
        kind = row["kind"]
        if kind == "stage":
            self._begins[row["stage"]] = self._next
            self._next += row["iterations"]
        elif kind in ("step", "frames"):
            at = self._begins[row["stage"]] + row["iteration"]
            for name, value in scalars(row).items():
                self._writer.add_scalar(name, value, at)
            if kind == "frames":
                image = self._folder / row["picture"]
                if image.exists():
                    name = f"fixed_frames/{row['stage']}"
                    self._writer.add_image(name, read_image(image), at, dataformats="HWC")
        elif kind == "warning":
            at = self._begins[row["stage"]] + row["iteration"]
            self._writer.add_text(f"warning/{row['stage']}", row["text"], at)
        elif kind == "end":
            self._writer.flush()

    def close(self) -> None:
        """Bring everything to disk."""
        self._writer.close()


def scalars(row: Row) -> dict[str, float]:
    """A `step` or `frames` row as curves by name: ``group/stage/what``."""
    stage = row["stage"]
    if row["kind"] == "frames":
        plain = {k: v for k, v in row.items() if isinstance(v, int | float) and k not in ("iteration", "seconds")}
        return {f"fixed_frames/{stage}/{name}": float(value) for name, value in plain.items()}
    found = {f"loss/{stage}/total": row["loss"], f"speed/{stage}/steps_per_second": row["steps_per_second"]}
    groups = {"loss": "terms", "raw": "raw", "rate": "rates", "memory_MiB": "memory"}
    for group, key in groups.items():
        found |= {f"{group}/{stage}/{name}": value for name, value in row[key].items()}
    found |= {f"gaussians/{branch}": count for branch, count in row["gaussians"].items()}
    found |= {f"gaussians/{stage}/{name}": row[name] for name in ("grown", "pruned") if name in row}
    return {name: float(value) for name, value in found.items() if math.isfinite(value)}
