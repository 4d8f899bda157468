"""The per-frame pictures of a subject: parsing, training target, torso layer (docs/paper.md 1 and 2, steps 4 to 6)."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from emotalking.data import writer as write
from emotalking.data.files import SubjectFiles
from emotalking.data.layouts import FaceLayout
from emotalking.data.readers import read_image, read_masks
from emotalking.preprocess.background import write_plate
from emotalking.preprocess.parsing.confidence import MaskFigures
from emotalking.preprocess.parsing.motion import Steadier
from emotalking.preprocess.parsing.parser import EmbeddedParsing, ParsingProvider
from emotalking.preprocess.steps import each_frame, map_frames
from emotalking.preprocess.torso import write_layers
from emotalking.progress import track

SAMPLES = 40
"""Frames from which a clip's colours are learned."""


def make_masks(
    files: SubjectFiles,
    frames: Iterator[UInt8[np.ndarray, "H W 3"]],
    points: Float[np.ndarray, "N K 2"],
    layout: FaceLayout,
    provider: ParsingProvider | None = None,
) -> dict[str, Any]:
    """``parsing/`` and ``teeth_mask/`` of all frames.

    Args:
        files: the subject; ``ori_imgs`` are there.
        frames: all frames in order.
        points: steadied landmarks, pixels.
        layout: their meaning.
        provider: what parses; None: the embedded one.
    """
    provider = provider or EmbeddedParsing()
    chosen = spread(len(points), SAMPLES)
    parser = provider.fit([read_image(files.original(i)) for i in chosen], points[chosen], layout)
    steadier, figures = Steadier(), MaskFigures(len(points), layout)

    def look(_: int, frame: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return *frame, parser.scores(*frame)

    def scored() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        for image, place, scores in map_frames(zip(frames, points, strict=True), look):
            yield image, place, steadier(image, scores)

    def save(index: int, frame: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
        masks = parser.decide(*frame)
        write.write_masks(files.root, index, masks)
        figures.add(index, frame[0], frame[1], masks.labels)

    each_frame(scored(), save, "masks", len(points))
    return {"provider": provider.name, **figures.result()}


def make_background(files: SubjectFiles, frames: Iterator[UInt8[np.ndarray, "H W 3"]], count: int) -> dict[str, Any]:
    """``bc.jpg`` from every fourth frame and its parsing."""
    chosen = (
        (image, read_masks(files, index).labels)
        for index, image in enumerate(track(frames, "background", count))
        if index % 4 == 0
    )
    write_plate(files.root, chosen)
    return {}


def draw_layers(files: SubjectFiles, frames: Iterator[UInt8[np.ndarray, "H W 3"]], count: int) -> dict[str, Any]:
    """``gt_imgs/`` and ``torso_imgs/`` of all frames, from parsing and plate."""
    plate = read_image(files.background)

    def draw(index: int, image: np.ndarray) -> None:
        write_layers(files.root, index, image, read_masks(files, index).labels, plate)

    each_frame(frames, draw, "layers", count)
    return {}


def spread(count: int, wanted: int) -> list[int]:
    """``wanted`` frame numbers evenly over ``count`` frames."""
    return np.unique(np.linspace(0, count - 1, min(wanted, count)).round().astype(int)).tolist()
