"""Eyes and mouth of an edited crop in the recorded frame: only there, without seams, with new labels and landmarks."""

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from emotalking.data.labels import Label
from emotalking.data.layouts import IBUG68, FaceLayout
from emotalking.emotion.generator import EmotionGenerator
from emotalking.faces.paste_back import PaperGenerator, face_rectangles, poisson_blend
from emotalking.faces.reader import SubjectReader
from emotalking.stylegan.lip_aligned import StyleEditor

HEIGHT, WIDTH = 120, 140


def face(x: float, y: float, size: float) -> Tensor:
    """iBUG points [68, 2] of a rough face; the eyes are ``size`` apart."""
    points = torch.zeros(68, 2)
    points[0:17, 0], points[0:17, 1] = torch.linspace(-1.1, 1.1, 17), 0.5
    for start, middle in ((17, -0.5), (22, 0.5)):
        points[start : start + 5, 0], points[start : start + 5, 1] = torch.linspace(-0.35, 0.35, 5) + middle, -0.35
    points[27:36, 1] = torch.linspace(0, 0.6, 9)
    angle = torch.arange(6) / 6 * 2 * torch.pi
    for start, middle in ((36, -0.5), (42, 0.5)):
        points[start : start + 6] = torch.stack([middle - 0.2 * angle.cos(), -0.08 * angle.sin()], 1)
    for start, count, reach in ((48, 12, 0.4), (60, 8, 0.3)):
        angle = torch.arange(count) / count * 2 * torch.pi
        points[start : start + count] = torch.stack([-reach * angle.cos(), 1.1 - 0.3 * reach * angle.sin()], 1)
    return points * size + torch.tensor([x, y])


def scene() -> tuple[Tensor, Tensor]:
    """Two soft frames and their landmarks."""
    y, x = torch.meshgrid(torch.arange(HEIGHT) / 40, torch.arange(WIDTH) / 40, indexing="ij")
    image = torch.stack(
        [0.5 + 0.2 * torch.sin(3 * x + y), 0.5 + 0.2 * torch.cos(2 * y), 0.5 + 0.1 * torch.sin(4 * x)], 2
    )
    return torch.stack([image, image.flip(1)]), torch.stack([face(70, 48, 30), face(66, 50, 26)])


class Editor(StyleEditor):
    """Darken whole crops and paint the mouth red, the more the higher the arousal."""

    name, size = "painter", 128

    def __init__(self) -> None:
        pass

    def __call__(self, crops: Tensor, ibug68: Tensor, va: Tensor) -> Tensor:
        """See ``StyleEditor``."""
        place = (torch.arange(self.size) + 0.5) / self.size * 2 - 1
        middle = ibug68[:, 48:60].mean(1)
        near = (place[None, None] - middle[:, :1, None]) ** 2 + (place[None, :, None] - middle[:, 1:, None]) ** 2
        red = torch.exp(-near / 0.02)[..., None] * va[:, 1].view(-1, 1, 1, 1) * torch.tensor([1.0, -1.0, -1.0])
        return crops - 0.2 + 0.3 * red


class Reader(SubjectReader):
    """Knows the landmarks; calls what is red a mouth. Frames named in ``lost`` have no face."""

    def __init__(self, landmarks: Tensor, lost: tuple[int, ...] = ()) -> None:
        self.points = landmarks.clone()
        self.points[list(lost)] = float("nan")

    def landmarks(self, images: Tensor) -> Tensor:
        """See ``SubjectReader``."""
        return self.points + 1

    def labels(self, images: Tensor, landmarks: Tensor) -> Tensor:
        """See ``SubjectReader``."""
        red = images[..., 0] > images[..., 1] + 0.55
        return torch.where(red, int(Label.MOUTH), int(Label.HEAD)).to(torch.uint8)

    def normals(self, images: Tensor, landmarks: Tensor, labels: Tensor, viewmats: Tensor) -> Tensor:
        """See ``SubjectReader``."""
        return torch.tensor([0.0, 0.0, -1.0]) * (labels == Label.HEAD)[..., None]


def test_rectangles_hold_eyes_and_mouth() -> None:
    _, points = scene()
    boxes = face_rectangles(points, IBUG68, HEIGHT, WIDTH)
    for row in range(2):
        for box, group in zip(boxes[row].tolist(), ([*range(17, 27), *range(36, 48)], range(48, 60)), strict=True):
            top, left, bottom, right = box
            assert (bottom - top) % 8 == 0 and (right - left) % 8 == 0
            x, y = points[row, list(group)].unbind(1)
            margin = torch.stack([x.min() - left, right - x.max(), y.min() - top, bottom - y.max()])
            assert (margin > 0.1 * 26).all() and (margin < 0.3 * 30 + 5).all()
        assert boxes[row, 0, 2] < boxes[row, 1, 0]  # the two do not meet


