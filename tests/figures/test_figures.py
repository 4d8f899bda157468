"""The figures of an untrained avatar of the actor: files, what they say, and which are drawn again."""

import json
import shutil
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import soundfile
import torch

from emotalking import FiguresConfig, InputError, draw_figures
from emotalking.cli.main import INPUT_ERROR, main
from emotalking.data import Subject
from emotalking.emotion.circumplex import preset
from emotalking.emotion.tracks import EmotionTrack
from emotalking.figures.config import FIGURES
from emotalking.figures.material import Material, Output
from emotalking.figures.motion import sweep_frames
from emotalking.io.images import read_image
from emotalking.models.avatar import Avatar
from emotalking.models.config import BranchConfig, EmotionConfig, ModelConfig
from emotalking.models.gaussians import Gaussians
from emotalking.models.head import TalkingHead
from emotalking.models.scene import Scene, TorsoStack, encode_torso
from emotalking.ops.normals import decode_normals
from emotalking.player.views import normal_colours
from emotalking.provenance.signing import read_signature
from emotalking.report.images import with_emotion


def untrained(subject: Subject, path: Path, branch: str = "separate") -> Path:
    """An avatar file with the subject's training poses, whose head is a ball."""
    torch.manual_seed(0)
    ball = torch.nn.functional.normalize(torch.randn(120, 3), dim=-1) * 0.08
    face, mouth = (Gaussians(ball * size, torch.full((120, 3), 0.6), 0) for size in (1.0, 0.2))
    config = ModelConfig(
        face=BranchConfig(120, sh_degree=0),
        mouth=BranchConfig(120, sh_degree=0, hidden=32),
        emotion=EmotionConfig(branch),
    )
    trained = subject.train_indices
    scene = Scene(
        width=subject.width,
        height=subject.height,
        fps=subject.fps,
        focal=subject.focal,
        viewmats=subject.viewmats[trained],
        aus=subject.aus[trained],
        va=np.zeros((len(trained), 2), np.float32),
        background=subject.background,
        torso=TorsoStack.encode([encode_torso(subject.torso(int(index))) for index in trained]),
    )
    Avatar(TalkingHead(config, face, mouth), scene).save(path)
    return path


