"""Sync experts: crops, windows, files, known answers of the scores, training on made clips, and the command."""

import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from emotalking.cli.main import main
from emotalking.data import Subject
from emotalking.errors import InputError
from emotalking.evaluate.sync import SyncMeter, offset_plot
from emotalking.lipsync import training as sync_training
from emotalking.lipsync.dataset import STORED, TalkingClip, augment_recording, make_clip
from emotalking.lipsync.expert import EXPERT_FILE, SyncExpert, crop_frames, open_expert, smoothed_square
from emotalking.lipsync.personal import SIZE, PersonalExpert, PersonalNetwork, save_expert, sound_bands
from emotalking.lipsync.scores import SyncScores, sync_scores
from emotalking.lipsync.syncnet import SyncNet, SyncNetExpert
from emotalking.lipsync.windows import at_25_fps, num_frames_at_25_fps, step_windows
from emotalking.ops.box import Box


@pytest.fixture(scope="module")
def expert_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained expert."""
    path = tmp_path_factory.mktemp("expert") / "expert.safetensors"
    torch.manual_seed(0)
    save_expert(PersonalNetwork(), path, {"steps": 0})
    return path


def babble(frames: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Opening of a mouth per frame (0 to 1), and a vowel as loud and as high as it is open."""
    rng = np.random.default_rng(seed)
    opening = np.convolve(rng.uniform(-1, 1, frames + 20), np.hanning(5) / 2, "same")[10 : frames + 10].clip(0, 1)
    times = np.arange(frames * 640) / 16000
    smooth = np.interp(times, (np.arange(frames) + 0.5) / 25, opening)
    phase = 2 * np.pi * np.cumsum(300 + 1500 * smooth) / 16000
    return opening, (0.3 * smooth * np.sin(phase) + 0.002 * rng.standard_normal(len(times))).astype(np.float32)


