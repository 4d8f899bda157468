"""A training survives what happens to it: kills, a full disk, a bad frame, a clip that shows too little."""

import errno
import json
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from emotalking.data import Subject
from emotalking.data.audio_features import AUDIO_FEATURES, DEFAULT_FEATURE
from emotalking.errors import InputError
from emotalking.evaluate.held_out import evaluate_held_out
from emotalking.io.files import holding, replacing
from emotalking.models.avatar import Avatar
from emotalking.train import checkpoint, run
from emotalking.train.data import TrainingData
from emotalking.train.stages.face import FaceStage

from .small import small

pytestmark = pytest.mark.usefixtures("one_thread", "unchecked")

DENSIFY = ("start=2", "every=4", "until=9", "prune_opacity_gain=0")
SHORT = small(
    *(f"{stage}.densify.{part}" for stage in ("mouth", "face") for part in DENSIFY),
    "checkpoint_every=2",
    steps=11,
    warmup=3,
    pretraining=3,
    face=120,
)
LARGEST = 700_000
"""Bytes of a file on the nearly full disk: log and pictures fit, the tri-planes of checkpoint and avatar do not."""


def train(root: Path, out: Path, settings: list[str] | None = None) -> dict[str, torch.Tensor]:
    """The weights that a short run ends with."""
    made = run.train(root, out, "tiny", "cpu", [*SHORT, *(settings or [])])
    return made.avatar.head.state_dict()


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


def in_child(work: Callable[[], object]) -> int:
    """Do ``work`` in a forked process that shows nothing; its number."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        work()
        code = 0
    finally:
        os._exit(code)


def stamp(path: Path) -> int:
    """When ``path`` was last replaced; 0: never."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


@pytest.fixture(scope="module")
def whole(
    one_thread: None, actor_subject: Subject, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, torch.Tensor]:
    """What an uninterrupted run ends with."""
    return train(actor_subject.files.root, tmp_path_factory.mktemp("whole") / "a.safetensors")


