"""Several systems on the same held-out frames of a subject: one table, with intervals and paired tests."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import reduce
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation
from jaxtyping import Float, Int64, UInt8

from emotalking.data import Subject
from emotalking.errors import InputError
from emotalking.evaluate.evaluation_models import EvaluationModels
from emotalking.evaluate.held_out import own_emotion
from emotalking.evaluate.intervals import Interval, block_frames, bootstrap, paired_p
from emotalking.evaluate.measure import measure
from emotalking.evaluate.metrics import METRICS, Metric
from emotalking.evaluate.metrics.steadiness import rate_of
from emotalking.evaluate.speech import UnseenSpeech
from emotalking.evaluate.systems import System
from emotalking.io.audio import load_audio
from emotalking.io.containers import create_media
from emotalking.io.display import to_rgb
from emotalking.io.video import decode_frames

CRF = 10
"""Constant rate factor of imageio's quality 8."""


@dataclass(frozen=True)
class Row:
    """One system's metrics."""

    name: str
    path: str
    kind: str
    """"avatar", "frames", "video" or "recording"."""
    note: str
    """Limits of the metrics, for the reader."""
    metrics: dict[str, Metric]
    intervals: dict[str, Interval]
    """95 % intervals of the metrics with values per frame, given enough frames."""
    differences: dict[str, float]
    """Mean difference per frame from the reference system's, where both have the frame."""
    p: dict[str, float]
    """p-values of the paired test against the reference system; not corrected for the number of tests."""
    published: dict[str, Metric]
    """Metrics by the baseline's protocol, on re-encoded video; empty if not requested."""


@dataclass(frozen=True)
class Comparison:
    """All systems on one set of frames."""

    subject: str
    indices: Int64[np.ndarray, " N"]
    """Scored frames of the subject, available from every system."""
    fps: float
    block: int
    """Frames of a block of the intervals and tests."""
    rows: tuple[Row, ...]
    speech: str = ""
    """Unrecorded speech that the systems render; then `indices` count from its start."""

    @property
    def reference(self) -> Row:
        """The system that the others are tested against: the first that is not the recording itself."""
        return next((row for row in self.rows if row.kind != "recording"), self.rows[0])


def common_frames(systems: Sequence[System], limit: int | None = None) -> Int64[np.ndarray, " N"]:
    """First ``limit`` held-out frames that all systems have.

    Raises:
        InputError: there is none.
    """
    available = [system.indices[system.indices >= 0] for system in systems]
    common = reduce(np.intersect1d, available)
    if len(common) == 0:
        spans = ", ".join(f"{s.name} {i.min()}-{i.max()}" for s, i in zip(systems, available, strict=True))
        raise InputError(f"no held-out frame is shown by all systems ({spans}): give frames of the same part.")
    return np.asarray(common[:limit], np.int64)


def compare(
    subject: Subject,
    systems: Sequence[System],
    models: EvaluationModels,
    *,
    limit: int | None = None,
    published: bool = False,
    unseen: UnseenSpeech | None = None,
    advance: Callable[[], object] = lambda: None,
) -> Comparison:
    """Score every system on their common frames.

    Args:
        systems: with different names; the others are tested against the first that is not the recording.
        limit: maximum number of frames, from the first.
        published: also measure by the baseline's protocol (:func:`as_published`).
        unseen: the systems (of :func:`emotalking.evaluate.systems.open_unseen`) render speech that was never recorded:
            metrics that need recorded frames are missing.
        advance: called after every frame.

    Raises:
        InputError: no system, no common frame, or frames of another size than the subject's.
    """
    if not systems:
        raise InputError("name a system.")
    fps = float(subject.fps)
    indices = common_frames(systems, limit)
    for system in systems:
        check_size(system, indices, subject)
    if unseen is not None:
        truth = None
        samples = unseen.speech.under(len(indices), fps)
        va = unseen.commanded(len(indices))
    else:
        truth = indices
        samples = _sound(subject, indices)
        va = None if subject.valence_arousal is None else own_emotion(subject, indices)
    rows = []
    for system in systems:
        source = system.source
        frames = _counted(system.frames(indices), advance)
        scored = measure(
            frames,
            subject=subject,
            indices=truth,
            samples=samples,
            va=va,
            models=models,
            of_recording=source.kind == "recording",
        )
        metrics = dict(scored.metrics)
        if source.watch is not None:
            metrics["fps"] = rate_of(source.watch.seconds)
        by_baseline = as_published(system, subject, indices, models, advance) if published else {}
        rows.append(Row(system.name, system.path, source.kind, source.note, metrics, {}, {}, {}, by_baseline))
    speech = "" if unseen is None else unseen.speech.name
    plain = Comparison(str(subject.files.root), indices, fps, block_frames(fps), tuple(rows), speech)
    return replace(plain, rows=tuple(_tested(row, plain.reference, plain.block) for row in rows))


