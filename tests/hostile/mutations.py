"""Damage to files: of their bytes, their numbers and texts, their JSON, and of the parts of their containers."""

import copy
import io
import json
import random
import re
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Mutation = Callable[[bytes, random.Random], bytes]

NUMBERS = (
    "1e999999999", "-1e999999999", "1e308", "-1", "0", "nan", "NaN", "-nan(ind)", "Infinity", "9" * 400, "0.1" * 99,
    "99999999999999999999", "4294967296", "2147483648", "0x10", "1/0", "0-400000000", "true", "null", '""', "[]", "{}",
    "1,5", "\u0661", "1_000", " ", "",
)  # fmt: skip
"""What stands in the place of a number."""
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3, 1e308, -1e308, float("nan"), float("inf"), 10**18, 10**30, 10**400, -(10**400), 0.5,
    "", "x", "1e999999999", "0-400000000", "9" * 400, "../../etc/passwd", "\0", "\ud800", [], {}, [[]], [None], {"": 0},
    [1] * 1000, "x" * 100_000, {"x": {"x": {}}},
)  # fmt: skip
"""What stands in the place of a JSON value."""


def flip(data: bytes, rng: random.Random) -> bytes:
    """One to eight bits."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def flip_early(data: bytes, rng: random.Random) -> bytes:
    """Bits of the first kilobyte, where headers are."""
    return flip(data[:1024], rng) + data[1024:]


def cut(data: bytes, rng: random.Random) -> bytes:
    """The end is missing."""
    return data[: rng.randrange(len(data) + 1)]


def splice(data: bytes, rng: random.Random) -> bytes:
    """A piece is left out, doubled, moved, zeroed, or random."""
    a, b, at = (rng.randrange(len(data) + 1) for _ in range(3))
    a, b = min(a, b), max(a, b)
    b = min(b, a + rng.choice((1, 4, 16, 256, 1 << 20)))
    piece = data[a:b]
    what = rng.randrange(5)
    if what == 0:
        return data[:a] + data[b:]
    if what == 1:
        return data[:at] + piece + data[at:]
    if what == 2:
        return data[:a] + bytes(len(piece)) + data[b:]
    if what == 3:
        return data[:a] + rng.randbytes(len(piece)) + data[b:]
    return data[:at] + piece + data[at + len(piece) :]


def huge(data: bytes, rng: random.Random) -> bytes:
    """A field of 2, 4 or 8 bytes holds a large or negative number."""
    form, value = rng.choice((("<H", 0xFFFF), ("<I", 0xFFFFFFFF), ("<I", 0x7FFFFFFF), ("<Q", 1 << 40), (">I", 1 << 30)))
    packed = struct.pack(form, value)
    at = rng.randrange(min(len(data), rng.choice((256, 4096, 1 << 30))) + 1)
    return data[:at] + packed + data[at + len(packed) :]


def number(data: bytes, rng: random.Random) -> bytes:
    """A number in a text is another."""
    found = list(re.finditer(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?", data[:200_000]))
    if not found:
        return flip(data, rng)
    one = rng.choice(found)
    return data[: one.start()] + rng.choice(NUMBERS).encode("utf-8", "surrogatepass") + data[one.end() :]


def lines(data: bytes, rng: random.Random) -> bytes:
    """Lines of a text are missing, doubled, exchanged, joined, or extremely long."""
    rows = data.split(b"\n")
    a, b = rng.randrange(len(rows)), rng.randrange(len(rows))
    what = rng.randrange(6)
    if what == 0:
        del rows[a]
    elif what == 1:
        rows.insert(b, rows[a])
    elif what == 2:
        rows[a], rows[b] = rows[b], rows[a]
    elif what == 3:
        rows[a] = rows[a] * rng.choice((2, 1000))
    elif what == 4:
        rows[a] = rng.choice((b'"', b"\0", b"\xff\xfe", b",", b"[" * 50_000, b'{"a":' * 20_000)) + rows[a]
    else:
        return data.replace(b"\n", rng.choice((b"\r\n", b"\r", b"")))
    return b"\n".join(rows)


def changed_tree(tree: Any, rng: random.Random, values: tuple[Any, ...] = VALUES) -> Any:
    """A copy of plain values with one of them, at any depth, replaced, left out or doubled."""
    tree = copy.deepcopy(tree)
    parent, key, at = None, None, tree
    while isinstance(at, dict | list) and at and (parent is None or rng.random() < 0.8):
        parent, key = at, rng.choice(list(at)) if isinstance(at, dict) else rng.randrange(len(at))
        at = at[key]
    if parent is None or rng.random() < 0.03:
        return rng.choice(values)
    what = rng.random()
    if what < 0.15:
        del parent[key]
    elif what < 0.25:
        if isinstance(parent, dict):
            parent[str(rng.random())] = at
        else:
            parent.insert(0, at)
    elif what < 0.35 and isinstance(at, str) and at[:1] in ("{", "["):  # JSON within JSON
        parent[key] = json.dumps(changed_tree(json.loads(at), rng))
    else:
        parent[key] = copy.deepcopy(rng.choice(values))
    return tree


def tree(data: bytes, rng: random.Random) -> bytes:
    """A JSON file with a value of another kind; or nested without end."""
    if rng.random() < 0.02:
        deep = rng.choice((500, 5_000, 200_000))
        return b"[" * deep + data + b"]" * deep
    return json.dumps(changed_tree(json.loads(data), rng)).encode("utf-8", "surrogatepass")


def rows_of_json(data: bytes, rng: random.Random) -> bytes:
    """A file of one JSON object a line, with one changed."""
    rows = data.splitlines(keepends=True)
    at = rng.randrange(len(rows))
    rows[at] = tree(rows[at], rng) + b"\n"
    return b"".join(rows)


def part(data: bytes, rng: random.Random) -> bytes:
    """A zip archive, whole and with right checksums, with one part damaged, renamed, missing or doubled."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = [(name, archive.read(name)) for name in archive.namelist()]
    at = rng.randrange(len(parts))
    name, content = parts[at]
    what = rng.random()
    if what < 0.1:
        del parts[at]
    elif what < 0.15:
        parts[at] = (name + "x", content)
    elif what < 0.2:
        parts[at] = (name, rng.choice(parts)[1])
    elif what < 0.25:
        parts[at] = (name, npy_claim(rng))
    else:
        parts[at] = (name, rng.choice((flip, flip_early, cut, splice, huge, number))(content, rng))
    out = io.BytesIO()
    packing = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(out, "w", packing) as archive:
        for name, content in parts:
            archive.writestr(zipfile.ZipInfo(name), content, packing)  # without the time, so that it is reproduced
    return out.getvalue()


