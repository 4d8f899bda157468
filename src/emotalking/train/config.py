"""The recipe: stages, schedules and weights. Every number is the `paper` preset's unless a preset says otherwise."""

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from emotalking.data.audio_features import audio_feature
from emotalking.errors import InputError
from emotalking.io.settings import accept_old_fields, upgrade
from emotalking.models.config import MAX_GAZE_REACH, MAX_HARMONICS, MAX_RADIUS, ModelConfig
from emotalking.train.loss_config import EmotionLosses, FaceLosses, FinetuneLosses, MouthLosses

LEAST_ONE = {
    "every",
    "sh_every",
    "checkpoint_every",
    "means_until",
    "lr_decay_from",
    "initial_points",
    "hidden",
    "code",
}
"""Names of settings that must be at least 1, in any class."""
ABOVE_ZERO = {"means", "means_final", "final_share"}
"""Settings that must be above 0. No setting may be below."""


@dataclass(frozen=True)
class OptimConfig:
    """Learning rates (paper S1; docs/paper.md 3 and 4.6)."""

    means: float = 1.6e-4
    """Initial position rate; times the scene extent."""
    means_final: float = 1.6e-6
    """Position rate at the end of densification; exponential in between."""
    sh0: float = 2.5e-3
    """Base colour rate; the rate of the higher bands is 20 times lower."""
    opacity: float = 0.05
    """Opacity rate."""
    scales: float = 3e-3
    """Raw (softplus) scale rate."""
    quats: float = 1e-3
    """Rotation rate."""
    normals: float = 2e-4
    """Normal residual rate (GaussianShader's)."""
    final_share: float = 1.0
    """Share of the Gaussians' rates (colours, opacities, scales, rotations) that is left at the end of a stage. They
    fall exponentially from the last densification on, in the fine-tune stage from its beginning; 1, as published,
    leaves the noise of single frames in the colours."""
    grids: float = 5e-3
    """Tri-plane rate."""
    networks: float = 5e-4
    """Rate of every network weight not named below."""
    audio: float = 5e-4
    """Rate of the audio encoders; 0 keeps what their pretraining taught them, and leaves nothing to a sync loss."""
    audio_from: float = 0.0
    """Share of the mouth and face stages after which the audio encoders learn, with their attention; until then they
    stay as pretrained."""
    temporal: float = 2.5e-3
    """Rate of the temporal audio attention (decay 1e-4). Five times the networks' as published; where those learn
    faster it must not: its softmax then settles on one frame of the window at once and stays there."""


@dataclass(frozen=True)
class DensifyConfig:
    """Grow and prune (docs/paper.md 3).

    Deviation: the published rule that removes Gaussians of more than 20 pixels is absent. In 3-D Gaussian splatting's
    code and what descends from it the radii are cleared right before they are tested, so it never acts; when it does
    act, neighbours grow into the holes, are removed in turn, and a face of 26,000 Gaussians ended with one.
    """

    start: int = 500
    """First iteration that grows."""
    every: int = 100
    """Interval."""
    until: int = 45_000
    """Iteration from which nothing grows or is pruned."""
    grad_threshold: float = 2e-4
    """Mean screen-space gradient (normalised device units) above which a Gaussian is cloned or split."""
    percent_dense: float = 0.005
    """Clone below, split above this share of the scene extent."""
    prune_opacity: float = 0.05
    """Opacity below which a Gaussian is removed, at the start."""
    prune_opacity_gain: float = 0.25
    """Added to `prune_opacity` linearly until `until`."""
    size_from: int = 3_000
    """Iteration from which too large Gaussians are removed."""
    max_scale: float = 0.1
    """Scale as a share of the scene extent, above which a Gaussian is removed from `size_from` on."""
    max_gaussians: int = 100_000
    """Growth stops here, so memory has a bound. Deviation: the published code has none; its heads stay far below."""


@dataclass(frozen=True)
class PerceptualConfig:
    """The perceptual loss (paper S12, S14-S16; docs/paper.md 7.2). Its weights are each stage's `losses.lpips`."""

    backbone: str = "auto"
    """LPIPS backbone: `alex` (the baseline's), `vgg`, `squeeze`, `none`, or `auto`: the first of these whose files are
    there; `squeeze` comes with this package."""
    patches: int = 0
    """Maximum number of patches a step, drawn from all of the frame's; 0: all."""


