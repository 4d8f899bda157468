"""Agreement of measured and commanded emotion: known readings, the person's own bias, controls, missing parts."""

import numpy as np
import pytest

from emotalking.emotion.circumplex import TEST_POINTS
from emotalking.evaluate import circumplex
from emotalking.evaluate.circumplex import agreement, agreement_table, readings
from emotalking.evaluate.results import AVATAR, NEUTRAL, Result, Run

BIAS = {"a.wav": np.array([0.1, 0.4]), "b.wav": np.array([-0.3, -0.4])}
"""What is read on the neutral face, by sound."""


def result(gain: tuple[float, float], frames: int = 50, *, neutral: bool = True, noise: float = 0.05) -> Result:
    """Readings ``gain`` times the commands, on faces with :data:`BIAS`; two frames show no face."""
    rng = np.random.default_rng(0)

    def run(system: str, sound: str, commanded: tuple[float, float], label: str) -> Run:
        va = np.array(commanded) * gain + BIAS[sound] + rng.normal(0, noise, (frames, 2))
        va[:2] = np.nan
        observed = {"va": va.tolist()}
        return Run(system, label, frames, {}, sound=sound, commanded=commanded, label=label, observed=observed)

    runs = [run(NEUTRAL, sound, (0.0, 0.0), "neutral") for sound in BIAS] if neutral else []
    for number, point in enumerate(TEST_POINTS):
        runs.append(run(AVATAR, list(BIAS)[number % 2], (point.valence, point.arousal), point.label))
    return Result("emotion", "", 1.0, tuple(runs))


def test_a_gain_is_found_and_the_persons_bias_taken_away() -> None:
    points = readings(result((0.5, 0.2)))
    assert len(points) == 12 and all(len(point.values) == 48 for point in points)
    valence, arousal = (agreement(points, axis, 25) for axis in (0, 1))
    assert valence.slope == pytest.approx(0.5, abs=0.03) and arousal.slope == pytest.approx(0.2, abs=0.03)
    assert valence.r > 0.98 and (arousal.signs, arousal.signed) == (12, 12)
    assert valence.interval is not None and valence.interval.low <= valence.r <= valence.interval.high
    assert valence.shuffled < 0.7
    biased = agreement(points, 1, 25, debiased=False)
    assert biased.r < 0.8 and biased.signs < 12


def test_an_avatar_that_shows_nothing_is_no_better_than_shuffled_labels() -> None:
    points = readings(result((0.0, 0.0)))
    for axis in (0, 1):
        found = agreement(points, axis, 25)
        assert abs(found.slope) < 0.05 and found.r < found.shuffled + 0.2
        assert found.interval is not None and found.interval.high - found.interval.low > 0.3


def test_what_is_missing_is_left_out() -> None:
    old = result((0.5, 0.5), neutral=False)
    table = agreement_table(old, 25)
    assert table is not None and [row[0] for row in table.rows] == ["valence", "arousal"]
    assert [point.neutral for point in readings(old)] == [None] * 12
    short = agreement_table(result((0.5, 0.5), frames=10), 25)
    assert short is not None and [row[2] for row in short.rows] == ["-"] * 4
    nothing = Result("emotion", "", 1.0, ())
    assert agreement_table(nothing, 25) is None
    assert circumplex.circumplex_plot(nothing) is None and circumplex.axes_plot(nothing, 25) is None


def test_the_plots_show_points_intervals_and_the_neutral_face() -> None:
    whole = result((0.5, 0.2))
    disc, axes = circumplex.circumplex_plot(whole), circumplex.axes_plot(whole, 25)
    assert disc is not None and axes is not None
    labels = [line.get_label() for line in disc.axes[0].lines]
    assert "measured, neutral command" in labels and "commanded" in labels
    bars = axes.axes[0].containers[0]
    x, y = bars[0].get_data()
    assert x == pytest.approx([point.valence for point in TEST_POINTS])
    assert y == pytest.approx(0.5 * x, abs=0.05)  # the bias of the two sounds is gone
