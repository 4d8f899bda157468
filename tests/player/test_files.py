"""Video files, frame folders, contact sheets."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import soundfile

from emotalking.errors import InputError
from emotalking.io.audio import load_audio
from emotalking.io.display import to_rgb
from emotalking.io.images import write_image
from emotalking.io.video import decode_frames
from emotalking.io.video_writer import FrameFolder, VideoWriter
from emotalking.player.clip import render_clip
from emotalking.report.contact_sheet import contact_sheet


def picture(width: int, height: int, index: int = 0) -> np.ndarray:
    rows, columns = np.indices((height, width))
    return np.stack([rows * 255 // height, columns * 255 // width, np.full_like(rows, 5 * index % 256)], -1).astype(
        np.uint8
    )


def facts(path: Path) -> tuple[int, float, float, Fraction]:
    """Frames, picture seconds, sound seconds, rate."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        frames = list(container.decode(video))
        rate = video.average_rate
        last = float(frames[-1].pts * video.time_base) + 1 / float(rate)
    sound = len(load_audio(path)) / 16000
    return len(frames), last, sound, rate


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001), Fraction(30)])
def test_rate_is_exact(tmp_path: Path, fps: Fraction) -> None:
    with VideoWriter(tmp_path / "a.mp4", 64, 48, fps) as writer:
        for index in range(90):
            writer.write(picture(64, 48, index))
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        times = [frame.pts * stream.time_base for frame in container.decode(stream)]
        assert stream.average_rate == fps
    assert times == [Fraction(index) / fps for index in range(90)]


@pytest.mark.parametrize("size", [(64, 48), (63, 47), (64, 47)])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.webm", "a.avi"])
def test_colours_and_odd_sizes(tmp_path: Path, size: tuple[int, int], name: str) -> None:
    with VideoWriter(tmp_path / name, *size, Fraction(25)) as writer:
        for _ in range(3):
            writer.write(picture(*size))
    read = to_rgb(next(iter(decode_frames(tmp_path / name)))[1])
    assert read.shape == (48, 64, 3)
    error = np.abs(read[: size[1], : size[0]].astype(int) - picture(*size))
    assert error.mean() < (4 if name == "a.webm" else 2.5)


@pytest.mark.parametrize(
    ("rate", "channels", "subtype"),
    [(8000, 1, "PCM_U8"), (16000, 1, "PCM_16"), (44100, 2, "PCM_16"), (48000, 2, "FLOAT"), (22050, 6, "PCM_24")],
)
def test_any_sound_is_heard_in_the_video(tmp_path: Path, avatar, talk, rate: int, channels: int, subtype: str) -> None:
    import soxr

    sound = np.repeat(soxr.resample(talk, 16000, rate)[:, None], channels, axis=1)
    soundfile.write(tmp_path / "talk.wav", sound, rate, subtype=subtype)
    made = render_clip(avatar, tmp_path / "talk.wav", tmp_path / "out.mp4")
    frames, picture_s, sound_s, fps = facts(tmp_path / "out.mp4")
    assert made.frames == frames == 51 and fps == 25
    assert abs(picture_s - sound_s) <= 1 / 25 + 1e-6
    heard = load_audio(tmp_path / "out.mp4")
    lag = np.correlate(heard[:20000], talk[2000:18000], "valid").argmax() - 2000
    assert abs(lag) <= 16  # a millisecond


def test_seconds_cut_the_sound_too(tmp_path: Path, avatar, talk) -> None:
    render_clip(avatar, talk, tmp_path / "out.mp4", seconds=1.0)
    frames, picture_s, sound_s, _ = facts(tmp_path / "out.mp4")
    assert frames == 25 and abs(sound_s - 1.0) < 0.025


@pytest.mark.parametrize("name", ["a.mov", "a.webm"])
def test_transparent_video(tmp_path: Path, avatar, talk, name: str) -> None:
    render_clip(avatar, talk, tmp_path / name, background="transparent", seconds=0.4)
    with av.open(str(tmp_path / name)) as container:
        stream = container.streams.video[0]
        if name == "a.webm":  # FFmpeg's own VP9 decoder drops alpha, libvpx keeps it
            decoder = av.CodecContext.create("libvpx-vp9", "r")
            frames = [frame for packet in container.demux(stream) for frame in decoder.decode(packet)]
        else:
            frames = list(container.decode(stream))
        alpha = frames[3].to_ndarray(format="rgba")[..., 3]
    assert alpha[2, 2] < 8 and alpha[16, 24] > 247 and alpha[37, 5] > 247


