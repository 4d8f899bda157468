"""Emotion over time: constant, or keyframes from a CSV or JSON file, smoothly interpolated."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from emotalking.emotion.circumplex import PRESETS, check_va, preset
from emotalking.errors import InputError
from emotalking.io.files import write_bytes
from emotalking.io.reading import read_text, reading, reason
from emotalking.io.tables import csv_rows, json_rows

_MOST_TRACK = 16 << 20
"""Bytes of a keyframe file."""
_LONGEST_S = 1e6
"""Latest time of a keyframe."""


@dataclass(frozen=True)
class EmotionTrack:
    """Valence and arousal as a function of time.

    Between keyframes the curve is a monotone cubic (Fritsch and Carlson 1980): smooth, exact at the keyframes and never
    beyond the two keyframes around it. Before the first and after the last keyframe their values hold.
    """

    times: Float[np.ndarray, " n"]
    """Keyframe times in seconds, strictly increasing."""
    values: Float[np.ndarray, "n 2"]
    """Valence and arousal at the keyframes, in [-1, 1]."""

    def __post_init__(self) -> None:
        if len(self.times) == 0 or self.times.ndim != 1 or self.values.shape != (len(self.times), 2):
            raise ValueError(f"times [n] and values [n, 2] expected, got {self.times.shape} and {self.values.shape}")
        if not np.isfinite(self.times).all() or (np.diff(self.times) <= 0).any():
            raise ValueError("times must be finite and strictly increasing")
        if not (np.abs(self.values) <= 1).all():
            raise ValueError("values must lie in [-1, 1]")

    def at(self, times_s: Float[np.ndarray, " T"]) -> Float[np.ndarray, "T 2"]:
        """Valence and arousal at the given times.

        Args:
            times_s: seconds, any order.

        Returns:
            float32, in [-1, 1].
        """
        if len(self.times) == 1:
            return np.repeat(self.values, len(times_s), axis=0).astype(np.float32)
        # Here, because loading it takes a twentieth of the time to the first frame.
        from scipy.interpolate import PchipInterpolator

        # One more keyframe on each side makes the curve smooth at its constant ends.
        times = np.concatenate([self.times[:1] - 1, self.times, self.times[-1:] + 1])
        values = np.concatenate([self.values[:1], self.values, self.values[-1:]])
        clamped = np.clip(times_s, times[0], times[-1])
        return np.clip(PchipInterpolator(times, values)(clamped), -1, 1).astype(np.float32)

    @classmethod
    def constant(cls, valence: float, arousal: float) -> "EmotionTrack":
        """One emotion for all time.

        Raises:
            InputError: if a value is outside [-1, 1].
        """
        return cls(np.zeros(1), np.array([check_va(valence, arousal)]))

    @classmethod
    def tour(cls, names: Sequence[str], seconds: float) -> "EmotionTrack":
        """Named emotions one after another, each held for as long as it changes to the next."""
        times = np.linspace(0.0, seconds, len(names) * 2)
        return cls(times, np.repeat([preset(name) for name in names], 2, axis=0))

    @classmethod
    def from_text(cls, text: str) -> "EmotionTrack":
        """A constant track from ``"happy"``, ``"happy:0.5"`` (half as strong) or ``"0.6,0.4"``.

        Raises:
            InputError: if the text is none of these.
        """
        if "," in text:
            return cls.constant(*parse_pair(text))
        if not isinstance(text, str):
            raise TypeError(f"emotion must be a name such as 'happy' or 'happy:0.5', not {text!r}: give numbers as va")
        return cls.constant(*_named(text))

    @classmethod
    def from_file(cls, path: Path) -> "EmotionTrack":
        """Keyframes from a file.

        CSV needs a header with ``time,valence,arousal`` or ``time,emotion``; JSON is a list of objects with the same
        keys. Times are seconds, an emotion is a name with or without a strength ("happy:0.5"). Tables of spreadsheets
        are read too: semicolons or tabs, decimal commas, empty last columns, UTF-16.

        Raises:
            InputError: naming file and line (JSON: entry) of anything malformed.
        """
        return cls(*_keyframes(Path(path), "emotion", _check_header, _keyframe, '{"time": 0, "emotion": "happy"}'))

    def write(self, path: Path) -> None:
        """Write the keyframes as CSV, which :meth:`from_file` reads."""
        rows = np.column_stack([self.times, self.values])
        lines = ["time,valence,arousal", *(",".join(f"{number:.4f}" for number in row) for row in rows)]
        write_bytes(path, ("\n".join(lines) + "\n").encode())


def gaze_track(gaze: str | Path | tuple[float | int, float | int] | EmotionTrack) -> EmotionTrack | None:
    """Where the eyes look over time, x to the viewer's right and y up, each in [-1, 1]; None: as recorded.

    Args:
        gaze: "recorded"; "camera", which is (0, 0); x and y, also as text ("0.5,-0.2"); a .csv or .json file of
            keyframes (time, x, y), read as :meth:`EmotionTrack.from_file` does; or a track of x and y.

    Raises:
        InputError: none of these, or malformed.
    """
    if isinstance(gaze, EmotionTrack):
        return gaze
    if gaze == "recorded":
        return None
    if isinstance(gaze, str | Path):
        if Path(gaze).suffix.lower() in (".csv", ".json"):
            return EmotionTrack(
                *_keyframes(Path(gaze), "gaze", _check_look_header, _look, '{"time": 0, "x": 0, "y": 0}')
            )
        parts = ["0", "0"] if gaze == "camera" else str(gaze).split(",")
        if len(parts) != 2:
            raise InputError(
                f'gaze "{gaze}": give recorded, camera, two numbers such as 0.5,-0.2, or a .csv or .json file'
            )
        gaze = _number(parts[0], f'gaze "{gaze}"', "x"), _number(parts[1], f'gaze "{gaze}"', "y")
    return EmotionTrack(np.zeros(1), np.array([_in_reach(*gaze, f"gaze {gaze[0]:g},{gaze[1]:g}")], np.float64))


def emotion_track(
    emotion: str | None = None,
    va: tuple[float | int, float | int] | None = None,
    track: str | Path | EmotionTrack | None = None,
) -> EmotionTrack | None:
    """The emotion that at most one of three options gives; None without one.

    Args:
        emotion: a preset's name, with an optional strength.
        va: valence and arousal.
        track: keyframe file, or a track.

    Raises:
        InputError: more than one is given, or the one given is malformed.
    """
    if sum(option is not None for option in (emotion, va, track)) > 1:
        raise InputError("give only one of emotion, va and track.")
    if emotion is not None:
        return EmotionTrack.from_text(emotion)
    if va is not None:
        return EmotionTrack.constant(*va)
    return EmotionTrack.from_file(Path(track)) if isinstance(track, str | Path) else track


def heard_gain(emotion: str | None) -> float | None:
    """Strength of ``"auto"`` or ``"auto:2"``, the emotion that is heard in the voice; None: another emotion.

    Raises:
        InputError: the strength is no number of at least 0.
    """
    name, colon, strength = (emotion or "").partition(":")
    if name.strip().lower() != "auto":
        return None
    gain = _number(_decimal_point(strength.strip()), f'emotion "{emotion}"', "strength") if colon else 1.0
    if gain < 0:
        raise InputError(f'emotion "{emotion}": the strength must be at least 0; 1 is normal')
    return gain


def parse_pair(text: str) -> tuple[float, float]:
    """The numbers of ``"valence,arousal"``.

    Raises:
        InputError: malformed, or out of [-1, 1].
    """
    parts = text.split(",")
    where = f'"{text}"'
    if len(parts) != 2:
        raise InputError(f'{where} is not "valence,arousal", two numbers such as 0.6,0.4')
    return check_va(_number(parts[0], where, "valence"), _number(parts[1], where, "arousal"), where)


def _named(text: str, where: str | None = None) -> tuple[float, float]:
    """Valence and arousal of ``"happy"`` or ``"happy:0.5"``; ``where`` names the place in messages."""
    name, colon, strength = text.partition(":")
    if where is not None and name.strip().lower() not in PRESETS:
        raise InputError(f'{where}: unknown emotion "{name[:40]}": use one of {", ".join(PRESETS)}')
    valence, arousal = preset(name)
    if not colon:
        return valence, arousal
    where = f'emotion "{text}"' if where is None else where
    factor = _number(_decimal_point(strength.strip()), where, "strength")
    if not 0 <= factor <= 1:
        raise InputError(f"{where}: the strength must lie between 0 and 1")
    return factor * valence, factor * arousal


def _number(value: Any, where: str, name: str) -> float:
    """A finite float, or one sentence."""
    try:
        if isinstance(value, bool):
            raise ValueError
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        shown = "" if value is None else repr(value) if not isinstance(value, str) else " ".join(value.split())
        raise InputError(f'{where}: {name} "{shown[:40]}" is not a number') from None
    if not math.isfinite(number):
        raise InputError(f"{where}: {name} must be a finite number")
    return number


def _decimal_point(cell: str) -> str:
    """A number with a decimal comma ("0,5") with a point; any other cell as it is."""
    return cell.replace(",", ".") if re.fullmatch(r"[+-]?\d*,\d+", cell) else cell


def _keyframes(
    path: Path,
    kind: str,
    check_header: Callable[[Sequence[str], str], None],
    keyframe: Callable[[dict[str, Any], str], tuple[float, float, float]],
    example: str,
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n 2"]]:
    """Times and values of a file of keyframes, in order.

    Args:
        kind: of track, for messages.
        check_header: of a CSV table; raises InputError.
        keyframe: reads a row.
        example: a JSON entry.
    """
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".json"):
        raise InputError(f"{path}: a track of {kind} must be a .csv or .json file")
    with reading(path, f"is not a track of {kind} in UTF-8", "write it again"):
        try:
            text = read_text(path, _MOST_TRACK)
        except OSError as error:
            raise InputError(f"cannot read the track of {kind} {path}: {reason(error)}") from error
        if suffix == ".csv":
            rows = [
                (where, {name: _decimal_point(cell) for name, cell in row.items()})
                for where, row in csv_rows(path, text, check_header)
            ]
        else:
            rows = json_rows(path, text, "keyframe", example)
    if not rows:
        raise InputError(f"{path}: the track of {kind} has no keyframes")
    keys = [keyframe(row, where) for where, row in rows]
    for (where, _), before, now in zip(rows[1:], keys, keys[1:], strict=False):
        if now[0] <= before[0]:
            raise InputError(f"{where}: time {now[0]:g} does not follow {before[0]:g}; sort the keyframes")
    data = np.array(keys, np.float64)
    return data[:, 0], data[:, 1:]


def _check_look_header(header: Sequence[str], where: str) -> None:
    if not {"time", "x", "y"} <= set(header):
        raise InputError(f"{where}: the header must be time,x,y")


def _look(row: dict[str, Any], where: str) -> tuple[float, float, float]:
    if unknown := set(row) - {"time", "x", "y"}:
        raise InputError(f"{where}: unknown field {min(unknown)[:40]!r}; use time, x and y")
    x, y = (_number(row.get(key), where, key) for key in ("x", "y"))
    return (_time(row, where), *_in_reach(x, y, where))


def _in_reach(x: float, y: float, where: str) -> tuple[float, float]:
    if not (abs(x) <= 1 and abs(y) <= 1):
        raise InputError(f"{where}: x and y must lie between -1 and 1 (0,0 is the camera)")
    return x, y


def _time(row: dict[str, Any], where: str) -> float:
    """Time of a keyframe, seconds."""
    time = _number(row.get("time"), where, "time")
    if time > _LONGEST_S:
        raise InputError(f"{where}: time {time:g} is more than {_LONGEST_S:g} s, which no recording lasts")
    if time < 0:
        raise InputError(f"{where}: time {time:g} is negative; times are seconds from the start")
    return time


def _check_header(header: Sequence[str], where: str) -> None:
    if "time" not in header or not ({"valence", "arousal"} <= set(header) or "emotion" in header):
        raise InputError(f"{where}: the header must be time,valence,arousal or time,emotion")


def _keyframe(row: dict[str, Any], where: str) -> tuple[float, float, float]:
    unknown = set(row) - {"time", "valence", "arousal", "emotion"}
    if unknown:
        name = min(unknown)[:40]
        raise InputError(f"{where}: unknown field {name!r}; use time with valence, arousal or emotion")
    time = _time(row, where)
    name = row.get("emotion")
    if name not in (None, ""):
        if row.get("valence") not in (None, "") or row.get("arousal") not in (None, ""):
            raise InputError(f"{where}: give either an emotion or valence and arousal, not both")
        return (time, *_named(str(name), where))
    valence, arousal = (_number(row.get(key), where, key) for key in ("valence", "arousal"))
    return (time, *check_va(valence, arousal, where))
