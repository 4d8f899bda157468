"""Image files: the one reader and the one writer. RGB, 8 bits a channel."""

import io
import struct
from pathlib import Path
from zlib import crc32

import cv2
import numpy as np
from isal import isal_zlib
from jaxtyping import Shaped, UInt8
from PIL import (
    Image,
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401 (Pillow loads all of its forty formats to find this one)
)

from emotalking.errors import InputError
from emotalking.io.files import Finish, write_bytes

WRITTEN_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
"""Formats of :func:`encode_image`."""
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""Brands of ISO 23008-12 at the beginning of phones' images."""


def decode_image(
    data: bytes | UInt8[np.ndarray, " n"], *, unchanged: bool = False
) -> Shaped[np.ndarray, "H W *C"] | None:
    """Decode an image in any format of OpenCV's; None if it cannot be decoded.

    Args:
        data: content of the file.
        unchanged: keep what is stored: alpha (RGBA), grey images ``[H, W]``, 16 bits. Otherwise uint8 RGB
            ``[H, W, 3]``, upright as the camera noted, alpha dropped.
    """
    packed = np.frombuffer(data, np.uint8)
    image = cv2.imdecode(packed, cv2.IMREAD_UNCHANGED if unchanged else cv2.IMREAD_COLOR) if len(packed) else None
    if image is None or image.ndim == 2:
        return image
    return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA if image.shape[2] == 4 else cv2.COLOR_BGR2RGB)


def packed_size(data: bytes | UInt8[np.ndarray, " n"]) -> tuple[int, int] | None:
    """(width, height) that the header of an image file's content states, px; None where there is none."""
    try:
        with Image.open(io.BytesIO(bytes(data))) as image:
            return image.size
    except Exception:  # damaged bytes can fail in any way
        return None


def is_heif(path: str | Path) -> bool:
    """True for a HEIC image, which is not read; False also if the file cannot be read.

    FFmpeg takes one for a video of a frame, or of a tile of it: phones store tiles.
    """
    try:
        with Path(path).open("rb") as file:
            return _is_heif(file.read(12))
    except OSError:
        return False


def _is_heif(head: bytes) -> bool:
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF


def _is_too_large(data: UInt8[np.ndarray, " n"]) -> bool:
    """True for a file of more pixels than Pillow decodes: some kB can state billions of one colour."""
    try:
        Image.open(io.BytesIO(bytes(data))).close()
    except Image.DecompressionBombError:
        return True
    except Exception:  # damaged bytes can fail in any way, and OpenCV reads formats that Pillow does not
        return False
    return False


def read_image(path: str | Path, *, unchanged: bool = False, hint: str = "") -> Shaped[np.ndarray, "H W *C"]:
    """Read an image file.

    Args:
        path: the file.
        unchanged: as in :func:`decode_image`.
        hint: advice that ends the error messages, such as "prepare the clip again".

    Raises:
        InputError: the file is missing or cannot be decoded.
    """
    hint = f": {hint}." if hint else "."
    try:
        data = np.fromfile(path, np.uint8)
    except FileNotFoundError:
        raise InputError(f"{path} is missing{hint}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}){hint}") from error
    if _is_too_large(data):
        raise InputError(f"{path} has more pixels than are decoded (179 million): scale it down.")
    image = decode_image(data, unchanged=unchanged)
    if image is None and _is_heif(bytes(data[:12])):
        raise InputError(f"{path} is a HEIC image, which cannot be read: save it as JPEG or PNG.")
    if image is None:
        raise InputError(f"{path} is not a readable image{hint}")
    return image


def read_palette(
    path: str | Path, size: tuple[int, int] | None = None
) -> tuple[UInt8[np.ndarray, "H W"], UInt8[np.ndarray, "256 3"]] | None:
    """Pixels and RGB colours of a PNG file with a palette; None for any other file, readable or not.

    Args:
        path: the file.
        size: (width, height) that it must have; None: any.
    """
    try:
        with Image.open(path) as image:
            if image.format != "PNG" or image.mode != "P" or image.size != (size or image.size):
                return None
            indices = np.array(image)
            colours = np.zeros((256, 3), np.uint8)
            stored = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    except Exception:  # damaged bytes can fail in any way
        return None
    colours[: len(stored)] = stored
    return indices, colours


