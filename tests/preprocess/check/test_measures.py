"""Every measure of the footage check on made data of known answer."""

from functools import cache
from typing import Any

import cv2
import numpy as np
import pytest

from emotalking.ops.box import Box
from emotalking.preprocess.check import measures
from emotalking.preprocess.check.measures import blockiness, clipped_share, detail, most_spoken, sound_facts
from emotalking.preprocess.check.verdict import assess
from emotalking.preprocess.detectors import count_other_faces, hand_before_face
from emotalking.preprocess.landmarks import MEDIAPIPE_LAYOUT as LAYOUT
from emotalking.preprocess.scan import (
    black_frames,
    exposure_range,
    find_cuts,
    longest_part,
    tile_classes,
    tile_leap,
)
from emotalking.testing.actor import Actor
from emotalking.testing.actor.actor import head_viewmat
from emotalking.testing.actor.performance import Performance

RNG = np.random.default_rng(0)


def test_a_cut_stands_out_from_motion() -> None:
    change, leap = RNG.uniform(3, 8, 200), RNG.uniform(0.01, 0.03, 200)
    change[[60, 120]], leap[[60, 120]] = 40, 0.2
    change[150] = 40  # a flash: brighter, but the same picture
    assert find_cuts(change, leap) == [60, 120]
    assert find_cuts(change[:1], leap[:1]) == []


def test_wild_motion_is_no_cut() -> None:
    burst = np.full(100, 2.0)
    burst[40:60] = 30
    assert find_cuts(burst, burst / 100) == []


def test_the_leap_sees_content_and_not_light() -> None:
    picture = RNG.uniform(40, 200, (64, 96)).astype(np.float32)
    other = np.tile(np.linspace(40, 200, 96, dtype=np.float32), (64, 1))
    assert tile_leap(tile_classes(picture), tile_classes(picture + 30)) < 1e-5
    assert tile_leap(tile_classes(picture), tile_classes(other)) > 0.3


def test_black_is_dark_and_even() -> None:
    brightness, spread = np.array([16.0, 18.0, 120.0]), np.array([1.0, 30.0, 2.0])
    assert black_frames(brightness, spread).tolist() == [True, False, False]


def test_exposure_range_is_relative() -> None:
    times = np.arange(500) / 25
    good = np.ones(500, bool)
    assert exposure_range(times, np.full(500, 100.0), good) == 0
    steps = np.where(times < 10, 80.0, 120.0)
    assert exposure_range(times, steps, good) == pytest.approx(0.4)
    steps[:25] = 0
    good[:25] = False
    assert exposure_range(times, steps, good) == pytest.approx(0.4, abs=0.02)


def test_the_longest_part_ends_at_cuts_and_at_bad_pictures() -> None:
    times = np.arange(100) / 25
    good = np.ones(100, bool)
    assert longest_part(times, good, [], 0.04) == (0.0, 4.0)
    assert longest_part(times, good, [30], 0.04) == pytest.approx((1.2, 4.0))
    good[80:85] = False
    assert longest_part(times, good, [30], 0.04) == pytest.approx((1.2, 3.2))
    assert longest_part(times, np.zeros(100, bool), [], 0.04) == (0.0, 0.0)


