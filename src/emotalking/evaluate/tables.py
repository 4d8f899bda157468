"""Tables of metrics: the paper's tables 1 to 3 with the published rows for orientation, and what other tables share."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from emotalking.evaluate.estimator_error import NAMES, THE_MODEL, error_cell, error_notes
from emotalking.evaluate.metrics import METRICS, Metric
from emotalking.evaluate.metrics.lips import LIP_MOTION
from emotalking.evaluate.results import AVATAR, RECORDED, Report, Result
from emotalking.evaluate.scenarios import SCENARIO_SPECS
from emotalking.report import Bold, Table

NOT_COMPARABLE = "published, other data, other experts: not comparable"

PUBLISHED: dict[str, tuple[tuple[str, ...], ...]] = {
    "self": (
        ("Ground truth", "", "", "", "", "6.546/7.827", "", "", ""),
        ("ER-NeRF", "33.06", ".935", ".0274", "3.110", "8.443/5.554", ".779", ".565", "34"),
        ("GaussianTalker", "33.02", ".939", ".0333", "3.206", "8.554/5.741", ".766", ".523", "121"),
        ("TalkingGaussian", "33.64", ".940", ".0256", "2.610", "8.129/5.919", ".279", ".550", "108"),
        ("EmoTalkingGaussian w/o emotion", "33.87", ".944", ".0255", "2.557", "7.750/6.270", ".207", ".515", "107"),
        ("EmoTalkingGaussian", "33.78", ".943", ".0267", "2.638", "7.702/6.279", ".278", ".520", "101"),
    ),
    "cross": (
        ("Ground truth", "7.589/7.158", "7.398/7.112"),
        ("ER-NeRF", "9.960/4.305", "9.397/4.938"),
        ("GaussianTalker", "10.208/4.375", "9.419/5.001"),
        ("TalkingGaussian", "9.369/4.835", "9.009/5.261"),
        ("EmoTalkingGaussian", "9.262/4.930", "8.746/5.426"),
    ),
    "emotion": (
        ("Ground truth", "7.830/7.042", "", "", "", "", "", ""),
        ("ER-NeRF", "10.109/4.225", ".479", ".502", ".500", ".500", "27.3", ""),
        ("GaussianTalker", "10.243/4.539", ".491", ".503", ".500", ".500", "22.9", ""),
        ("TalkingGaussian", "9.580/4.779", ".467", ".474", ".515", ".500", "29.1", ""),
        ("EmoTalkingGaussian", "9.082/5.152", ".352", ".383", ".766", ".637", "46.6", ""),
    ),
}
"""Tables 1 to 3 of arXiv 2502.00654 (mean of four subjects, an RTX 4090, SyncNet v2, OpenFace, EmoNet)."""


@dataclass(frozen=True)
class Titled:
    """A table with a title and a note."""

    title: str
    table: Table
    note: str = ""


def columns_of(scenario: str) -> list[tuple[str, ...]]:
    """Metrics of each column of the paper's table; two may share a cell ("a/b"), as the paper prints sync."""
    columns: dict[int, tuple[str, ...]] = {}
    for name, spec in METRICS.items():
        at = next((at for known, at in spec.columns.items() if known == scenario), None)
        if at is not None:
            columns[at] = (*columns.get(at, ()), name)
    return [columns[at] for at in sorted(columns)]


def paper_tables(report: Report) -> Iterator[Titled]:
    """For each scenario its table, and the published one after it."""
    for result in report.results:
        name, spec = result.scenario, SCENARIO_SPECS[result.scenario]
        columns = _columns(result)
        header = ("Method", *(title for title, _ in columns))
        rows = [("this avatar", *_cells(columns, AVATAR))]
        recorded = tuple(_cells(columns, RECORDED)) if result.of(RECORDED) else ()
        if set(recorded) - {"-"}:
            rows.insert(0, (RECORDED, *recorded))
        metrics = result.summary(AVATAR)
        own = [error_cell(names, metrics) for names in columns_of(name)]
        if set(own) != {"-"}:
            rows.append((THE_MODEL, *own))
        in_columns = {metric: metrics[metric] for names in columns_of(name) for metric in names if metric in metrics}
        reads = any(metric in NAMES for names in columns_of(name) for metric in names)
        words = [*(error_notes(metrics) if reads else []), *unmeasured(in_columns)]
        measures = measured_by(in_columns.values())
        yield Titled(spec.title, Table(header, rows), " ".join((*measures, *words, *result.notes)))
        names = ("Testset A", "Testset B") if name == "cross" else tuple(header[1:])
        title = f"Table {spec.table} of arXiv 2502.00654 ({NOT_COMPARABLE})"
        # Metrics that the paper does not print have no published values.
        published = [(*row, *[""] * (1 + len(names) - len(row))) for row in PUBLISHED[name]]
        yield Titled(title, Table(("Method", *names), published))


def metric_table(result: Result) -> Table:
    """Every metric of a scenario, its evaluation model, and the number of the avatar's frames."""
    systems = [system for system in (AVATAR, RECORDED) if result.of(system)]
    summaries = [result.summary(system) for system in systems]
    models = [] if error_cell(NAMES, summaries[0]) == "-" else [THE_MODEL]
    rows = []
    for name, metric in summaries[0].items():
        if not math.isnan(metric.value):
            values = [cell(summary.get(name)) for summary in summaries]
            values += [error_cell((name,), summaries[0]) for _ in models]
            counts = (str(metric.frames), str(metric.missing))
            rows.append((METRICS[name].head, *values, *counts, metric.model or METRICS[name].source))
    return Table(("Metric", *systems, *models, "Frames", "Missing", "Measured by"), rows)


