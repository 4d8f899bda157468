"""The ablation kit: what each row is trained with, that finished rows are kept, and the table."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from emotalking.data import Subject
from emotalking.errors import UserError
from emotalking.evaluate.ablation import (
    EVALUATION_EXPERT,
    TRAINING_EXPERT,
    Ablation,
    ablate,
    ablation_table,
    make_plan,
    notes_of,
    write_ablation,
)
from emotalking.evaluate.config import AblationConfig
from emotalking.evaluate.metrics import single
from emotalking.evaluate.results import AVATAR, Report, Result, Run, write_report
from emotalking.io.settings import override
from emotalking.models.avatar_file import FORMAT, VERSION
from emotalking.train import run
from emotalking.train.presets import preset

SCORES = {"full": (0.0267, 46.6), "combined": (0.0253, 42.1), "no_emotion": (0.0255, 25.3)}
ROWS = AblationConfig("tiny", variants=tuple(SCORES), expert="none")


class Bench:
    """Stands for the commands train and evaluate: writes files like theirs and notes what was asked for."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.fail = ""

    def __call__(self, arguments: Sequence[str], device: str, log: Path | None) -> str | None:
        self.commands.append(list(arguments))
        name = Path(arguments[3] if arguments[0] == "train" else arguments[1]).stem
        if name == self.fail:
            return "it is broken"
        if arguments[0] == "train":
            settings = [value for flag, value in zip(arguments, arguments[1:], strict=False) if flag == "--set"]
            subject = Subject.open(arguments[1])
            config = run.resolve_config(override(preset("tiny"), settings), subject)
            metadata = {"run": run.fingerprint(config, "tiny", subject, run.MESH_WARP)}
            header = {"format": FORMAT, "version": str(VERSION), "metadata": json.dumps(metadata)}
            save_file({"x": np.zeros(1, np.float32)}, arguments[3], metadata=header)
            return None
        lpips, accuracy = SCORES[name]
        runs = {"self": ("lpips", lpips, "LPIPS (made up)"), "emotion": ("e_top3", accuracy, "a model")}
        results = tuple(
            Result(scenario, "", 1.0, (Run(AVATAR, "run", 3, {metric: single(metric, value, model, 3)}),))
            for scenario, (metric, value, model) in runs.items()
        )
        folder = Path(arguments[arguments.index("-o") + 1])
        folder.mkdir(exist_ok=True)
        write_report(Report({}, {"avatar": {"file": name}}, results), folder / "report.json")
        return None


def test_full_model_has_on_what_the_rows_take_away(actor_subject: Subject, tmp_path: Path) -> None:
    plan = make_plan(actor_subject, AblationConfig("tiny"), tmp_path)
    assert list(plan.settings) == ["no_normal", "no_sync", "combined", "no_emotion", "full"]
    configs = {name: override(preset("tiny"), list(settings)) for name, settings in plan.settings.items()}
    full = configs["full"]
    assert (full.face.losses.normal, full.face.losses.normal_tv) == (0.05, 0.005)
    assert full.sync.expert == str(tmp_path / TRAINING_EXPERT) == str(plan.training_expert)
    assert configs["no_normal"] == replace(
        full, face=replace(full.face, losses=replace(full.face.losses, normal=0.0, normal_tv=0.0, normal_residual=0.0))
    )
    assert configs["no_sync"] == replace(full, sync=replace(full.sync, expert="none"))
    for name, branch in (("combined", "combined"), ("no_emotion", "none")):
        emotion = replace(full.model.emotion, branch=branch)
        assert configs[name] == replace(full, model=replace(full.model, emotion=emotion))
    assert plan.evaluation_expert == tmp_path / EVALUATION_EXPERT != plan.training_expert


def test_rows_that_would_be_the_full_model_are_left_out(actor_subject: Subject, tmp_path: Path) -> None:
    shutil.copytree(actor_subject.files.root, tmp_path / "plain")
    shutil.rmtree(tmp_path / "plain" / "normals")
    plan = make_plan(Subject.open(tmp_path / "plain"), AblationConfig("tiny"), tmp_path)
    assert "no_normal" not in plan.settings and "no normal maps" in plan.left_out["no_normal"]
    only = make_plan(actor_subject, ROWS, tmp_path)
    assert only.training_expert is None and only.evaluation_expert is None
    assert only.settings["full"] == ()
    with pytest.raises(UserError, match="no variant"):
        make_plan(actor_subject, replace(ROWS, variants=()), tmp_path)


def made(subject: Subject, folder: Path, bench: Bench, devices: Sequence[str] = ("cpu",)) -> Ablation:
    return ablate(subject.files.root, folder, ROWS, devices, run=bench)


def test_what_is_finished_is_kept(actor_subject: Subject, tmp_path: Path) -> None:
    bench = Bench()
    bench.fail = "combined"
    with pytest.raises(
        UserError, match="training of 'combined face branch' failed: it is broken.*fix the reported error and rerun"
    ):
        made(actor_subject, tmp_path, bench)
    assert (tmp_path / "full" / "report.json").exists()  # the others are finished first
    bench.fail, bench.commands = "", []
    made(actor_subject, tmp_path, bench)
    assert [command[3] for command in bench.commands if command[0] == "train"] == [
        str(tmp_path / "combined.safetensors")
    ]
    other = replace(ROWS, settings=("seed=3",))
    with pytest.raises(UserError, match="trained with other settings"):
        ablate(actor_subject.files.root, tmp_path, other, ["cpu"], run=bench)


def test_devices_share_the_rows(actor_subject: Subject, tmp_path: Path) -> None:
    bench = Bench()
    done = made(actor_subject, tmp_path, bench, ("cpu", "meta"))
    assert set(done.reports) == set(SCORES) and len(bench.commands) == 6


def test_table_has_the_papers_columns_first(actor_subject: Subject, tmp_path: Path) -> None:
    done = made(actor_subject, tmp_path, Bench())
    lines = ablation_table(done).markdown().splitlines()
    assert lines[0] == "| Method | LPIPS ↓ | emotion E-Acc top-3 [%] ↑ |"
    assert lines[2:] == [
        "| combined face branch | **0.0253** | 42.1 |",
        "| without the emotion branch | 0.0255 | 25.3 |",
        "| full model | 0.0267 | **46.6** |",
    ]
    write_ablation(done, ROWS, {"command": "test"}, tmp_path)
    data = json.loads((tmp_path / "ablation.json").read_text())
    assert data["variants"]["combined"]["metrics"]["self.lpips"]["value"] == 0.0253
    assert "not comparable" in (tmp_path / "table.md").read_text()
    assert "full model" in (tmp_path / "report.html").read_text()
    assert any("LPIPS (made up)" in note for note in notes_of(done, ROWS))


@pytest.mark.parametrize("options", [{"frames": 0}, {"frames": -1}, {"expert_steps": 0}])
def test_what_cannot_be_evaluated_is_refused_before_training(options: dict[str, int]) -> None:
    with pytest.raises(UserError, match="give (at least 1|1 or more)"):
        AblationConfig("tiny", **options)
