"""Composed frames from conditions (paper eqs. S9, S10), for the player, evaluation, previews and training.

In training, fine-tuning, the sync loss and the fit of closed lips use composed frames; the image terms of the mouth,
face and emotion stages use one layer over a plain colour (`models.head.render_layer`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from emotalking.models.audio import articulation
from emotalking.models.fixed import FixedHead
from emotalking.models.gaussians import Deformed, Gaussians
from emotalking.models.head import Layer, TalkingHead, render_layer
from emotalking.ops.box import Box
from emotalking.ops.compose import compose, lay_over
from emotalking.ops.composite import composite


@dataclass(frozen=True)
class Conditions:
    """Conditions of B frames."""

    viewmats: Float[Tensor, "B 4 4"]
    """World-to-camera, OpenCV axes."""
    audio: Float[Tensor, "B 8 C S"]
    """Windows of audio features (docs/paper.md 4.2)."""
    aus: Float[Tensor, "B 6"]
    """Action units in the order of `data.layouts.MODEL_AUS`, intensities 0 to 5, AU45 clipped to [0, 2]."""
    va: Float[Tensor, "B 2"] | None = None
    """Valence and arousal in [-1, 1]; None: no emotion."""
    speech: Float[Tensor, " B"] | None = None
    """Size of the lips' motion: 1 during speech, 0 for closed lips (`audio.vad`); None: as the audio features say."""
    gaze: Float[Tensor, "B 2"] | None = None
    """Where the eyes look: radians to the viewer's right and up, in the head; None: along the head's axis. A head
    without this input ignores it."""

    def each(self, change: Callable[[Tensor], Tensor]) -> "Conditions":
        """Every part changed."""
        parts = self.viewmats, self.audio, self.aus, self.va, self.speech, self.gaze
        viewmats, audio, aus, va, speech, gaze = (None if part is None else change(part) for part in parts)
        assert viewmats is not None and audio is not None and aus is not None
        return Conditions(viewmats, audio, aus, va, speech, gaze)

    def articulated(self) -> "Conditions":
        """With lips that move less or more by arousal (:func:`emotalking.models.audio.articulation`)."""
        assert self.va is not None
        size = articulation(self.va[:, 1])
        return replace(self, speech=size if self.speech is None else self.speech * size)


@dataclass(frozen=True)
class ComposedFrames:
    """Composed frames, or a part of them; colours are not clipped."""

    rgb: Float[Tensor, "B h w 3"]
    """RGB, about [0, 1]; premultiplied where there is no background."""
    alpha: Float[Tensor, "B h w"]
    """Coverage of the head: face and inside of the mouth."""
    face_alpha: Float[Tensor, "B h w"]
    """Coverage of the face alone."""


def torso_over_plate(
    torso: UInt8[Tensor, "*batch H W 4"], plate: Float[Tensor, "*#batch H W 3"]
) -> Float[Tensor, "*batch H W 3"]:
    """Torso layers (straight RGBA) over a plate in [0, 1]: the background of the head (docs/paper.md 1.3)."""
    return lay_over(torso, plate)


class Compositor:
    """Render the layers of a head for one camera and frame size, and compose them."""

    def __init__(self, K: Float[Tensor, "3 3"], size: tuple[int, int]) -> None:
        """Set intrinsics in pixels and the ``(width, height)`` of the full frame."""
        self.K = K
        self.size = size

    def layer(
        self,
        gaussians: Gaussians,
        deformed: Deformed,
        viewmats: Float[Tensor, "B 4 4"],
        window: Box | None = None,
        degree: int | None = None,
    ) -> Layer:
        """Render one branch.

        Args:
            window: part of the frame, in integer pixels; None: the full frame.
            degree: highest spherical-harmonic degree; None: all.
        """
        return render_layer(gaussians, deformed, viewmats, *self._part(window), degree=degree)

    def _part(self, window: Box | None) -> tuple[Float[Tensor, "3 3"], tuple[int, int]]:
        """Intrinsics and (width, height) of a part of the frame."""
        if window is None:
            return self.K, self.size
        K = self.K.clone()  # no tensor from the host: a CUDA graph cannot capture its copy
        K[0, 2] -= window.left
        K[1, 2] -= window.top
        return K, window.size

    def compose(
        self,
        face_rgb: Float[Tensor, "B h w 3"],
        face_alpha: Float[Tensor, "B h w"],
        mouth: Layer,
        background: Float[Tensor, "B h w 3"],
    ) -> ComposedFrames:
        """Compose face over inside of the mouth over background; all are full frames, or the same window of them."""
        rgb, alpha = composite(face_rgb, face_alpha, mouth.rgb, mouth.alpha, background, frame_height=self.size[1])
        return ComposedFrames(rgb, alpha, face_alpha)

    def deformed_frames(
        self,
        head: TalkingHead,
        face: Deformed,
        mouth: Deformed,
        viewmats: Float[Tensor, "B 4 4"],
        background: Float[Tensor, "B h w 3"] | None,
        window: Box | None = None,
    ) -> ComposedFrames:
        """Render and compose deformed Gaussians; without ``background``, premultiplied over black."""
        front = self.layer(head.face.gaussians, face, viewmats, window)
        inside = self.layer(head.mouth.gaussians, mouth, viewmats, window)
        behind = torch.zeros_like(front.rgb) if background is None else background
        return self.compose(front.rgb, front.alpha, inside, behind)

    def frames(
        self,
        head: TalkingHead,
        conditions: Conditions,
        background: Float[Tensor, "B h w 3"] | None = None,
        window: Box | None = None,
        fixed: FixedHead | None = None,
    ) -> ComposedFrames:
        """Render and compose the frames of B conditions.

        Args:
            head: all three branches; emotion acts where the model takes it.
            conditions: what drives it.
            background: torso over plate (:func:`torso_over_plate`) of the window, in [0, 1]; None: nothing, and the
                head's colours are premultiplied.
            window: part of the frame, in whole pixels; None: all of it.
            fixed: ``head`` with what is constant over frames: faster, and without gradients; None: all is computed
                here.
        """
        audio, speech = conditions.audio, conditions.speech
        if fixed is not None:
            return self._fixed_frames(fixed, conditions, background, window)
        face = head.deform_emotional_face(audio, conditions.aus, conditions.va, speech, conditions.gaze)
        mouth = head.deform_mouth(audio, speech)
        return self.deformed_frames(head, face, mouth, conditions.viewmats, background, window)

    @torch.no_grad()
    def _fixed_frames(
        self, fixed: FixedHead, given: Conditions, background: Float[Tensor, "B h w 3"] | None, window: Box | None
    ) -> ComposedFrames:
        K, size = self._part(window)
        camera = (given.viewmats, K, *size)
        codes = fixed.face_codes(given.audio, given.aus, given.va, given.speech, given.gaze)
        face = fixed.draw_face(codes, camera, given.va)
        mouth = fixed.draw_mouth(fixed.mouth_codes(given.audio, given.speech), camera)
        behind = torch.zeros_like(face[..., :3]) if background is None else background
        rgb, alpha = compose(face, mouth, behind, frame_height=self.size[1])
        return ComposedFrames(rgb, alpha, face[..., 3])