def drawn(opening: np.ndarray) -> np.ndarray:
    """Stored pictures of such a mouth."""
    pictures = np.full((len(opening), STORED, STORED), 170, np.uint8)
    for picture, gap in zip(pictures, opening, strict=True):
        cv2.ellipse(picture, (STORED // 2, STORED // 2), (22, 2 + round(18 * gap)), 0, 0, 360, 30, -1)
    return pictures


def test_scores_have_known_answers() -> None:
    generator = torch.Generator().manual_seed(0)
    audio = torch.randn(80, 8, generator=generator)
    for shift in (-7, 0, 4):
        # The lips of window i are the sound of window i + shift: it comes `shift` late, which SyncNet counts as -shift.
        lips = torch.roll(audio, -shift, 0)
        found = sync_scores(lips, audio, expert="x", edges="inside")
        assert found.offset == -shift and found.error == pytest.approx(1e-6 * 8**0.5, rel=0.1)
        assert found.confidence == pytest.approx(np.median(found.curve), abs=1e-4) and found.confidence > 3
        zeros = sync_scores(lips, audio, expert="x")
        alone = lips[-shift:] if shift > 0 else lips[:-shift]  # beside zeros
        assert zeros.offset == -shift and zeros.error == pytest.approx(float(alone.norm(dim=1).sum()) / 80, abs=1e-4)
        assert len(found.per_window) == 80 and np.isnan(found.per_window).sum() == abs(shift)
    assert "(x)" in found.summary() and "offset" in offset_plot(found).svg()


def test_scores_follow_the_published_formula() -> None:
    generator = torch.Generator().manual_seed(1)
    lips, audio = torch.randn(40, 5, generator=generator), torch.randn(40, 5, generator=generator)
    found = sync_scores(lips, audio, 6, expert="x")
    beyond = torch.cat([torch.zeros(6, 5), audio, torch.zeros(6, 5)])
    rows = [[float(torch.dist(lips[i], beyond[i + k])) for k in range(13)] for i in range(40)]
    np.testing.assert_allclose(found.distances, rows, atol=1e-4)
    curve = np.mean(rows, 0)
    assert found.offset == 6 - curve.argmin() and found.error == pytest.approx(curve.min(), abs=1e-4)
    assert found.confidence == pytest.approx(np.median(curve) - curve.min(), abs=1e-4)


def test_lost_faces_and_short_clips() -> None:
    vectors = torch.eye(40)
    lips = vectors.clone()
    lips[5:12] = torch.nan
    found = sync_scores(lips, vectors, expert="x", edges="inside")
    assert found.offset == 0 and np.isnan(found.per_window).sum() == 7
    with pytest.raises(ValueError, match="20 are needed"):
        sync_scores(vectors[:19], vectors[:19], expert="x")


def test_crops_are_exact_and_differentiable() -> None:
    ramp = torch.arange(64.0).expand(48, 64)[None, ..., None].repeat(2, 1, 1, 3) / 64
    for side, size in ((16.0, 16), (16.0, 4), (8.0, 32)):
        cut = crop_frames(ramp, Box(12.0, 10.0, 12.0 + side, 10.0 + side), size)
        places = 10 + (torch.arange(size) + 0.5) * side / size - 0.5
        torch.testing.assert_close(cut[1, size // 2, :, 0], places / 64, atol=2e-3, rtol=0)
    outside = crop_frames(ramp, Box(0.0, -40.0, 16.0, -24.0), 8)
    torch.testing.assert_close(outside, torch.full_like(outside, 110 / 255))
    images = ramp.clone().requires_grad_(True)
    crop_frames(images, Box(12.0, 10.0, 32.0, 30.0), 8).sum().backward()
    assert images.grad is not None
    grad = images.grad[0, ..., 0]
    assert (grad[13:31, 11:29] > 0).all() and grad[:11].abs().sum() == 0


def test_other_rates_are_shown_at_25() -> None:
    assert at_25_fps(6, 25).tolist() == list(range(6))
    assert at_25_fps(12, 50).tolist() == [1, 3, 5, 7, 9, 11]
    assert at_25_fps(7, 30).tolist() == [0, 1, 3, 4, 5, 6]
    for fps in (24, 30, Fraction(30000, 1001), 12.5):
        for frames in range(1, 60):
            shown = at_25_fps(frames, fps)
            assert len(shown) == num_frames_at_25_fps(frames, fps) and (len(shown) == 0 or shown[-1] < frames)
    np.testing.assert_array_equal(step_windows(3, 25)[:, [0, -1]], [[0, 19], [4, 23], [8, 27]])
    assert step_windows(4, 30)[:, 0].tolist() == [0, 3, 7, 10]


def test_both_experts_keep_the_interface(expert_file: Path, actor_subject: Subject) -> None:
    torch.manual_seed(0)
    points = actor_subject.landmarks.ibug68.astype(np.float64)
    points[3] = np.nan
    mouth, nose = np.nanmean(points[:, 48:68], (0, 1)), np.nanmean(points[:, 27:31], (0, 1))
    for expert in (open_expert(str(expert_file)), SyncNetExpert(SyncNet().eval().requires_grad_(False))):
        assert isinstance(expert, SyncExpert)
        square = expert.square(points)
        assert square.left < mouth[0] < square.right and square.top < mouth[1] < square.bottom
        assert expert.name == "SyncNet v2" or nose[1] < square.centre[1]
        crops = torch.rand(2, 5, expert.size, expert.size, 3, requires_grad=True)
        vectors = expert.embed_lips(crops)
        assert vectors.shape == (2, expert.width)
        (vectors**2 * torch.arange(expert.width)).sum().backward()
        assert crops.grad is not None and all(crops.grad[0, i].abs().sum() > 0 for i in range(5))
        sound = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
        windows = expert.audio_windows(sound, 24)
        assert len(windows) == 24 and expert.embed_audio(windows).shape == (24, expert.width)
        later = expert.audio_windows(np.concatenate([np.zeros(640, np.float32), sound]), 24)
        if expert.name == "SyncNet v2":
            torch.testing.assert_close(later[2:], windows[1:-1])
        with pytest.raises(ValueError, match="not one frame"):
            expert.square(np.full((2, 68, 2), np.nan))
    assert smoothed_square(expert.square, points[3:4], 0) is None
    assert smoothed_square(expert.square, points, 3) is not None


def test_level_and_silence_of_the_bands() -> None:
    sound = babble(50)[1]
    np.testing.assert_allclose(sound_bands(sound), sound_bands(0.2 * sound), atol=0.35)
    silent = sound_bands(np.zeros(3200, np.float32))
    assert len(np.unique(silent)) == 1 and silent[0, 0] == sound_bands(sound).min()


def test_files_are_strict(expert_file: Path, tmp_path: Path) -> None:
    expert = PersonalExpert.load(expert_file)
    assert expert.name.startswith("personal ") and len(expert.name) == 17 and expert.facts == {"steps": 0}
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(expert_file.read_bytes()[:5000])
    other = tmp_path / "other.safetensors"
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, other)
    lacking = tmp_path / "lacking.safetensors"
    header = {"format": "emotalking sync expert", "version": "1", "facts": "{}"}
    save_file({"x": torch.zeros(1)}, lacking, metadata=header)
    newer = tmp_path / "newer.safetensors"
    save_file({"x": torch.zeros(1)}, newer, metadata=header | {"version": "9"})
    for path, says in (
        (tmp_path / "no.safetensors", "no sync expert"),
        (torn, "no complete"),
        (other, "but no sync expert"),
        (lacking, "does not hold"),
        (newer, "version 9"),
    ):
        with pytest.raises(InputError, match=says):
            open_expert(str(path))
    with pytest.raises(InputError, match="subject folder"):
        open_expert("personal")


def measured(expert: SyncExpert, images: list[np.ndarray], points: np.ndarray, sound: np.ndarray) -> SyncScores:
    """Sync of a clip at 25 fps whose landmarks are known."""
    meter = SyncMeter(expert)
    for image, shape in zip(images, points, strict=True):
        meter.add(image, shape)
    return meter.scores(sound)


def test_a_meter_streams_and_equals_the_whole(expert_file: Path, actor_subject: Subject) -> None:
    expert = open_expert(str(expert_file))
    points = actor_subject.landmarks.ibug68.astype(np.float64)
    images = [actor_subject.original(i) for i in range(actor_subject.num_frames)]
    sound = np.random.default_rng(0).normal(0, 0.1, 33 * 640).astype(np.float32)
    found = measured(expert, images, points, sound)
    crops = [
        crop_frames(torch.from_numpy(image)[None].float() / 255, expert.square(points[max(i - 6, 0) : i + 7]), SIZE)
        for i, image in enumerate(images)
    ]
    lips = torch.cat([expert.embed_lips(torch.cat(crops[i : i + 5])[None]) for i in range(29)])
    audio = expert.embed_audio(expert.audio_windows(sound, 29))
    whole = sync_scores(lips, audio, expert=expert.name, edges="inside")
    np.testing.assert_allclose(found.distances, whole.distances, atol=1e-5)
    meter = SyncMeter(expert, 50)
    for image, shape in zip(images, points, strict=True):
        meter.add(image, shape)
    with pytest.raises(InputError, match="too short"):
        meter.scores(sound)
    with pytest.raises(InputError, match="hardly a frame"):
        measured(expert, images, np.full_like(points, np.nan), sound)


def test_training_learns_and_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_training, "RUN", 14)  # small, to be quick
    opening, sound = babble(100)
    clip = TalkingClip(drawn(opening), np.ones(100, bool), np.arange(100) < 90, sound, "made")
    network, loss = sync_training.fit([clip], steps=10, runs=2, device="cpu", seed=0)
    assert np.isfinite(loss) and loss < 1.1 * np.log(10)  # guessing which of ten sounds is the own one
    again = [sync_training.fit([clip], steps=2, runs=2, device="cpu", seed=0)[1] for _ in range(2)]
    assert again[0] == again[1]
    lips, audio = sync_training.embed_clip(network, clip, 0, 90)
    torch.testing.assert_close(lips.norm(dim=1), torch.ones(86))
    later, shifted = sync_training.embed_clip(network, clip, 0, 90, late=4)
    torch.testing.assert_close(later, lips)
    torch.testing.assert_close(shifted[:-4], audio[4:])
    assert sync_training.score_held_out(network, clip) is None  # ten frames are too few


def test_too_little_to_learn_from() -> None:
    opening, sound = babble(60)
    clip = TalkingClip(drawn(opening), np.ones(60, bool), np.ones(60, bool), sound, "made")
    with pytest.raises(InputError, match="three seconds"):
        sync_training.fit([clip], steps=1, runs=2, device="cpu", seed=0)
    with pytest.raises(InputError, match="no subject"):
        sync_training.train_expert([])


def test_clips_and_rooms() -> None:
    opening, sound = babble(40)
    points = np.full((40, 68, 2), np.nan)
    points[:20] = np.random.default_rng(0).uniform(20, 40, (68, 2))
    clip = make_clip([np.full((64, 64, 3), 9, np.uint8)] * 40, points, sound, np.ones(40, bool), "made")
    assert clip.images.shape == (40, STORED, STORED) and clip.detected.tolist() == [True] * 26 + [False] * 14
    assert clip.starts(True).tolist() == list(range(22)) and len(clip.starts(False)) == 0
    heard = augment_recording(clip, 4, [sound[::-1].copy()], np.random.default_rng(0))
    assert len(heard) == 4 and np.isfinite(heard).all() and heard.std(0).max() > 0.1
    loud = heard.mean(2)
    for other in loud[1:]:  # no version is earlier or later than the sound itself
        lags = [np.corrcoef(loud[0, 10:-10], np.roll(other, k)[10:-10])[0, 1] for k in range(-6, 7)]
        assert abs(int(np.argmax(lags)) - 6) <= 1


def test_the_command(
    expert_file: Path, actor_subject: Subject, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(actor_subject.files.root)
    assert main(["sync", "measure", folder, "--device", "cpu"]) == 2
    assert EXPERT_FILE in capsys.readouterr().err
    page, facts = tmp_path / "sync.html", tmp_path / "sync.json"
    words = ["sync", "measure", folder, "--expert", str(expert_file), "--page", str(page), "--json", str(facts)]
    assert main([*words, "--device", "cpu"]) == 0
    name = PersonalExpert.load(expert_file).name
    assert name in capsys.readouterr().out and name in page.read_text()
    assert json.loads(facts.read_text())["expert"] == name
    assert main(["sync", "train", folder, "--steps", "0"]) == 2
    assert main(["sync", "train", folder, "-o", str(tmp_path / "x.safetensors"), "--device", "cpu"]) == 2
    assert "three seconds" in capsys.readouterr().err and not (tmp_path / "x.safetensors").exists()
