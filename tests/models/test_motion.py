"""The motion networks compute what their equations say, however the first layer is split."""

import pytest
import torch

from emotalking.audio.windows import audio_windows
from emotalking.models.audio import ConvEncoder, PublishedEncoder, audio_encoder
from emotalking.models.config import AudioConfig
from emotalking.models.motion import POSITION_SCALE, EmotionMotion, FaceMotion, MouthMotion, full_at, harmonics_of


@pytest.fixture
def points() -> torch.Tensor:
    return (torch.rand(50, 3, generator=torch.Generator().manual_seed(0)) - 0.5) * 0.2


def loud(network: FaceMotion | MouthMotion | EmotionMotion) -> None:
    """Tri-plane tables start near zero; make their part of the result visible."""
    with torch.no_grad():
        network.encoder.table.normal_(generator=torch.Generator().manual_seed(3))


def smooth(part: torch.Tensor) -> torch.Tensor:
    part = part.clamp(0, 1)
    return 3 * part**2 - 2 * part**3


def test_parameter_shapes_are_the_papers() -> None:
    face, mouth, emotion = FaceMotion(32), MouthMotion(32), EmotionMotion()
    assert face.encoder.table.shape == (3, 9_464)
    assert mouth.encoder.table.shape == (3, 46_600)
    assert face.first.weight.shape == (64, 36 + 32 + 6)
    assert mouth.first.weight.shape == (32, 36 + 32)
    assert [p.shape for p in face.trunk.parameters()] == [(64, 64), (10, 64)]
    assert [p.shape for p in mouth.trunk.parameters()] == [(32, 32), (3, 32)]
    networks = (face, mouth, emotion)
    assert not any(name.endswith("bias") for network in networks for name, _ in network.named_parameters())


def concatenated(
    face: FaceMotion, points: torch.Tensor, audio: torch.Tensor, aus: torch.Tensor, *more: torch.Tensor
) -> torch.Tensor:
    """Raw outputs [B, N, 10] of the trunk on features and codes side by side; ``more``: further codes [B, N, C]."""
    features = face.encoder(points)
    expression = torch.cat([face.expression(aus[:, :5]), aus[:, 5:]], -1)
    codes = [
        face.audio_attention(features) * audio[:, None],
        face.expression_attention(features) * expression[:, None],
        *more,
    ]
    return face.trunk(face.first(torch.cat([features.expand(len(audio), -1, -1), *codes], -1)))


def test_face_equals_the_plain_concatenation(points: torch.Tensor) -> None:
    torch.manual_seed(0)
    face = FaceMotion(32)
    loud(face)
    audio, aus = torch.randn(2, 32), torch.rand(2, 6) * 3
    offsets = face(face.canonical(points), audio, aus)
    raw = concatenated(face, points, audio, aus)
    assert torch.allclose(offsets["d_means"], raw[..., :3] * POSITION_SCALE, atol=1e-6)
    assert torch.allclose(offsets["d_quats"], raw[..., 3:7], atol=1e-5)
    assert torch.allclose(offsets["d_scales"], raw[..., 7:], atol=1e-5)


@pytest.mark.parametrize(("emotion_code", "gaze"), [(0, False), (0, True), (16, True)])
def test_one_pass_over_the_face_equals_its_two_parts(points: torch.Tensor, emotion_code: int, gaze: bool) -> None:
    torch.manual_seed(0)
    face = FaceMotion(32, emotion_code=emotion_code, gaze=gaze)
    loud(face)
    given = (
        torch.randn(2, 32),
        torch.rand(2, 6) * 3,
        torch.randn(2, 2) if emotion_code else None,
        torch.randn(2, 2) * 0.1,
    )
    parts = face(face.canonical(points), *given)
    for name, offset in face.offsets(points, face.codes(*given)).items():
        torch.testing.assert_close(offset, parts[name], rtol=1e-4, atol=1e-5)


def test_combined_face_equals_the_plain_concatenation(points: torch.Tensor) -> None:
    torch.manual_seed(0)
    face = FaceMotion(32, emotion_code=16)
    loud(face)
    audio, aus, va = torch.randn(2, 32), torch.rand(2, 6) * 3, torch.tensor([[0.8, -0.3], [-0.5, 0.6]])
    offsets = face(face.canonical(points), audio, aus, va)
    emotion = face.emotion_attention(face.encoder(points)) * face.emotion(va)[:, None]
    raw = concatenated(face, points, audio, aus, emotion)
    assert torch.allclose(offsets["d_means"], raw[..., :3] * POSITION_SCALE, atol=1e-6)
    assert torch.allclose(offsets["d_quats"], raw[..., 3:7], atol=1e-5)
    neutral = face(face.canonical(points), audio, aus, torch.zeros(2, 2))
    assert torch.equal(face(face.canonical(points), audio, aus)["d_means"], neutral["d_means"])


