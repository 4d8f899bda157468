"""Tables that users write: CSV as spreadsheets make it, or a JSON list of objects."""

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from emotalking.errors import InputError

NamedRows = list[tuple[str, dict[str, Any]]]
"""NamedRows with where each is, for messages."""


def csv_rows(path: Path, text: str, check_header: Callable[[Sequence[str], str], None]) -> NamedRows:
    """NamedRows of a table with commas, semicolons or tabs; names of columns in lower case, without units in brackets.

    Args:
        path: of the file, for messages.
        text: its content.
        check_header: called with the names of the columns and where they are; raises InputError.

    Raises:
        InputError: naming file and line of anything malformed.
    """
    reader = csv.reader(io.StringIO(text), delimiter=_delimiter(text))
    header: list[str] | None = None
    rows: NamedRows = []
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if not any(cells) or cells[0].startswith("#") or cells[0].lower().startswith("sep="):
                continue
            where = f"{path} line {reader.line_num}"
            if header is None:
                while not cells[-1]:
                    cells.pop()
                header = [re.sub(r"\s*[(\[].*", "", cell.lower()) for cell in cells]
                check_header(header, where)
                if len(set(header)) != len(header):
                    raise InputError(f"{where}: a column is named twice")
                continue
            while len(cells) > len(header) and not cells[-1]:
                cells.pop()
            if len(cells) != len(header):
                raise InputError(f"{where}: {len(cells)} columns where the header has {len(header)}")
            rows.append((where, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise InputError(f"{path} line {reader.line_num}: {error}") from None
    return rows


def _delimiter(text: str) -> str:
    """Character between the columns: the one that the first line of the table has most of."""
    lines = (line for line in text.splitlines() if line.strip() and not line.lstrip().startswith(("#", "sep=", "SEP=")))
    header = next(lines, "")
    return max(",;\t", key=header.count)


def json_rows(path: Path, text: str, what: str, example: str) -> NamedRows:
    """Objects of a JSON list.

    Args:
        path: of the file, for messages.
        text: its content.
        what: what an object is.
        example: one of them.

    Raises:
        InputError: it is something else.
    """
    try:
        data = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        line = f" line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise InputError(f"{path}{line}: not valid JSON") from None
    if not isinstance(data, list):
        raise InputError(f"{path}: expected a list of {what}s such as [{example}]")
    rows: NamedRows = []
    for index, item in enumerate(data, 1):
        where = f"{path} {what} {index}"
        if not isinstance(item, dict):
            raise InputError(f"{where}: expected an object such as {example}")
        rows.append((where, item))
    return rows
