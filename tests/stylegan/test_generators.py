"""The paper's generator as a training's and the command line's choice."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from emotalking.cli.main import main
from emotalking.data import Subject
from emotalking.data.labels import Label
from emotalking.emotion.generator import EmotionGenerator
from emotalking.errors import InputError
from emotalking.faces import generators
from emotalking.faces.generators import choose_generator
from emotalking.faces.reader import SubjectReader
from emotalking.models.avatar import Avatar
from emotalking.stylegan.critics import LandmarkNet, SmallEncoder
from emotalking.stylegan.lip_aligned import NAME, LipAligned, Small, save_faces
from emotalking.train.callbacks import report as recording
from emotalking.train.run import MESH_WARP, train

from .faces import SIZE

SHORT = [
    "model.face.initial_points=200", "model.mouth.initial_points=50", "mouth.iterations=2", "mouth.warmup=1",
    "mouth.lr_decay_from=2", "mouth.densify.start=1", "mouth.densify.until=2", "face.iterations=2", "face.warmup=1",
    "face.lr_decay_from=2", "face.densify.start=1", "face.densify.until=2", "emotion.iterations=3",
    "emotion.real_share=0.0", "emotion.lr_decay_from=3", "finetune.iterations=1", "audio_pretraining=1",
    "motion_pretraining=1", "emotion.pretraining=1",
]  # fmt: skip


class KnownFaces(SubjectReader):
    """A reader to whom every image shows the subject's first frame."""

    def __init__(self, subject: Subject, _: object) -> None:
        self._points = torch.from_numpy(subject.landmarks.points[0].astype("float32"))

    def landmarks(self, images: Tensor) -> Tensor:
        """See ``SubjectReader``."""
        return self._points.expand(len(images), -1, -1)

    def labels(self, images: Tensor, landmarks: Tensor) -> Tensor:
        """See ``SubjectReader``."""
        return torch.full(images.shape[:3], int(Label.HEAD), dtype=torch.uint8)

    def normals(self, images: Tensor, landmarks: Tensor, labels: Tensor, viewmats: Tensor) -> Tensor:
        """See ``SubjectReader``."""
        return torch.zeros_like(images)


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """A file of untrained networks."""
    torch.manual_seed(0)
    path = tmp_path / NAME
    save_faces(path, LipAligned(SIZE, (16, 8)), {"made": "free"}, Small(SmallEncoder(SIZE, 4), LandmarkNet(4)))
    return path


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The actor's landmarks are no detector's."""
    monkeypatch.setattr(generators.SubjectReader, "open", KnownFaces)


def test_training_takes_its_targets_from_the_papers_generator(
    actor_subject: Subject, faces: Path, known: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "write_page", lambda folder: None)
    choice = choose_generator("paper", actor_subject.files.root, faces, "cpu")
    made = choice.open(None)  # type: ignore[arg-type]
    assert isinstance(made, EmotionGenerator) and made.name == "paper"
    image = torch.from_numpy(actor_subject.original(0).copy())[None].float() / 255
    points = torch.from_numpy(actor_subject.landmarks.points[:1].astype("float32"))
    labels = torch.zeros(1, *image.shape[1:3], dtype=torch.uint8)
    out = made(image, points, labels, torch.eye(4)[None], torch.tensor([[0.8, 0.3]]))
    changed = (out.images != image).any(-1)[0]
    assert 0.02 < changed.float().mean() < 0.5  # eyes and mouth alone
    trained = train(actor_subject.files.root, tmp_path / "a.safetensors", "tiny", "cpu", SHORT, maker=choice)
    metadata = Avatar.load(trained.path).metadata
    assert metadata["generator"] == "paper" and metadata["licences"]["made"] == "free"
    assert metadata["run"]["generator"] == ["paper", choice.file_hash]


def test_wrong_choices_are_one_sentence(actor_subject: Subject, faces: Path) -> None:
    root = actor_subject.files.root
    assert choose_generator("mesh", root, None, "cpu") is MESH_WARP
    with pytest.raises(InputError, match="also choose the generator paper"):
        choose_generator("mesh", root, faces, "cpu")
    with pytest.raises(InputError, match="no generator 'warp'"):
        choose_generator("warp", root, None, "cpu")
    with pytest.raises(InputError, match="faces.safetensors is missing.*faces train"):
        choose_generator("paper", root, None, "cpu")


def test_the_command_line_says_what_is_missing(
    actor_subject: Subject, no_models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = str(actor_subject.files.root)
    assert main(["faces", "train", root, "--device", "cpu"]) == 2
    assert "stylegan2-ffhq-1024x1024.pkl" in capsys.readouterr().err
    assert main(["train", root, "-o", str(tmp_path / "a.safetensors"), "--generator", "paper", "--device", "cpu"]) == 2
    assert "faces train" in capsys.readouterr().err
    assert main(["faces", "sheet", root, "-o", str(tmp_path / "s.png"), "--generator", "paper", "--gain", "0.5"]) == 2
    assert "belong to the mesh warp" in capsys.readouterr().err
    assert main(["faces", "train", root, "--epochs", "0"]) == 2
    assert "epochs is 0: give 1 or more" in capsys.readouterr().err
