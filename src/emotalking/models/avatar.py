"""The avatar and its file, which contains all data that rendering needs."""

import json
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from emotalking.data.frame import ClipCrop
from emotalking.errors import InputError, UserError
from emotalking.io.images import decode_image, encode_image
from emotalking.io.settings import from_dict, to_dict
from emotalking.io.tensors import read_tensors, write_tensors
from emotalking.models.compositor import Canonical, ComposedFrames, Compositor, Conditions, canonical_of
from emotalking.models.config import ModelConfig
from emotalking.models.gaussians import Gaussians
from emotalking.models.head import TalkingHead

FORMAT = "emotalking-avatar"
VERSION = 2
"""Raised when a reader of the previous version could not read the file."""

TORSO_QUALITY = 90
"""WebP quality of the stored torso layers."""


@dataclass(frozen=True)
class TorsoStack:
    """Compressed torso layers, one RGBA image per recorded pose."""

    data: UInt8[np.ndarray, "S"]
    offsets: Int64[np.ndarray, "P1"]
    """Image i is data[offsets[i]:offsets[i + 1]]."""

    @classmethod
    def encode(cls, images: list[bytes]) -> "TorsoStack":
        """Pack compressed images (:func:`encode_torso`)."""
        offsets = np.cumsum([0, *(len(image) for image in images)]).astype(np.int64)
        return cls(np.frombuffer(b"".join(images), np.uint8), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "H W 4"]:
        """Image ``index`` as straight-alpha RGBA."""
        if not 0 <= index < len(self):
            raise IndexError(f"torso layer {index} of {len(self)}")
        packed = self.data[self.offsets[index] : self.offsets[index + 1]]
        image = decode_image(packed, unchanged=True)
        if image is None:
            raise InputError(f"the avatar's torso layer {index} is damaged: make the avatar again")
        if image.shape[-1] == 3:  # WebP drops a fully opaque alpha.
            return np.concatenate([image, np.full((*image.shape[:2], 1), 255, np.uint8)], -1)
        return image


def encode_torso(image: UInt8[np.ndarray, "H W 4"]) -> bytes:
    """One straight-alpha RGBA torso layer as WebP."""
    return encode_image(image, ".webp", TORSO_QUALITY)


@dataclass(frozen=True)
class Scene:
    """The clip as kept in the avatar: camera, recorded motion, background and torso.

    The P recorded frames are the clip's training frames, consecutive; held-out frames never enter the file.
    """

    width: int
    height: int
    fps: Fraction
    focal: float
    """Pixels; the principal point is the image centre."""
    viewmats: Float[np.ndarray, "P 4 4"]
    aus: Float[np.ndarray, "P 6"]
    va: Float[np.ndarray, "P 2"]
    background: UInt8[np.ndarray, "H W 3"]
    torso: TorsoStack
    place: ClipCrop | None = None
    """Position of the frames in the clip that they were cropped from, for pasting back."""


