"""FAN, VGGFace2's ResNet-50 and e4e: public layouts to the last key, plain formulas, and the files they come in."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from emotalking.errors import InputError
from emotalking.networks.pickles import read_arrays
from emotalking.networks.torchscript import read_torchscript
from emotalking.networks.weights import load_frozen
from emotalking.stylegan.e4e import E4e
from emotalking.stylegan.published_critics import Fan, VggFace2, fan_crop

from . import plain
from .public_layouts import Layout, conv, hourglass, linear, merged, norm, random_weights, resnet50, split_trunk


def fan(hourglasses: int = 4) -> Layout:
    """2DFAN-4."""
    parts = [split_trunk()]
    for i in range(hourglasses):
        parts += [hourglass(i)]
        if i < hourglasses - 1:
            parts += [conv(f"bl{i}", 256, 256, 1, bias=True), conv(f"al{i}", 68, 256, 1, bias=True)]
    return merged(parts)


def vggface2() -> Layout:
    """resnet50_ft_weight.pkl."""
    parts = [conv("conv1", 3, 64, 7), norm("bn1", 64), resnet50("")]
    return merged([*parts, linear("fc", 2048, 8631)])


def e4e(styles: int = 18) -> Layout:
    """The encoder in e4e_ffhq_encode.pt, without its prefix."""
    parts: list[Layout] = [conv("input_layer.0", 3, 64, 3), norm("input_layer.1", 64), {"input_layer.2.weight": (64,)}]
    widths = [(64, 64)] * 3 + [(64, 128)] + [(128, 128)] * 3 + [(128, 256)] + [(256, 256)] * 13
    widths += [(256, 512)] + [(512, 512)] * 2
    for i, (before, after) in enumerate(widths):
        name = f"body.{i}"
        if before != after:
            parts += [conv(f"{name}.shortcut_layer.0", before, after, 1), norm(f"{name}.shortcut_layer.1", after)]
        parts += [norm(f"{name}.res_layer.0", before), conv(f"{name}.res_layer.1", before, after, 3)]
        parts += [{f"{name}.res_layer.2.weight": (after,)}, conv(f"{name}.res_layer.3", after, after, 3)]
        parts += [norm(f"{name}.res_layer.4", after), conv(f"{name}.res_layer.5.fc1", after, after // 16, 1)]
        parts += [conv(f"{name}.res_layer.5.fc2", after // 16, after, 1)]
    for i in range(styles):
        halvings = 4 if i < 3 else 5 if i < 7 else 6
        parts += [conv(f"styles.{i}.convs.{2 * k}", 512, 512, 3, bias=True) for k in range(halvings)]
        parts += [linear(f"styles.{i}.linear", 512, 512)]
    return merged([*parts, conv("latlayer1", 256, 512, 1, bias=True), conv("latlayer2", 128, 512, 1, bias=True)])


def shapes(network: nn.Module) -> Layout:
    """Names and shapes."""
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def test_names_and_shapes_are_the_public_ones() -> None:
    with torch.device("meta"):
        assert shapes(Fan()) == fan()
        assert shapes(VggFace2()) == {n: s for n, s in vggface2().items() if not n.startswith("fc.")}
        assert shapes(E4e()) == e4e() | {"latent_avg": (18, 512)}
    assert len({name.split(".")[1] for name in e4e() if name.startswith("body.")}) == 24  # IR-SE-50's units


def test_fan_agrees_with_plain_formulas() -> None:
    weights = random_weights(fan(2))
    network = Fan(2).eval()
    network.load_state_dict(weights)
    faces = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(faces), plain.fan(weights, faces, 2), atol=2e-3, rtol=1e-3)


def test_fans_crop_holds_the_face() -> None:
    ibug68 = torch.rand(3, 68, 2) * torch.tensor([60.0, 80.0]) + 100
    centre, half = fan_crop(ibug68)
    away = (ibug68 - centre[:, None]).abs() / half[:, None, None]
    assert away.max() < 0.9
    doubled = fan_crop(2 * ibug68)
    torch.testing.assert_close(doubled[0], 2 * centre)
    torch.testing.assert_close(doubled[1], 2 * half)


def test_vggface2_reads_bgr_strides_first_and_gives_unit_vectors() -> None:
    network = VggFace2()
    assert [b.conv1.stride for b in (network.layer2[0], network.layer2[1])] == [(2, 2), (1, 1)]
    assert network.layer2[0].conv2.stride == (1, 1)
    network.load_state_dict(random_weights({n: s for n, s in vggface2().items() if not n.startswith("fc.")}))
    faces = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        out = network.eval()(faces)
        torch.testing.assert_close(out.norm(dim=1), torch.ones(1))
        # Moving the mean into the picture changes nothing: red is the last channel, in grey levels of 255.
        network.mean += torch.tensor([0.0, 0.0, 25.5]).view(1, 3, 1, 1)
        brighter = faces + torch.tensor([0.1, 0.0, 0.0]).view(1, 3, 1, 1)
        torch.testing.assert_close(network(brighter), out, atol=1e-5, rtol=1e-3)


def test_e4e_adds_to_the_first_style_and_the_mean() -> None:
    torch.manual_seed(0)
    network = E4e(9).eval().requires_grad_(False)
    for style in network.styles:
        style.linear.weight.zero_()
    for i, style in enumerate(network.styles):
        style.linear.bias.fill_(float(i + 1))
    network.latent_avg.copy_(torch.arange(9.0)[:, None].expand(9, 512))
    out = network(torch.rand(1, 32, 32, 3))
    # style i: first (1) + added (i + 1) + mean (i); the first has nothing added
    wanted = torch.tensor([1.0] + [1 + (i + 1) + i for i in range(1, 9)])
    torch.testing.assert_close(out[0, :, 0], wanted)
    assert out.shape == (1, 9, 512)


class _Object:
    """What must not be made."""

    def __reduce__(self) -> Any:
        return (print, ("run",))


def test_pickled_arrays_are_read_as_python_2_and_3_write_them(tmp_path: Path) -> None:
    wanted = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.float32([1.5, -2.0])}
    path = tmp_path / "new.pkl"
    path.write_bytes(pickle.dumps(wanted, protocol=4))
    for name, tensor in read_arrays(path).items():
        np.testing.assert_array_equal(tensor.numpy(), wanted[name])
    old = tmp_path / "old.pkl"
    old.write_bytes(as_python_2(wanted))
    found = read_arrays(old)
    assert list(found) == list(wanted)
    for name, tensor in found.items():
        np.testing.assert_array_equal(tensor.numpy(), wanted[name])
    bad = tmp_path / "bad.pkl"
    bad.write_bytes(pickle.dumps({"a": _Object()}))
    with pytest.raises(InputError, match="asks for builtins.print"):
        read_arrays(bad)
    bad.write_bytes(pickle.dumps({"a": 3}))
    with pytest.raises(InputError, match="no pickle of named arrays"):
        read_arrays(bad)


def as_python_2(arrays: dict[str, np.ndarray]) -> bytes:
    """What Python 2 writes with protocol 2: names and contents are strings of bytes."""

    def text(value: bytes) -> bytes:
        return b"T" + len(value).to_bytes(4, "little") + value

    out = b"\x80\x02}("
    for name, array in arrays.items():
        out += (
            text(name.encode())
            + b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t"
            + text(b"b")
            + b"tR"
        )
        shape = b"".join(b"K" + bytes([n]) for n in array.shape)
        out += b"(K\x01(" + shape + b"tcnumpy\ndtype\n" + text(b"f4") + b"K\x00K\x01\x87R"
        out += (
            b"(K\x03" + text(b"<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89" + text(array.tobytes()) + b"tb"
        )
    return out + b"u."


def test_torchscript_gives_its_tensors_and_nothing_else(tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.Linear(4, 2, bias=False))).eval()
    path = tmp_path / "network.zip"
    torch.jit.script(whole).save(str(path))
    found = read_torchscript(path)
    assert set(found) == set(whole.state_dict())
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(found[name], tensor)
    again = load_frozen(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.Linear(4, 2, bias=False))), path
    )
    x = torch.rand(1, 3, 3, 3)
    torch.testing.assert_close(again[:2](x), whole[:2](x))
    torch.save({"a": torch.ones(2)}, path)
    with pytest.raises(InputError, match="damaged, cut short or no TorchScript"):
        read_torchscript(path)
    path.write_bytes(b"PK")
    with pytest.raises(InputError, match="damaged, cut short or no TorchScript"):
        read_torchscript(path)


def test_an_archive_that_asks_for_more_is_refused(tmp_path: Path) -> None:
    import zipfile

    path = tmp_path / "network.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("network/data.pkl", pickle.dumps(_Object(), protocol=2))
    with pytest.raises(InputError, match="a global __builtin__.print|a global builtins.print"):
        read_torchscript(path)


def test_a_published_fan_of_another_shape_is_told(tmp_path: Path) -> None:
    weights = random_weights(fan(1))
    torch.save(weights, tmp_path / "fan.pth.tar")
    assert not any(p.requires_grad for p in load_frozen(Fan(1), tmp_path / "fan.pth.tar").parameters())
    weights["l0.weight"] = torch.zeros(98, 256, 1, 1)
    torch.save(weights, tmp_path / "fan.pth.tar")
    with pytest.raises(InputError, match=r"l0.weight: \[98, 256, 1, 1\] instead of \[68, 256, 1, 1\]"):
        load_frozen(Fan(1), tmp_path / "fan.pth.tar")
