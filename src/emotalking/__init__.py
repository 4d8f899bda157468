"""EmoTalking: emotion-conditioned talking heads from a short clip (arXiv 2502.00654).

Everything public is here and typed: the verbs of the command line as functions, their options and results, the objects
behind them, and the error classes. Importing the package loads nothing heavy.

Example:
    >>> import emotalking
    >>> emotalking.prepare("clip.mp4", "someone")
    >>> emotalking.train("someone", "someone.safetensors", preset="fast")
    >>> emotalking.render("someone.safetensors", "speech.wav", "out.mp4", emotion="happy")
"""

__version__ = "0.3.0.dev0"  # first: modules below read it

import importlib
from typing import TYPE_CHECKING

import emotalking.serve as _
import emotalking.train as _  # noqa: F401, F811 (packages first: below, their names become the functions')
from emotalking import api
from emotalking.api import *  # noqa: F403 (its __all__ is the one list of the verbs)
from emotalking.errors import (
    DeviceError,
    EmotalkingError,
    InputError,
    MissingModelError,
    MissingPackageError,
    NoFaceError,
)
from emotalking.evaluate.config import AblationConfig, EvaluateConfig
from emotalking.faces.config import FaceConfig
from emotalking.figures.config import FiguresConfig
from emotalking.jobs.config import JobsConfig
from emotalking.preprocess.config import PrepareConfig

if TYPE_CHECKING:
    from emotalking.data import Subject
    from emotalking.data.findings import Finding
    from emotalking.emotion.tracks import EmotionTrack
    from emotalking.emotion.voice import VoiceEmotion, voice_emotion
    from emotalking.evaluate.ablation import Ablation
    from emotalking.evaluate.answers import Results
    from emotalking.evaluate.compare import Comparison
    from emotalking.evaluate.evaluation import Reproduction
    from emotalking.evaluate.results import Report
    from emotalking.evaluate.study import Study
    from emotalking.evaluate.study_server import StudyServer
    from emotalking.faces.files import Edited
    from emotalking.figures.run import Figures
    from emotalking.jobs.page import ManyResult
    from emotalking.lipsync.scores import SyncScores
    from emotalking.lipsync.training import ExpertReport
    from emotalking.models.avatar import Avatar
    from emotalking.networks.registry import Model
    from emotalking.ops.box import Box
    from emotalking.player.clip import Rendered
    from emotalking.player.player import Player
    from emotalking.player.streaming import LiveFrame, PlaybackPosition, StreamingPlayer
    from emotalking.preprocess.check.verdict import Footage
    from emotalking.preprocess.import_subject import Imported
    from emotalking.progress import on_progress
    from emotalking.serve.server import LiveServer
    from emotalking.testing.demo import DemoResult
    from emotalking.train.many import TrainManyResult
    from emotalking.train.run import TrainResult
    from emotalking.tts.base import Utterance
    from emotalking.tts.phonemes import Coverage

_HEAVY = {
    "Ablation": "evaluate.ablation",
    "Avatar": "models.avatar",
    "Box": "ops.box",
    "Comparison": "evaluate.compare",
    "Coverage": "tts.phonemes",
    "DemoResult": "testing.demo",
    "Edited": "faces.files",
    "EmotionTrack": "emotion.tracks",
    "ExpertReport": "lipsync.training",
    "Figures": "figures.run",
    "Finding": "data.findings",
    "Footage": "preprocess.check.verdict",
    "Imported": "preprocess.import_subject",
    "LiveFrame": "player.streaming",
    "LiveServer": "serve.server",
    "ManyResult": "jobs.page",
    "Model": "networks.registry",
    "PlaybackPosition": "player.streaming",
    "Player": "player.player",
    "Rendered": "player.clip",
    "Report": "evaluate.results",
    "Reproduction": "evaluate.evaluation",
    "Results": "evaluate.answers",
    "Study": "evaluate.study",
    "StreamingPlayer": "player.streaming",
    "StudyServer": "evaluate.study_server",
    "Subject": "data",
    "SyncScores": "lipsync.scores",
    "TrainManyResult": "train.many",
    "TrainResult": "train.run",
    "Utterance": "tts.base",
    "VoiceEmotion": "emotion.voice",
    "on_progress": "progress",
    "voice_emotion": "emotion.voice",
}
"""Modules of the names that are imported when they are asked for."""

__all__ = [
    "Ablation",
    "AblationConfig",
    "Avatar",
    "Box",
    "Comparison",
    "Coverage",
    "DemoResult",
    "DeviceError",
    "Edited",
    "EmotalkingError",
    "EmotionTrack",
    "EvaluateConfig",
    "ExpertReport",
    "FaceConfig",
    "Figures",
    "FiguresConfig",
    "Finding",
    "Footage",
    "Imported",
    "InputError",
    "JobsConfig",
    "LiveFrame",
    "LiveServer",
    "ManyResult",
    "MissingModelError",
    "MissingPackageError",
    "Model",
    "NoFaceError",
    "PlaybackPosition",
    "Player",
    "PrepareConfig",
    "Rendered",
    "Report",
    "Reproduction",
    "Results",
    "StreamingPlayer",
    "Study",
    "StudyServer",
    "Subject",
    "SyncScores",
    "TrainManyResult",
    "TrainResult",
    "Utterance",
    "VoiceEmotion",
    "__version__",
    "api",
    "on_progress",
    "voice_emotion",
]
__all__ += api.__all__


def __getattr__(name: str) -> object:
    """Import a heavy name at its first use (PEP 562)."""
    if name in _HEAVY:
        return getattr(importlib.import_module(f"emotalking.{_HEAVY[name]}"), name)
    raise AttributeError(f"module 'emotalking' has no attribute '{name}'")
