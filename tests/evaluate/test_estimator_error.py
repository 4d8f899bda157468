"""The model's own error: what the package says is what was measured, and every report shows it."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from emotalking.evaluate import estimator_error as own_error_module
from emotalking.evaluate.compare import Comparison, Row
from emotalking.evaluate.compare_report import main_table, notes_of
from emotalking.evaluate.estimator_error import (
    NAMES,
    THE_MODEL,
    EstimatorError,
    error_cell,
    error_of,
    error_record,
    measured,
)
from emotalking.evaluate.evaluation_models import ActionUnitModel, EmoNetModel
from emotalking.evaluate.metrics import Metric, missing, per_frame, single
from emotalking.evaluate.page import make_page
from emotalking.evaluate.results import AVATAR, Report, Result, Run
from emotalking.evaluate.tables import metric_table, paper_tables, remarks
from emotalking.networks.emonet import EmoNet, EmoNetEstimator

from .reports import NOTHING, a_report

MEASUREMENT = Path(__file__).parents[2] / "benchmarks" / "results" / "estimator_error.json"


def emotional(model: str) -> list[Metric]:
    """Metrics of an avatar whose emotion this model read."""
    return [single("psnr", 30.0, frames=2), *(single(name, 0.5, model, 2) for name in NAMES)]


def result_of(metrics: list[Metric], scenario: str = "emotion") -> Result:
    """A scenario with one run."""
    return Result(scenario, "", 1.0, (Run(AVATAR, "x", 2, {f.name: f for f in metrics}, observed=NOTHING),))


def test_the_package_says_what_was_measured() -> None:
    """Both files are written by one benchmark: neither may be newer than the other."""
    found = json.loads(MEASUREMENT.read_text())["results"] if MEASUREMENT.exists() else None
    assert set(measured()) == (set() if found is None else {found.get("model", found.get("judge"))})
    for model, error in measured().items():
        assert found is not None and set(error.metrics) == set(NAMES) and error.measured_on, model
        for name, value in error.metrics.items():
            assert value == pytest.approx(found["mean"][name], abs=1e-5), name
            rows = [row[name] for row in found["actors"].values()]
            assert len(rows) >= 3 and value == pytest.approx(np.mean(rows), abs=1e-5), name


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The embedded model's own error is these metrics."""
    metrics = {"v_rmse": 0.231, "a_rmse": 0.404, "v_sa": 0.95, "a_sa": 0.74, "e_top1": 47.25, "e_top3": 85.5}
    error = EstimatorError(metrics, "six actors")
    monkeypatch.setattr(own_error_module, "measured", lambda: {ActionUnitModel().name: error})
    return metrics


def test_the_row_stands_beside_the_metrics_of_emotion_alone(known: dict[str, float]) -> None:
    model = ActionUnitModel().name
    result = result_of(emotional(model))
    titled = next(paper_tables(Report({}, {}, (result,))))
    row, own = titled.table.rows[-1], known
    assert row[0] == THE_MODEL and row[1] == "-"
    assert row[2:4] == (f"{own['v_rmse']:.3f}", f"{own['a_rmse']:.3f}") and row[-1] == f"{own['e_top1']:.1f}"
    assert THE_MODEL in titled.note and "no better" in titled.note
    table = metric_table(result)
    assert table.header[2] == THE_MODEL and table.rows[0][2] == "-"
    assert [line[2] for line in table.rows if line[0].startswith("V-RMSE")] == [f"{own['v_rmse']:.3f}"]
    assert any(THE_MODEL in sentence for sentence in remarks(result))
    mute = result_of([single("psnr", 30.0), *(missing(name, "no") for name in NAMES)], "self")
    assert THE_MODEL not in metric_table(mute).header and error_of(mute.summary(AVATAR)) is None
    assert error_cell(("v_rmse",), mute.summary(AVATAR)) == "-"


def test_every_form_of_a_report_has_it(known: dict[str, float], tmp_path: Path) -> None:
    report = a_report(result_of(emotional(ActionUnitModel().name)))
    page = make_page(report, tmp_path)
    for text in (page.markdown(), page.latex(), page.html()):
        assert text.count(THE_MODEL) >= 2 and "no better" in text


def test_a_comparison_has_it_too(known: dict[str, float]) -> None:
    values = {name: per_frame(name, np.full(3, 0.5), ActionUnitModel().name) for name in NAMES}
    values |= {"psnr": per_frame("psnr", np.full(3, 30.0)), "identity_truth": single("identity_truth", 0.84, "d", 3)}
    values["identity"] = per_frame("identity", np.full(3, 0.7), "d")
    rows = (Row("a", "a", "frames", "", values, {}, {}, {}, {}),)
    made = Comparison("s", np.arange(3), 25.0, 25, rows)
    table = main_table(made)
    line = dict(zip(table.header, table.rows[-1], strict=True))
    assert table.rows[-1][0] == THE_MODEL and table.rows[-1][1] == "–"
    assert line["A-RMSE ↓"] == "0.404"
    notes = " ".join(notes_of(made))
    assert "no better" in notes and "six actors" in notes and "0.840" in notes
    facts = error_record(ActionUnitModel().name)
    assert facts is not None and facts["metrics"] == known


def test_a_model_that_nobody_measured_says_so() -> None:
    model = EmoNetModel(EmoNetEstimator(EmoNet(8).eval(), torch.device("cpu"))).name
    result = result_of(emotional(model))
    assert error_record(model) is None and model not in measured()
    assert all(row[0] != THE_MODEL for row in next(paper_tables(Report({}, {}, (result,)))).table.rows)
    assert "was not measured here" in " ".join(remarks(result)) and model in " ".join(remarks(result))
    assert not math.isnan(result.summary(AVATAR)["v_rmse"].value)
