"""Mouth and face at the same time: the same avatar and one record, whatever happens to either."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from emotalking.data import Subject
from emotalking.errors import UserError
from emotalking.train import mouth_worker as worker_module
from emotalking.train import run
from emotalking.train import workers as processes
from emotalking.train.callbacks.log import LOG, of_kind
from emotalking.train.callbacks.rows import read_log
from emotalking.train.checkpoint import VERSION, write_payload
from emotalking.train.mouth_worker import BRANCH, FOLDER
from emotalking.train.stages.face import FaceStage
from emotalking.train.stages.mouth import MouthStage

pytestmark = pytest.mark.usefixtures("one_thread", "unchecked")
SHORT = """model.face.initial_points=120 model.mouth.initial_points=40 mouth.iterations=30 mouth.warmup=3
face.iterations=40 face.warmup=3 model.emotion.branch=none finetune.iterations=6 checkpoint_every=5 audio_pretraining=3
motion_pretraining=3 closed_mouth_code=2""".split()
SHORT += [f"{s}.densify.{rule}" for s in ("mouth", "face") for rule in ("start=2", "every=4", "until=9")]
SHORT += [f"{s}.densify.prune_opacity_gain=0" for s in ("mouth", "face")]

Weights = dict[str, torch.Tensor]


def same(ours: Weights, theirs: Weights) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


def train(subject: Subject, out: Path, second: str | None = "cpu", **options: bool) -> run.TrainResult:
    return run.train(subject.files.root, out, "tiny", "cpu", SHORT, mouth_device=second, **options)


def weights(made: run.TrainResult) -> Weights:
    return made.avatar.head.state_dict()


@pytest.fixture(scope="module")
def alone(one_thread: None, actor_subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> run.TrainResult:
    """What one device makes."""
    return train(actor_subject, tmp_path_factory.mktemp("alone") / "a.safetensors", None)


class Forked:
    """Stands for :class:`emotalking.train.workers.Worker`, without the seconds that a new interpreter takes."""

    before: Callable[[], None] = staticmethod(lambda: None)
    """What its process does first."""

    def __init__(self, module: str, arguments: Sequence[str], device: str, log: Path) -> None:
        assert (module, device) == ("emotalking.train.mouth_worker", "cpu")
        self._log, self._code = log, None
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid:
            return
        code = 1
        try:
            sys.stderr = log.open("w")
            Forked.before()
            code = worker_module.main(arguments)
        finally:
            sys.stderr.flush()
            os._exit(code)

    def wait(self, seconds: float | int | None = 0) -> int | None:
        if self._code is None:
            number, status = os.waitpid(self.pid, os.WNOHANG if seconds == 0 else 0)
            self._code = os.waitstatus_to_exitcode(status) if number else None
        return self._code

    def stop(self) -> None:
        if self.wait() is None:
            os.kill(self.pid, signal.SIGINT)
            self.wait(None)

    failure = processes.Worker.failure


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "Worker", Forked)


def test_two_devices_make_the_avatar_of_one(actor_subject: Subject, tmp_path: Path, alone: run.TrainResult) -> None:
    """In a process as users get it."""
    made = train(actor_subject, tmp_path / "a.safetensors", tensorboard=True)
    assert same(weights(made), weights(alone))
    assert list(made.stage_seconds) == ["mouth", "face", "finetune"]
    folder = tmp_path / "a.safetensors.run"
    assert not (folder / FOLDER).exists() and not (folder / "checkpoint.pt").exists()
    rows, theirs = read_log(folder / LOG), read_log(alone.path.with_name("a.safetensors.run") / LOG)
    assert [row["stage"] for row in of_kind(rows, "stage")] == ["mouth", "face", "finetune"]
    for stage in made.stage_seconds:
        ours, wanted = of_kind(rows, "step", stage), of_kind(theirs, "step", stage)
        assert [(row["iteration"], row["terms"]) for row in ours] == [
            (row["iteration"], row["terms"]) for row in wanted
        ]
        last = of_kind(rows, "frames", stage)[-1]
        assert (folder / last["image"]).stat().st_size > 1000
        assert last.get("psnr") == of_kind(theirs, "frames", stage)[-1].get("psnr")
        assert last.get("sound_gain") == of_kind(theirs, "frames", stage)[-1].get("sound_gain")
    assert set(of_kind(rows, "step", "mouth")[-1]["gaussians"]) == {"mouth"}
    assert of_kind(rows, "run")[0]["machine"]["mouth_worker"]["device"] == "cpu"
    said = [(row["name"], row["stage"]) for row in of_kind(rows, "warning")]
    assert sorted(said) == sorted((row["name"], row["stage"]) for row in of_kind(theirs, "warning"))


def slowed(stage: type, since: int) -> Callable[[], None]:
    """What makes the steps of a stage take long from iteration ``since`` on."""
    before = stage.losses

    def losses(self: object, at: int) -> object:
        time.sleep(0.2 if at >= since else 0.0)
        return before(self, at)

    def slow() -> None:
        stage.losses = losses

    return slow


def ended(folder: Path) -> list[str]:
    """How the mouth's processes ended so far."""
    path = folder / FOLDER / LOG
    return [row["outcome"] for row in of_kind(read_log(path), "end")] if path.exists() else []


