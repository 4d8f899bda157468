"""The motion networks compute what their equations say, however the first layer is split."""

import pytest
import torch
import torch.nn.functional as F

from emotalking.models.audio import AudioEncoder
from emotalking.models.motion import POSITION_SCALE, EmotionMotion, FaceMotion, MouthMotion


@pytest.fixture
def points() -> torch.Tensor:
    return (torch.rand(50, 3, generator=torch.Generator().manual_seed(0)) - 0.5) * 0.2


def loud(network: torch.nn.Module) -> None:
    """Tri-plane tables start near zero; make their part of the result visible."""
    with torch.no_grad():
        network.encoder.table.normal_(generator=torch.Generator().manual_seed(3))


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


def test_face_equals_the_plain_concatenation(points: torch.Tensor) -> None:
    torch.manual_seed(0)
    face = FaceMotion(32)
    loud(face)
    audio, aus = torch.randn(2, 32), torch.rand(2, 6) * 3
    offsets = face(face.canonical(points), audio, aus)
    features = face.encoder(points)
    expression = torch.cat([face.expression(aus[:, :5]), aus[:, 5:]], -1)
    for frame in range(2):
        joined = torch.cat(
            [
                features,
                face.audio_attention(features) * audio[frame],
                F.relu(face.expression_attention(features)) * expression[frame],
            ],
            -1,
        )
        raw = face.trunk(face.first(joined))
        assert torch.allclose(offsets["d_means"][frame], raw[:, :3] * POSITION_SCALE, atol=1e-6)
        assert torch.allclose(offsets["d_quats"][frame], raw[:, 3:7], atol=1e-5)
        assert torch.allclose(offsets["d_scales"][frame], raw[:, 7:], atol=1e-5)


def test_combined_face_equals_the_plain_concatenation(points: torch.Tensor) -> None:
    torch.manual_seed(0)
    face = FaceMotion(32, emotion_code=16)
    loud(face)
    audio, aus, va = torch.randn(2, 32), torch.rand(2, 6) * 3, torch.tensor([[0.8, -0.3], [-0.5, 0.6]])
    offsets = face(face.canonical(points), audio, aus, va)
    features = face.encoder(points)
    expression = torch.cat([face.expression(aus[:, :5]), aus[:, 5:]], -1)
    for frame in range(2):
        codes = (
            face.audio_attention(features) * audio[frame],
            face.expression_attention(features) * expression[frame],
            face.emotion_attention(features) * face.emotion(va[frame]),
        )
        raw = face.trunk(face.first(torch.cat([features, *codes], -1)))
        assert torch.allclose(offsets["d_means"][frame], raw[:, :3] * POSITION_SCALE, atol=1e-6)
        assert torch.allclose(offsets["d_quats"][frame], raw[:, 3:7], atol=1e-5)
    neutral = face(face.canonical(points), audio, aus, torch.zeros(2, 2))
    assert torch.equal(face(face.canonical(points), audio, aus)["d_means"], neutral["d_means"])


def test_a_plain_face_refuses_valence_and_arousal(points: torch.Tensor) -> None:
    face = FaceMotion(32)
    with pytest.raises(ValueError, match="takes no valence"):
        face(face.canonical(points), torch.zeros(1, 32), torch.zeros(1, 6), torch.zeros(1, 2))


def test_mouth_equals_the_plain_concatenation_and_moves_mainly_up_and_down(points: torch.Tensor) -> None:
    torch.manual_seed(0)
    mouth = MouthMotion(32)
    loud(mouth)
    audio = torch.randn(1, 32)
    moved = mouth(mouth.canonical(points), audio)["d_means"][0]
    raw = mouth.trunk(mouth.first(torch.cat([mouth.encoder(points), audio.expand(50, -1)], -1)))
    assert torch.allclose(moved, raw * torch.tensor([0.2, 1.0, 0.2]) * POSITION_SCALE, atol=1e-6)


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
    encoder = AudioEncoder(29)
    windows = torch.randn(4, 8, 29, 16)
    assert encoder(windows).shape == (4, 32)
    single = torch.cat([encoder(windows[i : i + 1]) for i in range(4)])
    assert torch.allclose(encoder(windows), single, atol=1e-6)
