"""The speech gate: silent in what is no speech, open in speech, soft between, the same however the sound is cut."""

import numpy as np
import pytest
from scipy.signal import butter, sosfilt

from emotalking.audio import vad
from emotalking.audio.vad import CLOSES_S, OPENS_S, STEP_S, VoiceActivity, voice_activity
from emotalking.io.audio import SAMPLE_RATE, load_audio, resample
from emotalking.testing.actor.performance import Performance
from emotalking.testing.actor.speech import PAUSE

SECONDS = 6.0
COUNT = round(SECONDS * SAMPLE_RATE)
TIME = np.arange(COUNT) / SAMPLE_RATE


def at_db(samples: np.ndarray, level: float) -> np.ndarray:
    return (samples / np.sqrt((samples**2).mean()) * 10 ** (level / 20)).astype(np.float32)


def noise(seed: int = 0, colour: float = 0.0) -> np.ndarray:
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(size=COUNT))
    hz = np.maximum(np.fft.rfftfreq(COUNT, 1 / SAMPLE_RATE), 20)
    return np.fft.irfft(spectrum / hz**colour, COUNT)


def hum() -> np.ndarray:
    harmonics = np.arange(1, 14)[:, None]
    return (np.sin(2 * np.pi * 50 * harmonics * TIME + harmonics) / harmonics).sum(0) + 0.01 * noise()


def breathing() -> np.ndarray:
    breaths = sosfilt(butter(2, [400, 3000], "bandpass", fs=SAMPLE_RATE, output="sos"), noise(1))
    return breaths * np.clip(np.sin(2 * np.pi * 0.45 * TIME), 0, None) ** 1.2 + 0.003 * noise(2, 0.5)


def chords(beat: float = 0.6) -> np.ndarray:
    made, rng = np.zeros(COUNT + SAMPLE_RATE), np.random.default_rng(3)
    for start in np.arange(0, SECONDS, beat):
        root = 110 * 2 ** (rng.choice([0, 2, 4, 5, 7]) / 12)
        time = np.arange(round(beat * SAMPLE_RATE)) / SAMPLE_RATE
        for ratio in (1.0, 1.26, 1.5):
            tone = sum(
                np.sin(2 * np.pi * root * ratio * k * time) / k * np.exp(-time * (1 + k / 2)) for k in range(1, 9)
            )
            made[round(start * SAMPLE_RATE) :][: len(tone)] += tone
    return made[:COUNT]


def drums() -> np.ndarray:
    made, rng, time = np.zeros(COUNT + SAMPLE_RATE), np.random.default_rng(4), np.arange(4800) / SAMPLE_RATE
    for index, start in enumerate(np.arange(0, SECONDS, 0.25)):
        hit = 0.2 * np.diff(rng.normal(size=4800), prepend=0) * np.exp(-60 * time)
        if index % 4 == 0:
            hit = hit + 2.5 * np.sin(2 * np.pi * (50 * time + 3 * (1 - np.exp(-30 * time)))) * np.exp(-14 * time)
        if index % 4 == 2:
            hit = hit + (rng.normal(size=4800) + np.sin(2 * np.pi * 185 * time)) * np.exp(-22 * time)
        made[round(start * SAMPLE_RATE) :][:4800] += hit
    return made[:COUNT]


@pytest.fixture(scope="module")
def talk() -> Performance:
    return Performance.generate(SECONDS, seed=5)


def truth(script: Performance) -> np.ndarray:
    """True where the actor speaks, step by step."""
    middle = (np.arange(round(SECONDS / STEP_S)) + 0.5) * STEP_S
    ends = np.array([segment.end for segment in script.segments])
    return np.array([script.segments[i].phoneme != PAUSE for i in np.searchsorted(ends, middle)])


@pytest.mark.parametrize(
    "sound",
    [
        np.zeros(COUNT),
        np.full(COUNT, 0.4),
        at_db(noise(), -40),
        at_db(noise(1, 0.5), -30),
        at_db(noise(2, 1.0), -55),
        at_db(hum(), -25),
        at_db(breathing(), -35),
        at_db(chords(), -20),
        at_db(drums(), -20),
    ],
    ids=["digital", "offset", "white", "pink", "room", "hum", "breathing", "chords", "drums"],
)
def test_no_speech_no_opening(sound: np.ndarray) -> None:
    track = voice_activity([sound.astype(np.float32)])
    assert len(track.speaking) == round(SECONDS / STEP_S)
    assert not track.speaking.any()
    assert not track.frames(0, 150, 25).any()


@pytest.mark.parametrize("level", [-60, -20, -3])
@pytest.mark.parametrize("background", [None, 20])
def test_speech_at_any_loudness(talk: Performance, level: int, background: int | None) -> None:
    sound = at_db(talk.waveform, level)
    if background is not None:
        sound = sound + at_db(noise(7, 0.5), level - background)
    found, spoken = voice_activity([np.clip(sound, -1, 1)]).speaking, truth(talk)
    assert found[spoken].mean() > 0.9
    long_pauses = [s for s in talk.segments if s.phoneme == PAUSE and s.end - s.start > 0.35]
    assert long_pauses
    for pause in long_pauses:
        middle = 0.5 * (pause.start + pause.end)
        assert not found[int(middle / STEP_S)]


