"""Systems to compare: an avatar, a folder of frames, a video, or the recording; each as frames with their numbers."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8

from emotalking.data import Subject
from emotalking.emotion.tracks import EmotionTrack
from emotalking.errors import InputError
from emotalking.evaluate.held_out import OnHeldOut, check_pair, own_emotion, own_emotion_track, reconstruct
from emotalking.evaluate.measure import Stopwatch
from emotalking.evaluate.speech import UnseenSpeech
from emotalking.io.containers import open_media
from emotalking.io.display import to_rgb
from emotalking.io.images import read_image
from emotalking.io.video import decode_frames, probe
from emotalking.io.video_stream import Damage
from emotalking.models.avatar import Avatar
from emotalking.ops.composite import to_uint8
from emotalking.player.player import Player

RECORDING = "recording"
"""Name of the subject's own target frames as a system."""

SLACK_S = 0.2
"""Tolerance for systems that end before their sound: feature windows cut some frames at the end."""
_IMAGES = (".png", ".jpg", ".jpeg")
_VIDEOS = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".mpg")
_LOSSLESS = ("ffv1", "rawvideo", "png", "huffyuv", "ffvhuff", "utvideo", "qtrle", "apng")
_NUMBERED = re.compile(r"(?P<prefix>.*?)(?P<number>\d+)(?:_rgb)?")
_LAYERS = ("out_face", "out_mouth")
"""Videos of single layers that TalkingGaussian's script writes next to the whole image."""
_OUTPUTS = ("renders", "results", "test/ours_*", "ours_*", "validation")
"""Output folders of TalkingGaussian's and ER-NeRF's scripts, most finished first."""

RGBFrame = UInt8[np.ndarray, "H W 3"]


class Source:
    """Frames that can be read more than once."""

    kind: str
    """"avatar", "frames", "video" or "recording"."""
    note: str = ""
    """Limits of the metrics, for the reader; may be empty."""
    numbers: Int64[np.ndarray, " N"]
    """Number of every frame as the source itself counts them, in order and without gaps."""
    watch: Stopwatch | None = None
    """Timing of the last reading, where frames are rendered."""

    def read(self, positions: Int64[np.ndarray, " n"]) -> Iterator[RGBFrame]:
        """The frames at ``positions`` (0..N-1, increasing), RGB."""
        raise NotImplementedError


@dataclass(frozen=True)
class System:
    """A source with the subject's frame that corresponds to each of its frames."""

    name: str
    path: str
    source: Source
    indices: Int64[np.ndarray, " N"]
    """The subject's frame of each frame of the source; -1: none that may be scored."""

    def frames(self, wanted: Int64[np.ndarray, " n"]) -> Iterator[RGBFrame]:
        """Frames of the source for the subject's frames ``wanted``."""
        return self.source.read(np.flatnonzero(np.isin(self.indices, wanted)))


class AvatarSource(Source):
    """An avatar, rendered with each held-out frame's own sound, action units, valence/arousal, pose and torso."""

    kind = "avatar"

    def __init__(self, path: Path, subject: Subject, device: torch.device) -> None:
        self._avatar, self._subject = Avatar.load(path, device), subject
        check_pair(self._avatar, subject)
        self.numbers = _held_out(subject)

    def read(self, positions: Int64[np.ndarray, " n"]) -> Iterator[RGBFrame]:
        """See :class:`Source`; rounded to 8 bit, as the others' frames are."""
        indices = self.numbers[positions]
        va = own_emotion(self._subject, indices) if self._avatar.emotional else None
        self.watch = Stopwatch(reconstruct(self._avatar, self._subject, indices, va))
        for image in self.watch:
            yield to_uint8(torch.as_tensor(image))


