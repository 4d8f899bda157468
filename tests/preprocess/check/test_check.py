"""Clips with one fault each, made of the actor: every fault gets the right word, and the usable part is found."""

import json
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from emotalking.cli.main import main
from emotalking.data.layouts import FaceLayout
from emotalking.preprocess.check.clip import check_clip
from emotalking.preprocess.check.page import write_page
from emotalking.preprocess.check.verdict import Footage, assess
from emotalking.preprocess.landmarks import open_provider
from emotalking.preprocess.scan import scan_clip
from emotalking.preprocess.timeline import lay_out
from emotalking.preprocess.tracking import LONGEST_GAP_S
from emotalking.testing.actor import Actor
from emotalking.testing.actor.actor import head_viewmat
from emotalking.testing.actor.performance import Performance
from emotalking.testing.actor.state import ActorState

from ..clips import write_clip

SIZE, COUNT = 160, 80


@dataclass(frozen=True)
class Take:
    """Some seconds of the actor."""

    frames: list[np.ndarray]
    sound: np.ndarray
    jumped: list[np.ndarray]
    """The end of them with the head elsewhere, as after a jump cut."""
    other: list[np.ndarray]
    """A few frames of another scene."""
    empty: np.ndarray
    """The scene without the actor."""


@pytest.fixture(scope="module")
def take() -> Take:
    script = Performance.generate(COUNT / 25, 3)
    actor = Actor(size=SIZE)

    def picture(state: ActorState) -> np.ndarray:
        return np.round(actor.image_of(state) * 255).astype(np.uint8)

    frames = [picture(state) for state in script.states]
    turned = head_viewmat(0.3, 0.0, 0.1, (0.03, 0.01, 0.0))
    jumped = [picture(replace(state, viewmat=turned)) for state in script.states[40:60]]
    other = [np.ascontiguousarray(cv2.resize(image, (96, 96))) for image in frames[:12]]
    for index, small in enumerate(other):
        other[index] = np.tile(np.arange(SIZE, dtype=np.uint8)[:, None, None], (1, SIZE, 3))
        other[index][60:156, 4:100] = small
    empty = np.round(actor.scenery.background[..., :3] * 255).astype(np.uint8)
    return Take(frames, script.waveform, jumped, other, empty)


def checked(tmp_path: Path, take: Take, frames: list[np.ndarray], **options: object) -> Footage:
    given = {"sound": take.sound, **options}
    return check_clip(write_clip(tmp_path / "clip.mp4", frames, **given))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def clean(take: Take, tmp_path_factory: pytest.TempPathFactory) -> Footage:
    return checked(tmp_path_factory.mktemp("clean"), take, take.frames)


def test_a_short_clean_clip(clean: Footage) -> None:
    assert (clean.verdict, clean.true_fps, clean.face_share) == ("usable", "25", 1.0)
    assert [warning[:20] for warning in clean.warnings] == ["only 3.2 s can be us", "the face is small (8"]
    assert clean.part == pytest.approx((0.0, 3.2))
    assert clean.face_px == pytest.approx(82, abs=7)
    assert clean.mouth_range > 0.03
    facts = json.loads(json.dumps(asdict(clean)))
    assert facts["verdict"] == "usable"


