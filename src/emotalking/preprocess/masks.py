"""Masks of every frame of a subject: parsed, smoothed over time, and their quality (docs/paper.md 2, step 4)."""

from collections.abc import Iterator
from functools import partial
from itertools import tee
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped, UInt8

from emotalking.data import writer as write
from emotalking.data.files import SubjectFiles
from emotalking.data.labels import WHOLE_HEAD, Label
from emotalking.data.layouts import FaceLayout
from emotalking.data.readers import read_subject_image
from emotalking.preprocess.parsing.geometry import face_zones
from emotalking.preprocess.parsing.parser import (
    ClipParser,
    EmbeddedParsing,
    ParsingProvider,
    SmallFlow,
    TemporalSmoother,
    flicker,
)
from emotalking.preprocess.steps import map_frames, one_thread
from emotalking.progress import track

SAMPLES = 40
"""Frames from which a clip's colours are learned."""
PAIRS = 24
"""Pairs of consecutive frames, spread over the clip, on which flicker is measured."""
LEAST_FACE_COVER = 0.97
"""Share of the landmark oval that head, hair and mouth must cover."""
LEAST_HEAD = 0.02
"""Share of the image below which a head is no head."""
JUMP = 0.25
"""Change of the head's area to the clip's median beyond which its mask is suspicious, as a share of it."""


@one_thread()
def make_masks(
    files: SubjectFiles,
    frames: Iterator[UInt8[np.ndarray, "H W 3"]],
    points: Float[np.ndarray, "N K 2"],
    layout: FaceLayout,
    provider: ParsingProvider | None = None,
) -> dict[str, Any]:
    """Write ``parsing/`` and ``teeth_mask/`` of all frames: score each, smooth the scores over time, decide the labels.

    Args:
        files: the subject; ``ori_imgs`` are there.
        frames: all frames in order.
        points: steadied landmarks, pixels.
        layout: their meaning.
        provider: parser of the clip; None: the embedded one.
    """
    shared, provider = provider is not None, provider or EmbeddedParsing()
    chosen = spread(len(points), SAMPLES)
    parser = provider.fit([read_subject_image(files.original(i)) for i in chosen], points[chosen], layout)
    smoother, statistics = TemporalSmoother(), MaskStatistics(len(points), layout)

    def scored() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        given, kept = tee(zip(frames, points, strict=True))
        found = map_frames(given, partial(_score, parser), shared=shared)
        for scores, (image, place) in zip(found, kept, strict=False):
            yield image, place, smoother(image, scores)

    given, kept = tee(scored())
    found = track(map_frames(given, partial(_save, parser, files.root), shared=shared), "masks", len(points))
    for index, (labels, (image, place, _)) in enumerate(zip(found, kept, strict=False)):
        statistics.add(index, image, place, labels)
    return {"provider": provider.name, **statistics.result()}


def _score(parser: ClipParser, _: int, frame: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return parser.scores(*frame)


def _save(parser: ClipParser, root: Path, index: int, frame: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    masks = parser.decide(*frame)
    write.write_masks(root, index, masks)
    return masks.labels


def spread(count: int, wanted: int) -> list[int]:
    """``wanted`` frame numbers evenly over ``count`` frames."""
    return np.unique(np.linspace(0, count - 1, min(wanted, count)).round().astype(int)).tolist()


class MaskStatistics:
    """Quality of a clip's masks for ``subject.json``, from frames in any order; memory stays flat.

    Args:
        count: frames of the clip.
        layout: meaning of the landmarks.
    """

    def __init__(self, count: int, layout: FaceLayout) -> None:
        self._layout = layout
        self._shares = np.zeros((count, len(Label)), np.float32)
        self._cover = np.ones(count, np.float32)
        begins = np.unique(np.linspace(0, max(count - 2, 0), min(PAIRS, max(count - 1, 0))).astype(int))
        self._kept: dict[int, tuple[np.ndarray, np.ndarray] | None] = {i: None for b in begins for i in (b, b + 1)}
        self._begins = begins

    def add(
        self,
        index: int,
        image: UInt8[np.ndarray, "H W 3"],
        points: Shaped[np.ndarray, "K 2"],
        labels: UInt8[np.ndarray, "H W"],
    ) -> None:
        """Add a frame with its landmarks (px) and labels."""
        few = labels[::4, ::4]
        self._shares[index] = np.bincount(few.ravel(), minlength=len(Label)) / few.size
        oval = face_zones(points / 4, self._layout, few.shape[:2]).oval
        if oval.any():
            self._cover[index] = np.isin(few[oval], WHOLE_HEAD).mean()
        if index in self._kept:
            self._kept[index] = image, labels

    def result(self) -> dict[str, Any]:
        """Shares of the classes, flicker (per cent of the pixels), and the share of suspicious frames."""
        person = self._shares[:, Label.HEAD] + self._shares[:, Label.HAIR]
        middle = float(np.median(person))
        suspicious = (
            (self._cover < LEAST_FACE_COVER) | (person < LEAST_HEAD) | (np.abs(person - middle) > JUMP * middle)
        )
        return {
            "shares": {label.name.lower(): round(float(self._shares[:, label].mean()), 4) for label in Label},
            "flicker_percent": self._flicker(),
            "suspicious_share": round(float(suspicious.mean()), 4),
            "suspicious_frames": np.flatnonzero(suspicious)[:20].tolist(),
        }

    def _flicker(self) -> float | None:
        changed = []
        for begin in self._begins:
            first, second = self._kept[begin], self._kept[begin + 1]
            if first is None or second is None:
                continue
            to_previous = SmallFlow()
            to_previous(first[0])
            flow, similarity = to_previous(second[0])
            changed.append(float(flicker(first[1], second[1], flow, similarity).mean()))
        return round(100 * float(np.mean(changed)), 4) if changed else None