def test_kills_change_nothing(actor_subject: Subject, tmp_path: Path, whole: dict[str, torch.Tensor]) -> None:
    root, out = actor_subject.files.root, tmp_path / "a.safetensors"
    saved, draw = tmp_path / "a.safetensors.run" / "checkpoint.pt", np.random.default_rng(4)
    for _ in range(5):
        child = in_child(lambda: train(root, out))
        for _ in range(draw.integers(1, 5)):
            before = stamp(saved)
            while (
                stamp(saved) == before
            ):  # Every life gets somewhere, or it could be killed while it reads the subject.
                assert os.waitpid(child, os.WNOHANG) == (0, 0), "the run ended before it was killed"
                time.sleep(0.002)
        time.sleep(draw.uniform(0.0, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if out.exists():
            break
    assert saved.exists()
    assert same(train(root, out), whole)
    assert not list(saved.parent.glob(".*.part")), "what killed processes left was not removed"


def test_a_kill_while_a_checkpoint_is_written(
    actor_subject: Subject, tmp_path: Path, whole: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = actor_subject.files.root, tmp_path / "a.safetensors"
    saved, save, calls = tmp_path / "a.safetensors.run" / "checkpoint.pt", torch.save, []

    def half(payload: object, path: Path) -> None:
        save(payload, path)
        calls.append(path)
        if len(calls) == 7:  # in the face stage
            os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.torch, "save", half)
        child = in_child(lambda: train(root, out))
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert len(list(saved.parent.glob(".*.part"))) == 1
    assert torch.load(saved, weights_only=True)["stage_name"] == "face"
    assert same(train(root, out), whole)


def test_a_full_disk_is_one_sentence_and_the_checkpoint_stays(
    actor_subject: Subject, tmp_path: Path, whole: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out, save = actor_subject.files.root, tmp_path / "a.safetensors", torch.save
    calls = []

    def full(payload: object, path: Path) -> None:
        calls.append(path)
        if len(calls) > 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(payload, path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.torch, "save", full)
        with pytest.raises(InputError, match="No space left.*free some space and resume"):
            train(root, out)
    assert same(train(root, out), whole)


@pytest.mark.parametrize("what", ["checkpoint", "avatar"])
def test_a_disk_that_takes_no_more(actor_subject: Subject, tmp_path: Path, what: str) -> None:
    """The writers of torch and safetensors have errors of their own; met here as the system raises them."""
    root, out, said = actor_subject.files.root, tmp_path / "a.safetensors", tmp_path / "said"

    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST, LARGEST))
        try:
            train(root, out, ["checkpoint_every=1000"] if what == "avatar" else None)
        except InputError as error:
            said.write_text(str(error))

    assert os.waitpid(in_child(work), 0)[1] == 0
    assert f"The {what} {tmp_path}" in said.read_text() and "free some space" in said.read_text()
    assert not out.exists() and not list(tmp_path.rglob(".*.part"))


def test_weights_that_are_not_finite_are_not_saved(
    actor_subject: Subject, tmp_path: Path, whole: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gradient may be the first that is not finite: then no loss has told of it when a checkpoint is due."""
    root, out, losses = actor_subject.files.root, tmp_path / "a.safetensors", FaceStage.losses

    def poisoned(self: FaceStage, iteration: int):
        terms, frame = losses(self, iteration)
        if iteration == 5:
            terms["l1"] = (
                terms["l1"] + 0.0 * self.branch.gaussians.sh0.sum().sub(self.branch.gaussians.sh0.sum()).sqrt()
            )
        return terms, frame

    with monkeypatch.context() as patch:
        patch.setattr(FaceStage, "losses", poisoned)
        with pytest.raises(
            InputError, match=r"'face.gaussians.sh0' was no longer finite at iteration 6 of stage 'face'"
        ):
            train(root, out)
    assert same(train(root, out), whole)


@pytest.fixture
def own(actor_subject: Subject, tmp_path: Path) -> Iterator[Path]:
    """A subject folder to spoil."""
    root = tmp_path / "subject"
    shutil.copytree(actor_subject.files.root, root)
    yield root


def spoil_table(root: Path, name: str, column: str) -> None:
    """NaN in ``column`` of frame 4."""
    rows = [line.split(",") for line in (root / name).read_text().splitlines()]
    rows[5][[cell.strip() for cell in rows[0]].index(column)] = "nan"
    (root / name).write_text("".join(",".join(row) + "\n" for row in rows))


def spoil_landmarks(root: Path, key: str) -> None:
    """NaN in entry 4 of an array of the landmarks."""
    with np.load(root / "landmarks.npz") as stored:
        arrays = dict(stored)
    arrays[key][4] = np.nan
    np.savez(root / "landmarks.npz", **arrays)


def spoil_camera(root: Path) -> None:
    path = root / "transforms_train.json"
    cameras = json.loads(path.read_text())
    cameras["frames"][4]["transform_matrix"][0][3] = float("nan")
    path.write_text(json.dumps(cameras))


def spoil_sound(root: Path) -> None:
    features = np.load(root / AUDIO_FEATURES[DEFAULT_FEATURE].file_name)
    features[4, 1, 3] = np.nan
    np.save(root / AUDIO_FEATURES[DEFAULT_FEATURE].file_name, features)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda root: spoil_table(root, "au.csv", "AU45_r"), "non-finite action units in frame 4"),
        (lambda root: spoil_table(root, "au.csv", "AU25_r"), "non-finite AU25"),
        (lambda root: spoil_table(root, "va.csv", "valence"), "non-finite valence or arousal in frame 4"),
        (lambda root: spoil_landmarks(root, "shape"), "a face shape with gaps"),
        (spoil_camera, "not a finite 4x4 matrix"),
        (spoil_sound, "non-finite audio features in frame 4"),
    ],
)
def test_nan_in_one_frame_is_named(own: Path, tmp_path: Path, spoil: Callable[[Path], None], sentence: str) -> None:
    spoil(own)
    with pytest.raises(InputError, match=sentence) as raised:
        train(own, tmp_path / "a.safetensors")
    assert "\n" not in str(raised.value)


def test_the_frame_named_is_the_subjects_own(own: Path) -> None:
    spoil_table(own, "au.csv", "AU45_r")
    with pytest.raises(InputError, match="non-finite action units in frame 4:"):
        TrainingData.load(Subject.open(own), np.array([2, 4]), DEFAULT_FEATURE, "cpu")


def paint(root: Path, frames: range, colour: int, only: int | None = None) -> None:
    """Parsing of ``frames`` becomes ``colour`` (grey), all of it or where it was ``only``; no teeth."""
    for index in frames:
        path = root / "parsing" / f"{index}.png"
        mask = cv2.imread(str(path))
        assert mask is not None
        mask[slice(None) if only is None else (mask == only).all(-1)] = colour
        cv2.imwrite(str(path), mask)
        teeth = root / "teeth_mask" / f"{index}.npy"
        np.save(teeth, np.zeros_like(np.load(teeth)))


BLACK, WHITE, MOUTH, ALL = 0, 255, 100, range(33)


def test_a_bad_frame_of_every_kind_does_no_harm(own: Path, tmp_path: Path) -> None:
    spoil_landmarks(own, "points")
    paint(own, range(6, 7), BLACK)
    paint(own, range(8, 9), WHITE)
    paint(own, range(10, 11), BLACK, MOUTH)
    weights = train(own, tmp_path / "a.safetensors", ["face.losses.normal=0.05", "emotion.losses.normal=0.05"])
    assert all(bool(torch.isfinite(value).all()) for value in weights.values())


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda root: paint(root, ALL, BLACK), "shows mouth"),  # black is hair
        (lambda root: paint(root, ALL, WHITE), "shows head or hair"),
        (lambda root: paint(root, ALL, BLACK, MOUTH), "shows mouth"),
    ],
    ids=["black masks", "white masks", "no mouth"],
)
@pytest.mark.parametrize("init", ["surface", "cube"])
def test_a_clip_that_shows_too_little(
    own: Path, tmp_path: Path, spoil: Callable[[Path], None], sentence: str, init: str
) -> None:
    spoil(own)
    with pytest.raises(InputError, match=sentence):
        train(own, tmp_path / "a.safetensors", [f"model.{branch}.init={init}" for branch in ("face", "mouth")])


def test_one_gaussian_is_left_and_can_be_shown(actor_subject: Subject, tmp_path: Path) -> None:
    settings = ["background=green", "model.face.init=cube", "model.mouth.init=cube"]
    settings += [f"{stage}.densify.prune_opacity=1" for stage in ("mouth", "face")]
    weights = train(actor_subject.files.root, tmp_path / "a.safetensors", settings)
    assert weights["face.gaussians.means"].shape[0] == weights["mouth.gaussians.means"].shape[0] == 1
    scores = evaluate_held_out(Avatar.load(tmp_path / "a.safetensors"), actor_subject, limit=1).summary()
    assert np.isfinite(scores["psnr"])


def test_written_files_have_usual_permissions(tmp_path: Path) -> None:
    """Also where a writer, as safetensors' own, puts another file in the place of the one that it is given."""
    (tmp_path / "plain").touch()
    with replacing(tmp_path / "a.safetensors") as scratch:
        save_file({"x": np.zeros(1, np.float32)}, scratch)
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_two_runs_of_one_avatar(actor_subject: Subject, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    with holding(tmp_path / "a.safetensors.run"), pytest.raises(InputError, match="a.safetensors.run is in use"):
        train(actor_subject.files.root, out)
    assert not list(tmp_path.iterdir())
