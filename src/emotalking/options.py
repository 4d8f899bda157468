"""Options that several verbs share: one name, one type and one meaning each.

A function or a config uses them as annotations; the command line takes its help from here. Nothing heavy is imported.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from typing_extensions import Doc

PathLike = str | Path


@dataclass(frozen=True)
class Reads:
    """Mark of a parameter that names files or folders that are read (:mod:`emotalking.io.outputs`)."""

    held: bool = False
    """True: a folder that no other command may write meanwhile."""


@dataclass(frozen=True)
class Writes:
    """Mark of a parameter that names a file or folder that is written (:mod:`emotalking.io.outputs`)."""

    kind: str
    """Key of :data:`emotalking.io.outputs.KINDS`."""
    default: str | None = None
    """Where None writes: a name in the folder of the parameter before the slash, such as ``subject/preview.mp4``."""


Input = Annotated[PathLike, Reads()]
OptionalInput = Annotated[PathLike | None, Reads()]
SubjectFolder = Annotated[PathLike, Reads(held=True)]

Device = Annotated[str, Doc("device: auto (a GPU if there is one), cpu, cuda, cuda:1, ...")]
Overwrite = Annotated[
    bool,
    Doc("replace what an output holds: other kinds of files, videos that we did not sign, or frames of an earlier run"),
]
Provenance = Annotated[
    Literal["on", "off"],
    Doc("on: sign what is made and mark it invisibly as synthetic; off: do neither, which is recorded"),
]
Seed = Annotated[int, Doc("random seed")]
Frames = Annotated[int | None, Doc("use at most so many frames (of each run); None: all")]
Seconds = Annotated[float | int | None, Doc("use only the first seconds; None: all")]
Tensorboard = Annotated[
    bool, Doc("also write TensorBoard events into the run folder (needs the extra emotalking[tensorboard])")
]

Preset = Annotated[
    Literal["tiny", "fast", "paper"],
    Doc("tiny: minutes on a CPU; fast: minutes on a GPU; paper: the paper's schedule"),
]
Settings = Annotated[
    Sequence[str],
    Doc("change settings of the preset: key=value with dotted keys, such as face.iterations=2000; each its own --set"),
]
Generator = Annotated[
    Literal["mesh", "paper"],
    Doc("generator of emotional faces: mesh (embedded), or paper (StyleGAN2, EmoStyle, LipExtract; see 'faces train')"),
]
Faces = Annotated[
    PathLike | None, Reads(), Doc("file of the paper's generator; None: faces.safetensors in the subject folder")
]

Emotion = Annotated[str | None, Doc("emotion: happy, sad, angry, ..., or with a strength: happy:0.5")]
ValenceArousal = Annotated[
    tuple[float | int, float | int] | None, Doc("valence and arousal, each from -1 to 1, such as -0.5,0.3")
]
Lips = Annotated[
    Literal["expressive", "strict"],
    Doc("expressive: calm lips move less, excited ones more; strict: the emotion leaves their motion as it is"),
]
View = Annotated[
    Literal[
        "image",
        "attention",
        "attention-audio",
        "attention-units",
        "attention-emotion",
        "attention-gaze",
        "normals",
        "depth",
        "alpha",
    ],
    Doc(
        "what frames show: the image; the head's attention to audio (red), action units (green) and emotion (blue), or"
        " to one of them or to the gaze; its normals, its depth, or its coverage"
    ),
]
SoundTrack = Annotated[
    int | None,
    Doc("sound track of the file, 1, 2, ...; None: the default one, or if that is silent the first that is not"),
]
Turn = Annotated[
    Literal[0, 90, 180, 270], Doc("turn the clip clockwise by so many degrees, in addition to what it notes itself")
]
Language = Annotated[str, Doc("language of the text: en, en-gb, de, fr, es, zh, ...")]
Voice = Annotated[str | None, Doc("voice, one of 'emotalking tts-voices'; None: the speaker's choice")]
Rate = Annotated[float | int, Doc("speaking rate: 0.5 (slow) to 2.5 (fast), 1 is normal")]
Speaker = Annotated[
    PathLike,
    Reads(),
    Doc(
        "speech synthesizer: auto (hibari's English voices, and espeak's), hibari, espeak, gtts (needs a network),"
        " or a folder of sound files"
    ),
]

EmotionModel = Annotated[
    Literal["landmarks", "emonet", "emonet5"],
    Doc("model that reads valence, arousal and expression: landmarks (rules on action units), emonet, or emonet5"),
]
Expert = Annotated[
    str,
    Reads(),
    Doc(
        "sync expert that measures: syncnet, personal (of 'sync train', in the subject folder), a file, none, or auto:"
        " syncnet if its checkpoint is there, else personal, else lip sync is not measured and the report says why"
    ),
]
Lpips = Annotated[
    Literal["auto", "alex", "vgg", "squeeze", "none"],
    Doc("LPIPS backbone; auto: the first whose weights are there; squeeze always is"),
]
