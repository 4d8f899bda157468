"""Presets are consistent, survive JSON, and overrides are strict."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

import emotalking
from emotalking.errors import InputError
from emotalking.io.settings import from_dict, override, to_dict
from emotalking.models.config import ModelConfig
from emotalking.train.config import TrainConfig
from emotalking.train.presets import PRESETS, preset


@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_valid_and_survives_json(name: str) -> None:
    config = preset(name)
    config.validate()
    assert from_dict(TrainConfig, json.loads(json.dumps(to_dict(config)))) == config


def test_override_sets_nested_values_of_each_type() -> None:
    config = override(
        preset("tiny"),
        ["face.iterations=7", "face.warmup=3", "optim.grids=1", "model.emotion.branch=none", "background=green"],
    )
    assert config.face.iterations == 7
    assert config.optim.grids == 1.0 and isinstance(config.optim.grids, float)
    assert config.model.emotion.branch == "none"
    assert config.background == "green"
    assert preset("tiny").face.iterations != 7


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ("face.iterations", "key=value"),
        ("face.speed=3", "names no field"),
        ("face=3", "stops at a group"),
        ("seed.x=3", "is too deep"),
        ("face.iterations=fast", "expected int"),
        ("face.iterations=1.5", "expected int"),
        ("face.warmup=99999999", "cannot work"),
        ("background=blue", "cannot work"),
        ("model.emotion.branch=both", "cannot work"),
        ("checkpoint_every=0", "checkpoint_every must be at least 1"),
        ("face.sh_every=0", r"face\.sh_every must be at least 1"),
        ("model.audio.code=0", r"model\.audio\.code must be at least 1"),
        ("optim.means_final=0", r"optim\.means_final must be above 0"),
        ("optim.grids=-1", r"optim\.grids must be a number that is not negative"),
        ("face.losses.motion=-1", r"face\.losses\.motion must be a number that is not negative"),
        ("model.gaze_reach=1", r"model\.gaze_reach must lie in 0\.\.0\.45"),
        ("model.emotion.harmonics=0", r"model\.emotion\.harmonics must lie in 1\.\.16"),
        ("model.emotion.radius=2", r"model\.emotion\.radius must lie in 0\.\.1\.5"),
        ("optim.audio_from=1.1", r"optim\.audio_from must lie in 0\.\.1"),
        ("finetune.prune=1.5", r"finetune\.prune must lie in 0\.\.1"),
        ("model.face.sh_degree=4", r"model\.face\.sh_degree must lie in 0\.\.3"),
        ("emotion.losses.silhouette=0.1", "names no field: 'silhouette'"),
        ("finetune.losses.sync=0.1", "names no field: 'sync'"),
        ("mouth.hair_every=7", "names no field: 'hair_every'"),
        ("face.losses.lpips=0.2", r"face\.losses\.lpips_last must be at least 1"),
        ("face.losses.patch_min=33", r"face\.losses\.patch_min and face\.losses\.patch_max must be even"),
    ],
)
def test_bad_override_is_one_clear_sentence(setting: str, word: str) -> None:
    with pytest.raises(InputError, match=word):
        override(preset("tiny"), [setting])


def test_the_combined_branch_takes_the_emotion_stages_iterations() -> None:
    whole, none = preset("tiny"), override(preset("tiny"), ["model.emotion.branch=none"])
    assert whole.iterations - none.iterations == whole.emotion.iterations
    assert override(whole, ["model.emotion.branch=combined"]).iterations == whole.iterations


def test_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(InputError, match="tiny, fast, paper"):
        preset("huge")


def test_unknown_key_in_stored_config_is_refused() -> None:
    with pytest.raises(ValueError, match="wings"):
        from_dict(ModelConfig, {"wings": 2})


def _fields(cls: type) -> set[str]:
    names = set()
    for field in dataclasses.fields(cls):
        default = field.default if field.default is not dataclasses.MISSING else None
        names.add(field.name)
        if dataclasses.is_dataclass(default):
            names |= _fields(type(default))
    return names


def test_every_field_is_read_somewhere() -> None:
    root = Path(emotalking.__file__).parent
    code = "\n".join(p.read_text() for p in root.rglob("*.py") if "configs" not in p.parts)
    fields = _fields(TrainConfig) | _fields(ModelConfig)
    for stage in ("mouth", "face", "emotion", "finetune"):
        fields |= _fields(type(getattr(preset("tiny"), stage)))
    unread = {name for name in fields if not re.search(rf"\.{name}\b", code)}
    assert not unread
