"""Images of a run's frames: in memory, or decoded when a step asks for them."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from emotalking.data import Subject
from emotalking.data.labels import WHOLE_HEAD, mask_of
from emotalking.models.compositor import torso_over_plate
from emotalking.ops.composite import quantised
from emotalking.ops.matting import coverage
from emotalking.progress import track

MEMORY_BYTES = 5 * 2**30
"""More than this is not kept in the host's memory: five minutes at 512x512 would take 14 GB, and 20 with normals."""
CHUNK = 64
"""Frames that are read before they go to the device."""


class StoredFrames:
    """Images of F frames that are decoded when a step asks for them; indexes like a uint8 tensor [F, H, W, C].

    A frame of 512x512 takes some milliseconds, where a training step on the CPU takes hundreds.
    """

    def __init__(self, read: Callable[[int], UInt8[np.ndarray, "H W C"]], indices: Int64[np.ndarray, "F"]) -> None:
        """``read`` gives an image by the subject's number of the frame; ``indices`` are those of the F frames."""
        self._read, self._indices = read, indices

    def __getitem__(self, key: int | slice | Tensor | tuple[int | slice | Tensor, ...]) -> Tensor:
        """Index like a tensor: one frame, a slice, or a tensor of frames; then rows, columns and channels if given."""
        frames, *rest = key if isinstance(key, tuple) else (key,)
        if isinstance(frames, int):
            return torch.from_numpy(self._read(int(self._indices[frames])))[tuple(rest)]
        chosen = self._indices[frames.cpu().numpy() if isinstance(frames, Tensor) else frames]
        parts = [torch.from_numpy(self._read(int(index)))[tuple(rest)] for index in chosen]
        return torch.stack(parts)


@dataclass
class FrameImages:
    """Images of a run, frame by frame."""

    images: UInt8[Tensor, "F H W 3"] | StoredFrames
    torso: UInt8[Tensor, "F H W 4"] | StoredFrames
    labels: UInt8[Tensor, "F H W"]
    coverage: UInt8[Tensor, "F H W"] | StoredFrames
    normals: UInt8[Tensor, "F H W 3"] | StoredFrames | None


def load_images(
    subject: Subject, indices: Int64[np.ndarray, "F"], device: torch.device | str, *, normals: bool
) -> FrameImages:
    """Read the frames ``indices``; on the CPU, more than `MEMORY_BYTES` stay in the folder, but for the labels.

    Raises:
        InputError: as :meth:`Subject.load_tensors` and :meth:`Subject.load_normals`.
    """
    normals = normals and subject.files.normals(0).parent.is_dir()
    count = len(indices) * subject.height * subject.width
    if torch.device(device).type == "cpu" and count * (12 if normals else 9) > MEMORY_BYTES:
        return _stored(subject, indices, normals)
    loaded: dict[str, Tensor] = {}
    for first in track(range(0, len(indices), CHUNK), "read frames"):
        chunk = indices[first : first + CHUNK]
        arrays = subject.load_tensors(chunk)
        with ThreadPoolExecutor() as pool:
            layers = (arrays[name] for name in ("images", "torso", "labels"))
            arrays["coverage"] = np.stack(list(pool.map(partial(head_coverage, subject.background), *layers)))
        maps = subject.load_normals(chunk) if normals else None
        if maps is not None:
            arrays["normals"] = maps
        for name, array in arrays.items():
            if name not in loaded:
                loaded[name] = torch.empty((len(indices), *array.shape[1:]), dtype=torch.uint8, device=device)
            loaded[name][first : first + len(chunk)] = torch.from_numpy(array).to(device)
    return FrameImages(**{"normals": None, **loaded})


def _stored(subject: Subject, indices: Int64[np.ndarray, "F"], normals: bool) -> FrameImages:
    labels = torch.empty((len(indices), subject.height, subject.width), dtype=torch.uint8)

    def load(slot: int) -> None:
        labels[slot] = torch.from_numpy(subject.masks(int(indices[slot])).labels)

    def normal_colours(index: int) -> np.ndarray:
        maps = subject.load_normals([index], workers=1)
        assert maps is not None
        return maps[0]

    with ThreadPoolExecutor() as pool:
        for _ in track(pool.map(load, range(len(indices))), "read masks", len(indices)):
            pass

    def covered(index: int) -> np.ndarray:
        labels = subject.masks(index).labels
        return head_coverage(subject.background, subject.target(index), subject.torso(index), labels)

    return FrameImages(
        StoredFrames(subject.target, indices),
        StoredFrames(subject.torso, indices),
        labels,
        StoredFrames(covered, indices),
        StoredFrames(normal_colours, indices) if normals else None,
    )


def head_coverage(
    plate: UInt8[np.ndarray, "H W 3"],
    image: UInt8[np.ndarray, "H W 3"],
    torso: UInt8[np.ndarray, "H W 4"],
    labels: UInt8[np.ndarray, "H W"],
) -> UInt8[np.ndarray, "H W"]:
    """Coverage of a frame's head, hair and inside of the mouth over torso and plate (`ops.matting`), 255 for all."""
    behind = quantised(torso_over_plate(torch.from_numpy(torso), torch.from_numpy(plate) / 255.0)).numpy()
    return coverage(image, mask_of(labels, *WHOLE_HEAD), behind)
