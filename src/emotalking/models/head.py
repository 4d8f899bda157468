"""The three branches as one network: conditions in, premultiplied face and mouth layers out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from emotalking.models.audio import AudioEncoder, audio_encoder
from emotalking.models.config import ModelConfig
from emotalking.models.gaussians import Deformed, Gaussians
from emotalking.models.motion import ALL_MOVES, USUAL_EYES, EmotionMotion, FaceCanonical, FaceMotion, MouthMotion
from emotalking.models.skin import SHADE_KNOTS
from emotalking.ops.devices import on_side_stream
from emotalking.ops.geometry import camera_centre
from emotalking.ops.rasterize import rasterize


@dataclass
class Layer:
    """One branch rendered for B frames: premultiplied colours and alpha."""

    rgb: Float[Tensor, "B H W 3"]
    """Rendered over black; not clipped."""
    alpha: Float[Tensor, "B H W"]
    """Coverage in [0, 1)."""
    extra: Float[Tensor, "B H W D"]
    """Further splatted channels; D = 0 without any."""
    radii: Int[Tensor, "B N"]
    """Half the larger side of each Gaussian's box on the screen, pixels; 0 = culled."""

    def over(self, colour: Float[Tensor, "3"]) -> Float[Tensor, "B H W 3"]:
        """The layer over one colour."""
        # As a product of matrices: torch is slow at three channels of one alpha, and slower at their gradient.
        behind = (1.0 - self.alpha).reshape(-1, 1)
        return torch.addmm(self.rgb.reshape(-1, 3), behind, colour[None]).view_as(self.rgb)


Motion = TypeVar("Motion", FaceMotion, MouthMotion)


class Branch(nn.Module, Generic[Motion]):
    """Gaussians, audio encoder and motion network of the face or the mouth."""

    def __init__(self, gaussians: Gaussians, audio: AudioEncoder, motion: Motion) -> None:
        super().__init__()
        self.gaussians = gaussians
        self.audio = audio
        self.motion = motion


class TalkingHead(nn.Module):
    """The paper's model (3.2): an inside-mouth branch, a face branch, and an emotion network on top of the face."""

    def __init__(self, config: ModelConfig, face: Gaussians, mouth: Gaussians) -> None:
        super().__init__()
        self.config = config
        code = config.audio.code
        emotion = config.emotion
        combined = emotion.code if emotion.branch == "combined" else 0
        face_motion = FaceMotion(code, config.face.hidden, combined, gaze=config.gaze)
        self.face = Branch(face, audio_encoder(config.audio), face_motion)
        self.mouth = Branch(mouth, audio_encoder(config.audio), MouthMotion(code, config.mouth.hidden))
        self.emotion = None
        if emotion.branch == "separate":
            self.emotion = EmotionMotion(emotion.code, emotion.hidden, emotion.radius, emotion.harmonics)

    @property
    def emotional(self) -> bool:
        """True if valence and arousal change the output."""
        return self.emotion is not None or self.face.motion.takes_emotion

    def deform_face(
        self,
        audio_windows: Float[Tensor, "B 8 C S"],
        aus: Float[Tensor, "B 6"],
        canonical: FaceCanonical | None = None,
        va: Float[Tensor, "B 2"] | None = None,
        speech: Float[Tensor, " B"] | None = None,
        gaze: Float[Tensor, "B 2"] | None = None,
        *,
        attention: bool = False,
    ) -> Deformed:
        """Face Gaussians moved by the face network: speech, action units (eq. 4), and ``va`` if it is an input.

        Args:
            canonical: of the face's means as they are; None: computed here.
            speech: gate of the mouth (:class:`AudioEncoder`).
            gaze: see :meth:`FaceMotion.forward`.
            attention: give the attention maps as well.
        """
        code = on_side_stream(lambda: self.face.audio(audio_windows, speech), audio_windows.device)
        motion, gaussians = self.face.motion, self.face.gaussians
        if canonical is None and not attention:
            return gaussians.deform(**motion.offsets(gaussians.means, motion.codes(code(), aus, va, gaze)))
        canonical = motion.canonical(gaussians.means) if canonical is None else canonical
        return self.deform_face_by_code(canonical, code(), aus, va, gaze)

    def deform_face_by_code(
        self,
        canonical: FaceCanonical,
        code: Float[Tensor, "B A"],
        aus: Float[Tensor, "B 6"],
        va: Float[Tensor, "B 2"] | None = None,
        gaze: Float[Tensor, "B 2"] | None = None,
    ) -> Deformed:
        """:meth:`deform_face` from the audio's code, with attention maps."""
        motion = self.face.motion
        deformed = self.face.gaussians.deform(**motion(canonical, code, aus, va, gaze))
        maps = motion.maps(canonical)
        deformed.attention = maps["audio"], maps["units"]
        return deformed

    def deform_emotional_face(
        self,
        audio_windows: Float[Tensor, "B 8 C S"],
        aus: Float[Tensor, "B 6"],
        va: Float[Tensor, "B 2"] | None,
        speech: Float[Tensor, " B"] | None = None,
        gaze: Float[Tensor, "B 2"] | None = None,
    ) -> Deformed:
        """Face Gaussians for rendering, with valence and arousal as inputs of the branch that has them.

        Args:
            va: valence and arousal; None: no emotion.
            speech: gate of the mouth (:class:`AudioEncoder`).
            gaze: see :meth:`FaceMotion.forward`.
        """
        if self.face.motion.takes_emotion:
            return self.deform_face(audio_windows, aus, va=va, speech=speech, gaze=gaze)
        face = self.deform_face(audio_windows, aus, speech=speech, gaze=gaze)
        return face if va is None or self.emotion is None else self.add_emotion(face, va)

    def deform_mouth(
        self, audio_windows: Float[Tensor, "B 8 C S"], speech: Float[Tensor, " B"] | None = None
    ) -> Deformed:
        """Inside-mouth Gaussians moved by speech (eq. 3), through the same gate as the face."""
        code = on_side_stream(lambda: self.mouth.audio(audio_windows, speech), audio_windows.device)
        return self.mouth.gaussians.deform(**self.mouth.motion(self.mouth.gaussians.means, code()))

    def add_emotion(self, face: Deformed, va: Float[Tensor, "B 2"]) -> Deformed:
        """The deformed face with the emotion's offsets added (eq. 5).

        Raises:
            ValueError: if the model was built without an emotion branch.
        """
        if self.emotion is None:
            raise ValueError("this model has no emotion branch of its own (config.emotion.branch)")
        offsets = self.emotion(face.means, va)
        moved = {name: face.offsets.get(name, 0.0) + offset for name, offset in offsets.items()}
        emotional = self.face.gaussians.deform(**moved)
        emotional.offsets = offsets
        return emotional


