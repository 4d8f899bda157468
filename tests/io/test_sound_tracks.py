"""Sound is what a player plays: the track, the mix of the channels, full scale, lengths that writers leave open."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from av.stream import Disposition

from emotalking.errors import InputError
from emotalking.io.audio import SAMPLE_RATE, SoundSpan, iter_audio, load_audio, save_wav
from emotalking.io.downmix import Mixer

RATE = 16000


def tone(hz: float = 440.0, seconds: float = 1.0, level: float = 0.3) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hz * np.arange(round(RATE * seconds)) / RATE)).astype(np.float32)


def pitch(samples: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(samples[:RATE])).argmax())


def write_tracks(path: Path, tracks: list[np.ndarray], flags: list[Disposition], layout: str = "mono") -> Path:
    """Tracks of 16 kHz samples ``[channels, S]`` as PCM, each with its flags."""
    with av.open(str(path), "w") as container:
        streams = []
        for flag in flags:
            stream = container.add_stream("pcm_f32le", rate=RATE, layout=layout)
            stream.disposition = flag
            streams.append(stream)
        for begin in range(0, tracks[0].shape[-1], 1600):
            for stream, samples in zip(streams, tracks, strict=True):
                piece = np.ascontiguousarray(samples[:, begin : begin + 1600].T.reshape(1, -1))
                frame = av.AudioFrame.from_ndarray(piece, format="flt", layout=layout)
                frame.sample_rate, frame.pts, frame.time_base = RATE, begin, Fraction(1, RATE)
                container.mux(stream.encode(frame))
    return path


NONE, DEFAULT, COMMENT = Disposition(0), Disposition.default, Disposition.default | Disposition.comment
SILENCE = np.zeros((1, RATE), np.float32)


@pytest.mark.parametrize(
    ("levels", "flags", "played"),
    [
        ((0.3, 0.3), (NONE, DEFAULT), 2),
        ((0.3, 0.3), (NONE, NONE), 1),
        ((0.0, 0.3), (DEFAULT, NONE), 2),
        ((0.0, 0.3), (NONE, DEFAULT), 2),
        ((0.3, 0.3), (COMMENT, DEFAULT), 2),
        ((0.0, 0.0), (NONE, DEFAULT), 2),
    ],
)
def test_the_track_that_is_played(tmp_path: Path, levels: tuple, flags: tuple, played: int) -> None:
    tracks = [tone(220.0 * (i + 1), level=level)[None] for i, level in enumerate(levels)]
    path, span = write_tracks(tmp_path / "a.mkv", tracks, list(flags)), SoundSpan()
    samples = np.concatenate(list(iter_audio(path, span=span)))
    assert (span.track, span.tracks) == (played, 2)
    np.testing.assert_allclose(samples, tracks[played - 1][0], atol=1e-4)
    if any(levels):
        assert pitch(samples) == 220 * played


def test_a_track_can_be_chosen(tmp_path: Path) -> None:
    tracks = [tone(220.0 * i)[None] for i in (1, 2, 3)]
    path = write_tracks(tmp_path / "a.mkv", tracks, [DEFAULT, NONE, NONE])
    assert [pitch(load_audio(path, track=number)) for number in (None, 1, 2, 3)] == [220, 220, 440, 660]
    for number in (0, 4, -1):
        with pytest.raises(InputError, match=rf"no sound track {number}: give a number from 1 to 3"):
            load_audio(path, track=number)


def test_a_track_that_cannot_be_decoded_is_left_out(tmp_path: Path) -> None:
    """As phones' spatial sound, whose format no decoder knows."""
    path = write_tracks(tmp_path / "a.mkv", [tone(220.0)[None], tone(440.0)[None]], [DEFAULT, NONE])
    known, unknown = b"A_PCM/FLOAT/IEEE", b"A_SPC/FLOAT/IEEE"
    path.write_bytes(path.read_bytes().replace(known, unknown, 1))
    assert pitch(load_audio(path)) == 440
    with pytest.raises(InputError, match="format that cannot be decoded"):
        load_audio(path, track=1)
    path.write_bytes(path.read_bytes().replace(known, unknown))
    with pytest.raises(InputError, match="format that cannot be decoded"):
        load_audio(path)


@pytest.mark.parametrize("layout", ["5.1", "7.1", "5.1(side)", "3.0"])
def test_dialogue_of_the_centre_keeps_its_level(tmp_path: Path, layout: str) -> None:
    names = [channel.name for channel in av.AudioLayout(layout).channels]
    samples = np.zeros((len(names), RATE), np.float32)
    samples[names.index("FC")] = tone()
    mixed = load_audio(write_tracks(tmp_path / "a.wav", [samples], [DEFAULT], layout))
    np.testing.assert_allclose(mixed, tone(), atol=1e-3)


def test_eight_planes(tmp_path: Path) -> None:
    """Decoded 7.1 of AAC, AC-3 or DTS, where PyAV's own conversion ends in a crash."""
    samples = np.zeros((RATE, 8), np.float32)
    samples[:, 2] = tone()
    packed = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="flt", layout="7.1")
    packed.sample_rate = RATE
    (planar,) = av.AudioResampler(format="fltp", layout="7.1", rate=RATE).resample(packed)
    assert planar.format.is_planar
    np.testing.assert_allclose(Mixer()(planar), tone(), atol=1e-4)


