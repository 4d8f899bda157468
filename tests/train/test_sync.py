"""The sync loss in training: which windows, what is rendered, who learns from it, and that it can be left out."""

import json
import shutil
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from emotalking.data import Subject
from emotalking.data.audio_features import DEFAULT_FEATURE
from emotalking.data.labels import Label
from emotalking.errors import InputError
from emotalking.io.audio import load_audio, save_wav
from emotalking.io.settings import override
from emotalking.lipsync import training as sync_training
from emotalking.lipsync.expert import SyncExpert, crop_frames
from emotalking.lipsync.personal import lower_face
from emotalking.lipsync.windows import FRAMES
from emotalking.models.avatar import Avatar
from emotalking.ops.box import Box
from emotalking.testing.actor.actor import Actor
from emotalking.testing.actor.performance import Performance
from emotalking.testing.actor_subject import write_actor_subject
from emotalking.train import run, sync, sync_source
from emotalking.train.context import Context
from emotalking.train.data import TrainingData
from emotalking.train.presets import preset
from emotalking.train.stages.emotion import EmotionStage
from emotalking.train.stages.face import FaceStage
from emotalking.train.stages.mouth import MouthStage
from emotalking.train.sync import SyncTerm, needs_sync
from emotalking.train.sync_source import WindowSource, consecutive, frame_steps, spoken, voiced
from emotalking.tts.base import Utterance

from .small import cut_off, small

pytestmark = pytest.mark.usefixtures("one_thread", "unchecked")

SHORT = small(
    "emotion.iterations=6",
    "finetune.iterations=1",
    "checkpoint_every=5",
    "sync.expert=stand-in",
    "optim.audio=1e-4",
    "sync.every=2",
    steps=12,
    warmup=3,
    face=300,
    mouth=60,
)


class StandIn:
    """An expert of the right interface that judges how dark the middle of the crop is against how loud it is."""

    name = "stand-in"
    size = 24
    width = 2
    device = torch.device("cpu")

    def square(self, points: Float[np.ndarray, "N 68 2"]) -> Box:
        return lower_face(points)

    def embed_lips(self, crops: Float[Tensor, "B 5 S S 3"]) -> Float[Tensor, "B D"]:
        dark = 1.0 - crops[:, :, 6:18, 6:18].mean((2, 3, 4))
        return torch.stack([dark.mean(1), (dark[:, 1:] - dark[:, :-1]).abs().mean(1)], -1)

    def audio_windows(
        self, samples: Float[np.ndarray, " n"], frames: int, fps: Fraction | float | int = 25
    ) -> Float[Tensor, "frames *A"]:
        begin = (np.arange(frames) * (16000 / float(fps))).astype(int)
        padded = np.pad(samples, (0, 3200 + int(begin[-1])))
        return torch.from_numpy(np.stack([padded[first : first + 3200] for first in begin]).astype(np.float32))

    def embed_audio(self, windows: Float[Tensor, "B *A"]) -> Float[Tensor, "B D"]:
        loud = windows.unflatten(1, (5, 640)).square().mean(2).sqrt()
        return torch.stack([loud.mean(1), (loud[:, 1:] - loud[:, :-1]).abs().mean(1)], -1)


@pytest.fixture(scope="module")
def speech_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings that are not the clip's."""
    folder = tmp_path_factory.mktemp("speech")
    for seed in (11, 12):
        save_wav(folder / f"{seed}.wav", Performance.generate(1.2, seed=seed).waveform)
    return folder


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "open_expert", lambda which, subject, device: StandIn())


def context(subject: Subject, speech: Path | str, settings: list[str] | None = None) -> Context:
    config = override(preset("tiny"), [*SHORT, f"sync.speech={speech}", *(settings or [])])
    data = TrainingData.load(subject, subject.train_indices, DEFAULT_FEATURE, "cpu")
    generator = torch.Generator().manual_seed(config.seed)
    expert = StandIn()
    source = WindowSource(subject, data, expert, DEFAULT_FEATURE, config.sync, Path("unused"), True)
    term = SyncTerm(expert, source, data, config.sync)
    return Context(run.build_head(config, data, generator), data, config, generator, term)


