"""The clock of a subject: true rates, exact rationals, parts, sound in step, damage."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from emotalking.audio.features import write_features
from emotalking.errors import InputError
from emotalking.io.audio import SoundSpan, load_audio, save_wav
from emotalking.io.video import decode_frames
from emotalking.io.video_stream import Damage
from emotalking.preprocess.cadence import common_rate, find_cadence, parse_rate
from emotalking.preprocess.scan import Scan, scan_clip
from emotalking.preprocess.timeline import Timeline, clock_warnings, lay_out

from .clips import number_of, write_clip


def stored_changes(true: Fraction, stored: Fraction, seconds: float, seed: int = 0, repeat: float = 0.3) -> np.ndarray:
    """Changes of a clip of ``true`` pictures a second stored at ``stored``; repeats change ``repeat`` times as much."""
    rng = np.random.default_rng(seed)
    count = int(seconds * stored)
    source = np.floor(np.arange(count) * float(true / stored) + 0.4).astype(int)
    mood = np.exp(np.cumsum(rng.normal(0, 0.05, count)))
    own = mood * rng.lognormal(0, 0.6, count)
    change = np.where(np.diff(source, prepend=-1) > 0, own, repeat * mood * rng.lognormal(0, 0.4, count))
    change[0] = 0
    return change


def picture(number: int, size: int = 64) -> np.ndarray:
    """Shows its number as ``clips.number_of`` reads it, with something that moves in one half."""
    image = np.full((size, size, 3), 30 + 20 * (number // 10), np.uint8)
    image[:, size // 2 :] = 30 + 20 * (number % 10)
    return image


@pytest.mark.parametrize(
    ("true", "stored"),
    [
        (Fraction(25), Fraction(30)),
        (Fraction(25), Fraction(60)),
        (Fraction(25), Fraction(30000, 1001)),
        (Fraction(24000, 1001), Fraction(30000, 1001)),
        (Fraction(25, 2), Fraction(25)),
        (Fraction(10), Fraction(30)),
    ],
)
def test_the_true_rate_is_found(true: Fraction, stored: Fraction) -> None:
    change = stored_changes(true, stored, 30)
    found = find_cadence(change, stored)
    assert found is not None and found.rate == true
    truth = np.floor(np.arange(len(change)) * float(true / stored) + 0.4).astype(int)
    # The sources may be counted from another number; a phase between the grid's shifts single borders by a slot.
    assert np.mean(np.diff(found.sources) == np.diff(truth)) > 0.97
    steps = np.diff(found.times[np.flatnonzero(np.diff(found.sources)) + 1])
    assert np.allclose(steps, float(stored / true), atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_a_clip_of_its_own_pictures_stays(seed: int) -> None:
    for stored in (Fraction(25), Fraction(30)):
        assert find_cadence(stored_changes(stored, stored, 60, seed), stored) is None


def test_an_edit_changes_the_phase() -> None:
    change = stored_changes(Fraction(25), Fraction(30), 60)
    edited = np.concatenate([change[:900], change[903:]])
    found = find_cadence(edited, Fraction(30))
    assert found is not None
    repeated = np.flatnonzero(np.diff(found.sources) == 0) + 1
    truth = np.diff(np.floor(np.arange(len(change)) / 1.2 + 0.4), prepend=-1) == 0
    wanted = np.flatnonzero(np.concatenate([truth[:900], truth[903:]]))
    assert len(set(repeated) ^ set(wanted)) <= 6


def test_repeats_leave_a_stored_clip(tmp_path: Path) -> None:
    shown = [picture(i * 5 // 6) for i in range(114)]
    clip = write_clip(tmp_path / "a.mp4", shown, 30)
    timeline = lay_out(scan_clip(clip, tmp_path), Fraction(25))
    assert timeline.facts["true_fps"] == "25"
    assert timeline.facts["stored_fps"] == "30"
    assert timeline.facts["unevenness_ms"] < 0.01
    assert [number_of(image) for image in timeline.read(clip)] == list(range(95))


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001)])
def test_no_drift_over_an_hour(fps: Fraction) -> None:
    count = 30 * 3600
    stamps = 3.2 + np.round(np.arange(count) * 1001 / 30) / 1000  # whole milliseconds, as in Matroska
    seen = Scan(stamps, np.random.default_rng(0).lognormal(0, 0.5, count), Damage())
    timeline = lay_out(seen, fps)
    assert timeline.facts["true_fps"] == "30000/1001"
    due = seen.times[0] + np.arange(len(timeline.source)) / float(fps)
    assert np.abs(seen.times[timeline.source] - due)[:-1].max() < 0.5 * 1001 / 30000 + 0.0011
    assert len(timeline.source) == pytest.approx(count * 1001 / 30000 * fps, abs=1)
    if fps == Fraction(30000, 1001):
        assert np.array_equal(timeline.source, np.arange(count))


def test_own_rate_is_asked_for_by_none() -> None:
    seen = Scan(np.arange(300) / 30.0, np.ones(300), Damage())
    assert lay_out(seen, None).fps == 30


def test_unsteady_stamps_take_the_nearest_picture() -> None:
    times = np.cumsum(np.random.default_rng(0).uniform(0.02, 0.06, 600))
    timeline = lay_out(Scan(times, np.ones(600), Damage()), Fraction(25))
    due = timeline.begin_s + np.arange(len(timeline.source)) / 25
    assert np.abs(times[timeline.source] - due)[:-1].max() <= 0.03
    assert not timeline.facts["steady"]
    assert timeline.facts["unevenness_ms"] > 5


def test_part_and_sound_limit_the_frames() -> None:
    seen = Scan(0.4 + np.arange(500) / 25, np.ones(500), Damage())
    timeline = lay_out(seen, Fraction(25), part=(4.0, 10.0))
    assert (timeline.source[0], len(timeline.source)) == (100, 150)
    assert timeline.begin_s == pytest.approx(4.4)
    short = SoundSpan(1.4, 15.4)
    timeline = lay_out(seen, Fraction(25), sound=(short.begin, short.end))
    assert timeline.facts["part_s"] == [1.0, 15.0]
    said = clock_warnings(Path("clip.mp4"), seen, short, timeline)
    assert "the sound begins 1.0 s after the first frame" in said[0]
    assert "the sound ends at 15.0 s" in said[1]
    whole = lay_out(seen, Fraction(25), sound=(0.4 + 0.3, 20.0))
    assert len(whole.source) == 500


def test_rates_are_exact() -> None:
    assert parse_rate("29.97") == parse_rate(29.97) == Fraction(30000, 1001)
    assert parse_rate("30000/1001") == Fraction(30000, 1001)
    assert parse_rate(25) == 25
    assert common_rate(59.94006) == Fraction(60000, 1001)
    for wrong in ("0", "x", "1/0", "500", "-25"):
        with pytest.raises(InputError, match="a frame rate from 10 to 120"):
            parse_rate(wrong)


def test_a_timeline_reads_back(tmp_path: Path) -> None:
    timeline = Timeline(Fraction(30000, 1001), 0.3, np.arange(5), {})
    timeline.save(tmp_path / "clock.npz")
    again = Timeline.load(tmp_path / "clock.npz")
    assert (again.fps, again.begin_s) == (timeline.fps, timeline.begin_s)
    assert np.array_equal(again.source, timeline.source)
    few = again.every(2)
    assert (few.fps, few.begin_s, few.source.tolist()) == (Fraction(15000, 1001), 0.3, [0, 2, 4])


def test_a_scan_reads_back(tmp_path: Path) -> None:
    sound = SoundSpan(0.2, 9.5, [1.5])
    scan = Scan(np.arange(5) / 25, np.ones(5), Damage([0.1], [0.2], 7.0), sound, (90, 160))
    scan.save(tmp_path / "scan.npz")
    again = Scan.load(tmp_path / "scan.npz")
    assert (again.damage, again.sound, again.size) == (scan.damage, scan.sound, scan.size)
    assert np.array_equal(again.times, scan.times) and np.array_equal(again.change, scan.change)


def test_a_clip_that_was_changed_is_noticed(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", [picture(i) for i in range(20)])
    with pytest.raises(InputError, match="ends after 20 of 30 frames"):
        list(Timeline(Fraction(25), 0.0, np.arange(30), {}).read(clip))


def corrupt(clip: Path, first: int, count: int, kind: str = "video") -> None:
    """Overwrite some packets of a clip with noise."""
    with av.open(str(clip)) as container:
        stream = getattr(container.streams, kind)[0]
        places = [(p.pos, p.size) for p in container.demux(stream) if p.size and p.pos is not None]
    data = bytearray(clip.read_bytes())
    rng = np.random.default_rng(0)
    for place, size in places[first : first + count]:
        data[place : place + size] = rng.integers(0, 256, size, dtype=np.uint8).tobytes()
    clip.write_bytes(data)


def test_damaged_packets_are_bridged_and_told(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", [picture(i) for i in range(90)])
    corrupt(clip, 40, 3)
    seen = scan_clip(clip, tmp_path)
    assert np.round(np.array(seen.damage.lost) * 25).astype(int).tolist() == [40, 41, 42]
    timeline = lay_out(seen, Fraction(25))
    assert len(timeline.source) == 90
    shown = [number_of(image) for image in timeline.read(clip)]
    assert shown[:40] == list(range(40))
    assert abs(shown[41] - 41) <= 2
    said = clock_warnings(clip, seen, SoundSpan(0.0, 3.6), timeline)
    assert said[0].startswith("3 damaged frames are bridged at 1.6 s")


def test_a_hole_is_measured() -> None:
    times = np.delete(np.arange(400) / 25, slice(100, 140))
    facts = lay_out(Scan(times, np.ones(360), Damage()), Fraction(25)).facts
    assert facts["longest_hold_s"] == pytest.approx(41 / 25)
    assert facts["longest_hold_at_s"] == pytest.approx(99 / 25)


def test_a_damaged_beginning_is_left_out(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", [picture(i) for i in range(60)], keyframe_every=20)
    corrupt(clip, 0, 5)
    damage = Damage()
    times = [time for time, _ in decode_frames(clip, damage)]
    assert len(damage.lost) + len(times) == 60
    assert times[0] == pytest.approx(0.8)
    seen = scan_clip(clip, tmp_path)
    said = clock_warnings(clip, seen, SoundSpan(0.0, 2.4), lay_out(seen, Fraction(25)))
    assert "its first 0.8 s are damaged" in said[0]


def click_clip(path: Path, sound_s: float = 0.0, picture_s: float = 0.0, rate: int = 48000) -> Path:
    """3 s of dark pictures; at frame 50 a flash and a click, both streams shifted by their start."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"crf": "4", "preset": "ultrafast"})
        video.width = video.height = 64
        video.pix_fmt = "yuv444p"
        video.codec_context.time_base = Fraction(1, 1000)
        audio = container.add_stream("aac", rate=rate, layout="mono")
        for index in range(75):
            image = np.full((64, 64, 3), 230 if index == 50 else 20 + index, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round(1000 * picture_s) + 40 * index, Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        tone = np.random.default_rng(1).normal(0, 1e-3, int((picture_s + 3 - sound_s) * rate)).astype(np.float32)
        at = round((picture_s + 2.0 - sound_s) * rate)
        tone[at : at + 100] = 0.9
        for begin in range(0, len(tone), 1024):
            sound = av.AudioFrame.from_ndarray(tone[None, begin : begin + 1024], format="fltp", layout="mono")
            sound.sample_rate, sound.time_base = rate, Fraction(1, rate)
            sound.pts = begin + round(sound_s * rate)
            container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    return path


def flash_and_click(clip: Path, tmp_path: Path, late_s: float = 0.0) -> tuple[float, float]:
    """Seconds of the flash among the frames and of the click in ``aud.wav``."""
    seen = scan_clip(clip, tmp_path)
    assert seen.sound is not None
    timeline = lay_out(seen, Fraction(25), sound=(seen.sound.begin, seen.sound.end))
    bright = [float(image.mean()) for image in timeline.read(clip)]
    timeline.write_sound(tmp_path / "aud.wav", clip, late_s)
    samples = load_audio(tmp_path / "aud.wav")
    assert len(samples) == len(bright) * 640
    return int(np.argmax(bright)) / 25, float(np.abs(samples).argmax()) / 16000


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize(("sound_s", "picture_s"), [(0.0, 0.0), (0.3, 0.0), (0.9, 0.0), (0.0, 0.36)])
def test_sound_and_picture_share_one_zero(tmp_path: Path, name: str, sound_s: float, picture_s: float) -> None:
    flash, click = flash_and_click(click_clip(tmp_path / name, sound_s, picture_s), tmp_path)
    assert click == pytest.approx(flash, abs=0.006)
    assert (flash < 2.0) == (sound_s > 0.5)  # a long silent beginning is left out


def test_an_offset_moves_the_sound(tmp_path: Path) -> None:
    clip = click_clip(tmp_path / "a.mp4")
    for late in (0.12, -0.12):
        flash, click = flash_and_click(clip, tmp_path, late)
        assert click == pytest.approx(flash - late, abs=0.006)


def test_damaged_sound_stays_in_step(tmp_path: Path) -> None:
    clip = click_clip(tmp_path / "a.mp4")
    corrupt(clip, 30, 2, "audio")
    span = scan_clip(clip, tmp_path).sound
    assert span is not None
    assert len(span.damaged) >= 1 and abs(span.damaged[0] - 0.64) < 0.1
    flash, click = flash_and_click(clip, tmp_path)
    assert click == pytest.approx(flash, abs=0.006)


def test_features_follow_an_odd_rate(tmp_path: Path) -> None:
    """A click at 40 s is in the features of the frame at 40 s, whatever the rate; there is no drift to it."""
    samples = np.random.default_rng(0).normal(0, 1e-3, 16000 * 45).astype(np.float32)
    samples[16000 * 40 : 16000 * 40 + 160] = 0.9
    save_wav(tmp_path / "a.wav", samples)
    for fps in (Fraction(25), Fraction(30000, 1001)):
        count = int(45 * fps)
        write_features(tmp_path / "aud_mel.npy", tmp_path / "a.wav", "mel", count, fps)
        values = np.load(tmp_path / "aud_mel.npy")
        assert values.shape == (count, 16, 32)
        loud = values[:, 7:9].max((1, 2)).argmax()
        assert abs(float(loud / fps) - 40.0) <= 0.03
