"""Perception by networks of others, with stand-ins that know the answer: what reaches the folder, and where."""

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from emotalking.data import Subject
from emotalking.data.labels import Label
from emotalking.errors import InputError
from emotalking.networks.bisenet import MEAN, STD, FacePart
from emotalking.networks.easyportrait import TEETH
from emotalking.networks.emonet import EmoNet, EmoNetEstimator, EmoNetOutput
from emotalking.preprocess.config import PARSINGS, PrepareConfig, check_choice, networks
from emotalking.preprocess.masks import make_masks
from emotalking.preprocess.networks import NetworkParsing, draw_network_normals, read_emotion
from emotalking.testing.actor.actor import Actor
from emotalking.testing.actor.performance import Performance
from emotalking.testing.actor.state import ActorFrame
from emotalking.testing.actor_subject import write_actor_subject

PART_OF_LABEL = {
    Label.BACKGROUND: FacePart.BACKGROUND,
    Label.HEAD: FacePart.NOSE,
    Label.HAIR: FacePart.HAIR,
    Label.MOUTH: FacePart.INNER_MOUTH,
    Label.NECK: FacePart.NECKLACE,
    Label.TORSO: FacePart.CLOTH,
}
SIZE, COUNT = 96, 6


@pytest.fixture(scope="module")
def frames() -> list[ActorFrame]:
    actor = Actor(size=SIZE)
    return [actor.render(state) for state in Performance.generate(2.0, seed=7).states[::8][:COUNT]]


@pytest.fixture
def subject(frames: list[ActorFrame], tmp_path: Path) -> Subject:
    """A folder of those frames."""
    actor = Actor(size=SIZE)
    layout = actor.layout
    sound = np.zeros(16000, np.float32)
    return write_actor_subject(tmp_path / "subject", frames, sound, Fraction(25), layout, actor.neutral_landmarks())


class Knowing(torch.nn.Module):
    """Gives the true classes of the frame that an image shows: it remembers all frames by their looks."""

    def __init__(self, images: list[np.ndarray], truth: list[np.ndarray], mean: tuple, std: tuple) -> None:
        super().__init__()
        self.images, self.truth, self.mean, self.std = images, truth, mean, std

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Scores."""
        small = F.interpolate(batch, self.images[0].shape[:2], mode="area").permute(0, 2, 3, 1).numpy()
        seen = (small * np.float32(self.std) + np.float32(self.mean)) * 255
        scores = []
        for image in seen:
            which = np.argmin([np.abs(image - known).mean() for known in self.images])
            assert np.abs(image - self.images[which]).mean() < 3  # it is one of them
            classes = cv2.resize(self.truth[which], batch.shape[:1:-1], interpolation=cv2.INTER_NEAREST)
            scores.append(9.0 * torch.nn.functional.one_hot(torch.from_numpy(classes).long(), 19).permute(2, 0, 1))
        return torch.stack(scores)


def parts(frame: ActorFrame) -> np.ndarray:
    table = np.array([PART_OF_LABEL[label] for label in Label], np.uint8)
    return table[frame.labels]


def test_bisenets_classes_reach_the_folder(frames: list[ActorFrame], subject: Subject) -> None:
    images = [frame.image for frame in frames]
    network = Knowing(images, [parts(frame) for frame in frames], MEAN, STD)
    points = np.stack([frame.landmarks for frame in frames])
    facts = make_masks(subject.files, iter(images), points, subject.landmarks.layout, NetworkParsing(network))
    assert facts["provider"] == "bisenet"
    for index, frame in enumerate(frames):
        labels = subject.masks(index).labels
        # Teeth by colour and the steadying over time move a few pixels at borders.
        assert (labels == frame.labels).mean() > 0.985
        for label in (Label.HEAD, Label.HAIR, Label.TORSO, Label.BACKGROUND):
            a, b = labels == label, frame.labels == label
            assert (a & b).sum() / (a | b).sum() > 0.95, label.name


def test_teeth_of_the_second_network_are_mouth(frames: list[ActorFrame], subject: Subject) -> None:
    images = [frame.image for frame in frames]
    network = Knowing(images, [parts(frame) for frame in frames], MEAN, STD)

    class Corner(torch.nn.Module):
        """Sees teeth in the upper left quarter."""

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            """Scores."""
            scores = torch.zeros(len(batch), 8, *batch.shape[2:])
            scores[:, TEETH, : batch.shape[2] // 2, : batch.shape[3] // 2] = 1
            return scores

    provider = NetworkParsing(network, Corner())
    assert provider.name == "bisenet+easyportrait"
    parser = provider.fit(images, np.stack([frame.landmarks for frame in frames]), subject.landmarks.layout)
    parsing = parser.decide(images[0], frames[0].landmarks, parser.scores(images[0], frames[0].landmarks))
    half = SIZE // 2
    assert parsing.teeth[:half, :half].all() and parsing.teeth.sum() == half**2
    assert (parsing.labels[:half, :half] == Label.MOUTH).all()


class Redness(EmoNet):
    """Reads valence off the red of the crop."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)

    def forward(self, images: torch.Tensor) -> EmoNetOutput:
        """Means."""
        va = torch.stack([images[:, 0].mean((1, 2)), -images[:, 1].mean((1, 2))], 1)
        return EmoNetOutput(torch.zeros(len(images), 8), va, torch.zeros(len(images), 68, 1, 1))


