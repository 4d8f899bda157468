"""Images of one person at neutral and at the twelve test points, for judges: of targets, and of heads that speak."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from _stored import packed, store, stored

from emotalking.data import Subject
from emotalking.emotion.circumplex import TEST_POINTS
from emotalking.emotion.mesh_warp.warp import MeshWarpConfig
from emotalking.emotion.tracks import EmotionTrack
from emotalking.evaluate.held_out import OnHeldOut, own_emotion, pick_frames, reconstruct
from emotalking.faces.edit import FaceEditor
from emotalking.faces.generators import open_generator
from emotalking.faces.source import SubjectFaces
from emotalking.io.arrays import load_archive
from emotalking.io.audio import SAMPLE_RATE, load_audio
from emotalking.models.avatar import Avatar
from emotalking.ops.composite import to_uint8
from emotalking.player.player import Player

POINTS = np.array([(point.valence, point.arousal) for point in TEST_POINTS])
NAMES = ["neutral"] + [f"{p.label} {p.valence:+.2f} {p.arousal:+.2f}" for p in TEST_POINTS]
MOVING = "moving"
"""Name of the frames whose emotion moves..."""
MOVE_S = 0.24
"""...from each point to the next of the outer ring within this time, beginning and ending at neutral."""
SIDE = 256
"""Pixels of stored frames: the face and a margin."""
MARGIN = 0.15


def targets(subject: Subject, places: int, each: int) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Frame numbers and images: unedited, then every point."""
    starts = np.linspace(0, subject.num_frames - each, places + 2)[1:-1].astype(int)
    frames = (starts[:, None] + np.arange(each)).ravel()
    source = SubjectFaces(subject)
    editor = FaceEditor(source, open_generator(source, MeshWarpConfig()))
    yield frames, [subject.original(int(index)) for index in frames]
    for place in POINTS:
        yield frames, [editor.images(int(index), [tuple(place)])[0] for index in frames]


def moving_track() -> EmotionTrack:
    """Neutral, the eight outer points, neutral."""
    places = np.concatenate([np.zeros((1, 2)), POINTS[:8], np.zeros((1, 2))])
    return EmotionTrack(MOVE_S * np.arange(len(places)), places)


def rendered(avatar: Avatar, subject: Subject, sounds: list[Path], count: int) -> Iterator[list[np.ndarray]]:
    """Speech with neutral, then with every point, the same frames of the same sounds each; then moving emotion."""
    player, rate = Player(OnHeldOut(avatar, subject)), float(avatar.fps)

    def speak(track: EmotionTrack, frames: int) -> list[np.ndarray]:
        images: list[np.ndarray] = []
        for sound in sounds:
            samples = load_audio(sound, 0.5, frames / rate)[: int(frames / rate * SAMPLE_RATE)]
            images += list(player.frames(samples, track))
        return images

    for place in [(0.0, 0.0), *POINTS]:
        yield speak(EmotionTrack.constant(*place), count)
    yield speak(moving_track(), round(MOVE_S * (len(POINTS[:8]) + 1) * rate))


def psnr(avatar: Avatar, subject: Subject, count: int) -> dict[str, float]:
    """Of held-out frames: without emotion, and with that read from the recorded ones."""
    indices = pick_frames(subject, count, evenly=True)
    wanted = np.stack([subject.target(int(index)) for index in indices]).astype(np.float64)
    out = {}
    for name, va in (("without", None), ("recorded", own_emotion(subject, indices))):
        images = np.stack([to_uint8(image.cpu()) for image in reconstruct(avatar, subject, indices, va)])
        errors = np.square((images - wanted) / 255).mean((1, 2, 3))
        out[name] = round(float(np.mean(-10 * np.log10(errors))), 3)
    return out


def face_square(subject: Subject) -> tuple[int, int, int]:
    """Left, top and side of the square that shows the face in all frames."""
    points = subject.landmarks.points[subject.landmarks.detected].reshape(-1, 2)
    low, high = np.percentile(points, 0.5, 0), np.percentile(points, 99.5, 0)
    side = min(round(float((high - low).max()) * (1 + 2 * MARGIN)), subject.width, subject.height)
    corner = np.clip((low + high - side) / 2, 0, [subject.width - side, subject.height - side]).astype(int)
    return int(corner[0]), int(corner[1]), side


def store_frames(path: Path, series: list[list[np.ndarray]], subject: Subject, quality: int) -> None:
    """Faces of what :func:`rendered` gave, at most `SIDE` pixels wide."""
    left, top, side = square = face_square(subject)
    kept = {}
    for name, images in zip([*NAMES, MOVING], series, strict=True):
        faces = [image[top : top + side, left : left + side] for image in images]
        if side > SIDE:
            faces = [cv2.resize(face, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for face in faces]
        kept[name] = packed(faces, quality)
    store(path, kept, square=np.array([*square, subject.width, subject.height]))


def stored_frames(path: Path) -> list[list[np.ndarray]]:
    """What :func:`store_frames` wrote, each face at its place in a grey frame of the subject's size."""
    left, top, side, width, height = load_archive(path)["square"].tolist()
    series = []
    for images in stored(path).values():
        frames = np.full((len(images), height, width, 3), 128, np.uint8)
        for frame, image in zip(frames, images, strict=True):
            frame[top : top + side, left : left + side] = cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC)
        series.append(list(frames))
    return series