class SpokenSource(Source):
    """An avatar that speaks the sound, with the held-out frames' poses, action units and torso, forth and back.

    Without a commanded emotion it has that of the held-out frames, as in ``evaluate``'s cross-domain scenario.
    """

    kind = "avatar"

    def __init__(self, path: Path, subject: Subject, unseen: UnseenSpeech, device: torch.device) -> None:
        self._avatar = Avatar.load(path, device)
        self._subject = subject
        self._unseen = unseen
        check_pair(self._avatar, subject)
        self.numbers = np.arange(max(unseen.speech.frames(float(subject.fps), None), 1), dtype=np.int64)

    def read(self, positions: Int64[np.ndarray, " n"]) -> Iterator[RGBFrame]:
        """See :class:`Source`."""
        wanted, last = set(positions.tolist()), int(positions.max(initial=-1))
        samples = self._unseen.speech.under(last + 1, float(self._subject.fps))
        player = Player(OnHeldOut(self._avatar, self._subject))
        track = self._emotion(player, last + 1) if self._avatar.emotional else None
        self.watch = Stopwatch(player.frames(samples, track, batch=1))
        for number, image in enumerate(self.watch):
            if number in wanted:
                yield np.asarray(image)
            if number >= last:
                return

    def _emotion(self, player: Player, count: int) -> EmotionTrack:
        """Emotion of the first ``count`` frames."""
        if self._unseen.va is not None:
            return EmotionTrack.constant(*self._unseen.va)
        return own_emotion_track(self._subject, self._subject.val_indices[player.recorded(count)])


class RecordingSource(Source):
    """The subject's own frames, the output of a perfect avatar."""

    kind = "recording"
    note = "the frames that the others are compared with"

    def __init__(self, subject: Subject) -> None:
        self._subject, self.numbers = subject, _held_out(subject)

    def read(self, positions: Int64[np.ndarray, " n"]) -> Iterator[RGBFrame]:
        """See :class:`Source`."""
        for index in self.numbers[positions]:
            yield self._subject.target(int(index))


class FolderSource(Source):
    """Numbered PNG or JPEG files: ours, ER-NeRF's ``ngp_ep0028_0000_rgb.png``, or any with a number at the end.

    Raises:
        InputError: a file without a number, several runs in one folder, a number twice, or a gap.
    """

    kind = "frames"

    def __init__(self, folder: Path) -> None:
        files = _images_in(folder)
        rgb = [file for file in files if file.stem.endswith("_rgb")]
        named: dict[int, Path] = {}
        prefixes: set[str] = set()
        for file in rgb or [file for file in files if not file.stem.endswith("_depth")]:
            match = _NUMBERED.fullmatch(file.stem)
            if match is None:
                raise InputError(f"{file} carries no frame number at the end of its name: rename it or move it away.")
            number = int(match["number"])
            if number in named:
                raise InputError(f"{file} and {named[number].name} have the same frame number: keep one of them.")
            named[number] = file
            prefixes.add(match["prefix"])
        if len(prefixes) > 1:
            shown = ", ".join(f"{prefix}..." for prefix in sorted(prefixes)[:3])
            raise InputError(f"{folder} holds the frames of several runs ({shown}): give each a folder of its own.")
        order = sorted(named)
        gap = next((a + 1 for a, b in zip(order, order[1:], strict=False) if b != a + 1), None)
        if gap is not None:
            raise InputError(f"frame {gap} is missing in {folder} (frames {order[0]} to {order[-1]}): render it again.")
        self.numbers = np.array(order, np.int64)
        self._files = [named[number] for number in order]
        lossy = self._files[0].suffix.lower() != ".png"
        self.note = "JPEG: its compression is part of the metrics" if lossy else ""

    def read(self, positions: Int64[np.ndarray, " n"]) -> Iterator[RGBFrame]:
        """See :class:`Source`."""
        for position in positions:
            yield _read_image(self._files[position])


