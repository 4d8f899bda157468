"""Frames in one file: JPEG of each, by name; small enough to be carried from the machine that rendered them."""

from pathlib import Path

import cv2
import numpy as np

from emotalking.io.arrays import load_archive

QUALITY = 92


def packed(images: np.ndarray | list[np.ndarray], quality: int = QUALITY) -> list[np.ndarray]:
    """JPEG of each."""
    return [cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].ravel() for image in images]


def store(path: Path, kept: dict[str, list[np.ndarray]], **more: np.ndarray) -> None:
    """Write what :func:`packed` made, by name; ``more``: arrays beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {
        "names": np.array(list(kept)),
        "counts": np.array([len(images) for images in kept.values()]),
        "lengths": np.array([len(image) for images in kept.values() for image in images]),
        "bytes": np.concatenate([image for images in kept.values() for image in images]),
    }
    np.savez(path, allow_pickle=False, **(arrays | more))


def stored(path: Path) -> dict[str, np.ndarray]:
    """Inverse of :func:`store`: [F, H, W, 3] by name."""
    file = load_archive(path)
    parts = np.split(file["bytes"], np.cumsum(file["lengths"])[:-1])
    images = [np.asarray(cv2.imdecode(part, cv2.IMREAD_COLOR))[..., ::-1] for part in parts]
    ends = np.cumsum(file["counts"])
    return {
        str(name): np.stack(images[end - count : end])
        for name, count, end in zip(file["names"], file["counts"], ends, strict=True)
    }
