"""The avatar file: round trip, refusal of what is not one, and the laws of rendering."""

import copy
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import safe_open, save_file

from emotalking.data.audio_features import AUDIO_FEATURES, DEFAULT_FEATURE
from emotalking.errors import InputError
from emotalking.io.tensors import read_tensors, write_tensors
from emotalking.models.audio import ConvEncoder, articulation
from emotalking.models.avatar import Avatar
from emotalking.models.avatar_file import VERSION
from emotalking.models.compositor import Compositor, Conditions
from emotalking.models.config import AudioConfig, BranchConfig, EmotionConfig, ModelConfig
from emotalking.models.gaussians import Gaussians
from emotalking.models.head import TalkingHead
from emotalking.models.scene import TorsoStack, encode_torso

from ..scenes import still_scene

SIZE = 48


def made(branch: str = "separate", encoder: str = "published", gaze: bool = False) -> Avatar:
    torch.manual_seed(0)
    config = ModelConfig(
        AudioConfig(encoder=encoder), BranchConfig(40), BranchConfig(10, hidden=32), EmotionConfig(branch), gaze
    )
    face = Gaussians(torch.rand(40, 3) * 0.1 - 0.05, torch.rand(40, 3), 2)
    mouth = Gaussians(torch.rand(10, 3) * 0.02 - 0.01, torch.rand(10, 3), 2)
    head = TalkingHead(config, face, mouth)
    if gaze:
        head.face.motion.eyes = face.means[:2].detach().clone()
        for weight in head.face.motion.gaze_attention.parameters():
            weight.data *= 20.0
    for network in (head.face.motion, head.mouth.motion, head.emotion):
        if network is not None:
            torch.nn.init.normal_(network.encoder.table, std=0.5)
    looks = np.array([[0.1, 0.0], [0.2, -0.1], [0.2, 0.1]], np.float32) if gaze else None
    scene = still_scene(SIZE, SIZE, torso=(30, (200, 60, 20)), fps=Fraction(30000, 1001), gaze=looks)
    return Avatar(head, scene, {"preset": "none"})


@pytest.fixture
def avatar() -> Avatar:
    return made()


