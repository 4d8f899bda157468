"""Avatar files that are damaged or lie: every claim is compared before use, and refused in one sentence."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, safe_open, save_file

from emotalking.cli.main import main
from emotalking.errors import InputError
from emotalking.io.images import encode_image
from emotalking.models.avatar import Avatar
from emotalking.models.avatar_file import avatar_facts
from emotalking.models.scene import TorsoStack

from ..memory import memory_below
from .test_avatar import SIZE, made

Change = Callable[[dict[str, Any], dict[str, torch.Tensor]], object]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.safetensors"
    made().save(path)
    return path


def rewrite(path: Path, change: Change) -> None:
    """Apply ``change`` to header and tensors; the checksum fits the new ones, as it is left out."""
    with safe_open(str(path), "pt") as file:
        metadata = dict(file.metadata())
    del metadata["checksum"]
    header = {key: json.loads(value) if value[:1] == "{" else value for key, value in metadata.items()}
    tensors = load_file(path)
    change(header, tensors)
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in header.items()}
    save_file(tensors, path, metadata=texts)


def into(header: dict[str, Any], *keys: str, value: object) -> None:
    """Put ``value`` deep into ``header``."""
    for key in keys[:-1]:
        header = header[key]
    header[keys[-1]] = value


def filled(name: str, value: float) -> Change:
    def change(_: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        tensors[name].reshape(-1)[0] = value

    return change


def png(width: int, height: int) -> torch.Tensor:
    """An image file of one colour that claims a size; only its header is valid where the image would be large."""
    data = encode_image(np.zeros((8, 8, 3), np.uint8), ".png")
    return torch.tensor(list(data[:16] + struct.pack(">II", width, height) + data[24:]), dtype=torch.uint8)


LIES: dict[str, Change] = {
    "endless frame rate": lambda h, t: into(h, "scene", "fps", value="1e999999999"),
    "frame rate of another kind": lambda h, t: into(h, "scene", "fps", value=[25]),
    "width as text": lambda h, t: into(h, "scene", "width", value="48"),
    "huge width": lambda h, t: into(h, "scene", "width", value=10**9),
    "focal length": lambda h, t: into(h, "scene", "focal", value=float("inf")),
    "scene of another kind": lambda h, t: into(h, "scene", value=[1, 2]),
    "metadata of another kind": lambda h, t: into(h, "metadata", value="[]"),
    "deep metadata": lambda h, t: into(h, "metadata", value="[" * 100_000),
    "config of another kind": lambda h, t: into(h, "config", "audio", value=[]),
    "config value of another kind": lambda h, t: into(h, "config", "audio", "code", value="32"),
    "a code of a million": lambda h, t: into(h, "config", "audio", "code", value=1_000_000),
    "a code of a trillion": lambda h, t: into(h, "config", "audio", "code", value=10**12),
    "hidden of a billion": lambda h, t: into(h, "config", "face", "hidden", value=10**9),
    "a radius beyond every float": lambda h, t: into(h, "config", "emotion", "radius", value=10**400),
    "eyes that look behind": lambda h, t: into(h, "config", "gaze_reach", value=3.0),
    "harmonics beyond memory": lambda h, t: into(h, "config", "emotion", "harmonics", value=10**9),
    "a negative radius": lambda h, t: into(h, "config", "emotion", "radius", value=-0.8),
    "a degree below 0": lambda h, t: into(h, "config", "face", "sh_degree", value=-3),
    "another degree": lambda h, t: into(h, "config", "face", "sh_degree", value=3),
    "no steps": lambda h, t: into(h, "config", "audio", "steps", value=0),
    "version of another kind": lambda h, t: into(h, "version", value="two"),
    "frame runs": lambda h, t: into(
        h,
        "scene",
        "place",
        value={"left": 0, "top": 0, "side": 9, "clip": [9, 9], "clip_frames": "0-400000000"},
    ),
    "Gaussians that are not finite": filled("head.face.gaussians.means", float("nan")),
    "weights that are not finite": filled("head.mouth.motion.encoder.table", float("inf")),
    "action units that are not finite": filled("scene.aus", float("nan")),
    "emotion out of range": filled("scene.va", 7.0),
    "a camera without inverse": lambda h, t: t["scene.viewmats"][1, :3].zero_(),
    "a camera that is no motion": lambda h, t: t["scene.viewmats"][1, 3].fill_(1.0),
    "fewer Gaussians in one tensor": lambda h, t: into(t, "head.face.gaussians.sh0", value=torch.zeros(39, 1, 3)),
    "no Gaussians' tensor": lambda h, t: t.pop("head.face.gaussians.sh0"),
    "whole numbers": lambda h, t: into(t, "head.face.gaussians.means", value=torch.zeros(40, 3, dtype=torch.int64)),
    "cameras of another shape": lambda h, t: into(t, "scene.viewmats", value=torch.eye(4).repeat(4, 1, 1)),
    "no poses": lambda h, t: [into(t, f"scene.{n}", value=t[f"scene.{n}"][:0]) for n in ("viewmats", "aus", "va")],
    "a plate of another shape": lambda h, t: into(t, "scene.background", value=torch.zeros(9, 9, 3, dtype=torch.uint8)),
    "offsets beyond the data": lambda h, t: t["scene.torso_offsets"].add_(10**15),
    "offsets out of order": lambda h, t: into(t, "scene.torso_offsets", value=t["scene.torso_offsets"].flip(0)),
    "a grid of another shape": lambda h, t: into(t, "head.face.gaussians.sh0.grid", value=torch.ones(2, 40, 1, 3)),
    "a grid of another kind": lambda h, t: into(t, "head.face.gaussians.sh0.grid", value=torch.ones(2, 1, 1, 3).int()),
    "a grid that is not finite": filled("head.face.gaussians.sh_rest.grid", float("inf")),
    "a grid of numbers that are whole already": lambda h, t: into(
        t, "head.face.gaussians.sh0", value=torch.ones(40, 1, 3)
    ),
    "a grid of nothing": lambda h, t: into(t, "head.wings.grid", value=torch.ones(2, 1)),
    "a plate that is no image": lambda h, t: t["scene.background"].zero_(),
    "a compressed plate of another size": lambda h, t: into(t, "scene.background", value=png(4000, 4000)),
    "a huge compressed plate": lambda h, t: [
        into(h, "scene", "width", value=16_000),
        into(h, "scene", "height", value=16_000),
        into(t, "scene.background", value=png(16_000, 16_000)),
    ],
    "another scene tensor": lambda h, t: into(t, "scene.wings", value=torch.zeros(1)),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_refused_by_all_readers_before_anything_is_made(lie: str, path: Path) -> None:
    rewrite(path, LIES[lie])
    with memory_below(30 << 20):
        for read in (Avatar.load, avatar_facts) if "head." not in lie else (Avatar.load,):
            try:
                read(path)
            except InputError as error:
                assert str(error).startswith((str(path), "the avatar")) and "\n" not in str(error)
            else:
                assert read is avatar_facts  # which builds no model: its weights are compared when it is loaded
        with pytest.raises(InputError):
            Avatar.load(path)


def test_the_command_ends_with_2_and_a_sentence(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite(path, LIES["endless frame rate"])
    assert main(["info", str(path)]) == 2
    shown = capsys.readouterr()
    assert (
        shown.out == ""
        and shown.err.startswith(f"emotalking: error: {path} does not hold")
        and "Traceback" not in shown.err
    )


def test_a_torso_layer_of_another_size_is_not_decoded(path: Path) -> None:
    """A flat image of 4000 x 4000 takes a few kilobytes, and 64 MB when decoded."""
    bomb = TorsoStack.encode([encode_image(np.zeros((4000, 4000, 4), np.uint8), ".png")] * 3)

    def change(_: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        tensors["scene.torso_data"] = torch.from_numpy(bomb.data.copy())
        tensors["scene.torso_offsets"] = torch.from_numpy(bomb.offsets)

    rewrite(path, change)
    avatar = Avatar.load(path)
    with pytest.raises(InputError, match="torso layer 0 is damaged"):
        avatar.torso(0)  # the first image loads Pillow's formats
    with memory_below(1 << 20):
        with pytest.raises(InputError, match="torso layer 1 is damaged"):
            avatar.torso(1)


def test_flipped_bits_of_tensors_are_found_and_files_without_a_checksum_read(path: Path) -> None:
    whole = path.read_bytes()
    begin = 8 + int.from_bytes(whole[:8], "little")
    for place in range(begin + 1, len(whole), (len(whole) - begin) // 40):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 2]) + whole[place + 1 :])
        with pytest.raises(InputError, match="has changed since it was written"):
            Avatar.load(path)
    path.write_bytes(whole)
    rewrite(path, lambda header, tensors: None)
    assert Avatar.load(path).width == SIZE
