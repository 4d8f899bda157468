"""Frames are what a player shows: orientation, square pixels, fields, sizes, colours, alpha, tracks."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from emotalking.errors import InputError
from emotalking.io.display import Orientation, pixels, to_grey, to_rgb
from emotalking.io.video import Conversions, View, decode_frames, probe, read_frames

from .clips import corners, describe, encode, encode_planes, encode_sizes, set_matrix

BT709 = {"colorspace": 1, "color_trc": 1, "color_primaries": 1, "color_range": 1}


def shown(path: Path, view: View | None = None, notes: Conversions | None = None) -> list[np.ndarray]:
    return [to_rgb(frame) for _, frame in decode_frames(path, view=view or View(), conversions=notes)]


@pytest.mark.parametrize("tags", [{}, BT709])
def test_ordinary_frames_are_those_of_ffmpeg(tmp_path: Path, tags: dict[str, int]) -> None:
    """Prepared folders of ordinary clips do not change: no filter, no other conversion touches their frames."""
    noise = np.random.default_rng(0).integers(0, 256, (12, 48, 64, 3), dtype=np.uint8)
    path = encode(tmp_path / "a.mp4", list(noise), tags=tags)
    with av.open(str(path)) as container:
        wanted = list(container.decode(video=0))
    for (_, frame), raw in zip(decode_frames(path), wanted, strict=True):
        np.testing.assert_array_equal(to_rgb(frame), raw.to_ndarray(format="rgb24"))
        plane = np.frombuffer(bytes(raw.planes[0]), np.uint8).reshape(48, -1)[:, :64]
        np.testing.assert_array_equal(to_grey(frame, 64), plane)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("flip_x", [False, True])
@pytest.mark.parametrize("flip_y", [False, True])
def test_every_display_matrix(tmp_path: Path, swapped: bool, flip_x: bool, flip_y: bool) -> None:
    x, y = -1 if flip_x else 1, -1 if flip_y else 1
    # ISO 14496-12: a stored point (p, q) is shown at (a p + c q, b p + d q).
    matrix = (0, y, x, 0) if swapped else (x, 0, 0, y)
    stored = corners()
    path = set_matrix(encode(tmp_path / "a.mp4", [stored] * 3, pixel_format="yuv444p"), *matrix)
    wanted = stored.swapaxes(0, 1) if swapped else stored
    wanted = wanted[::y, ::x]
    info = probe(path)
    assert (info.height, info.width) == wanted.shape[:2]
    for image in shown(path):
        assert np.abs(image[4:-4, 4:-4].astype(int) - wanted[4:-4, 4:-4]).mean() < 6


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_turned_in_addition(tmp_path: Path, turn: int) -> None:
    path = set_matrix(encode(tmp_path / "a.mp4", [corners()] * 3, pixel_format="yuv444p"), -1, 0, 0, 1)
    upright = shown(path)[0]
    np.testing.assert_array_equal(shown(path, View(turn=turn))[0], np.rot90(upright, -turn // 90))


def test_a_matrix_of_any_angle_is_the_nearest_quarter_turn() -> None:
    near = np.array([3000, 65000, 0, -65000, 3000, 0, 0, 0, 1 << 30], np.int32).tobytes()
    assert Orientation.of_matrix(near) == Orientation().turned(1)


@pytest.mark.parametrize(("aspect", "size"), [((2, 1), (128, 48)), ((1, 2), (64, 96)), ((1001, 1000), (64, 48))])
def test_pixels_become_square(tmp_path: Path, aspect: tuple[int, int], size: tuple[int, int]) -> None:
    path = encode(tmp_path / "a.mp4", [corners()] * 3, pixel_format="yuv444p", aspect=Fraction(*aspect))
    notes = Conversions()
    image = shown(path, notes=notes)[0]
    assert image.shape[1::-1] == size == (probe(path).width, probe(path).height)
    assert notes.aspect == pytest.approx(aspect[0] / aspect[1])
    assert image[4, 4].argmax() == 0 and image[4, -4].argmax() == 1 and image[-4, 4].argmax() == 2


def test_square_pixels_before_the_turn(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", [corners()] * 3, pixel_format="yuv444p", aspect=Fraction(2))
    assert shown(set_matrix(path, 0, 1, -1, 0))[0].shape == (128, 48, 3)


def moving_edge(index: float) -> np.ndarray:
    """A white bar that moves by eight pixels a frame."""
    image = np.full((64, 96, 3), 40, np.uint8)
    left = int(8 * index)
    image[:, left : left + 24] = 220
    return image


def woven(index: int) -> np.ndarray:
    """Two fields, half a frame apart, in one image: what an interlaced camera stores."""
    image = moving_edge(index)
    image[1::2] = moving_edge(index + 0.5)[1::2]
    return image


def combs(image: np.ndarray) -> float:
    """Mean difference of a row to those above and below it."""
    grey = image.astype(float).mean(-1)
    return float(np.abs(grey[1:-1] - (grey[:-2] + grey[2:]) / 2).mean())


def test_fields_become_frames(tmp_path: Path) -> None:
    options = {"x264-params": "tff=1", "crf": "4"}
    path = encode(tmp_path / "a.mp4", [woven(i) for i in range(9)], options=options)
    with av.open(str(path)) as container:
        raw = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    notes = Conversions()
    times, images = zip(*((t, to_rgb(f)) for t, f in decode_frames(path, conversions=notes)), strict=True)
    assert notes.deinterlaced == len(images) == len(raw) == 9
    assert times == pytest.approx([i / 25 for i in range(9)])
    for image, stored in zip(images[1:-1], raw[1:-1], strict=True):
        assert combs(image) < 0.35 * combs(stored)


def test_frames_without_fields_stay_among_interlaced_ones(tmp_path: Path) -> None:
    """Properties belong to frames: a progressive beginning is not filtered."""
    still = [moving_edge(i) for i in range(5)]
    first, second = (encode(tmp_path / f"{i}.ts", still if i == 0 else [woven(i) for i in range(5)],
                            options={} if i == 0 else {"x264-params": "tff=1"}) for i in (0, 1))  # fmt: skip
    joined = tmp_path / "a.mkv"
    with av.open(str(joined), "w") as container:
        stream = None
        for number, part in enumerate((first, second)):
            with av.open(str(part)) as source:
                stream = container.add_stream_from_template(source.streams.video[0]) if stream is None else stream
                begin = None
                for packet in source.demux(video=0):
                    if packet.dts is None or packet.pts is None:
                        continue
                    begin = packet.dts if begin is None else begin
                    packet.dts, packet.pts = (at - begin + number * 18000 for at in (packet.dts, packet.pts))
                    packet.stream = stream
                    container.mux(packet)
    notes = Conversions()
    images = shown(joined, notes=notes)
    assert (len(images), notes.deinterlaced) == (10, 5)
    np.testing.assert_array_equal(images[:5], shown(first))


def test_all_frames_have_one_size(tmp_path: Path) -> None:
    small, large = corners(48, 64), corners(96, 128)
    notes = Conversions()
    images = shown(encode_sizes(tmp_path / "a.mkv", [large] * 3 + [small] * 3), notes=notes)
    assert {image.shape for image in images} == {(96, 128, 3)}
    assert notes.resized == pytest.approx([0.12]) and notes.reshaped == []
    inner = [image[8:40, 8:56].mean((0, 1)) for image in images]
    assert np.abs(inner[0] - inner[-1]).max() < 3


def test_another_shape_gets_borders_not_distortion(tmp_path: Path) -> None:
    notes = Conversions()
    images = shown(encode_sizes(tmp_path / "a.mkv", [corners(64, 64)] * 3 + [corners(64, 32)] * 3), notes=notes)
    assert notes.resized == notes.reshaped == pytest.approx([0.12])
    assert images[-1].shape == (64, 64, 3) and images[-1][:, :14].max() < 12 and images[-1][:, 50:].max() < 12
    assert np.abs(images[-1][4:28, 18:30].mean((0, 1)) - (230, 20, 20)).max() < 12


def test_a_size_that_was_chosen_holds_for_all(tmp_path: Path) -> None:
    path = encode_sizes(tmp_path / "a.mkv", [corners(24, 32)] * 2 + [corners(48, 64)] * 4)
    assert {image.shape for image in shown(path, View((64, 48)))} == {(48, 64, 3)}


def test_greys_of_all_sizes_can_be_compared(tmp_path: Path) -> None:
    frames = [frame for _, frame in decode_frames(
        encode_sizes(tmp_path / "a.mkv", [corners(96, 128)] * 2 + [corners(48, 64)] * 2))]  # fmt: skip
    first, last = to_grey(frames[0], 32), to_grey(frames[-1], 32)
    assert first.shape == last.shape == (24, 32)
    assert np.abs(first - last)[2:-2, 2:-2].mean() < 4


PQ, HLG, SDR = 16, 18, 1


def grey_card(level: float, tags: dict[str, int], path: Path) -> np.ndarray:
    """Shown RGB of a grey of ``level`` (signal 0..1, narrow range, 10 bits)."""
    planes = np.full((3, 16, 16), 512, np.uint16)
    planes[0] = round(64 + 876 * level)
    return shown(encode_planes(path, [planes] * 2, tags))[0][8, 8]


@pytest.mark.parametrize(
    ("transfer", "level", "nits"),
    # HLG: BT.2100 table 5 at 1000 cd/m2; PQ: table 4. 26 cd/m2 is HLG's 38 % (BT.2408, 18 % grey).
    [(HLG, 0.38, 26.0), (PQ, 0.38, 26.0), (HLG, 0.22, 7.0), (PQ, 0.21, 3.0)],
)
def test_greys_below_the_highlights_keep_their_light(tmp_path: Path, transfer: int, level: float, nits: float) -> None:
    value = grey_card(level, {"color_trc": transfer, "color_primaries": 9, "colorspace": 9}, tmp_path / "a.mkv")
    assert np.ptp(value) <= 1
    assert 203 * (value.mean() / 255) ** 2.4 == pytest.approx(nits, rel=0.15)


@pytest.mark.parametrize("transfer", [HLG, PQ])
def test_highlights_fit_without_clipping(tmp_path: Path, transfer: int) -> None:
    """Diffuse white (203 cd/m2) is light grey, and brighter light is still told apart."""
    tags = {"color_trc": transfer, "color_primaries": 9, "colorspace": 9}
    levels = (0.75, 0.85, 0.95) if transfer == HLG else (0.58, 0.65, 0.72)
    values = [float(grey_card(level, tags, tmp_path / f"{level}.mkv").mean()) for level in levels]
    assert 215 <= values[0] < values[1] < values[2] <= 255


def test_wide_colours_are_not_pale(tmp_path: Path) -> None:
    """A red of BT.709, written in BT.2020, is shown as that red (with and without HLG's curve)."""
    red = np.array([0.6274, 0.0691, 0.0164])  # BT.2087-0: BT.709's red in linear BT.2020
    luma = np.array([0.2627, 0.6780, 0.0593])
    for transfer, signal in ((14, (0.5 * red) ** (1 / 2.4)), (HLG, np.sqrt(3 * 0.03 * red))):
        y = luma @ signal
        cb, cr = (signal[2] - y) / 1.8814, (signal[0] - y) / 1.4746
        planes = np.array([64 + 876 * y, 512 + 896 * cb, 512 + 896 * cr]).round().astype(np.uint16)
        tags = {"color_trc": transfer, "color_primaries": 9, "colorspace": 9}
        path = encode_planes(tmp_path / f"{transfer}.mkv", [np.tile(planes[:, None, None], (1, 16, 16))] * 2, tags)
        notes = Conversions()
        value = shown(path, notes=notes)[0][8, 8]
        assert value[0] > 70 and value[1:].max() < value[0] / 4
        assert notes.tone_mapped == ("HLG" if transfer == HLG else "SDR")
        grey = to_grey(next(iter(decode_frames(path)))[1], 8)
        assert grey.mean() == pytest.approx(0.299 * value[0] + 0.587 * value[1] + 0.114 * value[2], abs=3)


@pytest.mark.parametrize(
    ("tags", "white"),
    [({"color_range": 2}, 235), ({"color_range": 1}, 255), ({"colorspace": 1, "color_range": 1}, 255)],
)
def test_range_and_matrix_of_the_file(tmp_path: Path, tags: dict[str, int], white: int) -> None:
    planes = np.full((3, 16, 16), 512, np.uint16)
    planes[0] = 940
    value = shown(encode_planes(tmp_path / "a.mkv", [planes] * 2, tags))[0][8, 8]
    assert np.abs(value.astype(int) - white).max() <= 1


def test_colours_that_ffmpeg_cannot_convert_are_one_sentence() -> None:
    frame = av.VideoFrame(16, 16, "yuv444p")
    frame.colorspace = 8  # YCgCo
    with pytest.raises(InputError, match="export it with BT.709 colours"):
        pixels(frame, "rgb24")


def test_what_is_transparent_is_black(tmp_path: Path) -> None:
    image = np.concatenate([corners(), np.full((48, 64, 1), 255, np.uint8)], -1)
    image[:, :16, 3] = 0
    image[:24, 48:, 3] = 128
    path = encode(tmp_path / "a.mov", [image] * 3, "qtrle", "argb")
    out = shown(path)[0]
    assert out[:, :16].max() == 0
    np.testing.assert_array_equal(out[:, 16:48], image[:, 16:48, :3])
    assert out[4, 60].tolist() == pytest.approx([10, 115, 10], abs=1)


def test_opaque_alpha_changes_nothing(tmp_path: Path) -> None:
    image = np.concatenate([corners(), np.full((48, 64, 1), 255, np.uint8)], -1)
    np.testing.assert_array_equal(shown(encode(tmp_path / "a.mov", [image] * 3, "qtrle", "argb"))[0], corners())


def two_tracks(path: Path, default: int) -> Path:
    """A dark track and a bright one, of which one is flagged as default."""
    with av.open(str(path), "w") as container:
        tracks = []
        for number in range(2):
            track = container.add_stream("mpeg4", rate=25)
            track.width = track.height = 32
            track.pix_fmt = "yuv420p"
            track.disposition = Disposition.default if number == default else Disposition(0)
            tracks.append(track)
        for _ in range(5):
            for number, track in enumerate(tracks):
                image = np.full((32, 32, 3), 40 + 160 * number, np.uint8)
                container.mux(track.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        for track in tracks:
            container.mux(track.encode(None))
    return path


@pytest.mark.parametrize("default", [0, 1])
def test_the_default_video_track_is_shown(tmp_path: Path, default: int) -> None:
    notes = Conversions()
    image = shown(two_tracks(tmp_path / "a.mkv", default), notes=notes)[0]
    assert abs(float(image.mean()) - (40 + 160 * default)) < 6
    assert notes.video_tracks == 2


def test_an_unmarked_cover_image_is_no_film(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        cover, film = container.add_stream("mjpeg", rate=25), container.add_stream("mpeg4", rate=25)
        for track, kind in ((cover, "yuvj420p"), (film, "yuv420p")):
            track.width, track.height, track.pix_fmt = 32, 32, kind
        white = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 255, np.uint8), format="rgb24")
        container.mux(cover.encode(white))
        for _ in range(6):
            dark = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 60, np.uint8), format="rgb24")
            container.mux(film.encode(dark))
        for track in (cover, film):
            container.mux(track.encode(None))
    images = list(read_frames(path))
    assert len(images) == 6 and abs(float(images[0].mean()) - 60) < 6