def _tested(row: Row, reference: Row, block: int) -> Row:
    """The row with intervals, and with tests against the reference."""
    intervals: dict[str, Interval] = {}
    differences: dict[str, float] = {}
    p: dict[str, float] = {}
    for name, metric in row.metrics.items():
        ours = metric.per_frame
        if ours is None or metric.better == "none" or np.isinf(ours).any():
            continue
        interval = bootstrap(ours, block, root=METRICS[name].aggregate == "root_mean")
        if interval is not None:
            intervals[name] = interval
        other = reference.metrics.get(name)
        if row is reference or row.kind == "recording" or other is None or other.per_frame is None:
            continue
        theirs = other.per_frame
        if len(theirs) != len(ours) or np.isnan(ours - theirs).all():
            continue
        differences[name] = metric.value - other.value
        chance = paired_p(ours, theirs, block)
        if chance is not None:
            p[name] = chance
    return replace(row, intervals=intervals, differences=differences, p=p)


def _sound(subject: Subject, indices: Int64[np.ndarray, " N"]) -> Float[np.ndarray, " S"] | None:
    """Sound of the frames; None without sound, or if they are not consecutive."""
    if not subject.files.audio.exists() or not (np.diff(indices) == 1).all():
        return None
    fps = float(subject.fps)
    return load_audio(subject.files.audio, float(indices[0]) / fps, len(indices) / fps)


def check_size(system: System, indices: Int64[np.ndarray, " N"], subject: Subject) -> None:
    """Refuse a system whose frames have another size than the subject's.

    Raises:
        InputError: naming both.
    """
    frame = next(system.frames(indices[:1]))
    height, width = frame.shape[:2]
    if (height, width) != (subject.height, subject.width):
        raise InputError(
            f"{system.name} ({system.path}) shows frames of {width}x{height} and the subject is {subject.width}x"
            f"{subject.height}: render it at the subject's size."
        )


def _counted(frames: Iterable[np.ndarray], advance: Callable[[], object]) -> Iterator[np.ndarray]:
    for frame in frames:
        yield frame
        advance()


def as_published(
    system: System,
    subject: Subject,
    indices: Int64[np.ndarray, " N"],
    models: EvaluationModels,
    advance: Callable[[], object] = lambda: None,
) -> dict[str, Metric]:
    """PSNR, LPIPS and LMD by the baseline's protocol: between re-encoded frames of a system and of the recording.

    TalkingGaussian's ``synthesize_fuse.py`` (and ER-NeRF's ``Trainer.test``) hand 8-bit frames to ``imageio.mimwrite``
    with ``fps=25, quality=8, macro_block_size=1``, for the rendered frames and for the recorded ones; ``metrics.py``
    then reads both files with OpenCV and takes PSNR, LPIPS and LMD of every pair. In imageio's FFmpeg writer quality 8
    of H.264 is ``crf = int((1 - 8 / 10) * 51) = 10``, with libx264's own preset, 4:2:0 colour and FFmpeg's BT.601
    matrix.

    A video that has lost something is taken as it is: the baseline's script has encoded its output itself. What this
    cannot undo are differences between builds of x264, and the landmarks: ours are not the baseline's (FAN).

    Args:
        indices: compared frames of the subject, which the system has.
        advance: called after every frame.

    Raises:
        InputError: an odd width or height, which 4:2:0 video cannot hold.
    """
    with tempfile.TemporaryDirectory(prefix="emotalking-") as scratch:
        truth = encode((subject.target(int(index)) for index in indices), Path(scratch) / "gt.mp4", subject.fps)
        if system.source.kind == "video" and system.source.note:
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
        InputError: an odd width or height.
    """
    stream: Any = None
    with create_media(path, "mp4") as container:
        for frame in frames:
            height, width = frame.shape[:2]
            if height % 2 or width % 2:
                raise InputError(
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
