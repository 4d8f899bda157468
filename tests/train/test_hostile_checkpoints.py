"""Checkpoints that were damaged or changed: found before anything is trained on them."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from emotalking.errors import InputError
from emotalking.train.checkpoint import Checkpoint

from ..hostile.readers import MODEL, MadeStage, make_checkpoint, stepped

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.pt"
    make_checkpoint(path)
    return path


def restored(path: Path) -> MadeStage:
    """A stage that goes on from the checkpoint."""
    checkpoint = Checkpoint.read(path, {"train": {}})
    checkpoint.check_stage(4)
    stage = MadeStage(checkpoint.head(MODEL, "cpu"))
    assert checkpoint.restore(stage, torch.Generator()) == 7
    return stage


def test_a_whole_checkpoint_restores_moments_and_queue(path: Path) -> None:
    stage = restored(path)
    moments = [state["exp_avg"] for o in stage.optimizers.values() for state in o.state.values()]
    assert moments and all(torch.isfinite(moment).all() and (moment != 0).all() for moment in moments)
    stepped(stage)


def test_a_flipped_bit_is_found_and_not_trained_on(path: Path) -> None:
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        parts = [(part.header_offset + 64 + len(part.filename), part.file_size) for part in archive.infolist()]
    places = [begin + size // 2 for begin, size in parts if size > 512]
    assert len(places) > 10
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(InputError, match=r"is damaged \(.*: remove it and train again"):
            Checkpoint.read(path, {"train": {}})


def moments(payload: dict[str, Any]) -> dict[str, Any]:
    return payload["optimizers"]["gaussians"]["state"][0]


CHANGES: dict[str, Change] = {
    **{f"no {name}": lambda p, name=name: p.pop(name) for name in ("stage", "iteration", "head", "optimizers")},
    **{f"{name} of another kind": lambda p, n=name: p.update({n: [1]}) for name in ("generator", "stage_state")},
    "a stage that is none": lambda p: p.update(stage=9),
    "a stage below 0": lambda p: p.update(stage=-1),
    "another stage": lambda p: p.update(stage_name="mouth"),
    "more iterations than there are": lambda p: p.update(iteration=21),
    "negative iterations": lambda p: p.update(iteration=-1),
    "version as a tensor": lambda p: p.update(version=torch.ones(2)),
    "config with a tensor": lambda p: p.update(config={"train": torch.ones(2)}),
    "a weight of another shape": lambda p: p["head"].update({"face.gaussians.sh0": torch.zeros(11, 1, 3)}),
    "a weight that is not finite": lambda p: p["head"]["mouth.gaussians.means"].fill_(float("nan")),
    "a weight less": lambda p: p["head"].popitem(),
    "moments of another shape": lambda p: moments(p).update(exp_avg=torch.zeros(3)),
    "moments that are not finite": lambda p: moments(p)["exp_avg_sq"].fill_(float("inf")),
    "moments less": lambda p: moments(p).pop("exp_avg"),
    "a rate that is no number": lambda p: p["optimizers"]["networks"]["param_groups"][0].update(lr="fast"),
    "a rate that is not finite": lambda p: p["optimizers"]["networks"]["param_groups"][0].update(lr=float("nan")),
    "a group less": lambda p: p["optimizers"]["gaussians"]["param_groups"].pop(),
    "frames beyond the clip": lambda p: p["stage_state"].update(queue=[0, 99]),
    "no queue": lambda p: p.update(stage_state={}),
    "a generator of another size": lambda p: p.update(generator=torch.zeros(7, dtype=torch.uint8)),
    "an endless time": lambda p: p.update(stage_seconds={"mouth": float("inf")}),
    "a view of a trillion numbers": lambda p: p["head"].update({"x": torch.zeros(1).expand(10**6, 10**6)}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_does_not_fit_is_one_sentence(change: str, path: Path) -> None:
    payload = torch.load(path, weights_only=True)
    CHANGES[change](payload)
    torch.save(payload, path)
    with pytest.raises(InputError, match=r"The checkpoint .*: remove it and train again\.|made with other settings"):
        restored(path)


def test_settings_of_a_group_come_from_the_config(path: Path) -> None:
    payload = torch.load(path, weights_only=True)
    payload["optimizers"]["networks"]["param_groups"][0] |= {"betas": "none", "eps": None}
    torch.save(payload, path)
    stage = restored(path)
    assert stage.optimizers["networks"].param_groups[0]["betas"] == (0.9, 0.99)
    stepped(stage)
