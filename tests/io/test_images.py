"""The image reader and writer."""

import io
import os
import stat
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from emotalking.errors import InputError
from emotalking.faces.source import open_source
from emotalking.io.images import decode_image, encode_image, encode_png, image_size, read_image, write_image

COLOURS = np.random.default_rng(0).integers(0, 256, (12, 20, 4), np.uint8)


@pytest.mark.parametrize("quality", [None, 1])
@pytest.mark.parametrize("channels", [3, 4])
def test_png_keeps_every_value(tmp_path: Path, channels: int, quality: int | None) -> None:
    image = np.ascontiguousarray(COLOURS[..., :channels])
    write_image(tmp_path / "new" / "a.png", image, quality)
    assert np.array_equal(read_image(tmp_path / "new" / "a.png", unchanged=True), image)
    assert np.array_equal(read_image(tmp_path / "new" / "a.png"), image[..., :3])
    assert np.array_equal(np.asarray(Image.open(tmp_path / "new" / "a.png")), image)  # RGB order for other programs
    assert image_size(tmp_path / "new" / "a.png") == (20, 12)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["a.png"]


def test_grey_and_16_bits_are_kept_only_unchanged(tmp_path: Path) -> None:
    Image.fromarray(COLOURS[..., 0]).save(tmp_path / "grey.png")
    assert read_image(tmp_path / "grey.png", unchanged=True).shape == (12, 20)
    assert np.array_equal(read_image(tmp_path / "grey.png"), np.repeat(COLOURS[..., :1], 3, -1))
    cv2.imwrite(str(tmp_path / "deep.png"), COLOURS[..., :3].astype(np.uint16) * 257)
    assert read_image(tmp_path / "deep.png", unchanged=True).dtype == np.uint16
    assert np.array_equal(read_image(tmp_path / "deep.png"), COLOURS[..., 2::-1])


def test_a_photograph_is_read_upright(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # EXIF orientation: a quarter turn clockwise brings it upright
    Image.fromarray(COLOURS[..., :3]).save(tmp_path / "a.jpg", exif=turned)
    assert read_image(tmp_path / "a.jpg").shape == (20, 12, 3)


def test_jpeg_quality_and_chroma(tmp_path: Path) -> None:
    image = np.ascontiguousarray(COLOURS[..., :3])
    sizes = [len(encode_image(image, ".jpg", 50)), len(encode_image(image, ".JPG", 98))]
    assert sizes[0] < sizes[1] < len(encode_image(image, ".jpg", 98, full_chroma=True))
    write_image(tmp_path / "a.jpg", image, 50)
    assert (tmp_path / "a.jpg").stat().st_size == sizes[0]
    with pytest.raises(ValueError, match="cannot be stored"):
        encode_image(np.ascontiguousarray(image[..., :2]), ".png")


def test_what_cannot_be_read_or_written(tmp_path: Path) -> None:
    assert decode_image(b"") is None and decode_image(b"dear") is None
    (tmp_path / "a.png").write_bytes(b"dear")
    for read in (read_image, image_size):
        with pytest.raises(InputError, match=r"a\.png is not a readable image.*: render it again\.$"):
            read(tmp_path / "a.png", hint="render it again")
        with pytest.raises(InputError, match=r"b\.png is missing\.$"):
            read(tmp_path / "b.png")
    with pytest.raises(InputError, match="is a folder"):
        write_image(tmp_path, COLOURS)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_files_get_usual_permissions(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    write_image(tmp_path / "a.png", COLOURS)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (plain, tmp_path / "a.png")]
    assert modes[0] == modes[1]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits_of_grey(tmp_path: Path, suffix: str) -> None:
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (48, 1))
    assert cv2.imwrite(str(tmp_path / f"a{suffix}"), ramp)
    image = read_image(tmp_path / f"a{suffix}")
    assert image.shape == (48, 64, 3) and image.dtype == np.uint8
    assert np.abs(image[..., 1].astype(int) - ramp // 257).max() <= 1


@pytest.mark.parametrize("brand", [b"heic", b"mif1", b"heix"])
def test_an_image_of_a_phone_gets_the_right_reason(tmp_path: Path, brand: bytes) -> None:
    path = tmp_path / "IMG_0001.HEIC"
    path.write_bytes(b"\0\0\0\x24ftyp" + brand + b"\0" * 200)
    with pytest.raises(InputError, match="is a HEIC image, which cannot be read: save it as JPEG or PNG"):
        read_image(path)
    with pytest.raises(InputError, match="HEIC image"):
        open_source(path)


def test_a_small_file_of_a_billion_pixels_is_not_decoded(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    path = tmp_path / "a.png"
    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1 << 20))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    with pytest.raises(InputError, match=r"a\.png has more pixels than are decoded .*: scale it down\.$"):
        read_image(path)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 7, 4), (5, 1, 3), (31, 33, 4), (300, 200, 3)])
def test_fast_png_keeps_every_value(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    for image in (np.zeros(shape, np.uint8), rng.integers(0, 256, shape, np.uint8)):
        data = encode_png(image[:, ::-1])
        assert np.array_equal(decode_image(data, unchanged=True), image[:, ::-1])
        with Image.open(io.BytesIO(data)) as opened:  # another program's decompression, with all check sums
            assert np.array_equal(np.array(opened), image[:, ::-1])


def test_fast_png_with_a_palette() -> None:
    palette = np.random.default_rng(2).integers(0, 256, (6, 3), np.uint8)
    labels = np.arange(6, dtype=np.uint8).reshape(2, 3).repeat(35, 0).repeat(30, 1)
    for indices in (labels, labels[::2, ::-3], labels.T):
        with Image.open(io.BytesIO(encode_png(indices, palette))) as opened:
            assert opened.mode == "P"
            assert np.array_equal(np.array(opened), indices)
            assert np.array_equal(np.array(opened.convert("RGB")), palette[indices])