def test_rectangles_stay_in_the_image() -> None:
    points = torch.stack([face(20, 8, 30), face(130, 100, 30), face(-300, 50, 30)])
    boxes = face_rectangles(points, IBUG68, HEIGHT, WIDTH)
    assert (boxes[..., 2] <= HEIGHT - 1).all() and (boxes[..., 3] <= WIDTH - 1).all()
    whole = torch.stack([*boxes[0], boxes[1, 0]])
    assert (whole[:, :2] >= 1).all() and (whole[:, 2] - whole[:, 0] > 6).all() and whole[0, 0] == 1
    assert (boxes[1, 1] == 0).all() and (boxes[2] == 0).all()


def test_pasting_is_opencvs_one_rectangle_after_the_other() -> None:
    frames, points = scene()
    draw = torch.Generator().manual_seed(0)
    frames = ((frames + 0.02 * torch.randn(frames.shape, generator=draw)) * 255).round() / 255
    edited = ((frames.flip(2) * 0.8).clamp(0, 1) * 255).round() / 255
    boxes = face_rectangles(points, IBUG68, HEIGHT, WIDTH)
    ours = poisson_blend(frames, edited, boxes)
    for row in range(2):
        theirs, source = ((part[row] * 255).round().byte().numpy() for part in (frames, edited))
        for top, left, bottom, right in boxes[row].tolist():
            mask = np.zeros((HEIGHT, WIDTH), np.uint8)
            mask[top:bottom, left:right] = 255
            middle = ((left + right) // 2, (top + bottom) // 2)
            theirs = cv2.seamlessClone(source, theirs, mask, middle, cv2.NORMAL_CLONE)
        off = (ours[row] * 255 - torch.from_numpy(theirs)).abs()
        assert off.max() < 1.02 and off.mean() < 0.3
        alone = poisson_blend(frames[row : row + 1], edited[row : row + 1], boxes[row : row + 1])
        torch.testing.assert_close(alone[0], ours[row])


def test_gradients_reach_the_edited_frames() -> None:
    frames, points = scene()
    edited = (frames * 0.9).requires_grad_()
    boxes = face_rectangles(points, IBUG68, HEIGHT, WIDTH)
    (slope,) = torch.autograd.grad(poisson_blend(frames, edited, boxes).square().sum(), edited)
    inside = torch.zeros(frames.shape[:3], dtype=torch.bool)
    for row in range(2):
        for top, left, bottom, right in boxes[row].tolist():
            inside[row, top:bottom, left:right] = True
    assert slope[inside].abs().max() > 0 and slope[~inside].abs().max() == 0


def test_the_paper_generator_changes_eyes_and_mouth_alone() -> None:
    frames, points = scene()
    generator = PaperGenerator(Editor(), Reader(points), IBUG68)
    assert isinstance(generator, EmotionGenerator) and generator.name == "painter"
    labels = torch.full((2, HEIGHT, WIDTH), int(Label.NECK), dtype=torch.uint8)
    va = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    poses, normals = torch.eye(4).expand(2, -1, -1), torch.zeros(2, HEIGHT, WIDTH, 3)
    faces = generator(frames, points, labels, poses, va, normals)
    boxes = face_rectangles(points + 1, IBUG68, HEIGHT, WIDTH)
    outside = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    for top, left, bottom, right in boxes[0].tolist():
        outside[top:bottom, left:right] = False
    assert torch.equal(faces.images[0][outside], frames[0][outside])
    middle = points[0, 48:60].mean(0).round().long()
    assert faces.images[0, middle[1], middle[0], 0] > frames[0, middle[1], middle[0], 0] + 0.15
    # The darkening is removed: where nothing else was painted, the frame is only resampled.
    assert (faces.images[1] - frames[1]).abs().max() < 0.02
    assert faces.labels[0, middle[1], middle[0]] == Label.MOUTH and (faces.labels[0][outside] == Label.NECK).all()
    assert (faces.labels[0][~outside] != Label.NECK).all() and faces.labels[1, middle[1], middle[0]] == Label.HEAD
    torch.testing.assert_close(faces.landmarks, points + 1)
    assert faces.normals is not None and torch.equal(faces.normals[..., 2] == -1, faces.labels == Label.HEAD)
    assert generator(frames, points, labels, poses, va).normals is None


def test_a_frame_without_a_face_stays_as_it_was() -> None:
    frames, points = scene()
    labels = torch.full((2, HEIGHT, WIDTH), int(Label.NECK), dtype=torch.uint8)
    generator = PaperGenerator(Editor(), Reader(points, lost=(1,)), IBUG68)
    faces = generator(frames, points, labels, torch.eye(4).expand(2, -1, -1), torch.ones(2, 2))
    assert torch.equal(faces.images[1], frames[1]) and torch.equal(faces.labels[1], labels[1])
    assert torch.equal(faces.landmarks[1], points[1]) and not torch.equal(faces.images[0], frames[0])
    assert faces.kept is not None and faces.kept.tolist() == [False, True]


def test_layouts_without_the_68_points_are_refused() -> None:
    without = FaceLayout(**{**vars(IBUG68), "name": "few", "ibug68": (0,) * 68})
    with pytest.raises(ValueError, match="few does not name the 68"):
        PaperGenerator(Editor(), Reader(torch.zeros(1, 68, 2)), without)