def test_the_stand_in_is_an_expert() -> None:
    assert isinstance(StandIn(), SyncExpert)


def test_windows_cross_no_gap_no_cut_and_no_frame_without_a_face(actor_subject: Subject) -> None:
    data = TrainingData.load(actor_subject, np.arange(30), DEFAULT_FEATURE, "cpu")
    assert consecutive(data, 4).tolist() == list(range(26))
    data.indices = np.concatenate([np.arange(10), np.arange(13, 33)])
    data.points[20, 3, 0] = torch.nan
    assert consecutive(data, 4).tolist() == [*range(6), *range(10, 16), *range(21, 26)]
    data.conditions.viewmats[16:, 0, 3] += 0.1
    assert consecutive(data, 4).tolist() == [*range(6), 10, 11, *range(21, 26)]
    assert consecutive(data, 40).tolist() == []


@pytest.mark.parametrize(
    ("fps", "steps"),
    [(25, [0, 1, 2, 3, 4]), (30, [0, 1, 3, 4, 5]), (50, [1, 3, 5, 7, 9]), (Fraction(20), [0, 1, 2, 2, 3])],
)
def test_other_rates_show_what_is_on_the_screen_25_times_a_second(fps: Fraction | int, steps: list[int]) -> None:
    assert frame_steps(fps).tolist() == steps


def test_silence_has_no_window() -> None:
    samples = np.zeros(16000, np.float32)
    samples[6400:9600] = 0.3  # frames 10..14
    speaking = spoken(samples, 25, 25)
    assert np.flatnonzero(speaking).tolist() == [10, 11, 12, 13, 14]
    assert voiced(np.arange(21), speaking, frame_steps(25)).tolist() == list(range(7, 14))
    assert not spoken(np.zeros(16000, np.float32), 25, 25).any()


def test_both_kinds_of_windows_are_drawn_with_their_own_sound(actor_subject: Subject, speech_folder: Path) -> None:
    made = context(actor_subject, speech_folder, ["sync.original_share=0.5"])
    assert made.sync is not None
    source, data = made.sync.source, made.data
    own = other = 0
    for _ in range(60):
        window = source.draw(made.generator)
        assert torch.equal(window.rows.diff(), torch.ones(4, dtype=torch.long))
        if torch.equal(window.audio, data.conditions.audio[window.rows]):
            own += 1
        else:
            other += 1
    assert own > 15 and other > 15
    for _ in range(10):
        window = source.draw(made.generator, own=True)
        assert torch.equal(window.audio, data.conditions.audio[window.rows])
        expected = made.sync.expert.audio_windows(load_audio(actor_subject.files.audio), actor_subject.num_frames, 25)
        heard = made.sync.expert.embed_audio(expected[data.indices[int(window.rows[0])]][None])
        assert torch.allclose(window.embedding, heard)
    only = context(actor_subject, speech_folder, ["sync.original_share=0"])
    assert only.sync is not None
    window = only.sync.source.draw(only.generator)
    assert not torch.equal(window.audio, data.conditions.audio[window.rows])


def test_what_the_expert_sees_is_a_part_of_the_frame_that_the_player_shows(
    actor_subject: Subject, speech_folder: Path
) -> None:
    made = context(actor_subject, speech_folder)
    term, head, data = made.sync, made.head, made.data
    assert term is not None and head.emotion is not None
    with torch.no_grad():
        for network in (head.face.motion, head.mouth.motion, head.emotion):
            network.encoder.table.normal_(std=0.01, generator=torch.Generator().manual_seed(0))
            next(reversed(list(network.trunk.parameters()))).mul_(20.0)  # so that speech and emotion show
        for gaussians in (head.face.gaussians, head.mouth.gaussians):
            gaussians.opacity_logits.fill_(1.0)
    window = term.source.draw(made.generator)
    va = torch.tensor([0.6, -0.4])
    with torch.no_grad():
        parts = {None: term.face(head, window, 2), va: term.emotional(head, window, va)}
    avatar = Avatar(head, run._scene(actor_subject, data, made.config))
    points = data.points[:, list(data.layout.ibug68)].numpy()
    for emotion, part in parts.items():
        shown = avatar.render(
            data.conditions.viewmats[window.rows],
            window.audio,
            data.conditions.aus[window.rows],
            None if emotion is None else emotion.expand(FRAMES, 2),
            data.behind(window.rows),
        ).rgb
        whole = crop_frames(shown, term.expert.square(points), term.expert.size)
        seen = crop_frames(part, term._square, term.expert.size)
        assert torch.allclose(seen, whole, atol=2e-3), (seen - whole).abs().max()
    assert not torch.allclose(parts[None], parts[va], atol=1e-3)


