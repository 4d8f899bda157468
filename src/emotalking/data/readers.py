"""Readers of the files of a subject folder: images, masks, cameras, tables, landmarks. Each names an unusable file."""

import csv
import io
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float64, UInt8

from emotalking.data.files import SubjectFiles
from emotalking.data.frame import MOST_FRAMES, LandmarkTrack
from emotalking.data.labels import Masks, colours_to_labels
from emotalking.data.layouts import IBUG68, FaceLayout
from emotalking.errors import InputError
from emotalking.io import images
from emotalking.io.arrays import load_archive, load_array
from emotalking.io.reading import parse_json, read_text, reading

MOST_TABLE = 512 << 20
"""Bytes of a table: OpenFace's 700 columns of an hour take 380 MB."""
_MOST_LMS = 1 << 16
LONGEST_FOCAL = 1e6
"""Pixels, above any lens: larger numbers leave float32."""
_FARTHEST = 1e6
"""World units between head and camera, likewise."""
_LEAST_VOLUME = 1e-6
"""Of a unit cube under a camera's matrix: rotations have 1."""
_REMEDY = "prepare the clip again without this file, or copy it there"
_NEEDED = "prepare the clip again or copy the file there"


def read_subject_image(
    path: Path, size: tuple[int, int] | None = None, channels: int = 3, out: UInt8[np.ndarray, "H W C"] | None = None
) -> UInt8[np.ndarray, "H W C"]:
    """Decode an image to RGB (``channels`` 3) or RGBA (4).

    Args:
        path: PNG or JPEG.
        size: (height, width) that it must have; None: any.
        channels: a file of four channels is needed for 4.
        out: array to decode into.

    Raises:
        InputError: if the file is missing, no image, or of another size.
    """
    width, height = images.image_size(path, hint=_REMEDY)
    remedy = "all images of a subject must have the size of bc.jpg."
    if size is not None and (height, width) != size:  # of a file that may claim far more than it holds
        raise InputError(f"{path} has the size {(height, width)} instead of {size}: {remedy}")
    image = images.read_image(path, unchanged=channels == 4, hint=_REMEDY)
    expected = (*(size or image.shape[:2]), channels)
    if image.shape != expected:
        raise InputError(f"{path} has the shape {image.shape} instead of {expected}: {remedy}")
    if out is None:
        return image
    out[...] = image
    return out


def read_masks(files: SubjectFiles, index: int, size: tuple[int, int] | None = None) -> Masks:
    """Label map and teeth of frame ``index``; no teeth file means no teeth.

    Args:
        files: the folder.
        index: frame number.
        size: (height, width) that they must have; None: any.

    Raises:
        InputError: if the parsing image is missing, or one of the files is unusable.
    """
    labels = _read_labels(files.parsing(index), size)
    path = files.teeth(index)
    with reading(path, "is no mask", "compute it again"):
        teeth = load_array(path).astype(bool, copy=False) if path.exists() else np.zeros(labels.shape, bool)
    if teeth.shape != labels.shape:
        raise InputError(f"{path} has the shape {teeth.shape}, the image {labels.shape}: compute it again.")
    return Masks.from_stored(labels, teeth)


