"""From avatar files and speech to videos."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from emotalking.api.speech import speech_with_emotion
from emotalking.errors import InputError
from emotalking.io.files import write_bytes
from emotalking.io.outputs import checked
from emotalking.jobs.config import JobsConfig
from emotalking.networks.registry import sha256_of
from emotalking.options import (
    Device,
    Emotion,
    Input,
    Language,
    Lips,
    OptionalInput,
    Overwrite,
    PathLike,
    Provenance,
    Rate,
    Reads,
    Seconds,
    Seed,
    SoundTrack,
    Speaker,
    ValenceArousal,
    View,
    Voice,
    Writes,
)

if TYPE_CHECKING:
    import numpy as np
    import torch
    from jaxtyping import Float

    from emotalking.emotion.tracks import EmotionTrack
    from emotalking.jobs.job import Job
    from emotalking.jobs.page import ManyResult
    from emotalking.models.avatar import Avatar
    from emotalking.player.backgrounds import Background
    from emotalking.player.clip import Rendered
    from emotalking.player.protocols import PlayableAvatar
    from emotalking.player.render_table import Row
    from emotalking.tts.base import Utterance

    Samples = Float[np.ndarray, " S"]

_NO_TEXT = ("en", None, 1, "auto")
"""Language, voice, rate and speaker where no text is given."""
_LONGEST_PLOT_S = 3600.0


@checked
def render(
    avatar: Annotated["PathLike | PlayableAvatar", Reads()],
    audio: Annotated["PathLike | Samples | Utterance | None", Reads()] = None,
    output: Annotated[PathLike | None, Writes("video")] = None,
    *,
    text: str | None = None,
    language: Language = "en",
    voice: Voice = None,
    rate: Rate = 1,
    speaker: Speaker = "auto",
    emotion: Emotion = None,
    va: ValenceArousal = None,
    track: Annotated["PathLike | EmotionTrack | None", Reads()] = None,
    emotion_file: Annotated[PathLike | None, Writes("emotion")] = None,
    frames_folder: Annotated[PathLike | None, Writes("frames")] = None,
    strip: Annotated[PathLike | None, Writes("image")] = None,
    background: Annotated["str | Background | None", Reads()] = None,
    paste: OptionalInput = None,
    poses: Literal["recorded", "expressive", "fixed"] = "recorded",
    seconds: Seconds = None,
    features: OptionalInput = None,
    audio_track: SoundTrack = None,
    vad: bool = True,
    lips: Lips = "expressive",
    batch: int = 8,
    seed: Seed = 0,
    gaze: Annotated["str | tuple[float | int, float | int] | EmotionTrack", Reads()] = "recorded",
    device: Device = "auto",
    overwrite: Overwrite = False,
    label: bool = False,
    view: View = "image",
    provenance: Provenance = "on",
    progress: Callable[[int, int], object] | None = None,
) -> "Rendered":
    """Render an avatar speaking, with emotion.

    Args:
        avatar: avatar file ('emotalking train').
        audio: speech: any sound or video file, of any length.
        output: video to write, with sound: .mp4, .mov, .mkv or .webm; transparent: .mov or .webm.
        text: speech made from this text, instead of audio; with emotions in it: "[happy] Hello! [sad:0.6] I must go".
        emotion: emotion: happy, sad, angry, ..., or with a strength: happy:0.5; auto (or auto:2): from the voice.
        track: emotion over time: keyframes in a .csv or .json file (time, valence, arousal).
        emotion_file: write the emotion over time: keyframes (.csv) or a plot (.png).
        frames_folder: write every frame as a PNG file into this folder.
        strip: image of the first 6 s: every frame's mouth above the sound, with words and phonemes of the text.
        background: an image file, a colour (white, #00ff00) or transparent; None: as recorded.
        paste: paste the head back into the full frames of this clip, from which the avatar came.
        poses: head motion: as recorded; expressive: moved by speech and emotion (nods, brows, blinks, tempo); or none.
        features: .npy file with the avatar's kind of audio features of the speech; None: computed from it.
        vad: voice activity detection: close the lips where nobody speaks, instead of following every sound.
        batch: frames rendered together.
        seed: of expressive motion, and of the saccades of steered eyes.
        gaze: where the eyes look: recorded; camera; x,y from -1 to 1 beside it (right, up; 1: as far as they may);
            or a .csv or .json file (time, x, y).
        label: show the letters AI in the lower left corner of video and frames.
        progress: called after each frame with (frames done, frames in all).

    Raises:
        InputError: an input or an output cannot be used.

    Note:
        In Python ``avatar`` may also be an avatar already loaded (``device`` then has no effect), and ``audio`` float32
        mono samples at 16 kHz or the result of ``synthesize``.
    """
    from emotalking.emotion.tracks import gaze_track
    from emotalking.player.clip import render_clip

    if batch < 1:
        raise InputError(f"the batch is {batch} frames: give at least 1.")
    if (audio is None) == (text is None):
        raise InputError("give one of audio and text: the speech as a sound file, or what is to be said.")
    looks = gaze_track(gaze)
    if emotion_file is not None:
        from emotalking.emotion.plot import check_emotion_file

        check_emotion_file(emotion_file)
    told = emotion, va, track
    audio, chosen = _speech(audio, text, (language, voice, rate, speaker), told, audio_track, seconds)
    if emotion_file is not None:
        _write_emotion(emotion_file, chosen, audio, audio_track, seconds)
    return render_clip(
        _with_lips(load_avatar(avatar, device) if isinstance(avatar, PathLike) else avatar, lips),
        audio,
        output,
        strip=strip,
        folder=frames_folder,
        features=features,
        audio_track=audio_track,
        emotion=chosen,
        poses=poses,
        background=background,
        paste=paste,
        seconds=seconds,
        batch=batch,
        overwrite=overwrite,
        vad=vad,
        label=label,
        view=view,
        provenance=provenance,
        seed=seed,
        gaze=looks,
        progress=progress,
    )


def _speech(
    audio: "PathLike | Samples | Utterance | None",
    text: str | None,
    voice: tuple[str, str | None, float | int, PathLike],
    told: "tuple[str | None, tuple[float | int, float | int] | None, PathLike | EmotionTrack | None]",
    audio_track: int | None,
    seconds: float | None,
) -> "tuple[PathLike | Samples | Utterance, EmotionTrack | None]":
    """Speech and its emotion.

    Args:
        voice: language, voice, rate and speaker of the text.
        told: emotion, va and track.
    """
    from emotalking.emotion.tracks import emotion_track, heard_gain

    gain = heard_gain(told[0])
    chosen = emotion_track("neutral" if gain is not None else told[0], *told[1:])
    if text is not None:
        language, name, rate, speaker = voice
        audio, tagged = speech_with_emotion(text, language=language, voice=name, rate=rate, speaker=speaker)
        if tagged is not None and chosen is not None:
            raise InputError("the text has emotions in brackets: omit those, or emotion, va and track.")
        chosen = chosen if tagged is None else tagged
    elif voice != _NO_TEXT:
        raise InputError("language, voice, rate and speaker are for speech from text: omit them with audio.")
    assert audio is not None
    return audio, chosen if gain is None else _heard_emotion(audio, audio_track, gain, seconds)


@checked
def render_many(
    table: Input,
    output: Annotated[PathLike, Writes("renders")],
    jobs: JobsConfig = JobsConfig(),
    *,
    device: Device = "auto",
    label: bool = False,
    provenance: Provenance = "on",
) -> "ManyResult":
    """Render many videos, those of a table, here or on a cluster, with one page about all of them.

    Args:
        table: .csv or .json file with a row for each video: avatar, output, audio or text, and if wanted language,
            voice, emotion (or valence and arousal, or track), background, poses, seconds, seed. Files are relative to
            the table's folder.
        output: folder for the videos, their logs, and ``index.html`` about all of them. A video that was made of the
            same row and the same files is kept.
        jobs: where the renderings run, and how many at once.
        label: show the letters AI in the lower left corner.

    Raises:
        InputError: the table, the device or the cluster cannot be used. A row that cannot be rendered raises nothing:
            it is among the result's ``failures``.
    """
    from emotalking.jobs.engine import open_engine
    from emotalking.jobs.page import write_page
    from emotalking.player.render_table import read_table

    rows, folder = read_table(Path(table)), Path(output).absolute()
    with open_engine(jobs, device) as engine:
        listed = render_jobs(rows, folder, {"device": engine.device, "label": label, "provenance": provenance})
        return write_page(engine.run(listed), folder, "Videos", "videos are rendered")


def render_jobs(rows: "Sequence[Row]", folder: Path, options: dict[str, Any]) -> "list[Job]":
    """Jobs of the rows of a table.

    Args:
        rows: of :func:`emotalking.player.render_table.read_table`.
        folder: for the results.
        options: more arguments of :func:`render`.
    """
    from emotalking.jobs.job import Job
    from emotalking.player.render_table import LOGS

    jobs: list[Job] = []
    for row in rows:
        video, log = folder / row.output, folder / LOGS / f"{row.output}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        given = row, video, log.with_suffix(".json"), options
        jobs.append(Job(row.output, video, partial(_render_row, *given), log, partial(_is_rendered, *given)))
    return jobs


def _render_row(row: "Row", video: Path, record: Path, options: dict[str, Any]) -> None:
    """Render a row, and note what it was made of."""
    made_of = _made_of(row, options)
    record.unlink(missing_ok=True)
    render(output=video, **row.options, **options)
    write_bytes(record, made_of)


def _is_rendered(row: "Row", video: Path, record: Path, options: dict[str, Any]) -> bool:
    """True if the video is there and was made of this row and these files."""
    return video.is_file() and record.is_file() and record.read_bytes() == _made_of(row, options)


def _made_of(row: "Row", options: dict[str, Any]) -> bytes:
    """All that a video depends on: the row, the options but for the device, and the content of its files."""
    files = {str(path): sha256_of(path) for path in row.files}
    told = row.options | {name: value for name, value in options.items() if name != "device"}
    return (json.dumps({"options": told, "files": files}, indent=1, default=str) + "\n").encode()


def _with_lips(avatar: "PlayableAvatar", lips: Lips) -> "PlayableAvatar":
    """The avatar with strict lips if they are wanted; a program's own avatar decides by itself."""
    from emotalking.models.avatar import Avatar

    return replace(avatar, lips=lips) if lips == "strict" and isinstance(avatar, Avatar) else avatar


def _heard_emotion(
    audio: "PathLike | Samples | Utterance", audio_track: int | None, gain: float, seconds: float | None
) -> "EmotionTrack":
    """The emotion of a voice, as far as frames up to the time ``seconds`` depend on it."""
    from emotalking.emotion.voice import voice_emotion
    from emotalking.io.audio import iter_audio
    from emotalking.player.player import listened_s
    from emotalking.progress import doing

    with doing("emotion of the voice"):
        if isinstance(audio, PathLike):
            return voice_emotion(iter_audio(audio, track=audio_track, longest_s=listened_s(seconds)), gain)
        return voice_emotion([_samples(audio)], gain)


def _samples(audio: "Samples | Utterance") -> "Samples":
    """Samples of speech that is in memory."""
    from emotalking.tts.base import Utterance

    return audio.samples if isinstance(audio, Utterance) else audio


def _write_emotion(
    path: PathLike,
    track: "EmotionTrack | None",
    audio: "PathLike | Samples | Utterance",
    audio_track: int | None,
    seconds: float | None,
) -> None:
    """Write an emotion over time with the sound of the first ``seconds``."""
    from emotalking.emotion.plot import write_emotion
    from emotalking.io.audio import SAMPLE_RATE, load_audio

    if track is None:
        raise InputError(f"there is no emotion to write to {path}: give one, or auto.")
    if isinstance(audio, PathLike):
        samples = load_audio(audio, longest_s=_LONGEST_PLOT_S, track=audio_track)
    else:
        samples = _samples(audio)
    write_emotion(path, track, samples[: None if seconds is None else round(seconds * SAMPLE_RATE)])


@checked
def load_avatar(path: Input, device: "Device | torch.device" = "auto") -> "Avatar":
    """Read an avatar file onto a device.

    Args:
        path: avatar file.

    Raises:
        InputError: the file or the device cannot be used.
    """
    from emotalking.progress import doing

    with doing("reading the avatar"):
        from emotalking.models.avatar import Avatar

        return Avatar.load(path, choose_device(device))


def choose_device(device: "Device | torch.device" = "auto") -> "torch.device":
    """Choose a device by its name; auto: a GPU if there is one that can be used.

    Raises:
        DeviceError: no such device, or a GPU without the rasterizer that it needs.
    """
    from emotalking.ops.devices import choose_device as choose

    return choose(device)
