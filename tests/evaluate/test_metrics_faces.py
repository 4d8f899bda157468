"""Metrics of faces and of emotion: known answers."""

import math

import numpy as np
import pytest

from emotalking.emotion.circumplex import TEST_POINTS
from emotalking.evaluate.evaluation_models import CIRCUMPLEX_CLASSES, circumplex_scores
from emotalking.evaluate.faces import face_tones, runs_of
from emotalking.evaluate.metrics import METRICS, expression, lips, missing, per_frame, steadiness

POINTS = np.random.default_rng(0).uniform(100, 200, (3, 68, 2))


def test_a_moved_mouth_costs_nothing_and_a_stretched_one_does() -> None:
    assert lips.landmark_distance(POINTS + [5.0, -3.0], POINTS) == pytest.approx(np.zeros(3), abs=1e-9)
    wide = POINTS.copy()
    # Two of twenty points go 10 px to either side: the mean stays, and the distance is 2 x 10 / 20.
    wide[:, 48, 0] -= 10
    wide[:, 54, 0] += 10
    assert lips.landmark_distance(wide, POINTS) == pytest.approx(np.ones(3))
    wide[1] = np.nan
    assert np.isnan(lips.landmark_distance(wide, POINTS)).tolist() == [False, True, False]


def speech(count: int = 200, seed: int = 4) -> np.ndarray:
    """A smooth random series, as of lips that speak."""
    noise = np.random.default_rng(seed).normal(size=count + 20)
    return 1 + 0.2 * np.convolve(noise, np.hanning(9) / np.hanning(9).sum(), "same")[10:-10]


def test_opening_and_width_have_no_size_and_no_roll() -> None:
    points = np.random.default_rng(5).uniform(0, 100, (1, 68, 2))
    points[:, [36, 39, 42, 45]] = [[10, 50], [30, 50], [70, 50], [90, 50]]
    points[:, [48, 54]] = [[35, 20], [65, 20]]
    points[:, [61, 62, 63]] = [[45, 15], [50, 15], [55, 15]]
    points[:, [67, 66, 65]] = [[45, 21], [50, 21], [55, 21]]
    opening, width = lips.lip_series(points)
    assert opening == pytest.approx([6 / 60]) and width == pytest.approx([30 / 60])
    turn = np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    rolled = lips.lip_series(2.5 * points @ turn.T + [7, -3])
    assert rolled[0] == pytest.approx(opening) and rolled[1] == pytest.approx(width)


def test_half_the_motion_is_half_the_spread() -> None:
    recorded = speech()
    scores = lips.series_scores(0.5 * recorded + 3, recorded, 25)
    assert scores.r == pytest.approx(1) and scores.spread == pytest.approx(0.5)
    assert scores.lag == pytest.approx(0, abs=1)
    assert lips.series_scores(-recorded, recorded, 25).r == pytest.approx(-1)


@pytest.mark.parametrize(("frames", "fps", "ms"), [(2, 25, 80), (-3, 25, -120), (2, 50, 40)])
def test_a_delay_is_the_lag(frames: int, fps: float, ms: float) -> None:
    whole = speech(220)
    recorded = whole[10:210]
    late = whole[10 - frames : 210 - frames]
    assert lips.series_scores(late, recorded, fps).lag == pytest.approx(ms, abs=1)
    late = late.copy()
    late[50:60] = np.nan
    assert lips.series_scores(late, recorded, fps).lag == pytest.approx(ms, abs=1)


def test_noise_of_the_same_power_leaves_r_of_one_over_root_two() -> None:
    rng = np.random.default_rng(6)
    recorded = rng.normal(size=20000)
    scores = lips.series_scores(recorded + rng.normal(size=20000), recorded, 25)
    assert scores.r == pytest.approx(2**-0.5, abs=0.01) and scores.spread == pytest.approx(2**0.5, abs=0.02)
    assert abs(lips.series_scores(rng.normal(size=20000), recorded, 25).r) < 0.03


