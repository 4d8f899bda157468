"""The session protocol, version 1 (docs/live.md): messages of clients, and frames as bytes."""

import struct
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import numpy as np
from jaxtyping import Float32, Int16
from PIL import ImageColor
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from emotalking.emotion.circumplex import PRESETS
from emotalking.errors import InputError
from emotalking.player.backgrounds import Background
from emotalking.player.streaming import LiveFrame
from emotalking.serve.encoding import FORMATS
from emotalking.serve.safety import Allowance
from emotalking.serve.session import RATES_HZ, Session
from emotalking.serve.settings import ServeSettings
from emotalking.serve.sinks import Event

VERSION = 1
SUBPROTOCOL = "emotalking.v1"
IMAGE_FORMATS = ("none", *FORMATS)
"""Image formats by their number in a frame's header."""
SPEAKING, LAST, SYNTHETIC = 1, 2, 4
"""Flags of a frame: it has sound of an utterance; it is the last of one; it shows no real person."""
LONGEST_TEXT = 32 << 10
"""Characters of a text message."""
MOST_MALFORMED = 5
"""Malformed messages of a connection before it is closed."""
_HEADER = struct.Struct("<BBHIQIIfI")


class ReceivedFrame(NamedTuple):
    """A frame as a client receives it."""

    image: bytes
    format: str
    """One of ``IMAGE_FORMATS``; "none": without an image."""
    audio: Int16[np.ndarray, " n"]
    flags: int
    utterance: int
    """0: silence."""
    index: int
    position_s: float
    generation: int


def pack_frame(frame: LiveFrame, image: bytes, kind: str) -> bytes:
    """A frame as a binary message.

    Args:
        frame: its own image is not looked at.
        image: encoded; empty for none.
        kind: of the image, one of ``IMAGE_FORMATS``.
    """
    sound = np.clip(np.round(frame.audio * 32768.0), -32768, 32767).astype("<i2").tobytes()
    flags = SYNTHETIC | (SPEAKING if frame.utterance is not None else 0) | (LAST if frame.ended else 0)
    header = _HEADER.pack(
        VERSION,
        IMAGE_FORMATS.index(kind if image else "none"),
        flags,
        frame.utterance or 0,
        frame.index,
        len(image),
        len(sound),
        frame.position_s,
        frame.generation,
    )
    return header + image + sound


def unpack_frame(message: bytes) -> ReceivedFrame:
    """A frame from its binary message, for clients.

    Raises:
        InputError: it is none of this version.
    """
    if len(message) < _HEADER.size:
        raise InputError("the message is too short for a frame.")
    version, kind, flags, utterance, index, image, sound, position, generation = _HEADER.unpack_from(message)
    if version != VERSION or kind >= len(IMAGE_FORMATS) or len(message) != _HEADER.size + image + sound:
        raise InputError("the message is no frame of version 1 of the protocol.")
    picture, samples = message[_HEADER.size :][:image], message[_HEADER.size + image :]
    audio = np.frombuffer(samples, "<i2")
    return ReceivedFrame(picture, IMAGE_FORMATS[kind], audio, flags, utterance, index, position, generation)


class _Message(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False, extra="ignore", frozen=True)


class _Audio(_Message):
    type: Literal["audio"]
    sample_rate: int = Field(ge=RATES_HZ[0], le=RATES_HZ[1])
    format: Literal["s16", "f32"] = "s16"


class _Flush(_Message):
    type: Literal["flush"]


class _Clear(_Message):
    type: Literal["clear"]
    heard_frame: int | None = Field(default=None, ge=0, lt=2**63)


class _Emotion(_Message):
    """Valence and arousal, or a name with a strength, or none of them: without an emotion."""

    type: Literal["emotion"]
    valence: float | None = Field(default=None, ge=-1, le=1)
    arousal: float | None = Field(default=None, ge=-1, le=1)
    name: str | None = Field(default=None, max_length=40)
    strength: float = Field(default=1.0, ge=0, le=1)
    seconds: float = Field(default=0.3, ge=0, le=10)

    @model_validator(mode="after")
    def _whole(self) -> "_Emotion":
        if (self.valence is None) != (self.arousal is None) or (self.valence is not None and self.name is not None):
            raise ValueError("give both valence and arousal, or a name")
        return self

    @property
    def value(self) -> tuple[float, float] | str | None:
        if self.valence is not None and self.arousal is not None:
            return self.valence, self.arousal
        return None if self.name is None else f"{self.name}:{self.strength:g}"


class _Pose(_Message):
    type: Literal["pose"]
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0


class _Gaze(_Message):
    type: Literal["gaze"]
    x: float = Field(default=0.0, ge=-1, le=1)
    y: float = Field(default=0.0, ge=-1, le=1)


class _Idle(_Message):
    type: Literal["idle"]
    on: bool


class _Background(_Message):
    type: Literal["background"]
    colour: str = Field(max_length=40, pattern=r"^(#[0-9a-fA-F]{6}|[a-zA-Z]+)$")

    @property
    def value(self) -> Background:
        if self.colour in ("recorded", "transparent"):
            return None if self.colour == "recorded" else "transparent"
        try:
            red, green, blue = ImageColor.getrgb(self.colour)[:3]
        except ValueError:
            raise InputError(
                "this is no colour: send one such as white or #00ff00, or recorded, or transparent."
            ) from None
        return red, green, blue


