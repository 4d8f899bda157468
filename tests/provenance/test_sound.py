"""The mark in speech, by a stand-in for resemble-perth, which has the real one's way with lengths."""

import importlib.util
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from emotalking import api
from emotalking.io.audio import load_audio
from emotalking.provenance import sound
from emotalking.provenance.sound import mark_speech

NAME = "perth.perth_net.perth_net_implicit.perth_watermarker"


class StandIn:
    """Adds a tone, and cuts to whole steps, as the real network does; refuses what is shorter than its window."""

    pieces: list[int] = []

    def apply_watermark(self, signal: np.ndarray, sample_rate: int) -> np.ndarray:
        assert sample_rate == 16000 and signal.dtype == np.float32 and len(signal) > 2048
        self.pieces.append(len(signal))
        whole = signal[: len(signal) // 160 * 160]
        return whole + np.float32(0.01) * np.sin(np.arange(len(whole)) * 0.9)


@pytest.fixture
def perth(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[StandIn]]:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name == "perth" else found(name))
    parts = NAME.split(".")
    for count in range(1, len(parts) + 1):
        monkeypatch.setitem(sys.modules, ".".join(parts[:count]), ModuleType(".".join(parts[:count])))
    sys.modules[NAME].PerthImplicitWatermarker = StandIn
    sound._marker.cache_clear()
    StandIn.pieces.clear()
    yield StandIn
    sound._marker.cache_clear()


@pytest.mark.parametrize("length", (0, 1, 100, 1600, 16001, 16159))
def test_lengths_are_kept(length: int, perth: type[StandIn]) -> None:
    samples = np.full(length, 0.25, np.float32)
    marked = mark_speech(samples)
    assert marked.shape == samples.shape and marked.dtype == np.float32
    assert not length or np.abs(marked - samples).max() <= 0.0101
    assert length < 100 or np.abs(marked - samples).max() > 0.009


def test_long_speech_is_marked_in_pieces_without_a_step_between(
    perth: type[StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sound, "_PIECE", 16000)
    samples = (0.2 * np.sin(np.arange(40000) / 50)).astype(np.float32)
    marked = mark_speech(samples)
    assert len(perth.pieces) == 3 and max(perth.pieces) < 16000 + sound._FADE + 2 * sound._STEP
    assert np.abs(marked - samples).max() <= 0.0101
    assert np.abs(np.diff(marked)).max() < 0.02


def test_without_the_package_speech_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    sound._marker.cache_clear()
    samples = np.full(5000, 0.25, np.float32)
    assert np.array_equal(mark_speech(samples), samples)
    sound._marker.cache_clear()


def test_a_package_that_cannot_be_loaded_is_told_once(
    perth: type[StandIn], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, NAME, None)
    samples = np.full(5000, 0.25, np.float32)
    with caplog.at_level(logging.WARNING, "emotalking"):
        assert np.array_equal(mark_speech(samples), samples) and np.array_equal(mark_speech(samples), samples)
    assert len(caplog.records) == 1 and "resemble-perth" in caplog.text


@pytest.mark.usefixtures("perth")
def test_synthesised_speech_is_marked_and_a_persons_is_not(tmp_path: Path) -> None:
    clean = api.synthesize("Good morning.", tmp_path / "off.wav", speaker="hibari", provenance="off")
    made = api.synthesize("Good morning.", tmp_path / "on.wav", speaker="hibari")
    assert np.array_equal(made.samples, clean.samples)  # what the lips follow
    off, on = load_audio(tmp_path / "off.wav"), load_audio(tmp_path / "on.wav")
    assert 0.008 < np.abs(on - off).max() < 0.012
    folder = tmp_path / "voice"
    folder.mkdir()
    (tmp_path / "off.wav").rename(folder / "hello.wav")
    api.synthesize("hello", tmp_path / "person.wav", speaker=folder)
    assert np.array_equal(load_audio(tmp_path / "person.wav"), off)