class VideoSource(Source):
    """A video file at the subject's rate.

    Raises:
        InputError: another frame rate, or damage.
    """

    kind = "video"

    def __init__(self, path: Path, fps: Fraction) -> None:
        self.path, found = path, probe(path).fps
        if abs(float(found / fps) - 1) > 1e-3:
            raise InputError(
                f"{path} has {float(found):g} frames/s and the subject {float(fps):g}: render it at the subject's rate."
            )
        damage = Damage()
        self.numbers = np.arange(sum(1 for _ in decode_frames(path, damage)), dtype=np.int64)
        if damage.lost or damage.promised_s is not None:
            raise InputError(f"{path} is damaged, so its frames cannot be counted: copy or export it again.")
        self.note = _loss_of(path)

    def read(self, positions: Int64[np.ndarray, " n"]) -> Iterator[RGBFrame]:
        """See :class:`Source`."""
        wanted, last = set(positions.tolist()), int(positions.max(initial=-1))
        for number, (_, frame) in enumerate(decode_frames(self.path)):
            if number in wanted:
                yield to_rgb(frame)
            if number >= last:
                return


def open_system(name: str, path: str, subject: Subject, device: torch.device, start: int | None = None) -> System:
    """Open ``path`` and match its frames to the subject's held-out frames.

    Args:
        name: name in the tables.
        path: "recording", an avatar file, a video, a folder of frames, or a folder in which TalkingGaussian
            (``MODEL/test/ours_N/renders/out.mp4``) or ER-NeRF (``WORKSPACE/results``) left its output.
        subject: subject of the frames.
        device: where an avatar is rendered.
        start: the subject's frame of the first one; None: inferred from the number of frames, or their names.

    Raises:
        InputError: nothing that can be compared, or its frames cannot be matched.
    """
    if path == RECORDING:
        source: Source = RecordingSource(subject)
    elif is_avatar(path):
        source = AvatarSource(Path(path), subject, device)
    else:
        source = open_frames(name, path, subject)
    if isinstance(source, AvatarSource | RecordingSource):
        if start is not None:
            raise InputError(f"start: is for frames and videos, and {name} is made from the subject itself: omit it.")
        return System(name, path, source, source.numbers)
    return System(name, path, source, _truth_of(source.numbers, subject, start, f"{name} ({path})"))


def is_avatar(path: str) -> bool:
    """True if ``path`` is an avatar file; a folder may have such a name too."""
    return path.lower().endswith(".safetensors") and Path(path).is_file()


def open_frames(name: str, path: str, subject: Subject) -> FolderSource | VideoSource:
    """The folder of frames or the video that ``path`` means; see :func:`open_system`.

    Raises:
        InputError: there is none, or it cannot be used.
    """
    if not Path(path).exists():
        raise InputError(
            f"there is nothing at {path} (for {name}): give a folder of frames, a video or an avatar file."
        )
    place = Path(path) if Path(path).is_file() else _output_in(Path(path))
    return FolderSource(place) if place.is_dir() else VideoSource(place, subject.fps)


def open_unseen(name: str, path: str, subject: Subject, device: torch.device, unseen: UnseenSpeech) -> System:
    """Open a system whose first frame is at the start of the sound.

    Args:
        name: name in the tables.
        path: an avatar file, a video, or a folder of frames.

    Raises:
        InputError: it cannot be used, or is the recording, which does not contain this speech.
    """
    if path == RECORDING:
        raise InputError(f"{unseen.speech.name} was never recorded: omit {name}=recording, or the audio.")
    if is_avatar(path):
        source: Source = SpokenSource(Path(path), subject, unseen, device)
    else:
        source = open_frames(name, path, subject)
    return System(name, path, source, np.arange(len(source.numbers), dtype=np.int64))


def to_same_length(
    systems: Sequence[System], unseen: UnseenSpeech, fps: float | int, limit: int | None
) -> list[System]:
    """Cut the systems to their common frames.

    Raises:
        InputError: one has clearly fewer frames than the sound (or than ``limit``), so it belongs to another one.
    """
    wanted = max(unseen.speech.frames(fps, limit), 1)
    for system in systems:
        if len(system.indices) < wanted - SLACK_S * fps:
            raise InputError(
                f"{system.name} ({system.path}) has {len(system.indices)} frames and {unseen.speech.name} lasts"
                f" {wanted}: give its frames of this whole sound, or limit the frames."
            )
    count = min(wanted, *(len(system.indices) for system in systems))
    return [replace(system, indices=np.where(system.indices < count, system.indices, -1)) for system in systems]