@dataclass
class Avatar:
    """A talking head with everything that rendering needs (docs/architecture.md, "Files")."""

    head: TalkingHead
    scene: Scene
    metadata: dict[str, Any] = field(default_factory=dict)
    """Provenance: clip, versions, command, presets and the licences of all models and tools used."""

    def __post_init__(self) -> None:
        self.head.eval().requires_grad_(False)
        self._canonical: Canonical | None = None
        scene = self.scene
        self.K = torch.tensor(
            [[scene.focal, 0.0, scene.width / 2], [0.0, scene.focal, scene.height / 2], [0.0, 0.0, 1.0]],
            device=self.device,
        )

    @property
    def width(self) -> int:
        """Pixels."""
        return self.scene.width

    @property
    def height(self) -> int:
        """Pixels."""
        return self.scene.height

    @property
    def fps(self) -> Fraction:
        """Frames per second of the recorded motion."""
        return self.scene.fps

    @property
    def viewmats(self) -> Float[np.ndarray, "P 4 4"]:
        """Recorded world-to-camera poses, OpenCV axes."""
        return self.scene.viewmats

    @property
    def aus(self) -> Float[np.ndarray, "P 6"]:
        """Recorded action units (`data.layouts.MODEL_AUS`), intensities 0 to 5, AU45 clipped to [0, 2]."""
        return self.scene.aus

    @property
    def va(self) -> Float[np.ndarray, "P 2"]:
        """Recorded valence and arousal in [-1, 1]."""
        return self.scene.va

    @property
    def background(self) -> UInt8[np.ndarray, "H W 3"]:
        """Clean background plate."""
        return self.scene.background

    @property
    def place(self) -> ClipCrop | None:
        """Position of the recorded frames in their clip; None if unknown."""
        return self.scene.place

    @property
    def audio_features(self) -> str:
        """Name of the audio features that drive it."""
        return self.head.config.audio.features

    @property
    def device(self) -> torch.device:
        """Device of its tensors."""
        return self.head.face.gaussians.means.device

    @property
    def closes_lips(self) -> bool:
        """True if it has closed-mouth codes; files of version 1 have none."""
        return self.head.face.audio.closed is not None and self.head.mouth.audio.closed is not None

    @property
    def emotional(self) -> bool:
        """True if valence and arousal change its frames."""
        return self.head.emotional

    def torso(self, index: int) -> UInt8[np.ndarray, "H W 4"]:
        """Straight-alpha torso layer of recorded pose ``index``."""
        return self.scene.torso[index]

    def to(self, device: torch.device | str) -> "Avatar":
        """Move it to ``device``, in place."""
        self.head.to(device)
        self.K = self.K.to(device)
        self._canonical = None
        return self

    @torch.no_grad()
    def render(
        self,
        viewmats: Float[Tensor, "B 4 4"],
        audio_windows: Float[Tensor, "B 8 C S"],
        aus: Float[Tensor, "B 6"],
        va: Float[Tensor, "B 2"] | None = None,
        background: Float[Tensor, "B H W 3"] | None = None,
        speech: Float[Tensor, " B"] | None = None,
    ) -> ComposedFrames:
        """Render frames of B conditions (paper eqs. S9-S10).

        Args:
            va: valence and arousal in [-1, 1]; None leaves the emotion branch out.
            background: torso over plate, RGB in [0, 1]; None: nothing behind the head.
            speech: 1 during speech, 0 for closed lips (``audio.vad``); only for an avatar
                that :attr:`closes_lips`.

        Returns:
            The finished frames, or without ``background`` the premultiplied head layer; `alpha` is the head's.
        """
        if self._canonical is None:  # canonical positions never move, so their constants are computed once
            self._canonical = canonical_of(self.head)
        conditions = Conditions(viewmats, audio_windows, aus, va, speech)
        compositor = Compositor(self.K, (self.width, self.height))
        frames = compositor.frames(self.head, conditions, background, canonical=self._canonical)
        return replace(frames, rgb=frames.rgb.clamp(0.0, 1.0))

    def save(self, path: Path | str) -> None:
        """Write the avatar file: safetensors, everything else as JSON in its header.

        Raises:
            UserError: it cannot be written; an existing file is left unchanged.
        """
        path, scene = Path(path), self.scene
        tensors = {f"head.{name}": value for name, value in self.head.state_dict().items()}
        arrays = {
            "viewmats": scene.viewmats,
            "aus": scene.aus,
            "va": scene.va,
            "background": scene.background,
            "torso_data": scene.torso.data,
            "torso_offsets": scene.torso.offsets,
        }
        tensors |= {f"scene.{name}": torch.from_numpy(np.array(array)) for name, array in arrays.items()}
        header = {
            "format": FORMAT,
            "version": str(VERSION),
            "config": json.dumps(to_dict(self.head.config)),
            "scene": json.dumps(
                {
                    "width": scene.width,
                    "height": scene.height,
                    "fps": str(scene.fps),
                    "focal": scene.focal,
                    "place": None if scene.place is None else scene.place.to_json(),
                }
            ),
            "metadata": json.dumps(self.metadata),
        }
        try:
            write_tensors(path, tensors, header)
        except OSError as error:
            raise UserError(f"The avatar {path} cannot be written ({error}): free some space and try again.") from error

    @classmethod
    def load(cls, path: Path | str, device: torch.device | str = "cpu") -> "Avatar":
        """Read an avatar file. It cannot run code: it contains tensors and JSON only.

        Raises:
            UserError: if it is missing, cut short, of a newer format, or not an avatar.
        """
        path = Path(path)
        header, tensors = read_avatar_file(path)
        try:
            config = from_dict(ModelConfig, _upgraded(json.loads(header["config"])))
            facts = json.loads(header["scene"])
            scene_tensors = {name[6:]: value.numpy() for name, value in tensors.items() if name.startswith("scene.")}
            torso = TorsoStack(scene_tensors.pop("torso_data"), scene_tensors.pop("torso_offsets"))
            scene = Scene(
                width=facts["width"],
                height=facts["height"],
                fps=Fraction(facts["fps"]),
                focal=facts["focal"],
                torso=torso,
                place=ClipCrop.from_json(facts.get("place"), str(path)),
                **scene_tensors,
            )
            weights = {name[5:]: value for name, value in tensors.items() if name.startswith("head.")}
            head = TalkingHead(
                config,
                Gaussians.empty(weights["face.gaussians.means"].shape[0], config.face.sh_degree),
                Gaussians.empty(weights["mouth.gaussians.means"].shape[0], config.mouth.sh_degree),
            )
            for name, branch in (("face", head.face), ("mouth", head.mouth)):
                if f"{name}.audio.closed" in weights:
                    branch.audio.closed = torch.zeros(config.audio.code)
            head.load_state_dict(weights, strict=True)
            metadata = json.loads(header["metadata"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"the avatar file {path} does not hold what its header says ({str(error)[:200]}): make it again"
            ) from error
        return cls(head.to(device), scene, metadata)


def _upgraded(config: dict[str, Any]) -> dict[str, Any]:
    """Upgrade a stored configuration: version 1 stored only a flag for the emotion branch."""
    emotion = dict(config.get("emotion", {}))
    if "enabled" in emotion:
        emotion["branch"] = "separate" if emotion.pop("enabled") else "none"
    return {**config, "emotion": emotion} if emotion else config


def read_avatar_file(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Header and tensors of an avatar file of this version.

    Raises:
        UserError: as :meth:`Avatar.load`.
    """
    if not path.is_file():
        raise UserError(f"there is no avatar file {path}: make one with 'emotalking train'")
    try:
        header, tensors = read_tensors(path)
        if header.get("format") != FORMAT:
            raise UserError(f"{path} is a safetensors file but not an avatar: make one with 'emotalking train'")
        if int(header["version"]) > VERSION:
            raise UserError(
                f"the avatar {path} has format version {header['version']} and this program reads up to "
                f"{VERSION}: update emotalking"
            )
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is not a whole avatar file (cut short, or of another kind): copy it again") from error
    return header, tensors


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