def test_the_mouth_stage_shows_recorded_faces(actor_subject: Subject, speech_folder: Path) -> None:
    made = context(actor_subject, speech_folder)
    assert made.sync is not None
    window = made.sync.source.draw(made.generator, own=True)
    made.data.labels[window.rows] = 0  # no inner mouth: nothing of the branch shows
    shown = made.sync.mouth(made.head, window, 0)
    recorded = made.data.images[window.rows].float() / 255.0
    assert torch.allclose(shown, recorded[:, *made.sync._window.index])


def learning(head: torch.nn.Module) -> set[str]:
    """Second parts of the names of what got a gradient."""
    return {name for name, value in head.named_parameters() if value.grad is not None and bool(value.grad.any())}


def test_only_the_stages_own_encoder_or_emotion_learns(actor_subject: Subject, speech_folder: Path) -> None:
    made = context(actor_subject, speech_folder)
    assert made.sync is not None
    with torch.no_grad():
        for gaussians in (made.head.face.gaussians, made.head.mouth.gaussians):
            gaussians.opacity_logits.fill_(0.5)
    maker = run.emotion_generator(made.data)
    made.data.labels[:, 36:50, 24:40] = int(Label.MOUTH)  # a wide open one
    for name in ("mouth", "face"):
        stage = MouthStage(made) if name == "mouth" else FaceStage(made)
        window = stage.draw_window() if isinstance(stage, MouthStage) else made.sync.source.draw(made.generator)
        assert window is not None
        frames = made.sync.mouth if name == "mouth" else made.sync.face
        made.sync.distance(frames(made.head, window, 0), window).backward()
        names = learning(made.head)
        assert names and all(part.startswith(f"{name}.audio") for part in names), names
        assert all(value.requires_grad for value in getattr(made.head, name).parameters())
        made.head.zero_grad(set_to_none=True)
    EmotionStage(made, maker)
    window = made.sync.source.draw(made.generator)
    made.sync.distance(made.sync.emotional(made.head, window, torch.tensor([0.5, 0.5])), window).backward()
    names = learning(made.head)
    assert names and all(part.startswith("emotion.") for part in names), names


def test_terms_come_every_so_often_and_count_so_many_times(actor_subject: Subject, speech_folder: Path) -> None:
    made = context(actor_subject, speech_folder, ["sync.every=3", "sync.delay=0.5", "face.iterations=13"])
    assert made.sync is not None
    stage = FaceStage(made)
    with_term = [iteration for iteration in range(13) if "sync" in stage.losses(iteration)[0]]
    assert with_term == [8, 11]  # warm-up 3, half of what follows, then every third
    window = made.sync.source.draw(made.generator)
    picture = made.sync.face(made.head, window, 0)
    crops = crop_frames(picture, made.sync._square, 24)
    plain = (made.sync.expert.embed_lips(crops[None]) - window.embedding).square().sum()
    assert torch.allclose(made.sync.distance(picture, window), 3 * plain)
    frozen = FaceStage(replace(made, config=override(made.config, ["face.freeze_geometry_from=8"])))
    assert "sync" not in frozen.losses(8)[0]


def train(subject: Subject, out: Path, speech: Path | str, settings: list[str] | None = None) -> run.TrainResult:
    return run.train(subject.files.root, out, "tiny", "cpu", [*SHORT, f"sync.speech={speech}", *(settings or [])])