@pytest.mark.parametrize("emotion_code", [0, 16])
def test_gaze_enters_as_the_blink_does(points: torch.Tensor, emotion_code: int) -> None:
    torch.manual_seed(0)
    face = FaceMotion(32, emotion_code=emotion_code, gaze=True)
    loud(face)
    face.eyes = points[:2].clone()
    distance = (points[:, None] - face.eyes).norm(dim=-1).amin(1)
    near = 1 - smooth((distance - 0.02) / 0.012)[:, None]
    assert (near == 0).sum() > 10 and (near == 1).sum() >= 2
    audio, aus, gaze = torch.randn(2, 32), torch.rand(2, 6) * 3, torch.tensor([[0.2, -0.1], [-0.3, 0.1]])
    canonical = face.canonical(points)
    offsets = face(canonical, audio, aus, gaze=gaze)
    looks = face.gaze_attention(face.encoder(points)) * near * gaze[:, None] * 5.0
    raw = concatenated(face, points, audio, aus, torch.zeros(2, len(points), emotion_code), looks)
    assert torch.allclose(offsets["d_means"], raw[..., :3] * POSITION_SCALE, atol=1e-6)
    ahead = face(canonical, audio, aus, gaze=torch.zeros(2, 2))["d_means"]
    assert torch.equal(face(canonical, audio, aus)["d_means"], ahead)
    moved = (ahead - offsets["d_means"]).abs().amax((0, 2))
    assert (moved[near[:, 0] == 1] > 0).all() and (moved[near[:, 0] == 0] < 1e-8).all()
    plain = FaceMotion(32)
    assert torch.equal(*(plain(plain.canonical(points), audio, aus, gaze=each)["d_means"] for each in (None, gaze)))


def test_a_plain_face_refuses_valence_and_arousal(points: torch.Tensor) -> None:
    face = FaceMotion(32)
    with pytest.raises(ValueError, match="takes no valence"):
        face(face.canonical(points), torch.zeros(1, 32), torch.zeros(1, 6), torch.zeros(1, 2))


def test_mouth_equals_the_plain_concatenation_and_moves_mainly_up_and_down(points: torch.Tensor) -> None:
    torch.manual_seed(0)
    mouth = MouthMotion(32)
    loud(mouth)
    audio = torch.randn(1, 32)
    moved = mouth(points, audio)["d_means"][0]
    raw = mouth.trunk(mouth.first(torch.cat([mouth.encoder(points), audio.expand(50, -1)], -1)))
    assert torch.allclose(moved, raw * torch.tensor([0.2, 1.0, 0.2]) * POSITION_SCALE, atol=1e-6)


def test_the_jaw_takes_lower_teeth_along_and_leaves_upper_ones(points: torch.Tensor) -> None:
    torch.manual_seed(0)
    mouth = MouthMotion(32)
    loud(mouth)
    heights = points.clone()
    heights[:20, 1], heights[20:40, 1], heights[40:, 1] = -0.05, -0.0575, -0.07
    audio = torch.randn(2, 32)
    whole = mouth(heights, audio)["d_means"]
    mouth.jaw = torch.tensor([-11.0, -200.0])  # nothing above -0.055, all below -0.06
    moved = mouth(heights, audio)["d_means"]
    assert not moved[:, :20].any() and whole[:, :20].any()
    torch.testing.assert_close(moved[:, 20:40], 0.5 * whole[:, 20:40])
    assert torch.equal(moved[:, 40:], whole[:, 40:])


def test_emotion_depends_on_both_inputs(points: torch.Tensor) -> None:
    torch.manual_seed(0)
    emotion = EmotionMotion()
    loud(emotion)
    means = points.expand(3, -1, -1)
    va = torch.tensor([[0.0, 0.0], [0.8, 0.0], [0.0, 0.8]])
    moved = emotion(means, va)["d_means"].detach()
    assert moved.shape == (3, 50, 3)
    assert float((moved[0] - moved[1]).abs().max()) > 1e-6
    assert float((moved[1] - moved[2]).abs().max()) > 1e-6


