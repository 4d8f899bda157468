"""The states of hama's network: its file, agreement with its own engine, whole files, pieces and streams."""

import importlib
import importlib.metadata
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from emotalking.audio import hama
from emotalking.audio.features import extract_features, feature_track
from emotalking.audio.hama_model import (
    STRIDE,
    WIDTH,
    hama_network,
    parse_tensors,
    read_network,
    weight_file,
)
from emotalking.audio.streams import feature_streams, live_windows, resolved
from emotalking.errors import InputError, MissingModelError

RNG = np.random.default_rng(3)


def _present() -> bool:
    try:
        return weight_file().is_file()
    except MissingModelError:
        return False


needs_hama = pytest.mark.skipif(not _present(), reason="the package hama is not installed")


def talk(seconds: float) -> np.ndarray:
    """Syllables of harmonics, noise between."""
    t = np.arange(int(seconds * 16000)) / 16000
    pitch = np.cumsum(110 + 30 * np.sin(2 * np.pi * 0.7 * t)) / 16000
    voice = sum(np.sin(2 * np.pi * k * pitch) / k for k in range(1, 20))
    loud = np.maximum(0.0, np.sin(2 * np.pi * 2.3 * t)) ** 2
    return (0.1 * loud * voice + 1e-3 * np.random.default_rng(0).normal(size=len(t))).astype(np.float32)


def packed(entries: list[tuple[str, np.ndarray]], *, type_: int = 0) -> bytes:
    """A weight file."""
    head, data = b"HAMAPK\x01\x02" + struct.pack("<I", len(entries)), b""
    for name, value in entries:
        encoded = name.encode()
        head += struct.pack("<H", len(encoded)) + encoded + struct.pack("<BB", type_, value.ndim)
        head += struct.pack(f"<{value.ndim}I", *value.shape) + struct.pack("<QQ", len(data), value.nbytes)
        data += value.tobytes()
    return head + bytes(-len(head) % 16) + data


def test_tensors_are_read_by_name_and_type() -> None:
    value = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensors = parse_tensors(packed([("a", value), ("b", value + 1)]))
    assert np.array_equal(tensors["a"], value) and np.array_equal(tensors["b"], value + 1)
    assert np.array_equal(parse_tensors(packed([("h", value.astype(np.float16))], type_=1))["h"], value)


@needs_hama
def test_another_file_is_one_sentence(tmp_path: Path) -> None:
    content = bytearray(weight_file().read_bytes())
    content[-1] ^= 1
    (tmp_path / "other.hama").write_bytes(content)
    with pytest.raises(
        InputError, match=r"is not the file of hama 1\.7\.0: install it with 'pip install hama==1\.7\.0'"
    ):
        read_network(tmp_path / "other.hama")
    with pytest.raises(InputError, match="cannot be read"):
        read_network(tmp_path / "none.hama")


def test_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    hama_network.cache_clear()
    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(MissingModelError, match=r"pip install hama==1\.7\.0"):
        feature_track(talk(1.0), "hama")
    hama_network.cache_clear()


@needs_hama
def test_posteriors_are_those_of_its_own_engine() -> None:
    engine = importlib.import_module("hama._engine")
    sound = talk(2.0)
    theirs = engine.AsrSession(weight_file().read_bytes()).run(["log_probs"], {"waveform": sound})[0][0]
    ours = hama_network().log_posteriors(torch.from_numpy(sound)[None])[0].numpy()
    error = np.abs(np.exp(theirs) - np.exp(ours))
    # The engine's own arithmetic is approximate: ours in double precision differs from it as much, from itself by 1e-6.
    assert theirs.shape == ours.shape and error.mean() < 1e-5 and error.max() < 2e-3


@needs_hama
def test_network_is_frozen_and_leaves_the_random_state() -> None:
    before = torch.get_rng_state()
    network = read_network(weight_file())
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(p.requires_grad for p in network.parameters())


@needs_hama
def test_silence_and_the_time_outside_are_zero() -> None:
    features = extract_features(np.zeros(16000 * 6, np.float32), 160, 25, "hama")
    assert features.shape == (160, 2, WIDTH) and features.dtype == np.float32
    assert np.sqrt((features[60:90] ** 2).mean()) < 0.15
    assert not features[152:].any()
    assert extract_features(talk(6.0), 150, 25, "hama")[60:90].std() > 0.3


@needs_hama
def test_steps_of_a_frame_lie_within_it() -> None:
    # Frame i is shown from 40 i ms to 40 (i + 1): steps 2i and 2i + 1, each 20 ms.
    track = feature_track(talk(3.0), "hama")
    values = track.values[:]
    assert np.allclose(track.frames(np.arange(40, 50), 25).reshape(-1, WIDTH), values[80:100])
    states = hama_network().states(torch.from_numpy(talk(3.0))[None])[0]
    silent = hama._silence("cpu")
    assert np.allclose(values[40], ((states[40] + states[41]) / 2 - silent).numpy(), atol=1e-5)