@pytest.fixture(scope="module")
def synced(
    one_thread: None, actor_subject: Subject, tmp_path_factory: pytest.TempPathFactory, speech_folder: Path
) -> run.TrainResult:
    """An uninterrupted run with the sync loss."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sync, "open_expert", lambda which, subject, device: StandIn())
        return train(actor_subject, tmp_path_factory.mktemp("synced") / "a.safetensors", speech_folder)


def test_the_switch_changes_the_result_and_the_record(
    actor_subject: Subject, tmp_path: Path, speech_folder: Path, stand_in: None, synced: run.TrainResult
) -> None:
    plain = train(actor_subject, tmp_path / "plain.safetensors", speech_folder, ["sync.expert=none"])
    changed = {
        name
        for name, value in synced.avatar.head.state_dict().items()
        if not torch.equal(value, plain.avatar.head.state_dict()[name])
    }
    assert {"mouth.audio.project.weight", "face.audio.project.weight", "emotion.first.weight"} <= changed
    log = [json.loads(line) for line in (synced.page.parent / "log.jsonl").read_text().splitlines()]
    heard = [row for row in log if row["kind"] == "step" and "sync" in row["terms"]]
    assert {row["stage"] for row in heard} == {"mouth", "face", "emotion"}
    assert all(row["terms"]["sync"] > 0 and row["raw"]["sync"] > row["terms"]["sync"] for row in heard)
    assert synced.avatar.metadata["sync"]["expert"] == "stand-in"
    assert any("stand-in" in name for name in synced.avatar.metadata["licences"])
    assert plain.avatar.metadata["sync"] is None
    weightless = [f"{stage}.losses.sync=0" for stage in ("mouth", "face", "emotion")]
    none = train(actor_subject, tmp_path / "weightless.safetensors", speech_folder, weightless)
    for name, value in none.avatar.head.state_dict().items():
        assert torch.equal(value, plain.avatar.head.state_dict()[name]), name


def test_resumed_equals_uninterrupted(
    actor_subject: Subject, tmp_path: Path, speech_folder: Path, stand_in: None, synced: run.TrainResult
) -> None:
    for stage, at in ((FaceStage, 9), (EmotionStage, 5)):  # one run, cut off twice
        with cut_off(stage, at):
            train(actor_subject, tmp_path / "cut.safetensors", speech_folder)
    resumed = train(actor_subject, tmp_path / "cut.safetensors", speech_folder)
    for name, value in synced.avatar.head.state_dict().items():
        assert torch.equal(value, resumed.avatar.head.state_dict()[name]), name


def test_nothing_is_made_for_a_run_that_never_gets_there() -> None:
    paper = preset("paper")
    assert needs_sync(paper)
    assert not needs_sync(override(paper, ["sync.expert=none"]))
    few = [f"{stage}.iterations=0" for stage in ("mouth", "face", "emotion")]
    assert not needs_sync(override(paper, [*few, "mouth.warmup=0", "face.warmup=0"]))
    assert not needs_sync(override(paper, [f"{stage}.losses.sync=0" for stage in ("mouth", "face", "emotion")]))
    assert not needs_sync(preset("tiny")) and not needs_sync(preset("fast"))


@pytest.mark.parametrize("writable", [True, False])
def test_a_personal_expert_is_made_once(
    actor_subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writable: bool
) -> None:
    """In the subject folder, or in the run folder where that cannot be written to, and there not another run's."""
    made: list[Path] = []

    def train_expert(subjects: list[Subject], out: Path, **settings: object) -> None:
        assert subjects == [subject]
        made.append(out)
        out.write_bytes(b"expert")

    shutil.copytree(actor_subject.files.root, tmp_path / "subject")
    subject = Subject.open(tmp_path / "subject")
    monkeypatch.setattr(sync_training, "train_expert", train_expert)
    monkeypatch.setattr(sync.os, "access", lambda path, mode: writable)
    folder = tmp_path / "a.run"
    wanted_at = (subject.files.root if writable else folder) / "sync_expert.safetensors"
    ask = partial(sync._personal, subject, folder, 0, torch.device("cpu"))
    assert ask(fresh=True) == wanted_at and ask(fresh=False) == wanted_at
    assert made == [wanted_at]
    assert ask(fresh=True) == wanted_at
    assert len(made) == (1 if writable else 2)


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ("sync.every=0", "at least 1"),
        ("sync.takes=0", "at least 1"),
        ("sync.original_share=1.5", "0..1"),
        ("sync.delay=1", "below 1"),
        ("sync.languages=,", "language"),
        ("sync.expert=", "none"),
    ],
)
def test_impossible_settings_are_refused(setting: str, word: str) -> None:
    with pytest.raises(InputError, match=word):
        override(preset("paper"), [setting])