def remarks(result: Result) -> list[str]:
    """Notes below :func:`metric_table`: errors of emotion model and detector, and reasons of missing metrics."""
    metrics = result.summary(AVATAR)
    return [*error_notes(metrics), *detector_notes(run.metrics for run in result.of(RECORDED)), *unmeasured(metrics)]


def detector_notes(recordings: Iterable[Mapping[str, Metric]]) -> list[str]:
    """Sentence that explains the metrics of lip motion of recordings; none where they were not measured."""
    found = [metrics[name] for metrics in recordings for name in LIP_MOTION if name in metrics]
    titles = dict.fromkeys(METRICS[metric.name].title for metric in found if not math.isnan(metric.value))
    if not titles:
        return []
    return [
        f"{', '.join(titles)} of the recording: landmarks found in its mirrored frames against those found in the"
        " frames themselves. The detector agrees no better with itself: no avatar can be expected to reach a higher r."
    ]


def unmeasured(metrics: Mapping[str, Metric]) -> list[str]:
    """One sentence for each reason why metrics are missing."""
    reasons: dict[str, list[str]] = {}
    for name, metric in metrics.items():
        if math.isnan(metric.value):
            reasons.setdefault(metric.reason, []).append(METRICS[name].title)
    return [f"Not measured: {', '.join(names)} ({reason.removesuffix('.')})." for reason, names in reasons.items()]


def run_table(result: Result) -> Table:
    """One row a run (a sound, or a commanded point), a column each metric of the paper's table that some run has."""
    wanted = [name for column in columns_of(result.scenario) for name in column]
    names = [name for name in wanted if any(cell(run.metrics.get(name)) != "-" for run in result.of(AVATAR))]
    runs = [(run.title if run.title == run.sound else f"{run.title}: {run.sound}", run) for run in result.of(AVATAR)]
    rows = [(title, str(run.frames), *(cell(run.metrics.get(name)) for name in names)) for title, run in runs]
    return Table(("Run", "Frames", *(METRICS[name].head for name in names)), rows)


def cell(metric: Metric | None, none: str = "-") -> str:
    """A metric's value, rounded as its :class:`MetricSpec` says; ``none`` where it is missing."""
    return none if metric is None else METRICS[metric.name].text(metric.value, none=none)


def best(metrics: Iterable[Metric | None]) -> float | None:
    """The best value of a column; None with fewer than two, or where neither direction is better."""
    there = [metric for metric in metrics if metric is not None and not math.isnan(metric.value)]
    if len(there) < 2:
        return None
    values, target = [metric.value for metric in there], METRICS[there[0].name].target
    if target is not None:
        return min(values, key=lambda value: abs(value - target))
    return {"higher": max, "lower": min, "none": lambda _: None}[there[0].better](values)


def bold_best(text: str, metric: Metric | None, best_value: float | None) -> str:
    """A cell's text, bold where its metric is the best of the column."""
    return Bold(text) if metric is not None and metric.value == best_value else text


def measured_by(metrics: Iterable[Metric | None]) -> list[str]:
    """One sentence for each evaluation model: values of different models are not comparable."""
    found: dict[str, list[str]] = {}
    for metric in metrics:
        if metric is not None and metric.model and not math.isnan(metric.value):
            titles = found.setdefault(metric.model, [])
            title = METRICS[metric.name].title
            titles += [] if title in titles else [title]
    return [f"{', '.join(titles)} measured by: {model}." for model, titles in found.items()]


Column = tuple[str, Mapping[str, Sequence[Metric | None]]]
"""A head, and the metrics beneath it by system."""


def _columns(result: Result) -> list[Column]:
    """The columns of the paper's table; for cross-domain audio one a sound."""
    systems = [system for system in (AVATAR, RECORDED) if result.of(system)]
    if result.scenario == "cross":
        names = columns_of("cross")[0]
        return [
            (f"{_head(names)}, {run.title}", {AVATAR: [run.metrics.get(name) for name in names]})
            for run in result.of(AVATAR)
        ]
    summaries = {system: result.summary(system) for system in systems}
    return [
        (_head(names), {system: [summaries[system].get(name) for name in names] for system in systems})
        for names in columns_of(result.scenario)
    ]


def _cells(columns: Sequence[Column], system: str) -> Iterator[str]:
    for _, metrics in columns:
        texts = [cell(metric) for metric in metrics[system]]
        yield "-" if set(texts) == {"-"} else "/".join(texts)


def _head(names: Sequence[str]) -> str:
    return "/".join(METRICS[name].head for name in names).replace("/Sync-C", "/C")


def split_table(data: Mapping[str, object]) -> Table:
    """The frames of both splits with their hashes."""
    rows = []
    for name in ("train", "val"):
        split = data[name]
        assert isinstance(split, Mapping)
        hashes = (str(split["numbers_sha256"])[:16], str(split["targets_sha256"])[:16])
        rows.append((name, str(split["frames"]), str(split["count"]), "yes" if split["contiguous"] else "no", *hashes))
    return Table(("Split", "Frames", "Count", "Contiguous", "SHA-256 of the numbers", "of the images"), rows)
