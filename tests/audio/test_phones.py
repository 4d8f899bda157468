"""Phone posteriors: the model's files, the front end, and what they say about real speech."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from emotalking.audio import phones_cepstra, phones_model
from emotalking.audio.features import audio_features
from emotalking.audio.mel import Counted
from emotalking.audio.phones import GAIN, Phones
from emotalking.audio.phones_model import SILENT, acoustic_model, read_model
from emotalking.errors import UserError
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
    with pytest.raises(UserError, match="no acoustic model"):
        read_model(tmp_path)
    (tmp_path / "feat.params").write_text("-lowerf 130\n-nfilt 40\n")
    with pytest.raises(UserError, match="-nfilt 40"):
        read_model(tmp_path)


def test_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    phones_model.acoustic_model.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"pip install .*emotalking\[phones\]"):
        Phones().track([SOUND])
    phones_model.acoustic_model.cache_clear()


def test_frames_are_centred_on_their_steps() -> None:
    click = np.zeros(16000, np.float32)
    click[8160] = 1.0  # the middle of step 25, between frames 50 and 51
    power = np.concatenate(list(phones_cepstra.iter_power(Counted([click])))).sum(1)
    assert len(power) == 100
    assert power[50] == pytest.approx(power[51], rel=0.05) and power[:49].max() < 1e-6 < power[49:53].max()


@pytest.mark.parametrize("piece", [333, 5000])
def test_pieces_and_loudness_leave_no_trace(piece: int) -> None:
    whole = Phones().track([SOUND]).values[:]
    parts = Phones().track(SOUND[i : i + piece] for i in range(0, len(SOUND), piece)).values[:]
    quiet = Phones().track([SOUND * np.float32(0.0316)]).values[:]
    assert whole.shape == (100, 39) and whole.min() >= 0 and whole.sum(1).max() <= GAIN + 1e-3
    assert np.abs(whole - parts).max() < 1e-3 and np.abs(whole - quiet).max() < 1e-2


@pytest.mark.parametrize("length", [0, 1, 500])
def test_silence_and_short_sound(length: int) -> None:
    assert not Phones().extract(np.zeros(16000, np.float32), 25, 25).any()
    features = Phones().extract(np.full(length, 0.1, np.float32), 3, 25)
    assert features.shape == (3, 16, 39) and np.isfinite(features).all()


@pytest.mark.parametrize("name", ["mel", "phones"])
def test_what_is_further_than_the_reach_does_not_count(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = audio_features(name)
    frame, fps = 20, 30
    edges = (frame / fps - kind.reach_s, frame / fps + kind.reach_s)
    changed = SOUND.copy()
    times = np.arange(len(SOUND)) / 16000
    outside = (times < edges[0] - 1e-4) | (times > edges[1] + 1e-4)
    # Statistics are of the whole recording; held fast, the rest is local.
    import emotalking.audio.mel as mel
    import emotalking.audio.phones as phones

    room = mel if name == "mel" else phones
    kept = {}
    original = room._levels

    def once(*arguments: object) -> object:
        return kept.setdefault("levels", original(*arguments))

    monkeypatch.setattr(room, "_levels", once)
    before = kind.extract(SOUND, 40, fps)[frame]
    changed[outside] *= -0.3
    after = kind.extract(changed, 40, fps)[frame]
    assert np.abs(before - after).max() < 1e-4
    inside = SOUND.copy()
    inside[~outside] *= -0.3
    assert np.abs(kind.extract(inside, 40, fps)[frame] - before).max() > 0.05


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
        values = Phones().track([load_audio(align.with_suffix(".mpg"))]).values[:] / GAIN
        for line in align.read_text().splitlines():
            begin, end, word = line.split()
            if word in sounds:
                mass = values[:, [spoken.index(phone) for phone in sounds[word].split()]].sum(1)
                steps = slice(int(begin) // 500, int(end) // 500)
                here.append(mass[steps].mean())
                elsewhere.append(mass.mean())
    assert np.mean(here) > 1.8 * np.mean(elsewhere)
