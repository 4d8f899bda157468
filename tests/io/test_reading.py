"""Reading what users bring: one sentence for any failure, and bounds on what a file claims."""

import io
import pickle
import struct
import zipfile
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from emotalking.errors import InputError
from emotalking.io.archives import check_pickle
from emotalking.io.arrays import load_archive, load_array
from emotalking.io.reading import frame_rate, parse_json, read_text, reading
from emotalking.io.torch_files import read_torch

from ..memory import memory_below


@pytest.mark.parametrize(
    "error",
    [
        ValueError("odd"),
        KeyError("points"),
        TypeError("odd"),
        AttributeError("odd"),
        zipfile.BadZipFile("odd"),
        zlib.error("odd"),
        struct.error("odd"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "odd"),
        RecursionError("odd"),
        OverflowError("odd"),
        MemoryError(),
        EOFError(),
        SystemError("odd"),
        NotImplementedError("odd\n\nmore"),
        KeyError(10**5000),
    ],
    ids=lambda error: type(error).__name__,
)
def test_any_failure_is_one_sentence_with_path_and_remedy(error: Exception) -> None:
    with pytest.raises(InputError) as caught, reading("a.npz", "is no table", "write it again"):
        raise error
    text = str(caught.value)
    assert text.startswith("a.npz is no table (") and text.endswith("): write it again.") and "\n" not in text
    assert caught.value.__cause__ is error


def test_a_missing_file_a_folder_and_a_sentence_keep_their_meaning(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"x cannot be read \(it is missing\): write it\."),
        reading(tmp_path / "x", "is bad", "write it"),
    ):
        (tmp_path / "x").read_bytes()
    with pytest.raises(InputError, match="is a folder"), reading(tmp_path, "is bad", "write it"):
        tmp_path.read_bytes()
    with pytest.raises(InputError, match=r"^as it is$"), reading(tmp_path, "is bad", "write it"):
        raise InputError("as it is")
    with pytest.raises(KeyboardInterrupt), reading(tmp_path, "is bad", "write it"):
        raise KeyboardInterrupt


def test_texts_have_an_end_and_an_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffé".encode())
    assert read_text(path) == "é"
    path.write_bytes("é".encode("latin1"))
    with pytest.raises(ValueError):
        read_text(path)
    path.write_bytes(b"x" * (2 << 20))
    with pytest.raises(ValueError, match="longer than 1 MiB"):
        read_text(path, 1 << 20)
    with pytest.raises(ValueError, match="longer than 1 MiB"):
        read_text("/dev/zero", 1 << 20)
    assert parse_json('{"a": 1}', dict) == {"a": 1}
    with pytest.raises(ValueError, match="list instead of a JSON object"):
        parse_json("[1]", dict)
    with pytest.raises(RecursionError):
        parse_json("[" * 100_000)


@pytest.mark.parametrize("rate", ["25", "30000/1001", "29.97", 25, 23.976, "1e2"])
def test_frame_rates_are_exact(rate: object) -> None:
    assert frame_rate(rate) == Fraction(str(rate))


@pytest.mark.parametrize(
    "rate", ["1e999999999", "1e-999999999", "0", "-25", "25/0", "nan", "inf", "", "9" * 4000, "1001", None, True, [25]]
)
def test_other_frame_rates_are_refused_at_once(rate: object) -> None:
    with pytest.raises(ValueError, match="frame rate"):
        frame_rate(rate)


def _npy(shape: str, dtype: str = "'<f4'", rest: bytes = b"") -> bytes:
    header = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + rest


@pytest.mark.parametrize(
    "content",
    [
        _npy("(99999999999,)"),
        _npy("(3, 99999999999999999999999999)"),
        _npy("(-5,)"),
        _npy("(2,)", "'|O'", pickle.dumps([1, 2])),
        _npy("(1,)", "[('a', '<f4', (2, 3))]", bytes(24)),
        _npy("()", "'<U999999999'"),
        _npy("(11, 0, 68)", "'<U400000000'"),
        _npy("(((((((())))))))"),
        _npy("(9,)", rest=bytes(35)),
        b"\x93NUMPY\x03\x00" + bytes(100),
        b"\x93NUMPY\x01\x00\xff\xff{",
        b"",
    ],
    ids=str,
)
@pytest.mark.parametrize("archived", [False, True])
def test_claims_of_an_array_are_compared_with_its_file(content: bytes, archived: bool, tmp_path: Path) -> None:
    path = tmp_path / "a"
    if archived:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", content)
    else:
        path.write_bytes(content)
    with memory_below(4 << 20):
        with pytest.raises(ValueError):
            _ = load_archive(path) if archived else load_array(path)


