"""Figures that tell how far the masks of a clip can be trusted, for ``subject.json``."""

from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8

from emotalking.data.labels import Label
from emotalking.data.layouts import FaceLayout
from emotalking.preprocess.parsing.geometry import face_zones
from emotalking.preprocess.parsing.motion import SmallFlow, flicker

PAIRS = 24
"""Pairs of consecutive frames, spread over the clip, on which flicker is measured."""
LEAST_FACE_COVER = 0.97
"""Share of the landmark oval that head, hair and mouth must cover."""
LEAST_HEAD = 0.02
"""Share of the picture below which a head is no head."""
JUMP = 0.25
"""Change of the head's area to the clip's median beyond which its mask is suspicious, as a share of it."""


class MaskFigures:
    """Collects what the masks look like, frame by frame in any order and from several threads; memory stays flat.

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
        """One frame with its landmarks (px) and labels."""
        few = labels[::4, ::4]
        self._shares[index] = np.bincount(few.ravel(), minlength=len(Label)) / few.size
        oval = face_zones(points / 4, self._layout, few.shape[:2]).oval
        if oval.any():
            self._cover[index] = np.isin(few[oval], [Label.HEAD, Label.HAIR, Label.MOUTH]).mean()
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
            flow = SmallFlow()
            flow(first[0])
            arrows, likeness = flow(second[0])
            changed.append(float(flicker(first[1], second[1], arrows, likeness).mean()))
        return round(100 * float(np.mean(changed)), 4) if changed else None
