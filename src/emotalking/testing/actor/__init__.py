"""A synthetic talking person with exact ground truth: the demo's subject and every test's fixture."""

from emotalking.testing.actor.actor import Actor, head_viewmat
from emotalking.testing.actor.emotion_model import ActorEmotionModel, EmotionFit
from emotalking.testing.actor.performance import Performance
from emotalking.testing.actor.state import (
    ACTOR_AUS,
    MODEL_AUS,
    ActorFrame,
    ActorState,
    Viseme,
    emotional_aus,
    visible_aus,
)
from emotalking.testing.actor.style import MAYA, OTTO, ROBIN, STYLES, ActorStyle

__all__ = [
    "ACTOR_AUS",
    "MAYA",
    "MODEL_AUS",
    "OTTO",
    "ROBIN",
    "STYLES",
    "Actor",
    "ActorFrame",
    "ActorEmotionModel",
    "ActorState",
    "ActorStyle",
    "EmotionFit",
    "Performance",
    "Viseme",
    "emotional_aus",
    "head_viewmat",
    "visible_aus",
]
