"""Loading checkpoints of others: strict, and deaf to programs."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from emotalking.errors import InputError
from emotalking.networks.weights import load_frozen, read_weights


class Small(nn.Module):
    """A network of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)


def weights() -> dict[str, torch.Tensor]:
    """Of a trained :class:`Small`."""
    torch.manual_seed(1)
    network = Small()
    network.bn.running_mean += 3
    return network.state_dict()


def saved(path: Path, content: Any, **options: Any) -> Path:
    """``torch.save``."""
    torch.save(content, path, **options)
    return path


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_all_usual_forms_are_read(tmp_path: Path, new: bool, wrapped: bool, prefix: str) -> None:
    content: Any = {f"{prefix}{name}": tensor for name, tensor in weights().items()}
    if wrapped:  # as mmcv does, with a NumPy number among the remarks
        content = {"state_dict": content, "meta": {"best": np.float64(0.8), "CLASSES": ("a", "b")}, "optimizer": {}}
    path = saved(tmp_path / "a.pth", content, _use_new_zipfile_serialization=new)
    network = load_frozen(Small(), path)
    torch.testing.assert_close(network.conv.weight.data, weights()["conv.weight"])
    torch.testing.assert_close(network.bn.running_mean, weights()["bn.running_mean"])
    assert not network.training and not network.conv.weight.requires_grad


def test_arrays_of_numpy_are_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{name: tensor.numpy().astype("f2") for name, tensor in weights().items()})
    network = load_frozen(Small(), tmp_path / "a.npz")
    assert network.conv.weight.dtype == torch.float32
    torch.testing.assert_close(network.conv.weight.data, weights()["conv.weight"], atol=1e-3, rtol=1e-2)


def test_counters_of_batches_count_for_nothing(tmp_path: Path) -> None:
    without = {name: tensor for name, tensor in weights().items() if not name.endswith("num_batches_tracked")}
    load_frozen(Small(), saved(tmp_path / "a.pth", without))
    load_frozen(Small(), saved(tmp_path / "a.pth", weights() | {"old.num_batches_tracked": torch.tensor(1)}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"conv.bias": None}, "1 missing (conv.bias)"),
        ({"head.weight": torch.ones(2)}, "1 unexpected (head.weight)"),
        ({f"head.{i}": torch.ones(2) for i in range(5)}, "5 unexpected (head.0, head.1, head.2, ...)"),
        ({"conv.bias": torch.ones(5)}, "1 of another shape (conv.bias: [5] instead of [4])"),
        ({"conv.bias": torch.full((4,), float("nan"))}, "1 not finite (conv.bias)"),
        ({"conv.bias": None, "bn.bias": torch.ones(3)}, "1 missing (conv.bias), 1 of another shape (bn.bias"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    content = {name: tensor for name, tensor in (weights() | change).items() if tensor is not None}
    with pytest.raises(InputError) as caught:
        load_frozen(Small(), saved(tmp_path / "a.pth", content))
    assert says in str(caught.value) and "Small" in str(caught.value) and "a.pth" in str(caught.value)


def test_parts_for_training_may_be_left_out(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", weights() | {"helper.weight": torch.ones(2)})
    load_frozen(Small(), path, unused=("helper.",))
    with pytest.raises(InputError, match="unexpected"):
        load_frozen(Small(), path)


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        """What a pickle may ask for."""
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_a_program_in_a_checkpoint_never_runs(tmp_path: Path, new: bool) -> None:
    mark = tmp_path / "ran"
    content = {**weights(), "extra": Bomb(mark)}
    path = saved(tmp_path / "a.pth", content, _use_new_zipfile_serialization=new)
    with pytest.raises(InputError, match="could run code"):
        read_weights(path)
    (tmp_path / "b.pth").write_bytes(pickle.dumps(content))
    with pytest.raises(InputError):
        read_weights(tmp_path / "b.pth")
    np.savez(tmp_path / "c.npz", a=np.array([Bomb(mark)], dtype=object))
    with pytest.raises(InputError, match="more than plain arrays"):
        read_weights(tmp_path / "c.npz")
    assert not mark.exists()


def test_whole_networks_and_torchscript_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="could run code"):
        read_weights(saved(tmp_path / "a.pth", Small()))
    torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)).save(str(tmp_path / "b.pth"))
    with pytest.raises(InputError, match="TorchScript"):
        read_weights(tmp_path / "b.pth")


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {}, torch.ones(3), {"state_dict": {"a": "b"}}])
def test_other_content_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(InputError, match="no state dict"):
        read_weights(saved(tmp_path / "a.pth", content))


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6, 0.95, 0.999])
def test_a_cut_file_gives_one_sentence(tmp_path: Path, new: bool, share: float) -> None:
    path = saved(tmp_path / "a.pth", weights(), _use_new_zipfile_serialization=new)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match="a.pth"):
        read_weights(path)


@pytest.mark.parametrize("name", ["a.pth", "a.npz"])
def test_noise_gives_one_sentence(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0)
    for size in (10, 1000):
        (tmp_path / name).write_bytes(noise.bytes(size))
        with pytest.raises(InputError, match=name):
            read_weights(tmp_path / name)