def test_a_zip_bomb_is_refused_and_a_well_packed_archive_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.zeros((30, 512, 512), bool))
    assert load_archive(path)["x"].shape == (30, 512, 512)
    np.savez_compressed(path, x=np.zeros(100 << 20, np.uint8))
    assert path.stat().st_size < 200_000
    with memory_below(4 << 20):
        with pytest.raises(ValueError, match="far more than its size"):
            load_archive(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", _npy("(1,)", rest=bytes(4)))
    with pytest.raises(ValueError, match="unusual"):
        load_archive(path)


def test_a_part_that_is_longer_than_its_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros(3))
    whole = bytearray(path.read_bytes())
    directory = whole.rindex(b"PK\x01\x02")
    whole[directory + 20 : directory + 24] = struct.pack("<I", (1 << 32) - 215)  # its compressed size
    path.write_bytes(whole)
    with memory_below(4 << 20):
        with pytest.raises(ValueError, match="longer than all of it"):
            load_archive(path)


def _nested(levels: int) -> bytes:
    """A dict with one key: a tuple of two of a tuple of two of ..., each level fetched from the memo."""
    level = b"".join(b"h" + bytes([n]) + b"h" + bytes([n]) + b"\x86q" + bytes([n + 1]) + b"0" for n in range(levels))
    return b"\x80\x02)q\x000" + level + b"}h" + bytes([levels]) + b"K\x01s."


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"N.",
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"N.",
        b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"N.",
        b"\x80\x02\x8b" + struct.pack("<i", 1 << 30) + b"N.",
        b"\x80\x02}r" + struct.pack("<I", 1 << 28) + b".",
        b"\x80\x02(N\x86.",
        b"\x80\x02h\x07.",
        b"\x80\x020.",
    ],
    ids=["frame", "bytes", "text", "number", "memo", "mark", "unknown memo", "empty stack"],
)
def test_lengths_in_a_pickle_are_not_believed(program: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(program)
    with memory_below(1 << 20):
        with (tmp_path / "a").open("rb") as file, pytest.raises((ValueError, LookupError, pickle.UnpicklingError)):
            check_pickle(file)


def test_tuples_that_double_at_every_level_are_refused(tmp_path: Path) -> None:
    assert len(pickle.loads(_nested(3))) == 1
    with (tmp_path / "few").open("wb+") as file:
        file.write(_nested(3))
        file.seek(0)
        check_pickle(file)
    (tmp_path / "many").write_bytes(_nested(60))
    with (tmp_path / "many").open("rb") as file, pytest.raises(pickle.UnpicklingError, match="without end"):
        check_pickle(file)
    path = tmp_path / "a.pt"
    torch.save({"x": torch.ones(2)}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, _nested(60) if name.endswith("data.pkl") else content)
    with pytest.raises(pickle.UnpicklingError, match="without end"):
        read_torch(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files_hold_what_was_saved_and_no_repeated_views(zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    content = {"x": torch.ones(3, 2).T, "o": {"steps": [1, 2, (3, "a")]}, "g": torch.Generator().get_state()}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    again = read_torch(path, checksums=True)
    assert (
        torch.equal(again["x"], content["x"]) and again["o"] == content["o"] and torch.equal(again["g"], content["g"])
    )
    torch.save(torch.ones(1).expand(100_000, 100_000), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(pickle.UnpicklingError, match="more numbers"):
        read_torch(path)


def test_every_flipped_bit_of_a_tensor_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"x": torch.arange(40.0)}, path)
    whole = path.read_bytes()
    begin = whole.index(torch.arange(40.0).numpy().tobytes())
    for place in range(begin, begin + 160, 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(Exception, match="changed since it was written|CRC"):
            read_torch(path, checksums=True)


@pytest.mark.parametrize(
    "keys",
    [
        {number * ((1 << 61) - 1) << 8: None for number in range(1, 5000)},
        {(number, number + 1): None for number in range(5000)},
        {(number, number + 1) for number in range(5000)},
        frozenset((number, number + 1) for number in range(5000)),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])  # before 4 sets are made by a call, which our readers have their own of
def test_keys_that_can_be_chosen_to_collide_are_few(keys: object, protocol: int) -> None:
    if isinstance(keys, set | frozenset) and protocol < 4:
        pytest.skip("no set among the operations")
    with pytest.raises(pickle.UnpicklingError, match="keys whose hashes may be the same"):
        check_pickle(io.BytesIO(pickle.dumps(keys, protocol)))
    usual = {"a": {number: [(number, 2), str(number)] for number in range(5000)}, (1, 2): 3, 1 << 80: 4}
    check_pickle(io.BytesIO(pickle.dumps(usual, protocol)))
