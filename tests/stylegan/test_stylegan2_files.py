"""StyleGAN2's published files: one picture from three layouts, strict keys, and no program ever run."""

import io
import os
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emotalking.errors import InputError
from emotalking.networks.pickles import read_network_pickle
from emotalking.stylegan.stylegan2 import StyleGAN2
from emotalking.stylegan.stylegan2_files import open_stylegan2

from .stylegan2_layouts import Weights, as_converted, converted, pytorch, random_weights
from .stylegan2_pickles import Persistent, their_modules, write_pytorch, write_tensorflow

SIZE = 32


def channels(resolution: int) -> int:
    """Channels of the test's networks: 6, 6, 4, 2."""
    return min(64 // resolution, 6)


@pytest.fixture
def weights() -> Weights:
    """A small network in the published layout."""
    return random_weights(pytorch(SIZE, channels, dim=7, layers=3))


def write_converted(path: Path, weights: Weights, **more: Any) -> Path:
    """The widespread file."""
    torch.save(as_converted(weights, SIZE) | more, path)
    return path


def draw(network: StyleGAN2) -> torch.Tensor:
    """Two pictures."""
    return network(torch.randn(2, 7, generator=torch.Generator().manual_seed(5)), psi=0.7)


def test_three_layouts_give_one_picture(tmp_path: Path, weights: Weights) -> None:
    first = open_stylegan2(write_pytorch(tmp_path / "a.pkl", weights))
    assert (first.size.resolution, first.size.styles, first.size.mapping_layers) == (SIZE, 8, 3)
    assert [first.size.channels(r) for r in first.size.resolutions] == [6, 6, 4, 2]
    assert not first.training and not any(p.requires_grad for p in first.parameters())
    for name, tensor in first.state_dict().items():
        torch.testing.assert_close(tensor, weights[name], msg=name)
    picture = draw(first)
    assert picture.shape == (2, 3, SIZE, SIZE) and picture.std() > 0.1
    assert torch.equal(draw(open_stylegan2(write_converted(tmp_path / "a.pt", weights))), picture)
    # Biases of styles are counted from one there and lose a digit on the way.
    other = open_stylegan2(write_tensorflow(tmp_path / "b.pkl", weights, SIZE))
    torch.testing.assert_close(draw(other), picture, atol=1e-4, rtol=1e-4)


def test_our_lists_of_names_are_whole() -> None:
    layout = pytorch()
    assert converted().keys() == as_converted(random_weights(pytorch(), 0), 1024)["g_ema"].keys()
    numbers = sum(int(np.prod(shape)) for shape in converted().values())
    # Two public copies of stylegan2-ffhq-config-f.pt have 132,717,355 and 132,729,083 bytes.
    assert 0 < 132_717_355 - 4 * numbers < 300 * len(layout)


def test_bound_and_halves_are_read(tmp_path: Path, weights: Weights) -> None:
    settings = {"synthesis_kwargs": {"conv_clamp": 256, "num_fp16_res": 4, "channel_base": 32768}}
    network = open_stylegan2(write_pytorch(tmp_path / "a.pkl", {k: t.half() for k, t in weights.items()}, **settings))
    assert network.size.clamp == 256.0 and network.synthesis.get_parameter("b8.conv0.weight").dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"synthesis.b8.conv0.bias": None}, "1 missing (synthesis.b8.conv0.bias)"),
        ({"synthesis.b8.skip.weight": torch.ones(2)}, "1 unexpected (synthesis.b8.skip.weight)"),
        ({"mapping.embed.weight": torch.ones(2, 2)}, "1 unexpected (mapping.embed.weight)"),
        (
            {"synthesis.b16.conv1.weight": torch.ones(4, 4, 1, 1)},
            "b16.conv1.weight: [4, 4, 1, 1] instead of [4, 4, 3, 3]",
        ),
        ({"mapping.fc1.bias": torch.full((7,), float("inf"))}, "1 not finite (mapping.fc1.bias)"),
        ({"synthesis.b8.resample_filter": torch.ones(4, 4) / 16}, "another filter (synthesis.b8.resample_filter)"),
        ({"synthesis.b4.const": None}, "no generator of StyleGAN2"),
        ({"synthesis.b24.torgb.weight": torch.ones(3, 2, 1, 1)}, "unexpected (synthesis.b24.torgb.weight)"),
        ({"synthesis.b48.torgb.weight": torch.ones(3, 2, 1, 1)}, "no generator of StyleGAN2"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, weights: Weights, change: dict[str, Any], says: str) -> None:
    changed = {name: tensor for name, tensor in (weights | change).items() if tensor is not None}
    with pytest.raises(InputError) as caught:
        open_stylegan2(write_pytorch(tmp_path / "a.pkl", changed))
    assert says in str(caught.value) and "a.pkl" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda g: g.pop("convs.1.noise.weight"), "1 missing (synthesis.b8.conv1.noise_strength)"),
        (lambda g: g.update({"convs.99.noise.weight": torch.ones(1)}), "1 unexpected (convs.99.noise.weight)"),
        (lambda g: g.update({"noises.noise_1": torch.ones(8, 8)}), "noises.noise_1 with 2 axes, not 4"),
        (
            lambda g: g.update({"noises.noise_1": torch.ones(1, 1, 4, 4)}),
            "b8.conv0.noise_const: [4, 4] instead of [8, 8]",
        ),
        (lambda g: g.update({"to_rgb1.bias": torch.ones(2, 3, 1, 1)}), "b4.torgb.bias: [2, 3] instead of [3]"),
        (lambda g: g.update({"to_rgbs.0.upsample.kernel": torch.ones(4, 4)}), "another filter"),
        (lambda g: g.update({"style.1.weight": "text"}), "other things than tensors"),
    ],
)
def test_converted_files_are_compared_as_strictly(
    tmp_path: Path, weights: Weights, change: Callable[[Any], Any], says: str
) -> None:
    content = as_converted(weights, SIZE)
    change(content["g_ema"])
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(InputError) as caught:
        open_stylegan2(tmp_path / "a.pt")
    assert says in str(caught.value)
    torch.save(content["g_ema"], tmp_path / "b.pt")
    with pytest.raises(InputError, match="no g_ema with its latent_avg"):
        open_stylegan2(tmp_path / "b.pt")


