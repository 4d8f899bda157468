"""Phone posteriors: the model's files, the front end, and what they say about real speech."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from emotalking.audio import mel, phones, phones_model
from emotalking.audio.features import extract_features, feature_track
from emotalking.audio.mel import Counted
from emotalking.audio.phones import GAIN
from emotalking.audio.phones_model import SILENT, acoustic_model, read_model
from emotalking.errors import InputError
from emotalking.io.audio import load_audio

SOUND = (np.random.default_rng(5).normal(0, 0.05, 32000) * np.sin(np.arange(32000) / 900) ** 2).astype(np.float32)


def test_model_is_read_whole() -> None:
    model = acoustic_model()
    assert len(model.phones) == 42 and set(SILENT) < set(model.phones)
    # Weights of a state are a distribution over 128 Gaussians, but for the byte that each is stored in.
    assert np.allclose(model.weights.sum(2), 0.95, atol=0.05)
    x = np.random.default_rng(0).normal(0, 5, (4, 39)).astype(np.float32)
    likely = model.posteriors(x)
    assert likely.shape == (4, 42) and np.allclose(likely.sum(1), 1, atol=1e-5)
    # At the mean of a codebook's heaviest Gaussian its own phone is the likeliest by far.
    phone, linear, quadratic = model.phones.index("S"), model.linear, model.quadratic
    heaviest = [128 * phone + int(model.weights[stream, phone, :, 1].argmax()) for stream in range(3)]
    centre = [linear[s][:, g] / (-2 * quadratic[s][:, g]) for s, g in enumerate(heaviest)]
    assert model.phones[int(model.posteriors(np.concatenate(centre)[None]).argmax())] in ("S", "Z")


def test_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no acoustic model"):
        read_model(tmp_path)
    (tmp_path / "feat.params").write_text("-lowerf 130\n-nfilt 40\n")
    with pytest.raises(InputError, match="-nfilt 40"):
        read_model(tmp_path)


def test_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    phones_model.acoustic_model.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install .*emotalking\[phones\]"):
        feature_track(SOUND, "phones")
    phones_model.acoustic_model.cache_clear()


def test_frames_are_centred_on_their_steps() -> None:
    click = np.zeros(16000, np.float32)
    click[8160] = 1.0  # the middle of step 25, between frames 50 and 51
    power = np.concatenate(list(phones.iter_power(Counted([click])))).sum(1)
    assert len(power) == 100
    assert power[50] == pytest.approx(power[51], rel=0.05) and power[:49].max() < 1e-6 < power[49:53].max()


@pytest.mark.parametrize("piece", [333, 5000])
def test_pieces_and_loudness_leave_no_trace(piece: int) -> None:
    whole = feature_track(SOUND, "phones").values[:]
    parts = feature_track((SOUND[i : i + piece] for i in range(0, len(SOUND), piece)), "phones").values[:]
    quiet = feature_track(SOUND * np.float32(0.0316), "phones").values[:]
    assert whole.shape == (100, 39) and whole.min() >= 0 and whole.sum(1).max() <= GAIN + 1e-3
    assert np.abs(whole - parts).max() < 1e-3 and np.abs(whole - quiet).max() < 1e-2


@pytest.mark.parametrize("length", [0, 1, 500])
def test_silence_and_short_sound(length: int) -> None:
    assert not extract_features(np.zeros(16000, np.float32), 25, 25, "phones").any()
    features = extract_features(np.full(length, 0.1, np.float32), 3, 25, "phones")
    assert features.shape == (3, 16, 39) and np.isfinite(features).all()


@pytest.mark.parametrize("name", ["mel", "phones"])
def test_what_is_further_than_the_reach_does_not_count(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    frame, fps = 20, 30
    room = mel if name == "mel" else phones
    edges = (frame / fps - room.REACH_S, frame / fps + room.REACH_S)
    changed = SOUND.copy()
    times = np.arange(len(SOUND)) / 16000
    outside = (times < edges[0] - 1e-4) | (times > edges[1] + 1e-4)
    # Statistics are of the whole recording; held fast, the rest is local.
    kept = {}
    original = room._levels

    def once(*arguments: object) -> object:
        return kept.setdefault("levels", original(*arguments))

    monkeypatch.setattr(room, "_levels", once)
    before = extract_features(SOUND, 40, fps, name)[frame]
    changed[outside] *= -0.3
    after = extract_features(changed, 40, fps, name)[frame]
    assert np.abs(before - after).max() < 1e-4
    inside = SOUND.copy()
    inside[~outside] *= -0.3
    assert np.abs(extract_features(inside, 40, fps, name)[frame] - before).max() > 0.05


@pytest.mark.realdata
def test_words_are_heard_where_they_are_said(real_data: Path) -> None:
    folder, model = real_data / "clips" / "grid_s1", acoustic_model()
    spoken = [phone for phone in model.phones if phone not in SILENT]
    sounds = {
        "blue": "B L UW",
        "red": "R EH D",
        "green": "G R IY N",
        "white": "W AY T",
        "soon": "S UW N",
        "now": "N AW",
    }
    here, elsewhere = [], []
    for align in sorted(folder.glob("*.align"))[:12]:
        values = feature_track(load_audio(align.with_suffix(".mpg")), "phones").values[:] / GAIN
        for line in align.read_text().splitlines():
            begin, end, word = line.split()
            if word in sounds:
                mass = values[:, [spoken.index(phone) for phone in sounds[word].split()]].sum(1)
                steps = slice(int(begin) // 500, int(end) // 500)
                here.append(mass[steps].mean())
                elsewhere.append(mass.mean())
    assert np.mean(here) > 1.8 * np.mean(elsewhere)