def image_size(path: str | Path, *, hint: str = "") -> tuple[int, int]:
    """(width, height) from the header alone, px.

    Raises:
        InputError: as :func:`read_image`.
    """
    hint = f": {hint}." if hint else "."
    try:
        with Image.open(path) as image:
            return image.size
    except FileNotFoundError:
        raise InputError(f"{path} is missing{hint}") from None
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"{path} is not a readable image ({error}){hint}") from None


def encode_image(
    image: UInt8[np.ndarray, "H W C"], suffix: str, quality: int | None = None, *, full_chroma: bool = False
) -> bytes:
    """Encode an RGB or straight RGBA image.

    Args:
        image: 3 or 4 channels; JPEG takes 3.
        suffix: ``.png``, ``.jpg``, ``.jpeg`` or ``.webp``.
        quality: of JPEG and WebP 0 to 100, of PNG the compression level 0 to 9; None: OpenCV's default.
        full_chroma: JPEG keeps the full resolution of colours.

    Raises:
        ValueError: the shape, type or format does not fit.
    """
    suffix = suffix.lower()
    setting = {".png": cv2.IMWRITE_PNG_COMPRESSION, ".webp": cv2.IMWRITE_WEBP_QUALITY}
    options = [] if quality is None else [setting.get(suffix, cv2.IMWRITE_JPEG_QUALITY), quality]
    if full_chroma:
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    try:
        swapped = cv2.cvtColor(image, cv2.COLOR_RGBA2BGRA if image.shape[-1] == 4 else cv2.COLOR_RGB2BGR)
        encoded, data = cv2.imencode(suffix, swapped, options)
    except cv2.error as error:
        raise ValueError(f"an image of shape {image.shape} and type {image.dtype} cannot be stored") from error
    if not encoded:
        raise ValueError(f"an image of shape {image.shape} and type {image.dtype} cannot be stored as {suffix}")
    return data.tobytes()


def encode_png(image: Shaped[np.ndarray, "H W *C"], palette: UInt8[np.ndarray, "colours 3"] | None = None) -> bytes:
    """Encode an image as PNG in a fifth of the time that OpenCV takes, about as small as its fastest level.

    Args:
        image: uint8, RGB or straight RGBA; without an axis of channels, indices of the ``palette``'s colours.
        palette: RGB, at most 256.
    """
    height, width = image.shape[:2]
    rows = np.empty((height, 1 + image.size // height), np.uint8)
    rows[:, 0] = 2  # the filter "up": each byte less that above it
    pixels = image.reshape(height, -1)
    rows[0, 1:] = pixels[0]
    np.subtract(pixels[1:], pixels[:-1], out=rows[1:, 1:])
    kind = 3 if palette is not None else {3: 2, 4: 6}[image.shape[2]]
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))]
    if palette is not None:
        parts.append((b"PLTE", palette.tobytes()))
    parts += [(b"IDAT", isal_zlib.compress(rows, 1)), (b"IEND", b"")]
    chunks = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc32(name + data)) for name, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def write_image(
    path: str | Path, image: UInt8[np.ndarray, "H W C"], quality: int | None = None, *, finish: Finish | None = None
) -> None:
    """Write an image atomically; in the format of its ending, else as PNG (:func:`encode_image`).

    Args:
        path: the file.
        image: as in :func:`encode_image`.
        quality: likewise.
        finish: last step, such as a signature (:func:`~emotalking.io.files.replacing`).

    Raises:
        CannotWriteError: the file cannot be written.
    """
    path = Path(path)
    known = path.suffix.lower() in WRITTEN_SUFFIXES
    write_bytes(path, encode_image(image, path.suffix if known else ".png", quality), finish)