@pytest.mark.parametrize(
    "settings", [{"synthesis_kwargs": {"activation": "relu"}}, {"mapping_kwargs": {"lr_multiplier": 0.1}}]
)
def test_networks_built_in_another_way_are_refused(tmp_path: Path, weights: Weights, settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="was built with"):
        open_stylegan2(write_pytorch(tmp_path / "a.pkl", weights, **settings))


def test_files_of_older_programs_are_refused(tmp_path: Path, weights: Weights) -> None:
    with pytest.raises(InputError, match="no pickle of StyleGAN2"):
        open_stylegan2(write_tensorflow(tmp_path / "a.pkl", weights, SIZE, version=3))
    with pytest.raises(InputError, match="architecture = orig"):
        open_stylegan2(write_tensorflow(tmp_path / "a.pkl", weights, SIZE, architecture="orig"))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.9999])
def test_a_cut_file_gives_one_sentence(tmp_path: Path, weights: Weights, share: float) -> None:
    path = write_pytorch(tmp_path / "a.pkl", weights)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(InputError, match="damaged, cut short"):
        open_stylegan2(path)


class Call:
    """Calls something when it is unpickled."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        """Imports allowed in a pickle."""
        return self.call


def test_programs_in_a_pickle_never_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    attacks = {
        "posix.system": Call(os.system, f"touch {mark}"),
        "builtins.eval": Call(eval, f"open({str(mark)!r}, 'w')"),
        "builtins.exec": Call(exec, f"open({str(mark)!r}, 'w')"),
        "builtins.getattr": Call(getattr, Call(__import__, "os"), "system"),
        "builtins.__import__": Call(__import__, "os"),
        "pathlib.Path.touch": Call(Path.touch, mark),
        "io.open": Call(open, str(mark), "w"),
        "_pickle.loads": Call(pickle.loads, pickle.dumps(Call(os.system, f"touch {mark}"))),
        "torch.serialization.load": Call(torch.load, str(mark)),
    }
    for name, attack in attacks.items():
        for content in (attack, {"G_ema": attack}, {"G": [{"deep": (attack,)}]}):
            (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol=4))
            with pytest.raises(InputError) as caught:
                read_network_pickle(tmp_path / "a.pkl")
            assert f"asks for {name}, which" in str(caught.value) and "\n" not in str(caught.value)
            (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol=2))
            with pytest.raises(InputError, match="could run code"):
                read_network_pickle(tmp_path / "a.pkl")
    assert not mark.exists()


def raw(*parts: bytes) -> bytes:
    """A pickle written by hand, of protocol 2, ended properly."""
    content = b"\x80\x02" + b"".join(parts) + b"."
    list(pickletools.genops(content))  # it is well formed
    return content


def test_chains_by_hand_never_run(tmp_path: Path) -> None:
    """Globals with dots, states for what the list gives out, calls of what is no function."""
    mark = str(tmp_path / "ran").encode()
    text = b"X" + len(mark).to_bytes(4, "little") + mark
    forbidden = {
        "os.path.os.system": raw(b"cos\npath.os.system\n", text, b"\x85R"),
        "torch._utils.warnings.sys": raw(b"ctorch._utils\nwarnings.sys\n"),
        "torch_utils.persistence._src_to_module": raw(b"ctorch_utils.persistence\n_src_to_module\n", text, b"\x85R"),
        "copyreg._reconstructor": raw(b"ccopyreg\n_reconstructor\n"),
        "numpy.load": raw(b"cnumpy\nload\n", text, b"\x85R"),
        "collections.namedtuple": raw(b"ccollections\nnamedtuple\n"),
    }
    for name, content in forbidden.items():
        (tmp_path / "a.pkl").write_bytes(content)
        with pytest.raises(InputError) as caught:
            read_network_pickle(tmp_path / "a.pkl")
        assert f"asks for {name}," in str(caught.value)
    state = b"}X\x04\x00\x00\x00code" + text + b"s"
    refused = [
        raw(b"cdnnlib.util\nEasyDict\n", state, b"b"),  # a state for a class
        raw(b"cdnnlib.util\nEasyDict\n)\x81", state, b"b"),  # ... for a dict
        raw(b"ctorch.storage\n_load_from_bytes\n", state, b"b"),  # ... for a function
        raw(b"cdnnlib.tflib.network\nNetwork\n", b"N", state, b"\x86b"),  # ... for the slots of a class
        raw(b"cnumpy\nndarray\n)R"),  # a call of what is only a name
        raw(b"cnumpy\nndarray\n)\x81"),  # a new object of it
        raw(b"cnumpy\ndtype\nX\x01\x00\x00\x00O\x85R"),  # arrays of objects
        raw(b"ctorch._utils\n_rebuild_parameter\nN\x85R"),
        raw(b"U\x03abcQ"),  # an object kept elsewhere
    ]
    for content in refused:
        (tmp_path / "a.pkl").write_bytes(content)
        with pytest.raises(InputError, match="no pickle of StyleGAN2"):
            read_network_pickle(tmp_path / "a.pkl")
    assert not Path(mark.decode()).exists()


PUBLIC_PYTORCH = """
builtins.set collections.OrderedDict dnnlib.util.EasyDict numpy.core.multiarray.scalar numpy.dtype
torch._utils._rebuild_parameter torch._utils._rebuild_tensor_v2 torch.storage._load_from_bytes
torch_utils.persistence._reconstruct_persistent_obj
"""
"""Imports of ffhq.pkl and stylegan2-ffhq-1024x1024.pkl, as listed by a public scanner of pickles."""

PUBLIC_TENSORFLOW = """
dnnlib.tflib.network.Network numpy.core.multiarray._reconstruct numpy.core.multiarray.scalar numpy.dtype numpy.ndarray
"""
"""... and for stylegan2-ffhq-config-f.pkl."""


@pytest.mark.parametrize("name", [*PUBLIC_PYTORCH.split(), *PUBLIC_TENSORFLOW.split()])
def test_what_public_files_name_is_known(tmp_path: Path, name: str) -> None:
    module, attribute = name.rsplit(".", 1)
    (tmp_path / "a.pkl").write_bytes(raw(f"c{module}\n{attribute}\n".encode()))
    with pytest.raises(InputError, match="no pickle of StyleGAN2"):  # a name alone is no network, but not forbidden
        read_network_pickle(tmp_path / "a.pkl")


class Storage:
    """A tensor whose numbers are another pickle."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __reduce__(self) -> Any:
        """Storage reference as torch pickles it."""
        return (torch.storage._load_from_bytes, (self.content,))


