"""The estimator from action units: prototypes, time, the actor's true units and emotions, bad input."""

import numpy as np
import pytest

from emotalking.emotion.circumplex import PRESETS
from emotalking.emotion.estimator import PROTOTYPES, ActionUnitEmotion, at_place, unit_weights
from emotalking.testing.actor.state import visible_aus

N = 120


def _units(**levels: float) -> dict[str, np.ndarray]:
    """A clip that rests, then shows these units in its last third."""
    return {name: np.where(np.arange(N) < 2 * N // 3, 0.0, level) for name, level in levels.items()}


@pytest.mark.parametrize("emotion", list(PROTOTYPES))
def test_a_prototype_lies_at_its_place(emotion: str) -> None:
    out = ActionUnitEmotion().estimate(_units(**dict.fromkeys(PROTOTYPES[emotion], 3.0)))
    assert out.shape == (N, 2) and out.dtype == np.float32
    assert np.abs(out[: N // 2]).max() < 1e-3
    np.testing.assert_allclose(out[-1], PRESETS[emotion], atol=0.08)


def test_stronger_is_further_out_and_never_beyond_the_square() -> None:
    estimator = ActionUnitEmotion()
    levels = [estimator.estimate(_units(AU06=a, AU12=a))[-1] for a in (0.0, 1.0, 2.5, 5.0)]
    assert (np.diff(levels, axis=0) > 0.02).all()
    assert np.abs(estimator.estimate({name: np.full(N, 5.0) for name in unit_weights()[0]})).max() <= 1


def test_blinks_and_words_are_taken_out() -> None:
    wave = 2.0 * (np.sin(np.arange(N) * 2 * np.pi / 6) > 0)
    out = ActionUnitEmotion().estimate({"AU12": np.zeros(N), "AU45": wave, "AU25": wave, "AU26": wave})
    assert np.abs(out).max() < 1e-6
    brief = np.zeros(N)
    brief[[20, 21, 60, 61]] = 4.0
    assert np.abs(ActionUnitEmotion().estimate({"AU07": brief})).max() < 1e-6
    out = ActionUnitEmotion().estimate({"AU12": wave})
    assert np.abs(np.diff(out, axis=0)).max() < 0.02


def test_a_named_emotion_is_at_its_place_as_far_as_it_is_shown() -> None:
    begins = np.concatenate([np.zeros((20, 2)), np.linspace(0, 1, 20)[:, None] * (0.1, 0.5), np.full((60, 2), 0.36)])
    found = at_place(begins, PRESETS["angry"])
    assert not found[:20].any() and np.allclose(found[-60:], PRESETS["angry"], atol=1e-6)
    assert (np.diff(found[20:40, 0]) < 0).all() and np.allclose(found @ (0.31, 0.74), 0, atol=1e-6)  # on its ray
    unseen = at_place(begins / 100, PRESETS["calm"])  # nothing that the estimator reads
    assert np.allclose(unseen, PRESETS["calm"])


def test_the_actors_emotions_are_read_from_its_true_units() -> None:
    """All over the circumplex, against the map that the actor itself was given (made independently, also from FACS)."""
    angles = np.linspace(0, 6 * np.pi, 900)
    true = 0.8 * np.abs(np.sin(angles / 6))[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    shown = [visible_aus({}, float(v), float(a)) for v, a in true]
    units = {name: np.maximum([frame[name] for frame in shown], 0) for name in shown[0]}
    out = ActionUnitEmotion().estimate(units)
    # Measured: valence r .99, error .07; arousal r .95, error .12.
    for axis, least, most in ((0, 0.95, 0.12), (1, 0.9, 0.18)):
        r, rmse = np.corrcoef(out[:, axis], true[:, axis])[0, 1], np.sqrt(((out - true)[:, axis] ** 2).mean())
        assert r > least and rmse < most


def test_short_and_empty_clips_and_bad_input() -> None:
    estimator = ActionUnitEmotion()
    np.testing.assert_allclose(estimator.estimate({"AU12": np.zeros(1)}), 0, atol=1e-6)
    assert estimator.estimate({"AU12": np.zeros(0)}).shape == (0, 2)
    with pytest.raises(ValueError, match="one common length"):
        estimator.estimate({"AU25": np.zeros(3)})
    with pytest.raises(ValueError, match="one common length"):
        estimator.estimate({"AU12": np.zeros(3), "AU06": np.zeros(4)})
    with pytest.raises(ValueError, match="finite"):
        estimator.estimate({"AU12": np.array([0.0, np.nan])})
