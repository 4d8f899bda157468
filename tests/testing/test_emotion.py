"""The map from valence and arousal to the face, and the model that reads it back."""

from dataclasses import asdict, replace

import cv2
import numpy as np
import pytest

from emotalking.testing.actor import Actor, ActorEmotionModel, ActorState, Performance, emotional_aus, head_viewmat
from emotalking.testing.actor.state import ACTOR_AUS


def _disc(step: float) -> np.ndarray:
    axis = np.arange(-1, 1 + step / 2, step)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    return grid[np.linalg.norm(grid, axis=1) <= 1]


def _vector(point: np.ndarray) -> np.ndarray:
    aus = emotional_aus(float(point[0]), float(point[1]))
    return np.array([aus[name] for name in ACTOR_AUS if name != "AU45"])


def test_map_is_smooth_bounded_and_neutral_at_zero() -> None:
    assert np.abs(_vector(np.zeros(2))).max() < 1e-9
    for point in _disc(0.2):
        here = _vector(point)
        assert here.min() >= -0.6 and here.max() <= 5.0
        for step in (np.array([0.01, 0.0]), np.array([0.0, 0.01])):
            if np.abs(point + step).max() <= 1:
                assert np.abs(_vector(point + step) - here).max() < 0.15


@pytest.mark.parametrize(
    ("point", "strong", "weak"),
    [
        ((0.74, 0.31), ("AU06", "AU12"), ("AU04", "AU15", "AU43")),
        ((0.31, 0.74), ("AU01", "AU02", "AU05"), ("AU04", "AU43")),
        ((-0.31, 0.74), ("AU01", "AU04", "AU05", "AU20"), ("AU12", "AU43")),
        ((-0.74, 0.31), ("AU04", "AU07"), ("AU12", "AU02", "AU43")),
        ((-0.74, -0.31), ("AU01", "AU04", "AU15"), ("AU12", "AU05")),
        ((-0.31, -0.74), ("AU43",), ("AU05", "AU12")),
        ((0.74, -0.31), ("AU12", "AU43"), ("AU04", "AU05")),
    ],
)
def test_octants_have_their_action_units(
    point: tuple[float, float], strong: tuple[str, ...], weak: tuple[str, ...]
) -> None:
    aus = emotional_aus(*point)
    assert min(aus[name] for name in strong) > 1.0, aus
    assert max(aus[name] for name in weak) < 0.9, aus


def test_upper_face_alone_tells_both_axes(actor: Actor) -> None:
    """The derivative of brows, lids and cheeks with respect to (v, a) has rank two everywhere in the disc."""
    layout = actor.layout
    upper = [
        k for name in ("right_brow", "left_brow", "right_upper_lid", "right_lower_lid") for k in getattr(layout, name)
    ]
    neutral = actor.neutral_landmarks()
    grouped = {k for group in asdict(layout).values() if not isinstance(group, str) for k in group}
    upper += [k for k in range(len(neutral)) if k not in grouped and neutral[k, 1] > -0.04]

    def shape(v: float, a: float) -> np.ndarray:
        state = ActorState(head_viewmat(), valence=float(v), arousal=float(a))
        return actor.landmarks_world(state)[upper].ravel()

    for v, a in _disc(0.4) * 0.9:
        slopes = np.stack([shape(v + 0.02, a) - shape(v - 0.02, a), shape(v, a + 0.02) - shape(v, a - 0.02)]) / 0.04
        strength = np.linalg.svd(slopes, compute_uv=False)
        assert strength[1] > 2e-3, (v, a, strength)


def test_values_outside_are_refused() -> None:
    with pytest.raises(ValueError, match="valence"):
        emotional_aus(1.2, 0.0)


def test_emotion_model_reads_its_own_actor_back() -> None:
    model = ActorEmotionModel(size=96)
    camera = Actor(size=160)
    rng = np.random.default_rng(4)
    script = Performance.generate(4.0, seed=2).states
    truth = []
    found = []
    renders = []
    for k in range(12):
        v, a = rng.uniform(-0.8, 0.8, 2)
        state = replace(script[5 * k], valence=float(v), arousal=float(a))
        state = replace(state, aus={**state.aus, "AU45": min(state.aus["AU45"], 0.4)})  # shut eyes tell little
        image = camera.image_of(state)
        if k % 2:
            image = cv2.GaussianBlur(image, (0, 0), 1.2) * 0.92 + 0.03 + rng.normal(0, 0.015, image.shape)
        fitted = model.fit(np.clip(image, 0, 1).astype(np.float32), state)
        truth.append((v, a))
        found.append(fitted[:2])
        renders.append(fitted.renders)
    truth, found = np.array(truth), np.array(found)
    assert np.corrcoef(truth[:, 0], found[:, 0])[0, 1] > 0.98
    assert np.corrcoef(truth[:, 1], found[:, 1])[0, 1] > 0.98
    assert np.abs(found - truth).mean() < 0.05  # measured 0.032
    assert max(renders) <= 81


def test_emotion_can_leave_jaw_and_tint_alone(actor: Actor) -> None:
    excited = ActorState(head_viewmat(), valence=-0.4, arousal=0.9)
    held = replace(excited, emotional_jaw=False, emotional_tint=False)
    ibug = np.array(actor.layout.ibug68)
    gap = [np.linalg.norm(np.diff(actor.landmarks_world(state)[ibug[[62, 66]]], axis=0)) for state in (excited, held)]
    assert gap[0] > gap[1] + 0.002 and gap[1] < 5e-4
    right_cheek = actor.render(held).landmarks[ibug[[2, 31]]].mean(0).astype(int)
    red, plain = (actor.image_of(state)[right_cheek[1], right_cheek[0]] for state in (excited, held))
    assert red[0] / red[1] > 1.01 * plain[0] / plain[1]


def test_emotion_model_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match="square"):
        ActorEmotionModel(size=64).fit(np.zeros((64, 32, 3), np.float32), ActorState(head_viewmat()))
