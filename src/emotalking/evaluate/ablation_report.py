"""The ablation as files: table 4 of the paper with more columns, JSON, LaTeX, and a page with the images."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emotalking.evaluate.ablation import VARIANTS, Ablation
from emotalking.evaluate.config import AblationConfig
from emotalking.evaluate.metrics import METRICS, Metric
from emotalking.evaluate.metrics.base import Scenario
from emotalking.evaluate.record import AVATAR, Report, to_json
from emotalking.evaluate.tables import Table, head
from emotalking.io.files import write_bytes
from emotalking.report import Bold, Page

FORMAT, VERSION = "emotalking-ablation", 1
PUBLISHED = Table(
    ("Method", "LPIPS ↓", "Sync-C ↑", "E-Acc top-3 [%] ↑"),
    (
        ("without the normal loss", "0.0274", "6.090", "45.4"),
        ("without the sync loss", "0.0269", "5.925", "46.1"),
        ("combined face branch", "0.0253", "4.489", "42.1"),
        ("without the emotion branch", "0.0255", "6.270", "25.3"),
        ("full model", "0.0267", "6.279", "46.6"),
    ),
)
"""Table 4 of arXiv 2502.00654: mean of four subjects, SyncNet v2, EmoNet. Its first two row names lost their symbols in
the text at hand; by the text, the first has the worst LPIPS (normal loss), the second the worst Sync-C (sync loss)."""
NOT_COMPARABLE = "Table 4 of arXiv 2502.00654 (other data, other experts: not comparable)"
_SCENARIOS = {"self": "", "cross": "cross-domain ", "emotion": "emotion "}
_IMAGES = ("self_median", "cross_0", "emotion_circle")


def columns() -> list[tuple[Scenario, str]]:
    """Scenario and metric of each column; the paper's three (LPIPS, Sync-C, E-Acc) first."""
    placed = [(at, scenario, name) for name, spec in METRICS.items() for scenario, at in spec.ablation.items()]
    return [(scenario, name) for _, scenario, name in sorted(placed)]


def metrics_of(report: Report) -> dict[tuple[str, str], Metric]:
    """The avatar's metrics by scenario and name."""
    return {
        (result.scenario, name): metric for result in report.results for name, metric in result.summary(AVATAR).items()
    }


def ablation_table(ablation: Ablation) -> Table:
    """A row a variant; the best of each column is bold."""
    found = {name: metrics_of(report) for name, report in ablation.reports.items()}
    there = [column for column in columns() if any(_known(metrics, column) for metrics in found.values())]
    best = {
        column: _best([metrics[column] for metrics in found.values() if _known(metrics, column)]) for column in there
    }
    rows = []
    for name, metrics in found.items():
        cells = [VARIANTS[name][0]]
        for column in there:
            text = "–" if not _known(metrics, column) else f"{metrics[column].value:.{METRICS[column[1]].digits}f}"
            wins = _known(metrics, column) and metrics[column].value == best[column]
            cells.append(Bold(text) if wins else text)
        rows.append(cells)
    return Table(["Method", *(f"{_SCENARIOS[scenario]}{head(name)}" for scenario, name in there)], rows)


def notes_of(ablation: Ablation, options: AblationConfig) -> list[str]:
    """Sentences that a reader of the table must know."""
    notes = [f"{VARIANTS[name][0]}: left out, because {reason}." for name, reason in ablation.plan.left_out.items()]
    models: dict[str, list[str]] = {}
    for metrics in (metrics_of(report) for report in ablation.reports.values()):
        for column in columns():
            if _known(metrics, column) and metrics[column].model:
                titles = models.setdefault(metrics[column].model, [])
                titles += [METRICS[column[1]].title] if METRICS[column[1]].title not in titles else []
    notes += [f"{', '.join(titles)} measured by: {model}." for model, titles in models.items()]
    if ablation.plan.evaluation_expert is not None and ablation.plan.training_expert is not None:
        notes.append("The personal expert that measures is another than the one that trained the sync loss.")
    notes.append(
        f"Every variant: preset {options.preset}, same seed, same data; one run each, so differences of the size of a"
        " rerun with another seed mean nothing."
    )
    return notes


def write_ablation(ablation: Ablation, options: AblationConfig, facts: dict[str, Any], folder: Path) -> None:
    """Write ``ablation.json``, ``table.md``, ``table.tex`` and ``report.html``.

    Args:
        facts: of ``provenance.provenance``.
    """
    table, notes = ablation_table(ablation), notes_of(ablation, options)
    data = {
        "format": FORMAT,
        "version": VERSION,
        "provenance": facts,
        "options": dict(vars(options)),
        "left_out": ablation.plan.left_out,
        "variants": {
            name: {
                "title": VARIANTS[name][0],
                "settings": list(ablation.plan.settings[name]),
                "avatar": report.provenance.get("avatar"),
                "metrics": {f"{s}.{n}": _short(metric) for (s, n), metric in metrics_of(report).items()},
            }
            for name, report in ablation.reports.items()
        },
    }
    write_bytes(folder / "ablation.json", (json.dumps(to_json(data), indent=1, allow_nan=False) + "\n").encode())
    listed = "\n".join(f"- {note}" for note in notes)
    write_bytes(
        folder / "table.md", f"{table.markdown()}\n{listed}\n\n{NOT_COMPARABLE}\n\n{PUBLISHED.markdown()}".encode()
    )
    write_bytes(folder / "table.tex", table.latex("Ablations").encode())
    page = Page("Ablations", f"preset {options.preset}")
    page.table(table)
    for note in notes:
        page.text(note)
    page.heading(NOT_COMPARABLE)
    page.table(PUBLISHED)
    for stem in _IMAGES:
        _images(page, ablation, folder, stem)
    page.write(folder / "report.html")


def _images(page: Page, ablation: Ablation, folder: Path, stem: str) -> None:
    """The same image of every variant's evaluation, one below the other."""
    shown = []
    for name, report in ablation.reports.items():
        for image in (image for result in report.results for image in result.images):
            path = folder / name / image.file
            if path.stem == stem and path.exists():
                shown.append((VARIANTS[name][0], image.caption, path))
    if shown:
        page.heading(shown[0][1])
    for title, _, path in shown:
        page.image(path, title)


def _short(metric: Metric) -> dict[str, Any]:
    """Without the values per frame, which are in the variant's own report."""
    names = ("value", "unit", "model", "frames", "missing", "reason")
    return {name: getattr(metric, name) for name in names}


def _known(metrics: Mapping[tuple[str, str], Metric], column: tuple[str, str]) -> bool:
    return column in metrics and not math.isnan(metrics[column].value)


def _best(metrics: list[Metric]) -> float | None:
    if len(metrics) < 2 or metrics[0].better == "none":
        return None
    values = [metric.value for metric in metrics]
    return max(values) if metrics[0].better == "higher" else min(values)
