"""The landmark smoother on made-up events with known noise, slips and gaps, and on the actor's speech."""

import numpy as np
import pytest

from emotalking.data.layouts import FaceLayout
from emotalking.preprocess.landmarks import MEDIAPIPE_LAYOUT as LAYOUT
from emotalking.preprocess.pose.solver import jitter_px
from emotalking.preprocess.smoothing import bridge, steady
from emotalking.testing.actor.actor import Actor
from emotalking.testing.actor.actor import project as actor_project
from emotalking.testing.actor.performance import Performance

RIGID, LIPS = list(LAYOUT.rigid), sorted({*LAYOUT.lips_outer, *LAYOUT.lips_inner})
EYE = sorted({*LAYOUT.right_upper_lid, *LAYOUT.right_lower_lid, *LAYOUT.right_iris})


def _wandering_head(count: int) -> np.ndarray:
    """Places of the neutral face under a head that moves."""
    rng = np.random.default_rng(0)
    return np.cumsum(rng.normal(0, 2, (count, 1, 2)), 0) + rng.uniform(100, 400, (1, 478, 2))


def _noisy(clean: np.ndarray, sigma: float = 0.25) -> np.ndarray:
    return clean + np.random.default_rng(1).normal(0, sigma, clean.shape)


def test_gaps_are_bridged_linearly() -> None:
    track = np.arange(6, dtype=float)[:, None, None] * np.ones((1, 3, 2))
    holed = track.copy()
    holed[[0, 2, 3]] = np.nan
    filled = bridge(holed)
    np.testing.assert_allclose(filled[2:], track[2:])
    np.testing.assert_allclose(filled[0], track[1])


def test_noise_goes_and_blinks_and_closures_stay() -> None:
    model = _wandering_head(200)
    clean = model.copy()
    clean[48:53, EYE, 1] += np.array([2, 6, 8, 6, 2.0])[:, None]  # a blink
    clean[120:123, LIPS, 1] += np.array([2.5, 5, 2.5])[:, None]  # a closure of three frames
    noisy = _noisy(clean)
    calm = steady(noisy, model, LAYOUT)
    still = np.r_[5:45, 60:115, 130:195]
    for group, bound in ((RIGID, 0.15), (EYE, 0.2), (LIPS, 0.3)):
        before, after = (jitter_px((p - model)[still][:, group]) for p in (noisy, calm))
        assert after < bound * before
    assert (calm - model)[50, EYE, 1].mean() > 0.97 * 8
    assert (calm - model)[121, LIPS, 1].mean() > 0.95 * 5
    assert abs((calm - clean)[46:55, EYE, 1].mean(1)).max() < 0.3
    # No lag: as much before the middle as after it.
    eye = (calm - model)[45:56, EYE, 1].mean(1)
    assert np.average(np.arange(45, 56), weights=np.maximum(eye, 0)) == pytest.approx(50.0, abs=0.05)


def test_a_slip_of_the_detector_leaves_no_trace() -> None:
    model = _wandering_head(120)
    noisy = _noisy(model)
    noisy[[30, 77]] += [9.0, -6.0]
    calm = steady(noisy, model, LAYOUT)
    assert np.abs((calm - model)[[29, 30, 31, 76, 77, 78]]).mean() < 0.25
    assert np.abs((calm - model)[[30, 77]]).max() < 1.0


def test_a_second_without_a_face_follows_the_head_without_a_spike() -> None:
    model = _wandering_head(120)
    clean = model.copy()
    clean[60:, LIPS, 1] += 6.0  # the mouth opened meanwhile
    noisy = _noisy(clean)
    noisy[50:75] = np.nan
    rest = (steady(noisy, model, LAYOUT) - model)[:, LIPS, 1].mean(1)
    assert np.isfinite(rest).all()
    assert rest[50:75].min() > -0.5 and rest[50:75].max() < 6.5
    assert np.abs(np.diff(rest[47:78])).max() < 0.6


def test_parts_of_a_long_clip_join() -> None:
    model = _wandering_head(400)
    noisy = _noisy(model)
    noisy[195:205] = np.nan
    whole = steady(noisy, model, LAYOUT, noise=0.25)
    parts = [
        steady(noisy[a:b], model[a:b], LAYOUT, noise=0.25)[c:d]
        for a, b, c, d in ((0, 266, 0, 200), (134, 400, 66, 266))
    ]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=2e-4)


def test_higher_rates_are_filtered_alike() -> None:
    model = _wandering_head(300)
    noisy = _noisy(model)
    fast, slow = (steady(noisy, model, LAYOUT, fps=fps) for fps in (50, 25))
    assert jitter_px((fast - model)[:, RIGID]) < 0.5 * jitter_px((slow - model)[:, RIGID])


def test_speech_and_blinks_of_the_actor_come_nearer_to_the_truth() -> None:
    script, actor = Performance.generate(3.0, seed=2), Actor(size=64)
    layout = FaceLayout(**vars(actor.layout))
    neutral = actor.neutral_landmarks()
    camera = np.array([[1075, 0, 256], [0, 1075, 256], [0, 0, 1]], np.float32)
    truth = np.stack([actor_project(actor.landmarks_world(s), s.viewmat, camera)[:, :2] for s in script.states])
    model = np.stack([actor_project(neutral, s.viewmat, camera)[:, :2] for s in script.states]).astype(np.float64)
    noisy = _noisy(truth.astype(np.float64))
    calm = steady(noisy, model, layout)
    lids = [*layout.right_upper_lid, *layout.right_lower_lid, *layout.left_upper_lid, *layout.left_lower_lid]
    for group, bound in ((list(layout.rigid), 0.5), (lids, 0.8), ([*layout.lips_outer, *layout.lips_inner], 0.99)):
        before, after = (np.sqrt(np.mean((p - truth)[:, group] ** 2)) for p in (noisy, calm))
        assert after < bound * before
    upper, lower = layout.right_upper_lid[3], layout.right_lower_lid[3]
    gap, kept = (p[:, lower, 1] - p[:, upper, 1] for p in (truth, calm))
    shut = int(gap.argmin())
    rest = float(np.median(gap))
    assert rest - kept[shut] > 0.93 * (rest - gap[shut])
