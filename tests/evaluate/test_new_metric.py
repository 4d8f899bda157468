"""One registered metric reaches every part of an evaluation: values, JSON, tables, LaTeX, page, comparison."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from emotalking.data import Subject
from emotalking.evaluate.compare import Comparison, Row
from emotalking.evaluate.compare_report import main_table
from emotalking.evaluate.evaluation_models import EvaluationModels
from emotalking.evaluate.measure import measure
from emotalking.evaluate.metrics import METRICS, Metric, MetricSpec, per_frame, register
from emotalking.evaluate.observation import Observation, RenderedFrame
from emotalking.evaluate.page import make_page
from emotalking.evaluate.results import AVATAR, Report, Result, Run, read_report, write_report
from emotalking.evaluate.tables import metric_table, run_table

from .reports import NOTHING, a_report

INDICES = np.arange(3, 8)


def darkness(frame: RenderedFrame, models: EvaluationModels) -> Tensor:
    """Mean darkening of a frame relative to the recorded one."""
    return (frame.true_image - frame.image).mean()


def count(name: str, run: Observation) -> Metric:
    """Numbers of the frames, as if they were squares."""
    return per_frame(name, np.arange(run.count, dtype=np.float64), "counter")


@pytest.fixture
def registered() -> Iterator[None]:
    """Two more metrics, one of single frames and one of the run."""
    of_frame = MetricSpec("darkness", "", "lower", 2, of_frame=darkness, needs=("recording",), columns={"self": 9})
    register("darkness", of_frame)
    register("count", MetricSpec("count", "frames", "higher", 1, measure=count, aggregate="root_mean"))
    yield
    del METRICS["darkness"], METRICS["count"]


def report_of(metrics: dict[str, Metric]) -> Report:
    """A report with one run."""
    run = Run(AVATAR, "held-out frames", 5, metrics, "3-7", observed=NOTHING)
    return a_report(Result("self", "", 1.0, (run,)))


def test_metric_is_seen_in_values_json_tables_and_page(
    registered: None, actor_subject: Subject, tmp_path: Path
) -> None:
    frames = [actor_subject.target(int(index)) // 2 for index in INDICES]
    made = measure(frames, subject=actor_subject, indices=INDICES, models=EvaluationModels.none()).metrics
    assert 0 < made["darkness"].value < 0.5 and made["darkness"].frames == 5
    assert made["count"].value == pytest.approx(np.sqrt(2.0)) and made["count"].model == "counter"
    report = report_of(made)
    write_report(report, tmp_path / "report.json")
    stored = json.loads((tmp_path / "report.json").read_text())["results"][0]["runs"][0]["metrics"]
    assert stored["darkness"]["better"] == "lower" and len(stored["count"]["per_frame"]) == 5
    again = read_report(tmp_path / "report.json").results[0].runs[0].metrics
    assert again["count"].value == made["count"].value
    rows = {row[0]: row for row in metric_table(report.results[0]).rows}
    assert rows["count [frames] ↑"][1] == "1.4" and rows["count [frames] ↑"][-1] == "counter"
    assert rows["darkness ↓"][-1] == "pixels"
    assert run_table(report.results[0]).header[-1] == "darkness ↓"
    page = make_page(report, tmp_path)
    for text in (page.markdown(), page.latex(), page.html()):
        assert "darkness" in text
    row = Row("ours", "a", "frames", "", made, {}, {}, {}, {})
    assert {"darkness ↓", "count [frames] ↑"} <= set(main_table(Comparison("s", INDICES, 25.0, 25, (row,))).header)


def test_without_a_recording_it_says_why(registered: None, actor_subject: Subject) -> None:
    frames = [actor_subject.target(0)]
    made = measure(frames, subject=actor_subject, indices=None, models=EvaluationModels.none()).metrics
    assert np.isnan(made["darkness"].value) and made["darkness"].reason == "there is no recorded frame to compare with"


def test_names_are_unique_and_something_measures() -> None:
    with pytest.raises(ValueError, match="a metric 'psnr' already"):
        register("psnr", MetricSpec("PSNR", measure=count))
    with pytest.raises(ValueError, match="neither"):
        register("nothing", MetricSpec("nothing"))


def test_the_recording_is_measured_by_what_compares_no_frames() -> None:
    """A metric says so itself: a new one that compares would be perfect there."""
    assert not MetricSpec("new", measure=count).of_recording
    assert {name for name, spec in METRICS.items() if spec.of_recording} == {
        *(f"{part}_{what}" for part in ("opening", "width") for what in ("r", "spread", "lag")),
        *("sync_e", "sync_c", "aue_u_rest", "aue_l_rest", "v_rmse", "a_rmse", "v_sa", "a_sa", "e_top1", "e_top3"),
        *("identity", "jitter_head", "jitter_background", "flicker", "mouth_in_silence"),
    }
