"""Error of the emotion models themselves: no avatar can score better than the model that reads it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from emotalking.evaluate.metrics import METRICS, Metric

DATA = "estimator_error.json"
"""File next to this module, read by :func:`measured`."""
THE_MODEL = "the emotion model itself"
"""Name of its row or column in the tables."""
NAMES = tuple(name for name, spec in METRICS.items() if "emotion_model" in spec.needs)
"""Metrics that an emotion model measures."""


@dataclass(frozen=True)
class EstimatorError:
    """The metrics of faces that showed exactly what was commanded."""

    metrics: Mapping[str, float]
    """Value by metric (:data:`NAMES`)."""
    measured_on: str
    """Faces that it was measured on."""


@cache
def measured() -> dict[str, EstimatorError]:
    """Errors by the model's name, as ``benchmarks/estimator_error.py`` measured them and wrote them into this package.

    EmoNet's is not among them: its checkpoint was at hand on none of our machines.
    """
    known = json.loads(resources.files("emotalking.evaluate").joinpath(DATA).read_text("utf-8"))
    return {model: EstimatorError(row["metrics"], row["measured_on"]) for model, row in known.items()}


def error_of(metrics: Mapping[str, Metric]) -> tuple[str, EstimatorError | None] | None:
    """Name of the model that read the emotion in these metrics, and its error; None where that was never measured.

    Returns:
        None where no model read any emotion.
    """
    found = (metrics[name] for name in NAMES if name in metrics)
    model = next((metric.model for metric in found if not math.isnan(metric.value)), None)
    return None if model is None else (model, measured().get(model))


def error_cell(names: Sequence[str], metrics: Mapping[str, Metric]) -> str:
    """The model's own metrics for a table's cell; "-" where it has none."""
    known = error_of(metrics)
    error = None if known is None else known[1]
    texts = [
        "-" if error is None or name not in error.metrics else f"{error.metrics[name]:.{METRICS[name].digits}f}"
        for name in names
    ]
    return "-" if set(texts) == {"-"} else "/".join(texts)


def error_notes(metrics: Mapping[str, Metric]) -> list[str]:
    """Sentence that explains the row; none where no model read any emotion."""
    known = error_of(metrics)
    if known is None:
        return []
    model, error = known
    if error is None:
        how = "benchmarks/estimator_error.py measures it"
        return [f"The error of {model} in reading emotion was not measured here ({how})."]
    return [
        f'"{THE_MODEL}" is what {model} gets on faces that show exactly what was commanded ({error.measured_on}): '
        "a perfect avatar would get no better. Held-out frames are compared with what was read from the "
        "recording, so there the recording's own metrics are the limit."
    ]


def error_record(model: str) -> dict[str, object] | None:
    """For a report's JSON."""
    error = measured().get(model)
    return None if error is None else {"model": model, "measured_on": error.measured_on, "metrics": dict(error.metrics)}
