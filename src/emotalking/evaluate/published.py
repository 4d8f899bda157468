"""Measure by the baseline's protocol, to reproduce published metrics: on re-encoded video, frames cut to 8 bit.

TalkingGaussian's ``synthesize_fuse.py`` (and ER-NeRF's ``Trainer.test``) hand 8-bit frames to ``imageio.mimwrite`` with
``fps=25, quality=8, macro_block_size=1``, for the rendered frames and for the recorded ones; ``metrics.py`` then reads
both files with OpenCV and takes PSNR, LPIPS and LMD of every pair. In imageio's FFmpeg writer quality 8 of H.264 is
``crf = int((1 - 8 / 10) * 51) = 10``, with libx264's own preset, 4:2:0 colour and FFmpeg's BT.601 matrix.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation
from jaxtyping import Int64, UInt8

from emotalking.data import Subject
from emotalking.errors import UserError
from emotalking.evaluate.evaluation_models import EvaluationModels
from emotalking.evaluate.measure import measure
from emotalking.evaluate.metrics import METRICS, Metric
from emotalking.evaluate.systems import System, VideoSource
from emotalking.io.video import decode_frames, to_rgb

CRF = 10
"""Constant rate factor of imageio's quality 8."""


def as_published(
    system: System,
    subject: Subject,
    indices: Int64[np.ndarray, " N"],
    models: EvaluationModels,
    advance: Callable[[], Any] = lambda: None,
) -> dict[str, Metric]:
    """PSNR, LPIPS and LMD between re-encoded frames of a system and re-encoded recorded frames.

    A video that has lost something is taken as it is: the baseline's script has encoded its output itself. What this
    cannot undo are differences between builds of x264, and the landmarks: ours are not the baseline's (FAN).

    Args:
        indices: compared frames of the subject, which the system has.
        advance: called after every frame.

    Raises:
        UserError: an odd width or height, which 4:2:0 video cannot hold.
    """
    with tempfile.TemporaryDirectory(prefix="emotalking-") as scratch:
        truth = encode((subject.target(int(index)) for index in indices), Path(scratch) / "gt.mp4", subject.fps)
        if isinstance(system.source, VideoSource) and system.source.note:
            frames: Iterable[np.ndarray] = system.frames(indices)
        else:
            frames = decode(encode(system.frames(indices), Path(scratch) / "out.mp4", subject.fps))
        scored = measure(
            _counted(frames, advance), subject=subject, indices=indices, models=models, recorded=decode(truth)
        )
    return {name: scored.metrics[name] for name, spec in METRICS.items() if spec.baseline and name in scored.metrics}


def encode(frames: Iterable[UInt8[np.ndarray, "H W 3"]], path: Path, fps: Fraction) -> Path:
    """Write frames as imageio's FFmpeg writer does with quality 8.

    Raises:
        UserError: an odd width or height.
    """
    stream: Any = None
    with av.open(str(path), "w") as container:
        for frame in frames:
            height, width = frame.shape[:2]
            if height % 2 or width % 2:
                raise UserError(
                    f"the baseline cannot encode frames of {width}x{height}: its protocol needs even sizes."
                )
            if stream is None:
                stream = container.add_stream("libx264", rate=fps, options={"crf": str(CRF)})
                stream.width = width
                stream.height = height
                stream.pix_fmt = "yuv420p"
                stream.thread_type = "FRAME"  # as the ffmpeg program has it; slices would cost quality
            image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            # The ffmpeg program scales the colours with bicubic weights, where PyAV takes bilinear ones.
            container.mux(stream.encode(image.reformat(format="yuv420p", interpolation=Interpolation.BICUBIC)))
        if stream is not None:
            container.mux(stream.encode(None))
    return path


def decode(path: Path) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The frames of a video that :func:`encode` wrote."""
    for _, frame in decode_frames(path):
        yield to_rgb(frame)


def _counted(frames: Iterable[np.ndarray], advance: Callable[[], Any]) -> Iterator[np.ndarray]:
    for frame in frames:
        yield frame
        advance()
