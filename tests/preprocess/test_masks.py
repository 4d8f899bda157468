"""The embedded parser against the actor's exact classes, and its parts on drawings."""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import pytest

from emotalking.data.labels import Label, Masks
from emotalking.data.layouts import IBUG68, FaceLayout
from emotalking.ops.guided import guided_ranks
from emotalking.preprocess.parsing.geometry import CELLS, LEFT, TOP, HeadFrame, apply_affine, face_zones
from emotalking.preprocess.parsing.parser import ClipParser, EmbeddedParsing, SelfieSegmentation
from emotalking.testing.actor.actor import Actor, head_viewmat
from emotalking.testing.actor.state import ActorFrame, ActorState, Viseme
from emotalking.testing.actor.style import STYLES

SIZE = 192


@dataclass(frozen=True)
class Performance:
    frames: list[ActorFrame]
    points: np.ndarray
    layout: FaceLayout

    @property
    def images(self) -> list[np.ndarray]:
        return [frame.image for frame in self.frames]


@cache
def performance(name: str = "robin") -> Performance:
    actor = Actor(STYLES[name], size=SIZE)
    frames = []
    for t in np.linspace(0, 2 * np.pi, 8, endpoint=False):
        pose = head_viewmat(0.2 * np.sin(t), 0.1 * np.cos(t), 0.05 * np.sin(2 * t))
        frames.append(actor.render(ActorState(pose, viseme=Viseme(jaw=0.5 - 0.5 * np.cos(3 * t)))))
    layout = actor.layout
    return Performance(frames, np.stack([frame.landmarks for frame in frames]), layout)


def blurred_truth(image: np.ndarray) -> np.ndarray:
    """A person segmentation as coarse as MediaPipe's: the truth, three pixels soft."""
    frame = next(f for f in performance().frames if f.image is image)
    return cv2.GaussianBlur((frame.labels != Label.BACKGROUND).astype(np.float32), (0, 0), 3.0)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max((a | b).sum(), 1))


def parse(parser: ClipParser, image: np.ndarray, points: np.ndarray) -> Masks:
    return parser.decide(image, points, parser.scores(image, points))


def overlaps(parser, play: Performance) -> dict[Label, float]:
    parsings = [parse(parser, image, points) for image, points in zip(play.images, play.points, strict=True)]
    found = np.stack([p.labels for p in parsings])
    truth = np.stack([f.labels for f in play.frames])
    return {label: overlap(found == label, truth == label) for label in Label}


def test_classes_of_the_actor() -> None:
    """Measured: background .998, head .983, hair .972, mouth .870, neck .948, torso .992."""
    play = performance()
    parser = EmbeddedParsing(blurred_truth).fit(play.images, play.points, play.layout)
    scores = overlaps(parser, play)
    assert scores[Label.BACKGROUND] > 0.99
    assert scores[Label.HEAD] > 0.95
    assert scores[Label.HAIR] > 0.93
    assert scores[Label.MOUTH] > 0.8
    assert scores[Label.NECK] > 0.8
    assert scores[Label.TORSO] > 0.97


@pytest.mark.parametrize(("name", "least_neck"), [("maya", 0.85), ("otto", 0.9)])
def test_long_hair_beard_and_glasses(name: str, least_neck: float) -> None:
    """Coarsely compressed, too. Where a beard ends and cropped hair begins materials to nobody: both move as one."""
    play = performance(name)
    coarse = [cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], 1) for image in play.images]
    for images in (play.images, [np.asarray(image, np.uint8) for image in coarse]):
        truth = {id(image): frame for image, frame in zip(images, play.frames, strict=True)}

        def person(image: np.ndarray, truth: dict[int, ActorFrame] = truth) -> np.ndarray:
            return cv2.GaussianBlur((truth[id(image)].labels != Label.BACKGROUND).astype(np.float32), (0, 0), 3.0)

        parser = EmbeddedParsing(person).fit(images, play.points, play.layout)
        parsings = [parse(parser, image, points) for image, points in zip(images, play.points, strict=True)]
        found, right = np.stack([p.labels for p in parsings]), np.stack([f.labels for f in play.frames])
        moving = [int(Label.HEAD), int(Label.HAIR), int(Label.MOUTH)]
        assert overlap(np.isin(found, moving), np.isin(right, moving)) > 0.95
        assert overlap(found == Label.NECK, right == Label.NECK) > least_neck
        assert overlap(found == Label.TORSO, right == Label.TORSO) > 0.93
        assert overlap(found == Label.MOUTH, right == Label.MOUTH) > 0.78


