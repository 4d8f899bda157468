"""Intervals and tests on series whose answer is known."""

import numpy as np
import pytest

from emotalking.evaluate.intervals import block_frames, bootstrap, paired_p


def correlated(generator: np.random.Generator, count: int, memory: float = 0.9) -> np.ndarray:
    """Mean 0, each value like the one before."""
    noise = generator.standard_normal(count + 200)
    series = np.zeros(count + 200)
    for at in range(1, len(series)):
        series[at] = memory * series[at - 1] + noise[at]
    return series[200:]


def test_interval_of_independent_values_is_the_textbooks() -> None:
    values = np.random.default_rng(0).standard_normal(1000) + 5.0
    found = bootstrap(values, 1)
    assert found is not None
    half = 1.96 * values.std() / np.sqrt(1000)
    assert found.low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.15 * half)


def test_blocks_cover_the_truth_where_single_frames_do_not() -> None:
    generator = np.random.default_rng(1)
    covered = {1: 0, 25: 0}
    for _ in range(60):
        series = correlated(generator, 500)
        for block in covered:
            found = bootstrap(series, block)
            assert found is not None
            covered[block] += found.low <= 0.0 <= found.high
    assert covered[25] >= 48 > 35 >= covered[1]  # nominal 57 of 60; a share of that is lost to the finite block


def test_root_missing_values_and_too_few_blocks() -> None:
    squares = np.full(100, 4.0)
    squares[10:20] = np.nan
    found = bootstrap(squares, 10, root=True)
    assert found is not None and found.low == found.high == 2.0
    assert bootstrap(np.ones(99), 25) is None
    assert bootstrap(np.full(200, np.nan), 25) is None
    assert paired_p(np.ones(70), np.zeros(70), 25) is None


def test_exact_p_of_a_constant_difference() -> None:
    ours, theirs = np.full(100, 2.0), np.full(100, 1.0)
    assert paired_p(ours, theirs, 20) == 2 / 2**5
    assert paired_p(ours, ours, 20) == 1.0


def test_p_is_uniform_where_systems_are_alike_and_small_where_not() -> None:
    generator = np.random.default_rng(2)
    values = []
    for _ in range(80):
        p = paired_p(correlated(generator, 400, 0.8), correlated(generator, 400, 0.8), 25)
        assert p is not None
        values.append(p)
    assert np.mean(np.array(values) < 0.05) < 0.15
    assert 0.35 < np.mean(values) < 0.65
    far = paired_p(correlated(generator, 500) + 4.0, correlated(generator, 500), 25)
    assert far is not None and far < 0.01


def test_block_is_a_second() -> None:
    assert block_frames(25) == 25
    assert block_frames(0.3) == 1
