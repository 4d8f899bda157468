"""From avatar files and speech to videos."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from emotalking.errors import InputError
from emotalking.io.outputs import checked
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
    Voice,
    Writes,
)

if TYPE_CHECKING:
    import numpy as np
    import torch
    from jaxtyping import Float

    from emotalking.emotion.tracks import EmotionTrack
    from emotalking.models.avatar import Avatar
    from emotalking.player.backgrounds import Background
    from emotalking.player.clip import Rendered
    from emotalking.player.protocols import PlayableAvatar
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
    device: Device = "auto",
    overwrite: Overwrite = False,
    label: bool = False,
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
        seed: of expressive motion.
        label: show the letters AI in the lower left corner of video and frames.
        progress: called after each frame with (frames done, frames in all).

    Raises:
        InputError: an input or an output cannot be used.

    Note:
        In Python ``avatar`` may also be an avatar already loaded (``device`` then has no effect), and ``audio`` float32
        mono samples at 16 kHz or the result of ``synthesize``.
    """
    from emotalking.emotion.tracks import emotion_track, heard_gain
    from emotalking.player.clip import render_clip

    if batch < 1:
        raise InputError(f"the batch is {batch} frames: give at least 1.")
    if (audio is None) == (text is None):
        raise InputError("give one of audio and text: the speech as a sound file, or what is to be said.")
    gain = heard_gain(emotion)
    chosen = emotion_track("neutral" if gain is not None else emotion, va, track)
    if emotion_file is not None:
        from emotalking.emotion.plot import check_emotion_file

        check_emotion_file(emotion_file)
    if text is not None:
        from emotalking.api.speech import speech_with_emotion

        audio, tagged = speech_with_emotion(text, language=language, voice=voice, rate=rate, speaker=speaker)
        if tagged is not None and chosen is not None:
            raise InputError("the text has emotions in brackets: omit those, or emotion, va and track.")
        chosen = chosen if tagged is None else tagged
    elif (language, voice, rate, speaker) != _NO_TEXT:
        raise InputError("language, voice, rate and speaker are for speech from text: omit them with audio.")
    assert audio is not None
    if gain is not None:
        chosen = _heard_emotion(audio, audio_track, gain)
    if emotion_file is not None:
        _write_emotion(emotion_file, chosen, audio, audio_track)
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
        provenance=provenance,
        seed=seed,
        progress=progress,
    )


def _with_lips(avatar: "PlayableAvatar", lips: Lips) -> "PlayableAvatar":
    """The avatar with strict lips if they are wanted; a program's own avatar decides by itself."""
    from emotalking.models.avatar import Avatar

    return replace(avatar, lips=lips) if lips == "strict" and isinstance(avatar, Avatar) else avatar


def _heard_emotion(audio: "PathLike | Samples | Utterance", audio_track: int | None, gain: float) -> "EmotionTrack":
    """The emotion of a voice."""
    from emotalking.emotion.voice import voice_emotion
    from emotalking.io.audio import iter_audio
    from emotalking.progress import doing

    with doing("emotion of the voice"):
        if isinstance(audio, PathLike):
            return voice_emotion(iter_audio(audio, track=audio_track), gain)
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
) -> None:
    """Write an emotion over time with its sound."""
    from emotalking.emotion.plot import write_emotion
    from emotalking.io.audio import load_audio

    if track is None:
        raise InputError(f"there is no emotion to write to {path}: give one, or auto.")
    if isinstance(audio, PathLike):
        samples = load_audio(audio, longest_s=_LONGEST_PLOT_S, track=audio_track)
    else:
        samples = _samples(audio)
    write_emotion(path, track, samples)


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
