"""The ablation as files: table 4 of the paper with more columns, JSON, LaTeX, and a page with the pictures."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from emotalking.evaluate.ablation import VARIANTS, Ablation, Options
from emotalking.evaluate.record import AVATAR, Report, to_json
from emotalking.evaluate.tables import Table, head
from emotalking.evaluate.values import KINDS, Figure
from emotalking.io.files import write_bytes
from emotalking.report import Bold, Page

FORMAT, VERSION = "emotalking-ablation", 1
COLUMNS: tuple[tuple[str, str], ...] = (
    ("self", "lpips"),
    ("self", "sync_c"),
    ("emotion", "e_top3"),
    ("self", "psnr"),
    ("self", "ssim"),
    ("self", "lmd"),
    ("self", "sync_e"),
    ("self", "aue_u"),
    ("self", "aue_l"),
    ("cross", "sync_e"),
    ("cross", "sync_c"),
    ("emotion", "sync_c"),
    ("emotion", "v_rmse"),
    ("emotion", "a_rmse"),
    ("emotion", "v_sa"),
    ("emotion", "a_sa"),
)
"""Scenario and figure; the paper's three columns (LPIPS, Sync-C, E-Acc) first."""
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
_PICTURES = ("self_median", "cross_0", "emotion_circle")


def figures_of(report: Report) -> dict[tuple[str, str], Figure]:
    """The avatar's figures by scenario and name."""
    return {
        (result.scenario, name): figure for result in report.results for name, figure in result.summary(AVATAR).items()
    }


def ablation_table(ablation: Ablation) -> Table:
    """A row a variant; the best of each column is bold."""
    found = {name: figures_of(report) for name, report in ablation.reports.items()}
    there = [column for column in COLUMNS if any(_known(figures, column) for figures in found.values())]
    best = {
        column: _best([figures[column] for figures in found.values() if _known(figures, column)]) for column in there
    }
    rows = []
    for name, figures in found.items():
        cells = [VARIANTS[name][0]]
        for column in there:
            text = "–" if not _known(figures, column) else f"{figures[column].value:.{KINDS[column[1]].decimals}f}"
            wins = _known(figures, column) and figures[column].value == best[column]
            cells.append(Bold(text) if wins else text)
        rows.append(cells)
    return Table(["Method", *(f"{_SCENARIOS[scenario]}{head(name)}" for scenario, name in there)], rows)


def notes_of(ablation: Ablation, options: Options) -> list[str]:
    """Sentences that a reader of the table must know."""
    notes = [f"{VARIANTS[name][0]}: left out, because {reason}." for name, reason in ablation.plan.left_out.items()]
    judges: dict[str, list[str]] = {}
    for figures in (figures_of(report) for report in ablation.reports.values()):
        for column in COLUMNS:
            if _known(figures, column) and figures[column].judge:
                titles = judges.setdefault(figures[column].judge, [])
                titles += [KINDS[column[1]].title] if KINDS[column[1]].title not in titles else []
    notes += [f"{', '.join(titles)} measured by: {judge}." for judge, titles in judges.items()]
    if ablation.plan.judge is not None and ablation.plan.trainer is not None:
        notes.append("The personal expert that measures is another than the one that trained the sync loss.")
    notes.append(
        f"Every variant: preset {options.preset}, same seed, same data; one run each, so differences of the size of a"
        " rerun with another seed mean nothing."
    )
    return notes


def write_ablation(ablation: Ablation, options: Options, facts: dict[str, Any], folder: Path) -> None:
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
                "figures": {f"{s}.{n}": _short(figure) for (s, n), figure in figures_of(report).items()},
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
    page.table(table.header, table.rows)
    for note in notes:
        page.text(note)
    page.heading(NOT_COMPARABLE)
    page.table(PUBLISHED.header, PUBLISHED.rows)
    for stem in _PICTURES:
        _pictures(page, ablation, folder, stem)
    page.write(folder / "report.html")


def _pictures(page: Page, ablation: Ablation, folder: Path, stem: str) -> None:
    """The same picture of every variant's evaluation, one below the other."""
    shown = []
    for name, report in ablation.reports.items():
        for picture in (picture for result in report.results for picture in result.pictures):
            if Path(picture.file).stem == stem:
                image = cv2.imread(str(folder / name / picture.file), cv2.IMREAD_COLOR)
                shown += [] if image is None else [(VARIANTS[name][0], picture.caption, image)]
    if shown:
        page.heading(shown[0][1])
    for title, _, image in shown:
        page.picture(np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8), title)


def _short(figure: Figure) -> dict[str, Any]:
    """Without the values per frame, which are in the variant's own report."""
    names = ("value", "unit", "judge", "frames", "missing", "why_not")
    return {name: getattr(figure, name) for name in names}


def _known(figures: Mapping[tuple[str, str], Figure], column: tuple[str, str]) -> bool:
    return column in figures and not math.isnan(figures[column].value)


def _best(figures: list[Figure]) -> float | None:
    if len(figures) < 2 or figures[0].better == "none":
        return None
    values = [figure.value for figure in figures]
    return max(values) if figures[0].better == "higher" else min(values)