@dataclass(frozen=True)
class CorrectionsConfig:
    """Corrections of the head in each training frame (`train.corrections`); not in the paper."""

    rate: float = 0.0
    """Learning rate in millimetres; 0: none. Adam moves a frame's correction by some 30 rates each time it is drawn."""
    degree: int = 1
    """Motion as polynomials of the position: 0 translation, 1 affine, 2 quadratic."""
    window: int = 1
    """Consecutive frames over which corrections are averaged, odd."""
    weight: float = 0.0
    """Weight of the sum of squared coefficients in mm^2."""

    def validate(self) -> None:
        """Raise ValueError for values that cannot be."""
        if self.degree not in (0, 1, 2):
            raise ValueError("corrections.degree must be 0, 1 or 2")
        if self.window < 1 or self.window % 2 == 0:
            raise ValueError("corrections.window must be odd")


@dataclass(frozen=True)
class SyncConfig:
    """The sync loss (paper 3.3.2, eq. 9; docs/paper.md 10, 13). Its weights are each stage's `losses.sync`."""

    expert: str = "none"
    """The expert: `personal` (trained on the training frames if the subject folder has none yet), `syncnet`
    (SyncNet v2's checkpoint), a personal expert's file, or `none`: no sync loss."""
    speech: str = "auto"
    """Speech without images to train on: `auto` synthesizes the curated sentences in hibari's and espeak-ng's voices
    (`hibari`, `espeak`: in those alone), a folder provides its audio files, `none` uses the clip's own speech only."""
    languages: str = "en"
    """Languages of the curated sentences, separated by commas. The paper: ten English ones."""
    takes: int = 3
    """Repetitions of each set, each with other voices and rates."""
    original_share: float = 0.5
    """Share of windows with the clip's own audio where there is other speech (paper S4.2: both, shares not stated)."""
    every: int = 4
    """Interval of the sync term in iterations; the term is multiplied by it, so that its mean keeps the weight."""
    delay: float = 0.2
    """Share of a stage's iterations after its warm-up that pass before its first sync term: the expert needs visible
    lips, and at first there are none."""

    def validate(self) -> None:
        """Raise ValueError for values that cannot be."""
        if not self.expert or not self.speech:
            raise ValueError("sync.expert and sync.speech must not be empty: use none")
        if self.every < 1 or self.takes < 1:
            raise ValueError("sync.every and sync.takes must be at least 1")
        if not 0.0 <= self.original_share <= 1.0 or not 0.0 <= self.delay < 1.0:
            raise ValueError("sync.original_share must lie in 0..1 and sync.delay in 0..1, below 1")
        if not self.language_list:
            raise ValueError("sync.languages needs at least one language")

    @property
    def language_list(self) -> tuple[str, ...]:
        """`languages`, one by one."""
        return tuple(part.strip() for part in self.languages.split(",") if part.strip())


@dataclass(frozen=True)
class BranchStageConfig:
    """A branch's stage, mouth or face: canonical Gaussians first, then motion."""

    iterations: int
    """Length."""
    warmup: int
    """Iterations of the static, canonical model before motion begins."""
    lr_decay_from: int
    """Network rates fall by 0.5^(it/knee) until here, then as 0.1^(it/iterations), or, where `freeze_geometry_from`
    ends their learning, as 0.1^(it/that)."""
    densify: DensifyConfig
    """Growth and pruning."""
    means_until: int = 45_000
    """Iteration at which the position rate reaches `optim.means_final`."""
    sh_every: int = 1_000
    """Interval in iterations after which the colours gain one spherical-harmonic degree."""
    freeze_geometry_from: int = 0
    """Iteration from which only colours and opacities train (0: never), over black where the backdrop was green."""
    curriculum_every: int = 0
    """Interval in iterations of frames drawn by the curriculum (docs/paper.md 8); 0: never."""


@dataclass(frozen=True)
class MouthStageConfig(BranchStageConfig):
    """The mouth stage (S11, S12)."""

    losses: MouthLosses = MouthLosses()
    """Weights."""


@dataclass(frozen=True)
class FaceStageConfig(BranchStageConfig):
    """The face stage (S13, S14)."""

    losses: FaceLosses = FaceLosses()
    """Weights."""
    hair_every: int = 0
    """Hair is compared only every so many iterations (0: always) between `hair_from` and `hair_until`."""
    hair_from: int = 3_000
    """See `hair_every`."""
    hair_until: int = 46_000
    """See `hair_every`."""
    soft_outline: bool = True
    """Cut head and hair out by their coverage of each pixel (`TrainingData.cut_out`); no: at the label map's edge."""