def test_clips_that_cannot_be_judged_say_why(actor_subject: Subject, speech_folder: Path, tmp_path: Path) -> None:
    settings, expert = override(preset("tiny"), SHORT).sync, StandIn()
    few = TrainingData.load(actor_subject, np.arange(4), DEFAULT_FEATURE, "cpu")
    with pytest.raises(InputError, match="no five consecutive"):
        WindowSource(actor_subject, few, expert, DEFAULT_FEATURE, settings, tmp_path / "run", True)
    data = TrainingData.load(actor_subject, actor_subject.train_indices, DEFAULT_FEATURE, "cpu")
    save_wav(tmp_path / "short.wav", np.ones(1000, np.float32))
    short = replace(settings, speech=str(tmp_path))
    with pytest.raises(InputError, match="lasts five frames"):
        WindowSource(actor_subject, data, expert, DEFAULT_FEATURE, short, tmp_path / "run", True)
    with pytest.raises(InputError, match=r"sync\.speech=none"):
        sync_source.other_sound(np.ones(16000, np.float32), "ds", expert, 25, data.device)
    missing = replace(settings, speech=str(tmp_path / "no"))
    with pytest.raises(InputError, match="no speech synthesizer"):
        WindowSource(actor_subject, data, expert, DEFAULT_FEATURE, missing, tmp_path, True)


def test_what_was_said_is_kept_for_a_run_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Moody:
        """Never repeats a sentence exactly."""

        count = 0

        def synthesize(
            self, text: str, *, language: str = "en", voice: str | None = None, rate: float | int = 1.0
        ) -> Utterance:
            Moody.count += 1
            samples = np.random.default_rng(Moody.count).uniform(-0.1, 0.1, 800).astype(np.float32)
            return Utterance(text, language, voice or "moody", samples, None, None, float(rate))

        def voices(self, language: str = "en") -> tuple[str, ...]:
            return ("moody",)

        def languages(self) -> tuple[str, ...]:
            return ("en", "de")

    monkeypatch.setattr(sync_source, "open_synthesizer", lambda which: Moody())
    settings = override(preset("tiny"), ["sync.languages=en,de", "sync.takes=2"]).sync
    first = list(sync_source.speech(settings, tmp_path, True))
    assert len(first) == Moody.count == 40
    again = list(sync_source.speech(settings, tmp_path, False))
    assert Moody.count == 40 and all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    anew = list(sync_source.speech(settings, tmp_path, True))
    assert Moody.count == 80 and not np.array_equal(first[0], anew[0])


def test_a_clip_of_another_rate_and_a_silent_one(tmp_path: Path, speech_folder: Path) -> None:
    script, actor = Performance.generate(0.8, seed=3, fps=30.0), Actor(size=64)
    subject = write_actor_subject(
        tmp_path / "subject",
        (actor.render(state) for state in script.states),
        np.zeros(len(script.waveform), np.float32),
        Fraction(30),
        actor.layout,
        actor.neutral_landmarks(),
    )
    made = context(subject, speech_folder)
    assert made.sync is not None and not made.sync.source.has_own()
    window = made.sync.source.draw(made.generator)
    assert (window.rows - window.rows[0]).tolist() == [0, 1, 3, 4, 5]
    assert MouthStage(made).draw_window() is None
    distance = made.sync.distance(made.sync.face(made.head, window, 0), window)
    assert bool(torch.isfinite(distance))
    with pytest.raises(InputError, match="nothing is heard"):
        context(subject, "none")