def test_repeats_do_not_count(tmp_path: Path, take: Take) -> None:
    repeated = [take.frames[i * 25 // 30] for i in range(COUNT * 30 // 25)]
    found = checked(tmp_path, take, repeated, fps=30)
    assert (found.true_fps, found.stored_fps) == ("25", "30")
    assert found.duplicate_share == pytest.approx(1 / 6, abs=0.02)


def test_a_cut_in_the_middle(tmp_path: Path, take: Take) -> None:
    found = checked(tmp_path, take, take.frames[:60] + take.other)
    assert found.cuts[0] == pytest.approx(2.4)
    assert found.part == pytest.approx((0.0, 2.4))
    assert any("cut" in warning for warning in found.warnings)


def test_a_jump_cut_can_be_used_on_both_sides(tmp_path: Path, take: Take) -> None:
    found = checked(tmp_path, take, take.frames[:40] + take.jumped)
    assert (found.jumps, found.cuts) == (pytest.approx((1.6,)), ())
    assert found.part == pytest.approx((0.0, 2.4))
    assert any("jump cut" in warning for warning in found.warnings)
    _, _, warnings = assess(asdict(found) | {"part": (0.0, 1.5)})
    assert not any("jump cut" in warning for warning in warnings)  # outside the part that is used


def test_the_face_leaves(tmp_path: Path, take: Take) -> None:
    found = checked(tmp_path, take, take.frames[:55] + [take.empty] * 40)
    assert found.part[0] == 0
    assert 1.5 <= found.part[1] <= 2.2 + 1e-6
    assert 0.4 < found.face_share < 0.75
    assert any("show no face" in warning for warning in found.warnings)


def test_two_people(tmp_path: Path, take: Take) -> None:
    both = [np.concatenate([image, image[:, ::-1]], 1) for image in take.frames[:30]]
    found = checked(tmp_path, take, both)
    assert found.verdict == "unusable"
    assert any("two people" in reason for reason in found.reasons)


def test_black_frames(tmp_path: Path, take: Take) -> None:
    found = checked(tmp_path, take, take.frames[:60] + [np.zeros_like(take.empty)] * 20)
    assert found.black_share == pytest.approx(0.25)
    assert found.part == pytest.approx((0.0, 2.4))
    assert any("black" in warning for warning in found.warnings)


def test_ten_pictures_a_second(tmp_path: Path, take: Take) -> None:
    found = checked(tmp_path, take, take.frames[::5] * 2, fps=10)
    assert found.verdict == "unusable"
    assert "10 frames/s" in found.reasons[0]


def test_sound_shorter_than_the_picture(tmp_path: Path, take: Take) -> None:
    found = checked(tmp_path, take, take.frames, sound=take.sound[: int(2.3 * 16000)])
    assert any("the sound lasts 2." in warning for warning in found.warnings)
    assert found.part == pytest.approx((0.0, found.sound_s), abs=0.05)


def test_two_seconds_are_the_least(tmp_path: Path, take: Take) -> None:
    found = checked(tmp_path, take, take.frames[:40])
    assert found.verdict == "unusable"
    assert "it lasts 1.6 s" in found.reasons[0]


def test_a_damaged_packet(tmp_path: Path, take: Take) -> None:
    clip = write_clip(tmp_path / "clip.mp4", take.frames, sound=take.sound, keyframe_every=20)
    with av.open(str(clip)) as container:
        packets = [(p.pos, p.size) for p in container.demux(container.streams.video[0]) if p.size and p.pos is not None]
    place, size = packets[30]
    data = bytearray(clip.read_bytes())
    data[place : place + size] = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8).tobytes()
    clip.write_bytes(data)
    found = check_clip(clip)
    assert found.damaged_frames >= 1
    assert any("damaged" in warning for warning in found.warnings)


def test_a_large_picture_with_the_speaker_in_it(tmp_path: Path, take: Take) -> None:
    wide = []
    for image in take.frames[:30]:
        canvas = np.full((720, 1280, 3), 90, np.uint8)
        canvas[300:684, 700:1084] = cv2.resize(image, (384, 384), interpolation=cv2.INTER_CUBIC)
        wide.append(canvas)
    found = checked(tmp_path, take, wide)
    assert (found.width, found.height, found.face_share) == (1280, 720, 1.0)
    assert found.face_px == pytest.approx(196, abs=16)


def with_hand(image: np.ndarray) -> np.ndarray:
    """A drawn hand, raised before the lower face: palm, wrist and five fingers, lit from the middle."""
    size = image.shape[0]
    unit, centre = 0.18 * size, np.array([0.52, 0.72]) * size
    mask = np.zeros(image.shape[:2], np.uint8)

    def place(x: float, y: float) -> tuple[int, int]:
        return int(centre[0] + unit * x), int(centre[1] + unit * y)

    palm = np.array([place(-0.42, 0), place(0.42, 0), place(0.36, 0.95), place(-0.36, 0.95)])
    cv2.fillConvexPoly(mask, palm, 255)
    limbs = [(0, 0.7, 0, 1.9, 0.3), (-0.33, 0, -0.45, -0.75, 0.1), (-0.11, -0.05, -0.14, -1.0, 0.11)]
    limbs += [(0.11, -0.05, 0.13, -0.98, 0.11), (0.33, 0, 0.42, -0.72, 0.095), (-0.38, 0.6, -0.85, 0.05, 0.12)]
    for x0, y0, x1, y1, radius in limbs:
        cv2.line(mask, place(x0, y0), place(x1, y1), 255, max(int(2 * radius * unit), 1))
    depth = np.clip(cv2.distanceTransform(mask, cv2.DIST_L2, 5) / (0.13 * unit), 0, 1) ** 0.5
    share = (cv2.GaussianBlur(mask, (0, 0), 1) / 255.0)[..., None]
    skin = np.array([205, 160, 135]) * (0.55 + 0.45 * depth[..., None])
    return np.round(image * (1 - share) + skin * share).astype(np.uint8)


def test_a_hand_before_the_face(tmp_path: Path, take: Take) -> None:
    large = [cv2.resize(image, (320, 320), interpolation=cv2.INTER_CUBIC) for image in take.frames[:30]]
    found = checked(tmp_path, take, [with_hand(image) for image in large])
    assert found.hand_share > 0.5
    assert any("a hand covers the face" in warning for warning in found.warnings)


def points_of(frames: list[np.ndarray]) -> tuple[list[np.ndarray], FaceLayout]:
    """Landmarks of every frame, pixels."""
    provider = open_provider()
    found = [provider.detect(image) for image in frames]
    provider.close()
    return [points[:, :2] for points in found if points is not None], provider.layout


def box_over(image: np.ndarray, points: np.ndarray, grow: float, colour: tuple[int, int, int]) -> np.ndarray:
    """The image with a box over the points."""
    centre, half = (points.min(0) + points.max(0)) / 2, grow * np.ptp(points, axis=0) / 2
    (left, top), (right, bottom) = (centre - half).round().astype(int), (centre + half).round().astype(int)
    return cv2.rectangle(image.copy(), (left, top), (right, bottom), colour, -1)


def test_a_still_image_is_unusable(tmp_path: Path, take: Take) -> None:
    found = checked(tmp_path, take, take.frames[:1] * COUNT)
    assert found.verdict == "unusable" and "does not move" in found.reasons[0]
    assert found.frozen_share == 1.0 and found.part == (0.0, 0.0)


def test_a_recording_that_freezes_is_used_until_then(tmp_path: Path, take: Take) -> None:
    found = checked(tmp_path, take, take.frames[:52] + take.frames[51:52] * 28)
    assert found.part[0] == 0.0 and found.part[1] == pytest.approx(52 / 25, abs=0.1)
    assert any("stands still for 1." in warning for warning in found.warnings)


def test_check_and_prepare_agree_on_a_gap(tmp_path: Path, take: Take) -> None:
    """1.5 s without frames: the longer part is used, by both."""
    times = [40 * i if i < 60 else 40 * i + 1500 for i in range(COUNT)]
    found = checked(tmp_path, take, take.frames, times_ms=times)
    assert found.gaps == (2.36,) and found.part == pytest.approx((0.0, 2.4), abs=0.01)
    assert any("1 gap (at 2.4 s) without frames" in warning for warning in found.warnings)
    scan = scan_clip(Path(found.clip), tmp_path)
    clock = lay_out(scan, Fraction(25), found.part)
    assert clock.facts["longest_hold_s"] < LONGEST_GAP_S and len(clock.source) == 60


def test_upside_down_without_metadata(tmp_path: Path, take: Take) -> None:
    turned = [np.ascontiguousarray(image[::-1, ::-1]) for image in take.frames]
    found = checked(tmp_path, take, turned)
    assert found.verdict == "unusable" and any("upside down: turn it by 180" in reason for reason in found.reasons)
    again = check_clip(found.clip, turn=180)
    assert not any("upside" in reason for reason in again.reasons) and again.upright[0] > again.upright[2]


def test_on_its_side_without_metadata(tmp_path: Path, take: Take) -> None:
    turned = [np.ascontiguousarray(np.rot90(image)) for image in take.frames]
    found = checked(tmp_path, take, turned)
    assert any("on its side: turn it by 90" in reason for reason in found.reasons)


def test_a_mask_over_the_mouth(tmp_path: Path, take: Take) -> None:
    points, layout = points_of(take.frames)
    masked = [
        box_over(image, at[list(layout.lips_outer)], 2.2, (170, 200, 225))
        for image, at in zip(take.frames, points, strict=True)
    ]
    found = checked(tmp_path, take, masked)
    assert (
        found.verdict == "unusable"
        and "mouth is covered" in found.reasons[0]
        and "film it uncovered" in found.reasons[0]
    )


def test_black_and_white_is_no_mask(tmp_path: Path, take: Take, clean: Footage) -> None:
    grey = [np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, 2) for image in take.frames[:55]]
    found = checked(tmp_path, take, grey)
    assert "black and white" in " ".join(found.warnings) and not any("covered" in reason for reason in found.reasons)
    assert found.colour_spread < 3 < 20 < clean.colour_spread
    still = {name: getattr(found, name) for name in Footage.__dataclass_fields__} | {"mouth_range": 0.0}
    for colour, hidden in ((found.colour_spread, False), (clean.colour_spread, True)):
        reasons = " ".join(assess(still | {"lips_contrast": 0.0, "colour_spread": colour})[1])
        assert ("mouth is covered" in reasons) == hidden


