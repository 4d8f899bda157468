"""The whole capture on the actor, whose truth is known; resuming; clips that cannot be used."""

import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from emotalking.data import Subject, validate
from emotalking.data.audio_features import DEFAULT_FEATURE, audio_feature
from emotalking.errors import InputError
from emotalking.io import audio, video
from emotalking.io.display import to_rgb
from emotalking.io.video import decode_frames, read_frames
from emotalking.jobs.engine import Sequential
from emotalking.preprocess import prepare as prepare_module
from emotalking.preprocess.config import PrepareConfig
from emotalking.preprocess.job import Job, keep_frames
from emotalking.preprocess.many import prepare_many
from emotalking.preprocess.pose.track import PoseTrack, project
from emotalking.preprocess.prepare import is_prepared, prepare
from emotalking.testing.actor.actor import Actor, head_viewmat
from emotalking.testing.actor.performance import Performance
from emotalking.testing.actor.state import ActorState, Viseme

from .clips import grey_frames, write_clip

COUNT = 60
SIZE = 160
BLINK_AT = 30


def _states() -> list[ActorState]:
    """A head that turns while it talks, with one blink."""
    states = []
    for i in range(COUNT):
        t = i / 25
        shut = float(np.interp(abs(i - BLINK_AT), [0, 1, 2, 3], [5.0, 4.0, 2.0, 0.0]))
        view = head_viewmat(0.25 * np.sin(2.2 * t), 0.08 * np.sin(3.1 * t), 0.05 * np.sin(1.7 * t))
        states.append(ActorState(view, {"AU45": shut}, Viseme(jaw=float(max(0.0, np.sin(9 * t))))))
    return states


@pytest.fixture(scope="module")
def actor_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    actor = Actor(size=SIZE)
    frames = [np.round(actor.image_of(state) * 255).astype(np.uint8) for state in _states()]
    return write_clip(tmp_path_factory.mktemp("clip") / "actor.mp4", frames, sound=speech(2.2))


def speech(seconds: float) -> np.ndarray:
    """Somebody talks."""
    return Performance.generate(seconds + 2, seed=3).waveform[16000 : int(16000 * (seconds + 1))]


