"""Write a subject folder: one function per file of TalkingGaussian's layout (docs/paper.md 1), and our extras.

Every file is written under a temporary name and renamed. Images are RGB uint8 in memory.
"""

import json
import math
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from emotalking.data.files import SubjectFiles
from emotalking.data.labels import LABEL_COLOURS, Masks
from emotalking.data.layouts import FaceLayout
from emotalking.errors import InputError
from emotalking.io.arrays import save_array
from emotalking.io.audio import save_wav
from emotalking.io.files import replacing, write_bytes
from emotalking.io.images import encode_image, encode_png
from emotalking.ops.box import bounds

JPEG_QUALITY = 98
"""Quality of all photographs. The training target's coding error is the ceiling of every score: at 98 with full
chroma it is near 50 dB on real clips (95 with halved chroma, the usual default: 44 dB), far above what a model
reaches, and a frame takes two thirds of what 100 takes."""

Image = UInt8[np.ndarray, "H W 3"]


def train_count(num_frames: int) -> int:
    """Frames that train: the first floor(10 N / 11); the rest validate (docs/paper.md 1.1)."""
    return num_frames * 10 // 11


def _jpeg(image: np.ndarray) -> bytes:
    """Full chroma resolution: half of it would blur the lips' edge in the training target."""
    return encode_image(image, ".jpg", JPEG_QUALITY, full_chroma=True)


def write_original(root: Path, index: int, image: Image) -> None:
    """``ori_imgs/{index}.jpg``: the framed image of the clip, RGB, with its own background."""
    write_bytes(SubjectFiles(root).original(index), _jpeg(image))


def write_ibug_landmarks(root: Path, index: int, points: Float[np.ndarray, "68 2"]) -> None:
    """``ori_imgs/{index}.lms``: 68 lines "x y" in pixels, iBUG order."""
    lines = "%.4f %.4f\n" * len(points) % tuple(points.ravel().tolist())
    write_bytes(SubjectFiles(root).ibug_landmarks(index), lines.encode())


def write_masks(root: Path, index: int, masks: Masks) -> None:
    """``parsing/{index}.png`` and ``teeth_mask/{index}.npy`` (:meth:`Masks.to_stored`).

    The image has a palette of the six colours, which is read and written faster than RGB; readers make RGB of it.
    """
    files = SubjectFiles(root)
    write_bytes(files.parsing(index), encode_png(masks.to_stored(), LABEL_COLOURS))
    save_array(files.teeth(index), masks.teeth)


def write_target(root: Path, index: int, image: Image) -> None:
    """``gt_imgs/{index}.jpg``: the frame over the clean background, the training target, RGB."""
    write_bytes(SubjectFiles(root).target(index), _jpeg(image))


def write_torso(root: Path, index: int, layer: UInt8[np.ndarray, "H W 4"]) -> None:
    """``torso_imgs/{index}.png``: torso and neck, straight (not premultiplied) RGBA."""
    write_bytes(SubjectFiles(root).torso(index), encode_png(layer))


def write_background(root: Path, image: Image) -> None:
    """``bc.jpg``: the clean background plate, RGB."""
    write_bytes(SubjectFiles(root).background, _jpeg(image))


def write_action_units(
    root: Path,
    intensities: Mapping[str, Float[np.ndarray, " N"]],
    fps: float | int | Fraction,
    success: Bool[np.ndarray, " N"] | None = None,
) -> None:
    """``au.csv`` as OpenFace's FeatureExtraction writes it: frame, face_id, timestamp, confidence, success, AU.._r,
    AU.._c; names with a leading space, frames from 1.

    Deviation: OpenFace reads presence (``_c``, 0 or 1) with classifiers of its own; here a unit is present from
    intensity 1 (FACS level A) on.

    Args:
        intensities: name ("AU45") to intensity 0..5 per frame.
        fps: frame rate, for the time stamps.
        success: True where the face was found; None: everywhere. Confidence is 1 there, else 0.
    """
    lengths = {len(values) for values in intensities.values()}
    if len(lengths) != 1:
        raise ValueError(f"intensities: expected one common length, got {sorted(lengths)}")
    count = lengths.pop()
    found = np.ones(count, bool) if success is None else success
    names = ["frame", "face_id", "timestamp", "confidence", "success"]
    lines = [", ".join([*names, *(f"{name}_r" for name in intensities), *(f"{name}_c" for name in intensities)])]
    table = np.stack(list(intensities.values()), 1)
    for i, row in enumerate(table):
        fields = [str(i + 1), "0", f"{float(i / fps):.3f}", f"{float(found[i]):.2f}", str(int(found[i]))]
        lines.append(", ".join([*fields, *(f"{v:.4f}" for v in row), *(f"{float(v >= 1):.2f}" for v in row)]))
    write_bytes(SubjectFiles(root).action_units, ("\n".join(lines) + "\n").encode())


