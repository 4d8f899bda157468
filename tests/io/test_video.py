"""Reading clips: exact rate, framing, and files that are no clips."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from emotalking.errors import InputError
from emotalking.io.audio import iter_audio
from emotalking.io.display import pixels
from emotalking.io.video import decode_frames, probe, read_frames
from emotalking.io.video_stream import Damage

from ..preprocess.clips import grey_frames, number_of, write_clip


def test_probe_tells_what_the_header_says(tmp_path: Path) -> None:
    info = probe(write_clip(tmp_path / "a.mp4", grey_frames(60, 48, 64), seconds_of_sound=2.4))
    assert (info.width, info.height, info.fps, info.has_audio) == (64, 48, 25, True)
    assert info.seconds == pytest.approx(2.4, abs=0.05)


def test_25_frames_a_second_pass_unchanged(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", grey_frames(60))
    assert [number_of(image) for image in read_frames(clip)] == list(range(60))


@pytest.mark.parametrize("fps", [Fraction(30000, 1001), Fraction(50), Fraction(15)])
def test_other_rates_take_the_nearest_frame(tmp_path: Path, fps: Fraction) -> None:
    clip = write_clip(tmp_path / "a.mkv", grey_frames(100), fps)
    seen = [number_of(image) for image in read_frames(clip)]
    assert len(seen) == pytest.approx(float(100 / fps * 25), abs=1)
    wanted = np.minimum(np.arange(len(seen)) / 25 * float(fps), 99)
    assert np.abs(np.array(seen) - wanted).max() <= 0.55


def test_unsteady_time_stamps_keep_their_speed(tmp_path: Path) -> None:
    times = np.cumsum(np.random.default_rng(0).integers(20, 90, 60)).tolist()
    clip = write_clip(tmp_path / "a.mkv", grey_frames(60), 25, times_ms=times)
    seen = [number_of(image) for image in read_frames(clip)]
    shown = np.array(times)[seen] - times[0]
    due = np.arange(len(seen)) * 40
    assert np.abs(shown - due)[:-1].max() <= 46  # the last picture stays for as long as pictures do on average


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj420p", "yuv422p10le", "rgb24", "nv12"])
def test_pixels_are_those_of_pyav(pixel_format: str) -> None:
    """One converter meets pictures of other sizes and formats by turns."""
    draw = np.random.default_rng(0)
    for height, width in ((48, 64), (30, 50), (48, 64)):
        picture = draw.integers(0, 256, (height, width, 3), np.uint8)
        frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=pixel_format)
        for kind in ("rgb24", "gray"):
            np.testing.assert_array_equal(pixels(frame, kind), frame.to_ndarray(format=kind))


@pytest.mark.parametrize("name", ["notes.txt", "notes.mp4"])
def test_a_text_file_is_no_video(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("this is not a video\n" * 50)
    with pytest.raises(InputError, match=r"notes\.\w+ is not a video"):
        probe(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        probe(tmp_path / "none.mp4")
    with pytest.raises(InputError, match="is a folder or a device"):
        probe(tmp_path)


def test_unfinished_copy_without_index(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", grey_frames(60))
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    with pytest.raises(InputError, match="cut short or damaged after 0 frames: its index is missing"):
        probe(cut)


def test_a_clip_that_is_cut_short_gives_its_good_part(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (60, 64, 64, 3), dtype=np.uint8)
    clip = write_clip(tmp_path / "a.mp4", noise, movflags="+faststart")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(clip.read_bytes()[: int(clip.stat().st_size * 0.6)])
    damage = Damage()
    assert 30 <= len(list(decode_frames(cut, damage))) <= 38
    assert damage.promised_s == pytest.approx(2.4)
    assert damage.lost == []


def test_sound_alone_has_no_picture(tmp_path: Path) -> None:
    from emotalking.io.audio import save_wav

    save_wav(tmp_path / "a.wav", np.zeros(16000, np.float32))
    with pytest.raises(InputError, match="no video stream"):
        probe(tmp_path / "a.wav")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_a_title_in_another_encoding_is_no_fault(tmp_path: Path, suffix: str) -> None:
    plain, titled = write_clip(tmp_path / f"a{suffix}", grey_frames(30), seconds_of_sound=1.2), tmp_path / f"b{suffix}"
    with av.open(str(plain)) as source, av.open(str(titled), "w") as copy:
        copy.metadata["title"] = "TITLE?"
        streams = {stream.index: copy.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream_index]
                copy.mux(packet)
    plainly, data = probe(titled), titled.read_bytes()
    assert b"TITLE?" in data
    titled.write_bytes(data.replace(b"TITLE?", b"caf\xe9\xff\x80"))
    assert probe(titled) == plainly
    assert len(list(read_frames(titled))) == 30
    assert sum(len(piece) for piece in iter_audio(titled)) > 16000