def test_audio_encoder_shapes_and_attention() -> None:
    torch.manual_seed(0)
    encoder = PublishedEncoder(29)
    windows = torch.randn(4, 8, 29, 16)
    assert encoder(windows).shape == (4, 32)
    single = torch.cat([encoder(windows[i : i + 1]) for i in range(4)])
    assert torch.allclose(encoder(windows), single, atol=1e-6)


@pytest.mark.parametrize(("steps", "channels"), [(2, 144), (2, 1024), (16, 32), (1, 8), (5, 8)])
def test_conv_encoder_takes_any_rate_and_stores_its_scale(steps: int, channels: int) -> None:
    torch.manual_seed(0)
    encoder = audio_encoder(AudioConfig(channels=channels, steps=steps, encoder="conv"))
    assert isinstance(encoder, ConvEncoder)
    windows = torch.randn(40, 8, channels, steps) * 7.0 + 3.0
    encoder.standardise(windows)
    code = encoder(windows)
    assert code.shape == (40, 32) and torch.isfinite(code).all()
    assert encoder.timeline(windows).std() == pytest.approx(0.5**0.5, rel=0.1)
    again = audio_encoder(AudioConfig(channels=channels, steps=steps, encoder="conv"))
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again(windows), code)
    encoder.closed = torch.ones(32)
    assert torch.equal(encoder(windows, torch.zeros(40)), torch.ones(40, 32))
    assert torch.equal(encoder(windows, torch.ones(40)), code)


def test_conv_encoder_reads_the_same_of_rows_of_two_and_of_sixteen() -> None:
    steps = torch.randn(200, 6)
    rows16 = torch.stack([steps[2 * i - 8 : 2 * i + 8] for i in range(8, 80)])
    rows2 = torch.stack([steps[2 * i : 2 * i + 2] for i in range(8, 80)])
    windows = [audio_windows(rows)[10:50] for rows in (rows16, rows2)]
    encoders = [ConvEncoder(6, 32, count) for count in (16, 2)]
    encoders[1].load_state_dict(encoders[0].state_dict())
    lines = [encoder.timeline(each) for encoder, each in zip(encoders, windows, strict=True)]
    # Frame 10 of the rows is frame 18 of the steps: 80 ms before its first step to 80 ms after its second.
    assert torch.equal(lines[0][0].T, steps[2 * 18 - 4 : 2 * 18 + 6])
    assert torch.equal(*lines)
    assert torch.equal(*(encoder(each) for encoder, each in zip(encoders, windows, strict=True)))
    before = encoders[1](windows[1])
    later = windows[1].clone()
    later[:, 7] += 5.0  # more than 80 ms after the frame: not read
    later[:, :2] += 5.0
    assert torch.equal(encoders[1](later), before)


def test_an_emotion_is_full_at_its_radius_and_grows_as_the_targets_do() -> None:
    direction = torch.tensor([[0.6, -0.8]])
    lengths = torch.tensor([[0.0], [0.2], [0.4], [0.8], [1.2]])
    moved = full_at(lengths * direction, 0.8)
    assert torch.allclose(moved.norm(dim=1), 0.8 * (lengths[:, 0] / 0.8).clamp(max=1) ** 0.75, atol=1e-6)
    assert torch.allclose(moved[1:] / moved[1:].norm(dim=1, keepdim=True), direction.expand(4, 2), atol=1e-6)
    torch.manual_seed(0)
    plain = EmotionMotion()
    torch.nn.init.normal_(plain.encoder.table)
    full = EmotionMotion(radius=0.8)
    full.load_state_dict(plain.state_dict())  # the same weights: files of before have no radius
    means = torch.rand(1, 5, 3) * 0.1
    strong, stronger = (full(means, length * direction)["d_means"] for length in (0.8, 1.2))
    assert torch.allclose(strong, stronger, atol=1e-9)
    assert torch.allclose(strong, plain(means, 0.8 * direction)["d_means"], atol=1e-9)
    further = plain(means, 1.2 * direction)["d_means"]
    assert (further - strong).abs().max() > 1e-3 * strong.abs().max()  # without a radius it goes on


def test_harmonics_turn_with_the_emotion_and_vanish_at_neutral() -> None:
    angles = torch.tensor([0.3, -2.0, 2.9])
    va = 0.7 * torch.stack([angles.cos(), angles.sin()], 1)
    found = harmonics_of(va, 3)
    for k in (1, 2, 3):
        wanted = 0.7 * torch.stack([(k * angles).cos(), (k * angles).sin()], 1)
        assert torch.allclose(found[:, 2 * k - 2 : 2 * k], wanted, atol=1e-6)
    assert torch.equal(harmonics_of(torch.zeros(2, 2), 3), torch.zeros(2, 6))
