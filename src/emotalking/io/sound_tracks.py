"""The sound track of a file: which one is played, and how loud it may be."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av.error
import numpy as np
from av import AudioFrame, AudioStream
from av.container import InputContainer
from av.stream import Disposition

from emotalking.errors import InputError
from emotalking.io.containers import open_media
from emotalking.io.downmix import Mixer, downmix_weights
from emotalking.io.reading import reason

_SPECIAL = Disposition.comment | Disposition.visual_impaired | Disposition.hearing_impaired | Disposition.karaoke
"""Tracks beside the main one."""
_SILENT = 0.003
"""A track that stays below (-50 dB) is silent."""
_LISTEN_S = 60.0


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """The container of ``path``; any refusal of FFmpeg's becomes a sentence."""
    try:
        container = open_media(path)
    except (av.error.FFmpegError, ValueError) as error:
        raise InputError(
            f"{path} is not a sound or video file that can be read, or it is cut short ({reason(error)})."
        ) from error
    with container:
        yield container


@contextmanager
def open_sound(path: Path, track: int | None = None) -> Iterator[tuple[InputContainer, AudioStream]]:
    """Container and chosen audio stream of ``path``."""
    with opened(path) as container:
        sounds = container.streams.audio
        if not sounds:
            raise InputError(f"{path} has no audio stream: give a file with sound.")
        if track is not None and not 1 <= track <= len(sounds):
            raise InputError(f"{path} has no sound track {track}: give a number from 1 to {len(sounds)}.")
        known = [stream for stream in sounds if stream.codec_context is not None]
        chosen = None if track is None else sounds[track - 1]
        if not known or (chosen is not None and chosen not in known):
            raise InputError(f"{path}: its sound has a format that cannot be decoded; export it as AAC or WAV.")
        if chosen is None:
            chosen = _preferred(path, known) if len(known) > 1 else known[0]
        yield container, chosen


def _preferred(path: Path, sounds: list[AudioStream]) -> AudioStream:
    """The track that a player plays, default ones first; another one where that is silent."""
    order = sorted(sounds, key=lambda s: (bool(s.disposition & _SPECIAL), not s.disposition & Disposition.default))
    audible = _audible(path)
    return next((stream for stream in order if stream.index in audible), order[0])


def _audible(path: Path) -> set[int]:
    """Indices of the audio streams that are not silent in the first minute."""
    loud: set[int] = set()
    begins: dict[int, float] = {}
    with opened(path) as container:
        sounds = [stream for stream in container.streams.audio if stream.codec_context is not None]
        for index, frame in _frames(container, sounds):
            if np.abs(Mixer()(frame)).max(initial=0.0) > _SILENT:
                loud.add(index)
            time = frame.time or 0.0
            if time - begins.setdefault(index, time) > _LISTEN_S or len(loud) == len(sounds):
                return loud
    return loud


def _frames(container: InputContainer, sounds: list[AudioStream]) -> Iterator[tuple[int, AudioFrame]]:
    """The frames of some audio streams, with the stream's index; packets that cannot be decoded are left out."""
    for packet in container.demux(*sounds):
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            continue
        for frame in frames:
            if isinstance(frame, AudioFrame):
                yield packet.stream.index, frame


def full_scale_gain(path: Path, index: int, stream: AudioStream, longest_s: float | None = None) -> float:
    """Factor, at most 1, with which sound that can exceed full scale fits: float samples, and several channels added.

    Lossy codecs of one or two channels exceed it by their own errors, which players clip. No more than about
    ``longest_s`` of the track is looked at.
    """
    context = stream.codec_context
    is_float = context.name.startswith("pcm_f")
    if not is_float and context.channels <= 2:
        return 1.0
    peak = 1.0
    mix = Mixer()
    looked_s = 0.0
    with opened(path) as container:
        for _, frame in _frames(container, [container.streams.audio[index]]):
            if longest_s is not None and looked_s > longest_s:
                break
            looked_s += frame.samples / frame.sample_rate
            if is_float or downmix_weights(frame) is not None:
                peak = max(peak, float(np.nan_to_num(np.abs(mix(frame)), posinf=0.0).max(initial=0.0)))
    return 1.0 / peak
