"""Shapes of the networks and Gaussians, as stored in the avatar file."""

from dataclasses import dataclass

from emotalking.data.audio_features import AUDIO_FEATURES, DEFAULT_FEATURE

MAX_GAZE_REACH = 0.45
"""Beyond [rad], irises are hidden by the corners of the eyes."""
MAX_RADIUS = 1.5
"""Of `EmotionConfig.radius`: the corners of the circumplex are at 1.42."""
MAX_HARMONICS = 16
"""Of `EmotionConfig.harmonics`."""
MAX_STEPS = 16
"""Feature steps per frame that the audio encoder's four stride-2 convolutions reduce to one; fewer are reduced as well.
"""


@dataclass(frozen=True)
class AudioConfig:
    """The audio encoder of a branch (docs/paper.md 4.2)."""

    features: str = DEFAULT_FEATURE
    """Name of the audio features (`data.audio_features`)."""
    channels: int = AUDIO_FEATURES[DEFAULT_FEATURE].channels
    """Feature channels per 20 ms step: 32 log-mel bands; 29 DeepSpeech; 44 wav2vec; 1024 HuBERT."""
    code: int = 32
    """Width of the audio code."""
    steps: int = AUDIO_FEATURES[DEFAULT_FEATURE].steps
    """Feature steps per video frame: 16 that overlap, or HuBERT's and hama's 2."""
    encoder: str = "published"
    """`published`: AudioNet and AudioAttNet (docs/paper.md 4.2). `conv`: a small convolutional encoder of the steps
    around the frame (:class:`models.audio.ConvEncoder`)."""


@dataclass(frozen=True)
class BranchConfig:
    """One branch: its Gaussians and its motion network."""

    initial_points: int
    """Gaussians at the start (docs/paper.md 3: face 2,000, mouth 10,000)."""
    init: str = "cube"
    """`cube`: uniform in [-0.1, 0.1]^3 and near black, as published. `surface`: on the tracked face shape, coloured
    from the most frontal frame."""
    sh_degree: int = 2
    """Spherical-harmonic degree of the colours."""
    hidden: int = 64
    """Hidden width of the motion trunk (face and emotion 64, mouth 32)."""


@dataclass(frozen=True)
class EmotionConfig:
    """The emotion branch (paper eq. 5; widths are not stated there, docs/paper.md 4.5)."""

    branch: str = "separate"
    """`separate`: a network on top of the deformed face. `combined`: the face network has valence and arousal as inputs
    next to audio and action units ("Combined face b.", paper 4.4). `none`: the paper's "Ours w/o emo. branch"."""
    code: int = 16
    """Width of the valence/arousal code that the attention map multiplies."""
    hidden: int = 64
    """Hidden width of the trunk."""
    radius: float = 0.0
    """Radius of the circumplex at which emotions are full, as in the embedded generator's targets (0.8): the separate
    network gets valence and arousal so scaled (:func:`emotalking.models.motion.full_at`). 0: as they are (files of
    before 0.3)."""
    shade: bool = False
    """Beside the separate network's moves, shade the skin where the embedded generator's targets do
    (`emotalking.models.skin`). No: as published and in files of before 0.3."""
    harmonics: int = 1
    """Multiples of the emotion's angle whose cosines and sines the separate network gets
    (:func:`emotalking.models.motion.harmonics_of`). 1: valence and arousal alone, as published and in files of before
    0.3."""


@dataclass(frozen=True)
class ModelConfig:
    """All settings that decide the shapes of an avatar's tensors, except the numbers of Gaussians."""

    audio: AudioConfig = AudioConfig()
    """Both branches' audio encoders."""
    face: BranchConfig = BranchConfig(initial_points=2_000)
    """Face branch."""
    mouth: BranchConfig = BranchConfig(initial_points=10_000, hidden=32)
    """Inside-mouth branch."""
    emotion: EmotionConfig = EmotionConfig()
    """Emotion branch."""
    gaze: bool = False
    """The face network has the direction of the eyes as an input (:class:`emotalking.models.motion.FaceMotion`); files
    of before 0.3 have not."""
    gaze_reach: float = 0.0
    """How far [rad] to each side in the head the eyes may look whatever the clip shows: the network learns it from
    recorded frames with turned eyes (``train.glances``). 0: as far as the clip shows."""
