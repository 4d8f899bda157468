"""SyncNet: the public layout to the last key, agreement with plain formulas, strict loading."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from emotalking.errors import InputError
from emotalking.lipsync.syncnet import SyncNet

from . import public_layouts

Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def weights() -> Weights:
    """Random ones, of the public layout."""
    return public_layouts.random_weights(public_layouts.syncnet())


@pytest.fixture(scope="module")
def network(weights: Weights) -> SyncNet:
    """With these weights."""
    made = SyncNet()
    made.load_state_dict(weights, strict=True)
    return made.eval().requires_grad_(False)


def step(w: Weights, name: str, place: int, x: torch.Tensor, stride: int = 1, padding: int = 0) -> torch.Tensor:
    """A convolution with its BatchNorm folded in, and the rectifier; a kernel over time is one over five pictures."""
    kernel, bias = w[f"{name}.{place}.weight"], w[f"{name}.{place}.bias"]
    norm = {key: w[f"{name}.{place + 1}.{key}"] for key in ("weight", "bias", "running_mean", "running_var")}
    scale = norm["weight"] / (norm["running_var"] + 1e-5).sqrt()
    flat = kernel.flatten(1, 2) if kernel.dim() == 5 else kernel
    y = F.conv2d(x, flat * scale.view(-1, 1, 1, 1), None, stride, padding)
    return F.relu(y + ((bias - norm["running_mean"]) * scale + norm["bias"]).view(1, -1, 1, 1))


def ending(w: Weights, name: str, x: torch.Tensor) -> torch.Tensor:
    """Both full connections."""
    y = F.linear(x.flatten(1), w[f"{name}.0.weight"], w[f"{name}.0.bias"]) - w[f"{name}.1.running_mean"]
    y = y / (w[f"{name}.1.running_var"] + 1e-5).sqrt() * w[f"{name}.1.weight"] + w[f"{name}.1.bias"]
    return F.linear(F.relu(y), w[f"{name}.3.weight"], w[f"{name}.3.bias"])


def test_names_and_shapes_are_the_public_ones() -> None:
    layout = public_layouts.syncnet()
    assert {name: tuple(tensor.shape) for name, tensor in SyncNet().state_dict().items()} == layout
    floats = sum(torch.Size(shape).numel() for shape in layout.values())
    assert round(4 * floats / 2**20) == 52  # as public notes give the size of syncnet_v2.model, in megabytes


def test_the_lip_tower_agrees_with_plain_formulas(network: SyncNet, weights: Weights) -> None:
    frames = 255 * torch.rand(2, 3, 5, 224, 224)
    x = step(weights, "netcnnlip", 0, frames.flatten(1, 2), stride=2)
    assert x.shape == (2, 96, 109, 109)
    x = step(weights, "netcnnlip", 4, F.max_pool2d(x, 3, 2), stride=2, padding=1)
    x = F.max_pool2d(x, 3, 2, 1)
    for place in (8, 11, 14):
        x = step(weights, "netcnnlip", place, x, padding=1)
    x = step(weights, "netcnnlip", 18, F.max_pool2d(x, 3, 2))
    expected = ending(weights, "netfclip", x)
    assert expected.shape == (2, 1024)
    torch.testing.assert_close(network.lips(frames), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_the_sound_tower_agrees_with_plain_formulas(network: SyncNet, weights: Weights) -> None:
    cepstra = 20 * torch.randn(3, 1, 13, 20)
    x = step(weights, "netcnnaud", 0, cepstra, padding=1)
    x = F.max_pool2d(step(weights, "netcnnaud", 4, x, padding=1), 3, (1, 2))
    for place in (8, 11, 14):
        x = step(weights, "netcnnaud", place, x, padding=1)
    x = step(weights, "netcnnaud", 18, F.max_pool2d(x, 3, 2))
    expected = ending(weights, "netfcaud", x)
    assert expected.shape == (3, 1024)
    torch.testing.assert_close(network.audio(cepstra), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_loading_is_strict(tmp_path: Path) -> None:
    layout = public_layouts.syncnet()
    path = public_layouts.write_checkpoint(tmp_path / "syncnet_v2.model", layout)
    opened = SyncNet.open(path)
    assert not opened.training and not any(p.requires_grad for p in opened.parameters())
    layout["netfclip.3.weight"] = (512, 512)
    public_layouts.write_checkpoint(path, layout)
    with pytest.raises(InputError, match=r"netfclip.3.weight: \[512, 512\] instead of \[1024, 512\]"):
        SyncNet.open(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="download it again"):
        SyncNet.open(path)
