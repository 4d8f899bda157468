"""Evaluation models: face detector and recogniser, emotion model, perceptual distance, sync expert.

Every model errs; ``benchmarks/estimator_error.py`` measures by how much.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from emotalking.data import Subject
from emotalking.emotion.circumplex import PRESETS
from emotalking.emotion.estimator import ActionUnitEmotion
from emotalking.errors import InputError
from emotalking.lipsync.expert import EXPERT_FILE, SyncExpert, open_expert
from emotalking.networks.crops import crop
from emotalking.networks.emonet import SIZE, EmoNetEstimator, emonet_square
from emotalking.networks.face_recogniser import FaceRecogniser
from emotalking.networks.lpips import BACKBONES, Lpips, found_backbone
from emotalking.networks.registry import models
from emotalking.preprocess.config import EMOTION_MODELS, check_choice
from emotalking.preprocess.landmarks import LandmarkProvider, MediaPipeMesh
from emotalking.preprocess.networks import open_emotion_model as open_network

IDENTITY_FRAMES = 16
"""Training frames, evenly spread, that define the person's identity vector; and held-out frames that check it."""
CIRCUMPLEX_CLASSES: dict[str, str] = {
    "neutral": "neutral",
    "happy": "happy",
    "sad": "sad",
    "surprise": "surprised",
    "fear": "afraid",
    "disgust": "disgusted",
    "anger": "angry",
}
"""EmoNet's expressions and their places among :data:`emotalking.emotion.circumplex.PRESETS`.

Contempt, EmoNet's eighth, is left out: its place among the presets is our own.
"""


class Prediction(NamedTuple):
    """Prediction of an emotion model for the frames of one run."""

    va: Float[np.ndarray, "N 2"]
    """Valence and arousal, [-1, 1]."""
    scores: Float[np.ndarray, "N E"]
    """One per class; only their order is meaningful."""


@runtime_checkable
class EmotionModel(Protocol):
    """Read valence, arousal and expression: describe each face while its frame is in memory, predict at the end."""

    @property
    def name(self) -> str:
        """Name printed next to every metric."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the expressions, in the order of the scores."""
        ...

    def describe(self, image: UInt8[np.ndarray, "H W 3"], points: Float[np.ndarray, "68 2"]) -> Float[np.ndarray, " F"]:
        """Description of a frame with these iBUG landmarks, stored until :meth:`predict`."""
        ...

    def predict(
        self, descriptions: Float[np.ndarray, "N F"], units: Mapping[str, Float[np.ndarray, " N"]], fps: float | int
    ) -> Prediction:
        """Prediction for frames that follow one another; all have a face.

        Args:
            descriptions: of :meth:`describe`.
            units: action units by name, 0..5, relative to the person's resting face.
            fps: frames per second.
        """
        ...


class ActionUnitModel:
    """The embedded model: rules on action units, smoothed over half a second; it needs no weights.

    Expressions are scored by nearness on the circumplex: minus the distance of the measured valence and arousal to the
    point of the named emotion. This model derives expressions from these two numbers only, so its accuracy
    cannot be compared with a classifier's.
    """

    name = "rules on action units"
    classes = tuple(CIRCUMPLEX_CLASSES)

    def __init__(self) -> None:
        self._estimator = ActionUnitEmotion()

    def describe(self, image: UInt8[np.ndarray, "H W 3"], points: Float[np.ndarray, "68 2"]) -> Float[np.ndarray, " F"]:
        """See :class:`EmotionModel`: nothing."""
        return np.zeros(0)

    def predict(
        self, descriptions: Float[np.ndarray, "N F"], units: Mapping[str, Float[np.ndarray, " N"]], fps: float | int
    ) -> Prediction:
        """See :class:`EmotionModel`."""
        va = self._estimator.estimate(units, fps).astype(np.float64)
        return Prediction(va, circumplex_scores(va))