def test_dark_glasses(tmp_path: Path, take: Take) -> None:
    points, layout = points_of(take.frames)
    eyes = [list(layout.eye_loop(side)) for side in ("right", "left")]
    covered = []
    for image, at in zip(take.frames, points, strict=True):
        for eye in eyes:
            image = box_over(image, at[eye], 2.0, (8, 8, 8))
        covered.append(image)
    found = checked(tmp_path, take, covered)
    assert any("eyes are covered" in warning for warning in found.warnings)


def test_darkness_and_noise_have_names(tmp_path: Path, take: Take) -> None:
    draw = np.random.default_rng(0)
    dark = [(image * 0.2).astype(np.uint8) for image in take.frames]
    noisy = [np.clip(image + draw.normal(0, 12, image.shape), 0, 255).astype(np.uint8) for image in take.frames]
    assert any("face is dark" in warning for warning in checked(tmp_path, take, dark).warnings)
    assert any("image is noisy" in warning for warning in checked(tmp_path, take, noisy).warnings)


def test_combs_of_a_capture_that_forgot_its_fields(tmp_path: Path, take: Take) -> None:
    """Interlaced frames stored as progressive ones: a player shows the combs, so that only a word helps."""
    woven = []
    for image, later in zip(take.frames, take.frames[1:] + take.frames[-1:], strict=True):
        mixed = image.copy()
        mixed[1::2] = np.roll(later, 5, axis=1)[1::2]
        woven.append(mixed)
    assert any("combs of two fields" in warning for warning in checked(tmp_path, take, woven).warnings)


