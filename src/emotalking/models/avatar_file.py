"""The avatar file: safetensors, with everything else as JSON in its header; read without trusting what it says.

Nothing here loads PyTorch, so that ``info`` answers at once.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from emotalking.data.frame import ClipCrop
from emotalking.data.readers import LONGEST_FOCAL, regular
from emotalking.errors import InputError
from emotalking.io.images import decode_image, encode_image, packed_size
from emotalking.io.reading import frame_rate, parse_json, reading, reason
from emotalking.io.safetensors_files import Arrays, read_arrays, write_arrays
from emotalking.io.settings import from_dict, to_dict
from emotalking.models.config import MAX_GAZE_REACH, MAX_HARMONICS, MAX_RADIUS, MAX_STEPS, ModelConfig
from emotalking.models.packing import unpack
from emotalking.models.scene import Scene, TorsoStack
from emotalking.provenance.consent import KEY as CONSENT
from emotalking.provenance.consent import consent_facts

FORMAT = "emotalking-avatar"
VERSION = 5
"""Raised when a reader of the previous version could not read the file."""
MOST_PIXELS = 1 << 24
"""Of a plate that is stored compressed: a few kilobytes may state hundreds of megabytes. Larger ones are stored raw."""
NOT_ITS_HEADER, MAKE_AGAIN = "does not hold what its header says", "make it again"
"""What a failure to read it means, and its remedy."""


@dataclass(frozen=True)
class AvatarFile:
    """Content of a file."""

    version: str
    config: ModelConfig
    scene: Scene
    weights: Arrays
    """Those of the model by name, not yet compared with the config (:func:`emotalking.models.head.loaded_head`)."""
    metadata: dict[str, Any]


def write_avatar_file(
    path: Path, config: ModelConfig, weights: Mapping[str, np.ndarray], scene: Scene, metadata: dict[str, Any]
) -> None:
    """Write an avatar.

    Args:
        path: the file.
        config: of the model.
        weights: of the model (:func:`emotalking.models.packing.pack`).
        scene: the recorded clip.
        metadata: provenance.

    Raises:
        InputError: it cannot be written; an existing file is left unchanged.
    """
    content = {f"head.{name}": value for name, value in weights.items()}
    arrays = {
        "viewmats": scene.viewmats,
        "aus": scene.aus,
        "va": scene.va,
        "background": _packed_plate(scene.background),
        "torso_data": scene.torso.data,
        "torso_offsets": scene.torso.offsets,
    }
    if scene.gaze is not None:
        arrays["gaze"] = scene.gaze
    content |= {f"scene.{name}": array for name, array in arrays.items()}
    place = None if scene.place is None else scene.place.to_json()
    facts = {
        "width": scene.width,
        "height": scene.height,
        "fps": str(scene.fps),
        "focal": scene.focal,
        "place": place,
    }
    header = {
        "format": FORMAT,
        "version": str(VERSION),
        "config": json.dumps(to_dict(config)),
        "scene": json.dumps(facts),
        "metadata": json.dumps(metadata),
    }
    try:
        write_arrays(path, content, header)
    except OSError as error:
        raise InputError(
            f"The avatar {path} cannot be written ({reason(error)}): free some space and try again."
        ) from error


def read_avatar_file(path: Path) -> AvatarFile:
    """Read an avatar of this version; it cannot run code: it contains arrays and JSON only.

    Raises:
        InputError: it is missing, damaged, of a newer format, no avatar, or does not hold what its header says.
    """
    header, arrays = _read(path)
    with reading(path, NOT_ITS_HEADER, MAKE_AGAIN):
        config = from_dict(ModelConfig, _upgraded(parse_json(header["config"], dict)))
        if not 1 <= config.audio.steps <= MAX_STEPS:
            raise ValueError(f"{config.audio.steps} steps of audio features a frame")
        if not 0 <= config.emotion.radius <= MAX_RADIUS:
            raise ValueError("a radius of full emotions outside the circumplex")
        if not 1 <= config.emotion.harmonics <= MAX_HARMONICS:
            raise ValueError(f"{config.emotion.harmonics} multiples of an emotion's angle")
        if not 0 <= config.gaze_reach <= MAX_GAZE_REACH:
            raise ValueError("eyes that look beyond their corners")
        scene = _scene(
            parse_json(header["scene"], dict),
            {name[6:]: value for name, value in arrays.items() if name.startswith("scene.")},
            str(path),
        )
        weights = unpack({name[5:]: value for name, value in arrays.items() if name.startswith("head.")})
        return AvatarFile(header["version"], config, scene, weights, parse_json(header["metadata"], dict))


def read_avatar_metadata(path: Path) -> dict[str, Any]:
    """Provenance in an avatar file alone; a file that was damaged since it was written is refused, too.

    Raises:
        InputError: as :func:`read_avatar_file`.
    """
    header, _ = _read(path)
    with reading(path, NOT_ITS_HEADER, MAKE_AGAIN):
        return parse_json(header["metadata"], dict)


def _read(path: Path) -> tuple[dict[str, str], Arrays]:
    """Header and arrays of an avatar file of this version."""
    if not path.is_file():
        raise InputError(f"there is no avatar file {path}: make one with 'emotalking train'")
    with reading(path, "is not a whole avatar file, or of another kind", "copy it again"):
        header, arrays = read_arrays(path)
        if header.get("format") != FORMAT:
            raise InputError(f"{path} is a safetensors file but not an avatar: make one with 'emotalking train'")
        if int(header["version"]) > VERSION:
            raise InputError(
                f"the avatar {path} has format version {header['version'][:20]} and this program reads up to "
                f"{VERSION}: update emotalking"
            )
    return header, arrays


def _upgraded(config: dict[str, Any]) -> dict[str, Any]:
    """Upgrade a stored configuration: version 1 stored only a flag for the emotion branch."""
    emotion = dict(config.get("emotion", {}))
    if "enabled" in emotion:
        emotion["branch"] = "separate" if emotion.pop("enabled") else "none"
    return {**config, "emotion": emotion} if emotion else config


def _scene(facts: dict[str, Any], arrays: dict[str, np.ndarray], where: str) -> Scene:
    """The recorded clip, with arrays of the right kinds and shapes, finite numbers and cameras that can be.

    Raises:
        ValueError, KeyError, TypeError: something is missing or malformed.
    """
    width, height = facts["width"], facts["height"]
    if type(width) is not int or type(height) is not int:
        raise TypeError("an image size that is no whole number")
    if arrays["background"].ndim == 1:
        arrays = arrays | {"background": _plate(arrays["background"], (width, height))}
    count = len(arrays["viewmats"])
    wanted = {
        "viewmats": ("f", (count, 4, 4)),
        "aus": ("f", (count, 6)),
        "va": ("f", (count, 2)),
        "background": ("u", (height, width, 3)),
        "torso_data": ("u", arrays["torso_data"].shape[:1]),
        "torso_offsets": ("i", (count + 1,)),
    }
    if "gaze" in arrays:
        wanted["gaze"] = ("f", (count, 2))
    if arrays.keys() != wanted.keys() or count < 1:
        raise ValueError(f"the parts {', '.join(sorted(arrays))[:100]} of {count} poses")
    for name, (kind, shape) in wanted.items():
        array = arrays[name]
        if array.dtype.kind != kind or array.shape != shape:
            raise ValueError(f"{name}: {array.dtype} {list(array.shape)} instead of {kind} {list(shape)}")
        if kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{name}: numbers that are not finite")
    if not regular(arrays["viewmats"]).all():
        raise ValueError("viewmats: a camera that maps the head onto a plane or a point")
    if np.abs(arrays["va"]).max() > 1 + 1e-3:
        raise ValueError("va: valence or arousal outside -1 to 1")
    offsets = arrays["torso_offsets"]
    if offsets[0] != 0 or offsets[-1] != len(arrays["torso_data"]) or (np.diff(offsets) < 0).any():
        raise ValueError("torso_offsets: not in order, or beyond the data")
    focal = facts["focal"]
    if isinstance(focal, bool) or not isinstance(focal, int | float) or not 0 < focal < LONGEST_FOCAL:
        raise ValueError("a focal length that is no positive number")
    return Scene(
        width=width,
        height=height,
        fps=frame_rate(facts["fps"]),
        focal=float(focal),
        viewmats=arrays["viewmats"],
        aus=arrays["aus"],
        va=arrays["va"],
        background=arrays["background"],
        torso=TorsoStack(arrays["torso_data"], offsets, (width, height)),
        place=ClipCrop.from_json(facts.get("place"), where, count),
        gaze=arrays.get("gaze"),
    )


def _packed_plate(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "..."]:
    """The background plate as a PNG image, [n]."""
    large = image.shape[0] * image.shape[1] > MOST_PIXELS
    return image if large else np.frombuffer(encode_image(image, ".png", 9), np.uint8)


def _plate(packed: UInt8[np.ndarray, " n"], size: tuple[int, int]) -> UInt8[np.ndarray, "H W C"]:
    """The compressed background plate, once its own header states ``size`` (width, height) too.

    Raises:
        ValueError: it is too large, of another size, or damaged.
    """
    if packed.dtype != np.uint8 or not 0 < size[0] * size[1] <= MOST_PIXELS or packed_size(packed) != size:
        raise ValueError(f"background: no image of {size[0]} x {size[1]} pixels, {MOST_PIXELS} at most")
    image = decode_image(packed)
    if image is None:
        raise ValueError("background: a damaged image")
    return image


def avatar_facts(path: Path) -> dict[str, object]:
    """Size, content, licences and provenance of an avatar file, as plain values in titled sections.

    Raises:
        InputError: the file does not exist, or is not a complete avatar file.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist: give an avatar file or a subject folder.")
    content = read_avatar_file(path)
    with reading(path, NOT_ITS_HEADER, MAKE_AGAIN):
        gaussians = {branch: len(content.weights[f"{branch}.gaussians.means"]) for branch in ("face", "mouth")}
        metadata = dict(content.metadata)
        consent = consent_facts(metadata)
        metadata.pop(CONSENT, None)
        licences = metadata.pop("licences", "not recorded in this file")
    scene = content.scene
    poses, fps = len(scene.viewmats), float(scene.fps)
    return {
        "avatar": {
            "file": str(path),
            "size": f"{path.stat().st_size / 1e6:.1f} MB, format {content.version}",
            "image": f"{scene.width} x {scene.height}, {fps:g} fps",
            "Gaussians": f"{gaussians['face']} face, {gaussians['mouth']} mouth",
            "recorded poses": f"{poses} ({poses / fps:.1f} s)",
            "gaze": "yes" if content.config.gaze else "no",
            "emotion": "yes" if any("emotion" in name for name in content.weights) else "no",
            "audio features": content.config.audio.features,
        },
        "consent": consent,
        "licences": licences,
        "provenance": metadata,
    }
