"""Readers of what the live server and its page are given: messages, answers, notes, texts."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from emotalking.emotion.tags import parse_tags, tagged_track
from emotalking.errors import InputError
from emotalking.player.streaming import LiveFrame
from emotalking.serve import endpoint
from emotalking.serve.ice import ice_servers
from emotalking.serve.jobs import Jobs
from emotalking.serve.protocol import Conversation, pack_frame, unpack_frame
from emotalking.serve.scheduler import Scheduler
from emotalking.serve.settings import ServeSettings
from emotalking.tts.base import TimedLabel, Utterance

from ..serve.talking import FakeAvatar
from . import mutations as m

MESSAGES = [
    {"type": "audio", "sample_rate": 16000, "format": "s16"},
    {"type": "flush"},
    {"type": "clear", "heard_frame": 3},
    {"type": "emotion", "valence": 0.5, "arousal": -0.2, "seconds": 0.3},
    {"type": "emotion", "name": "happy", "strength": 0.5},
    {"type": "pose", "yaw": 0.1, "pitch": 0.0, "roll": 0.0},
    {"type": "idle", "on": False},
    {"type": "background", "colour": "#00ff00"},
    {"type": "say", "text": "Hello [happy] you", "language": "en", "voice": "f1"},
    {"type": "avatar", "name": "head"},
    {"type": "played", "frame": 7},
    {"type": "image", "format": "jpeg", "every": 2},
    {"type": "ping", "t": 1.5},
]


def add_live(root: Path, add: Callable[..., None], add_new: Callable[..., None]) -> None:
    """The readers, with their valid files."""
    scheduler = Scheduler({"head": FakeAvatar()}, ServeSettings(max_sessions=8))

    def converse(path: Path) -> None:
        """Every line is a message; a line that is none JSON at all, sound."""
        session, told = scheduler.open("head"), list[dict]()
        talk = Conversation(session, lambda text, language, voice: None, 1e9)
        for line in path.read_bytes().splitlines()[:40]:
            try:
                message: str | bytes = line.decode()  # a text message of a WebSocket is valid UTF-8
            except UnicodeDecodeError:
                message = line
            if not talk.take(message, told.append):
                break
        session.end("of this test")
        if told:
            sentence = str(told[0]["message"])
            assert len(sentence) < 1000 and "\n" not in sentence and "Traceback" not in sentence
            raise InputError(sentence)

    lines = b"\n".join(json.dumps(message).encode() for message in MESSAGES)
    add_new("messages.jsonl", lines, converse, (*m.TEXT, *(m.rows_of_json,) * 8))
    add_new("frame.bin", _frame(), lambda path: unpack_frame(path.read_bytes()), m.BYTES)
    _add_texts(add_new)
    _add_jobs(root, add, add_new)


def _frame() -> bytes:
    image, sound = np.zeros((4, 4, 3), np.uint8), np.zeros(8, np.float32)
    return pack_frame(LiveFrame(image, sound, 48000, 1, 1, 0.0, False, 0), b"jpeg", "jpeg")


def _add_texts(add_new: Callable[..., None]) -> None:
    def tags(path: Path) -> None:
        text, found = parse_tags(path.read_bytes().decode("utf-8", "replace"))
        words = tuple(TimedLabel(word, 0.1 * i, 0.1 * i + 0.1) for i, word in enumerate(text.split()[:50]))
        track = tagged_track(found, Utterance(text, "en", "v", np.zeros(80000, np.float32), words, (), 1.0))
        if track is not None:
            assert np.abs(track.at(np.linspace(0, 6, 20))).max() <= 1

    def answer(path: Path) -> None:
        told = endpoint._parsed(path.read_bytes(), "http://x")
        assert isinstance(endpoint._content(told, "message"), str)

    text = b"[happy] Hello \\[you\\], [sad:0.6] I must [v=0.5,a=-0.2] go now. [neutral]"
    add_new("tags.txt", text, tags, m.TEXT)
    said = {"choices": [{"message": {"role": "assistant", "content": "Hello."}}]}
    add_new("answer.json", json.dumps(said).encode(), answer, m.JSON)
    servers = [{"urls": ["stun:a:3478"]}, {"urls": "turn:b:3478?transport=udp", "username": "u", "credential": "p"}]
    add_new("ice.json", json.dumps(servers).encode(), ice_servers, m.JSON)


def _add_jobs(root: Path, add: Callable[..., None], add_new: Callable[..., None]) -> None:
    def clips(path: Path) -> None:
        """Folders of uploads: a damaged note costs its own clip, not the page."""
        jobs = Jobs(path.parent.parent)
        jobs.close()
        for clip in jobs.clips():
            json.dumps(jobs.facts(clip), allow_nan=False)
        if not jobs.clips():
            raise InputError("no clip")

    note = root / "uploads" / "0123456789abcdef" / "clip.json"
    note.parent.mkdir(parents=True)
    note.write_text(json.dumps({"name": "me.mp4", "bytes": 5, "uploaded": 1.5, "done": {"train": 2.5}}))
    add("clip.json", note, clips, m.JSON)
