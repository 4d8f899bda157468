"""Rows of a run's record as read from disk: each has what readers use of its kind, in the kinds they expect."""

from pathlib import Path, PurePosixPath
from typing import Any

from emotalking.errors import InputError
from emotalking.io.reading import parse_json, read_text, reason

_NUMBER = (int, float)
_VALUES: dict[str, type | tuple[type, ...]] = {
    "stage": str,
    "iteration": int,
    "iterations": int,
    "loss": _NUMBER,
    "seconds": _NUMBER,
    "steps_per_second": _NUMBER,
    "psnr": _NUMBER,
    "psnr_mouth": _NUMBER,
    "name": str,
    "text": str,
    "outcome": str,
    "why": str,
    "time": str,
    "command": str,
    "subject": str,
    "image": str,
    "picture": str,
    "settings": dict,
    "machine": dict,
    "licences": dict,
    "frames": dict,
    "terms": dict,
    "raw": dict,
    "rates": dict,
    "gaussians": dict,
    "memory": dict,
}
"""Kinds of values, where a row has them."""
_OF_NUMBERS = ("terms", "raw", "rates", "gaussians", "memory")
_NEEDED = {
    "stage": ("stage", "iterations"),
    "step": ("stage", "iteration"),
    "frames": ("stage", "iteration"),
    "warning": ("stage", "iteration", "name", "text"),
    "end": ("outcome",),
}
_MOST_ITERATIONS = 10**9


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a record; a last line that was cut off by a crash is left out.

    Raises:
        InputError: there is none, or it is not one of this version's.
    """
    try:
        lines = read_text(path).splitlines(keepends=True)
    except (OSError, ValueError, MemoryError) as error:
        raise InputError(
            f"The run's record {path} cannot be read ({reason(error)}): name the folder of a run."
        ) from error
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            row = parse_json(line)
        except (ValueError, RecursionError) as error:
            if number == len(lines) and not line.endswith("\n"):
                break
            raise InputError(f"Line {number} of {path} is damaged: remove that line.") from error
        if not isinstance(row, dict) or "kind" not in row:
            raise InputError(f"{path} was written by another version of emotalking: train again.")
        if trouble := _trouble(row):
            raise InputError(f"Line {number} of {path} is damaged ({trouble}): remove that line.")
        rows.append(row)
    return rows


def _trouble(row: dict[str, Any]) -> str:
    """What is wrong with a row; empty: nothing."""
    for name in _NEEDED.get(str(row["kind"]), ()):
        if name not in row:
            return f"no '{name}'"
    for name, value in row.items():
        kind = _VALUES.get(name)
        if kind is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            return f"'{name}' is a {type(value).__name__}"
    for name in _OF_NUMBERS:
        if not all(isinstance(value, _NUMBER) for value in row.get(name, {}).values()):
            return f"'{name}' holds more than numbers"
    for name in ("iteration", "iterations"):
        if not 0 <= row.get(name, 0) <= _MOST_ITERATIONS:
            return f"'{name}' is {str(row[name])[:20]}"
    for name in ("image", "picture"):
        image = PurePosixPath(row.get(name, ""))
        if image.is_absolute() or ".." in image.parts:
            return f"'{name}' leaves the run's folder"
    return ""