def test_a_killed_run_takes_its_process_along_and_goes_on(
    actor_subject: Subject, tmp_path: Path, alone: run.TrainResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, folder = tmp_path / "a.safetensors", tmp_path / "a.safetensors.run"
    child = os.fork()
    if not child:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            slowed(FaceStage, 12)()
            train(actor_subject, out)
        finally:
            os._exit(1)
    while not (folder / FOLDER / "checkpoint.pt").exists():
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while not ended(folder):
        time.sleep(0.01)
    assert ended(folder) == ["interrupted"]
    assert torch.load(folder / "checkpoint.pt", weights_only=True)["stage_name"] == "face"
    monkeypatch.setattr(worker_module, "Worker", Forked)
    made = train(actor_subject, out)
    assert same(weights(made), weights(alone))
    rows = read_log(folder / LOG)
    assert [row["resumed"] is None for row in of_kind(rows, "run")] == [True, False]
    for stage in made.stage_seconds:
        at = [row["iteration"] for row in of_kind(rows, "step", stage)]
        assert at == sorted(set(at))


def test_ctrl_c_stops_both_and_one_device_goes_on(
    actor_subject: Subject,
    tmp_path: Path,
    alone: run.TrainResult,
    monkeypatch: pytest.MonkeyPatch,
    forked: None,
) -> None:
    out, folder, before = tmp_path / "a.safetensors", tmp_path / "a.safetensors.run", FaceStage.losses

    def interrupt(self: FaceStage, iteration: int):
        if iteration == 12:
            while not (folder / FOLDER / "checkpoint.pt").exists():
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)
        return before(self, iteration)

    with monkeypatch.context() as patch:
        patch.setattr(FaceStage, "losses", interrupt)
        patch.setattr(Forked, "before", staticmethod(slowed(MouthStage, 8)))
        with pytest.raises(KeyboardInterrupt):
            train(actor_subject, out)
    assert (folder / FOLDER).exists() and not (folder / FOLDER / BRANCH).exists()
    assert torch.load(folder / "checkpoint.pt", weights_only=True)["iteration"] == 13
    assert same(weights(train(actor_subject, out, None)), weights(alone))
    assert not (folder / FOLDER).exists()


def test_a_mouth_that_fails_is_one_sentence_and_the_face_is_kept(
    actor_subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forked: None
) -> None:
    out, folder = tmp_path / "a.safetensors", tmp_path / "a.safetensors.run"

    def poison() -> None:
        before = MouthStage.losses

        def losses(self: MouthStage, iteration: int):
            terms, frame = before(self, iteration)
            return ({"l1": terms["l1"] * float("nan")} if iteration == 8 else terms), frame

        MouthStage.losses = losses

    with monkeypatch.context() as patch:
        patch.setattr(Forked, "before", staticmethod(poison))
        with pytest.raises(
            UserError, match="mouth stage on cpu failed .*: Training stopped: the loss 'l1' of"
        ) as raised:
            train(actor_subject, out)
    assert "\n" not in str(raised.value)
    saved = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert saved["stage_name"] == "face" and saved["iteration"] > 0
    rows = read_log(folder / LOG)
    assert of_kind(rows, "end")[-1]["outcome"] == "failed"
    assert [row["name"] for row in of_kind(rows, "warning", "mouth")] == ["not finite"]


def test_other_settings_are_refused_and_fresh_starts_again(
    actor_subject: Subject, tmp_path: Path, alone: run.TrainResult
) -> None:
    """Even where the run was ended before its own first checkpoint."""
    out, left = tmp_path / "a.safetensors", tmp_path / "a.safetensors.run" / FOLDER
    left.mkdir(parents=True)
    write_payload(left / BRANCH, {"version": VERSION, "config": {"train": "other"}, "head": weights(alone)})
    with pytest.raises(UserError, match="made with other settings.*do not resume"):
        train(actor_subject, out)
    (left / BRANCH).write_bytes((left / BRANCH).read_bytes()[:1000])
    with pytest.raises(UserError, match="damaged"):
        train(actor_subject, out)
    config, cpu = run.override(run.preset("tiny"), SHORT), torch.device("cpu")
    root = actor_subject.files.root
    with worker_module.mouth_worker(left.parent, root, {}, config, None, cpu, None, resume=False) as mouth:
        assert mouth is None and not left.exists()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (["sync.expert=stranger"], "sync loss needs the finished mouth"),
        (["mouth.iterations=0", "mouth.warmup=0"], "not both"),
    ],
)
def test_reason_is_logged_where_the_mouth_cannot_have_a_worker(
    actor_subject: Subject, tmp_path: Path, caplog: pytest.LogCaptureFixture, settings: list[str], reason: str
) -> None:
    config = run.override(run.preset("tiny"), [*SHORT, *settings])
    record = {"train": run.to_dict(config)}
    cpu = torch.device("cpu")
    root = actor_subject.files.root
    caplog.set_level("INFO", "emotalking")
    with worker_module.mouth_worker(tmp_path, root, record, config, None, cpu, cpu, resume=True) as mouth:
        assert mouth is None
    assert reason in caplog.text and "left idle" in caplog.text


def test_a_child_sees_one_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[tuple[str, str | None]] = []

    def popen(command: list[str], env: dict[str, str], **_: object) -> None:
        seen.append((command[-1], env.get("CUDA_VISIBLE_DEVICES")))

    monkeypatch.setattr(subprocess, "Popen", popen)
    for visible, device in ((None, "cuda:1"), ("4,GPU-7", "cuda:1"), (None, "cuda"), (None, "cpu")):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        processes.Worker("module", [processes.visible_name(device)], device, tmp_path / "log")
    assert seen == [("cuda", "1"), ("cuda", "GPU-7"), ("cuda", "0"), ("cpu", None)]
