"""Names and points of the valence/arousal plane."""

import math

import pytest

from emotalking.emotion.circumplex import PRESETS, TEST_POINTS, check_va, emotion_in, preset
from emotalking.errors import InputError


def test_presets_lie_in_the_square_and_go_around_the_circle() -> None:
    assert PRESETS["neutral"] == (0.0, 0.0)
    angles = [math.degrees(math.atan2(a, v)) % 360 for name, (v, a) in PRESETS.items() if name != "neutral"]
    assert angles == sorted(angles)
    assert all(abs(v) <= 1 and abs(a) <= 1 for v, a in PRESETS.values())


def test_points_are_balanced() -> None:
    assert len(TEST_POINTS) == 12
    assert sum(p.valence > 0 for p in TEST_POINTS) == sum(p.arousal > 0 for p in TEST_POINTS) == 6
    assert (round(TEST_POINTS[0].valence, 3), round(TEST_POINTS[0].arousal, 3)) == (0.739, 0.306)
    assert {(round(p.valence, 2), round(p.arousal, 2)): p.label for p in TEST_POINTS}[(-0.31, 0.74)] == "fear"


def test_a_name_says_an_emotion() -> None:
    names = ["angry", "02_Angry-loud", "laugh", "sad_then_happy", "sadness", ""]
    assert [emotion_in(name) for name in names] == ["angry", "angry", None, None, None, None]


def test_preset_ignores_case_and_lists_the_names() -> None:
    assert preset(" Happy ") == PRESETS["happy"]
    with pytest.raises(InputError, match='"merry".*neutral, happy'):
        preset("merry")


@pytest.mark.parametrize("pair", [(1.2, 0.0), (0.0, -1.01), (float("nan"), 0.0), (0.0, float("inf"))])
def test_values_outside_are_refused(pair: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="x.csv line 3: (valence|arousal) is .* between -1 and 1"):
        check_va(*pair, "x.csv line 3")
