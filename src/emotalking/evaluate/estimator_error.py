"""What a judge of emotion gets wrong itself: no avatar can score better than its judge."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from emotalking.evaluate.values import KINDS, Figure

DATA = "estimator_error.json"
"""Beside this module; :func:`measured` reads it."""
THE_JUDGE = "the judge itself"
"""Name of its row or column in the tables."""
NAMES = ("v_rmse", "a_rmse", "v_sa", "a_sa", "e_top1", "e_top3")
"""Figures that a judge of emotion gives."""


@dataclass(frozen=True)
class OwnError:
    """The figures of faces that showed exactly what was commanded."""

    figures: Mapping[str, float]
    """By name (:data:`NAMES`)."""
    measured_on: str
    """Whose faces these were."""


@cache
def measured() -> dict[str, OwnError]:
    """Own errors by the judge's name, as ``benchmarks/judge_error.py`` measured them and wrote them into this package.

    EmoNet's is not among them: its checkpoint was at hand on none of our machines.
    """
    known = json.loads(resources.files("emotalking.evaluate").joinpath(DATA).read_text("utf-8"))
    return {judge: OwnError(row["figures"], row["measured_on"]) for judge, row in known.items()}


def own_error(figures: Mapping[str, Figure]) -> tuple[str, OwnError | None] | None:
    """The judge who read the emotion in these figures, and its own error, None where that was never measured.

    Returns:
        None where nobody read any emotion.
    """
    found = (figures[name] for name in NAMES if name in figures)
    judge = next((figure.judge for figure in found if not math.isnan(figure.value)), None)
    return None if judge is None else (judge, measured().get(judge))


def own_cell(names: Sequence[str], figures: Mapping[str, Figure]) -> str:
    """The judge's own figures for a table's cell; "-" where it has none."""
    known = own_error(figures)
    error = None if known is None else known[1]
    texts = [
        "-" if error is None or name not in error.figures else f"{error.figures[name]:.{KINDS[name].decimals}f}"
        for name in names
    ]
    return "-" if set(texts) == {"-"} else "/".join(texts)


def own_error_words(figures: Mapping[str, Figure]) -> list[str]:
    """The sentence that belongs to the row; none where nobody read any emotion."""
    known = own_error(figures)
    if known is None:
        return []
    judge, error = known
    if error is None:
        how = "benchmarks/judge_error.py measures it"
        return [f"The own error of {judge} in reading emotion was not measured here ({how})."]
    return [
        f'"{THE_JUDGE}" is what {judge} gets on faces that show exactly what was commanded ({error.measured_on}): '
        "an avatar that obeys perfectly would get no better. Held-out frames are held against what was read from the "
        "recording, so there the recording's own figures are the limit."
    ]


def own_error_facts(judge: str) -> dict[str, object] | None:
    """For a report's JSON."""
    error = measured().get(judge)
    return None if error is None else {"judge": judge, "measured_on": error.measured_on, "figures": dict(error.figures)}
