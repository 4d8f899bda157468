"""A report made again from its own JSON: whether what it was made with has changed, and whether the metrics have."""

import math
from collections.abc import Iterator
from typing import Any

from emotalking.evaluate.config import EvaluateConfig
from emotalking.evaluate.metrics import METRICS
from emotalking.evaluate.results import Report


def options_of(report: Report) -> EvaluateConfig:
    """What a report's evaluation was asked for.

    Raises:
        UserError: the report was edited into something that cannot be asked for.
    """
    return EvaluateConfig.of(
        {name: value for name, value in report.options.items() if name not in ("avatar", "subject")}
    )


def changed_inputs(before: Report, after: Report) -> list[str]:
    """What the second evaluation was made with that the first was not, one sentence each."""
    old, new = before.provenance, after.provenance
    named = {
        "the avatar file": lambda known: known["avatar"]["sha256"],
        "the clip": lambda known: known["data"]["clip"],
        "the training frames": lambda known: _split(known, "train"),
        "the held-out frames": lambda known: _split(known, "val"),
        "the speech": lambda known: [sound["sha256"] for sound in known["sounds"]],
        "the evaluation models": lambda known: known["evaluation_models"],
        "the code": lambda known: known["source_sha256"],
        "the packages": lambda known: known["packages"],
        "the machine": lambda known: (known["machine"], known["device"]),
    }
    return [f"{name} changed: {get(old)} then, {get(new)} now" for name, get in named.items() if get(old) != get(new)]


def changed_metrics(before: Report, after: Report) -> tuple[list[str], int]:
    """Metrics that differ by more than the last digit that is printed, and how many were compared."""
    found, count = [], 0
    for name, old, new in _matched(before, after):
        count += 1
        digits = METRICS[name[-1]].digits if name[-1] in METRICS else 3
        same = (math.isnan(old) and math.isnan(new)) or old == new or abs(old - new) <= 0.5 * 10.0**-digits
        if not same:
            found.append(f"{', '.join(name)}: {old:.{digits + 1}f} then, {new:.{digits + 1}f} now")
    return found, count


def _matched(before: Report, after: Report) -> Iterator[tuple[tuple[str, ...], float, float]]:
    """Every metric of both reports; one that only one of them has counts as nan in the other."""
    old, new = _values(before), _values(after)
    for name in dict.fromkeys([*old, *new]):
        yield name, old.get(name, math.nan), new.get(name, math.nan)


def _values(report: Report) -> dict[tuple[str, ...], float]:
    return {
        (result.scenario, run.system, run.title, name): metric.value
        for result in report.results
        for run in result.runs
        for name, metric in run.metrics.items()
        if name not in METRICS or METRICS[name].reproducible
    }


def _split(known: dict[str, Any], name: str) -> tuple[str, str]:
    split = known["data"][name]
    return split["numbers_sha256"][:16], split["targets_sha256"][:16]