@pytest.mark.parametrize("rate", [8000, 11025])
def test_telephone_bands_are_enough(talk: Performance, rate: int) -> None:
    narrow = resample(resample(talk.waveform, SAMPLE_RATE, rate), rate, SAMPLE_RATE)
    found, spoken = voice_activity([narrow]).speaking, truth(talk)
    assert found[: len(spoken)][spoken[: len(found)]].mean() > 0.9


def test_a_closure_is_no_pause(talk: Performance) -> None:
    """Gaps below 0.2 s stay speech, gaps of 0.5 s do not."""
    pauses = np.array([(s.start, s.end) for s in talk.segments if s.phoneme == PAUSE])
    longest = (pauses[1:, 0] - pauses[:-1, 1]).argmax()
    voiced = float(pauses[longest, 1] + pauses[longest + 1, 0]) / 2
    at = round(voiced * SAMPLE_RATE)
    for seconds, bridged in ((0.1, True), (0.5, False)):
        hole = np.zeros(round(seconds * SAMPLE_RATE), np.float32)
        found = voice_activity([np.concatenate([talk.waveform[:at], hole, talk.waveform[at:]])])
        assert found.speaking[round((voiced + seconds / 2) / STEP_S)] == bridged


def test_cutting_and_blocks_leave_no_trace(talk: Performance, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = np.concatenate([talk.waveform, at_db(chords(), -25), 0.1 * talk.waveform, np.zeros(COUNT, np.float32)])
    whole = voice_activity([sound]).speaking
    assert 0.2 < whole.mean() < 0.8
    assert np.array_equal(voice_activity(np.array_split(sound, 97)).speaking, whole)
    monkeypatch.setattr(vad, "_BLOCK", 500)
    assert np.array_equal(voice_activity(np.array_split(sound, 13)).speaking, whole)


def test_no_more_is_listened_to_than_was_asked_for(talk: Performance) -> None:
    given = []

    def second_by_second():
        for second in range(150):
            given.append(second)
            yield talk.waveform[:SAMPLE_RATE]

    track = voice_activity(second_by_second())
    assert not given
    early = track.frames(0, 50, 25)
    assert 2 < len(given) < 60
    middle = track.frames(1000, 1010, 25)
    assert len(given) < 120
    whole = track.speaking
    assert len(given) == 150 and len(whole) == 7500
    assert np.array_equal(track.frames(0, 50, 25), early) and np.array_equal(track.frames(1000, 1010, 25), middle)


def test_edges_are_soft_and_in_time() -> None:
    speaking = np.zeros(200, bool)
    speaking[100:130] = True
    begin, end = 100 * STEP_S, 130 * STEP_S
    times = np.arange(0, 4, 0.002)
    gate = VoiceActivity([speaking]).at(times)
    assert gate.dtype == np.float32 and gate.min() == 0 and gate.max() == 1
    assert (gate[(times > begin - OPENS_S[1] + 0.01) & (times < end + CLOSES_S[0] - 0.01)] > 0.999).all()
    assert not gate[(times < begin - OPENS_S[0] - 0.01) | (times > end + CLOSES_S[1] + 0.01)].any()
    assert np.abs(np.diff(gate)).max() < 0.03  # 2 ms of a ramp of 180 ms, at its steepest


@pytest.mark.parametrize("count", [0, 1, 2, 319, 321, 1281])
def test_hardly_any_sound(count: int) -> None:
    track = voice_activity([np.full(count, 0.1, np.float32)])
    assert len(track.speaking) == -(-count // 320)
    assert track.frames(0, 3, 25).tolist() == [0, 0, 0]


@pytest.mark.realdata
def test_words_of_the_grid_corpus(real_data) -> None:
    """Recall and precision against the corpus's own word times, +-100 ms at the edges left out."""
    counts = np.zeros((2, 2))
    for clip in sorted((real_data / "clips" / "grid_s1").glob("*.mpg"))[:8]:
        found = voice_activity([load_audio(clip)])
        for line in clip.with_suffix(".align").read_text().splitlines():
            begin, end, word = line.split()
            times = np.arange(int(begin) / 25000 + 0.1, int(end) / 25000 - 0.1, STEP_S)
            steps = (times[times < len(found.speaking) * STEP_S] / STEP_S).astype(int)
            said = int(word not in ("sil", "sp"))
            counts[said] += np.bincount(found.speaking[steps].astype(int), minlength=2)
    assert counts[1, 1] / counts[1].sum() > 0.97  # measured 1.00
    assert counts[0, 0] / counts[0].sum() > 0.93  # measured 0.97
