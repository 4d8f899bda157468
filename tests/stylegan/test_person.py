"""The paper's generator for a subject: trained from tiny networks, kept in a file, handed over into frames."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from emotalking.data import Subject
from emotalking.errors import InputError
from emotalking.networks.emonet import EmoNet, EmoNetOutput
from emotalking.stylegan.critics import LandmarkNet, SmallEncoder
from emotalking.stylegan.edit_training import EditConfig
from emotalking.stylegan.lip_aligned import LipAligned, Small, StyleEditor, open_faces, save_faces
from emotalking.stylegan.personalise import Networks, aligned_faces, train_faces
from emotalking.stylegan.published_critics import LICENCES, Fan, PublishedCritics, VggFace2, cut_faces
from emotalking.stylegan.stylegan2 import StyleGAN2

from .faces import SIZE, FormulaCritics

FEW = replace(EditConfig(), epochs=1, batch=2)


def networks() -> Networks:
    """Tiny and seeded."""
    torch.manual_seed(0)
    small = Small(SmallEncoder(SIZE, 4).eval(), LandmarkNet(4).eval())
    generator = StyleGAN2(SIZE).requires_grad_(False)
    return Networks(generator, small.encoder, FormulaCritics(), widths=(16, 8), small=small, licences={"made": "free"})


def test_squares_are_ffhqs_and_landmarks_lie_in_them(actor_subject: Subject) -> None:
    faces, ibug68 = aligned_faces(actor_subject, 16, 5, "cpu")
    assert faces.shape == (5, 16, 16, 3) and faces.dtype == torch.uint8 and ibug68.shape == (5, 68, 2)
    eyes, mouth = ibug68[:, 36:48].mean(1), ibug68[:, [48, 54]].mean(1)
    middle = eyes + (mouth - eyes) * 0.1  # FFHQ's centre
    torch.testing.assert_close(middle, torch.zeros(5, 2), atol=0.02, rtol=0)
    assert faces.float().std() > 20


def test_a_subject_is_trained_and_its_file_edits_squares(actor_subject: Subject, tmp_path: Path) -> None:
    out = tmp_path / "faces.safetensors"
    train_faces(actor_subject, out, networks(), config=FEW, pivotal_steps=3, frames=4)
    assert not list((tmp_path / "faces.safetensors.run").glob("*.pt"))
    assert {p.parent.name for p in (tmp_path / "faces.safetensors.run").rglob("log.jsonl")} == {
        "pivotal", "emotion", "lips"
    }  # fmt: skip
    trained = open_faces(out)
    assert trained.licences == {"made": "free"}
    editor = StyleEditor(trained)
    assert (editor.name, editor.size) == ("paper", 16)
    crops, ibug68 = torch.rand(6, 16, 16, 3), torch.zeros(6, 68, 2)
    va = torch.tensor([[0.8, 0.3]]).expand(6, 2)
    edited = editor(crops, ibug68, va)
    assert edited.shape == (6, 16, 16, 3)
    torch.testing.assert_close(edited[4:5], editor(crops[4:5], ibug68[4:5], va[4:5]))  # whatever the batch
    assert (editor(crops, ibug68, -va) - edited).abs().max() > 0


def test_an_interrupted_training_does_not_repeat_what_is_done(
    actor_subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    def trained(out: Path) -> dict[str, torch.Tensor]:
        train_faces(actor_subject, out, networks(), config=FEW, pivotal_steps=3, frames=4)
        return open_faces(out).network.state_dict()

    whole = trained(tmp_path / "a.safetensors")
    with monkeypatch.context() as patch:
        patch.setattr(
            "emotalking.stylegan.personalise.LipTask.step", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "b.safetensors")
    assert (tmp_path / "b.safetensors.run" / "pivotal.pt").exists()
    other = networks()
    other.generator.mapping.w_avg.add_(1.0)
    with pytest.raises(InputError, match="belongs to a training with other settings"):
        train_faces(actor_subject, tmp_path / "b.safetensors", other, config=FEW, pivotal_steps=3, frames=4)
    torch.rand(5)  # The seed is the training's own.
    again = trained(tmp_path / "b.safetensors")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_frames_without_a_face_teach_nothing(actor_subject: Subject) -> None:
    detected, lost = actor_subject.landmarks.detected, actor_subject.train_indices[3:]
    try:
        detected[lost] = False
        assert len(aligned_faces(actor_subject, 16, 50, "cpu")[0]) == 3
        detected[actor_subject.train_indices] = False
        with pytest.raises(InputError, match="no training frame with landmarks"):
            aligned_faces(actor_subject, 16, 50, "cpu")
    finally:
        detected[actor_subject.train_indices] = True


def test_files_of_other_kinds_end_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "faces.safetensors"
    with pytest.raises(InputError, match="cannot be read as a file of 'emotalking faces train'"):
        open_faces(path)
    from safetensors.torch import save_file

    save_file({"a": torch.ones(1)}, path)
    with pytest.raises(InputError, match="no file of this version's 'emotalking faces train'"):
        open_faces(path)
    monkeypatch.setenv("EMOTALKING_MODELS", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    save_faces(path, LipAligned(SIZE, (16, 8)), LICENCES)
    with pytest.raises(InputError, match="e4e_ffhq_encode.pt"):
        open_faces(path)
    with pytest.raises(InputError, match="stylegan2-ffhq-1024x1024.pkl.*e4e_ffhq_encode.pt.*emonet_8.pth.*resnet50_ft"):
        Networks.open()


def test_published_critics_see_their_own_crops() -> None:
    places = (torch.arange(256) + 0.5) / 256 * 2 - 1
    faces = torch.stack([places.expand(256, 256), places[:, None].expand(256, 256), torch.zeros(256, 256)], -1)[None]
    cut = cut_faces(faces, torch.tensor([[0.2, -0.1]]), torch.tensor([0.5]), 64)
    # a pixel shows where it comes from
    torch.testing.assert_close(cut[0, 0, 0], 0.2 + 0.5 * ((torch.arange(64) + 0.5) / 32 - 1), atol=1e-5, rtol=0)
    torch.testing.assert_close(cut[0, 1, :, 0], -0.1 + 0.5 * ((torch.arange(64) + 0.5) / 32 - 1), atol=1e-5, rtol=0)
    with torch.device("meta"):
        critics = PublishedCritics(EmoNet(), Fan(1), VggFace2())
    seen: dict[str, torch.Tensor] = {}

    def show(name: str, answer: object) -> Callable[[torch.Tensor], object]:
        return lambda cut: (seen.update({name: cut}), answer)[1]

    critics.identities.forward = show("identity", torch.ones(1, 4))  # type: ignore[method-assign]
    critics.landmarks.forward = show("points", torch.rand(1, 68, 64, 64))  # type: ignore[method-assign]
    critics.emotions.forward = show(
        "emotion", EmoNetOutput(torch.ones(1, 8), torch.ones(1, 2), torch.ones(1, 68, 64, 64))
    )  # type: ignore[method-assign]
    ibug68 = torch.zeros(1, 68, 2)
    ibug68[0, 0], ibug68[0, 1] = torch.tensor([-0.4, -0.2]), torch.tensor([0.4, 0.6])
    critics.identity(faces, ibug68), critics.points(faces, ibug68), critics.emotion(faces, ibug68)
    shown = {name: (cut.shape[2], cut[0, 0, 0, 0].item(), cut[0, 1, 0, 0].item()) for name, cut in seen.items()}
    # the middle of FFHQ's square; (.8 + .8) / 1.1 around the landmarks; FAN's rule with a forehead, raised
    assert shown["identity"] == (224, pytest.approx(-0.7, abs=0.01), pytest.approx(-0.7, abs=0.01))
    assert shown["emotion"] == (256, pytest.approx(-0.727, abs=0.01), pytest.approx(0.2 - 0.727, abs=0.01))
    half = (0.8 + 1.0) * 200 / 195 / 2
    assert shown["points"] == (256, pytest.approx(-half, abs=0.01), pytest.approx(0.1 - 0.12 - half, abs=0.01))
