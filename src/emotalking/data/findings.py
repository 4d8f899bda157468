"""Findings about a subject folder."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int

Severity = Literal["error", "warning", "note"]
"""error: training (or the other program's loader) stops on it; warning: the result suffers; note: good to know."""


@dataclass(frozen=True)
class Finding:
    """Something missing or unusual, with a remedy."""

    severity: Severity
    where: str
    """File or family of files, relative to the folder."""
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.where}: {self.what}; {self.remedy}"


def ranges(numbers: Iterable[int] | Int[np.ndarray, " n"], most: int = 5) -> str:
    """Frame numbers as short text, such as "3, 7-9, ...": at most ``most`` runs."""
    ordered = np.unique(np.array(list(numbers), np.int64))
    runs = np.split(ordered, np.flatnonzero(np.diff(ordered) > 1) + 1)
    texts = [f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs[:most] if len(run)]
    return ", ".join(texts + (["..."] if len(runs) > most else []))