def test_emotion_is_read_from_the_face_of_every_frame(frames: list[ActorFrame], subject: Subject) -> None:
    points = np.stack([frame.landmarks for frame in frames])
    values = read_emotion((f.image for f in frames), points, subject.landmarks.layout, EmoNetEstimator(Redness()))
    assert values.shape == (COUNT, 2) and values.dtype == np.float32
    skin = frames[0].image[frames[0].labels == Label.HEAD].mean(0) / 255
    assert values[0, 0] == pytest.approx(skin[0], abs=0.2) and values[0, 1] == pytest.approx(-skin[1], abs=0.2)
    assert len(np.unique(values[:, 0])) == COUNT


class Dome(torch.nn.Module):
    """Sees a dome in every crop, in the axes of the published network, or in others."""

    def __init__(self, flip: float = 1.0) -> None:
        super().__init__()
        self.flip = flip

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normals."""
        size = images.shape[-1]
        grid = (torch.arange(size) + 0.5) / size - 0.5
        x, y = grid[None, :].expand(size, size), -grid[:, None].expand(size, size)
        dome = torch.stack([x * self.flip, y, torch.sqrt(1 - x**2 - y**2)])
        return dome[None].expand(len(images), -1, -1, -1)


def test_normals_are_written_on_the_skin(frames: list[ActorFrame], subject: Subject) -> None:
    images, points = [frame.image for frame in frames], np.stack([frame.landmarks for frame in frames])
    facts = draw_network_normals(subject.files, iter(images), points, subject.landmarks.layout, Dome())
    assert facts["provider"] == "face normals network"
    for index in range(COUNT):
        colours = cv2.cvtColor(cv2.imread(str(subject.files.normals(index))), cv2.COLOR_BGR2RGB)
        drawn = colours.any(-1)
        skin = subject.masks(index).labels == Label.HEAD
        assert not drawn[~skin].any() and drawn[skin].mean() > 0.7
        normals = colours[drawn] / 255 * 2 - 1
        np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, atol=0.02)
        assert (normals[:, 2] < 0).all()
    with pytest.raises(InputError, match="bulge"):
        draw_network_normals(subject.files, iter(images), points, subject.landmarks.layout, Dome(-1.0))


def test_missing_checkpoints_are_told_before_the_clip_is_touched(no_models: Path) -> None:
    (no_models / "79999_iter.pth").write_bytes(b"weights")
    PrepareConfig(parsing="bisenet")
    wrong = {
        ("parsing", "bisenet+easyportrait"): r"fpn-fp-512\.pth.*parsing 'bisenet'",
        ("emotion_model", "emonet"): r"emonet_8\.pth.*CC BY-NC-ND.*emotion model 'landmarks'",
        ("emotion_model", "emonet5"): r"emonet_5\.pth",
        ("normals", "network"): r"face_normals\.pth.*normals 'mesh'",
    }
    for (field, choice), says in wrong.items():
        with pytest.raises(InputError, match=says):
            PrepareConfig(**{field: choice})
    with pytest.raises(InputError, match="give embedded, bisenet or bisenet\\+easyportrait"):
        check_choice("parsing", "unet", PARSINGS)
    record = networks(("bisenet",))["bisenet"]
    assert record["file"] == "79999_iter.pth" and len(record["sha256"]) == 64 and "CelebAMask" in record["licence"]


_P = FacePart
SMALL_PARSER_ORDER = (
    *(_P.BACKGROUND, _P.UPPER_LIP, _P.LEFT_BROW, _P.SKIN, _P.RIGHT_EAR, _P.RIGHT_EYE, _P.NOSE, _P.NECKLACE),
    *(_P.LEFT_EAR, _P.GLASSES, _P.LOWER_LIP, _P.RIGHT_BROW, _P.HAT, _P.HAIR, _P.INNER_MOUTH, _P.NECK),
    *(_P.CLOTH, _P.LEFT_EYE, _P.EARRING),
)
"""Classes of the sample data's parser as seen at the landmarks of four faces (nothing is written about them)."""