def test_a_crop_of_the_container_is_noted(tmp_path: Path) -> None:
    """A clean aperture (ISO 14496-12, 12.1.4) without 8 rows at the bottom and 6 columns on the left."""
    path = encode(tmp_path / "a.mp4", [corners()] * 5)
    notes = Conversions()
    assert shown(path, notes=notes)[0].shape == (48, 64, 3) and notes.crop == (0, 0, 0, 0)
    describe(path, b"clap", struct.pack(">8i", 58, 1, 40, 1, 3, 1, -4, 1))
    assert shown(path, notes=notes)[0].shape == (48, 64, 3) and notes.crop == (0, 8, 6, 0)


@pytest.mark.parametrize(
    ("profile", "compatible", "shows"), [(5, 0, False), (8, 4, True), (8, 1, True), (10, 0, False)]
)
def test_dolby_visions_own_colours_are_refused(tmp_path: Path, profile: int, compatible: int, shows: bool) -> None:
    """Profile 5 is in no colours that others can show; those that phones film (8.4) are HLG as well."""
    path = encode(tmp_path / "a.mp4", [corners()] * 5)
    describe(path, b"dvcC", bytes([1, 0, profile << 1, 5 << 3 | 5, compatible << 4, *bytes(19)]))
    if shows:
        assert probe(path).width == 64
    else:
        with pytest.raises(InputError, match=f"Dolby Vision's own .profile {profile}.*export it as HDR10, HLG or SDR"):
            probe(path)


@pytest.mark.parametrize("brand", ["heic", "mif1", "avif"])
def test_an_image_in_the_container_of_a_video_is_none(tmp_path: Path, brand: str) -> None:
    path = encode(tmp_path / "a.mp4", [corners()] * 5)
    path.write_bytes(path.read_bytes().replace(b"ftypisom", b"ftyp" + brand.encode()))
    with pytest.raises(InputError, match="is not a video"):
        probe(path)


def test_an_unknown_video_format_is_one_sentence(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", [corners()] * 5)
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzz1"))
    with pytest.raises(InputError, match="cannot be decoded"):
        probe(path)