def test_channels_are_mixed_as_by_ffmpeg(tmp_path: Path) -> None:
    """ITU-R BS.775: front channels with -3 dB, surround ones with a half, LFE not at all."""
    weights = {"FL": 0.5**0.5, "FR": 0.5**0.5, "FC": 1.0, "LFE": 0.0, "BL": 0.5, "BR": 0.5}
    samples = np.stack([tone(200.0 + 100 * i, level=0.1) for i in range(6)])
    mixed = load_audio(write_tracks(tmp_path / "a.wav", [samples], [DEFAULT], "5.1"))
    np.testing.assert_allclose(mixed, np.array(list(weights.values())) @ samples, atol=1e-3)


def test_sums_of_channels_above_full_scale_are_made_quieter(tmp_path: Path) -> None:
    samples = np.stack([tone(level=0.9)] * 6)
    mixed = load_audio(write_tracks(tmp_path / "a.wav", [samples], [DEFAULT], "5.1"))
    np.testing.assert_allclose(mixed, tone(level=1.0), atol=5e-3)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_float_peaks_are_not_clipped(tmp_path: Path, channels: int, subtype: str) -> None:
    loud = np.concatenate([tone(level=0.5), tone(level=2.5)])
    soundfile.write(tmp_path / "a.wav", np.stack([loud] * channels, 1), RATE, subtype=subtype)
    np.testing.assert_allclose(load_audio(tmp_path / "a.wav"), loud / 2.5, atol=5e-3)
    soundfile.write(tmp_path / "b.wav", np.stack([0.4 * loud] * channels, 1), RATE, subtype=subtype)
    np.testing.assert_allclose(load_audio(tmp_path / "b.wav"), 0.4 * loud, atol=5e-3)


def wav(riff: int, data: int, samples: np.ndarray) -> bytes:
    form = struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    content = (samples * 32767).astype("<i2").tobytes()
    return b"RIFF" + struct.pack("<I", riff) + b"WAVEfmt " + form + b"data" + struct.pack("<I", data) + content


@pytest.mark.parametrize(
    ("riff", "data"),
    [
        (0, 0),
        (36, 0),
        (0xFFFFFFFF, 0),
        (0xFFFFFFFF, 0xFFFFFFFF),  # FFmpeg
        (0xFFFFFFFF, 0xFFFFFFDB),
        (0x7FFFFFFF, 0x7FFFFFFF),
        (0x7FFFFFFF, 0x7FFFFFDB),
        (0x7FFFF024, 0x7FFFF000),  # espeak-ng, SoX
        (0x7FFFF000, 0x7FFFEFDC),
        (0x80000024, 0x80000000),  # arecord
        (0x40000024, 0x40000000),
    ],
)
@pytest.mark.parametrize("fact", [False, True])
def test_lengths_that_a_pipe_left_open(tmp_path: Path, riff: int, data: int, fact: bool) -> None:
    content = wav(riff, data, tone())
    if fact:
        content = content.replace(b"data", b"fact" + struct.pack("<II", 4, 0) + b"data", 1)
    (tmp_path / "a.wav").write_bytes(content)
    np.testing.assert_allclose(load_audio(tmp_path / "a.wav"), tone(), atol=1e-3)


@pytest.mark.parametrize("data", [0x3FFFFFF0, 70000])
def test_a_length_that_was_meant_is_still_held(tmp_path: Path, data: int) -> None:
    (tmp_path / "a.wav").write_bytes(wav(data + 36, data, tone()))
    with pytest.raises(InputError, match="cut short"):
        load_audio(tmp_path / "a.wav")


@pytest.mark.parametrize(
    ("name", "codec", "layout"),
    [("a.ogg", "libopus", "mono"), ("a.opus", "libopus", "mono"), ("a.aac", "aac", "mono"),
     ("a.mka", "flac", "mono"), ("a.caf", "pcm_s16le", "mono"), ("a.au", "pcm_s16be", "mono"),
     ("a.aiff", "pcm_s16be", "mono"), ("a.w64", "pcm_s16le", "mono"), ("a.wma", "wmav2", "mono"),
     ("a.ts", "mp2", "mono"), ("a.avi", "libmp3lame", "mono"), ("a.webm", "libopus", "mono"), ("a.mp2", "mp2", "mono"),
     ("a.ac3", "ac3", "mono"), ("a.tta", "tta", "mono"), ("a.wv", "wavpack", "mono"), ("a.flv", "aac", "mono"),
     ("a.3gp", "aac", "mono"), ("a.nut", "pcm_s24le", "mono")],
)  # fmt: skip
def test_any_container(tmp_path: Path, name: str, codec: str, layout: str) -> None:
    rate = 44100 if codec == "wmav2" else 48000
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        stream.bit_rate = 128000
        kind = stream.codec_context.format.name if stream.codec_context.format else "fltp"
        samples = 0.3 * np.sin(2 * np.pi * 440 * np.arange(2 * rate) / rate)
        resampler = av.AudioResampler(format=kind, layout=layout, rate=rate, frame_size=stream.frame_size or 1024)
        frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        for piece in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    found = load_audio(tmp_path / name)
    assert len(found) == pytest.approx(2 * SAMPLE_RATE, rel=0.06)
    assert pitch(found[4000:]) == pytest.approx(440, abs=2)
    assert np.sqrt((found[4000:20000] ** 2).mean()) == pytest.approx(0.3 * 0.5**0.5, rel=0.1)


def test_saved_sound_is_not_touched(tmp_path: Path) -> None:
    save_wav(tmp_path / "a.wav", tone(level=1.0))
    assert np.abs(load_audio(tmp_path / "a.wav")).max() == pytest.approx(1.0, abs=1e-3)
