"""Further clips of a person: prepared in the main clip's head frame, from its rest, in its colours."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from emotalking.data import Subject, validate
from emotalking.data.validate import subject_facts
from emotalking.errors import InputError
from emotalking.preprocess import expressions
from emotalking.preprocess.config import PrepareConfig
from emotalking.preprocess.expressions import check_with, prepare_with
from emotalking.preprocess.identity import Faces, Likeness, compare
from emotalking.testing.actor.actor import Actor, head_viewmat
from emotalking.testing.actor.performance import Performance
from emotalking.testing.actor.state import ActorState, Viseme

from .clips import write_clip

SIZE = 128
QUICK = PrepareConfig(normals="none", device="cpu")
GAIN = np.array([0.8, 0.9, 1.0])
"""The second room's light."""


def states(count: int, *, valence: float = 0.0, arousal: float = 0.0, depth: float = 0.0) -> list[ActorState]:
    out = []
    for i in range(count):
        t = i / 25
        shut = 5.0 * float(i % 40 in (20, 21))
        view = head_viewmat(0.25 * np.sin(2.2 * t), 0.08 * np.sin(3.1 * t), 0.05 * np.sin(1.7 * t), (0.0, 0.0, depth))
        jaw = float(max(0.0, np.sin(9 * t)))
        out.append(ActorState(view, {"AU45": shut}, Viseme(jaw=jaw), valence, arousal, emotional_tint=False))
    return out


def images(actor: Actor, shown: list[ActorState], gain: np.ndarray | float = 1.0) -> list[np.ndarray]:
    return [np.round(np.clip(actor.image_of(state) * gain, 0, 1) * 255).astype(np.uint8) for state in shown]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, actor = tmp_path_factory.mktemp("clips"), Actor(size=SIZE)
    speech = Performance.generate(4.4, seed=3).waveform[16000 : int(16000 * 3.2)]
    (folder / "other").mkdir()
    angry = images(actor, states(51, valence=-0.7, arousal=0.4, depth=0.05), GAIN)
    return {
        "main": write_clip(folder / "main.mp4", images(actor, states(51)), sound=speech),
        "angry": write_clip(folder / "angry.mp4", angry),
        "namesake": write_clip(folder / "other" / "angry.mp4", angry[:50]),
        "short": write_clip(folder / "short.mp4", angry[:20]),
        "empty": write_clip(folder / "empty.mp4", [np.full((SIZE, SIZE, 3), 90, np.uint8)] * 51),
    }


