"""Facts about an avatar file, read without loading the avatar."""

import json
from fractions import Fraction
from pathlib import Path

from emotalking.errors import InputError
from emotalking.models.avatar import read_avatar_file


def avatar_facts(path: Path) -> dict[str, object]:
    """Size, content, licences and provenance of an avatar file, as plain values in titled sections.

    Raises:
        InputError: the file does not exist, or is not a complete avatar file.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist: give an avatar file or a subject folder.")
    header, tensors = read_avatar_file(path)
    try:
        scene, config, metadata = (json.loads(header[key]) for key in ("scene", "config", "metadata"))
        gaussians = {branch: len(tensors[f"head.{branch}.gaussians.means"]) for branch in ("face", "mouth")}
        poses = len(tensors["scene.viewmats"])
        fps = float(Fraction(scene["fps"]))
    except (KeyError, ValueError) as error:
        raise InputError(f"the avatar file {path} does not hold what its header says: make it again.") from error
    return {
        "avatar": {
            "file": str(path),
            "size": f"{path.stat().st_size / 1e6:.1f} MB, format {header['version']}",
            "image": f"{scene['width']} x {scene['height']}, {fps:g} fps",
            "Gaussians": f"{gaussians['face']} face, {gaussians['mouth']} mouth",
            "recorded poses": f"{poses} ({poses / fps:.1f} s)",
            "emotion": "yes" if any("emotion" in name for name in tensors) else "no",
            "audio features": config["audio"]["features"],
        },
        "licences": metadata.pop("licences", "not recorded in this file"),
        "provenance": metadata,
    }