def test_no_shift_pairs_frames_of_two_runs() -> None:
    whole = speech(220)
    runs = [slice(0, 100), slice(100, 200)]
    parts = [lips.apart(whole[at : at + 200], runs) for at in (10, 8)]
    assert len(parts[0]) == 220 and np.isnan(parts[0]).sum() == 20
    assert np.isnan(parts[0][100:110]).all() and parts[0][110] == whole[110]
    assert lips.series_scores(parts[1], parts[0], 25).lag == pytest.approx(80, abs=1)


def test_frames_without_a_face_do_not_enter() -> None:
    recorded = speech()
    rendered = 0.5 * recorded
    rendered[20:40], recorded[30:50] = np.nan, np.nan
    scores = lips.series_scores(rendered, recorded, 25)
    assert scores.r == pytest.approx(1) and scores.spread == pytest.approx(0.5)


def test_scores_of_lips_that_nothing_can_be_said_of() -> None:
    few, still = speech(9), np.full(50, 0.3)
    assert np.isnan(lips.series_scores(few, few, 25)).all()
    r, spread, lag = lips.series_scores(still, speech(50), 25)
    assert math.isnan(r) and spread == 0 and math.isnan(lag)
    assert np.isnan(lips.series_scores(speech(50), still, 25)).all()
    # Lips that do something else have no lag.
    noise = np.random.default_rng(7).normal(size=(2, 400))
    assert math.isnan(lips.series_scores(noise[0], noise[1], 25).lag)
    # A series that is late by more than the range has no peak in it.
    ramp = np.cumsum(np.hanning(60))
    assert math.isnan(lips.series_scores(ramp[:40], ramp[20:], 25).lag)


def test_unit_errors_are_summed_squares_over_the_baselines_sets() -> None:
    names = expression.UPPER_AUS + expression.LOWER_AUS
    assert len(names) == len(set(names)) == 17
    units = {name: np.array([1.0, 2.0]) for name in names}
    rest = {name: np.zeros(2) for name in names}
    assert expression.unit_error(units, rest, expression.UPPER_AUS).tolist() == [8, 32]
    assert expression.unit_error(units, rest, expression.LOWER_AUS).tolist() == [9, 36]
    # A face at rest gets just this as its error.
    for names_of in (expression.UPPER_AUS, expression.LOWER_AUS):
        still = expression.unit_error(rest, units, names_of)
        assert expression.unit_power(units, names_of).tolist() == still.tolist()


def test_steady_motion_has_no_jitter_and_a_jump_of_one_pixel_has() -> None:
    walk = np.arange(6.0)[:, None, None] * np.ones((1, 4, 2))
    assert np.isnan(steadiness.point_jitter(walk)[[0, -1]]).all()
    assert steadiness.point_jitter(walk)[1:-1] == pytest.approx(np.zeros(4))
    walk[3, :, 0] += 1
    assert steadiness.point_jitter(walk)[1:-1].tolist() == [0, 1, 2, 1]


def test_flicker_sees_the_light_and_not_a_blink() -> None:
    tones = np.full((5, 8, 8), 100.0)
    tones[2, :2] += 50  # a quarter of the face
    assert steadiness.flicker(tones)[1:-1].tolist() == [0, 0, 0]
    tones[2] += 3
    assert steadiness.flicker(tones)[2] == 6


def test_mouth_in_silence() -> None:
    opening = np.array([0.0, 2, 0, 2, 0, 0, 1, 0])
    energy = steadiness.opening_energy(opening)
    assert math.isnan(energy[0]) and energy[1:].tolist() == [4, 4, 4, 4, 0, 1, 1]
    gate = np.array([1.0, 1, 1, 0.5, 0.5, 0, 0, 0])
    assert steadiness.silence_ratio(energy, gate) == pytest.approx((2 / 3) / 4)
    assert math.isnan(steadiness.silence_ratio(energy, np.ones(8)))
    assert math.isnan(steadiness.silence_ratio(np.zeros(8), gate))