def npy_claim(rng: random.Random) -> bytes:
    """An array of any kind and claimed shape."""
    shape = tuple(rng.choice((0, 1, 2, 3, 11, 68, 10**6, 10**12, -1)) for _ in range(rng.randrange(5)))
    kind = rng.choice(("<f4", "<f8", "|b1", "<i8", "<U9", "<U400000000", "|O", "<c16", "<M8[s]", "|V9", ">f4", "|S5"))
    header = f"{{'descr': '{kind}', 'fortran_order': {rng.random() < 0.2}, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    size = int(abs(np.prod(shape, dtype=float)) * 8)
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + rng.randbytes(min(size, 5000))


def claim(_: bytes, rng: random.Random) -> bytes:
    """Any array instead."""
    return npy_claim(rng)


def safetensors(data: bytes, rng: random.Random) -> bytes:
    """The header's JSON with a value of another kind, or the tensors' numbers not finite, zero or huge."""
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    if rng.random() < 0.3:
        name = rng.choice([name for name in header if name != "__metadata__"])
        begin, end = header[name]["data_offsets"]
        word = struct.pack("<f", rng.choice((float("nan"), float("inf"), -1e38, 1e38, 0.0, -1.0)))
        filled = (word * ((end - begin) // 4 + 1))[: end - begin]
        if rng.random() < 0.5 and end - begin >= 4:
            filled = word + body[begin + 4 : end]
        body = body[:begin] + filled + body[end:]
    elif rng.random() < 0.5 and "__metadata__" in header:
        facts = header["__metadata__"]
        key = rng.choice(list(facts))
        try:
            facts[key] = json.dumps(changed_tree(json.loads(facts[key]), rng))
        except ValueError:
            facts[key] = str(rng.choice(VALUES))
    else:
        header = changed_tree(header, rng)
    packed = json.dumps(header).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(packed)) + packed + body


def payload(data: bytes, rng: random.Random) -> bytes:
    """What ``torch.save`` wrote, with a value of another kind, shape or size."""
    values = (
        None, True, -1, 10**30, float("nan"), "x", [], {}, torch.zeros(0), torch.full((3, 3), float("nan")),
        torch.ones(2, dtype=torch.int64), torch.zeros(1).expand(10**6, 10**6), torch.ones(()), [[0, (5.0, 5.0)]],
        torch.ones(5000, dtype=torch.uint8), torch.eye(3).to_sparse(), torch.ones(2, dtype=torch.complex64),
    )  # fmt: skip
    content = torch.load(io.BytesIO(data), weights_only=True)
    out = io.BytesIO()
    torch.save(changed_tree(content, rng, values), out, _use_new_zipfile_serialization=rng.random() < 0.8)
    return out.getvalue()


BYTES: tuple[Mutation, ...] = (flip, flip, flip_early, cut, splice, splice, huge)
TEXT: tuple[Mutation, ...] = (flip, cut, splice, number, number, number, lines, lines)
JSON: tuple[Mutation, ...] = (*TEXT, *(tree,) * 6)
ZIP: tuple[Mutation, ...] = (*BYTES, *(part,) * 6)
