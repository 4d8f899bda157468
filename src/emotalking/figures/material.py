"""What figures are drawn from, and where they are written to."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int64, UInt8

from emotalking.data import Subject
from emotalking.evaluate.held_out import held_out_inputs, own_emotion, reconstruct
from emotalking.evaluate.images import face_box, open_eyed
from emotalking.evaluate.systems import System
from emotalking.figures.config import FiguresConfig
from emotalking.io.audio import SAMPLE_RATE, load_audio
from emotalking.io.images import write_image
from emotalking.io.video_writer import VideoWriter
from emotalking.models.avatar import Avatar
from emotalking.models.compositor import ComposedFrames
from emotalking.models.maps import HeadMaps
from emotalking.ops.box import Box
from emotalking.ops.composite import to_uint8
from emotalking.options import Provenance
from emotalking.player.clip import resample_for_mux
from emotalking.player.views import maps_of
from emotalking.provenance.manifest import Origin
from emotalking.provenance.mark import Mark
from emotalking.provenance.payload import Payload
from emotalking.provenance.signing import finisher

_MARGIN, _RAISED = 1.3, 0.12
"""Side of the square around a face, and how much higher it lies, in sides of the square around its landmarks, which end
at the brows."""


@dataclass(frozen=True)
class Material:
    """An avatar, the subject that it was made from, and other systems' frames of it."""

    avatar: Avatar
    subject: Subject
    config: FiguresConfig
    systems: tuple[System, ...]
    advance: Callable[[], object]
    """Called after every rendered frame."""

    @cached_property
    def frames(self) -> Int64[np.ndarray, " F"]:
        """Held-out frames of the still figures: spread over the held-out part, with open eyes."""
        held_out = np.asarray(self.subject.val_indices, np.int64)
        parts = np.array_split(held_out, min(self.config.frames, len(held_out)))
        return np.array([part[open_eyed(self.subject.blink[part])] for part in parts], np.int64)

    @cached_property
    def still(self) -> int:
        """The held-out frame whose emotion is changed."""
        held_out = self.subject.val_indices
        return int(held_out[open_eyed(self.subject.blink[held_out])])

    @cached_property
    def box(self) -> Box:
        """Square around the face in :attr:`frames` and :attr:`still`, with the forehead."""
        face = face_box(self.subject, np.append(self.frames, self.still))
        width, height = self.subject.width, self.subject.height
        side = min(round(_MARGIN * face.width), width, height)
        left = np.clip((face.left + face.right - side) // 2, 0, width - side)
        top = np.clip((face.top + face.bottom - side) // 2 - round(_RAISED * face.height), 0, height - side)
        return Box(int(top), int(left), int(top) + side, int(left) + side)

    def own(self, indices: Int64[np.ndarray, " n"]) -> Float[np.ndarray, "n 2"] | None:
        """Recorded valence and arousal; None for an avatar without emotion."""
        return own_emotion(self.subject, indices) if self.avatar.emotional else None

    def rendered(
        self, indices: Int64[np.ndarray, " n"], va: Float[np.ndarray, "n 2"] | None
    ) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        """Held-out frames with a commanded emotion."""
        for image in reconstruct(self.avatar, self.subject, indices, va):
            yield to_uint8(image)
            self.advance()

    def maps(self) -> Iterator[tuple[int, HeadMaps, ComposedFrames]]:
        """Each of :attr:`frames` with its maps and its composed frame."""
        inputs = held_out_inputs(self.avatar, self.subject, self.frames, self.own(self.frames))
        for index, (given, behind) in zip(self.frames.tolist(), inputs, strict=True):
            yield index, *maps_of(self.avatar, given, behind)
            self.advance()

    @property
    def num_frames(self) -> int:
        """Frames of a video."""
        return max(round(self.config.seconds * float(self.subject.fps)), 2)

    def speech(self) -> Float[np.ndarray, " S"]:
        """Speech of the emotions, 16 kHz mono, at most as long as the videos."""
        seconds = float(self.config.seconds)
        if self.config.audio is not None:
            return load_audio(self.config.audio, longest_s=seconds)[: round(seconds * SAMPLE_RATE)]
        begin = max(self.subject.num_frames / float(self.subject.fps) - seconds, 0.0)
        return load_audio(self.subject.files.audio, begin, seconds)


@dataclass(frozen=True)
class Output:
    """Where a figure is written to: signed and marked, as all that is rendered."""

    folder: Path
    avatar: Avatar
    recorded: bool
    """It shows recorded footage beside what is rendered."""
    provenance: Provenance

    def marked(self, image: UInt8[np.ndarray, "H W 3"], time: float | None = None) -> UInt8[np.ndarray, "H W 3"]:
        """The image, shown at ``time`` [s] of a video or alone, with the invisible mark."""
        if self.provenance == "off":
            return image
        return Mark(Payload.of_avatar(self._origin.avatar)).array(image, time)

    def image(self, name: str, image: UInt8[np.ndarray, "H W 3"]) -> None:
        """Write an image."""
        path = self.folder / name
        write_image(path, self.marked(image), finish=finisher(path, self._origin, self.provenance))

    def video(
        self, name: str, frames: Iterable[UInt8[np.ndarray, "H W 3"]], samples: Float[np.ndarray, " S"] | None = None
    ) -> None:
        """Write a video at the avatar's rate, with sound (16 kHz mono) if there is one."""
        path = self.folder / name
        finish, sound = finisher(path, self._origin, self.provenance), None
        if samples is not None:
            sound = resample_for_mux(samples)
        size = (self.avatar.width, self.avatar.height)
        with VideoWriter(path, *size, self.avatar.fps, sound, finish=finish) as writer:
            for index, frame in enumerate(frames):
                writer.write(self.marked(frame, index / float(self.avatar.fps)))

    @cached_property
    def _origin(self) -> Origin:
        return Origin.of_avatar(self.avatar, composite=self.recorded)
