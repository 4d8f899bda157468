"""Old field names of configs are accepted in stored values and in settings."""

import logging

from emotalking.io.settings import from_dict, override, to_dict, upgrade
from emotalking.train.config import TrainConfig, upgrade_record
from emotalking.train.presets import preset


def old_values() -> dict:
    """The values of a run as version 0.1.0 stored them."""
    values = to_dict(preset("tiny"))
    for new, old in (
        ("audio_pretraining", "audio_start"),
        ("motion_pretraining", "motion_start"),
        ("closed_mouth_code", "closed_lips"),
    ):
        values[old] = values.pop(new)
    for stage in ("mouth", "face", "emotion"):
        values[stage]["schedule_knee"] = values[stage].pop("lr_decay_from")
    values["mouth"] |= {"hair_every": 0, "hair_from": 3_000, "hair_until": 46_000}
    every = dict.fromkeys(values["face"]["losses"], 0.0)  # one class of losses served all stages
    for stage in ("mouth", "emotion", "finetune"):
        values[stage]["losses"] = every | values[stage]["losses"]
    return values


def test_old_stored_names_are_read_under_the_new_ones() -> None:
    assert from_dict(TrainConfig, old_values()) == preset("tiny")
    assert upgrade_record({"preset": "tiny", "train": old_values()}) == {
        "preset": "tiny",
        "train": to_dict(preset("tiny")),
    }


def test_file_names_of_audio_features_are_read_as_their_names() -> None:
    values = to_dict(preset("tiny"))
    old = values | {"model": values["model"] | {"audio": values["model"]["audio"] | {"features": "ds"}}}
    new = upgrade_record({"train": old})["train"]["model"]
    assert new == values["model"] | {"audio": values["model"]["audio"] | {"features": "deepspeech"}}
    old["model"]["audio"]["features"] = "own"  # of a program that inserts a row of its own
    assert upgrade_record({"train": old})["train"] == old


def test_values_that_do_not_fit_are_left_as_they_are() -> None:
    assert upgrade(TrainConfig, {"wings": 2}) == {"wings": 2}
    assert upgrade_record({"wings": 2}) == {"wings": 2} and upgrade_record(None) is None


def test_old_names_in_settings_are_accepted_with_a_warning(caplog) -> None:
    with caplog.at_level(logging.WARNING):
        config = override(preset("tiny"), ["audio_start=7", "face.schedule_knee=9", "closed_lips=3"])
    assert (config.audio_pretraining, config.face.lr_decay_from, config.closed_mouth_code) == (7, 9, 3)
    assert len(caplog.messages) == 3
    assert "'schedule_knee' is called 'lr_decay_from' now" in caplog.messages[1]