def write_transforms(
    root: Path, viewmats: Float[np.ndarray, "N 4 4"], focal: float | int, width: int, height: int
) -> None:
    """``transforms_train.json`` and ``transforms_val.json`` (docs/paper.md 1.1).

    Args:
        viewmats: world-to-camera, OpenCV axes (x right, y down, z forward).
        focal: pixels, one for both axes; the principal point is the image's centre.
        width: image width, px.
        height: image height, px.

    Convention: the files hold camera-to-world with OpenGL axes (x right, y up, z backward).
    """
    camera_to_world = np.linalg.inv(viewmats.astype(np.float64)) @ np.diag([1.0, -1.0, -1.0, 1.0])
    frames = [{"img_id": i, "aud_id": i, "transform_matrix": m.tolist()} for i, m in enumerate(camera_to_world)]
    split = train_count(len(frames))
    files = SubjectFiles(root)
    for name, part in (("train", frames[:split]), ("val", frames[split:])):
        content = {"focal_len": float(focal), "cx": width / 2, "cy": height / 2, "frames": part}
        write_bytes(files.transforms(name), json.dumps(content, indent=1).encode())


def write_audio(root: Path, samples: Float[np.ndarray, " S"]) -> None:
    """``aud.wav``: 16 kHz, mono, int16, from samples in [-1, 1] (values outside are clipped)."""
    save_wav(SubjectFiles(root).audio, samples)


def write_audio_features(root: Path, name: str, features: Float[np.ndarray, "N S C"]) -> None:
    """``aud_{name}.npy``: float32, per video frame S steps of C channels."""
    save_array(SubjectFiles(root).audio_features(name), features.astype(np.float32))


def write_valence_arousal(root: Path, values: Float[np.ndarray, "N 2"]) -> None:
    """``va.csv`` (EmoTalking extra): frame, valence, arousal; both in [-1, 1]; frames from 0."""
    lines = ["frame,valence,arousal", *(f"{i},{v:.5f},{a:.5f}" for i, (v, a) in enumerate(values))]
    write_bytes(SubjectFiles(root).valence_arousal, ("\n".join(lines) + "\n").encode())


def write_gaze(root: Path, values: Float[np.ndarray, "N 2"]) -> None:
    """``gaze.csv`` (EmoTalking extra): frame, x, y: radians to the viewer's right and up in the head; frames from 0."""
    lines = ["frame,x,y", *(f"{i},{x:.5f},{y:.5f}" for i, (x, y) in enumerate(values))]
    write_bytes(SubjectFiles(root).gaze, ("\n".join(lines) + "\n").encode())


def write_normals(root: Path, index: int, normals: Float[np.ndarray, "H W 3"]) -> None:
    """``normals/{index}.png`` (EmoTalking extra): round(255 (0.5 n + 0.5)), and black where ``normals`` is zero.

    Args:
        normals: unit vectors in camera space, OpenCV axes (skin that faces the camera has z < 0), zero off the face.
    """
    shown = cv2.inRange(normals, (0, 0, 0), (0, 0, 0)) == 0  # numpy's any(-1) takes ten times as long
    colours = np.zeros(normals.shape, np.uint8)
    window = bounds(shown)
    levels = cv2.convertScaleAbs(normals[window], alpha=127.5, beta=127.5)
    colours[window] = levels * shown[window][..., None]
    write_bytes(SubjectFiles(root).normals(index), encode_png(colours))


def write_landmarks(
    root: Path,
    points: Float[np.ndarray, "N K 2"],
    detected: Bool[np.ndarray, " N"],
    shape: Float[np.ndarray, "K 3"] | None,
    layout: FaceLayout,
) -> None:
    """``landmarks.npz`` (extra): every point of the detector, and the neutral 3-D shape in the head frame if known."""
    arrays: dict[str, Any] = {
        "points": points.astype(np.float32, copy=False),
        "detected": detected,
        "layout": np.array(layout.to_json()),
    }
    if shape is not None:
        arrays["shape"] = shape.astype(np.float32)
    with replacing(SubjectFiles(root).landmarks) as scratch, scratch.open("wb") as file:
        np.savez(file, **arrays)


def write_manifest(root: Path, manifest: Mapping[str, object]) -> None:
    """``subject.json`` (extra): providers that ran, versions, clip hash, ``fps`` as text ("25" or "30000/1001").

    Raises:
        InputError: if a number is not finite (it would not be JSON).
    """
    for key, value in manifest.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"subject.json: {key} is {value}, which JSON cannot hold; omit it.")
    write_bytes(SubjectFiles(root).manifest, (json.dumps(manifest, indent=1) + "\n").encode())