def conditions(frames: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    view = torch.eye(4)
    view[1, 1] = view[2, 2] = -1.0
    view[2, 3] = 0.7
    steps, channels = AUDIO_FEATURES[DEFAULT_FEATURE].shape
    windows = torch.randn(frames, 8, channels, steps, generator=torch.Generator().manual_seed(1))
    return view.repeat(frames, 1, 1), windows, torch.zeros(frames, 6)


@pytest.mark.parametrize("encoder", ["published", "conv"])
def test_round_trip_renders_the_same(encoder: str, tmp_path: Path) -> None:
    path, avatar = tmp_path / "a.safetensors", made(encoder=encoder)
    if isinstance(avatar.head.face.audio, ConvEncoder):
        avatar.head.face.audio.standardise(conditions(8)[1] * 3 + 1)
    avatar.save(path)
    again = Avatar.load(path)
    va = torch.tensor([[0.3, 0.2], [-0.5, 0.1]])
    assert torch.equal(avatar.render(*conditions(), va=va).rgb, again.render(*conditions(), va=va).rgb)
    assert again.fps == Fraction(30000, 1001)
    assert again.metadata == {"preset": "none"}
    assert np.array_equal(again.viewmats, avatar.viewmats)
    assert list(tmp_path.iterdir()) == [path]


def test_torso_survives_its_compression(avatar: Avatar) -> None:
    layer = avatar.torso(1)
    assert layer.shape == (SIZE, SIZE, 4)
    assert (layer[:30, :, 3] == 0).all() and (layer[30:, :, 3] == 255).all()
    assert np.abs(layer[35:, :, :3].astype(int) - [200, 60, 20]).max() < 12
    with pytest.raises(IndexError):
        avatar.torso(3)


def test_opaque_torso_has_an_alpha_again() -> None:
    stack = TorsoStack.encode([encode_torso(np.full((8, 8, 4), 255, np.uint8))])
    assert stack[0].shape == (8, 8, 4)


def test_background_shows_where_alpha_is_missing(avatar: Avatar) -> None:
    plain = avatar.render(*conditions())
    behind = torch.rand(2, SIZE, SIZE, 3, generator=torch.Generator().manual_seed(2))
    full = avatar.render(*conditions(), background=behind)
    expected = plain.rgb + behind * (1.0 - plain.alpha[..., None])
    assert torch.allclose(full.rgb, expected.clamp(0, 1), atol=1e-5)


def test_emotion_moves_the_face_and_none_leaves_the_branch_out(avatar: Avatar) -> None:
    still = avatar.render(*conditions()).rgb
    moved = avatar.render(*conditions(), va=torch.full((2, 2), 0.8)).rgb
    assert float((still - moved).abs().max()) > 1e-3
    avatar.head.emotion = None
    assert torch.equal(avatar.render(*conditions(), va=torch.full((2, 2), 0.8)).rgb, still)


@pytest.mark.parametrize(("branch", "moves"), [("separate", True), ("combined", True), ("none", False)])
def test_where_emotion_enters_is_kept_in_the_file(branch: str, moves: bool, tmp_path: Path) -> None:
    avatar = made(branch)
    avatar.save(tmp_path / "a.safetensors")
    again = Avatar.load(tmp_path / "a.safetensors")
    assert again.head.config.emotion.branch == branch and again.head.emotional is moves
    still, moved = avatar.render(*conditions()).rgb, avatar.render(*conditions(), va=torch.full((2, 2), 0.8)).rgb
    assert (float((still - moved).abs().max()) > 1e-4) is moves
    assert torch.equal(again.render(*conditions(), va=torch.full((2, 2), 0.8)).rgb, moved)


def test_without_the_branch_it_is_the_plain_model(avatar: Avatar) -> None:
    plain = made("none")
    weights = {name: value for name, value in avatar.head.state_dict().items() if not name.startswith("emotion.")}
    plain.head.load_state_dict(weights, strict=True)
    assert torch.equal(plain.render(*conditions()).rgb, avatar.render(*conditions()).rgb)


def test_file_of_version_one_is_read(avatar: Avatar, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    avatar.save(path)
    with safe_open(str(path), "pt") as file:
        config = json.loads(file.metadata()["config"])
    del config["emotion"]["branch"]
    config["emotion"]["enabled"] = True
    rewrite(path, version="1", config=json.dumps(config))
    va = torch.full((2, 2), 0.8)
    assert torch.equal(Avatar.load(path).render(*conditions(), va=va).rgb, avatar.render(*conditions(), va=va).rgb)


def test_in_a_file_of_version_two_the_whole_mouth_moves(avatar: Avatar, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    avatar.save(path)
    metadata, tensors = read_tensors(path)
    del tensors["head.mouth.motion.jaw"]
    write_tensors(path, tensors, metadata | {"version": "2"})
    again = Avatar.load(path)
    assert again.head.mouth.motion.jaw.tolist() == [1.0, 0.0]
    assert torch.equal(again.render(*conditions()).rgb, avatar.render(*conditions()).rgb)


def test_the_jaw_is_stored(avatar: Avatar, tmp_path: Path) -> None:
    still = Avatar(copy.deepcopy(avatar.head), avatar.scene, avatar.metadata)
    still.head.mouth.motion.jaw = torch.tensor([-11.0, -200.0])
    still.save(tmp_path / "a.safetensors")
    assert Avatar.load(tmp_path / "a.safetensors").head.mouth.motion.jaw.tolist() == [-11.0, -200.0]


@pytest.mark.parametrize("branch", ["separate", "combined"])
def test_gaze_moves_the_face_and_is_kept_in_the_file(branch: str, tmp_path: Path) -> None:
    avatar, path = made(branch, gaze=True), tmp_path / "a.safetensors"
    avatar.save(path)
    again = Avatar.load(path)
    assert avatar.gaze is not None and np.array_equal(avatar.gaze, again.gaze)
    look, va = torch.tensor([[0.4, 0.2], [-0.4, -0.2]]), torch.full((2, 2), 0.5)
    shown = again.render(*conditions(), va=va, gaze=look).rgb
    assert torch.equal(avatar.render(*conditions(), va=va, gaze=look).rgb, shown)
    views, sound, aus = conditions()
    plain = Compositor(avatar.K, (SIZE, SIZE)).frames(avatar.head, Conditions(views, sound, aus, va, None, look))
    off = (shown - plain.rgb.clamp(0, 1)).abs()  # a contribution near the least that counts may fall on either side
    assert off.max() < 1 / 255 and off.mean() < 1e-6
    usual = avatar.render(*conditions(), va=va).rgb
    assert torch.equal(usual, avatar.render(*conditions(), va=va, gaze=torch.tensor([[0.2, 0.0]] * 2)).rgb)
    assert (shown - usual).abs().amax() > 1e-3


def test_without_gaze_it_makes_no_difference(avatar: Avatar, tmp_path: Path) -> None:
    avatar.save(tmp_path / "a.safetensors")
    again = Avatar.load(tmp_path / "a.safetensors")
    assert again.gaze is None and "scene.gaze" not in read_tensors(tmp_path / "a.safetensors")[1]
    moved = again.render(*conditions(), gaze=torch.full((2, 2), 0.3)).rgb
    assert torch.equal(moved, avatar.render(*conditions()).rgb)


def test_action_units_stay_within_the_recorded_ones(avatar: Avatar) -> None:
    recorded = np.linspace(0.0, [2.0, 1.0, 0.0, 3.0, 1.0, 2.0], len(avatar.viewmats), dtype=np.float32)
    avatar.scene = replace(avatar.scene, aus=recorded)
    views, sound, aus = conditions(1)
    highest = torch.from_numpy(recorded[-1:])
    assert torch.equal(avatar.render(views, sound, aus + 5.0).rgb, avatar.render(views, sound, highest).rgb)
    assert not torch.equal(avatar.render(views, sound, highest).rgb, avatar.render(views, sound, highest / 2).rgb)


def test_batch_equals_single_frames(avatar: Avatar) -> None:
    views, sound, aus = conditions(3)
    whole = avatar.render(views, sound, aus).rgb
    parts = torch.cat([avatar.render(views[i : i + 1], sound[i : i + 1], aus[i : i + 1]).rgb for i in range(3)])
    assert torch.allclose(whole, parts, atol=1e-5)


def rewrite(path: Path, **header: str) -> None:
    with safe_open(str(path), "pt") as file:
        metadata = file.metadata() | header
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    save_file(tensors, path, metadata=metadata)


def test_bad_files_are_refused_in_one_sentence(avatar: Avatar, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(InputError, match="no avatar file"):
        Avatar.load(path)
    avatar.save(path)
    whole = path.read_bytes()
    for length in (0, 5, 400, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="not a whole avatar"):
            Avatar.load(path)
    path.write_bytes(whole)
    rewrite(path, version=str(VERSION + 1))
    with pytest.raises(InputError, match="update emotalking"):
        Avatar.load(path)
    path.write_bytes(whole)
    rewrite(path, format="something else")
    with pytest.raises(InputError, match="not an avatar"):
        Avatar.load(path)
    path.write_bytes(whole)
    rewrite(path, config='{"wings": 1}')
    with pytest.raises(InputError, match="does not hold"):
        Avatar.load(path)


def test_failed_save_leaves_the_old_file(avatar: Avatar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    avatar.save(path)
    before = path.read_bytes()

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("emotalking.io.safetensors_files.save_file", fail)
    with pytest.raises(InputError, match="disk full"):
        avatar.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_gate_closes_both_branches_smoothly(avatar: Avatar, tmp_path: Path) -> None:
    views, sound, aus = conditions(1)
    open_lips = avatar.render(views, sound, aus).rgb
    assert not avatar.closes_lips
    with pytest.raises(ValueError, match="closed-mouth code"):
        avatar.render(views, sound, aus, speech=torch.zeros(1))
    for branch in (avatar.head.face, avatar.head.mouth):
        branch.audio.closed = torch.randn(32, generator=torch.Generator().manual_seed(4))
    assert torch.equal(avatar.render(views, sound, aus, speech=torch.ones(1)).rgb, open_lips)
    closed = avatar.render(views, sound, aus, speech=torch.zeros(1)).rgb
    assert torch.allclose(avatar.render(views, sound + 1, aus, speech=torch.zeros(1)).rgb, closed, atol=1e-5)
    half = avatar.render(views, sound, aus, speech=torch.full((1,), 0.5)).rgb
    assert float((half - closed).abs().max()) > 1e-4 and float((half - open_lips).abs().max()) > 1e-4
    avatar.save(tmp_path / "a.safetensors")
    again = Avatar.load(tmp_path / "a.safetensors")
    assert again.closes_lips
    closed = avatar.render(views, sound, aus, speech=torch.zeros(1)).rgb
    assert torch.equal(again.render(views, sound, aus, speech=torch.zeros(1)).rgb, closed)


def test_lips_move_more_with_arousal_unless_they_are_strict(avatar: Avatar) -> None:
    views, sound, aus = conditions(1)
    for branch in (avatar.head.face, avatar.head.mouth):
        branch.audio.closed = torch.randn(32, generator=torch.Generator().manual_seed(4))
    strict = replace(avatar, lips="strict")

    def frame(who: Avatar, arousal: float, speech: float = 1.0) -> torch.Tensor:
        return who.render(views, sound, aus, torch.tensor([[0.2, arousal]]), speech=torch.full((1,), speech)).rgb

    sizes = articulation(torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0]))
    assert (sizes.diff() > 0).all() and sizes[2] == 1 and sizes[0] > 0.5 and sizes[4] < 2
    assert torch.equal(frame(avatar, 0.0), frame(strict, 0.0))
    for arousal, size in ((-1.0, sizes[0]), (1.0, sizes[4])):
        # The size of the emotion is that of the gate, and closed lips stay closed.
        assert torch.allclose(frame(avatar, arousal), frame(strict, arousal, float(size)), atol=1e-6)
        assert float((frame(avatar, arousal) - frame(strict, arousal)).abs().max()) > 1e-4
        assert torch.equal(frame(avatar, arousal, 0.0), frame(strict, arousal, 0.0))
    without = replace(made("none"), lips="expressive")
    for branch in (without.head.face, without.head.mouth):
        branch.audio.closed = torch.randn(32, generator=torch.Generator().manual_seed(4))
    assert torch.equal(frame(without, 1.0), frame(without, 0.0))