def test_what_the_reader_converts_is_said(tmp_path: Path, clean: Footage) -> None:
    facts = {name: getattr(clean, name) for name in Footage.__dataclass_fields__}
    changed = {
        "interlaced": True,
        "tone_mapped": "HLG",
        "aspect": 2.0,
        "resized": (1.0,),
        "video_tracks": 2,
        "crop": (0, 8, 0, 0),
    }
    _, _, warnings = assess(facts | changed | {"sound_tracks": 2, "sound_track": 2})
    said = " ".join(warnings)
    for words in (
        "interlaced",
        "HDR (HLG)",
        "not square (2:1)",
        "change their size, 1 time (at 1.0 s)",
        "2 video tracks",
        "8 at the bottom",
        "number 2 is",
    ):
        assert words in said
    assert set(clean.warnings) < set(warnings)


def test_nobody_blinks(clean: Footage) -> None:
    facts = {name: getattr(clean, name) for name in Footage.__dataclass_fields__} | {"blinks_per_minute": 0.0}
    assert "nobody blinks in 16 s" in " ".join(assess(facts | {"close_look": (0.0, 16.0)})[2])
    assert "blinks" not in " ".join(assess(facts | {"close_look": (0.0, 4.0)})[2])


def test_the_verdict_is_printed_although_the_page_cannot_be_written(
    tmp_path: Path, take: Take, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = write_clip(tmp_path / "clip.mp4", take.frames[:1] * 60, sound=take.sound)
    (tmp_path / "clip.check.html").mkdir()  # where the page goes unless told otherwise
    assert main(["check", str(clip)]) == 2
    assert "does not move" in (said := capsys.readouterr().out) and "record it again" in said


def test_the_page_holds_everything(tmp_path: Path, clean: Footage) -> None:
    write_page(clean, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert text.count("<svg") == 3
    assert 4 <= text.count("data:image/jpeg") <= 8
    assert not any(outside in text for outside in ('src="http', "<link", "<script", "@import"))
    for word in ("is usable", "sound against mouth", "blinks a minute"):
        assert word in text


def test_the_command(
    tmp_path: Path, take: Take, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere, clips = tmp_path / "elsewhere", tmp_path / "clips"
    elsewhere.mkdir()
    clips.mkdir()
    monkeypatch.chdir(elsewhere)
    clip = write_clip(clips / "some.mp4", take.frames[:55], sound=take.sound)
    silent = write_clip(clips / "laugh.mp4", take.frames[:52])
    assert main(["check", str(clip), "--json", str(tmp_path / "facts.json"), "--expressions", str(silent)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("some.mp4 is usable, with 2 warnings: 2.2 s of 2.2 s")
    assert "\nlaugh.mp4 is usable, with 1 warning: 2.1 s of 2.1 s" in said  # small; neither sound nor length matters
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert "stills" not in facts | facts["expressions"][0] and facts["expressions"][0]["sound_s"] == 0
    assert (clips / "some.check.html").exists() and not any(elsewhere.iterdir())
    mute = write_clip(tmp_path / "mute.mp4", take.frames[:30])
    assert main(["check", str(mute), "--page", "mute.html"]) == 2
    said = capsys.readouterr()
    assert said.out.startswith("mute.mp4 is unusable: ") and "it has no sound" in said.out
    assert said.err.endswith("error: mute.mp4 cannot be used: mute.html shows why\n")  # the reason is told once
    assert (elsewhere / "mute.html").exists()
    assert main(["check", str(mute), "--page", str(clips)]) == 2  # a folder cannot be the page
    assert "is a folder: give the name of a file" in capsys.readouterr().err  # before the work begins
    (elsewhere / "notes.txt").write_text("this is not a video\n" * 50)
    assert main(["check", "notes.txt"]) == 2
    assert "is not a video" in capsys.readouterr().err
    assert not (elsewhere / "notes.check.html").exists()


@pytest.mark.realdata
def test_a_real_clip(real_data: Path) -> None:
    found = check_clip(real_data / "clips" / "address_450_20s.mp4")
    assert (found.verdict, found.jumps, found.cuts) == ("usable", (), ())
    assert found.sound_late_s == pytest.approx(0.2, abs=0.04)
    assert found.sound_late_confidence > 0.97
