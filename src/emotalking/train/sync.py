"""The sync term: five consecutive composed frames, compared with their audio (paper eq. 9, S12, S14, S15).

In the mouth and face stages only the audio encoders learn from it: which mouth shape
belongs to a sound, not the appearance of these shapes. Deviation: in the paper the gradient flows into all of a branch.
An expert can also be satisfied by appearance: trained Gaussians keep it in every frame, and a trained motion network
bends some of them (a real speaker got a bright speck with pits on his chin). On the synthetic actor (`tiny`, one run
each) a trained motion network cost 1.0 dB around the mouth, and an expert not trained on the actor scored unseen speech
no better; with the encoders alone it cost 0.2 dB and scored better.
"""

import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from emotalking.data import Subject
from emotalking.lipsync.expert import EXPERT_FILE, SyncExpert, crop_frames, open_expert
from emotalking.losses.sync import sync_distance
from emotalking.models.compositor import Compositor
from emotalking.models.gaussians import Deformed, Gaussians
from emotalking.models.head import Layer, TalkingHead
from emotalking.networks.registry import models
from emotalking.ops.box import Box
from emotalking.train.config import SyncConfig, TrainConfig
from emotalking.train.data import TrainingData
from emotalking.train.sync_source import SyncWindow, WindowSource
from emotalking.tts.base import ESPEAK_LICENCE, HIBARI_LICENCE

