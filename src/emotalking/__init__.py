"""EmoTalking: emotion-conditioned talking heads from a short clip (arXiv 2502.00654).

The verbs of the command line are functions of :mod:`emotalking.api`; the objects behind them are here.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Avatar", "EmotionTrack", "Player", "Subject", "UserError", "__version__", "api"]

if TYPE_CHECKING:
    from emotalking import api
    from emotalking.data import Subject
    from emotalking.emotion.tracks import EmotionTrack
    from emotalking.errors import UserError
    from emotalking.models.avatar import Avatar
    from emotalking.player.player import Player

_HOMES = {
    "Avatar": "models.avatar",
    "EmotionTrack": "emotion.tracks",
    "Player": "player.player",
    "Subject": "data",
    "UserError": "errors",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: ``emotalking --help`` needs no torch."""
    if name == "api":
        return importlib.import_module("emotalking.api")
    if name in _HOMES:
        return getattr(importlib.import_module(f"emotalking.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'emotalking' has no attribute '{name}'")
