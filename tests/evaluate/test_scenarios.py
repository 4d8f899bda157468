"""The three scenarios on the actor with a hardly trained avatar: files, honesty of the pair, keeping, running again."""

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from emotalking.cli.main import INPUT_ERROR, INTERRUPTED, main
from emotalking.data import Subject
from emotalking.data.audio_features import DEFAULT_FEATURE
from emotalking.emotion.circumplex import TEST_POINTS
from emotalking.emotion.tracks import EmotionTrack
from emotalking.errors import InputError
from emotalking.evaluate import scenarios
from emotalking.evaluate.compare import compare
from emotalking.evaluate.config import EvaluateConfig
from emotalking.evaluate.evaluation import evaluate, reproduce
from emotalking.evaluate.evaluation_models import EvaluationModels
from emotalking.evaluate.held_out import OnHeldOut, check_pair, own_emotion, pick_frames, reconstruct
from emotalking.evaluate.results import AVATAR, NEUTRAL, RECORDED, Report, read_report
from emotalking.evaluate.speech import Speech, UnseenSpeech
from emotalking.evaluate.systems import open_unseen
from emotalking.io.audio import load_audio, save_wav
from emotalking.models.avatar import Avatar
from emotalking.player.player import Player
from emotalking.train import run
from emotalking.train.data import TrainingData

from ..train.small import small


