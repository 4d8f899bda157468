"""Emotional faces from images, clips and subject folders, bad images included, and the command ``faces``."""

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from emotalking.cli.main import main
from emotalking.data import Subject
from emotalking.data.frame import emotion_share
from emotalking.emotion.mesh_warp.template import RINGS
from emotalking.emotion.tracks import EmotionTrack
from emotalking.errors import InputError
from emotalking.faces.edit import FaceEditor, grid_points
from emotalking.faces.generators import open_generator
from emotalking.faces.source import SourceFrame, open_source
from emotalking.io.display import to_rgb
from emotalking.io.video import decode_frames
from emotalking.preprocess.landmarks import open_provider
from emotalking.provenance.mark import Mark
from emotalking.provenance.payload import Payload
from emotalking.provenance.signing import read_signature
from emotalking.testing.actor.actor import Actor, head_viewmat
from emotalking.testing.actor.state import ActorState

HAPPY = (0.74, 0.31)
SAD = (-0.74, -0.31)
AFRAID = (-0.31, 0.74)


@cache
def actor() -> Actor:
    return Actor(size=256)


def look(yaw: float = 0.0, **units: float) -> np.ndarray:
    """The actor, 256 pixels."""
    return actor().render(ActorState(head_viewmat(yaw), units)).image


@pytest.fixture(scope="module")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("faces") / "portrait.png"
    Image.fromarray(look()).save(path)
    return path


@pytest.fixture(scope="module")
def editor(portrait: Path) -> FaceEditor:
    source = open_source(portrait)
    return FaceEditor(source, open_generator(source))


def save(path: Path, image: np.ndarray) -> Path:
    Image.fromarray(image).save(path)
    return path


def complaint(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        open_source(path)
    return str(caught.value)


def test_a_bare_picture(portrait: Path, editor: FaceEditor) -> None:
    source, original = editor.source, np.asarray(Image.open(portrait))
    assert source.fps is None and source.remarks == []
    neutral, happy, sad = editor.images(0, [(0, 0), HAPPY, SAD])
    assert np.abs(neutral.astype(int) - original).max() <= 1
    box = next(source.frames()).box
    for image in (happy, sad):
        changed = np.abs(image.astype(int) - original).max(2)
        assert (changed > 12).sum() > 150
        changed[box.index] = 0
        assert not changed.any()
    mouth = slice(int(0.55 * 256), int(0.75 * 256))
    assert np.abs(happy[mouth].astype(int) - sad[mouth]).max() > 25


def test_the_guessed_pose_is_the_true_one(tmp_path: Path) -> None:
    """Analysis of an unprepared image against the actor's truth."""
    source = open_source(save(tmp_path / "a.png", look(yaw=0.4)))
    frame, true = next(source.frames()), head_viewmat(0.4)
    turn = frame.viewmat[:3, :3] @ true[:3, :3].T
    assert np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))) < 12
    rigid = list(source.layout.rigid)
    camera = source.shape[rigid] @ frame.viewmat[:3, :3].T + frame.viewmat[:3, 3]
    off = camera[:, :2] / camera[:, 2:] * source.K[0, 0] + source.K[:2, 2] - frame.landmarks[rigid]
    assert np.linalg.norm(off, axis=1).mean() < 0.06 * np.ptp(frame.landmarks[:, 0])


def test_corners_of_the_square_are_no_stronger_than_the_rim(editor: FaceEditor) -> None:
    """Valence and arousal of 1 lie outside the disc: the strongest face in that direction."""
    corner, rim = editor.images(0, [(1.0, 1.0), (0.566, 0.566)])
    assert np.abs(corner.astype(int) - rim).max() <= 2