def test_transparent_frames(tmp_path: Path, avatar, talk) -> None:
    render_clip(avatar, talk, folder=tmp_path / "frames", background="transparent", seconds=0.2)
    files = sorted(path.name for path in (tmp_path / "frames").iterdir())
    assert files == [f"{index:06d}.png" for index in range(5)]
    image = cv2.cvtColor(cv2.imread(str(tmp_path / "frames" / "000003.png"), cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA)
    assert image.shape == (40, 48, 4) and image[39, 0].tolist() == [200, 100, 3, 255] and image[0, 0, 3] == 0


def test_failure_leaves_the_old_file(tmp_path: Path, avatar, talk) -> None:
    target = tmp_path / "out.mp4"
    target.write_bytes(b"precious")

    def fail(done: int, total: int) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_clip(avatar, talk, target, progress=fail)
    assert target.read_bytes() == b"precious"
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    render_clip(avatar, talk, target)
    assert facts(target)[0] == 51
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_refusals(tmp_path: Path, avatar, talk) -> None:
    soundfile.write(tmp_path / "talk.wav", talk, 16000)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "000000.png").write_bytes(b"old")
    (tmp_path / "full" / "notes.txt").write_bytes(b"mine")
    cases = [
        (dict(), "nothing to write"),
        (dict(video=tmp_path / "a.gif"), "a name for video"),
        (dict(video=tmp_path / "a.mp4", background="transparent"), "transparent video"),
        (dict(video=tmp_path / "full"), "a name for video"),
        (dict(video=tmp_path / "a.mp4", seconds=0.0), "positive"),
        (dict(folder=tmp_path / "full"), "not empty"),
        (dict(video=Path("/proc/nowhere/a.mp4")), "cannot be written"),
    ]
    for options, says in cases:
        with pytest.raises(InputError, match=says):
            render_clip(avatar, tmp_path / "talk.wav", **options)
    with pytest.raises(InputError, match="another name"):
        (tmp_path / "talk.mp4").write_bytes((tmp_path / "talk.wav").read_bytes())
        render_clip(avatar, tmp_path / "talk.mp4", tmp_path / "talk.mp4")
    render_clip(avatar, talk, folder=tmp_path / "full", seconds=0.08, overwrite=True)
    assert sorted(path.name for path in (tmp_path / "full").iterdir()) == ["000000.png", "000001.png", "notes.txt"]


def test_wrong_size_is_a_programming_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected shape"):
        with VideoWriter(tmp_path / "a.mp4", 64, 48, Fraction(25)) as writer:
            writer.write(picture(62, 48))
    assert not list(tmp_path.iterdir())
    assert FrameFolder(tmp_path / "new").frames == 0


def test_reading_what_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("words")
    for name, says in (("a.mp4", "not a video"), ("b.mp4", "no such file")):
        with pytest.raises(InputError, match=says):
            list(decode_frames(tmp_path / name))


def test_contact_sheet(tmp_path: Path) -> None:
    images = [picture(64, 48, index) for index in range(5)] + [np.zeros((30, 30, 4), np.uint8)]
    sheet = contact_sheet(images, [f"number {index}" for index in range(6)], columns=3, cell=64, title="all of them")
    assert sheet.shape[1] == 3 * 70 + 6 and sheet.dtype == np.uint8
    bare = contact_sheet(images[:2], columns=4, cell=64)
    assert bare.shape == (76, 146, 3)
    assert np.abs(bare[14:62, 6:70].astype(int) - images[0]).max() == 0
    write_image(tmp_path / "sheet.png", sheet)
    assert np.array_equal(cv2.imread(str(tmp_path / "sheet.png"))[..., ::-1], sheet)
    with pytest.raises(ValueError, match="captions"):
        contact_sheet(images, ["one"])
