"""Metrics: pure functions, each registered with all properties that tables, plots and comparisons need.

A new metric is one :func:`register` call in a module of this package; a new module also needs its name in the tuple
below, whose order is that of the tables. Nothing else lists metrics. A program of your own can register one, too.
"""

from importlib import import_module

from emotalking.evaluate.metrics.base import METRICS, Better, Metric, MetricSpec, missing, per_frame, register, single

for _module in ("image", "lips", "expression", "identity", "steadiness"):
    import_module(f"{__name__}.{_module}")

__all__ = ["METRICS", "Better", "Metric", "MetricSpec", "missing", "per_frame", "register", "single"]
