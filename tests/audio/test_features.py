"""Log-mel features, what all features have in common, and the windows of the audio encoder."""

import importlib
import sys
import types
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soxr
import torch

from emotalking.audio.features import extract_features, feature_track, load_features
from emotalking.audio.mel import CHANNELS, mel_filterbank, mel_spectra
from emotalking.audio.tracks import StepFeatures
from emotalking.audio.windows import audio_windows
from emotalking.data.audio_features import AUDIO_FEATURES, DEFAULT_FEATURE, AudioFeature, audio_feature
from emotalking.data.files import SubjectFiles
from emotalking.errors import InputError
from emotalking.io.audio import load_audio

RNG = np.random.default_rng(0)


def talk(seconds: float = 3.0, rate: int = 16000) -> np.ndarray:
    """Harmonics under a moving formant, in syllables with pauses: enough like speech for level and gate."""
    time = np.arange(round(seconds * rate)) / rate
    syllable = np.clip(np.sin(2 * np.pi * 2.5 * time), 0, None) * (np.sin(2 * np.pi * 0.4 * time) > -0.7)
    formant = 900 + 500 * np.sin(2 * np.pi * 1.1 * time)
    voice = sum(
        np.exp(-(((120 * k - formant) / 700) ** 2)) * np.sin(2 * np.pi * 120 * k * time + k) for k in range(1, 33)
    )
    breath = np.random.default_rng(1).normal(0, 0.03, len(time))
    return (0.05 * syllable * (voice + breath)).astype(np.float32)


def test_filterbank_by_hand() -> None:
    filters = mel_filterbank()
    assert filters.shape == (32, 257)
    # 60 Hz and 7600 Hz are 92.5 and 2789.3 mel; the first centre is one 33rd of the way: 117.7 Hz.
    mel = 92.4904 + (2788.9 - 92.4904) / 33
    centre = 700 * (10 ** (mel / 2595) - 1)
    assert (filters[0] * np.arange(257)).sum() / filters[0].sum() * 31.25 == pytest.approx(centre, abs=16)
    inner = filters[:, 10:200].sum(0)
    assert np.allclose(inner, 1.0, atol=1e-5)


def test_a_tone_lights_its_own_channel() -> None:
    time = np.arange(16000) / 16000
    filters = mel_filterbank()
    for hz in (500.0, 1000.0, 3000.0):
        power = mel_spectra([(0.1 * np.sin(2 * np.pi * hz * time)).astype(np.float32)]).power
        assert power[25:26].argmax() == filters[:, round(hz / 31.25)].argmax()


def test_number_and_place_of_steps() -> None:
    samples = np.zeros(16000, np.float32)
    samples[8000] = 0.9  # step 24 is centred on 7840, step 25 on 8160; both windows see it, 23 and 26 do not
    spectra = mel_spectra([samples])
    assert spectra.power.shape == (50, CHANNELS)
    assert np.flatnonzero(spectra.mean_square > 1e-8).tolist() == [24, 25]


@pytest.mark.parametrize("piece", [1, 7, 319, 320, 5000, 163_840, 10**6])
def test_pieces_leave_no_trace(piece: int) -> None:
    samples = talk(12.0) if piece > 1000 else talk(0.5)
    whole = mel_spectra([samples]).power[:]
    parts = mel_spectra(samples[i : i + piece] for i in range(0, len(samples), piece))
    assert np.array_equal(whole, parts.power[:]) or np.allclose(whole, parts.power[:], rtol=1e-4, atol=1e-9)
    assert parts.num_samples == len(samples)


@pytest.mark.parametrize("frames", [1, 10])
def test_later_sound_gives_later_features(frames: int) -> None:
    samples = talk()
    here = extract_features(samples, 75, 25, "mel")
    there = extract_features(np.concatenate([np.zeros(640 * frames, np.float32), samples]), 75 + frames, 25, "mel")
    assert np.abs(there[frames + 8 :] - here[8:]).max() < 1e-3
    assert not there[0, :8].any()


