"""Rendering of an avatar to video and image files."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import soxr
from jaxtyping import Float, UInt8

from emotalking.audio.features import load_features
from emotalking.emotion.tracks import EmotionTrack
from emotalking.errors import InputError
from emotalking.io.audio import SAMPLE_RATE, iter_audio
from emotalking.io.video_writer import AUDIO_RATE, FrameFolder, VideoWriter, codec_for
from emotalking.options import Provenance, View
from emotalking.player.backgrounds import Background
from emotalking.player.label import label as add_label
from emotalking.player.paste import Paster
from emotalking.player.player import Player, listened_s
from emotalking.player.protocols import Emotion, Gaze, Motion, PlayableAvatar
from emotalking.player.views import viewed
from emotalking.provenance.consent import remind
from emotalking.provenance.manifest import Origin
from emotalking.provenance.mark import Mark
from emotalking.provenance.payload import Payload
from emotalking.provenance.signing import finisher
from emotalking.provenance.sound import mark_speech
from emotalking.tts.base import Utterance


@dataclass(frozen=True)
class Rendered:
    """Output files and length of a rendering."""

    video: Path | None
    folder: Path | None
    frames: int
    seconds: float
    strip: Path | None = None


def render_clip(
    avatar: PlayableAvatar,
    audio: str | Path | Float[np.ndarray, " S"] | Utterance,
    video: str | Path | None = None,
    *,
    strip: str | Path | None = None,
    folder: str | Path | None = None,
    features: str | Path | None = None,
    audio_track: int | None = None,
    emotion: Emotion | None = None,
    poses: Motion = "recorded",
    background: Background = None,
    paste: str | Path | None = None,
    seconds: float | None = None,
    batch: int = 8,
    overwrite: bool = False,
    vad: bool = True,
    seed: int = 0,
    gaze: Gaze | None = None,
    label: bool = False,
    view: View = "image",
    provenance: Provenance = "on",
    progress: Callable[[int, int], object] | None = None,
) -> Rendered:
    """Render an avatar speaking ``audio`` to a video with sound, to a folder of PNG files, or to both.

    Args:
        audio: audio or video file, float32 mono samples at 16 kHz, or speech made from text.
        video: its suffix chooses the codec (see ``VideoWriter``). An existing file is replaced only when the new one
            is complete.
        strip: alone, only its seconds are rendered.
        background: see ``Background``; "transparent" writes an alpha channel.

    The others are as in :func:`emotalking.api.render`.

    Raises:
        InputError: an input or output cannot be used.
    """
    sound, matte = audio.samples if isinstance(audio, Utterance) else audio, paste is not None
    mouth_strip = None
    if strip is not None:
        # Here: its fonts are matplotlib's, and loading that takes a tenth of the time to the first frame.
        from emotalking.player.strip import LONGEST_S, Strip, save_strip

        if video is None and folder is None:
            seconds = min(LONGEST_S, LONGEST_S if seconds is None else seconds)
    _check(sound, [video, folder, strip], seconds, background, paste, view)
    origin = _origin(avatar, audio, matte)
    signed = {place: finisher(place, origin, provenance) for place in (video, folder, strip) if place is not None}
    if strip is not None:
        mouth_strip = Strip(strip, avatar, signed[strip])
    mark = Mark(Payload.of_avatar(origin.avatar)) if provenance == "on" else None
    composited = matte or label
    player = Player(viewed(avatar, view), None if composited else mark)
    loaded = None if features is None else load_features(features, avatar.audio_features, avatar.fps)
    track = player.audio_features(sound, loaded, vad=vad, audio_track=audio_track, seconds=seconds)
    total = player.num_frames(track, seconds)
    if total == 0:
        raise InputError("the sound has no length, so there is no frame to render.")
    play = partial(player.frames, track, emotion, poses=poses, gaze=gaze, background=background)
    frames = play(seconds=seconds, batch=batch, matte=matte, seed=seed)
    if mouth_strip is not None:
        frames = mouth_strip.watch(frames, matte)
    width, height = avatar.width, avatar.height
    if paste is not None:
        paster = Paster(paste, getattr(avatar, "place", None))
        width, height = paster.place.width, paster.place.height
        frames = paster.frames(frames, player.recorded(total, poses, emotion))
    frames = _finished(frames, label, mark if composited else None, float(avatar.fps))
    frame_folder = None if folder is None else FrameFolder(folder, overwrite=overwrite, finish=signed[folder])
    writer = None
    if video is not None:
        if isinstance(audio, Utterance) and audio.made != "recorded" and provenance == "on":
            sound = mark_speech(audio.samples)  # the lips follow the speech without it
        sounds, alpha = resample_for_mux(sound, audio_track, listened_s(seconds)), _is_transparent(background)
        writer = VideoWriter(video, width, height, avatar.fps, sounds, alpha=alpha, finish=signed[video])
    _write(frames, total, frame_folder, writer, progress)
    if mouth_strip is not None:
        save_strip(mouth_strip, audio, audio_track, emotion if isinstance(emotion, EmotionTrack) else None)
    return Rendered(_path(video), _path(folder), total, float(total / avatar.fps), _path(strip))


def _origin(avatar: PlayableAvatar, audio: object, composite: bool) -> Origin:
    """What the outputs' signatures state; tells once of an avatar without a statement of consent."""
    if isinstance(metadata := getattr(avatar, "metadata", None), Mapping):
        remind(metadata)
    return Origin.of_avatar(
        avatar, composite=composite, licences=audio.licences if isinstance(audio, Utterance) else None
    )