def test_what_is_behind_a_turned_face_stays(tmp_path: Path) -> None:
    """Beyond the far cheek, where the mesh ends, points of the face once moved the background."""
    image = actor().render(ActorState(head_viewmat(0.5, -0.3))).image
    source = open_source(save(tmp_path / "turned.png", image))
    frame = next(source.frames())
    oval = frame.landmarks[list(source.layout.oval)] + np.array([frame.box.left, frame.box.top], np.float32)
    rim = (oval.mean(0) + RINGS[-1] * (oval - oval.mean(0))).round().astype(np.int32)
    outside = cv2.dilate(cv2.fillConvexPoly(np.zeros((256, 256), np.uint8), cv2.convexHull(rim), 1), np.ones((9, 9)))
    for edited in FaceEditor(source, open_generator(source)).images(0, [HAPPY, SAD, AFRAID]):
        assert (edited != image).any()
        assert np.abs(edited.astype(int) - image)[outside == 0].max() <= 1


def test_closed_eyes_stay_closed(tmp_path: Path) -> None:
    shut = look(AU45=2.0)
    source = open_source(save(tmp_path / "shut.png", shut))
    (afraid,) = FaceEditor(source, open_generator(source)).images(0, [AFRAID])
    frame = next(source.frames())
    top, left, _, _ = frame.box
    for side in ("right", "left"):
        lid = [*getattr(source.layout, f"{side}_upper_lid"), *getattr(source.layout, f"{side}_lower_lid")]
        x, y = (frame.landmarks[lid].mean(0) + [left, top]).astype(int)
        eye = np.s_[y - 3 : y + 4, x - 6 : x + 7]
        assert np.abs(afraid[eye].astype(int) - shut[eye]).mean() < 14  # an eye's white would be a hundred


def test_glasses_bend_little(tmp_path: Path, editor: FaceEditor) -> None:
    """They are skin to a warp; the rims stay whole and near their place."""
    image, plain = look().copy(), editor.source
    frame = next(plain.frames())
    offset = np.array([frame.box.left, frame.box.top])
    for side in ("right", "left"):
        lid = [*getattr(plain.layout, f"{side}_upper_lid"), *getattr(plain.layout, f"{side}_lower_lid")]
        middle = (frame.landmarks[lid].mean(0) + offset).astype(int)
        cv2.ellipse(image, middle.tolist(), (21, 16), 0, 0, 360, (20, 20, 20), 2, cv2.LINE_AA)
    source = open_source(save(tmp_path / "glasses.png", image))
    for new in FaceEditor(source, open_generator(source)).images(0, [HAPPY, SAD]):
        rims = [((one.max(2) < 70) & (np.arange(256)[:, None] < 150)).astype(np.uint8) for one in (image, new)]
        near = cv2.dilate(rims[0], np.ones((15, 15), np.uint8))
        assert 0.6 < rims[1].sum() / rims[0].sum() < 1.5
        assert (rims[1] * (1 - near)).sum() < 0.1 * rims[1].sum()


def test_bad_pictures_get_one_sentence(tmp_path: Path) -> None:
    face = look()
    grey = np.full((300, 300, 3), 128, np.uint8)
    assert "no face was found" in complaint(save(tmp_path / "grey.png", grey))
    assert "two faces" in complaint(save(tmp_path / "two.png", np.concatenate([face, face], 1)))
    small = np.full((150, 150, 3), 128, np.uint8)
    small[40:94, 40:94] = cv2.resize(face, (54, 54), interpolation=cv2.INTER_AREA)
    assert "pixels apart" in complaint(save(tmp_path / "small.png", small))
    profile = complaint(save(tmp_path / "profile.png", look(yaw=1.1)))
    assert "turned" in profile or "no face was found" in profile or "cannot be read" in profile
    (tmp_path / "text.png").write_text("no image")
    assert "not a readable image" in complaint(tmp_path / "text.png")
    assert "no such file" in complaint(tmp_path / "nowhere.png")


def test_a_face_at_the_edge_is_remarked(tmp_path: Path) -> None:
    """The visible part of the face is edited."""
    source = open_source(save(tmp_path / "cut.png", look()[:, :136]))
    assert len(source.remarks) == 1 and "outside the image" in source.remarks[0]
    (happy,) = FaceEditor(source, open_generator(source)).images(0, [HAPPY])
    assert np.abs(happy.astype(int) - look()[:, :136]).max() > 12