@pytest.mark.parametrize("level", [0.03, 0.3, 3.0])
def test_level_does_not_matter(level: float) -> None:
    here = extract_features(talk(), 75, 25, "mel")
    assert np.abs(extract_features(talk() * np.float32(level), 75, 25, "mel") - here).max() < 1e-3


@pytest.mark.parametrize("rate", [22050, 44100, 48000])
def test_rate_of_the_file_does_not_matter(rate: int) -> None:
    here = extract_features(talk(), 75, 25, "mel")
    there = extract_features(soxr.resample(soxr.resample(talk(), 16000, rate), rate, 16000)[:48000], 75, 25, "mel")
    assert np.abs(there - here)[..., :24].mean() < 0.05


def test_another_microphone_looks_alike() -> None:
    here = extract_features(talk(), 75, 25, "mel")
    coloured = np.convolve(talk(), [1.0, -0.5, 0.2]).astype(np.float32)[:48000]
    assert np.corrcoef(extract_features(coloured, 75, 25, "mel").ravel(), here.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("noise", [0.0, 1e-6, 1e-4])
def test_silence_is_zero(noise: float) -> None:
    samples = RNG.normal(0, noise, 32000).astype(np.float32) if noise else np.zeros(32000, np.float32)
    assert not extract_features(samples, 50, 25, "mel").any()


def test_pauses_in_noise_are_zero() -> None:
    samples = talk() + RNG.normal(0, talk().std() * 0.02, 48000).astype(np.float32)
    pause = feature_track(samples, "mel").values[:][np.abs(talk()).reshape(-1, 320).max(1) == 0]
    assert len(pause) > 20
    assert np.mean(pause.max(1) == 0) > 0.9
    assert feature_track(samples, "mel").values[:].std() > 0.5


def test_active_speech_has_mean_two_and_deviation_one() -> None:
    values = feature_track(talk(8.0), "mel").values[:]
    active = values[(values > 0).mean(1) > 0.9]
    assert active.mean() == pytest.approx(2.0, abs=0.4)
    assert values.min() == 0 and values.max() < 8


@pytest.mark.parametrize("name", ["mel", DEFAULT_FEATURE])
@pytest.mark.parametrize("length", [0, 1, 100, 320])
def test_very_short_sound(name: str, length: int) -> None:
    features = extract_features(np.full(length, 0.1, np.float32), 3, 25, name)
    assert features.shape == (3, *audio_feature(name).shape) and np.isfinite(features).all()


def test_window_is_centred_on_the_frame() -> None:
    track = feature_track(talk(), "mel")
    features = track.frames(np.arange(75), 25)
    # DeepSpeech's layout: frame i holds the 50 Hz steps 2i-8 .. 2i+7.
    assert np.array_equal(features[20], track.values[32:48])
    assert np.array_equal(features[0, 8:], track.values[:8]) and not features[0, :8].any()
    thirty = track.frames(np.arange(90), 30)
    assert np.allclose(thirty[60], features[50], atol=1e-6)
    assert np.allclose(thirty[3], features[2] * 0.0 + track.frames(np.array([3]), Fraction(30))[0], atol=1e-6)
    # Frame 1 at 30 Hz lies at 1.667 steps: a third of value k, two thirds of value k + 1.
    blend = track.values[:15] / 3 + track.values[1:16] * 2 / 3
    assert np.allclose(thirty[1, 8 - 1 :][:9], blend[:9], atol=1e-5)


def test_windows_by_hand() -> None:
    features = np.arange(10 * 2 * 3, dtype=np.float32).reshape(10, 2, 3)
    windows = audio_windows(torch.from_numpy(features)).numpy()
    assert windows.shape == (10, 8, 3, 2)
    assert np.array_equal(windows[5], features[1:9].transpose(0, 2, 1))
    assert not windows[0, :4].any() and np.array_equal(windows[0, 4], features[0].T)
    assert not windows[9, 5:].any() and np.array_equal(windows[9, 4], features[9].T)
    for frames in (np.arange(3, 9), np.array([7, 2, 2, 9]), np.zeros(0, np.int64)):
        assert np.array_equal(audio_windows(torch.from_numpy(features), frames), windows[frames])


@pytest.mark.parametrize("name", ["mel", DEFAULT_FEATURE])
@pytest.mark.parametrize("fps", [25, 30, Fraction(30000, 1001), 24.0])
def test_lazy_windows_equal_the_whole(name: str, fps: Fraction | float | int) -> None:
    track = feature_track(talk(2.0), name)
    frames = track.num_frames(fps)
    whole = audio_windows(torch.from_numpy(track.frames(np.arange(frames), fps)))
    for start, stop in ((0, 5), (17, 18), (frames - 3, frames)):
        assert np.array_equal(track.windows(start, stop, fps, frames), whole[start:stop])


@pytest.mark.parametrize("name", ["mel", DEFAULT_FEATURE])
@pytest.mark.parametrize(("samples", "fps", "frames"), [(16000, 25, 25), (16001, 25, 26), (8000, 30, 15), (0, 25, 0)])
def test_frames_cover_the_sound(name: str, samples: int, fps: int, frames: int) -> None:
    # One sample too many is 0.0016 frames: it counts.
    assert feature_track(np.zeros(samples, np.float32), name).num_frames(fps) == frames


def test_registry() -> None:
    assert audio_feature(DEFAULT_FEATURE).module == "emotalking.audio.hama"
    for name, feature in AUDIO_FEATURES.items():
        assert feature.name == name and audio_feature(feature.file) is feature
        if feature.module is not None:
            assert callable(importlib.import_module(feature.module).track)
    with pytest.raises(InputError, match="choose one of mel"):
        audio_feature("letters")
    for name in ("deepspeech", "esperanto"):
        with pytest.raises(InputError, match="provide them"):
            extract_features(np.zeros(16000, np.float32), 25, 25, name)


def test_imported_files(tmp_path: Path) -> None:
    values = RNG.normal(size=(20, 16, 29)).astype(np.float32)
    np.save(tmp_path / "a.npy", values)
    track = load_features(tmp_path / "a.npy", "deepspeech", 25)
    assert np.array_equal(track.windows(3, 9, 25, 20), audio_windows(torch.from_numpy(values))[3:9])
    with pytest.raises(InputError, match="for 25 fps"):
        track.num_frames(30)
    np.save(tmp_path / "wrong.npy", values[..., :5])
    with pytest.raises(InputError, match="16, 29"):
        load_features(tmp_path / "wrong.npy", "deepspeech", 25)
    np.save(tmp_path / "code.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="cannot be read"):
        load_features(tmp_path / "code.npy", "deepspeech", 25)


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["hallo_2_16k.wav", "sadtalker_deyu_16k.wav", "sonic_female_english_10s_16k.wav"])
def test_real_speech(real_data: Path, name: str) -> None:
    path = real_data / "speech" / name
    values = feature_track(path, "mel").values[:]
    assert 0.1 < (values == 0).all(1).mean() < 0.4  # the pauses
    assert np.abs(feature_track(load_audio(path) * np.float32(0.1), "mel").values[:] - values).mean() < 0.01


def test_own_features_need_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("loudness")

    def track(chunks: Iterable[np.ndarray], feature: AudioFeature) -> StepFeatures:
        loudness = np.abs(np.concatenate(list(chunks))).reshape(-1, 320).mean(1, keepdims=True)
        return StepFeatures(loudness, feature.rate_hz, feature.steps, 1.0)

    monkeypatch.setattr(module, "track", track, raising=False)
    monkeypatch.setitem(sys.modules, "loudness", module)
    monkeypatch.setitem(AUDIO_FEATURES, "loudness", AudioFeature("loudness", "loud", 4, 1, "loudness"))
    assert extract_features(np.full(16000, 0.5, np.float32), 25, 25, "loudness")[5:20].ravel().tolist() == [0.5] * 60
    assert SubjectFiles(Path("x")).audio_features("loudness").name == "aud_loud.npy"


@pytest.mark.parametrize(("folder", "name"), [("ds", "deepspeech"), ("eo", "esperanto"), ("hu", "hubert")])
def test_features_answer_to_their_name_in_subject_folders(folder: str, name: str) -> None:
    assert audio_feature(folder) is audio_feature(name)
