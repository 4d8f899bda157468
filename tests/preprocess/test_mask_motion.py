"""Masks over time: steadied scores, flicker, and the statistics of a clip, on drawings with known answers."""

import cv2
import numpy as np
import pytest

from emotalking.data.labels import Label
from emotalking.data.layouts import IBUG68
from emotalking.preprocess.masks import MaskStatistics
from emotalking.preprocess.parsing.labels import detached
from emotalking.preprocess.parsing.parser import SmallFlow, TemporalSmoother, flicker

SIZE = 96


def texture() -> np.ndarray:
    noise = np.random.default_rng(0).uniform(0, 255, (SIZE, SIZE, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.5)
    return (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)


def moving(step: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """A textured square that walks ``step`` pixels a frame over a grey wall, and where it is."""
    frames = []
    for k in range(8):
        image, inside = np.full((SIZE, SIZE, 3), 128, np.uint8), np.zeros((SIZE, SIZE), bool)
        window = np.s_[30:66, 16 + step * k : 52 + step * k]
        image[window], inside[window] = texture()[:36, :36], True
        frames.append((image, inside))
    return frames


@pytest.mark.parametrize("step", [0, 3])
def test_steadied_scores_forget_noise_and_do_not_lag(step: int) -> None:
    rng = np.random.default_rng(1)
    smoother = TemporalSmoother()
    inside = noisy = steady = np.zeros(0)
    for image, inside in moving(step):
        noisy = (inside + rng.normal(0, 0.6, inside.shape)).clip(0, 1).astype(np.float32)
        steady = smoother(image, np.dstack([noisy, 1 - noisy]))
        np.testing.assert_allclose(steady.sum(-1), 1, atol=1e-4)
    raw_wrong = np.not_equal(noisy > 0.5, inside).mean()
    wrong = np.not_equal(steady[..., 0] > 0.5, inside)
    assert raw_wrong > 0.15
    assert wrong.mean() < 0.25 * raw_wrong
    # No ghost where the square was in the frames before.
    assert wrong[30:66, : 16 + 7 * step].mean() < 0.1


def test_a_new_picture_starts_anew() -> None:
    smoother = TemporalSmoother()
    ones = np.ones((SIZE, SIZE, 1), np.float32)
    smoother(np.zeros((SIZE, SIZE, 3), np.uint8), ones)
    result = smoother(np.full((SIZE, SIZE, 3), 255, np.uint8), 0 * ones)
    assert result.max() < 1e-3


def test_flicker_counts_what_changes_and_not_what_moves() -> None:
    labels = np.zeros((SIZE, SIZE), np.uint8)
    labels[30:60, 30:60] = Label.HEAD
    flow, alike = np.zeros((SIZE, SIZE, 2), np.float32), np.ones((SIZE, SIZE), np.float32)
    flow[..., 0] = -4  # it came from four pixels to the left
    after = np.roll(labels, 4, 1)
    assert not flicker(labels, after, flow, alike).any()
    assert not flicker(labels, np.roll(labels, 5, 1), flow, alike).any()  # a pixel may round
    after[70:80, 70:80] = Label.HAIR
    assert flicker(labels, after, flow, alike).sum() == 100
    assert not flicker(labels, after, flow, 0 * alike).any()


def test_flow_finds_a_shift() -> None:
    flow = SmallFlow()
    image = texture()
    assert flow(image)[1].max() == 0
    flow, similarity = flow(np.roll(image, 2, 1))
    inner = np.s_[20:-20, 20:-20]
    np.testing.assert_allclose(flow[inner].mean((0, 1)), [-2, 0], atol=0.2)
    assert similarity[inner].mean() > 0.8


def test_what_hangs_by_a_thread_is_cut_off() -> None:
    region = np.zeros((60, 60), bool)
    region[5:25, 10:50] = True  # on the root
    region[25:35, 29:31] = True  # a thread
    region[35:55, 10:50] = True  # what hangs on it
    root = np.zeros_like(region)
    root[5:8] = True
    loose = detached(region, root, 3)
    assert loose[38:55, 12:48].all()
    assert not loose[5:25].any()
    region[25:35, 20:40] = True  # a broad bridge
    assert not detached(region, root, 3).any()
    region[25:35] = False
    assert detached(region, root, 3).sum() == 20 * 40


def test_figures_of_a_clip_with_two_bad_frames() -> None:
    count = 30
    points = np.zeros((68, 2))
    points[:17] = [(48 + 30 * np.cos(t), 40 + 40 * np.sin(t)) for t in np.linspace(np.pi, 0, 17)]
    points[17:27] = [(x, 30) for x in np.linspace(22, 74, 10)]
    points[27:36], points[36:48], points[48:] = (48, 45), (48, 38), (48, 60)
    image, labels = texture(), np.zeros((SIZE, SIZE), np.uint8)
    cv2.rectangle(labels, (15, 8), (80, 84), int(Label.HEAD), -1)
    statistics = MaskStatistics(count, IBUG68)
    for index in reversed(range(count)):
        shown = labels.copy()
        if index == 4:
            shown[50:70, 30:60] = Label.BACKGROUND
        if index == 20:
            shown[:] = Label.HEAD
        statistics.add(index, image, points, shown)
    result = statistics.result()
    assert result["suspicious_frames"] == [4, 20]
    assert result["suspicious_share"] == pytest.approx(2 / 30, abs=1e-4)
    assert sum(result["shares"].values()) == pytest.approx(1, abs=1e-3)
    # The two bad frames come and go: four of the pairs change.
    assert 0 < result["flicker_percent"] < 12
