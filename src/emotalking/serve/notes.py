"""Small JSON files that the server keeps beside clips."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_LARGEST_NUMBER = 1e15
"""Of bytes, and of seconds since 1970."""


def is_note(told: dict[str, Any]) -> bool:
    """True for what ``serve.jobs`` writes about a clip."""
    if not told or not isinstance(told["name"], str) or not isinstance(told["done"], dict):
        return False
    numbers = (told["bytes"], told["uploaded"], *told["done"].values())
    return all(isinstance(number, int | float) and 0 <= number < _LARGEST_NUMBER for number in numbers)


def read_entries(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """These entries of a file of our own; empty if it is not there or damaged."""
    try:
        content = json.loads(path.read_bytes())
        return {name: content[name] for name in names}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
