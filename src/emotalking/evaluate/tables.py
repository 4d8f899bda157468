"""Column heads of metrics; :class:`Table` is the page helper's."""

from emotalking.evaluate.metrics import METRICS
from emotalking.report import Table

__all__ = ["Table", "head"]


def head(name: str) -> str:
    """A metric's column head: title, unit, and an arrow that tells which way is better."""
    return METRICS[name].head
