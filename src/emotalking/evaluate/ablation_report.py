"""Report of an ablation: table 4 of the paper with more columns, and images."""

import math
from pathlib import Path
from typing import Any

from emotalking.evaluate.ablation import VARIANTS, Ablation
from emotalking.evaluate.config import AblationConfig
from emotalking.evaluate.metrics import METRICS, Metric
from emotalking.evaluate.results import AVATAR, Report, write_json
from emotalking.evaluate.tables import best, bold_best, cell, measured_by
from emotalking.report import Page, Table

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


Column = tuple[str, str]
"""Scenario and metric."""


def columns() -> list[Column]:
    """Scenario and metric of each column; the paper's three (LPIPS, Sync-C, E-Acc) first."""
    placed = [(at, scenario, name) for name, spec in METRICS.items() for scenario, at in spec.ablation.items()]
    return [(scenario, name) for _, scenario, name in sorted(placed)]


def metrics_of(report: Report) -> dict[Column, Metric]:
    """The avatar's metrics by scenario and name, where they could be had."""
    return {
        (result.scenario, name): metric
        for result in report.results
        for name, metric in result.summary(AVATAR).items()
        if not math.isnan(metric.value)
    }


def ablation_table(ablation: Ablation) -> Table:
    """A row a variant; the best of each column is bold."""
    found = {name: metrics_of(report) for name, report in ablation.reports.items()}
    there = [column for column in columns() if any(column in metrics for metrics in found.values())]
    bests = {column: best(metrics.get(column) for metrics in found.values()) for column in there}
    rows = [
        [VARIANTS[name][0], *(bold_best(cell(m.get(c), "–"), m.get(c), bests[c]) for c in there)]
        for name, m in found.items()
    ]
    return Table(["Method", *(f"{_SCENARIOS[scenario]}{METRICS[name].head}" for scenario, name in there)], rows)


def notes_of(ablation: Ablation, options: AblationConfig) -> list[str]:
    """Notes to the table."""
    notes = [f"{VARIANTS[name][0]}: left out, because {reason}." for name, reason in ablation.plan.left_out.items()]
    notes += measured_by(metrics_of(report).get(column) for report in ablation.reports.values() for column in columns())
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
                "metrics": {
                    f"{result.scenario}.{metric.name}": _short(metric)
                    for result in report.results
                    for metric in result.summary(AVATAR).values()
                },
            }
            for name, report in ablation.reports.items()
        },
    }
    write_json(folder / "ablation.json", data)
    page = Page("Ablations", f"preset {options.preset}")
    page.table(ablation_table(ablation), caption="Ablations")
    for note in notes_of(ablation, options):
        page.text(note)
    page.heading(NOT_COMPARABLE)
    page.table(PUBLISHED)
    for stem in _IMAGES:
        _images(page, ablation, folder, stem)
    page.write_report(folder)


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
