"""The compiled compression behind `emotalking.ops.png`."""

import struct
import zlib
from ctypes import byref, c_int64

import numpy as np

from emotalking.ops.cpu.build import kernels

library = kernels("png.cpp", png_rows="pllpp")
_COLOUR_TYPES = {3: 2, 4: 6}
"""PNG's number for RGB and RGBA; that of a palette is 3."""


def encode_png(image: np.ndarray, palette: np.ndarray | None) -> bytes:
    """See :func:`emotalking.ops.png.encode_png`."""
    image = np.ascontiguousarray(image)
    height, width = image.shape[:2]
    out, size = np.empty(2 * image.size + 2 * height + 1024, np.uint8), c_int64()
    library().png_rows(image.ctypes.data, height, image.size // height, out.ctypes.data, byref(size))
    kind = 3 if palette is not None else _COLOUR_TYPES[image.shape[2]]
    parts = [_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))]
    parts += [] if palette is None else [_chunk(b"PLTE", palette.tobytes())]
    return b"".join([b"\x89PNG\r\n\x1a\n", *parts, _chunk(b"IDAT", out[: size.value].tobytes()), _chunk(b"IEND", b"")])


def _chunk(name: bytes, content: bytes) -> bytes:
    """A part of the file: length, name, content and check sum."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(name)))