def _held_out(subject: Subject) -> Int64[np.ndarray, " N"]:
    return np.sort(np.asarray(subject.val_indices, np.int64))


def _truth_of(
    numbers: Int64[np.ndarray, " N"], subject: Subject, start: int | None, what: str
) -> Int64[np.ndarray, " N"]:
    """The subject's held-out frame of every frame; -1 for frames of the training part."""
    held_out = _held_out(subject)
    count, total = len(numbers), subject.num_frames
    if start is not None:
        indices = start + np.arange(count, dtype=np.int64)
        if start < 0 or indices[-1] >= total:
            raise InputError(
                f"{what} has {count} frames, which from start {start} on reach beyond the subject's frames"
                f" 0 to {total - 1}: give another start."
            )
    elif np.array_equal(numbers, held_out) or count == len(held_out):
        indices = held_out
    elif count == total:
        indices = np.arange(total, dtype=np.int64)
    elif numbers[0] > 0 and np.isin(numbers, held_out).all():
        indices = numbers
    else:
        raise InputError(
            f"{what} has {count} frames, which is neither the {len(held_out)} held-out ones of {subject.files.root} nor"
            f" its {total} in all: give the start, the frame that the first one shows."
        )
    indices = np.where(np.isin(indices, held_out), indices, -1)
    if (indices < 0).all():
        raise InputError(
            f"{what} shows only frames that systems are trained on, and the held-out ones begin at frame"
            f" {held_out[0]}: give frames of that part."
        )
    return indices


def _loss_of(path: Path) -> str:
    """Loss of a video against the frames that were encoded; empty: none."""
    with open_media(path) as container:
        context = container.streams.video[0].codec_context
        codec, pixels = context.name, context.format
    whole = None if pixels is None else (pixels.width, pixels.height)
    thin = pixels is not None and any((part.width, part.height) != whole for part in pixels.components)
    if codec not in _LOSSLESS:
        lost = "compression and halved colours are" if thin else "compression is"
        return f"{codec} video: its {lost} part of the metrics"
    return f"{codec} video in {pixels.name}: its halved colours are part of the metrics" if pixels and thin else ""


def _output_in(folder: Path) -> Path:
    """The folder of images or the video that ``folder`` means."""
    if _images_in(folder):
        return folder
    videos = [
        file
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in _VIDEOS and file.stem not in _LAYERS and not file.name.startswith(".")
    ]
    if len(videos) > 1:
        raise InputError(f"{folder} holds several videos ({', '.join(v.name for v in videos[:3])}): name one of them.")
    if videos:
        return videos[0]
    found = (sorted(folder.glob(name)) for name in _OUTPUTS)
    deeper = next((places for places in found if places), [])
    if len(deeper) > 1:
        raise InputError(f"{folder} holds several outputs ({', '.join(d.name for d in deeper[:3])}): name one of them.")
    if not deeper:
        raise InputError(f"{folder} holds neither numbered PNG or JPEG frames nor a video: give the rendered frames.")
    return _output_in(deeper[0])


def _images_in(folder: Path) -> list[Path]:
    files = sorted(folder.iterdir())
    return [file for file in files if file.suffix.lower() in _IMAGES and not file.name.startswith(".")]


def _read_image(path: Path) -> RGBFrame:
    """One 8-bit image as RGB.

    Raises:
        InputError: unreadable, of another depth, or with transparency.
    """
    image = read_image(path, unchanged=True, hint="render it again")
    if image.dtype != np.uint8:
        raise InputError(f"{path} has more than 8 bits a channel: render it again.")
    if image.ndim == 3 and image.shape[2] == 4 and (image[..., 3] < 255).any():
        raise InputError(f"{path} is partly transparent: render the frames over their background.")
    return np.ascontiguousarray(image[..., :3]) if image.ndim == 3 else np.repeat(image[..., None], 3, -1)
