"""EmoStyle's mapping and the paper's lip alignment: published names and sizes, plain formulas, gradients."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from emotalking.errors import InputError
from emotalking.stylegan.emostyle import EmoExtract, LipEncoder, LipExtract, read_emostyle

from ..networks.public_layouts import Layout, linear, merged, random_weights


def emostyle(styles: int = 18, dim: int = 512) -> Layout:
    """``emo_mapping_state_dict`` of the W+ variant."""
    sizes = ((0, dim + 64, 2048), (2, 2048, 1024), (4, 1024, 512), (6, 512, dim))
    parts = [linear("emotion_enc.0", 2, 32), linear("emotion_enc.2", 32, 64)]
    parts += [linear(f"latent_net.{i}.{k}", a, b) for i in range(styles) for k, a, b in sizes]
    return merged(parts)


def plain(w: dict[str, Tensor], styles: Tensor, va: Tensor) -> Tensor:
    """The mapping as formulas."""

    def layer(name: str, x: Tensor) -> Tensor:
        return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    def bent(x: Tensor) -> Tensor:
        return torch.maximum(x, 0.2 * x)

    code, out = layer("emotion_enc.2", bent(layer("emotion_enc.0", va))), []
    for i in range(styles.shape[1]):
        x = torch.cat([styles[:, i], code], 1)
        for k in (0, 2, 4):
            x = bent(layer(f"latent_net.{i}.{k}", x))
        out.append(layer(f"latent_net.{i}.6", x))
    return torch.stack(out, 1)


def write(path: Path, weights: dict[str, Tensor]) -> Path:
    """Save like EmoStyle's trainer."""
    state = {"state": {}, "param_groups": [{"lr": 5e-5, "betas": (0.9, 0.999)}]}
    torch.save({"epoch": 5, "emo_mapping_state_dict": weights, "generator_optimizer_state_dict": state}, path)
    return path


def test_names_and_shapes_are_the_published_ones() -> None:
    with torch.device("meta"):
        network = EmoExtract()
    assert {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()} == emostyle()


def test_the_published_layout_is_read_strictly(tmp_path: Path) -> None:
    weights = random_weights(emostyle(3, 16))
    network = read_emostyle(EmoExtract(3, 16), write(tmp_path / "a.pt", weights))
    assert not any(p.requires_grad for p in network.parameters())
    styles, va = torch.randn(2, 3, 16), torch.tensor([[0.5, -0.3], [0.0, 0.9]])
    torch.testing.assert_close(network(styles, va), plain(weights, styles, va), atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="expected 3 styles an image"):
        network(styles[:, :2], va)
    shorter = {name: tensor for name, tensor in weights.items() if "latent_net.2" not in name}
    with pytest.raises(InputError, match="8 missing"):
        read_emostyle(EmoExtract(3, 16), write(tmp_path / "b.pt", shorter))
    torch.save(weights, tmp_path / "c.pt")
    with pytest.raises(InputError, match="no emo_mapping_state_dict"):
        EmoExtract.open(tmp_path / "c.pt")


def test_lips_move_styles_and_begin_with_nothing() -> None:
    torch.manual_seed(0)
    encoder, extract = LipEncoder(), LipExtract(4, 16)
    styles = torch.randn(2, 4, 16)
    maps = torch.rand(2, 20, 64, 64, requires_grad=True)
    moved = extract(styles, encoder(maps))
    assert moved.shape == styles.shape and (moved == 0).all()
    for mlp in extract.latent_net:
        torch.nn.init.normal_(mlp.get_parameter("6.weight"), std=0.05)
    moved = extract(styles, encoder(maps))
    (slope,) = torch.autograd.grad(moved.square().sum(), maps)
    assert (slope.abs().amax((2, 3)) > 0).all()
    # Each style is moved by its own MLP alone.
    changed = styles.clone()
    changed[:, 3] += 1
    others = [i for i in range(4) if i != 3]
    again = extract(changed, encoder(maps))
    torch.testing.assert_close(again[:, others], moved[:, others])
    assert (again[:, 3] - moved[:, 3]).abs().max() > 0.01
