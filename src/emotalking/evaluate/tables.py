"""Column heads of metrics; :class:`Table` is the page helper's."""

from emotalking.evaluate.metric import METRICS
from emotalking.report import Table

__all__ = ["Table", "head"]
_ARROWS = {"higher": " ↑", "lower": " ↓", "none": ""}


def head(name: str) -> str:
    """A metric's column head: title, unit, and an arrow that tells which way is better."""
    kind = METRICS[name]
    return f"{kind.title}{f' [{kind.unit}]' if kind.unit else ''}{_ARROWS[kind.better]}"
