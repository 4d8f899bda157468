"""Reading and writing sound."""

import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from emotalking.errors import InputError
from emotalking.io.audio import SAMPLE_RATE, SoundSpan, iter_audio, load_audio, resample, save_wav


def tone(rate: int, seconds: float = 1.0, hz: float = 440.0, level: float = 0.3) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def expected(seconds: float = 1.0) -> np.ndarray:
    return tone(SAMPLE_RATE, seconds)


def encode(path: Path, samples: np.ndarray, rate: int, codec: str, first_pts: int = 0, gap: int = 0) -> None:
    """An audio file in any container; ``gap`` samples of time stamps are left out half-way."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        stream.time_base = Fraction(1, rate)
        for start in range(0, len(samples), 1024):
            frame = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], format="fltp", layout="mono")
            frame.sample_rate = rate
            frame.time_base = Fraction(1, rate)
            frame.pts = first_pts + start + (gap if start >= len(samples) // 2 else 0)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT", "DOUBLE"])
def test_any_rate_and_sample_format(tmp_path: Path, rate: int, subtype: str) -> None:
    soundfile.write(tmp_path / "a.wav", tone(rate), rate, subtype=subtype)
    samples = load_audio(tmp_path / "a.wav")
    assert samples.dtype == np.float32
    assert abs(len(samples) - SAMPLE_RATE) <= 1
    inner = slice(1000, 15000)
    assert np.abs(samples[inner] - expected()[inner]).max() < (0.02 if subtype == "PCM_U8" else 2e-3)


@pytest.mark.parametrize("channels", [2, 6])
def test_channels_are_averaged(tmp_path: Path, channels: int) -> None:
    data = np.zeros((44100, channels), np.float32)
    data[:, 1] = tone(44100)
    soundfile.write(tmp_path / "a.wav", data, 44100, subtype="FLOAT")
    samples = load_audio(tmp_path / "a.wav")
    assert np.abs(samples[1000:15000] - expected()[1000:15000] / channels).max() < 1e-3


@pytest.mark.parametrize("right", [-1.0, -0.3, 0.0])
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_channels_of_opposite_phase_do_not_cancel(tmp_path: Path, right: float, subtype: str) -> None:
    soundfile.write(tmp_path / "a.wav", np.stack([tone(16000), right * tone(16000)], 1), 16000, subtype=subtype)
    assert np.allclose(load_audio(tmp_path / "a.wav"), expected() * (1 + abs(right)) / 2, atol=1e-3)


@pytest.mark.parametrize("rate", [8000, 192000])
@pytest.mark.parametrize("frames", [0.02, 0.08])
def test_two_frames_of_sound(tmp_path: Path, rate: int, frames: float) -> None:
    soundfile.write(tmp_path / "a.wav", np.clip(5 * tone(rate, frames), -1, 1) + 0.0, rate)
    samples = load_audio(tmp_path / "a.wav")
    assert len(samples) == pytest.approx(frames * SAMPLE_RATE, abs=2)
    assert np.isfinite(samples).all() and np.abs(samples).max() <= 1


@pytest.mark.parametrize(("name", "codec"), [("a.mp3", "libmp3lame"), ("a.m4a", "aac"), ("a.flac", "flac")])
def test_compressed_files_keep_the_sound(tmp_path: Path, name: str, codec: str) -> None:
    if codec == "flac":
        soundfile.write(tmp_path / name, tone(44100), 44100)
    else:
        encode(tmp_path / name, tone(44100), 44100, codec)
    samples = load_audio(tmp_path / name)
    assert abs(len(samples) - SAMPLE_RATE) < 0.06 * SAMPLE_RATE
    peak = np.abs(np.fft.rfft(samples[4000:12000])).argmax() * SAMPLE_RATE / 8000
    assert peak == pytest.approx(440, abs=2)


def test_pieces_join_to_the_whole(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(44100, 3.0), 44100)
    pieces = list(iter_audio(tmp_path / "a.wav"))
    assert len(pieces) > 10 and max(map(len, pieces)) < 70000
    assert np.array_equal(np.concatenate(pieces), load_audio(tmp_path / "a.wav"))


def test_a_part_is_the_same_as_in_the_whole(tmp_path: Path) -> None:
    save_wav(tmp_path / "a.wav", np.linspace(-0.5, 0.5, 64000).astype(np.float32))
    whole = load_audio(tmp_path / "a.wav")
    assert np.array_equal(load_audio(tmp_path / "a.wav", 1.0, 0.5), whole[16000:24000])
    assert len(load_audio(tmp_path / "a.wav", longest_s=0.00001)) == 1
    assert len(load_audio(tmp_path / "a.wav", 3.5, 2)) == 8000


def test_no_more_is_decoded_than_is_asked_for(tmp_path: Path) -> None:
    """Neither for the samples nor for the level that fits: what is behind them may be loud, or damaged."""
    sound = np.repeat(np.array([0.5, 4.0], np.float32), [20 * SAMPLE_RATE, SAMPLE_RATE])
    soundfile.write(tmp_path / "a.wav", sound, SAMPLE_RATE, subtype="FLOAT")
    span = SoundSpan()
    pieces = list(iter_audio(tmp_path / "a.wav", span=span, longest_s=0.5))
    assert sum(map(len, pieces)) == SAMPLE_RATE // 2 and span.end < 1.5
    assert np.concatenate(pieces)[4000:6000].mean() == pytest.approx(0.5, abs=0.01)
    assert load_audio(tmp_path / "a.wav")[4000:6000].mean() == pytest.approx(0.5 / 4.0, abs=0.01)


def test_time_stamps_that_jump_become_silence(tmp_path: Path) -> None:
    encode(tmp_path / "a.mkv", tone(16000, 2.0), 16000, "pcm_f32le", gap=8000)
    samples = load_audio(tmp_path / "a.mkv")
    assert len(samples) == pytest.approx(2.5 * SAMPLE_RATE, abs=40)
    assert np.abs(samples[17000:23000]).max() < 1e-3
    assert np.abs(samples[25000:30000]).max() > 0.25


@pytest.mark.parametrize("late", [0, 4000])
def test_sound_keeps_its_place_under_the_picture(tmp_path: Path, late: int) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        picture = container.add_stream("mjpeg", rate=25, options={"strict": "unofficial"})
        picture.width = picture.height = 32
        picture.pix_fmt = "yuvj420p"
        sound = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for index in range(25):
            image = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            image.pts = index
            container.mux(picture.encode(image))
        frame = av.AudioFrame.from_ndarray((tone(16000) * 32767).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate = 16000
        frame.time_base = Fraction(1, 16000)
        frame.pts = late
        container.mux(sound.encode(frame))
    samples = load_audio(path)
    assert len(samples) == pytest.approx(SAMPLE_RATE + late, abs=20)
    assert np.abs(samples[:late]).max(initial=0) < 1e-3


def test_save_wav_round_trip_and_atomic(tmp_path: Path) -> None:
    save_wav(tmp_path / "sub" / "a.wav", expected())
    assert np.abs(load_audio(tmp_path / "sub" / "a.wav") - expected()).max() < 1e-4
    with pytest.raises(soundfile.LibsndfileError):
        save_wav(tmp_path / "sub" / "a.wav", np.zeros(100, np.float32), rate=-1)
    assert len(load_audio(tmp_path / "sub" / "a.wav")) == SAMPLE_RATE
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["a.wav"]


def write_bad(kind: str, path: Path) -> None:
    if kind == "text":
        path.write_text("these are words, not sound\n" * 50)
    elif kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "no samples":
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
    elif kind == "nan":
        soundfile.write(path, np.full(16000, np.nan, np.float32), 16000, subtype="FLOAT")
    elif kind.startswith("cut"):
        whole = path.with_name("whole" + path.suffix)
        if path.suffix == ".m4a":
            encode(whole, tone(44100, 2.0), 44100, "aac")
        else:
            soundfile.write(whole, tone(44100, 2.0), 44100)
        data = whole.read_bytes()
        path.write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("kind", "name", "says"),
    [
        ("missing", "a.wav", "does not exist"),
        ("folder", "a.wav", "is not a file"),
        ("empty", "a.wav", "empty"),
        ("text", "a.wav", "not a sound or video file"),
        ("text", "a.txt", "no audio stream"),
        ("no samples", "a.wav", "without a single sample"),
        ("nan", "a.wav", "not numbers"),
        ("cut wav", "a.wav", "cut short"),
        ("cut flac", "a.flac", "cut short"),
        ("cut m4a", "a.m4a", "cut short"),
    ],
)
def test_bad_files_get_one_sentence(tmp_path: Path, kind: str, name: str, says: str) -> None:
    write_bad(kind, tmp_path / name)
    with pytest.raises(InputError, match=says) as caught:
        load_audio(tmp_path / name)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_resample() -> None:
    high = resample(expected().astype(np.float64), SAMPLE_RATE, 48000)
    assert high.dtype == np.float32 and len(high) == 48000
    assert np.abs(high[3000:45000] - tone(48000)[3000:45000]).max() < 1e-3