def test_programs_in_the_bytes_of_a_tensor_never_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    for legacy in (False, True):
        inner = io.BytesIO()
        torch.save(Call(os.system, f"touch {mark}"), inner, _use_new_zipfile_serialization=not legacy)
        for content in (inner.getvalue(), pickle.dumps(Call(os.system, f"touch {mark}"))):
            (tmp_path / "a.pkl").write_bytes(pickle.dumps({"G_ema": Storage(content)}))
            with pytest.raises(InputError, match="inside a tensor|damaged"):
                read_network_pickle(tmp_path / "a.pkl")
    inner = io.BytesIO()
    torch.save([1, 2], inner)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"G_ema": Storage(inner.getvalue())}))
    with pytest.raises(InputError):
        read_network_pickle(tmp_path / "a.pkl")
    assert not mark.exists()


class View:
    """A tensor of chosen place, size and steps on four numbers."""

    def __init__(self, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> None:
        self.layout = (offset, size, stride)

    def __reduce__(self) -> Any:
        """Tensor as torch pickles it."""
        storage = torch.arange(4.0).storage()
        return (torch._utils._rebuild_tensor_v2, (storage, *self.layout, False, {}))


@pytest.mark.parametrize(
    "layout", [(0, (5,), (1,)), (3, (2,), (1,)), (0, (2, 2), (4, 1)), (0, (10**9,), (0,)), (0, (2,), (-1,))]
)
def test_tensors_beyond_their_numbers_are_refused(tmp_path: Path, layout: Any) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(View(*layout)))
    with pytest.raises(InputError):
        read_network_pickle(tmp_path / "a.pkl")


def test_parts_that_hold_each_other_end(tmp_path: Path, weights: Weights) -> None:
    shared = Persistent()
    for _ in range(40):  # 2^40 layers, if one counted them
        above = Persistent()
        above.add_module("a", shared)
        above.add_module("b", shared)
        shared = above
    with their_modules():
        (tmp_path / "a.pkl").write_bytes(pickle.dumps({"G_ema": shared}))
    with pytest.raises(InputError, match="no pickle of StyleGAN2"):
        read_network_pickle(tmp_path / "a.pkl")
