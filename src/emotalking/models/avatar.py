"""The avatar and its file, which contains all data that rendering needs."""

from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from emotalking.data.frame import ClipCrop
from emotalking.io.reading import reading
from emotalking.io.safetensors_files import Arrays
from emotalking.models.avatar_file import MAKE_AGAIN, NOT_ITS_HEADER, read_avatar_file, write_avatar_file
from emotalking.models.compositor import ComposedFrames, Compositor, Conditions
from emotalking.models.fixed import FixedHead
from emotalking.models.head import TalkingHead, loaded_head
from emotalking.models.packing import pack, unpack
from emotalking.models.scene import Scene
from emotalking.networks.registry import sha256_of
from emotalking.options import Lips


@dataclass
class Avatar:
    """A talking head with everything that rendering needs (docs/architecture.md, "Files")."""

    head: TalkingHead
    scene: Scene
    metadata: dict[str, Any] = field(default_factory=dict)
    """Provenance: clip, versions, command, presets and the licences of all models and tools used."""
    file: Path | None = None
    """Where it was read from or saved to."""
    sha256: str | None = None
    """Of that file."""
    lips: Lips = "expressive"
    """"expressive": lips move less or more with arousal (:func:`emotalking.models.audio.articulation`), where the
    avatar :attr:`closes_lips`; "strict": whatever the emotion, they move as in the neutral face. Not in the file."""

    skin: bool = True
    """Let the skin flush and shine with emotion (`models.skin`), where the avatar has the weights. Not in the file."""

    def __post_init__(self) -> None:
        self.head.eval().requires_grad_(False)
        self._fixed: FixedHead | None = None
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
    def gaze(self) -> Float[np.ndarray, "P 2"] | None:
        """Recorded gaze (`data.gaze`), radians; None: the head has no such input, or it is not known."""
        return self.scene.gaze if self.head.face.motion.takes_gaze else None

    @property
    def usual_gaze(self) -> Float[Tensor, "2"] | None:
        """Median of the recorded gaze, on the host: where the eyes look if nothing says where."""
        return None if self.gaze is None else torch.from_numpy(np.median(self.gaze, 0).astype(np.float32))

    @property
    def gaze_reach(self) -> float:
        """How far [rad] to each side in the head the eyes may look whatever the clip shows."""
        return self.head.config.gaze_reach

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

    @property
    def articulates(self) -> bool:
        """True if valence and arousal change the size of its lips' motion."""
        return self.lips == "expressive" and self.emotional and self.closes_lips

    @property
    def fixed(self) -> FixedHead:
        """The head for rendering, made once for a device."""
        if self._fixed is None:
            recorded = torch.from_numpy(np.stack([self.aus.min(0), self.aus.max(0)])).to(self.device)
            self._fixed = FixedHead(self.head, skin=self.skin, aus=recorded)
        return self._fixed

    def torso(self, index: int) -> UInt8[np.ndarray, "H W 4"]:
        """Straight-alpha torso layer of recorded pose ``index``."""
        return self.scene.torso[index]

    def to(self, device: torch.device | str) -> "Avatar":
        """Move it to ``device``, in place."""
        self.head.to(device)
        self.K = self.K.to(device)
        self._fixed = None
        return self

    def conditions(
        self,
        viewmats: Float[Tensor, "B 4 4"],
        audio_windows: Float[Tensor, "B 8 C S"],
        aus: Float[Tensor, "B 6"],
        va: Float[Tensor, "B 2"] | None = None,
        speech: Float[Tensor, " B"] | None = None,
        gaze: Float[Tensor, "B 2"] | None = None,
    ) -> Conditions:
        """Conditions of B frames, arguments as of :meth:`render`, with lips as :attr:`lips` has them."""
        if gaze is None and (usual := self.usual_gaze) is not None:
            gaze = usual.to(self.device).expand(len(viewmats), 2)
        given = Conditions(viewmats, audio_windows, aus, va, speech, gaze)
        return given.articulated() if va is not None and self.articulates else given

    @torch.no_grad()
    def render(
        self,
        viewmats: Float[Tensor, "B 4 4"],
        audio_windows: Float[Tensor, "B 8 C S"],
        aus: Float[Tensor, "B 6"],
        va: Float[Tensor, "B 2"] | None = None,
        background: Float[Tensor, "B H W 3"] | None = None,
        speech: Float[Tensor, " B"] | None = None,
        gaze: Float[Tensor, "B 2"] | None = None,
    ) -> ComposedFrames:
        """Render frames of B conditions (paper eqs. S9-S10).

        Args:
            aus: action units, intensities 0 to 5, cut to the range of the recorded ones.
            va: valence and arousal in [-1, 1]; None leaves the emotion branch out.
            background: torso over plate, RGB in [0, 1]; None: nothing behind the head.
            speech: 1 during speech, 0 for closed lips (``audio.vad``); only for an avatar
                that :attr:`closes_lips`.
            gaze: where the eyes look, radians to the viewer's right and up in the head; None: the clip's median.

        Returns:
            The finished frames, or without ``background`` the premultiplied head layer; `alpha` is the head's.
        """
        conditions = self.conditions(viewmats, audio_windows, aus, va, speech, gaze)
        compositor = Compositor(self.K, (self.width, self.height))
        frames = compositor.frames(self.head, conditions, background, fixed=self.fixed)
        return replace(frames, rgb=frames.rgb.clamp(0.0, 1.0))

    def save(self, path: Path | str) -> None:
        """Write the avatar file: safetensors, everything else as JSON in its header.

        Numbers that the file holds rounded (`models.packing`) become the same here.

        Raises:
            InputError: it cannot be written; an existing file is left unchanged.
        """
        weights = pack({name: value.detach().cpu().numpy() for name, value in self.head.state_dict().items()})
        write_avatar_file(Path(path), self.head.config, weights, self.scene, self.metadata)
        self.head.load_state_dict(_tensors(unpack(weights)))
        self._fixed = None
        self.file, self.sha256 = Path(path), sha256_of(Path(path))

    @classmethod
    def load(cls, path: Path | str, device: torch.device | str = "cpu") -> "Avatar":
        """Read an avatar file. It cannot run code: it contains tensors and JSON only.

        Raises:
            InputError: if it is missing, cut short, of a newer format, or not an avatar.
        """
        path = Path(path)
        content = read_avatar_file(path)
        with reading(path, NOT_ITS_HEADER, MAKE_AGAIN):
            head = loaded_head(content.config, _tensors(content.weights))
            digest = sha256_of(path)
        return cls(head.to(device), content.scene, content.metadata, path, digest)


def _tensors(arrays: Arrays) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
