"""Metrics: pure functions, each registered with all properties that tables, plots and comparisons need."""

# isort: off
# Importing a module registers its metrics; their order is that of the tables.
from emotalking.evaluate.metrics import image
from emotalking.evaluate.metrics import lips
from emotalking.evaluate.metrics import expression
from emotalking.evaluate.metrics import identity
from emotalking.evaluate.metrics import steadiness

# isort: on
from emotalking.evaluate.metrics.base import METRICS, Better, Metric, MetricSpec, missing, per_frame, register, single

__all__ = [
    "METRICS",
    "Better",
    "Metric",
    "MetricSpec",
    "expression",
    "identity",
    "image",
    "lips",
    "missing",
    "per_frame",
    "register",
    "single",
    "steadiness",
]
