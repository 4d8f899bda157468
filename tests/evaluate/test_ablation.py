"""The ablation kit: what each row is trained with, that finished rows are kept, and the table."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from emotalking.data import Subject
from emotalking.errors import InputError
from emotalking.evaluate import ablation
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
from emotalking.evaluate.config import AblationConfig, EvaluateConfig
from emotalking.evaluate.metrics import single
from emotalking.evaluate.results import AVATAR, Report, Result, Run, write_report
from emotalking.io.settings import override
from emotalking.jobs.engine import Sequential
from emotalking.models.avatar_file import FORMAT, VERSION
from emotalking.train import run
from emotalking.train.presets import preset

SCORES = {"full": (0.0267, 46.6), "combined": (0.0253, 42.1), "no_emotion": (0.0255, 25.3)}
ROWS = AblationConfig("tiny", variants=tuple(SCORES), expert="none")


class Bench:
    """Stands for training and evaluation: writes files like theirs and notes what was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trained: list[str] = []
        self.evaluated: list[str] = []
        self.fail = ""
        monkeypatch.setattr(ablation, "train", self.train)
        monkeypatch.setattr(ablation, "evaluate", self.evaluate)

    def train(
        self, subject: Path, avatar: Path, preset_name: str, device: str, settings: list[str], *, command: str
    ) -> None:
        assert (preset_name, device) == ("tiny", "cpu") and command.startswith(f"emotalking train {subject} ")
        self.trained.append(avatar.stem)
        if avatar.stem == self.fail:
            raise InputError("it is broken.")
        source = Subject.open(subject)
        config = run.resolve_config(override(preset("tiny"), settings), source)
        metadata = {"run": run.fingerprint(config, "tiny", source, run.MESH_WARP)}
        header = {"format": FORMAT, "version": str(VERSION), "metadata": json.dumps(metadata)}
        save_file({"x": np.zeros(1, np.float32)}, avatar, metadata=header)

    def evaluate(
        self, avatar: Path, subject: Path, folder: Path, options: EvaluateConfig, *, device: str, command: str
    ) -> None:
        assert options == EvaluateConfig(expert="none") and device == "cpu"
        assert command == (
            f"emotalking evaluate {avatar} {subject} -o {folder} --expert none --emotion-model landmarks --lpips auto"
        )
        self.evaluated.append(avatar.stem)
        lpips, accuracy = SCORES[avatar.stem]
        runs = {"self": ("lpips", lpips, "LPIPS (made up)"), "emotion": ("e_top3", accuracy, "a model")}
        results = tuple(
            Result(scenario, "", 1.0, (Run(AVATAR, "run", 3, {metric: single(metric, value, model, 3)}),))
            for scenario, (metric, value, model) in runs.items()
        )
        folder.mkdir(exist_ok=True)
        write_report(Report({}, {"avatar": {"file": avatar.stem}}, results), folder / "report.json")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


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
    with pytest.raises(InputError, match="no variant"):
        make_plan(actor_subject, replace(ROWS, variants=()), tmp_path)


def made(subject: Subject, folder: Path) -> Ablation:
    return ablate(subject.files.root, folder, ROWS, Sequential("cpu"))


def test_what_is_finished_is_kept(actor_subject: Subject, tmp_path: Path, bench: Bench) -> None:
    bench.fail = "combined"
    with pytest.raises(
        InputError, match="combined face branch: the training failed: it is broken.*fix the reported error and rerun"
    ):
        made(actor_subject, tmp_path)
    assert bench.evaluated == ["no_emotion", "full"]  # the others are finished first
    assert "it is broken" in (tmp_path / "combined.log").read_text()
    bench.fail = ""
    bench.trained.clear()
    done = made(actor_subject, tmp_path)
    assert bench.trained == ["combined"] and set(done.reports) == set(SCORES)
    other = replace(ROWS, settings=("seed=3",))
    with pytest.raises(InputError, match="trained with other settings"):
        ablate(actor_subject.files.root, tmp_path, other, Sequential("cpu"))


def test_experts_are_trained_once_and_before(
    actor_subject: Subject, tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: dict[str, int] = {}

    def train_expert(subjects: list[Subject], path: Path, *, steps: int, device: str, seed: int) -> None:
        assert not bench.trained and (steps, device) == (7, "cpu")
        seeds[path.name] = seed
        path.touch()

    monkeypatch.setattr(ablation, "train_expert", train_expert)
    monkeypatch.setattr(bench, "fail", "no_sync")
    rows = AblationConfig("tiny", variants=("no_sync",), expert="own", expert_steps=7)
    for expected in ({TRAINING_EXPERT: 0, EVALUATION_EXPERT: 1}, {}):
        with pytest.raises(InputError, match="it is broken"):
            ablate(actor_subject.files.root, tmp_path, rows, Sequential("cpu"))
        assert bench.trained == ["no_sync"] and seeds == expected
        bench.trained.clear()
        seeds.clear()


def test_table_has_the_papers_columns_first(actor_subject: Subject, tmp_path: Path, bench: Bench) -> None:
    done = made(actor_subject, tmp_path)
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
    with pytest.raises(InputError, match="give (at least 1|1 or more)"):
        AblationConfig("tiny", **options)