def test_mediapipe_segmentation_and_ibug_landmarks() -> None:
    """The bundled network instead of the truth, and 68 points without a forehead.

    Measured: background .998, head .979, hair .965.
    """
    play = performance()
    points = play.points[:, list(play.layout.ibug68)]
    parser = EmbeddedParsing(SelfieSegmentation()).fit(play.images, points, IBUG68)
    scores = overlaps(parser, Performance(play.frames, points, IBUG68))
    assert scores[Label.BACKGROUND] > 0.98
    assert scores[Label.HEAD] > 0.93
    assert scores[Label.HAIR] > 0.88


def test_teeth_are_mouth_and_near_the_truth() -> None:
    play = performance()
    parser = EmbeddedParsing(blurred_truth).fit(play.images, play.points, play.layout)
    widest = max(range(len(play.frames)), key=lambda i: int(play.frames[i].teeth.sum()))
    parsing = parse(parser, play.images[widest], play.points[widest])
    assert parsing.teeth.any()
    assert (parsing.labels[parsing.teeth] == Label.MOUTH).all()
    near = cv2.dilate(play.frames[widest].teeth.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    assert near[parsing.teeth].mean() > 0.7


def test_the_same_frame_parses_alike_wherever_it_lies() -> None:
    """The clip's model lives in the head frame: a shifted image gives shifted classes."""
    play = performance()
    frame = play.frames[0]
    person = cv2.GaussianBlur((frame.labels != Label.BACKGROUND).astype(np.float32), (0, 0), 3.0)
    shift = 6

    def segmenter(image: np.ndarray) -> np.ndarray:
        if image is moved:
            return np.roll(person, shift, 1)
        return blurred_truth(image)

    moved = np.roll(frame.image, shift, 1)
    parser = EmbeddedParsing(segmenter).fit(play.images, play.points, play.layout)
    still = parse(parser, frame.image, play.points[0]).labels
    there = parse(parser, moved, play.points[0] + np.array([shift, 0], np.float32)).labels
    inner = np.s_[:, 3 * shift : -3 * shift]
    assert (np.roll(still, shift, 1)[inner] == there[inner]).mean() > 0.985


def test_head_frame_puts_the_eyes_one_apart() -> None:
    play = performance()
    head = HeadFrame.fit(play.points, play.layout)
    lids = [*play.layout.right_upper_lid, *play.layout.right_lower_lid]
    np.testing.assert_allclose(head.reference[lids].mean(0), [-0.5, 0], atol=1e-6)
    cells = apply_affine(head.affine_from_image(play.points[2]), play.points[2][lids]).mean(0)
    np.testing.assert_allclose(cells / CELLS + (LEFT, TOP), [-0.5, 0], atol=0.1)


def test_zones_of_a_drawing() -> None:
    play = performance()
    zones = face_zones(play.points[0], play.layout, (SIZE, SIZE))
    truth = play.frames[0].labels
    # The oval holds nothing but head, hair at its upper rim, and mouth.
    assert np.isin(truth[zones.below_brows], [Label.HEAD, Label.MOUTH, Label.HAIR]).mean() > 0.98
    assert (truth[zones.under_jaw & ~zones.oval] == Label.HEAD).mean() < 0.03
    assert not (zones.mouth & ~zones.lips).any()


def test_guided_upsampling_follows_the_edge() -> None:
    """A border that is four pixels off in the scores snaps to the image's edge."""
    image = np.full((128, 128, 3), 40, np.uint8)
    image[:, 70:] = 200
    scores = np.zeros((64, 64, 2), np.float32)
    scores[:, 33:, 0] = 1
    scores[..., 1] = 1 - scores[..., 0]
    ranks = guided_ranks(scores, image)
    assert ranks.shape == (128, 128)
    edge = (ranks == 0).argmax(1)
    assert np.abs(edge - 70).max() <= 1


def test_a_face_without_hair_clothes_or_mouth_is_no_error() -> None:
    """Hostile input: one frame, flat colour, everything person."""
    play = performance()
    image = np.full((SIZE, SIZE, 3), 128, np.uint8)
    parser = EmbeddedParsing(lambda image: np.ones(image.shape[:2], np.float32)).fit(
        [image], play.points[:1], play.layout
    )
    labels = parse(parser, image, play.points[0]).labels
    assert labels.shape == (SIZE, SIZE)
    assert (labels != Label.BACKGROUND).all()


def test_fit_wants_one_landmark_set_a_frame() -> None:
    play = performance()
    with pytest.raises(ValueError, match="same number"):
        EmbeddedParsing(blurred_truth).fit(play.images[:2], play.points[:1], play.layout)
    with pytest.raises(ValueError, match="finite"):
        EmbeddedParsing(blurred_truth).fit(play.images, np.full_like(play.points, np.nan), play.layout)