def _finished(
    frames: Iterator[UInt8[np.ndarray, "H W channels"]], label: bool, mark: Mark | None, fps: float
) -> Iterator[UInt8[np.ndarray, "H W channels"]]:
    """Label and mark frames in their order."""
    frames = map(add_label, frames) if label else frames
    return frames if mark is None else (mark.array(frame, index / fps) for index, frame in enumerate(frames))


def _write(
    frames: Iterator[UInt8[np.ndarray, "H W channels"]],
    total: int,
    folder: FrameFolder | None,
    video: VideoWriter | None,
    progress: Callable[[int, int], object] | None,
) -> None:
    """Write each frame to all outputs."""
    with video or nullcontext():
        for done, image in enumerate(frames, 1):
            for output in (folder, video):
                if output is not None:
                    output.write(image)
            if progress is not None:
                progress(done, total)


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)


def _is_transparent(background: Background) -> bool:
    return isinstance(background, str) and background == "transparent"


def _check(
    audio: str | Path | Float[np.ndarray, " S"],
    outputs: Sequence[str | Path | None],
    seconds: float | None,
    background: Background,
    paste: str | Path | None,
    view: View,
) -> None:
    """Refuse impossible requests before anything is loaded; ``outputs[0]`` is the video."""
    if not any(outputs):
        raise InputError("nothing to write: give a video file, a folder for frames, a strip, or several of them.")
    if seconds is not None and not 0 < seconds < np.inf:
        raise InputError(f"the length to render is {seconds:g} s: give a positive number of seconds.")
    if (video := outputs[0]) is not None:
        codec_for(Path(video), _is_transparent(background))
        if isinstance(audio, str | Path) and Path(audio).exists() and Path(video).exists():
            if Path(audio).samefile(video):
                raise InputError(f"{video} is both the sound and the result: give the result another name.")
    if view != "image" and (paste is not None or background is not None):
        raise InputError(f"the view '{view}' has a background of its own: omit the background and what to paste into.")
    if paste is not None and background is not None:
        raise InputError("pasting back shows the clip's own background: omit the background.")


def resample_for_mux(
    audio: str | Path | Float[np.ndarray, " S"], track: int | None = None, longest_s: float | None = None
) -> Iterator[Float[np.ndarray, " n"]]:
    """Resample audio, of a file up to ``longest_s``, to the sample rate of video files, in chunks."""
    if isinstance(audio, np.ndarray):
        resampler = soxr.ResampleStream(SAMPLE_RATE, AUDIO_RATE, 1, dtype="float32")
        for start in range(0, len(audio), SAMPLE_RATE):
            last = start + SAMPLE_RATE >= len(audio)
            yield resampler.resample_chunk(audio[start : start + SAMPLE_RATE], last=last)
    else:
        yield from iter_audio(audio, AUDIO_RATE, track=track, longest_s=longest_s)