def test_detail_falls_with_blur_and_with_enlarging() -> None:
    sharp = cv2.GaussianBlur(RNG.uniform(0, 255, (256, 256)).astype(np.float32), (0, 0), 0.7)
    sharp = np.clip(sharp, 0, 255).astype(np.uint8)
    blurred = np.asarray(cv2.GaussianBlur(sharp, (0, 0), 2), np.uint8)
    half = cv2.resize(sharp, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    enlarged = np.asarray(cv2.resize(half, (256, 256), interpolation=cv2.INTER_CUBIC), np.uint8)
    assert detail(sharp) > 2 * detail(enlarged) > 2 * detail(blurred)
    assert detail(sharp) == pytest.approx(detail(np.asarray(sharp // 2, np.uint8)), rel=0.1)


def test_blocks_are_seen() -> None:
    wave = np.cumsum(RNG.normal(0, 1, (256, 256)), axis=1)
    smooth = np.clip(128 + cv2.GaussianBlur(wave, (0, 0), 4), 0, 255).astype(np.uint8)
    coded = np.asarray(cv2.imdecode(cv2.imencode(".jpg", smooth, [cv2.IMWRITE_JPEG_QUALITY, 15])[1], 0), np.uint8)
    assert blockiness(smooth) == pytest.approx(1.0, abs=0.1)
    assert blockiness(coded) > 1.5


def test_clipping_is_told_from_loudness() -> None:
    voice = RNG.laplace(0, 0.12, 32000).clip(-1, 1)
    assert clipped_share(voice) == 0
    assert clipped_share((4 * voice).clip(-0.9, 0.9)) > 0.05
    assert clipped_share(0.9 * np.sin(np.arange(32000) / 5)) == 0
    assert clipped_share(np.zeros(100)) == 0


def test_speech_and_pauses() -> None:
    voice = Performance.generate(6.0, 1).waveform
    quiet = np.concatenate([voice, np.zeros(6 * 16000, np.float32)])
    noisy = quiet + RNG.normal(0, 0.03 * float(quiet.std()), len(quiet)).astype(np.float32)
    facts = sound_facts(quiet)
    assert facts.speech_s == pytest.approx(sound_facts(voice).speech_s, abs=0.3)
    assert facts.speech_share == pytest.approx(facts.speech_s / 12, abs=0.01)
    assert not facts.active[320:].any()
    assert facts.noise_db == 99
    assert 15 < sound_facts(noisy).noise_db < 30
    assert sound_facts(np.zeros(16000, np.float32)).speech_s == 0


def test_the_window_with_most_speech() -> None:
    active = np.zeros(1000, bool)
    active[500:700] = True
    begin, end = most_spoken(active, (0.0, 20.0), 4.0)
    assert (begin, end) == pytest.approx((10.0, 14.0))
    assert most_spoken(active, (3.0, 5.0), 4.0) == (3.0, 5.0)
    assert most_spoken(np.zeros(0, bool), (2.0, 12.0), 4.0) == (2.0, 6.0)


def test_other_faces_are_large() -> None:
    assert count_other_faces([Box(0, 0, 100, 100), Box(0, 200, 90, 290), Box(0, 0, 20, 20)]) == 1
    assert count_other_faces([]) == 0


def test_hands_count_only_before_the_face() -> None:
    angle = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    oval = np.stack([100 + 40 * np.cos(angle), 100 + 60 * np.sin(angle)], 1)
    hand = RNG.uniform(-10, 10, (21, 2))
    assert hand_before_face(hand + [100, 140], oval)
    assert hand_before_face(hand + [152, 100], oval)  # at the cheek
    assert not hand_before_face(hand + [200, 250], oval)


@cache
def actor_at_rest() -> tuple[np.ndarray, Any]:
    """Landmarks of the actor's face at rest, and what they mean."""
    actor = Actor(size=32)
    return actor.neutral_landmarks(), actor.layout


def actor_faces(yaw: float, pitch: float) -> np.ndarray:
    """A rigid face of the actor's landmarks in camera axes under MediaPipe's names, 478 points (others NaN)."""
    rest, layout = actor_at_rest()
    view = head_viewmat(np.radians(yaw), np.radians(pitch), 0.0, (0.0, 0.0, 0.0))
    points = rest @ view[:3, :3].T * 1000
    out = np.full((1, 478, 3), np.nan)
    out[0, list(LAYOUT.ibug68)] = points[list(layout.ibug68)]
    for lid in ("right_upper_lid", "left_upper_lid"):
        out[0, getattr(LAYOUT, lid)[0]] = points[getattr(layout, lid)[0]]
    brow, chin = out[0, list(LAYOUT.ibug68)[27]], out[0, list(LAYOUT.ibug68)[8]]
    out[0, LAYOUT.oval[0]] = brow - 0.4 * (chin - brow)
    return out


@pytest.mark.parametrize(("yaw", "pitch"), [(0, 0), (20, 0), (-30, 0), (0, 12), (15, -8)])
def test_head_turn(yaw: int, pitch: int) -> None:
    rest = measures.head_turn(actor_faces(0, 0), LAYOUT)[0]
    turned = measures.head_turn(actor_faces(yaw, pitch), LAYOUT)[0] - rest
    assert abs(turned[0]) == pytest.approx(abs(yaw), abs=3)
    assert abs(turned[1]) == pytest.approx(abs(pitch), abs=3)


def test_roll_is_of_the_picture() -> None:
    upright = actor_faces(0, 0)
    lying = upright[..., [1, 0, 2]] * [1, -1, 1]
    assert measures.head_roll(upright, LAYOUT) == pytest.approx(0, abs=2)
    assert measures.head_roll(lying, LAYOUT) == pytest.approx(90, abs=2)
    assert abs(measures.head_roll(upright * [-1, -1, 1], LAYOUT)) == pytest.approx(180, abs=2)


def test_mouth_opening_knows_no_size() -> None:
    points = actor_faces(0, 0)
    index = LAYOUT.ibug68
    shut, open_ = points.copy(), points.copy()
    for above, below in ((61, 67), (62, 66), (63, 65)):
        shut[0, index[below]] = shut[0, index[above]]
        open_[0, index[below]] = open_[0, index[above]] + [0, 10, 0]
    assert measures.mouth_opening(shut, LAYOUT)[0] < measures.CLOSED
    assert measures.mouth_opening(3 * open_, LAYOUT) == pytest.approx(measures.mouth_opening(open_, LAYOUT))
    assert measures.mouth_opening(open_, LAYOUT)[0] > 0.03


def test_blinks_are_short() -> None:
    lids = np.full(250, 0.28) + RNG.normal(0, 0.005, 250)
    lids[50:54] = lids[120:126] = 0.08
    lids[180:220] = 0.1  # a look down
    lids[10] = np.nan
    assert measures.blink_starts(lids, 25.0) == [50, 120]
    assert measures.blink_starts(np.full(100, np.nan), 25.0) == []


def test_a_face_that_leaves_the_picture() -> None:
    points = np.full((2, 478, 3), 50.0)
    points[1, list(LAYOUT.oval)[:6], 0] = -3
    assert measures.cropped(points, LAYOUT, (100, 100)).tolist() == [False, True]


GOOD: dict[str, Any] = {
    "seconds": 60.0, "part": (0.0, 60.0), "true_fps": "25", "steady": True, "damaged_frames": 0, "cut_short_s": 0.0,
    "cuts": (), "jumps": (), "black_share": 0.0, "exposure_range": 0.02, "face_share": 1.0, "lost_share": 0.0,
    "other_face_share": 0.0, "hand_share": 0.0,
    "cropped_share": 0.0, "face_px": 250.0, "frontal_share": 1.0, "roll": 2.0, "detail": 0.3,
    "blockiness": 1.0, "close_look": (0.0, 16.0), "mouth_range": 0.06, "closed_share": 0.1, "sound_s": 60.0,
    "speech_share": 0.85, "speech_s": 50.0, "noise_db": 35.0, "clipped_share": 0.0, "sound_late_s": 0.0,
    "sound_late_confidence": 1.0, "frozen_share": 0.0, "gaps": (), "interlaced": False, "tone_mapped": "",
    "aspect": 1.0, "resized": (), "video_tracks": 1, "crop": (0, 0, 0, 0),
    "face_light": 150.0, "noise": 0.5, "line_contrast": 0.5,
    "eyes_brightness": 0.8, "lips_contrast": 9.0, "colour_spread": 60.0, "upright": (0.9, 0.3, 0.4, 0.5),
    "sound_track": 1,
    "sound_tracks": 1, "blinks_per_minute": 20.0,
}  # fmt: skip


def test_a_good_clip_is_called_good() -> None:
    assert assess(GOOD) == ("good", (), ())


@pytest.mark.parametrize(
    ("change", "verdict", "says"),
    [
        ({"seconds": 1.5}, "unusable", "lasts 1.5 s"),
        ({"sound_s": 0.0, "speech_s": 0.0}, "unusable", "no sound"),
        ({"speech_s": 0.2, "speech_share": 0.0}, "unusable", "it contains no speech"),
        ({"face_share": 0.0, "face_px": 0.0, "detail": 0.0}, "unusable", "no face"),
        ({"lost_share": 0.2}, "unusable", "20 % of the frames that could be used show no face"),
        ({"face_px": 40.0}, "unusable", "40 pixels high"),
        ({"roll": 92.0}, "unusable", "on its side"),
        ({"other_face_share": 0.9}, "unusable", "two people"),
        ({"true_fps": "10"}, "unusable", "10 frames/s"),
        ({"detail": 0.05}, "unusable", "blurred"),
        ({"part": (3.0, 4.0)}, "unusable", "longest part"),
        ({"part": (0.0, 8.0), "cuts": (8.0,)}, "usable", "1 cut (at 8.0 s)"),
        ({"jumps": (8.0, 9.5)}, "usable", "2 jump cuts (at 8.0, 9.5 s)"),
        ({"damaged_frames": 3}, "usable", "3 frames are damaged"),
        ({"cut_short_s": 4.0}, "usable", "cut short"),
        ({"black_share": 0.1}, "usable", "10 % of the frames are black"),
        ({"true_fps": "20"}, "usable", "20 true frames/s"),
        ({"steady": False}, "usable", "variable frame rate"),
        ({"blockiness": 1.8}, "usable", "blocks"),
        ({"detail": 0.1}, "usable", "soft"),
        ({"exposure_range": 0.4}, "usable", "brightness changes by 40 %"),
        ({"face_share": 0.8}, "usable", "20 % of the frames show no face"),
        ({"other_face_share": 0.1}, "usable", "second face"),
        ({"face_px": 90.0}, "usable", "face is small"),
        ({"cropped_share": 0.2}, "usable", "leaves the image in 20 %"),
        ({"hand_share": 0.1}, "usable", "hand"),
        ({"frontal_share": 0.4}, "usable", "looks away"),
        ({"mouth_range": 0.01}, "usable", "hardly opens"),
        ({"closed_share": 0.0}, "usable", "never closed"),
        ({"sound_s": 40.0}, "usable", "40.0 s of 60.0 s"),
        ({"speech_share": 0.2}, "usable", "20 % of the sound"),
        ({"noise_db": 8.0}, "usable", "8 dB above"),
        ({"clipped_share": 0.01}, "usable", "clipped"),
        ({"sound_late_s": 0.2}, "usable", "200 ms late"),
        ({"sound_late_s": -0.08}, "usable", "80 ms early"),
        ({"sound_late_confidence": 0.2}, "usable", "does not follow the sound"),
    ],
)
def test_every_fault_has_its_word(change: dict[str, Any], verdict: str, says: str) -> None:
    found, reasons, warnings = assess(GOOD | change)
    assert found == verdict
    assert any(says in sentence for sentence in (reasons if verdict == "unusable" else warnings))


def test_an_unsure_offset_is_not_announced() -> None:
    assert assess(GOOD | {"sound_late_s": 0.2, "sound_late_confidence": 0.8}) == ("good", (), ())