_logger = logging.getLogger(__name__)


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Compute inside without gradient to the modules' own parameters."""
    trained = [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


class SyncTerm:
    """Sync loss of rendered windows; shared by all stages of a run."""

    def __init__(self, expert: SyncExpert, source: WindowSource, data: TrainingData, settings: SyncConfig) -> None:
        self.expert, self.source = expert, source
        self._data, self._settings = data, settings
        points = data.points[:, list(data.layout.ibug68)].cpu().numpy()
        square = expert.square(points)
        width, height = data.size
        spare = math.ceil(square.width / expert.size) + 1  # what the resampling reaches beyond the square
        self._window = Box(
            math.floor(square.top) - spare,
            math.floor(square.left) - spare,
            math.ceil(square.bottom) + spare,
            math.ceil(square.right) + spare,
        ).clipped(width, height)
        self._square = square.shifted(-self._window.left, -self._window.top)
        self._compositor = Compositor(data.K, data.size)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels of the part of the frame that is rendered."""
        return self._window.size

    @property
    def record(self) -> dict[str, str]:
        """Expert and speech, for the avatar's metadata."""
        return {"expert": self.expert.name, "speech": self._settings.speech, "languages": self._settings.languages}

    @property
    def licences(self) -> dict[str, str]:
        """Licence of each part that the sync loss brought into an avatar."""
        licences = {f"sync expert {self.expert.name}": "Apache-2.0"}
        if self._settings.expert == "syncnet":
            licences = {f"sync expert {self.expert.name}": models()["syncnet"].licence}
        if self._settings.speech in ("auto", "hibari"):
            licences["hibari-tts (speech to train on)"] = HIBARI_LICENCE
        if self._settings.speech in ("auto", "espeak"):
            licences["espeak-ng (speech to train on)"] = ESPEAK_LICENCE
        if self._settings.speech not in ("auto", "hibari", "espeak", "none"):
            licences["speech to train on, brought by the user"] = "the user's"
        return licences

    def due(self, iteration: int, warmup: int, iterations: int) -> bool:
        """True where this iteration of a stage has a term."""
        late = iteration - first_iteration(self._settings, warmup, iterations)
        return late >= 0 and late % self._settings.every == 0

    def distance(self, frames: Float[Tensor, "5 h w 3"], window: SyncWindow) -> Float[Tensor, ""]:
        """Equation 9 of one window, times the interval between terms."""
        crops = crop_frames(frames, self._square, self.expert.size)
        return self._settings.every * sync_distance(self.expert.embed_lips(crops[None]), window.embedding)

    def mouth(self, head: TalkingHead, window: SyncWindow, degree: int | None) -> Float[Tensor, "5 h w 3"]:
        """The mouth's branch inside the recorded faces: there is no other face yet.

        Deviation: the paper's windows are of synthetic speech, too; these must be the clip's own, because the recorded
        lips around the mouth belong to the recorded speech.
        """
        with frozen(head.mouth.gaussians, head.mouth.motion):
            layer = self._layer(head.mouth.gaussians, head.deform_mouth(window.audio), window, degree)
        recorded, outside = self._data.without_mouth(window.rows, *self._window.index)
        return self._composed(recorded, outside, layer, window)

    def face(self, head: TalkingHead, window: SyncWindow, degree: int | None) -> Float[Tensor, "5 h w 3"]:
        """The face's branch over the finished mouth."""
        recorded = self._data.conditions.at(window.rows)
        va = recorded.va if head.face.motion.takes_emotion else None
        with frozen(head.face.gaussians, head.face.motion):
            face = head.deform_face(window.audio, recorded.aus, va=va, gaze=recorded.gaze)
            layer = self._layer(head.face.gaussians, face, window, degree)
        return self._composed(layer.rgb, layer.alpha, self._finished_mouth(head, window), window)

    def emotional(self, head: TalkingHead, window: SyncWindow, va: Float[Tensor, "2"]) -> Float[Tensor, "5 h w 3"]:
        """The emotion's network on top of the finished face, over the finished mouth."""
        with torch.no_grad():
            recorded = self._data.conditions.at(window.rows)
            face = head.deform_face(window.audio, recorded.aus, gaze=recorded.gaze)
        emotional = head.add_emotion(face, va.expand(len(window.rows), 2))
        layer = self._layer(head.face.gaussians, emotional, window, None)
        return self._composed(layer.rgb, layer.alpha, self._finished_mouth(head, window), window)

    @torch.no_grad()
    def _finished_mouth(self, head: TalkingHead, window: SyncWindow) -> Layer:
        return self._layer(head.mouth.gaussians, head.deform_mouth(window.audio), window, None)

    def _layer(self, gaussians: Gaussians, moved: Deformed, window: SyncWindow, degree: int | None) -> Layer:
        """All five frames in one pass, cropped to the expert's window."""
        views = self._data.conditions.viewmats[window.rows]
        return self._compositor.layer(gaussians, moved, views, self._window, degree)

    def _composed(
        self, rgb: Float[Tensor, "5 h w 3"], alpha: Float[Tensor, "5 h w"], mouth: Layer, window: SyncWindow
    ) -> Float[Tensor, "5 h w 3"]:
        """The composed window (eqs. S9, S10)."""
        behind = self._data.behind(window.rows, *self._window.index)
        return self._compositor.compose(rgb, alpha, mouth, behind).rgb.clamp(0.0, 1.0)


def first_iteration(settings: SyncConfig, warmup: int, iterations: int) -> int:
    """First iteration of a stage's terms."""
    return warmup + int(settings.delay * (iterations - warmup))


def needs_sync(config: TrainConfig) -> bool:
    """True where any step of the run will have a sync term."""
    if config.sync.expert == "none":
        return False
    emotion = config.emotion if config.model.emotion.branch == "separate" else None
    stages = [(config.mouth, config.mouth.warmup), (config.face, config.face.warmup)]
    stages += [(emotion, 0)] if emotion is not None else []
    return any(
        stage.losses.sync > 0 and first_iteration(config.sync, warmup, stage.iterations) < stage.iterations
        for stage, warmup in stages
    )


def make_sync(config: TrainConfig, subject: Subject, data: TrainingData, folder: Path, fresh: bool) -> SyncTerm | None:
    """Create the run's sync term, after training its personal expert if that is missing; None without a sync loss.

    Args:
        folder: the run folder, where the expert goes if the subject folder cannot be written to.
        fresh: the run does not go on from a checkpoint: what an earlier run left in ``folder`` does not count.

    Raises:
        InputError: expert, speech or the clip's sound cannot be used.
    """
    if not needs_sync(config):
        return None
    which = config.sync.expert
    if which == "personal":
        which = str(_personal(subject, folder, config.seed, data.device, fresh))
    expert = open_expert(which, subject, data.device)
    source = WindowSource(subject, data, expert, config.model.audio.features, config.sync, folder, fresh)
    own, other = source.counts
    _logger.info("sync loss by %s: %d windows of the clip, %d of other speech", expert.name, own, other)
    return SyncTerm(expert, source, data, config.sync)


def _personal(subject: Subject, folder: Path, seed: int, device: torch.device, fresh: bool) -> Path:
    """The subject's own expert, trained on its training frames if there is none yet."""
    from emotalking.lipsync.training import train_expert

    at_home, spare = subject.files.root / EXPERT_FILE, folder / EXPERT_FILE
    if at_home.is_file():
        return at_home
    if spare.is_file() and not fresh:
        return spare
    out = at_home if os.access(subject.files.root, os.W_OK) else spare
    out.parent.mkdir(parents=True, exist_ok=True)
    _logger.info("no sync expert in %s yet: it is made first", subject.files.root)
    train_expert([subject], out, device=device, seed=seed)
    return out
