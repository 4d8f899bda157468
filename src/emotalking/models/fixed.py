"""A head whose parameters do not change, without gradients: what is constant over frames is kept."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from emotalking.models.gaussians import Deformed, Gaussians
from emotalking.models.head import TalkingHead
from emotalking.models.motion import POSITION_SCALE, EmotionMotion, FaceMotion, MouthMotion, weights_of
from emotalking.models.skin import SkinTint
from emotalking.ops.motion import VALUES, EmotionNetwork, FixedBranch, move
from emotalking.ops.splat import Look, splat

Codes = tuple[Float[Tensor, "B J"], Float[Tensor, "B D"] | None, Float[Tensor, "B E"] | None]
"""Of frames: codes, bias and emotion codes of :func:`emotalking.ops.motion.move`."""

Camera = tuple[Float[Tensor, "B 4 4"], Float[Tensor, "3 3"], int, int]
"""World-to-camera of each frame, intrinsics, width and height in pixels."""


class FixedHead:
    """Layers of ``head`` as it is now; a later change of its parameters is not seen."""

    @torch.no_grad()
    def __init__(self, head: TalkingHead, *, skin: bool = True, aus: Float[Tensor, "2 6"] | None = None) -> None:
        """Keep what is constant.

        Args:
            head: the model.
            skin: let the skin flush and shine with emotion, where the head has the weights (`models.skin`).
            aus: lowest and highest action units that the head was trained on, to which others are cut: beyond them the
                motion network extrapolates, and a cheek three times as active as ever filled the image with one
                Gaussian.
        """
        self._head, self._aus = head, aus
        emotion = None if head.emotion is None else _emotion_network(head.emotion)
        self.face_branch = _fixed_face(head.face.gaussians, head.face.motion, emotion)
        self.mouth_branch, self._mouth_audio = _fixed_mouth(head.mouth.gaussians, head.mouth.motion)
        self.face_look, self.mouth_look = _look(head.face.gaussians), _look(head.mouth.gaussians)

        gaussians = head.face.gaussians
        flush_and_gloss = gaussians.skin if skin else None
        self._tint = None
        if flush_and_gloss is not None or gaussians.shade is not None:
            self._tint = SkinTint(gaussians.sh0, flush_and_gloss, gaussians.shade)

    def face_look_with(self, va: Float[Tensor, "B 2"] | None) -> Look:
        """What the face looks like with an emotion."""
        if va is None or self._tint is None or (va.device.type == "cpu" and not va.any()):
            return self.face_look
        return replace(self.face_look, tint=self._tint(va))

    def face_codes(
        self,
        audio_windows: Float[Tensor, "B 8 C S"],
        aus: Float[Tensor, "B 6"],
        va: Float[Tensor, "B 2"] | None = None,
        speech: Float[Tensor, " B"] | None = None,
        gaze: Float[Tensor, "B 2"] | None = None,
    ) -> Codes:
        """What moves the face, as :func:`emotalking.ops.motion.move` takes it."""
        motion, emotion = self._head.face.motion, self._head.emotion
        if self._aus is not None:
            aus = aus.clamp(self._aus[0], self._aus[1])
        codes = motion.codes(
            self._head.face.audio(audio_windows, speech), aus, va if motion.takes_emotion else None, gaze
        )
        return codes, None, None if va is None or emotion is None else emotion.code_of(va)

    def mouth_codes(self, audio_windows: Float[Tensor, "B 8 C S"], speech: Float[Tensor, " B"] | None = None) -> Codes:
        """What moves the inside of the mouth, likewise."""
        code = self._head.mouth.audio(audio_windows, speech)
        return code[:, :0], code @ self._mouth_audio.T, None

    @torch.no_grad()
    def deformed(
        self,
        audio_windows: Float[Tensor, "B 8 C S"],
        aus: Float[Tensor, "B 6"],
        va: Float[Tensor, "B 2"] | None = None,
        gaze: Float[Tensor, "B 2"] | None = None,
    ) -> tuple[Deformed, Deformed]:
        """Gaussians of face and mouth, moved as :meth:`TalkingHead.deform_emotional_face` and
        :meth:`TalkingHead.deform_mouth` do, without their offsets: for what trains behind frozen motion."""
        face = move(self.face_branch, *self.face_codes(audio_windows, aus, va, None, gaze))
        mouth = move(self.mouth_branch, *self.mouth_codes(audio_windows))
        return _deformed(face, self.face_look), _deformed(mouth, self.mouth_look)

    @torch.no_grad()
    def draw_face(
        self, codes: Codes, camera: Camera, va: Float[Tensor, "B 2"] | None = None
    ) -> Float[Tensor, "B H W 4"]:
        """Premultiplied colours and alpha of the face, moved as :meth:`TalkingHead.deform_emotional_face` does.

        Args:
            va: valence and arousal that colour the skin.
        """
        return splat(*move(self.face_branch, *codes), self.face_look_with(va), *camera)

    @torch.no_grad()
    def draw_mouth(self, codes: Codes, camera: Camera) -> Float[Tensor, "B H W 4"]:
        """The same of the inside of the mouth, moved as by :meth:`TalkingHead.deform_mouth`."""
        return splat(*move(self.mouth_branch, *codes), self.mouth_look, *camera)


def _deformed(moved: tuple[Tensor, Tensor, Tensor], look: Look) -> Deformed:
    means, quats, scales = (part.contiguous() for part in moved)
    return Deformed(means, quats, scales, look.opacities.expand(len(means), -1), {})


def _look(gaussians: Gaussians) -> Look:
    return Look(gaussians.opacities, gaussians.sh0, gaussians.sh_rest, gaussians.sh_degree)


def _values(gaussians: Gaussians) -> Float[Tensor, "N 10"]:
    return torch.cat([gaussians.means, gaussians.raw_quats, gaussians.raw_scales], -1)


def _in_world_units(last: Float[Tensor, "10 H"]) -> Float[Tensor, "10 H"]:
    """Weights of the last layer whose first three outputs are offsets of a position."""
    scale = last.new_ones(VALUES, 1)
    scale[:3] = POSITION_SCALE
    return last * scale


def _emotion_network(motion: EmotionMotion) -> EmotionNetwork:
    inner, outer = weights_of(motion.attention)
    second, third = weights_of(motion.trunk)
    encoder = motion.encoder
    return EmotionNetwork(
        encoder.table, encoder.spec, (inner, outer), motion.first.weight, second, _in_world_units(third)
    )


def _fixed_face(gaussians: Gaussians, motion: FaceMotion, emotion: EmotionNetwork | None) -> FixedBranch:
    canonical = motion.canonical(gaussians.means)
    first = motion.first.weight[:, motion.encoder.width :]
    second, third = weights_of(motion.trunk)
    return FixedBranch(
        _values(gaussians),
        canonical.hidden,
        canonical.attention,
        first,
        second,
        _in_world_units(third),
        emotion=emotion,
    )


def _fixed_mouth(gaussians: Gaussians, motion: MouthMotion) -> tuple[FixedBranch, Float[Tensor, "H A"]]:
    """The branch, and the first-layer weights of the audio code, which enters all points alike."""
    canonical = motion.canonical(gaussians.means)
    first = motion.first.weight[:, motion.encoder.width :]
    second, last = weights_of(motion.trunk)
    third = last.new_zeros(VALUES, last.shape[1])
    third[:3] = last * motion.axis_scale[:, None]
    none = canonical.hidden[:, :0]
    fixed = FixedBranch(
        _values(gaussians), canonical.hidden, none, first[:, :0], second, third, share=canonical.share[:, 0]
    )
    return fixed, first