class _Say(_Message):
    type: Literal["say"]
    text: str
    language: str = Field(default="en", max_length=20)
    voice: str | None = Field(default=None, max_length=60)


class _Avatar(_Message):
    type: Literal["avatar"]
    name: str = Field(max_length=200)


class _Played(_Message):
    type: Literal["played"]
    frame: int = Field(ge=0, lt=2**63)


class Image(_Message):
    """How a client wants its images."""

    type: Literal["image"] = "image"
    format: Literal["jpeg", "webp", "png"] = "jpeg"
    quality: int = Field(default=85, ge=1, le=100)
    every: int = Field(default=1, ge=1, le=1000)


class _Ping(_Message):
    type: Literal["ping"]
    t: float = 0.0


_Any = (
    _Audio | _Flush | _Clear | _Emotion | _Pose | _Gaze | _Idle | _Background | _Say | _Avatar | _Played | Image | _Ping
)
_ANY: TypeAdapter[_Any] = TypeAdapter(Annotated[_Any, Field(discriminator="type")])


class MalformedMessage(InputError):
    """A message that is none of the protocol's, rather than one that cannot be fulfilled."""


class Conversation:
    """One client's side of the protocol: applies its messages to a session. Not tied to a transport.

    Args:
        session: that is spoken with.
        say: says a text: (text, language, voice).
        messages_per_s: that the client may send.
    """

    def __init__(self, session: Session, say: Callable[[str, str, str | None], None], messages_per_s: float) -> None:
        self.session, self.image = session, Image()
        self._say, self._messages_per_s = say, messages_per_s
        self._sound: _Audio | None = None
        self._allowance, self._malformed = Allowance(messages_per_s), 0

    def take(self, message: str | bytes, tell: Callable[[Event], None]) -> bool:
        """Apply a text message or sound.

        Args:
            message: of the client.
            tell: sends the client an event, here of what is wrong with the message.

        Returns:
            False: so many messages were malformed that the connection is to be closed.
        """
        try:
            if not self._allowance.take():
                raise MalformedMessage(f"more than {self._messages_per_s:g} messages a second came.")
            if isinstance(message, bytes):
                self.sound(message)
            elif len(message) > LONGEST_TEXT:
                raise MalformedMessage(f"the message is longer than {LONGEST_TEXT} characters.")
            else:
                self.text(message)
        except InputError as error:
            tell({"type": "error", "message": str(error)})
            self._malformed += isinstance(error, MalformedMessage)
        return self._malformed <= MOST_MALFORMED

    def text(self, message: str) -> None:
        """Apply a text message; answers are events of the session.

        Raises:
            MalformedMessage: it is no message of the protocol.
            InputError: what it asks for is not possible.
        """
        try:
            wanted = _ANY.validate_json(message)
        except ValidationError as error:
            raise MalformedMessage(_sentence(error)) from None
        session = self.session
        match wanted:
            case _Audio():
                self._sound = wanted
            case _Flush():
                session.flush()
            case _Clear():
                session.clear(wanted.heard_frame)
            case _Emotion():
                session.wish("emotion", wanted.value, wanted.seconds)
            case _Pose():
                session.wish("pose", wanted.yaw, wanted.pitch, wanted.roll)
            case _Gaze():
                session.wish("gaze", wanted.x, wanted.y)
            case _Idle():
                session.wish("idle", wanted.on)
            case _Background():
                session.wish("background", wanted.value)
            case _Say():
                self._say(wanted.text, wanted.language, wanted.voice)
            case _Avatar():
                session.switch(wanted.name)
            case _Played():
                session.played(wanted.frame)
            case Image():
                self.image, session.every = wanted, wanted.every
            case _Ping():
                session.send({"type": "pong", "t": wanted.t})

    def sound(self, message: bytes) -> None:
        """Push a binary message: mono samples in the format that was told.

        Raises:
            MalformedMessage: no format was told, or it is not whole samples.
            InputError: the sound cannot be used.
        """
        if self._sound is None:
            raise MalformedMessage("a binary message is sound: send its format first, as the message audio.")
        wide = self._sound.format == "f32"
        if len(message) % (4 if wide else 2):
            raise MalformedMessage(f"the sound is not whole samples of the format {self._sound.format}.")
        self.session.push(_samples(message, wide), self._sound.sample_rate)


def _samples(message: bytes, wide: bool) -> Float32[np.ndarray, " n"]:
    if not wide:
        return np.frombuffer(message, "<i2").astype(np.float32) / 32768.0
    samples = np.frombuffer(message, "<f4").astype(np.float32)
    if not np.isfinite(samples).all():
        raise InputError("the sound holds samples that are no numbers.")
    return np.clip(samples, -1.0, 1.0)


def _sentence(error: ValidationError) -> str:
    """The first thing that is wrong, in one sentence, without what the client sent."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    return f"the message is malformed: {where + ': ' if where else ''}{first['msg'].lower()[:200]}."


def hello(session: Session, settings: ServeSettings, resumed: bool) -> Event:
    """The first event of a connection."""
    return {
        "type": "hello",
        "version": VERSION,
        "session": session.id,
        "secret": session.secret,
        "resumed": resumed,
        **session.facts(),
        "look_ahead_ms": settings.look_ahead_ms,
        "synthetic": True,
        "emotions": {name: list(point) for name, point in PRESETS.items()},
        "uploads": settings.uploads is not None,
    }
