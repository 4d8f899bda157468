"""Reading what users bring: any failure is one sentence, and no more is made than a file can hold."""

import codecs
import json
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

from emotalking.errors import InputError

MOST_TEXT = 128 << 20
"""Bytes of a text file: the cameras of an hour take 40 MB."""
FASTEST_FPS = 1000
"""Frames per second that a file may state."""
_RATE_DIGITS = 40
"""Characters of a frame rate: Fraction("1e999999999") would be computed for ever."""
_PIECE = 1 << 20
_REASON = 160
"""Characters of a reason."""


@contextmanager
def reading(path: Path | str, trouble: str, remedy: str) -> Iterator[None]:
    """Any failure inside becomes one sentence: "PATH TROUBLE (reason): REMEDY."

    Parsers of damaged bytes can fail in any way (``ValueError``, ``zlib.error``, ``RecursionError``, ``MemoryError``,
    ``SystemError``), so every exception counts. An :class:`InputError` is a sentence already.

    Args:
        path: the file that is read.
        trouble: what a failure means, such as "is no landmark archive".
        remedy: what to do.

    Raises:
        InputError: the file is missing, cannot be read, or its content is unusable.
    """
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path} cannot be read (it is missing): {remedy}.") from error
    except IsADirectoryError as error:
        raise InputError(f"{path} is a folder: give a file.") from error
    except OSError as error:
        where = f"{path} cannot be read" if error.errno else f"{path} {trouble}"
        raise InputError(f"{where} ({reason(error)}): {remedy}.") from error
    except Exception as error:
        raise InputError(f"{path} {trouble} ({reason(error)}): {remedy}.") from error


def reason(error: BaseException) -> str:
    """An exception as the short reason of a sentence."""
    if strerror := getattr(error, "strerror", None):  # FFmpeg's errors have one, too
        return str(strerror)
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, MemoryError):
        return "more than the memory holds"
    try:
        text = f"no {error}" if isinstance(error, KeyError) else str(error)
    except ValueError:  # an integer of more digits than Python prints
        text = ""
    line = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    return line if len(line) <= _REASON else line[:_REASON] + "..."


def read_text(path: Path | str, most: int = MOST_TEXT) -> str:
    """A file as UTF-8 text, without the mark that some editors put before it, or as UTF-16 (spreadsheets).

    Raises:
        OSError: it is missing or cannot be read.
        ValueError: it is longer than ``most`` bytes (or has no end, as a device), or no UTF-8.
    """
    pieces, left = [], most + 1
    with Path(path).open("rb") as file:
        while left > 0 and (piece := file.read(min(left, _PIECE))):  # Python allocates all that it is asked for
            pieces.append(piece)
            left -= len(piece)
    if left <= 0:
        raise ValueError(f"longer than {most >> 20} MiB")
    data = b"".join(pieces)
    wide = (data.startswith(codecs.BOM_UTF16_LE) and data[3:4] == b"\0") or data.startswith(codecs.BOM_UTF16_BE + b"\0")
    return data.decode("utf-16" if wide else "utf-8-sig")


def parse_json(text: str, kind: type = object) -> Any:
    """A JSON value.

    Args:
        text: the JSON.
        kind: what its outermost value must be: ``dict``, ``list``, ``str``.

    Raises:
        ValueError, RecursionError: malformed, of another kind, or nested too deeply.
    """
    value = json.loads(text)
    if not isinstance(value, kind):
        wanted = {"dict": "object", "list": "list", "str": "text"}.get(kind.__name__, kind.__name__)
        raise ValueError(f"a JSON {type(value).__name__} instead of a JSON {wanted}")
    return value


def frame_rate(value: object) -> Fraction:
    """A frame rate as files state it: "25", "30000/1001", 29.97.

    Raises:
        ValueError: it is no number above 0 and up to `FASTEST_FPS`.
    """
    text = str(value) if isinstance(value, str | float | int | Fraction) and not isinstance(value, bool) else ""
    try:
        # The exponent is read as a float first, which has an end.
        usual = len(text) <= _RATE_DIGITS and ("/" in text or 0 < float(text) <= FASTEST_FPS)
        rate = Fraction(text) if usual else Fraction(0)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= FASTEST_FPS:
        raise ValueError(f"a frame rate of {str(value)[:_RATE_DIGITS]!r} instead of a number up to {FASTEST_FPS}")
    return rate
