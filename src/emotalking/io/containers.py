"""The one way to FFmpeg: media files by their absolute path, and never what such a file names."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import av
from av.container import InputContainer, OutputContainer

_FORBIDDEN = frozenset(
    "concat concatf hls applehttp dash imf webm_dash_manifest sdp rtsp rtp sap image2 vobsub lavfi avisynth "
    "vapoursynth dvdvideo libopenmpt".split()
)
"""Formats of FFmpeg whose files name other files or addresses that are then read, or are programs."""
_ALLOWED = ",".join(sorted(name for name in av.formats_available if not _FORBIDDEN.intersection(name.split(","))))


def open_media(path: str | Path) -> InputContainer:
    """Open a sound or video file for reading; the name may hold any bytes, colons and percent signs.

    Playlists and other formats that make FFmpeg read further files are refused.

    Raises:
        FFmpegError: the file cannot be read as media; most of its subclasses are an OSError or ValueError.
    """
    limits = {"format_whitelist": _ALLOWED, "protocol_whitelist": "file"}
    # Titles come in any encoding, and covers and artwork are bytes.
    return av.open(_address(path), options=limits, metadata_errors="replace")


def create_media(path: str | Path, muxer: str, options: Mapping[str, str] | None = None) -> OutputContainer:
    """Open a media file for writing.

    Args:
        path: the file.
        muxer: FFmpeg's name of the container.
        options: of the muxer.

    Raises:
        FFmpegError: the file cannot be written; mostly also an OSError.
    """
    return cast("OutputContainer", av.open(_address(path), "w", format=muxer, options=dict(options or {})))


def create_stream(address: str, muxer: str, options: Mapping[str, str] | None = None) -> OutputContainer:
    """Open a live stream for writing; the connection is made when its header is written.

    Args:
        address: such as ``rtmp://host/application/key``.
        muxer: FFmpeg's name of the container.
        options: of the muxer and the protocol.

    Raises:
        FFmpegError: there is no such protocol; mostly also an OSError.
    """
    return cast("OutputContainer", av.open(address, "w", format=muxer, options=dict(options or {})))


def _address(path: str | Path) -> str:
    """A path that FFmpeg takes for a file, whatever its letters."""
    return f"file:{os.path.abspath(path)}"