@pytest.fixture(scope="module")
def avatar_file(actor_subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("avatar") / "a.safetensors"
    run.train(actor_subject.files.root, path, "tiny", "cpu", small())
    return path


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    time = np.arange(4800) / 16000
    save_wav(path, (0.3 * np.sin(2 * np.pi * 200 * time) * (time > 0.1)).astype(np.float32))
    return path


@pytest.fixture(autouse=True)
def pixels_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Detectors take seconds to start and find nothing in images of 64x64; their models have tests of their own."""
    monkeypatch.setattr(scenarios.EvaluationModels, "open", lambda **_: EvaluationModels.none())


class Messages(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@contextmanager
def logged() -> Iterator[list[str]]:
    """What the evaluation logs in the block (caplog is for single tests)."""
    logger, messages = logging.getLogger("emotalking.evaluate.evaluation"), Messages()
    logger.addHandler(messages)
    logger.setLevel(logging.INFO)
    yield messages.lines
    logger.removeHandler(messages)
    logger.setLevel(logging.NOTSET)


@pytest.fixture(scope="module")
def evaluated(
    avatar_file: Path, actor_subject: Subject, speech: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Report, Path, list[str]]:
    """One evaluation of everything, its folder and what it said."""
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch, logged() as said:
        patch.setattr(scenarios.EvaluationModels, "open", lambda **_: EvaluationModels.none())
        options = EvaluateConfig(audio=(str(speech),), frames=2)
        report = evaluate(avatar_file, actor_subject.files.root, folder, options, command="test")
    return report, folder, said


def test_all_scenarios_are_scored_and_written(evaluated: tuple[Report, Path, list[str]]) -> None:
    report, folder, said = evaluated
    runs = {result.scenario: result.runs for result in report.results}
    assert [len(runs[name]) for name in ("self", "cross", "emotion")] == [2, 1, 13]
    neutral, *points = runs["emotion"]  # one sound, so one neutral run; its metrics are none of the twelve points'
    assert neutral.system == NEUTRAL and neutral.commanded == (0.0, 0.0) and not neutral.metrics
    assert {run.system for run in points} == {AVATAR} and {run.sound for run in points} == {neutral.sound}
    assert [name.split(":")[0] for name in said] == ["self", "cross", "emotion"]
    metrics = runs["self"][0].metrics
    assert metrics["psnr"].frames == 2 and 5 < metrics["psnr"].value < 60
    assert "psnr" not in runs["self"][1].metrics and not any("truth" in name for name in metrics)
    assert runs["self"][0].subject_frames == "30-31"
    assert [run.commanded for run in points] == [(point.valence, point.arousal) for point in TEST_POINTS]
    assert all(run.sound == "speech.wav" and run.sound_sha256 for run in runs["cross"])
    page = (folder / "report.html").read_text()
    assert "not comparable" in page and page.count("data:image/jpeg") == 4 + 1 + 1
    assert "33.78" in (folder / "table.md").read_text() and "\\toprule" in (folder / "table.tex").read_text()
    data = json.loads((folder / "report.json").read_text())["provenance"]["data"]
    assert data["train"]["count"] == 30 and data["val"]["frames"] == "30-32" and data["disjoint"]


def test_the_report_reads_back_as_it_was(evaluated: tuple[Report, Path, list[str]]) -> None:
    report, folder, _ = evaluated
    again = read_report(folder / "report.json")
    for before, after in zip(report.results, again.results, strict=True):
        assert (before.key, before.images, before.notes) == (after.key, after.images, after.notes)
        for old, new in zip(before.runs, after.runs, strict=True):
            assert (old.title, old.commanded, old.label) == (new.title, new.commanded, new.label)
            values = [[metric.value for metric in run.metrics.values()] for run in (old, new)]
            assert np.array_equal(*values, equal_nan=True)


def test_a_finished_scenario_is_kept_until_something_changes(
    evaluated: tuple[Report, Path, list[str]],
    avatar_file: Path,
    actor_subject: Subject,
    speech: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(evaluated[1], folder)
    (folder / "emotion.json").unlink()
    options = EvaluateConfig(audio=(str(speech),), frames=2)
    with logged() as said:
        evaluate(avatar_file, actor_subject.files.root, folder, options)
    assert ["kept" in line for line in said] == [True, True, False]
    with logged() as said:
        evaluate(avatar_file, actor_subject.files.root, folder, replace(options, frames=1, scenarios=("self", "cross")))
    assert ["kept" in line for line in said] == [False] * 2
    assert capsys.readouterr().out == ""  # only the command line prints


def test_a_report_can_be_made_again_and_says_what_changed(
    evaluated: tuple[Report, Path, list[str]], avatar_file: Path, actor_subject: Subject, tmp_path: Path
) -> None:
    report_file, options = evaluated[1] / "report.json", EvaluateConfig(("self",), frames=2)
    same = reproduce(report_file, tmp_path / "same")
    assert same.inputs == [] and same.metrics == [] and same.compared > 100
    other = tmp_path / "subject"
    shutil.copytree(actor_subject.files.root, other)
    target = Subject.open(other).files.target(30)
    shutil.copy(Subject.open(other).files.target(10), target)
    evaluate(avatar_file, actor_subject.files.root, tmp_path / "self", options)
    changed = reproduce(tmp_path / "self" / "report.json", tmp_path / "changed", subject=other)
    assert [line for line in changed.inputs if line.startswith("the held-out frames")]
    assert [line for line in changed.metrics if "self, avatar, held-out frames, psnr" in line]
    with pytest.raises(InputError, match="give another folder"):
        reproduce(report_file, report_file.parent)


def test_an_avatar_speaks_what_systems_are_compared_on(
    avatar_file: Path, actor_subject: Subject, speech: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unseen = UnseenSpeech(Speech("speech.wav", load_audio(speech)), (0.7, 0.3))
    system = open_unseen("ours", str(avatar_file), actor_subject, torch.device("cpu"), unseen)
    assert system.indices.tolist() == list(range(7))
    whole, last = (list(system.frames(np.array(wanted))) for wanted in (range(7), [6]))
    assert len(whole) == 7 and np.array_equal(whole[6], last[0])
    player = Player(OnHeldOut(Avatar.load(avatar_file, torch.device("cpu")), actor_subject))
    played = list(player.frames(unseen.speech.under(7, 25.0), EmotionTrack.constant(0.7, 0.3), batch=1))
    assert np.array_equal(whole, played) and len(np.unique(whole[0])) > 50
    made = compare(actor_subject, [system], EvaluationModels.none(), unseen=unseen)
    assert made.rows[0].metrics["fps"].value > 0
    # What is commanded reaches the player; without a command it is the emotion of the held-out frames, as in cross.
    tracks: list[EmotionTrack] = []
    monkeypatch.setattr(Player, "frames", lambda _, samples, track, batch: iter(tracks.append(track) or []))
    plain = open_unseen("ours", str(avatar_file), actor_subject, torch.device("cpu"), UnseenSpeech(unseen.speech))
    for source in (system, plain):
        assert list(source.frames(np.arange(5))) == []
    times = np.arange(5) / 25
    assert tracks[0].at(times) == pytest.approx(np.tile([0.7, 0.3], (5, 1)), abs=1e-6)
    shown = Player(OnHeldOut(Avatar.load(avatar_file, torch.device("cpu")), actor_subject)).recorded(5)
    own = own_emotion(actor_subject, actor_subject.val_indices[shown])
    assert tracks[1].at(times) == pytest.approx(own, abs=1e-6) and np.ptp(own) > 0


def test_the_recording_stands_beside_the_avatar_only_where_there_is_one(
    evaluated: tuple[Report, Path, list[str]],
) -> None:
    for result in evaluated[0].results:
        assert bool(result.of(RECORDED)) == (result.scenario == "self")
        assert ("opening_r" in result.summary(RECORDED)) == (result.scenario == "self")
        assert result.summary(AVATAR)["fps"].value > 0


def test_frames_are_streamed_in_order_and_equal_those_of_the_training_data(
    avatar_file: Path, actor_subject: Subject
) -> None:
    avatar = Avatar.load(avatar_file)
    indices = pick_frames(actor_subject, None)
    va = own_emotion(actor_subject, indices)
    made = list(reconstruct(avatar, actor_subject, indices, va))
    gate = np.linspace(0, 1, len(indices), dtype=np.float32)
    gated = list(reconstruct(avatar, actor_subject, indices, va, gate))
    data = TrainingData.load(actor_subject, indices, DEFAULT_FEATURE, "cpu")
    plain = replace(avatar, lips="strict", skin=False)
    for frame, image in enumerate(made):
        at = data.conditions.at(frame)
        whole = plain.render(at.viewmats, at.audio, at.aus, at.va, data.behind(frame), gaze=at.gaze).rgb[0]
        assert torch.allclose(image, whole, atol=1 / 255)  # the torso is laid over the plate in 8 bit
        said = torch.from_numpy(gate[frame : frame + 1])
        through = plain.render(at.viewmats, at.audio, at.aus, at.va, data.behind(frame), said, at.gaze).rgb[0]
        assert torch.allclose(gated[frame], through, atol=1 / 255)
    assert len(made) == 3
    assert pick_frames(actor_subject, 2).tolist() == [30, 31]
    assert pick_frames(actor_subject, 2, evenly=True).tolist() == [30, 32]


def test_a_pair_that_cannot_be_scored_honestly_is_refused(avatar_file: Path, actor_subject: Subject) -> None:
    avatar = Avatar.load(avatar_file)
    check_pair(avatar, actor_subject)
    scene = avatar.scene

    def posed(viewmats: np.ndarray) -> Avatar:
        aus, va = (np.zeros((len(viewmats), width), np.float32) for width in (6, 2))
        return Avatar(avatar.head, replace(scene, viewmats=viewmats, aus=aus, va=va, gaze=None))

    with pytest.raises(InputError, match="trained on 3 of the 3 held-out frames"):
        check_pair(posed(actor_subject.viewmats), actor_subject)
    check_pair(posed(scene.viewmats[:20]), actor_subject)
    with pytest.raises(InputError, match="prepared again"):
        check_pair(posed(scene.viewmats + np.float32(1e-4)), actor_subject)
    with pytest.raises(InputError, match="give the subject that it was made from"):
        check_pair(Avatar(avatar.head, replace(scene, width=65)), actor_subject)
    foreign = Subject(actor_subject.files, {"clip": {"sha256": "1"}})
    with pytest.raises(InputError, match="another clip"):
        check_pair(Avatar(avatar.head, scene, {"subject": {"clip": {"sha256": "2"}}}), foreign)


def test_spread_frames_have_no_figures_in_time(avatar_file: Path, actor_subject: Subject, tmp_path: Path) -> None:
    options = EvaluateConfig(("self",), frames=2, evenly=True)
    result = evaluate(avatar_file, actor_subject.files.root, tmp_path, options).results[0]
    assert result.notes and result.runs[0].metrics["psnr"].value > 0
    assert result.runs[0].metrics["flicker"].reason == "the frames are not consecutive"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"scenarios": ()}, "no scenario"),
        ({"frames": 0}, "give at least 1"),
        ({"evenly": True}, "also give 'frames'"),
    ],
)
def test_options_that_cannot_be_are_refused(values: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        EvaluateConfig(**values)


def test_the_command_prints_the_tables_and_an_interruption_loses_no_scenario(
    avatar_file: Path,
    actor_subject: Subject,
    speech: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["evaluate", str(avatar_file), str(actor_subject.files.root), "-o", str(tmp_path), "--frames", "1"]
    words += ["--device", "cpu", "--audio", str(speech), "--scenarios", "self,cross"]

    def interrupted(_: scenarios.Session) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        spec = replace(scenarios.SCENARIO_SPECS["cross"], score=interrupted)
        patch.setitem(scenarios.SCENARIO_SPECS, "cross", spec)
        assert main(words) == INTERRUPTED
    assert "finished scenarios are kept" in capsys.readouterr().err
    assert main(words) == 0
    shown = capsys.readouterr()
    assert shown.err.count("kept from before") == 1
    assert "| this avatar |" in shown.out and "not comparable" in shown.out
    assert main(["reproduce", str(tmp_path / "report.json"), "-o", str(tmp_path / "again")]) == 0
    assert "metrics are the same" in capsys.readouterr().out
    assert main([*words[:2], "-o", str(tmp_path)]) == INPUT_ERROR


def test_a_warning_where_the_speech_was_in_the_training(avatar_file: Path, actor_subject: Subject) -> None:
    avatar = Avatar.load(avatar_file)
    avatar.metadata["sync"] = {"speech": "espeak"}
    session = scenarios.Session(avatar, actor_subject, EvaluateConfig(), EvaluationModels.none(), ())
    assert "espeak" in scenarios.speech_in_training(session)[0]
    avatar.metadata["sync"] = None
    assert scenarios.speech_in_training(session) == []