def test_a_covered_mouth_is_remarked(tmp_path: Path, editor: FaceEditor) -> None:
    frame, masked = next(editor.source.frames()), look()
    lips = frame.landmarks[list(editor.source.layout.lips_outer)] + np.array([frame.box.left, frame.box.top])
    (left, top), (right, bottom) = lips.min(0).astype(int) - 12, lips.max(0).astype(int) + 12
    masked[top:bottom, left:right] = (170, 200, 225)
    (remark,) = open_source(save(tmp_path / "masked.png", masked)).remarks
    assert "the mouth is covered" in remark
    grey = np.repeat(look().mean(2, keepdims=True), 3, 2).astype(np.uint8)  # lips of no colour of their own
    assert open_source(save(tmp_path / "grey.png", grey)).remarks == []


def test_emotion_fades_out_as_the_face_turns() -> None:
    shares = emotion_share(np.stack([head_viewmat(np.radians(deg)) for deg in (0, 30, 42, 60)])).tolist()
    assert shares[:2] == [1, 1] and 0 < shares[2] < 1 and shares[3] == 0


def test_a_subject_folder(actor_subject: Subject) -> None:
    source = open_source(actor_subject.files.root)
    editor = FaceEditor(source, open_generator(source))
    frames = list(editor.frames(EmotionTrack(np.array([0.0, 0.2]), np.array([(0, 0), HAPPY])), limit=6))
    assert len(frames) == 6 and editor.num_unchanged == 0
    moved = [np.abs(image.astype(int) - actor_subject.original(k)).mean() for k, image in enumerate(frames)]
    assert moved[0] < 0.01 and moved[0] < moved[2] < moved[5]
    with pytest.raises(InputError, match="there is no frame 99"):
        editor.images(99, [HAPPY])


class _Lost:
    """A source whose second frame shows nothing."""

    def __init__(self, editor: FaceEditor) -> None:
        from fractions import Fraction

        self._frame = next(editor.source.frames())
        self.fps = Fraction(25)
        self.count = 2
        self.remarks = []
        self.sound = None
        self.shape = editor.source.shape
        self.layout = editor.source.layout
        self.K = editor.source.K

    def frames(self, start: int = 0):
        yield self._frame
        one = self._frame
        nothing = np.full_like(one.landmarks, np.nan)
        yield SourceFrame(one.image, one.box, nothing, one.labels, one.viewmat, 0.0)


def test_frames_without_a_face_stay_as_they_are(editor: FaceEditor) -> None:
    lost = FaceEditor(_Lost(editor), editor.generator)
    first, second = lost.frames(EmotionTrack.constant(*HAPPY))
    original = next(editor.source.frames()).image
    assert lost.num_unchanged == 1
    assert (first != original).any() and (second == original).all()


def test_grid() -> None:
    points = grid_points(5)
    assert points[0] == (-0.8, 0.8) and points[12] == (0.0, 0.0) and points[-1] == (0.8, -0.8)
    with pytest.raises(InputError, match="from 2 to 11"):
        grid_points(1)


def test_command_writes_sheets_and_images(portrait: Path, tmp_path: Path) -> None:
    assert main(["faces", "sheet", str(portrait), "-o", str(tmp_path / "sheet.png"), "--cell", "64"]) == 0
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape[0] > 300 and len(np.unique(sheet.reshape(-1, 3), axis=0)) > 1000
    assert main(["faces", "apply", str(portrait), "-o", str(tmp_path / "grid"), "--grid", "2"]) == 0
    made = list((tmp_path / "grid").glob("v?0.80_a?0.80.png"))
    assert len(made) == 4
    for path in (tmp_path / "sheet.png", *made):
        found = read_signature(path)
        assert found is not None and found.valid and found.licences and found.avatar is None
        assert found.source_types == ("compositeWithTrainedAlgorithmicMedia",)