def _read_labels(path: Path, size: tuple[int, int] | None) -> UInt8[np.ndarray, "H W"]:
    """Label map of a parsing image, stored as a palette (ours) or as colours."""
    found = images.read_palette(path, None if size is None else (size[1], size[0]))
    if found is None:
        return colours_to_labels(read_subject_image(path, size))
    indices, palette = found
    return np.asarray(cv2.LUT(indices, colours_to_labels(palette[None])[0]), np.uint8)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InputError: if the file is missing or no JSON object.
    """
    with reading(path, "cannot be read as JSON", _NEEDED):
        return parse_json(read_text(path), dict)


def read_cameras(path: Path) -> tuple[list[int], float, Float64[np.ndarray, "N 4 4"]]:
    """Frame numbers, focal length (px) and camera-to-world matrices (OpenGL axes) of one transforms file.

    Raises:
        InputError: if the file is missing or does not hold what docs/paper.md 1.1 asks.
    """
    content = read_json(path)
    with reading(path, "has an entry that is missing or malformed", "write it again"):
        frames = content["frames"]
        ids = [int(frame["img_id"]) for frame in frames]
        matrices = np.array([frame["transform_matrix"] for frame in frames], np.float64).reshape(-1, 4, 4)
        focal = float(content["focal_len"])
        if not all(0 <= number < MOST_FRAMES for number in ids):
            raise ValueError(f"frame numbers outside 0 to {MOST_FRAMES}")
    if len(matrices) != len(ids) or not np.isfinite(matrices).all() or not 0 < focal < LONGEST_FOCAL:
        raise InputError(f"{path} holds a camera that is not a finite 4x4 matrix or no positive focal length.")
    if not regular(matrices).all():
        raise InputError(f"{path} holds a camera that maps the head onto a plane or a point: track the clip again.")
    return ids, focal, matrices


def regular(transforms: Float[np.ndarray, "*batch 4 4"]) -> Bool[np.ndarray, "*batch"]:
    """True for rigid or scaled motions, which have an inverse; their last row is (0, 0, 0, 1)."""
    with np.errstate(all="ignore"):  # of numbers near the largest
        volume = np.abs(np.linalg.det(transforms[..., :3, :3].astype(np.float64)))
    affine = (np.abs(transforms[..., 3, :] - np.array([0.0, 0.0, 0.0, 1.0])) < 1e-3).all(-1)
    near = (np.abs(transforms) < _FARTHEST).all((-2, -1))
    return np.asarray(affine & near & (volume > _LEAST_VOLUME) & (volume < 1 / _LEAST_VOLUME))


def opengl_to_viewmats(camera_to_world: Float64[np.ndarray, "N 4 4"]) -> Float[np.ndarray, "N 4 4"]:
    """Camera-to-world with OpenGL axes to world-to-camera with OpenCV axes, float32."""
    return np.linalg.inv(camera_to_world @ np.diag([1.0, -1.0, -1.0, 1.0])).astype(np.float32)


_NO_NUMBER = re.compile(r"[+-]?(nan\((ind|snan)\)|1\.#(IND|QNAN|SNAN|INF)\d*)", re.IGNORECASE)


def read_table(path: Path, remedy: str = "write it again") -> dict[str, Float64[np.ndarray, " N"]]:
    """A CSV with a header to columns by name; spaces around names and values are dropped (OpenFace has them).

    What programs of Windows write for a value that is no number ("-nan(ind)", "1.#IND") is NaN.

    Args:
        path: the CSV.
        remedy: what to do about an unusable file.

    Raises:
        InputError: if the file is missing, empty, ragged or not numeric.
    """
    with reading(path, "is no CSV table", remedy):
        lines = csv.reader(io.StringIO(read_text(path, MOST_TABLE), newline=""), skipinitialspace=True)
        rows = [row for row in lines if row]
    if not rows:
        raise InputError(f"{path} is empty: {remedy}.")
    names = [name.strip().removeprefix("\ufeff") for name in rows[0]]
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(names):
            raise InputError(f"{path}, row {number}, has {len(row)} values for {len(names)} columns: {remedy}.")
    with reading(path, "holds a value that is not a number", remedy):
        cells = [["nan" if _NO_NUMBER.fullmatch(cell.strip()) else cell for cell in row] for row in rows[1:]]
        values = np.array(cells, np.float64).reshape(-1, len(names))
    return {name: values[:, i] for i, name in enumerate(names)}


def read_intensities(path: Path) -> dict[str, Float64[np.ndarray, " N"]]:
    """Intensities of action units by name ("AU25") from an OpenFace-style table: its columns ``AU.._r``.

    Raises:
        InputError: as :func:`read_table`.
    """
    return {name[:-2]: values for name, values in read_table(path).items() if name.endswith("_r")}


def read_landmarks(files: SubjectFiles, num_frames: int) -> LandmarkTrack:
    """All landmarks of the clip: ``landmarks.npz`` where we wrote one, else the ``.lms`` files.

    Raises:
        InputError: if neither is there, or they are malformed or too few.
    """
    if files.landmarks.exists():
        return _read_landmarks_npz(files.landmarks, num_frames)
    points = np.full((num_frames, 68, 2), np.nan, np.float32)
    for index in range(num_frames):
        path = files.ibug_landmarks(index)
        if not path.exists():
            continue
        with reading(path, "does not hold 68 lines of two numbers", "detect the landmarks again"):
            points[index] = np.array(read_text(path, _MOST_LMS).split(), np.float32).reshape(68, 2)
    detected = np.asarray(np.isfinite(points).all((1, 2)))
    if not detected.any():
        raise InputError(f"{files.ibug_landmarks(0).parent} holds no .lms landmark file: prepare the clip again.")
    return LandmarkTrack(points, detected, None, IBUG68)


def _read_landmarks_npz(path: Path, num_frames: int) -> LandmarkTrack:
    with reading(path, "is no landmark archive", "prepare the clip again"):
        arrays = load_archive(path)
        layout = FaceLayout.from_json(str(arrays["layout"]))
        points, detected = arrays["points"].astype(np.float32), arrays["detected"].astype(bool)
        shape = arrays["shape"].astype(np.float32) if "shape" in arrays else None
        if points.ndim != 3 or points.shape[2] != 2 or detected.shape != points.shape[:1]:
            raise ValueError(f"points {list(points.shape)}, detected {list(detected.shape)}")
        if shape is not None and shape.shape != (points.shape[1], 3):
            raise ValueError(f"a shape {list(shape.shape)} for {points.shape[1]} points")
        layout.check(points.shape[1])
    if len(points) != num_frames:
        raise InputError(f"{path} has {len(points)} frames, the cameras {num_frames}: prepare the clip again.")
    detected &= np.isfinite(points).all((1, 2))
    if not detected.any() or (shape is not None and not np.isfinite(shape).all()):
        raise InputError(f"{path} holds no frame with landmarks, or a face shape with gaps: prepare the clip again.")
    return LandmarkTrack(points, detected, shape, layout)
