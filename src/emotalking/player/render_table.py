"""Tables of videos to render: one row, one video."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from emotalking.emotion.circumplex import check_va
from emotalking.errors import InputError
from emotalking.io.reading import read_text, reading
from emotalking.io.tables import csv_rows, json_rows
from emotalking.io.video_writer import codec_for
from emotalking.player.protocols import Motion

COLUMNS = (
    "avatar",
    "output",
    "audio",
    "text",
    "language",
    "voice",
    "emotion",
    "valence",
    "arousal",
    "track",
    "background",
    "poses",
    "seconds",
    "seed",
)
"""Columns that a table may have; avatar, output and one of audio and text are needed."""
LOGS = "logs"
"""Folder of the logs in the folder of results."""
_EXAMPLE = '{"avatar": "anna.safetensors", "audio": "hello.wav", "emotion": "happy", "output": "anna_happy.mp4"}'
_MOST_TABLE = 64 << 20


@dataclass(frozen=True)
class Row:
    """A video to render; paths are absolute, all but ``output``. What is None has the default of ``render``."""

    avatar: Path
    output: str
    """Its name in the folder of results, with slashes where it lies in a folder there."""
    audio: Path | None = None
    text: str | None = None
    language: str | None = None
    voice: str | None = None
    emotion: str | None = None
    va: tuple[float, float] | None = None
    track: Path | None = None
    background: str | None = None
    poses: Motion | None = None
    seconds: float | None = None
    seed: int | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of ``render``."""
        return {name: value for name, value in asdict(self).items() if value is not None and name != "output"}

    @property
    def files(self) -> list[Path]:
        """Files that it is made from."""
        background = None if self.background is None else Path(self.background)
        named = (self.avatar, self.audio, self.track, background)
        return [path for path in named if path is not None and path.is_file()]


def read_table(path: Path) -> list[Row]:
    """Read a .csv or .json table with the columns :data:`COLUMNS`.

    Names of files are relative to the table's folder, those of outputs to the folder of results.

    Raises:
        InputError: naming file and line (JSON: entry) of anything malformed.
    """
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".json"):
        raise InputError(f"{path}: a table of videos must be a .csv or .json file.")
    with reading(path, "is not a table of videos in UTF-8", "write it again"):
        text = read_text(path, _MOST_TABLE)
        found = csv_rows(path, text, _check_columns) if suffix == ".csv" else json_rows(path, text, "video", _EXAMPLE)
    rows: list[Row] = []
    outputs: dict[str, str] = {}
    for where, cells in found:
        _check_columns(list(cells), where)
        row = _row(cells, where, path.absolute().parent)
        if (other := outputs.setdefault(row.output.casefold(), where)) is not where:
            raise InputError(f"{where}: the output '{row.output}' is that of {other}, too: give each its own name.")
        rows.append(row)
    if not rows:
        raise InputError(f"{path}: the table has no rows.")
    return rows


def _check_columns(columns: Sequence[str], where: str) -> None:
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown:
        raise InputError(f"{where}: there is no column '{unknown[0][:40]}': there are {', '.join(COLUMNS)}.")


def _row(cells: dict[str, Any], where: str, folder: Path) -> Row:
    given = {name: value for name, value in cells.items() if value not in (None, "")}
    for name in ("avatar", "output"):
        if name not in given:
            raise InputError(f"{where}: the {name} is missing.")
    if ("audio" in given) == ("text" in given):
        raise InputError(f"{where}: give one of audio and text.")
    if ("valence" in given) != ("arousal" in given):
        raise InputError(f"{where}: give both valence and arousal.")
    if sum(("emotion" in given, "valence" in given, "track" in given)) > 1:
        raise InputError(f"{where}: give one of emotion, valence with arousal, and track.")
    values: dict[str, Any] = {
        name: str(given[name]) for name in ("text", "language", "voice", "emotion") if name in given
    }
    values |= {name: folder / str(given[name]) for name in ("avatar", "audio", "track") if name in given}
    if "valence" in given:
        valence, arousal = (_number(given[name], where, name) for name in ("valence", "arousal"))
        values["va"] = check_va(valence, arousal, where)
    if "background" in given:
        image = folder / str(given["background"])
        values["background"] = str(image if image.is_file() else given["background"])
    if "poses" in given:
        if given["poses"] not in get_args(Motion):
            raise InputError(f"{where}: poses '{str(given['poses'])[:40]}': give {', '.join(get_args(Motion))}.")
        values["poses"] = given["poses"]
    if "seconds" in given:
        values["seconds"] = _number(given["seconds"], where, "seconds")
    if "seed" in given:
        values["seed"] = round(_number(given["seed"], where, "seed"))
    return Row(output=_output(str(given["output"]), where, values.get("background")), **values)


def _output(name: str, where: str, background: str | None) -> str:
    """A name within the folder of results."""
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in name or parts.parts[:1] == (LOGS,) or not parts.name:
        raise InputError(f"{where}: the output '{name}' must be a name within the folder of results, not in {LOGS}.")
    try:
        codec_for(Path(parts), background == "transparent")
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return str(parts)


def _number(value: object, where: str, name: str) -> float:
    try:
        number = float(value.replace(",", ".") if isinstance(value, str) else value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        shown = " ".join(str(value).split())[:40]
        raise InputError(f"{where}: {name} '{shown}' is not a number.")
    return number