def test_command_writes_a_lossless_clip(actor_subject: Subject, tmp_path: Path) -> None:
    out = tmp_path / "sad.avi"
    words = ["faces", "apply", str(actor_subject.files.root), "-o", str(out), "--va", "-0.7,-0.3", "--seconds", "0.6"]
    assert main([*words, "--provenance", "off"]) == 0  # the invisible mark would change the pixels
    source = open_source(actor_subject.files.root)
    track = EmotionTrack.constant(-0.7, -0.3)
    wanted = list(FaceEditor(source, open_generator(source)).frames(track, limit=15))
    for (_, frame), made in zip(decode_frames(out), wanted, strict=True):
        assert (to_rgb(frame) == made).all()
    out.unlink()
    assert main(words) == 0
    for (time, frame), made in zip(decode_frames(out), wanted, strict=True):
        assert (to_rgb(frame) == Mark(Payload()).array(made, time)).all()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["apply", "FACE", "-o", "a.png"], "which emotion?"),
        (["apply", "FACE", "-o", "a.png", "--emotion", "happy", "--va", "0,0"], "which emotion?"),
        (["apply", "FACE", "-o", "a.mp4", "--emotion", "happy"], "is one image"),
        (["apply", "FACE", "-o", "a.png", "--emotion", "hungry"], "unknown emotion"),
        (["apply", "FACE", "-o", "a.png", "--va", "2,0"], "must lie between -1 and 1"),
        (["apply", "FACE", "-o", "a.png", "--va", "0,0", "--gain", "3"], "caricature"),
        (["apply", "FACE", "-o", "a.png", "--va", "0,0", "--resting-expression", "nan,0"], "each from -1 to 1"),
        (["apply", "FACE", "-o", "a.png", "--va", "0,0", "--resting-expression", "3,0"], "each from -1 to 1"),
        (["apply", "FACE", "-o", "a.png", "--grid", "3"], "names a file"),
        (["apply", "FACE", "-o", "a.png", "--emotion", "sad", "--frame", "7"], "there is no frame 7"),
        (["apply", "FACE", "-o", "a.png", "--emotion", "sad", "--resting-expression", "1"], "two numbers"),
        (["sheet", "FACE", "-o", "a.png", "--cell", "4"], "from 32 to 1024"),
        (["sheet", "nowhere.png", "-o", "a.png"], "no such file"),
        (["sheet", "FACE", "-o", "s.txt"], "end it with .png, .jpg, .jpeg or .webp"),
        (["sheet", "FACE", "-o", "s"], "end it with .png, .jpg, .jpeg or .webp"),
        (["dance", "FACE"], "choose one of faces apply, faces sheet, faces train"),
    ],
)
def test_command_complains_in_one_sentence(
    portrait: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["faces", *[str(portrait) if word == "FACE" else word for word in words]]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("emotalking: error: ")]
    assert len(lines) == 1 and says in lines[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.realdata
def test_a_real_clip_smiles_for_a_detector(real_data: Path) -> None:
    source = open_source(real_data / "clips" / "flag_590_5s.mp4")
    editor = FaceEditor(source, open_generator(source))
    assert source.sound is not None and source.remarks == []
    lifts = {}
    for place in ((0.0, 0.0), HAPPY, SAD):
        provider, rows = open_provider(), []
        for image in editor.frames(EmotionTrack.constant(*place), limit=5):
            points = provider.detect(image)
            assert points is not None
            corners, middle = points[[61, 291], 1].mean(), points[[13, 14], 1].mean()
            rows.append((middle - corners) / np.linalg.norm(points[33, :2] - points[263, :2]))
        lifts[place] = np.mean(rows)
    assert lifts[HAPPY] > lifts[(0.0, 0.0)] + 0.02 and lifts[SAD] < lifts[(0.0, 0.0)] - 0.01


@pytest.mark.gpu
def test_gpu_agrees(editor: FaceEditor) -> None:
    here = editor.images(0, [HAPPY, SAD])
    source = editor.source
    there = FaceEditor(source, open_generator(source), torch.device("cuda")).images(0, [HAPPY, SAD])
    for a, b in zip(here, there, strict=True):
        assert np.abs(a.astype(int) - b).mean() < 0.1