def circumplex_scores(va: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N 7"]:
    """Minus the distance of each valence and arousal to the places of :data:`CIRCUMPLEX_CLASSES`."""
    places = np.array([PRESETS[place] for place in CIRCUMPLEX_CLASSES.values()])
    return -np.linalg.norm(va[:, None] - places, axis=-1)


class EmoNetModel:
    """EmoNet, each frame on its own: valence and arousal clamped to [-1, 1], and its logits."""

    def __init__(self, network: EmoNetEstimator) -> None:
        self._model = network
        self.classes = network.network.expressions
        self.name = f"EmoNet {len(self.classes)}"

    @torch.inference_mode()
    def describe(self, image: UInt8[np.ndarray, "H W 3"], points: Float[np.ndarray, "68 2"]) -> Float[np.ndarray, " F"]:
        """See :class:`EmotionModel`: valence, arousal, logits."""
        face = torch.from_numpy(crop(image, emonet_square(points), SIZE)).to(self._model.device).float() / 255
        output = self._model(face[None])
        return torch.cat([output.va.clamp(-1, 1), output.expression], 1)[0].double().cpu().numpy()

    def predict(
        self, descriptions: Float[np.ndarray, "N F"], units: Mapping[str, Float[np.ndarray, " N"]], fps: float | int
    ) -> Prediction:
        """See :class:`EmotionModel`."""
        return Prediction(descriptions[:, :2], descriptions[:, 2:])


def open_emotion_model(which: str, device: torch.device | str = "cpu") -> EmotionModel:
    """The model of a choice in :data:`emotalking.preprocess.config.EMOTION_MODELS`.

    Raises:
        InputError: there is no such model, or its checkpoint is missing.
    """
    check_choice("emotion model", which, EMOTION_MODELS)
    if not EMOTION_MODELS[which]:
        return ActionUnitModel()
    return EmoNetModel(open_network(which, device))


@dataclass(frozen=True)
class Person:
    """Description of a subject by a face recogniser."""

    vector: Float[np.ndarray, " D"]
    """Mean over :data:`IDENTITY_FRAMES` training frames."""
    held_out: Float[np.ndarray, "n D"]
    """Vectors of held-out recorded frames, for the score of the same person in other frames. May be empty."""
    missed: int
    """Held-out frames in which no face was found."""


@dataclass
class IdentityModel:
    """A face recogniser, and the people whom it knows."""

    recogniser: FaceRecogniser
    _known: dict[str, Person | None] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name printed next to every metric."""
        return self.recogniser.name

    def person(self, subject: Subject, provider: LandmarkProvider) -> Person | None:
        """Description of the subject, made once; None if no training frame shows a face.

        Args:
            provider: finds the faces.
        """
        place = str(subject.files.root)
        if place not in self._known:
            self._known[place] = self._learn(subject, provider)
        return self._known[place]

    def _learn(self, subject: Subject, provider: LandmarkProvider) -> Person | None:
        training, _ = self._faces(subject, subject.train_indices, provider)
        if not training:
            return None
        vector = np.mean(training, 0)
        others, missed = self._faces(subject, subject.val_indices, provider)
        return Person(vector, np.array(others).reshape(-1, len(vector)), missed)

    def _faces(
        self, subject: Subject, frames: Int[np.ndarray, " N"], provider: LandmarkProvider
    ) -> tuple[list[Float[np.ndarray, " D"]], int]:
        """Vectors of at most :data:`IDENTITY_FRAMES` of these frames, and in how many no face was found."""
        places = np.unique(
            np.linspace(0, max(len(frames) - 1, 0), min(IDENTITY_FRAMES, len(frames))).round().astype(int)
        )
        out, missed = [], 0
        for index in frames[places]:
            image = subject.target(int(index))
            face = provider.detect(image)
            if face is None:
                missed += 1
                continue
            points = face[list(provider.layout.ibug68), :2].astype(np.float64)
            out.append(self.recogniser.describe(image, points))
        return out, missed


@dataclass
class EvaluationModels:
    """Models that measure; the metrics of one that is None are missing, with the reason."""

    device: torch.device
    """Device of pixels and networks."""
    landmarks: Callable[[], LandmarkProvider] | None = None
    """Makes a detector of faces; action units are measured from its points."""
    lpips: Lpips | None = None
    emotion: EmotionModel | None = None
    sync: SyncExpert | None = None
    no_sync: str = "no sync expert was asked for"
    identity: IdentityModel | None = None
    no_identity: str = "identity was not asked for"

    @classmethod
    def none(cls, device: torch.device | str = "cpu") -> "EvaluationModels":
        """Pixels alone."""
        return cls(torch.device(device))

    @classmethod
    def open(
        cls,
        *,
        lpips: str = "auto",
        emotion: str = "landmarks",
        sync: str | None = None,
        identity: bool = True,
        subject: Subject | None = None,
        device: torch.device | str = "cpu",
    ) -> "EvaluationModels":
        """The models of these names.

        Args:
            lpips: "alex", "vgg", "squeeze", "none", or "auto": the first of them whose weights are there
                (squeeze comes with this package).
            emotion: "landmarks" (embedded: rules on action units), "emonet" or "emonet5".
            sync: expert for lips and sound (:func:`emotalking.lipsync.expert.open_expert`); "none" or None: none;
                "auto": :func:`find_expert`.
            identity: recognise faces, if the extra "identity" is installed.
            subject: subject of the personal expert.
            device: device of the networks.

        Raises:
            InputError: a model that does not exist, or whose checkpoint is missing.
        """
        device = torch.device(device)
        distance = _open_lpips(lpips)
        expert, no_sync = _open_sync(sync, subject, device)
        recogniser, stranger = _open_recogniser() if identity else (None, EvaluationModels.no_identity)
        return cls(
            device,
            MediaPipeMesh,
            None if distance is None else distance.to(device),
            open_emotion_model(emotion, device),
            expert,
            no_sync,
            recogniser,
            stranger,
        )

    def names(self) -> dict[str, str]:
        """Names of the models, for the report."""
        named = {"perceptual distance": self.lpips, "emotion": self.emotion, "lip sync": self.sync}
        named |= {"identity": self.identity}
        return {what: "none" if model is None else model.name for what, model in named.items()}


def find_expert(subject: Subject | None) -> str | None:
    """The sync expert that "auto" stands for: SyncNet if its checkpoint is in the model folder, else the subject's own
    (``sync_expert.safetensors`` in its folder), else None.
    """
    if models()["syncnet"].find() is not None:
        return "syncnet"
    return "personal" if subject is not None and (subject.files.root / EXPERT_FILE).is_file() else None


def _open_sync(choice: str | None, subject: Subject | None, device: torch.device) -> tuple[SyncExpert | None, str]:
    if choice in (None, "none"):
        return None, EvaluationModels.no_sync
    which = find_expert(subject) if choice == "auto" else choice
    if which is not None:
        return open_expert(which, subject, device), ""
    return None, (
        f"there is no sync expert: neither {models()['syncnet'].files[0]} in the model folder nor {EXPERT_FILE} in the"
        " subject's folder (train a sync expert on the subject to get one)"
    )


def _open_recogniser() -> tuple[IdentityModel | None, str]:
    try:
        return IdentityModel(FaceRecogniser()), ""
    except InputError as error:
        return None, str(error).removesuffix(".")


def _open_lpips(which: str) -> Lpips | None:
    if which == "none":
        return None
    if which == "auto":
        return Lpips.open(found_backbone())
    for backbone in BACKBONES:
        if backbone == which:
            return Lpips.open(backbone)
    raise InputError(f"there is no LPIPS backbone '{which}': give auto, none, {', '.join(BACKBONES)}.")
