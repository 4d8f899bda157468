"""A real short run leaves its record, its page and its events, however it ends."""

import re
import struct
from collections import defaultdict
from pathlib import Path

import pytest
import torch

from emotalking import api
from emotalking.data import Subject
from emotalking.errors import InputError
from emotalking.train import run
from emotalking.train.callbacks import report as record
from emotalking.train.callbacks.log import FOLDER, LOG, of_kind, preview_interval, scalars
from emotalking.train.callbacks.preview import EYES, FRAMES, STRIP, pick_frames
from emotalking.train.callbacks.rows import read_log
from emotalking.train.stages.emotion import EmotionStage

pytestmark = pytest.mark.usefixtures("one_thread", "unchecked")
SHORT = """model.face.initial_points=150 model.mouth.initial_points=40 mouth.iterations=20 mouth.warmup=5
face.iterations=40 face.warmup=10 face.densify.start=4 face.densify.every=8 face.densify.until=30 emotion.iterations=20
finetune.iterations=20 checkpoint_every=10 audio_pretraining=5 motion_pretraining=5
emotion.pretraining=5 closed_mouth_code=2""".split()


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The scalars of TensorBoard's files: (length, checksum, event, checksum), again and again."""
    from tensorboardX.proto import event_pb2

    found: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for path in sorted((folder / FOLDER).glob("events.*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = event_pb2.Event.FromString(data[at + 12 : at + 12 + length])
            for value in event.summary.value:
                kind = value.WhichOneof("value")
                found[value.tag].append((event.step, value.simple_value if kind == "simple_value" else -1.0))
            at += length + 16
    return found


@pytest.fixture(scope="module")
def finished(actor_subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of a run that was interrupted in its emotion stage, looked at, and finished."""
    out = tmp_path_factory.mktemp("run") / "a.safetensors"
    before = EmotionStage.losses

    def interrupt(self: EmotionStage, iteration: int):
        if iteration == 15:
            raise KeyboardInterrupt
        return before(self, iteration)

    patch = pytest.MonkeyPatch()
    patch.setattr(EmotionStage, "losses", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run.train(actor_subject.files.root, out, "tiny", "cpu", SHORT, tensorboard=True)
    patch.undo()
    folder = out.with_name(out.name + ".run")
    (folder / "interrupted.html").write_text((folder / "report.html").read_text())
    made = run.train(actor_subject.files.root, out, "tiny", "cpu", SHORT, tensorboard=True)
    assert made.page == folder / "report.html"
    return folder


def test_a_resumed_run_keeps_one_line_of_every_curve(finished: Path) -> None:
    rows = read_log(finished / LOG)
    assert [row["outcome"] for row in of_kind(rows, "end")] == ["interrupted", "finished"]
    assert [row["resumed"] for row in of_kind(rows, "run")] == [None, ["emotion", 10]]
    for stage, length in (("mouth", 20), ("face", 40), ("emotion", 20), ("finetune", 20)):
        at = [row["iteration"] for row in of_kind(rows, "step", stage)]
        assert at == sorted(set(at)) and at[-1] == length
        assert len(of_kind(rows, "stage", stage)) == len(of_kind(rows, "frames", stage)) == 1
    face = of_kind(rows, "step", "face")[-1]
    assert face["raw"]["d_ssim"] == pytest.approx(face["terms"]["d_ssim"] / 0.2)
    assert face["loss"] == pytest.approx(sum(face["terms"].values()), rel=1e-5)
    assert {"gaussians.means", "networks.grids", "networks.audio"} <= set(face["rates"])
    grown = sum(row["grown"] - row["pruned"] for row in of_kind(rows, "step", "face"))
    assert face["gaussians"]["face"] == 150 + grown


def test_the_fixed_frames_are_measured_and_pictured(finished: Path) -> None:
    looks = {row["stage"]: row for row in of_kind(read_log(finished / LOG), "frames")}
    assert looks["mouth"]["region"] == 0.0  # these few held-out frames show no inside of a mouth
    assert "psnr_mouth" not in looks["mouth"] and looks["mouth"]["motion_px"] >= 0.0
    assert all(6.0 < looks[stage][name] < 40.0 for stage in ("face", "finetune") for name in ("psnr", "psnr_head"))
    assert "emotion_gain" in looks["emotion"] and "emotion_gain" not in looks["face"]
    assert all((finished / row["image"]).stat().st_size > 1000 for row in looks.values())
    assert (finished / "frames" / "emotions.jpg").stat().st_size > 1000


def test_the_page_tells_of_both_ways_to_end(finished: Path) -> None:
    page, cut = (finished / "report.html").read_text(), (finished / "interrupted.html").read_text()
    assert "Training finished" in page and "Training was interrupted after iteration" in cut
    for text in (page, cut):
        assert "face.iterations" in text and "Apache-2.0" in text and "<svg" in text
        assert not re.search(r'(src|href)="(?!data:|#)', text.replace("xlink:", "")) and "<script" not in text
    assert page.count("data:image/jpeg") == 5  # four stages and the emotions
    assert "from iteration 10 of emotion" in page


def test_the_page_and_the_events_are_made_from_the_folder_alone(finished: Path, tmp_path: Path) -> None:
    (tmp_path / LOG).write_text((finished / LOG).read_text())
    assert api.training_report(tmp_path, tensorboard=True) == tmp_path / "report.html"
    assert "data:image" not in (tmp_path / "report.html").read_text()
    again, written = events(tmp_path), events(finished)
    pictures = {f"fixed_frames/{stage}" for stage in ("mouth", "face", "emotion", "finetune")}
    assert set(written) - set(again) == pictures
    assert {name: values for name, values in written.items() if name not in pictures} == again
    with pytest.raises(InputError, match="cannot be read"):
        api.training_report(tmp_path / "nothing")


def test_events_hold_every_scalar_of_the_record_on_one_axis(finished: Path) -> None:
    found, rows = events(finished), read_log(finished / LOG)
    for row in of_kind(rows, "step", "emotion"):
        at = 20 + 40 + row["iteration"]
        for name, value in scalars(row).items():
            assert dict(found[name])[at] == pytest.approx(value, rel=1e-5), name
    steps = [at for at, _ in found["gaussians/face"]]
    assert steps == sorted(set(steps)) and steps[-1] == 100
    assert "fixed_frames/face" in found


def test_a_failed_run_says_why_on_its_page(actor_subject: Subject, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(EmotionStage, "losses", lambda self, at: ({"l1": torch.tensor(float("nan"))}, 7))
    monkeypatch.setattr(EmotionStage, "before_update", lambda self, at: None)
    monkeypatch.setattr(torch.Tensor, "backward", lambda self: None)
    settings = [*SHORT, "mouth.iterations=0", "mouth.warmup=0", "face.iterations=0", "face.warmup=0"]
    with pytest.raises(InputError, match="'l1' of stage 'emotion' became nan at iteration 0 on frame 7"):
        run.train(actor_subject.files.root, tmp_path / "a.safetensors", "tiny", "cpu", settings)
    folder = tmp_path / "a.safetensors.run"
    assert [row["name"] for row in of_kind(read_log(folder / LOG), "warning")] == ["not finite"]
    assert "Training failed after" in (folder / "report.html").read_text()


def test_frames_to_look_at_are_held_out(actor_subject: Subject) -> None:
    picked = pick_frames(actor_subject)
    held = set(actor_subject.val_indices.tolist())
    assert set(picked.all.tolist()) <= held
    assert len(picked.fixed) <= FRAMES and len(picked.eyes) <= EYES + 1 and len(picked.strip) <= STRIP
    opening = actor_subject.mouth_opening[picked.fixed]
    assert (opening[1:] >= opening[:-1]).all()
    actor_subject.__dict__["blink"] = torch.linspace(0, 1, actor_subject.num_frames).numpy()
    try:
        shut = pick_frames(actor_subject).eyes
    finally:
        del actor_subject.__dict__["blink"]
    assert len(shut) == min(EYES, len(held)) + 1 and shut[0] == max(held) and shut[-1] == min(held)


def test_frames_without_a_face_are_not_looked_at(actor_subject: Subject) -> None:
    detected, held = actor_subject.landmarks.detected, actor_subject.val_indices
    try:
        detected[held[0]] = False
        assert set(pick_frames(actor_subject).all.tolist()) <= set(held[1:].tolist())
        detected[held] = False
        assert set(pick_frames(actor_subject).all.tolist()) <= set(actor_subject.train_indices.tolist())
    finally:
        detected[held] = True


def test_a_missing_writer_is_named_before_anything_is_done(actor_subject: Subject, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"emotalking\[tensorboard\]"):
        run.train(actor_subject.files.root, tmp_path / "a.safetensors", "tiny", "cpu", SHORT, tensorboard=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("iterations", "interval"), [(50, 100), (400, 100), (3_500, 440), (50_000, 6_240)])
def test_looks_are_spread_over_a_stage(iterations: int, interval: int) -> None:
    assert preview_interval(iterations) == interval


def test_every_weight_of_a_term_is_known() -> None:
    weights = record.weights_of(run.preset("paper"))
    assert weights["face"]["d_ssim"] == 0.2 and weights["emotion"]["sync"] == 1e-4
