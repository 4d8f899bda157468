"""Log-mel features, voice activity and sample rates of sound while it comes in."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from emotalking.audio.features import feature_track
from emotalking.audio.resampling import LazyResampler
from emotalking.audio.streams import feature_streams, resolved
from emotalking.audio.vad import voice_activity
from emotalking.audio.vad_stream import GateStream, know_gates
from emotalking.errors import InputError
from emotalking.testing.actor.performance import Performance

FPS = Fraction(25)
RATE = 16000


def fed(stream, sound: np.ndarray, frames: int, ask, pieces: int = 1, look_ahead: int = 1280) -> list:
    """What ``ask(stream, frame)`` gives for every frame, with ``look_ahead`` samples after it heard."""
    got, begin = [], 0
    for frame in range(frames):
        end = min(len(sound), (frame + 1) * 640 + look_ahead)
        for piece in np.array_split(sound[begin:end], pieces):
            stream.push(piece)
        if begin < len(sound) == end:
            stream.finish()
        begin = end
        got.append(ask(stream, frame))
    return got


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return Performance.generate(6.0, seed=5).waveform


def mel(speech: np.ndarray, make, pieces: int = 1) -> torch.Tensor:
    return torch.stack(resolved(fed(make(), speech, 150, lambda stream, frame: stream.window(frame, FPS), pieces)))


def test_log_mel_comes_near_the_whole_files_once_the_voice_is_known(speech) -> None:
    whole = feature_track(speech, "mel").windows(0, 150, 25, 150)
    make = feature_streams("mel", torch.device("cpu"))
    first, again = mel(speech, make), mel(speech, make)
    # The published encoder's row of 16 steps has a future that 80 ms do not hold; what "conv" reads of it is there.
    read = (slice(None), 4, slice(None), slice(4, 14))

    def error(live: torch.Tensor, frames: slice) -> float:
        return float((live - whole)[read][frames].square().mean().sqrt() / whole[read].std())

    assert error(first, slice(75, None)) < 0.3
    assert error(again, slice(None)) < 0.1 < error(first, slice(0, 25))
    parts = mel(speech, feature_streams("mel", torch.device("cpu")), pieces=5)
    assert torch.allclose(parts, first, atol=1e-4)
    assert not mel(np.zeros(6 * RATE, np.float32), feature_streams("mel", torch.device("cpu"))).any()


def test_features_that_need_the_whole_recording_are_refused() -> None:
    for name in ("phones", "hubert", "deepspeech"):
        with pytest.raises(InputError, match=f"'{name}' .* only mel and hama"):
            feature_streams(name, torch.device("cpu"))


def gate(sound: np.ndarray, pieces: int = 1, look_ahead: int = 1280) -> np.ndarray:
    frames = -(-len(sound) // 640)
    return np.array(
        fed(GateStream(), sound, frames, lambda stream, i: stream.at((i + 0.5) / 25), pieces, look_ahead), np.float64
    )


@pytest.mark.parametrize("noise_db", [None, -45])
def test_the_live_gate_agrees_with_the_whole_files(speech, noise_db: float | None) -> None:
    silence = np.zeros(2 * RATE, np.float32)
    sound = np.concatenate([silence, speech, silence])
    if noise_db is not None:
        noise = np.random.default_rng(0).normal(size=len(sound)) * 10 ** (noise_db / 20)
        sound = (sound + noise).astype(np.float32)
    whole = voice_activity([sound])
    truth = whole.frames(0, 250, 25)
    for look_ahead, missed in ((1280, 0.1), (2560, 0.06)):
        live = gate(sound, look_ahead=look_ahead)
        speaking = whole.speaking[:500].reshape(250, 2).all(1)
        assert (live[speaking] < 0.5).mean() < missed
        # It opens for what may be speech at the very beginning, and closes at most one frame late.
        assert not live[8:45].any() and not live[207:].any()
        assert np.abs(live - truth).mean() < 0.12
    assert np.array_equal(gate(sound, pieces=3), gate(sound))


def test_lips_stay_closed_in_silence_and_noise() -> None:
    rng = np.random.default_rng(1)
    assert not gate(np.zeros(4 * RATE, np.float32)).any()
    noise = (rng.normal(size=6 * RATE) * 10 ** (-40 / 20)).astype(np.float32)
    assert not gate(noise)[8:].any()


def test_gates_of_many_streams_together_are_those_of_each(speech) -> None:
    """Streams that begin at different times, of which some end."""
    sounds = [speech, speech[20000:50000], np.roll(speech, 30000), np.zeros(RATE, np.float32)]

    def gates(together: bool) -> np.ndarray:
        streams, found, fed = [GateStream() for _ in sounds], np.zeros((4, 100)), [0] * 4
        for frame in range(100):
            asked = []
            for number, (stream, sound) in enumerate(zip(streams, sounds, strict=True)):
                end = min(len(sound), max(0, frame - 7 * number) * 640 + 1920)
                stream.push(sound[fed[number] : end])
                if fed[number] < len(sound) == end:
                    stream.finish()
                fed[number] = end
                asked.append((stream, (frame - 7 * number + 0.5) / 25))
            if together:
                know_gates(asked)
                know_gates(asked)
            found[:, frame] = [stream.at(time) for stream, time in asked]
        return found

    alone = gates(together=False)
    assert 0.2 < (alone[:3] > 0.5).mean() < 0.95
    assert np.allclose(gates(together=True), alone, atol=1e-9)


def test_the_gate_forgets_in_constant_memory(speech) -> None:
    stream = GateStream()
    sizes = []
    for number in range(6):
        for begin in range(0, len(speech), 640):
            stream.push(speech[begin : begin + 640])
            stream.at(number * 6.0 + begin / RATE)
        sizes.append(sum(value.nbytes for value in vars(stream).values() if isinstance(value, np.ndarray)))
    assert max(sizes[1:]) <= sizes[0] + 4096


@pytest.mark.parametrize("rates", [(16000, 16000), (24000, 16000), (44100, 48000), (8000, 48000)])
@pytest.mark.parametrize("piece", [1, 333, 10**6])
def test_resampling_does_not_depend_on_pieces(rates: tuple[int, int], piece: int) -> None:
    source, wanted = rates
    time = np.arange(source // 2) / source
    sound = np.sin(2 * np.pi * 440 * time).astype(np.float32)
    stream = LazyResampler(source, wanted)
    taken, begin = [], 0
    while not stream.empty:
        if begin < len(sound):
            stream.push(sound[begin : begin + piece])
            begin += piece
            if begin >= len(sound):
                stream.close()
        while stream.has(960) and not stream.empty:
            taken.append(stream.take(960))
    made = np.concatenate(taken)
    assert len(made) == wanted // 2
    if source == wanted:
        assert np.array_equal(made, sound)
    expected = np.sin(2 * np.pi * 440 * np.arange(len(made)) / wanted)
    middle = slice(len(made) // 8, -len(made) // 8)
    assert np.abs(made - expected)[middle].max() < 1e-3


def test_resampling_waits_until_it_is_asked() -> None:
    stream = LazyResampler(48000, 16000)
    stream.push(np.zeros(48000 * 60, np.float32))
    assert stream.has(640) and len(stream._made) < 2 * 640
