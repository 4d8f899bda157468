"""Several systems on the same held-out frames of a subject: one table, with intervals and paired tests."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
from jaxtyping import Float, Int64, UInt8

from emotalking.data import Subject
from emotalking.errors import UserError
from emotalking.evaluate.evaluation_models import EvaluationModels
from emotalking.evaluate.held_out import own_emotion
from emotalking.evaluate.intervals import Interval, block_frames, bootstrap, paired_p
from emotalking.evaluate.measure import measure
from emotalking.evaluate.metrics import METRICS, Metric
from emotalking.evaluate.metrics.steadiness import rate_of
from emotalking.evaluate.published import as_published
from emotalking.evaluate.systems import AvatarSource, System
from emotalking.evaluate.unseen import SpokenSource, UnseenSpeech
from emotalking.io.audio import load_audio


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
        UserError: there is none.
    """
    available = [system.indices[system.indices >= 0] for system in systems]
    common = reduce(np.intersect1d, available)
    if len(common) == 0:
        spans = ", ".join(f"{s.name} {i.min()}-{i.max()}" for s, i in zip(systems, available, strict=True))
        raise UserError(f"no held-out frame is shown by all systems ({spans}): give frames of the same part.")
    return np.asarray(common[:limit], np.int64)


def compare(
    subject: Subject,
    systems: Sequence[System],
    models: EvaluationModels,
    *,
    limit: int | None = None,
    published: bool = False,
    unseen: UnseenSpeech | None = None,
    advance: Callable[[], Any] = lambda: None,
) -> Comparison:
    """Score every system on their common frames.

    Args:
        systems: with different names; the others are tested against the first that is not the recording.
        limit: maximum number of frames, from the first.
        published: also measure by the baseline's protocol (:mod:`emotalking.evaluate.published`).
        unseen: the systems (of :func:`emotalking.evaluate.unseen.open_unseen`) render speech that was never recorded:
            metrics that need recorded frames are missing.
        advance: called after every frame.

    Raises:
        UserError: a name twice, no common frame, or frames of another size than the subject's.
    """
    names = [system.name for system in systems]
    duplicate = next((name for name in names if names.count(name) > 1), None)
    if duplicate is not None or not names:
        raise UserError(f"two systems are called {duplicate}: give each its own name." if names else "name a system.")
    fps = float(subject.fps)
    indices = common_frames(systems, limit)
    for system in systems:
        _check_size(system, indices, subject)
    if unseen is not None:
        truth = None
        samples = unseen.samples(len(indices), fps)
        va = unseen.commanded(len(indices))
    else:
        truth = indices
        samples = _sound(subject, indices)
        va = None if subject.valence_arousal is None else own_emotion(subject, indices)
    rows = []
    for system in systems:
        frames = _counted(system.frames(indices), advance)
        scored = measure(frames, subject=subject, indices=truth, samples=samples, va=va, models=models)
        metrics = dict(scored.metrics)
        if isinstance(system.source, AvatarSource | SpokenSource) and system.source.watch is not None:
            metrics["fps"] = rate_of(system.source.watch.seconds)
        by_baseline = as_published(system, subject, indices, models, advance) if published else {}
        source = system.source
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


def _check_size(system: System, indices: Int64[np.ndarray, " N"], subject: Subject) -> None:
    frame = next(system.frames(indices[:1]))
    height, width = frame.shape[:2]
    if (height, width) != (subject.height, subject.width):
        raise UserError(
            f"{system.name} ({system.path}) shows frames of {width}x{height} and the subject is {subject.width}x"
            f"{subject.height}: render it at the subject's size."
        )


def _counted(
    frames: Iterator[UInt8[np.ndarray, "H W 3"]], advance: Callable[[], Any]
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    for frame in frames:
        yield frame
        advance()