@pytest.fixture(scope="module")
def avatar_file(actor_subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained(actor_subject, tmp_path_factory.mktemp("avatar") / "someone.safetensors")


@pytest.fixture(scope="module")
def other(actor_subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another system's frames: the recorded ones, all red."""
    folder = tmp_path_factory.mktemp("other")
    for index in actor_subject.val_indices.tolist():
        cv2.imwrite(str(folder / f"{index:05d}.png"), np.full((64, 64, 3), (0, 0, 250), np.uint8))
    return folder


@pytest.mark.usefixtures("unchecked")
def test_all_figures_by_one_command_and_each_only_once(
    avatar_file: Path, actor_subject: Subject, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["figures", str(avatar_file), str(actor_subject.files.root), "-o", str(tmp_path / "f"), "--device", "cpu"]
    words += ["--frames", "2", "--against", f"Red={other}"]
    assert main([*words, "--seconds", "1"]) == 0
    assert f"drawn: {', '.join(FIGURES)}" in capsys.readouterr().err
    page = (tmp_path / "f" / "index.html").read_text("utf-8")
    for words_of_page in (
        "99th percentile",
        "in the mean; this avatar was trained without normal terms",
        "Chequers",
        "5 x 5",
        "circle of radius 0.8",
        "neutral, happy",
    ):
        assert words_of_page in page
    assert 'src="sweep.mp4"' in page and 'src="transitions.mp4"' in page and "Left out" not in page
    for name, tracks in (("sweep.mp4", ["video"]), ("transitions.mp4", ["video", "audio"])):
        with av.open(str(tmp_path / "f" / name)) as container:
            assert [stream.type for stream in container.streams] == tracks
            assert len(list(container.decode(video=0))) == {"sweep.mp4": 24, "transitions.mp4": 25}[name]
    for name, source in (
        ("attention.png", "trained"),
        ("normals.png", "compositeWithTrained"),
        ("sweep.mp4", "trained"),
    ):
        signature = read_signature(tmp_path / "f" / name)
        assert signature is not None and signature.valid and signature.source_types == (f"{source}AlgorithmicMedia",)
    red = (read_image(tmp_path / "f" / "comparison.png")[..., :].astype(int) @ [1, -1, -1] > 150).any(1)
    assert red[-300:-60].mean() > 0.9 and not red[:600].any()  # the last of three rows

    def again(*more: str) -> str:
        assert main([*words, *more]) == 0
        return capsys.readouterr().err

    said = again("--seconds", "1")
    assert f"kept from before: {', '.join(FIGURES)}" in said and "drawn" not in said
    (tmp_path / "f" / "layers.png").write_bytes(b"cut short")
    (tmp_path / "f" / "sweep.png").unlink()
    assert "drawn: layers, sweep\n" in again("--seconds", "1")
    said = again("--seconds", "1.2", "--only", "transitions,attention")
    assert "drawn: transitions\n" in said and "kept from before: attention\n" in said
    page = (tmp_path / "f" / "index.html").read_text("utf-8")
    assert "Normals" in page and "circle of radius" not in page  # kept ones stay; the sweep has another length


def test_what_cannot_be_drawn_is_left_out_with_the_reason(actor_subject: Subject, tmp_path: Path) -> None:
    shutil.copytree(actor_subject.files.root, tmp_path / "subject")
    shutil.rmtree(tmp_path / "subject" / "normals", ignore_errors=True)
    (tmp_path / "subject" / "aud.wav").unlink()
    plain = untrained(actor_subject, tmp_path / "plain.safetensors", "none")
    config = FiguresConfig(frames=1, seconds=1)
    made = draw_figures(plain, tmp_path / "subject", tmp_path / "f", config, device="cpu", provenance="off")
    assert made.drawn == ("attention", "layers") and made.kept == ()
    assert made.left_out["normals"] == "the subject folder has no normal maps"
    assert "without its emotion stage" in made.left_out["interpolation"] and "sweep" in made.left_out
    assert made.left_out["transitions"].endswith("aud.wav is missing: give audio")
    assert made.left_out["comparison"] == "no other system's frames were given"
    soundfile.write(tmp_path / "subject" / "aud.wav", np.full(1600, 0.1), 16000)  # the frames last 1.32 s
    emotional = untrained(actor_subject, tmp_path / "emotional.safetensors")
    with pytest.raises(InputError, match="aud.wav ends before the frames do: give audio"):
        draw_figures(emotional, tmp_path / "subject", tmp_path / "g", config, device="cpu", provenance="off")
    page = made.page.read_text("utf-8")
    assert all(f"{why}." in page.replace("&#x27;", "'") for why in made.left_out.values())
    assert json.loads((tmp_path / "f" / "figures.json").read_text("utf-8"))["figures"].keys() == set(made.drawn)


def test_a_figure_whose_record_is_damaged_is_drawn_again(
    avatar_file: Path, actor_subject: Subject, tmp_path: Path
) -> None:
    config, inputs = FiguresConfig(only=("attention",), frames=1), (avatar_file, actor_subject.files.root)

    def drawn() -> tuple[str, ...]:
        return draw_figures(*inputs, tmp_path, config, device="cpu", provenance="off").drawn

    assert drawn() == ("attention",) and drawn() == ()
    record = tmp_path / "figures.json"
    whole = json.loads(record.read_text("utf-8"))
    nameless = {key: value for key, value in whole["figures"]["attention"].items() if key != "caption"}
    for figures in (None, [], {"attention": [1]}, {"attention": nameless}):
        record.write_text(json.dumps({**whole, "figures": figures}))
        assert drawn() == ("attention",)


def test_an_interrupted_first_figure_is_taken_up(
    avatar_file: Path, actor_subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, inputs = FiguresConfig(only=("sweep",), frames=1, seconds=1), (avatar_file, actor_subject.files.root)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Output, "image", stop)  # after the video
        draw_figures(*inputs, tmp_path, config, device="cpu", provenance="off")
    assert (tmp_path / "sweep.mp4").is_file() and not (tmp_path / "sweep.png").exists()
    made = draw_figures(*inputs, tmp_path, config, device="cpu", provenance="off")
    assert made.drawn == ("sweep",) and (tmp_path / "sweep.png").is_file()


def test_inputs_that_do_not_fit_are_refused(
    avatar_file: Path, actor_subject: Subject, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["figures", str(avatar_file), str(actor_subject.files.root), "-o", str(tmp_path / "f"), "--device", "cpu"]
    wrong = {
        ("--against", f"a={other}", "--against", f"a={other}"): "two systems are called a",
        ("--against", "a=nowhere"): "nothing at nowhere",
        ("--against", f"a={other}", "--start", "b=3"): "'b' is no system here",
        ("--only", "portrait"): "invalid choice: 'portrait'",
        ("--frames", "0"): "give 1 to 12",
        ("--seconds", "0.1"): "give 1 to 600 seconds",
    }
    for options, sentence in wrong.items():
        assert main([*words, *options]) == INPUT_ERROR
        assert sentence in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "attention.png").write_bytes(b"mine")
    with pytest.raises(InputError, match="attention.png, which is no folder of figures"):
        draw_figures(avatar_file, actor_subject.files.root, tmp_path / "mine", device="cpu")
    with pytest.raises(InputError, match="there are attention, normals, .* not none"):
        FiguresConfig(only=())


def test_faces_are_cut_with_their_foreheads(avatar_file: Path, actor_subject: Subject) -> None:
    material = Material(Avatar.load(avatar_file), actor_subject, FiguresConfig(frames=2), (), lambda: None)
    points = actor_subject.landmarks.ibug68[material.frames].reshape(-1, 2)
    box = material.box
    assert box.left <= points[:, 0].min() and box.right >= points[:, 0].max() and box.bottom >= points[:, 1].max() - 1
    assert points[:, 1].min() - box.top > 0.1 * box.height or box.top == 0
    assert set(material.frames) <= set(actor_subject.val_indices) and len(material.frames) == 2
    assert sweep_frames(material) % 12 == 0


def test_given_normals_keep_their_direction_in_colours(actor_subject: Subject) -> None:
    """Red to the right, green up, blue to the camera: what a face's cheeks show."""
    vectors = torch.tensor([[[[0.6, 0.0, -0.8], [0.0, -0.6, -0.8]]]])
    shown = decode_normals(normal_colours(vectors, torch.ones(1, 1, 2)))[0, 0]
    assert torch.allclose(shown, torch.tensor([[0.6, 0.0, 0.8], [0.0, 0.6, 0.8]]), atol=1e-6)


def test_emotion_is_drawn_at_its_place() -> None:
    image = np.zeros((200, 300, 3), np.uint8)
    centres = {}
    for valence, arousal in ((0.8, 0.0), (-0.8, 0.0), (0.0, 0.8), (0.0, -0.8)):
        drawn = with_emotion(image, valence, arousal).astype(int)
        dot = np.argwhere(drawn @ [1, -1, -1] > 60)
        centres[valence, arousal] = dot.mean(0)
    assert not image.any()
    assert centres[0.8, 0.0][1] - centres[-0.8, 0.0][1] == pytest.approx(32, abs=2)
    assert centres[0.0, -0.8][0] - centres[0.0, 0.8][0] == pytest.approx(32, abs=2)


def test_a_tour_holds_each_emotion_and_changes_in_between() -> None:
    track = EmotionTrack.tour(("neutral", "happy", "sad"), 5.0)
    assert np.allclose(track.at(np.array([0.5, 2.5, 4.5])), [preset(name) for name in ("neutral", "happy", "sad")])
    assert 0 < track.at(np.array([1.5]))[0, 0] < preset("happy")[0]
