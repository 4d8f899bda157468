"""Clips of unusual kinds: orientation, pixels that are not square, fields, sizes that change, wide colours, tracks."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def encode(
    path: Path,
    frames: Sequence[np.ndarray],
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    aspect: Fraction | None = None,
    tags: dict[str, int] | None = None,
) -> Path:
    """Encode RGB frames (RGBA for formats with alpha) at 25 frames/s; ``tags`` are ``color_trc`` and the like."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=25, options=options or {})
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = pixel_format
        if aspect is not None:
            video.codec_context.sample_aspect_ratio = aspect
        for name, value in (tags or {}).items():
            setattr(video.codec_context, name, value)
        for image in frames:
            kind = "rgba" if image.shape[-1] == 4 else "rgb24"
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format=kind)))
        container.mux(video.encode(None))
    return path


def encode_planes(path: Path, planes: Sequence[np.ndarray], tags: dict[str, int], codec: str = "ffv1") -> Path:
    """Encode frames given as Y'CbCr ``[3, H, W]`` in 10 bits, without loss."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=25)
        video.height, video.width = planes[0].shape[1:]
        video.pix_fmt = "yuv444p10le"
        for name, value in tags.items():
            setattr(video.codec_context, name, value)
        for image in planes:
            frame = av.VideoFrame(video.width, video.height, "yuv444p10le")
            for plane, values in zip(frame.planes, image, strict=True):
                rows = np.zeros((plane.height, plane.line_size // 2), np.uint16)
                rows[:, : plane.width] = values
                plane.update(rows.tobytes())
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


def encode_sizes(path: Path, frames: Sequence[np.ndarray]) -> Path:
    """One video stream (Motion JPEG) whose frames have sizes of their own."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mjpeg", rate=25)
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = "yuvj444p"
        for index, image in enumerate(frames):
            one = av.CodecContext.create("mjpeg", "w")
            one.height, one.width = image.shape[:2]
            one.pix_fmt, one.time_base = "yuvj444p", Fraction(1, 25)
            one.options = {"qmin": "1", "qmax": "2"}
            for packet in (*one.encode(av.VideoFrame.from_ndarray(image, format="rgb24")), *one.encode(None)):
                packet.stream, packet.pts, packet.dts, packet.time_base = video, index, index, Fraction(1, 25)
                container.mux(packet)
    return path


def set_matrix(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Write a display matrix into the (only) video track's header of an .mp4 (ISO 14496-12, 8.3.2)."""
    data = bytearray(path.read_bytes())
    at = data.find(b"tkhd") + 44
    data[at : at + 36] = np.array([a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30], ">i4").tobytes()
    path.write_bytes(data)
    return path


def describe(path: Path, name: bytes, content: bytes) -> Path:
    """Add a box to the description of the (only) video track of an .mp4 whose index is at its end."""
    data = bytearray(path.read_bytes())
    box = struct.pack(">I", 8 + len(content)) + name + content
    boxes = [data.rindex(b"moov")]
    for parent in (b"trak", b"mdia", b"minf", b"stbl", b"stsd"):
        boxes.append(data.index(parent, boxes[-1]))
    boxes.append(boxes[-1] + 16)  # the sample entry
    end = boxes[-1] - 4 + int.from_bytes(data[boxes[-1] - 4 : boxes[-1]], "big")
    for at in boxes:
        data[at - 4 : at] = (int.from_bytes(data[at - 4 : at], "big") + len(box)).to_bytes(4, "big")
    data[end:end] = box
    path.write_bytes(data)
    return path


def corners(height: int = 48, width: int = 64) -> np.ndarray:
    """An image without any symmetry: red top left, green top right, blue bottom left, grey bottom right."""
    image = np.full((height, width, 3), 128, np.uint8)
    rows, columns = height // 2, width // 2
    image[:rows, :columns] = (230, 20, 20)
    image[:rows, columns:] = (20, 230, 20)
    image[rows:, :columns] = (20, 20, 230)
    return image