@dataclass(frozen=True)
class EmotionStageConfig:
    """The emotion stage (paper S15; sampling is not stated, docs/paper.md 0)."""

    iterations: int
    """Length."""
    lr_decay_from: int
    """See :class:`BranchStageConfig`."""
    rates: float = 1.0
    """Factor of `optim.grids` and `optim.networks` in this stage: fast, images blur neighbouring emotions' moves."""
    real_share: float = 0.25
    """Share of steps on original frames with their estimated valence/arousal (paper S4.2: "and original")."""
    expression_share: float = 0.3
    """Share of steps on recorded frames of the person's own expressions, where the folder has clips of them
    (``train.expressions``); 0: none."""
    va_limit: float = 1.0
    """Valence and arousal are drawn uniformly from [-limit, limit]^2 (EmoStyle: U(-1, 1)^2)."""
    pretraining: int = 0
    """Updates that teach the network the embedded generator's moves first (`train.emotion_pretraining`; 0: none)."""
    losses: EmotionLosses = EmotionLosses()
    """Weights."""


@dataclass(frozen=True)
class FinetuneStageConfig:
    """The last stage: colours and opacities on the full composed frame (paper S16)."""

    iterations: int
    """Length."""
    opacity: float = 1e-3
    """Opacity rate in this stage."""
    sh0: float = 2.5e-3
    """Colour rate in this stage."""
    prune: float = 0.0
    """Before the first iteration, the least seen Gaussians of each branch are removed, as many as together have this
    share of all blending weight (``train.prune``). 0: none, as published."""
    mouth_colours: bool = False
    """Train the mouth's colours too, as TalkingGaussian does; the paper trains the face's alone."""
    losses: FinetuneLosses = FinetuneLosses()
    """Weights."""