@pytest.fixture(scope="module")
def folder(clips: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("subject") / "actor"
    prepare_with(clips["main"], out, [clips["angry"]], replace(QUICK, force=True))
    return out


def test_poses_are_of_the_main_clips_head(folder: Path) -> None:
    subject = Subject.open(folder)
    clip = subject.expressions["angry"]
    assert clip.landmarks.shape is not None and subject.landmarks.shape is not None
    assert np.array_equal(clip.landmarks.shape, subject.landmarks.shape)
    assert clip.focal == pytest.approx(subject.focal) and clip.width == subject.width
    truth = {"main": states(51), "angry": states(51, depth=0.05)}
    bridges = []
    for name, views in (("main", subject.viewmats), ("angry", clip.viewmats)):
        true = np.stack([state.viewmat[:3, :3] for state in truth[name]])
        bridges.append(Rotation.from_matrix(np.swapaxes(true, 1, 2) @ views[:, :3, :3]).mean())
    # Both are off from the actor's own head frame by the same rotation.
    assert np.degrees((bridges[0].inv() * bridges[1]).magnitude()) < 2.5


def test_emotion_is_from_the_main_clips_rest(folder: Path) -> None:
    subject = Subject.open(folder)
    clip = subject.expressions["angry"]
    shown, main = clip.read_emotion, subject.valence_arousal
    assert shown is not None and main is not None and subject.read_emotion is not None
    assert np.abs(np.median(main, 0)).max() < 1e-6 < np.abs(np.median(subject.read_emotion, 0)).max()
    assert clip.manifest["steps"]["emotion"]["shows"] == "angry"  # so its name says
    assert shown[:, 0].mean() < -0.4 and np.allclose(shown @ (0.31, 0.74), 0, atol=1e-4)


def test_colours_are_matched(folder: Path) -> None:
    match = Subject.open(folder).expressions["angry"].colour_match
    assert match is not None
    gains, right, up, offset = match.coefficients.T
    assert np.abs(gains * GAIN - 1).max() < 0.1
    assert np.abs([right, up, offset]).max() < 0.08


def test_the_folder_tells_of_them(folder: Path) -> None:
    assert [one for one in validate(folder) if one.where.startswith("expressions") and one.severity == "error"] == []
    shown = subject_facts(folder)["expressions"]
    assert isinstance(shown, dict) and shown["angry"].startswith("51 frames (2.0 s), 128 x 128, valence -0.")
    cameras = folder / "expressions" / "angry" / "transforms_val.json"
    kept = cameras.read_bytes()
    cameras.unlink()
    try:
        assert "angry" not in Subject.open(folder).expressions
        assert any("not finished" in one.what for one in validate(folder) if one.where == "expressions/angry")
    finally:
        cameras.write_bytes(kept)


def test_an_unfinished_clip_is_finished_and_the_rest_is_kept(folder: Path, clips: dict[str, Path]) -> None:
    clip = folder / "expressions" / "angry"
    kept = [folder / "gt_imgs" / "0.jpg", folder / "subject.json", clip / "ori_imgs" / "0.jpg", clip / "landmarks.npz"]
    before = [path.stat().st_mtime_ns for path in kept]
    read = (clip / "va.csv").read_bytes()
    (clip / "va.csv").unlink()
    # Another size would prepare the main clip anew, were it not finished.
    prepare_with(clips["main"], folder, [clips["angry"]], replace(QUICK, size=96))
    assert (clip / "va.csv").read_bytes() == read
    assert [path.stat().st_mtime_ns for path in kept] == before


def test_clips_that_cannot_be_used_are_refused(
    folder: Path, clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*given: Path) -> str:
        with pytest.raises(InputError) as caught:
            prepare_with(clips["main"], folder, given, QUICK)
        return str(caught.value)

    assert "was made from another clip: rename angry.mp4" in refused(clips["namesake"])
    assert "two clips of expressions are called angry" in refused(clips["angry"], clips["namesake"])
    assert "there is no such file" in refused(tmp_path / "gone.mp4")
    assert "give a clip of at least 2 s" in refused(clips["short"])
    assert "no face was found" in refused(clips["empty"])
    strange = Likeness(True, "it shows another person", {})
    monkeypatch.setattr(expressions, "compare", lambda main, other: strange)
    assert "angry.mp4: it shows another person; give clips of one person" in refused(clips["angry"])
    assert sorted(path.name for path in (folder / "expressions").iterdir()) == ["angry"]


def test_a_missing_clip_is_named_before_any_is_read(tmp_path: Path) -> None:
    (tmp_path / "main.mp4").write_bytes(b"no video")
    with pytest.raises(InputError, match=r"angry.mp4: there is no such file"):
        check_with(tmp_path / "main.mp4", [tmp_path / "angry.mp4"])


def test_a_folder_without_a_face_shape_is_refused(actor_subject: Subject) -> None:
    with pytest.raises(InputError, match="lacks a tracked face shape"):
        expressions.Person.of(actor_subject)


def test_faces_are_compared() -> None:
    shape = np.random.default_rng(0).normal(0, 0.05, (45, 3))
    moved = 1.3 * shape @ Rotation.from_euler("xyz", [0.2, 0.1, -0.3]).as_matrix().T + 0.4
    vector = np.zeros(128)
    assert compare(Faces(shape, None), Faces(moved, None)).doubt == ""
    other = shape + np.random.default_rng(1).normal(0, 0.004, shape.shape)
    odd = compare(Faces(shape, None), Faces(other, vector))
    assert not odd.stranger and "is it the same person?" in odd.doubt
    near, far = (compare(Faces(shape, vector), Faces(other, vector + x / np.sqrt(128))) for x in (0.35, 0.5))
    assert not near.stranger and not near.doubt and near.facts["distance"] == pytest.approx(0.35)
    assert far.stranger and "another person" in far.doubt
    assert not compare(None, Faces(shape, vector)).stranger
