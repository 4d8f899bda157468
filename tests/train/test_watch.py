"""Each early warning comes from the rows that it is about, and from no healthy ones."""

from typing import Any

import numpy as np
import pytest

from emotalking.train.callbacks.log import Row
from emotalking.train.callbacks.warnings import RULES, alarms_of, limits
from emotalking.train.presets import PRESETS, preset

BRANCH = {"warmup": 200, "grows_every": 100}
GOOD = {"cover": 0.97, "region": 0.3, "motion_px": 0.9, "sound_gain": 2.0, "eye_gain": 3.0, "emotion_gain": 1.5}


def step(stage: str, iteration: int, l1: float = 0.01, count: int = 6000, **terms: float) -> Row:
    gaussians = {"face": count, "mouth": count}
    row = {"kind": "step", "stage": stage, "iteration": iteration, "terms": {"l1": l1} | terms, "gaussians": gaussians}
    return row | {"grown": 0, "pruned": 0}


def look(stage: str, iteration: int, **figures: float) -> Row:
    return {"kind": "frames", "stage": stage, "iteration": iteration} | GOOD | figures


def record(stage: str, steps: list[Row], looks: list[Row], **more: Any) -> list[Row]:
    known = BRANCH if stage in ("mouth", "face") else {}
    return [{"kind": "stage", "stage": stage, "iterations": 1000} | known | more, *steps, *looks]


def falling(stage: str, until: int = 1000) -> list[Row]:
    return [step(stage, at, 0.02 + 0.1 * 0.995**at, sync=0.9 - at / 4000) for at in range(20, until + 1, 20)]


def looks(stage: str, until: int = 1000, **figures: float) -> list[Row]:
    return [look(stage, at, **figures) for at in range(100, until + 1, 100)]


def names(rows: list[Row], stage: str) -> list[str]:
    return [alarm.name for alarm in alarms_of(rows, stage)]


@pytest.mark.parametrize("stage", ["mouth", "face", "emotion", "finetune"])
@pytest.mark.parametrize("until", [20, 100, 300, 600, 1000])
def test_a_healthy_stage_gives_none_at_any_time(stage: str, until: int) -> None:
    assert names(record(stage, falling(stage, until), looks(stage, until)), stage) == []


@pytest.mark.parametrize(
    ("stage", "figures", "name"),
    [
        ("face", {"sound_gain": 0.01}, "mouth not learning"),
        ("face", {"eye_gain": 0.1}, "eyes not learning"),
        ("face", {"motion_px": 0.001}, "motion frozen"),
        ("mouth", {"motion_px": 0.001}, "motion frozen"),
        ("face", {"cover": 0.2}, "silhouette empty"),
        ("mouth", {"cover": 0.2}, "silhouette empty"),
        ("face", {"region": 0.0}, "masks empty"),
        ("face", {"region": 0.999}, "masks full"),
        ("emotion", {"emotion_gain": -0.1}, "emotion without effect"),
    ],
)
def test_what_the_fixed_frames_show(stage: str, figures: dict[str, float], name: str) -> None:
    rows = record(stage, falling(stage), looks(stage, **figures))
    assert names(rows, stage) == [name]
    text = alarms_of(rows, stage)[0].text
    assert text.endswith(".") and text.count(". ") == 0 and stage in text


@pytest.mark.parametrize("figure", ["sound_gain", "eye_gain", "motion_px"])
def test_motion_is_given_time(figure: str) -> None:
    assert names(record("face", falling("face", 400), looks("face", 400, **{figure: 0.0})), "face") == []


def test_what_was_not_measured_is_not_held_against_a_run() -> None:
    bare = [{"kind": "frames", "stage": "face", "iteration": at} for at in range(100, 1001, 100)]
    assert names(record("face", falling("face"), bare), "face") == []


def test_a_loss_that_rises_for_long() -> None:
    rows = [step("face", at, 0.02 if at < 600 else 0.02 + 0.0005 * (at - 600)) for at in range(20, 1001, 20)]
    assert names(record("face", rows, looks("face")), "face") == ["loss rises"]
    alarm = alarms_of(record("face", rows, looks("face")), "face")[0]
    assert "'face'" in alarm.text and "learning rates" in alarm.text
    peak = [step("face", at, 0.2 if at == 700 else 0.02) for at in range(20, 1001, 20)]
    assert names(record("face", peak, looks("face")), "face") == []


def test_the_warm_up_is_no_measure_for_what_comes_after() -> None:
    rows = [step("face", at, 0.01 if at <= 200 else 0.03) for at in range(20, 1001, 20)]
    assert names(record("face", rows, looks("face")), "face") == []


def growing(*shares: float, prune: float = 0.1, most: int = 9000) -> list[Row]:
    """A densification every 100 iterations, each adding so many of the Gaussians before it; then some are removed."""
    rows, count, events = [], 1000, iter(shares)
    for at in range(20, 1001, 20):
        grown = min(round(next(events, 0.0) * count), most - count) if at % 100 == 0 else 0
        pruned = round(prune * (count + grown)) if grown else 0
        count += grown - pruned
        rows.append(step("face", at, count=count) | {"grown": grown, "pruned": pruned})
    return rows