@dataclass(frozen=True)
class TrainConfig:
    """One run."""

    mouth: MouthStageConfig
    """Inside-mouth stage."""
    face: FaceStageConfig
    """Face stage."""
    emotion: EmotionStageConfig
    """Emotion stage."""
    finetune: FinetuneStageConfig
    """Fine-tune stage."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Shapes."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Rates."""
    sync: SyncConfig = field(default_factory=SyncConfig)
    """The sync loss of the mouth, face and emotion stages."""
    perceptual: PerceptualConfig = field(default_factory=PerceptualConfig)
    """The perceptual loss of all stages."""
    corrections: CorrectionsConfig = field(default_factory=CorrectionsConfig)
    """Corrections of the face stage's training frames."""
    audio_pretraining: int = 0
    """Updates that teach the audio encoders the tracked lip shape before the first stage (0: none, as published)."""
    audio_augmentation: bool = False
    """Let these learn from silence (closed lips), and from the sound at other tempos, of other voices, in noise, and
    as a live player has it, without the sound to come."""
    motion_pretraining: int = 0
    """Updates that teach the face's network the tracked mesh's motion before any stage (0: none, as published)."""
    closed_mouth_code: int = 100
    """Updates that teach the codes of closed lips, for silence, after the last stage (0: a median of codes); the
    recipe as published knows no silence."""
    background: str = "green"
    """Backdrop of masked regions: `green` as published (with the chroma-key clean-up of docs/paper.md 3), or
    `random`: a new colour each step, which makes alpha identifiable without a clean-up."""
    gpu: str = "kernels"
    """Implementation on a GPU: `kernels`, our own (extra `gpu`), with steps captured in CUDA graphs; or `gsplat` (extra
    `gsplat`), one launch after another, about ten times slower (benchmarks/results/train_speed.json)."""
    seed: int = 0
    """Seed of every draw."""
    checkpoint_every: int = 1_000
    """Iterations between checkpoints."""

    @property
    def stages(self) -> tuple[MouthStageConfig | FaceStageConfig | EmotionStageConfig | FinetuneStageConfig, ...]:
        """The settings of the stages that run, in order."""
        emotion = (self.emotion,) if self.model.emotion.branch == "separate" else ()
        return (self.mouth, self.face, *emotion, self.finetune)

    @property
    def iterations(self) -> int:
        """Iterations of the run; the combined face branch includes those of the emotion stage."""
        combined = self.emotion.iterations if self.model.emotion.branch == "combined" else 0
        return sum(stage.iterations for stage in self.stages) + combined

    @property
    def normals(self) -> bool:
        """True where any stage compares normals."""
        return self.face.losses.normals or (self.model.emotion.branch == "separate" and self.emotion.losses.normals)

    def validate(self) -> None:
        """Raise ValueError for an order of events that cannot be."""
        for name, stage in (("mouth", self.mouth), ("face", self.face)):
            if not 0 <= stage.warmup <= stage.iterations:
                raise ValueError(f"{name}.warmup must lie in 0..{name}.iterations ({stage.iterations})")
        for name in ("mouth", "face", "emotion", "finetune"):
            getattr(self, name).losses.validate(name)
        if self.perceptual.backbone not in ("auto", "alex", "vgg", "squeeze", "none"):
            raise ValueError("perceptual.backbone must be 'auto', 'alex', 'vgg', 'squeeze' or 'none'")
        self.sync.validate()
        self.corrections.validate()
        emotion = self.model.emotion
        for name, value, low, high in (
            ("optim.audio_from", self.optim.audio_from, 0, 1),
            ("emotion.real_share", self.emotion.real_share, 0, 1),
            ("emotion.expression_share", self.emotion.expression_share, 0, 1),
            ("finetune.prune", self.finetune.prune, 0, 1),
            ("model.emotion.radius", emotion.radius, 0, MAX_RADIUS),
            ("model.emotion.harmonics", emotion.harmonics, 1, MAX_HARMONICS),
            ("model.gaze_reach", self.model.gaze_reach, 0, MAX_GAZE_REACH),
        ):
            if not low <= value <= high:
                raise ValueError(f"{name} must lie in {low}..{high}")
        for name, allowed in (("background", ("green", "random")), ("gpu", ("gsplat", "kernels"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be '{allowed[0]}' or '{allowed[1]}'")
        if self.sync.expert != "none" and not self.optim.audio:
            raise ValueError("sync.expert needs optim.audio above 0 (1e-4): its loss teaches the audio encoders")
        if emotion.branch not in ("separate", "combined", "none"):
            raise ValueError("model.emotion.branch must be 'separate', 'combined' or 'none'")
        if self.model.audio.encoder not in ("published", "conv"):
            raise ValueError("model.audio.encoder must be 'published' or 'conv'")
        for name, branch in (("face", self.model.face), ("mouth", self.model.mouth)):
            if branch.init not in ("cube", "surface"):
                raise ValueError(f"model.{name}.init must be 'cube' or 'surface'")
            if not 0 <= branch.sh_degree <= 3:
                raise ValueError(f"model.{name}.sh_degree must lie in 0..3")
        for name, number in _numbers(self):
            last = name.rpartition(".")[2]
            if not math.isfinite(number) or number < 0:
                raise ValueError(f"{name} must be a number that is not negative, got {number}")
            if number < 1 and last in LEAST_ONE:
                raise ValueError(f"{name} must be at least 1, got {number}")
            if number == 0 and last in ABOVE_ZERO:
                raise ValueError(f"{name} must be above 0")


_OLD = {"audio_start": "audio_pretraining", "motion_start": "motion_pretraining", "closed_lips": "closed_mouth_code"}
accept_old_fields(TrainConfig, renamed=_OLD)
accept_old_fields(BranchStageConfig, renamed={"schedule_knee": "lr_decay_from"})
accept_old_fields(EmotionStageConfig, renamed={"schedule_knee": "lr_decay_from"})
accept_old_fields(MouthStageConfig, removed={"hair_every", "hair_from", "hair_until"})
_FACE_TERMS = {"lips", "eyes", "attention", "lpips_lips"}
_NORMAL_TERMS = {"normal", "normal_cosine", "normal_tv", "normal_residual"}
accept_old_fields(MouthLosses, removed=_FACE_TERMS | _NORMAL_TERMS)
accept_old_fields(EmotionLosses, removed={"attention", "lpips_lips", "silhouette", "normal_residual"})
accept_old_fields(FinetuneLosses, removed=_FACE_TERMS | _NORMAL_TERMS | {"silhouette", "motion", "sync"})


def upgrade_record(record: Any) -> Any:
    """Rename the settings of a stored run record to their current names, to compare it with another.

    Records before 0.2 hold the short name of the audio features' file ("ds") instead of their own ("deepspeech").
    """
    if not isinstance(record, dict) or not isinstance(record.get("train"), dict):
        return record
    values = upgrade(TrainConfig, record["train"])
    with suppress(KeyError, TypeError, InputError):
        audio = values["model"]["audio"]
        audio = audio | {"features": audio_feature(audio["features"]).name}
        values = values | {"model": values["model"] | {"audio": audio}}
    return record | {"train": values}


def _numbers(config: Any, prefix: str = "") -> Iterator[tuple[str, float | int]]:
    """Yield all numbers of a config with their dotted names."""
    for each in fields(config):
        value, name = getattr(config, each.name), f"{prefix}{each.name}"
        if is_dataclass(value):
            yield from _numbers(value, f"{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield name, value