@pytest.fixture(scope="module")
def made(actor_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A prepared folder, and what was opened for it."""
    opened: list[str] = []
    names = {video: "open_video", audio: "open_sound"}

    def count(module: ModuleType) -> Any:
        really = getattr(module, names[module])

        def opening(path: Path, *more: object) -> Any:
            opened.append(f"{module.__name__.split('.')[-1]} {path.name}")
            return really(path, *more)

        return opening

    out = tmp_path_factory.mktemp("subject") / "actor"
    with pytest.MonkeyPatch.context() as patch:
        for module in names:
            patch.setattr(module, names[module], count(module))
        prepare(actor_clip, out)
    return out, opened


@pytest.fixture(scope="module")
def folder(made: tuple[Path, list[str]]) -> Path:
    return made[0]


def test_the_folder_is_whole(folder: Path) -> None:
    assert [finding for finding in validate(folder) if finding.severity == "error"] == []
    subject = Subject.open(folder)
    assert (subject.num_frames, subject.width, subject.height, subject.fps) == (COUNT, SIZE, SIZE, 25)
    assert subject.audio_features().shape == (COUNT, *audio_feature(DEFAULT_FEATURE).shape)
    assert subject.landmarks.detected.all()
    frame = subject.frame(10)
    assert frame.head.mean() > 0.1 and frame.body.mean() > 0.03
    assert set(subject.manifest["providers"]) >= {"landmarks", "pose", "masks", "action units", "emotion"}
    assert subject.manifest["steps"]["pose"]["jitter_px"] < subject.manifest["steps"]["pose"]["jitter_landmarks_px"]


def test_the_pose_follows_the_actor(folder: Path) -> None:
    subject = Subject.open(folder)
    truth = np.stack([state.viewmat for state in _states()])
    between = np.swapaxes(truth[:, :3, :3], 1, 2) @ subject.viewmats[:, :3, :3]
    mean = Rotation.from_matrix(between).mean()
    errors = np.degrees((mean.inv() * Rotation.from_matrix(between)).magnitude())
    # Measured 2.04 at 160 pixels and 60 frames (0.94 at 256 pixels and 200 frames).
    assert np.sqrt((errors**2).mean()) < 2.5
    shape = subject.landmarks.shape
    assert shape is not None
    bridge = project(shape[[6, 197]].astype(float), subject.viewmats.astype(float), subject.focal, (SIZE, SIZE))
    seen = subject.landmarks.points[:, [6, 197]]
    assert np.abs(bridge - seen).max() < 3.0


def test_the_blink_is_found(folder: Path) -> None:
    blink = Subject.open(folder).au("AU45")
    assert abs(int(blink.argmax()) - BLINK_AT) <= 1
    assert blink.max() > 1.5
    assert np.delete(blink, range(BLINK_AT - 5, BLINK_AT + 6)).max() < 1.0


def test_the_clip_is_decoded_three_times(made: tuple[Path, list[str]]) -> None:
    """Scan and sound, faces, landmarks, sound again; the kept frames and sound go when the folder is complete."""
    folder, opened = made
    assert 0 < opened.count("video actor.mp4") <= 3
    assert 0 < opened.count("audio actor.mp4") <= 2
    assert not {"frames.nut", "sound.f32"} & {path.name for path in (folder / ".capture").iterdir()}


def test_kept_frames_are_the_same(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (5, 62, 62, 3), dtype=np.uint8)
    path = tmp_path / "frames.nut"
    for packed in (True, False):
        assert all(map(np.array_equal, keep_frames(path, noise, packed), noise))
        assert all(map(np.array_equal, (to_rgb(frame) for _, frame in decode_frames(path)), noise))
    with pytest.raises(KeyboardInterrupt):
        for image in keep_frames(tmp_path / "half.nut", noise):
            raise KeyboardInterrupt(image.shape)
    assert [file.name for file in tmp_path.iterdir()] == ["frames.nut"]


def test_the_stored_path_reads_back_also_under_its_old_name(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"a clip")
    job = Job(tmp_path / "clip.mp4", tmp_path / "subject", PrepareConfig())
    job.save_pose(PoseTrack(np.eye(4)[None], 500.0, np.zeros((3, 3)), np.ones(3), {"noise_px": 0.25}))
    stored = job.work / "pose.json"
    assert json.loads(stored.read_text()) == {"focal": 500.0, "statistics": {"noise_px": 0.25}}
    assert job.pose().statistics == {"noise_px": 0.25}
    stored.write_text('{"focal": 500.0, "figures": {"noise_px": 0.5}}')
    assert job.pose().statistics == {"noise_px": 0.5}


def test_a_second_run_does_nothing(actor_clip: Path, folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (folder / "gt_imgs").iterdir()}
    poses = (folder / "transforms_train.json").read_text()
    prepare(actor_clip, folder)
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "gt_imgs").iterdir()}
    assert (folder / "transforms_train.json").read_text() == poses


@pytest.mark.parametrize(("settings", "part"), [({"seconds": 2.0}, (0.0, 2.0)), ({"part": (0.2, 2.3)}, (0.2, 2.3))])
def test_the_limit_and_the_part_that_are_asked_for(settings: dict, part: tuple[float, float]) -> None:
    assert prepare_module._limited(PrepareConfig(**settings), (0.0, 2.4)) == part


def test_what_is_finished_is_kept_among_many(actor_clip: Path, folder: Path, tmp_path: Path) -> None:
    assert is_prepared(actor_clip, folder, PrepareConfig())
    assert not is_prepared(actor_clip, folder, PrepareConfig(size=64))
    silent = write_clip(tmp_path / "mute.mp4", grey_frames(60))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    made = prepare_many([actor_clip, silent], folder.parent, PrepareConfig(), Sequential("cpu"))
    assert [(one.name, one.state) for one in made.outcomes] == [(folder.name, "kept"), ("mute", "failed")]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert "has no sound" in made.failures["mute"] and "1 of 2 clips are prepared" in made.page.read_text()
    (folder / "au.csv").unlink()
    assert not is_prepared(actor_clip, folder, PrepareConfig())
    again = prepare_many([actor_clip], folder.parent, PrepareConfig(), Sequential("cpu"))
    assert [one.state for one in again.outcomes] == ["made"] and is_prepared(actor_clip, folder, PrepareConfig())


def test_a_lost_file_is_made_again(actor_clip: Path, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "emotalking")
    before = {name: (folder / name).read_bytes() for name in ("au.csv", "torso_imgs/3.png", "va.csv")}
    for name in ("au.csv", "torso_imgs/3.png"):
        (folder / name).unlink()
    assert len(prepare(actor_clip, folder).au("AU45")) == COUNT
    assert caplog.text.count("going on after the step background of an earlier run") == 1
    assert before == {name: (folder / name).read_bytes() for name in before}


def test_another_clip_does_not_overwrite(actor_clip: Path, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.mp4"
    other.write_bytes(actor_clip.read_bytes() + b"\0")
    with pytest.raises(InputError, match=r"was made from another clip \(actor\.mp4\)"):
        prepare(other, folder)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="holds other files"):
        prepare(actor_clip, tmp_path / "full")


def test_interrupted_in_its_first_step_it_starts_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The footage check leaves its scan before it is recorded; another clip is no less welcome then."""

    def interrupt(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare_module, "check_scanned", interrupt)
    for name in ("one.mp4", "two.mp4"):
        clip = write_clip(tmp_path / name, grey_frames(60), sound=speech(2.4))
        with pytest.raises(KeyboardInterrupt):
            prepare(clip, tmp_path / "out")


def test_no_sound(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "mute.mp4", grey_frames(60))
    with pytest.raises(InputError, match=r"mute\.mp4 has no sound, and lips cannot be learned"):
        prepare(clip, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_face(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "wall.mp4", grey_frames(60), sound=speech(2.4))
    with pytest.raises(InputError, match=r"wall\.mp4 cannot be used: no face was found in it .*the option force"):
        prepare(clip, tmp_path / "out")
    with pytest.raises(InputError, match=r"wall\.mp4: no face was found in \d+ frames"):
        prepare(clip, tmp_path / "out", PrepareConfig(force=True))


def test_two_faces(actor_clip: Path, tmp_path: Path) -> None:
    frames = [np.hstack([image, image]) for image in read_frames(actor_clip)]
    clip = write_clip(tmp_path / "pair.mp4", frames, sound=speech(2.4))
    with pytest.raises(InputError, match=r"pair\.mp4 cannot be used: .*it shows two people"):
        prepare(clip, tmp_path / "out")


def test_the_useful_part_is_used_whatever_comes_in_between(
    actor_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The face leaves, and the file is cut short behind that; a full disk and an interruption come in between."""
    frames = list(read_frames(actor_clip))
    frames += [np.full_like(frames[0], 120)] * 60
    clip = write_clip(tmp_path / "leaves.mp4", frames, sound=speech(4.8), movflags="+faststart")
    out, config, usage = tmp_path / "out", PrepareConfig(size=96), shutil.disk_usage(tmp_path)
    message = r"out cannot be written \(.*: about \d+ MB are needed, 0 MB are free\): free some"
    with monkeypatch.context() as patch, pytest.raises(InputError, match=message):
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=64 << 10))
        prepare(clip, out, config)
    assert not (out / "ori_imgs").exists()

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(prepare_module, "make_background", stop)
        prepare(clip, out, config)
    with pytest.raises(InputError):
        Subject.open(out)
    masks = (out / "parsing" / "0.png").stat().st_mtime_ns
    subject = prepare(clip, out, config)
    assert (out / "parsing" / "0.png").stat().st_mtime_ns == masks
    assert 50 <= subject.num_frames <= COUNT
    begin, end = subject.manifest["part"]
    assert begin == 0 and end == pytest.approx(subject.num_frames / 25, abs=0.01)
    assert subject.manifest["check"]["verdict"] == "usable"
    with pytest.raises(InputError, match=r"shows no face at 2\.\d-4\.0 s"):
        prepare(clip, out, PrepareConfig(size=96, part=(0.0, 4.0)))


def test_too_short(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "short.mp4", grey_frames(30), seconds_of_sound=1.2)
    with pytest.raises(InputError, match=r"short\.mp4 lasts 1\.2 s; give a clip of at least 2 s"):
        prepare(clip, tmp_path / "out")


def test_a_part_outside_the_clip(actor_clip: Path, folder: Path, tmp_path: Path) -> None:
    message = r"actor\.mp4 lasts 2\.4 s, of which the part 100,200 holds 0\.0 s; choose at least 2 s of it"
    shutil.copytree(folder, tmp_path / "out")
    with pytest.raises(InputError, match=message):
        prepare(actor_clip, tmp_path / "out", PrepareConfig(part=(100, 200)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 33}, "even number"),
        ({"seconds": 0.5}, "at least 2 s"),
        ({"seconds": float("nan")}, "at least 2 s"),
        ({"seconds": float("inf")}, "finite number"),
        ({"audio_offset": float("inf")}, "give auto, none, or seconds"),
        ({"part": (0.0, float("nan"))}, "give begin and end in s"),
        ({"audio_track": 3}, "no sound track 3: give a number from 1 to 1"),
        ({"audio_offset": 100}, r"actor.mp4 lasts 2.4 s, and more than half of it would be without sound"),
        ({"audio_offset": -100.0}, "more than half of it would be without sound"),
        ({"audio_offset": float("nan")}, "give auto, none, or seconds"),
    ],
)
def test_impossible_settings(actor_clip: Path, folder: Path, tmp_path: Path, options: dict, message: str) -> None:
    shutil.copytree(folder, tmp_path / "out")  # what comes before the setting's own step is finished
    with pytest.raises(InputError, match=message):
        prepare(actor_clip, tmp_path / "out", PrepareConfig(**options))


def test_another_csv_than_openfaces_is_refused_before_work_begins(tmp_path: Path) -> None:
    clip, table = tmp_path / "no.mp4", tmp_path / "emotions.csv"
    clip.write_text("this would be the second complaint")
    for text, message in (("time,emotion\n0,happy\n", "give the CSV that OpenFace wrote"), ("a\n1\n", "lacks the col")):
        table.write_text(text)
        with pytest.raises(InputError, match=message):
            prepare(clip, tmp_path / "out", PrepareConfig(action_units=table))


def test_a_table_of_too_few_rows_is_refused_before_tracking(actor_clip: Path, folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "short.csv"
    table.write_text("\n".join([*(folder / "au.csv").read_text().splitlines()[:11], ""]))
    with pytest.raises(InputError, match="short.csv"):
        prepare(actor_clip, tmp_path / "out", PrepareConfig(action_units=table))
    assert not (tmp_path / "out" / "landmarks.npz").exists()


def test_the_record_is_plain_json(folder: Path) -> None:
    record = json.loads((folder / "subject.json").read_text())
    assert record["clip"]["name"] == "actor.mp4"
    assert len(record["clip"]["sha256"]) == 64
    assert record["steps"]["landmarks"]["frames_without_face"] == []