def render_layer(
    gaussians: Gaussians,
    deformed: Deformed,
    viewmats: Float[Tensor, "B 4 4"],
    K: Float[Tensor, "3 3"],
    size: tuple[int, int],
    *,
    degree: int | None = None,
    extra: Float[Tensor, "B N D"] | None = None,
    num_detached: int = 0,
    probe: Float[Tensor, "B 1 N 2"] | None = None,
    tint: Float[Tensor, "1 N 3"] | None = None,
    backend: str = "auto",
    validate: bool = False,
) -> Layer:
    """Render deformed Gaussians for B cameras.

    Args:
        size: (width, height) in pixels.
        degree: highest spherical-harmonic degree used; None: all.
        extra: more channels for the same pass (normals, attention); they become `Layer.extra`.
        num_detached: number of the last of these without gradient to geometry and opacity.
        probe: zero tensor whose gradient is the screen-space gradient in pixels.
        tint: added to the constant coefficients of the colours in every frame.
        validate: refuse non-finite inputs, at the cost of one synchronisation.
    """
    degree = gaussians.sh_degree if degree is None else degree
    colours = gaussians.colours(deformed.means, camera_centre(viewmats), degree, tint)
    frames = viewmats.shape[0]
    raster = rasterize(
        deformed.means,
        deformed.quats,
        deformed.scales,
        deformed.opacities,
        colours if extra is None else torch.cat([colours, extra], -1),
        viewmats[:, None],
        K.expand(frames, 1, 3, 3),
        size[0],
        size[1],
        means2d_probe=probe,
        num_detached=num_detached,
        backend=backend,
        validate=validate,
    )
    # One split, not two slices, whose gradients would each be an image of all channels.
    rgb, further = raster.features[:, 0].split([3, raster.features.shape[-1] - 3], dim=-1)
    return Layer(rgb, raster.alpha[:, 0], further, raster.radii[:, 0])


def loaded_head(config: ModelConfig, weights: Mapping[str, Tensor]) -> TalkingHead:
    """The model that ``config`` describes with stored ``weights``, which are compared with it before memory is made.

    In files of before 0.3, which know no jaw, all of the mouth moves.

    Raises:
        ValueError: a weight is missing, superfluous, of another shape or kind, or not finite.
    """
    usual = {"mouth.motion.jaw": torch.tensor(ALL_MOVES)}
    if config.gaze:
        usual["face.motion.eyes"] = torch.tensor(USUAL_EYES)
    weights = {**usual, **weights}
    counts = {name: weights[f"{name}.gaussians.means"].shape[0] for name in ("face", "mouth")}
    sketch = _empty_head(config, dict.fromkeys(counts, 1), weights, "meta").state_dict()
    different = sorted(sketch.keys() ^ weights.keys())
    if different:
        raise ValueError(f"{len(different)} weights are missing or superfluous: {', '.join(different[:3])[:100]}")
    for name, wanted in sketch.items():
        value = weights[name]
        branch, _, kind = name.partition(".gaussians.")
        shape = (counts[branch], *wanted.shape[1:]) if kind else tuple(wanted.shape)
        if tuple(value.shape) != shape or value.is_floating_point() != wanted.is_floating_point():
            raise ValueError(f"{name}: {value.dtype} {list(value.shape)} instead of {wanted.dtype} {list(shape)}")
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name}: numbers that are not finite")
    with torch.random.fork_rng(devices=[]):  # reading a file draws nothing
        head = _empty_head(config, counts, weights, "cpu")
    head.load_state_dict(weights, strict=True)
    return head


def _empty_head(
    config: ModelConfig, counts: Mapping[str, int], weights: Mapping[str, Tensor], device: str
) -> TalkingHead:
    """The model without weights, with closed-mouth codes where ``weights`` has them; its networks are on ``device``."""
    # Not on "meta": torch would load its compiler to count the points there, which takes a second.
    face = Gaussians.empty(counts["face"], config.face.sh_degree)
    if "face.gaussians.skin" in weights:
        face.skin = torch.zeros(counts["face"], 2, dtype=torch.uint8)
    if "face.gaussians.shade" in weights:
        face.shade = torch.zeros(counts["face"], SHADE_KNOTS, dtype=torch.uint8)
    mouth = Gaussians.empty(counts["mouth"], config.mouth.sh_degree)
    with torch.device(device):
        head = TalkingHead(config, face, mouth)
        for name, branch in (("face", head.face), ("mouth", head.mouth)):
            if f"{name}.audio.closed" in weights:
                branch.audio.closed = torch.empty(config.audio.code)
    return head
