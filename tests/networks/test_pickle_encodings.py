"""Arrays in every encoding of Python 2 and 3, and what such files must not do."""

import pickle
import pickletools
import resource
from pathlib import Path

import numpy as np
import pytest

from emotalking.errors import InputError
from emotalking.networks.pickles import read_arrays

WANTED = {
    "conv1/7x7_s2.weight": np.random.default_rng(1).standard_normal((4, 3, 2, 2)).astype(np.float32),
    "bn.bias": np.frombuffer(bytes(range(256)), np.uint8),
    "it's": np.asfortranarray(np.arange(6, dtype=">f8").reshape(2, 3)),
    "count": np.array(7),
}


def written(path: Path, program: bytes) -> Path:
    path.write_bytes(program)
    return path


def same(found: dict, wanted: dict[str, np.ndarray]) -> None:
    assert list(found) == list(wanted)
    for name, tensor in found.items():
        np.testing.assert_array_equal(tensor.numpy(), wanted[name])
        assert tensor.numpy().dtype == wanted[name].dtype.newbyteorder("=")


class Python2:
    """cPickle's protocol 0: text with a number in the memo after every object."""

    def __init__(self) -> None:
        self.count = 0

    def put(self, program: str) -> str:
        self.count += 1
        return f"{program}p{self.count}\n"

    def text(self, value: bytes) -> str:
        return self.put(f"S{repr(value)[1:]}\n")

    def array(self, array: np.ndarray) -> str:
        order = array.dtype.str[0].replace("=", "<")
        made = self.put("cnumpy.core.multiarray\n_reconstruct\n") + "(" + self.put("cnumpy\nndarray\n")
        made = self.put(self.put(made + self.put("(I0\nt") + self.text(b"b") + "t") + "R")
        shape = self.put("(" + "".join(f"I{side}\n" for side in array.shape) + "t")
        code = self.put("cnumpy\ndtype\n") + self.put("(" + self.text(array.dtype.str[1:].encode()) + "I0\nI1\nt")
        dtype = self.put(code + "R") + self.put("(I3\n" + self.text(order.encode()) + "NNNI-1\nI-1\nI0\nt") + "b"
        columns = array.flags.f_contiguous and not array.flags.c_contiguous
        content = self.text(array.tobytes("A"))
        return f"{made}(I1\n{shape}{dtype}I0{int(columns)}\n" + self.put(f"{content}t") + "b"

    def dump(self, arrays: dict[str, np.ndarray]) -> bytes:
        begin = self.put("(d")
        items = [self.text(name.encode()) + self.array(array) + "s" for name, array in arrays.items()]
        return (begin + "".join(items) + ".").encode("latin1")


def test_protocol_0_of_python_2(tmp_path: Path) -> None:
    program = Python2().dump(WANTED)
    same(read_arrays(written(tmp_path / "a.pkl", program)), WANTED)
    plain = pickle.loads(program, encoding="latin1")
    assert all((plain[name] == WANTED[name]).all() for name in WANTED), "the test's own writer"
    for end in (len(program) // 3, len(program) - 1):
        with pytest.raises(InputError, match="damaged, cut short or no pickle of named arrays"):
            read_arrays(written(tmp_path / "b.pkl", program[:end]))


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("place", [b"numpy._core.multiarray", b"numpy.core.multiarray"])
def test_every_protocol_of_python_3(tmp_path: Path, protocol: int, place: bytes) -> None:
    program = pickle.dumps(WANTED, protocol)
    if protocol < 4:  # later, lengths of names are written before them
        program = program.replace(b"numpy._core.multiarray", place)
    assert protocol >= 3 or b"_codecs\nencode" in program
    same(read_arrays(written(tmp_path / "a.pkl", program)), WANTED)


def test_old_strings_of_high_bytes_unescaped(tmp_path: Path) -> None:
    """Escapes are Python's habit, not the format's demand."""
    program = (
        b"(dS'a'\ncnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I2\ntcnumpy\ndtype\n"
    )
    program += b"(S'u1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\nS'\xfe\xff'\ntbs."
    same(read_arrays(written(tmp_path / "a.pkl", program)), {"a": np.array([254, 255], np.uint8)})


@pytest.mark.parametrize("encoding", ["zip", "hex", "rot13", "utf-16", "latin-1"])
def test_other_encodings_are_refused(tmp_path: Path, encoding: str) -> None:
    program = pickle.dumps({"a": np.zeros(2)}, 0).replace(b"Vlatin1\n", f"V{encoding}\n".encode())
    with pytest.raises(InputError, match=r"asks for _codecs\.encode for another thing than bytes"):
        read_arrays(written(tmp_path / "a.pkl", program))


@pytest.mark.parametrize("name", ["_codecs\ndecode", "__builtin__\neval", "os\nsystem", "copy_reg\n_reconstructor"])
def test_other_names_are_refused(tmp_path: Path, name: str) -> None:
    program = f"(dS'a'\nc{name}\n(S'1'\ntRs.".encode()
    with pytest.raises(InputError, match=f"asks for {name.replace(chr(10), '.')}"):
        read_arrays(written(tmp_path / "a.pkl", program))


def test_one_text_encoded_again_and_again(tmp_path: Path) -> None:
    """Bytes are made once of each text, however often the file asks for them: 4 GB otherwise, all at once."""
    text = b"X" + (1 << 20).to_bytes(4, "little") + b"a" * (1 << 20)
    again = b"h\x10h\x11h\x12\x86R" * 4000
    program = b"\x80\x02c_codecs\nencode\nq\x10" + text + b"q\x11X\x06\x00\x00\x00latin1q\x12" + b"0" * 3
    arrays = pickle.dumps(WANTED, 2)[2:]
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 30), before[1]))
    try:
        same(read_arrays(written(tmp_path / "a.pkl", program + b"(" + again + b"1" + arrays)), WANTED)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("pair", [b"g%d\ng%d\n\x86", b"(g%d\ng%d\nt", b"g%d\ng%d\n\x862\x85"])
def test_tuples_within_tuples_as_keys(tmp_path: Path, pair: bytes) -> None:
    """A chain of tuples, each of which holds the one before twice, by memo."""
    chain = b"(tp0\n" + b"".join(pair % (k, k) + b"p%d\n" % (k + 1) for k in range(200))
    with pytest.raises(InputError, match="no pickle of named arrays"):
        read_arrays(written(tmp_path / "a.pkl", b"}" + chain + b"Ns."))


@pytest.mark.parametrize("frozen", ["builtins.set", "FROZENSET"])
def test_sets_within_tuples_as_keys(tmp_path: Path, frozen: str) -> None:
    """Two equal chains of frozen sets of pairs, compared as keys: 2^60 comparisons."""

    def chain(first: int) -> bytes:
        out = b"N" + f"p{first}\n".encode()
        for k in range(first, first + 60):
            pair = b"g%d\ng%d\n\x86" % (k, k)
            out += b"(" + pair + b"\x91" if frozen == "FROZENSET" else b"cbuiltins\nset\n" + pair + b"\x85\x85R"
            out += b"p%d\n" % (k + 1)
        return out

    program = b"\x80\x04}" + chain(0) + b"Ns" + chain(100) + b"Ns."
    assert [one.name for one, _, _ in pickletools.genops(program)][-1] == "STOP"
    with pytest.raises(InputError, match="no pickle of named arrays"):
        read_arrays(written(tmp_path / "a.pkl", program))
