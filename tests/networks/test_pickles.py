"""Files of strangers that ask for more than they hold: refused before the memory is taken."""

import pickle
import resource
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from emotalking.errors import InputError
from emotalking.networks.pickles import read_arrays
from emotalking.networks.torchscript import _view, read_torchscript
from emotalking.stylegan.e4e import E4e
from emotalking.stylegan.lip_aligned import open_faces
from emotalking.stylegan.stylegan2_files import open_stylegan2


@pytest.fixture(autouse=True)
def little_memory() -> Iterator[None]:
    """A gigabyte more than now, so that a fault ends this test and not the machine."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 30), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def test_a_memo_larger_than_the_file(tmp_path: Path) -> None:
    program = b"\x80\x02" + b"}r" + struct.pack("<I", 1 << 28) + b"."
    (tmp_path / "a.pkl").write_bytes(program)
    with pytest.raises(InputError, match="damaged, cut short or no pickle of named arrays"):
        read_arrays(tmp_path / "a.pkl")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("network/data.pkl", program)
    with pytest.raises(InputError, match="a memo larger than itself"):
        read_torchscript(tmp_path / "a.zip")


class _Repeated:
    """An array's numbers once in the file, and many arrays of them."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __reduce__(self):
        state = (1, (len(self.content),), np.dtype(np.uint8), False, self.content)
        return np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), state


def test_numbers_made_again_and_again(tmp_path: Path) -> None:
    content, path = bytes(1 << 18), tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"a": _Repeated(content), "b": _Repeated(content)}))
    assert set(read_arrays(path)) == {"a", "b"}
    path.write_bytes(pickle.dumps({f"{k}": _Repeated(content) for k in range(400)}))
    assert path.stat().st_size < 2 * len(content)
    with pytest.raises(InputError, match="no pickle of named arrays"):
        read_arrays(path)


def archived(path: Path, instructions: bytes, numbers: bytes = bytes(1024), packed: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", packed) as archive:
        archive.writestr("network/data.pkl", b"\x80\x02" + instructions + b".")
        archive.writestr("network/data/0", numbers)
    return path


STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuJ\x00\x01\x00\x00tQ"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"K\x00J\x00\x01\x00\x00\x85K\x01\x85\x89}tR"


def module(count: int) -> bytes:
    """A module with ``count`` tensors, all of one storage."""
    named = b"".join(b"X\x04\x00\x00\x00" + f"{k:04d}".encode() + TENSOR for k in range(count))
    return b"c__torch__\nNetwork\n)\x81}(" + named + b"ub"


def test_tensors_of_one_storage_share_it(tmp_path: Path) -> None:
    found = read_torchscript(archived(tmp_path / "a.zip", module(300)))
    assert len(found) == 300 and len({tensor.data_ptr() for tensor in found.values()}) == 1


def test_numbers_that_are_packed_small(tmp_path: Path) -> None:
    path = archived(tmp_path / "a.zip", module(1), bytes(64 << 20), zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 17
    with pytest.raises(InputError, match="more numbers than it has room for"):
        read_torchscript(path)


def test_a_file_cannot_change_its_reader(tmp_path: Path) -> None:
    """The default arguments of a function of ours, set as the state of an object."""
    state = b"}X\x0c\x00\x00\x00__defaults__K\x01\x85s"
    path = archived(tmp_path / "a.zip", b"ctorch._utils\n_rebuild_tensor_v2\nN" + state + b"\x86b")
    with pytest.raises(InputError, match="a state for Function"):
        read_torchscript(path)
    assert _view.__defaults__ is None


def test_sizes_are_compared_before_a_network_is_made(tmp_path: Path) -> None:
    torch.save({"state_dict": {"encoder.x": torch.ones(1)}, "latent_avg": torch.zeros(4000, 512)}, tmp_path / "e4e.pt")
    with pytest.raises(InputError, match="does not fit E4e"):
        E4e.open(tmp_path / "e4e.pt")
    big = {
        "synthesis.b4.const": torch.ones(1).expand(1 << 15, 4, 4),
        "synthesis.b4096.torgb.weight": torch.ones(1).expand(3, 1 << 15, 1, 1),
        "mapping.fc0.bias": torch.ones(1).expand(1 << 20),
        "mapping.fc0.weight": torch.ones(1),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("emotalking.stylegan.stylegan2_files.read_torch", lambda path: None)
        patch.setattr("emotalking.stylegan.stylegan2_files._from_converted", lambda content, path: big)
        with pytest.raises(InputError, match="does not fit StyleGAN2"):
            open_stylegan2(tmp_path / "a.pt")
        more = {"synthesis.b65536.torgb.weight": torch.ones(3, 1, 1, 1)}
        patch.setattr("emotalking.stylegan.stylegan2_files._from_converted", lambda content, path: big | more)
        with pytest.raises(InputError, match="holds no generator"):
            open_stylegan2(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("changed", "says"),
    [('"resolution": 4194304', "no file of this version"), ('"style_dim": -1', "no file of this version"),
     ('"style_dim": 4000000', "does not fit")],
)  # fmt: skip
def test_a_faces_file_with_sizes_that_cannot_be(tmp_path: Path, changed: str, says: str) -> None:
    import json

    from safetensors.torch import save_file

    size = {"resolution": 16, "channel_base": 64, "channel_max": 8, "style_dim": 8, "mapping_layers": 2, "clamp": None}
    size |= json.loads("{" + changed + "}")
    head = json.dumps({"size": size, "widths": [16, 8], "licences": {}})
    path = tmp_path / "faces.safetensors"
    save_file({"a": torch.ones(1)}, path, {"emotalking_faces": "1", "head": head})
    with pytest.raises(InputError, match=says):
        open_faces(path)