class SmallParser(torch.nn.Module):
    """The small U-Net of the sample data: 19 classes at 256 pixels, images in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()

        def pair(channels_in: int, channels_out: int) -> torch.nn.Sequential:
            convs = [torch.nn.Conv2d(a, channels_out, 3, padding=1) for a in (channels_in, channels_out)]
            return torch.nn.Sequential(convs[0], torch.nn.ReLU(), convs[1], torch.nn.ReLU())

        self.enc1, self.enc2, self.bottleneck = pair(3, 32), pair(32, 64), pair(64, 128)
        self.up1, self.dec1 = torch.nn.ConvTranspose2d(128, 64, 2, 2), pair(128, 64)
        self.up2, self.dec2 = torch.nn.ConvTranspose2d(64, 32, 2, 2), pair(64, 32)
        self.out = torch.nn.Conv2d(32, 19, 1)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Scores at the size of the images, which come as BiSeNet's do."""
        colours = batch * torch.tensor(STD).view(1, 3, 1, 1) + torch.tensor(MEAN).view(1, 3, 1, 1)
        x = F.interpolate(colours, (256, 256), mode="area") * 2 - 1
        first = self.enc1(x)
        second = self.enc2(F.max_pool2d(first, 2))
        y = self.up1(self.bottleneck(F.max_pool2d(second, 2)))
        y = self.dec1(torch.cat([y, second], 1))
        y = self.dec2(torch.cat([self.up2(y), first], 1))
        scores = self.out(y)[:, np.argsort(SMALL_PARSER_ORDER)]
        return F.interpolate(scores, batch.shape[2:], mode="bilinear")


@pytest.mark.realdata
def test_a_real_parser_on_a_real_face(real_data: Path) -> None:
    from emotalking.io.video import read_frames
    from emotalking.networks.weights import load_frozen
    from emotalking.preprocess.landmarks import MEDIAPIPE_LAYOUT, MediaPipeMesh

    network = load_frozen(SmallParser(), real_data / "models/parsing/unet467k_celebamask19_256.pth")
    image = next(iter(read_frames(real_data / "clips/reporter_512_71s.mp4", 25)))
    mesh = MediaPipeMesh()
    points = np.asarray(mesh.detect(image), np.float64)[:, :2]
    mesh.close()
    parser = NetworkParsing(network).fit([image], points[None], MEDIAPIPE_LAYOUT)
    parsing = parser.decide(image, points, parser.scores(image, points))
    ibug = points[list(MEDIAPIPE_LAYOUT.ibug68)]
    eyes = np.linalg.norm(ibug[39] - ibug[42])
    expected = {
        Label.HEAD: [ibug[30], ibug[19], ibug[36:42].mean(0), (ibug[57] + ibug[66]) / 2, ibug[1] - [0.2 * eyes, 0]],
        Label.HAIR: [ibug[27] - [0, 2.6 * eyes]],
        Label.NECK: [ibug[8] + [0, 0.2 * eyes]],
        Label.TORSO: [[60, 505], [450, 505]],
        Label.BACKGROUND: [[10, 10], [500, 200]],
    }
    for label, places in expected.items():
        for x, y in np.asarray(places).astype(int):
            assert parsing.labels[y, x] == label, (label.name, x, y)