def test_gaussians_that_all_grow_again_and_again() -> None:
    assert names(record("face", growing(1.0, 0.99, 0.99), looks("face")), "face") == ["gaussians explode"]
    text = alarms_of(record("face", growing(0.3, 1.0, 1.0), looks("face")), "face")[0].text
    assert "from 1170 to 3791 in two densifications until iteration 300" in text
    for healthy in ((0.93, 0.84, 0.3), (0.4,) * 9, (1.0, 0.3, 1.0), (1.0,)):
        assert names(record("face", growing(*healthy), looks("face")), "face") == []


def test_a_full_branch_and_one_that_loses_its_gaussians_do_not_explode() -> None:
    assert names(record("face", growing(*(1.0,) * 9, most=1500), looks("face")), "face") == []
    assert names(record("face", growing(*(1.0,) * 9, prune=0.7), looks("face")), "face") == ["gaussians vanish"]


def test_several_densifications_a_row_are_not_taken_for_one() -> None:
    assert names(record("face", growing(1.0, 1.0, 1.0), looks("face"), grows_every=10), "face") == []


def test_gaussians_that_vanish() -> None:
    rows = [step("mouth", at, count=4000 if at < 500 else 300) for at in range(20, 1001, 20)]
    assert names(record("mouth", rows, looks("mouth")), "mouth") == ["gaussians vanish"]
    halved = [step("mouth", at, count=4000 if at < 500 else 1900) for at in range(20, 1001, 20)]
    assert names(record("mouth", halved, looks("mouth")), "mouth") == []


def test_a_cube_of_random_places_may_empty_itself_first() -> None:
    assert limits(preset("paper"))["mouth"]["settled"] == 6000
    assert limits(preset("fast"))["mouth"]["settled"] == 0
    counts = {at: 4000 if at < 300 else 500 if at < 800 else 100 for at in range(20, 1001, 20)}
    rows = [step("mouth", at, count=count) for at, count in counts.items()]
    early = [row for row in rows if row["iteration"] < 800]
    assert names(record("mouth", early, looks("mouth", 700), settled=400), "mouth") == []
    assert names(record("mouth", rows, looks("mouth"), settled=400), "mouth") == ["gaussians vanish"]


def test_a_sync_loss_that_rises() -> None:
    worse = [step("face", at, sync=0.9 + at / 5000) for at in range(20, 1001, 20)]
    assert names(record("face", worse, looks("face")), "face") == ["sync loss rises"]
    assert names(record("face", worse[:40], looks("face", 800)), "face") == []  # it may still fall
    flat = [step("face", at, sync=0.9 + 0.01 * (at % 3)) for at in range(20, 1001, 20)]
    assert names(record("face", flat, looks("face")), "face") == []
    mouth = [step("mouth", at, sync=0.9 + at / 5000) for at in range(20, 1001, 20)]
    assert names(record("mouth", mouth, looks("mouth")), "mouth") == []


def scattered(seed: int, rise: float, count: int = 160) -> list[Row]:
    """Sync terms as real emotion stages have them: independent rows that scatter by a quarter of their mean."""
    values = np.linspace(1.0, 1.0 + rise, count) + 0.25 * np.random.default_rng(seed).standard_normal(count)
    return [step("emotion", 20 * at, sync=0.001 * max(float(v), 0.1)) for at, v in enumerate(values, 1)]


def test_a_sync_loss_that_scatters_has_not_risen() -> None:
    """The ratio of the thirds alone passes 1.05 in every sixth of these, as it did in a healthy run."""
    rows = {seed: scattered(seed, 0.0) for seed in range(100)}
    thirds = {seed: np.split([row["terms"]["sync"] for row in of], [53, 107]) for seed, of in rows.items()}
    assert sum(last.mean() > 1.05 * first.mean() for first, _, last in thirds.values()) > 10
    ill = [
        seed for seed, of in rows.items() if names(record("emotion", of, looks("emotion"), iterations=3200), "emotion")
    ]
    assert ill == []


@pytest.mark.parametrize("seed", range(5))
def test_a_sync_loss_that_rises_and_scatters(seed: int) -> None:
    rows = record("emotion", scattered(seed, 0.5), looks("emotion"), iterations=3200)
    assert names(rows, "emotion") == ["sync loss rises"]


def test_few_rows_of_a_sync_loss_say_nothing() -> None:
    rows = [step("face", at, sync=0.9 + at / 5000) for at in range(400, 1001, 40)]
    assert names(record("face", rows, looks("face")), "face") == []


@pytest.mark.parametrize("name", PRESETS)
def test_limits_are_those_of_the_preset(name: str) -> None:
    config = preset(name)
    known = limits(config)
    assert known["face"]["grows_every"] == config.face.densify.every
    assert known["mouth"]["warmup"] == config.mouth.warmup


def test_nothing_is_said_of_stages_that_have_not_begun() -> None:
    assert alarms_of([], "face") == [] and len(RULES) == 9
