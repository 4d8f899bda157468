"""Readers of the files of a subject folder: images, masks, cameras, tables, landmarks. Each names an unusable file."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, UInt8

from emotalking.data.files import SubjectFiles
from emotalking.data.frame import LandmarkTrack
from emotalking.data.labels import Masks
from emotalking.data.layouts import IBUG68, FaceLayout
from emotalking.errors import InputError
from emotalking.io import images
from emotalking.io.arrays import load_archive, load_array

_REMEDY = "remove subject.json and prepare the clip again, or copy the file there"


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
    image = images.read_image(path, unchanged=channels == 4, hint=_REMEDY)
    expected = (*(size or image.shape[:2]), channels)
    if image.shape != expected:
        raise InputError(
            f"{path} has the shape {image.shape} instead of {expected}:"
            " all images of a subject must have the size of bc.jpg."
        )
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
    colours = read_subject_image(files.parsing(index), size)
    path = files.teeth(index)
    try:
        teeth = load_array(path).astype(bool)
    except FileNotFoundError:
        teeth = np.zeros(colours.shape[:2], bool)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is no mask ({error}): compute it again.") from None
    if teeth.shape != colours.shape[:2]:
        raise InputError(f"{path} has the shape {teeth.shape}, the image {colours.shape[:2]}: compute it again.")
    return Masks.from_colours(colours, teeth)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InputError: if the file is missing or no JSON object.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path} is missing: prepare the clip again or copy the file there.") from None
    except (ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}): prepare the clip again.") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__} instead of a JSON object: prepare the clip again.")
    return content


def read_cameras(path: Path) -> tuple[list[int], float, Float64[np.ndarray, "N 4 4"]]:
    """Frame numbers, focal length (px) and camera-to-world matrices (OpenGL axes) of one transforms file.

    Raises:
        InputError: if the file is missing or does not hold what docs/paper.md 1.1 asks.
    """
    content = read_json(path)
    try:
        frames = content["frames"]
        ids = [int(frame["img_id"]) for frame in frames]
        matrices = np.array([frame["transform_matrix"] for frame in frames], np.float64).reshape(-1, 4, 4)
        focal = float(content["focal_len"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} has an entry that is missing or malformed ({error}): write it again.") from None
    if len(matrices) != len(ids) or not np.isfinite(matrices).all() or not focal > 0:
        raise InputError(f"{path} holds a camera that is not a finite 4x4 matrix or no positive focal length.")
    return ids, focal, matrices


def opengl_to_viewmats(camera_to_world: Float64[np.ndarray, "N 4 4"]) -> Float[np.ndarray, "N 4 4"]:
    """Camera-to-world with OpenGL axes to world-to-camera with OpenCV axes, float32."""
    return np.linalg.inv(camera_to_world @ np.diag([1.0, -1.0, -1.0, 1.0])).astype(np.float32)


def read_table(path: Path) -> dict[str, Float64[np.ndarray, " N"]]:
    """A CSV with a header to columns by name; spaces around names and values are dropped (OpenFace has them).

    Raises:
        InputError: if the file is missing, empty, ragged or not numeric.
    """
    try:
        with path.open(newline="") as file:
            rows = [row for row in csv.reader(file, skipinitialspace=True) if row]
    except FileNotFoundError:
        raise InputError(f"{path} is missing: prepare the clip again or copy the file there.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is no CSV table ({error}): write it again.") from None
    if not rows:
        raise InputError(f"{path} is empty: write it again.")
    names = [name.strip() for name in rows[0]]
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(names):
            raise InputError(f"{path}, row {number}, has {len(row)} values for {len(names)} columns: write it again.")
    try:
        values = np.array(rows[1:], np.float64).reshape(-1, len(names))
    except ValueError as error:
        raise InputError(f"{path} holds a value that is not a number ({error}): write it again.") from None
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
        try:
            points[index] = np.array(path.read_text().split(), np.float32).reshape(68, 2)
        except ValueError:
            raise InputError(f"{path} does not hold 68 lines of two numbers: detect the landmarks again.") from None
    detected = np.asarray(np.isfinite(points).all((1, 2)))
    if not detected.any():
        raise InputError(f"{files.ibug_landmarks(0).parent} holds no .lms landmark file: prepare the clip again.")
    return LandmarkTrack(points, detected, None, IBUG68)


def _read_landmarks_npz(path: Path, num_frames: int) -> LandmarkTrack:
    try:
        arrays = load_archive(path)
        layout = FaceLayout.from_json(str(arrays["layout"]))
        points, detected = arrays["points"].astype(np.float32), arrays["detected"].astype(bool)
        shape = arrays["shape"].astype(np.float32) if "shape" in arrays else None
        points.reshape(len(detected), -1, 2)[:, list(layout.ibug68)]
    except (OSError, KeyError, TypeError, ValueError, IndexError, EOFError) as error:
        raise InputError(f"{path} is no landmark archive ({error}): prepare the clip again.") from None
    if len(points) != num_frames:
        raise InputError(f"{path} has {len(points)} frames, the cameras {num_frames}: prepare the clip again.")
    detected &= np.isfinite(points).all((1, 2))
    if not detected.any() or (shape is not None and not np.isfinite(shape).all()):
        raise InputError(f"{path} holds no frame with landmarks, or a face shape with gaps: prepare the clip again.")
    return LandmarkTrack(points, detected, shape, layout)