@needs_hama
@pytest.mark.parametrize("piece", [777, 40000, 320 * 1100])
def test_chunks_leave_no_trace(monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(hama, "PIECE", 100)
    sound = talk(13.0)
    whole = feature_track(sound, "hama").values[:]
    parts = feature_track((sound[i : i + piece] for i in range(0, len(sound), piece)), "hama").values[:]
    assert whole.shape == parts.shape == (650, WIDTH)
    assert np.allclose(whole, parts, atol=1e-5)


@needs_hama
def test_pieces_agree_with_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = talk(13.0)
    whole = feature_track(sound, "hama").values[:]
    monkeypatch.setattr(hama, "PIECE", 300)
    pieces = feature_track(sound, "hama").values[:]
    assert np.sqrt(((pieces - whole) ** 2).mean()) < 0.25 * whole.std()


@needs_hama
def test_level_is_not_normalised_and_other_devices_agree() -> None:
    sound = talk(3.0)
    here = feature_track(sound, "hama").values[:]
    quiet = feature_track(sound * np.float32(0.1), "hama").values[:]
    assert np.corrcoef(here.ravel(), quiet.ravel())[0, 1] > 0.8
    if torch.cuda.is_available():
        there = hama_network("cuda").states(torch.from_numpy(sound)[None].cuda()).cpu()
        assert torch.allclose(there, hama_network().states(torch.from_numpy(sound)[None]), atol=2e-3)


@needs_hama
@pytest.mark.parametrize("length", [0, 1, 150, 319, 320, 321, 4800])
def test_very_short_sound(length: int) -> None:
    track = feature_track(talk(1.0)[:length], "hama")
    assert len(track.values) == -(-length // STRIDE) and np.isfinite(track.values[:]).all()
    stream = feature_streams("hama", torch.device("cpu"))()
    stream.push(talk(1.0)[:length])
    stream.finish()
    [window] = resolved([stream.window(0, Fraction(25))])
    assert window.isfinite().all()


@needs_hama
def test_last_states_of_many_sounds_are_those_of_each() -> None:
    network, sound = hama_network(), talk(3.0)
    sounds = [sound[:16000], sound[3200:40000], sound[: 2 * STRIDE]]
    together = network.last_states(sounds, 12)
    for one, states in zip(sounds, together, strict=True):
        whole = network.states(torch.from_numpy(one)[None])[0]
        kept = min(12, len(whole))
        assert torch.allclose(states[-kept:], whole[-kept:], atol=2e-4)


@needs_hama
def test_live_sounds_of_all_lengths_have_few_shapes() -> None:
    """What oneDNN compiles for a shape stays in memory."""
    network, sound = hama_network(), talk(2.0)
    seen: dict[torch.nn.Module, set[torch.Size]] = {}

    def note(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], _: object) -> None:
        seen.setdefault(module, set()).add(inputs[0].shape)

    hooks = [one.register_forward_hook(note) for one in network.modules() if isinstance(one, torch.nn.Conv1d)]
    for steps in range(2, 101):
        assert network.last_states([sound[: steps * STRIDE]], 8 + steps % 12).shape[1] == 8 + steps % 12
    for hook in hooks:
        hook.remove()
    assert len(seen) >= 7
    assert max(map(len, seen.values())) <= 4


@needs_hama
def test_windows_of_all_who_listen_are_computed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Players that each make streams of their own, as the sessions of a server do."""
    sound, calls = talk(2.0), []
    ask = type(hama_network()).last_states
    monkeypatch.setattr(type(hama_network()), "last_states", lambda self, *a: calls.append(len(a[0])) or ask(self, *a))
    windows = []
    for number in range(3):
        stream = feature_streams("hama", torch.device("cpu"))()
        stream.push(sound[number * 3200 :])
        windows.append(stream.window(20, Fraction(25)))
    assert len(resolved(windows)) == 3
    assert calls == [3]


@needs_hama
@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001)])
def test_live_windows_depend_on_the_sound_so_far_alone(fps: Fraction) -> None:
    make, sound = feature_streams("hama", torch.device("cpu")), talk(4.0)
    whole = feature_track(sound, "hama").windows(0, 90, fps, 90)
    at_once, piecewise = make(), make()
    fed, windows = 0, []
    for frame in range(90):
        need = min(len(sound), int((frame + 1) / fps * 16000) + 1280)
        at_once.push(sound[fed:need])
        for piece in np.array_split(sound[fed:need], 7):
            piecewise.push(piece)
        fed = need
        pair = [stream.window(frame, fps) for stream in (at_once, piecewise)]
        windows.append(resolved(pair[:1])[0])
        assert torch.equal(windows[-1], resolved(pair[1:])[0])
    heard = torch.stack(windows)
    # What the encoder reads is known, if not as well as with all of the future, and the time before the sound is zero.
    error = (heard[:, 1:7] - whole[:, 1:7]).square().mean().sqrt() / whole.std()
    assert error < 0.5
    assert torch.equal(heard[:3, :4] == 0, whole[:3, :4] == 0)


@needs_hama
def test_live_windows_after_the_end_of_the_sound_are_zero() -> None:
    """A clip whose sound ends before its images do."""
    fps, streams = Fraction(25), feature_streams("hama", torch.device("cpu"))
    windows = live_windows(talk(1.0), np.array([10, 20, 40, 60]), fps, 80, streams)
    assert [bool(window.any()) for window in windows] == [True, True, False, False]
    assert torch.equal(live_windows(talk(1.0), np.array([200]), fps, 80, streams), torch.zeros_like(windows[:1]))