def test_signs() -> None:
    measured = np.array([0.1, -0.1, 0.0, np.nan])
    agreed = expression.sign_agreement(measured, np.array([0.7, 0.7, 0.0, 0.7]))
    assert agreed[:3].tolist() == [1, 0, 1] and math.isnan(agreed[3])


def test_a_constant_reader_gets_what_the_paper_prints_for_baselines() -> None:
    """Paper-spec 9.3: sign agreement .500 on both axes and an RMSE of .505 on the twelve points."""
    commanded = np.array([(point.valence, point.arousal) for point in TEST_POINTS])
    for axis in range(2):
        assert expression.sign_agreement(np.full(12, -0.1), commanded[:, axis]).mean() == 0.5
        assert METRICS["v_rmse"].summary(expression.squared_error(np.zeros(12), commanded[:, axis])) == pytest.approx(
            0.505, abs=1e-3
        )


def test_expressions_by_rank() -> None:
    commanded = np.array([(TEST_POINTS[0].valence, TEST_POINTS[0].arousal), (0.0, 0.0), (-0.74, 0.306), (-0.74, 0.306)])
    labels = expression.label_of(commanded, TEST_POINTS)
    assert labels == ["happy", None, "anger", "anger"]
    classes = ("neutral", "happy", "anger", "fear")
    scores = np.array([[0.3, 0.2, 0.1, 0.0], [1.0, 0, 0, 0], [0.0, 0.1, 5.0, 2.0], [np.nan] * 4])
    place = expression.ranks(scores, classes, labels)
    assert place.tolist() == [1, -1, 0, -1]
    assert np.nanmean(expression.top_k(place, 1)) == 50 and np.nanmean(expression.top_k(place, 3)) == 100


def test_an_ideal_reader_on_the_plane_knows_the_labels() -> None:
    commanded = np.array([(point.valence, point.arousal) for point in TEST_POINTS])
    labels = [point.label for point in TEST_POINTS]
    place = expression.ranks(circumplex_scores(commanded), tuple(CIRCUMPLEX_CLASSES), labels)
    assert expression.top_k(place, 3).mean() == 100


def test_runs_end_where_indices_or_emotions_jump() -> None:
    assert runs_of(4, None, None) == ([slice(0, 4)], 1)
    assert runs_of(6, np.array([5, 7, 9, 30, 32, 34]), None) == ([slice(0, 3), slice(3, 6)], 2)
    va = np.array([[0.5, 0.5]] * 2 + [[-0.5, 0.5]] * 2)
    assert runs_of(4, None, va) == ([slice(0, 2), slice(2, 4)], 1)
    assert runs_of(0, None, None) == ([], 1)


def test_tones_stay_with_a_face_that_moves() -> None:
    """A image and its points, shifted together, give the same tones."""
    shape = np.random.default_rng(1).uniform(-0.05, 0.05, (9, 2))
    image = np.random.default_rng(2).integers(0, 255, (12, 12, 3), np.uint8).repeat(10, 0).repeat(10, 1)
    rigid = np.array([60.5, 60.5]) + shape * [400, -400]
    moved = np.roll(image, (3, 5), (0, 1))
    assert face_tones(moved, rigid + [5, 3], shape) == pytest.approx(face_tones(image, rigid, shape), abs=1e-3)


def test_a_figure_counts_what_it_lacks() -> None:
    metric = per_frame("lmd", np.array([1.0, np.nan, 3.0]), "someone")
    assert (metric.value, metric.frames, metric.missing, metric.reason) == (2, 2, 1, "")
    ends = per_frame("jitter_head", np.array([np.nan, 1.0, np.nan]), wanted=np.array([False, True, False]))
    assert (ends.frames, ends.missing) == (1, 0)
    nothing = per_frame("lmd", np.full(2, np.nan))
    assert math.isnan(nothing.value) and "both in the recording" in nothing.reason and nothing.missing == 2
    assert missing("psnr", "no truth").unit == "dB"
