"""Answers by any server that speaks OpenAI's HTTP interface: chat completions, and transcription of speech."""

import base64
import http.client
import io
import json
import secrets
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, Literal
from urllib.parse import urlsplit

import numpy as np
import soundfile
from jaxtyping import Float

from emotalking.errors import InputError
from emotalking.io.audio import SAMPLE_RATE
from emotalking.networks.transfer import NETWORK_ERRORS, host_of, reason
from emotalking.serve.dialogue import Message

_LARGEST = 8 << 20
"""Bytes of an answer that are read."""


class Endpoint:
    """An answer source for conversations: a language model behind an address.

    Args:
        url: of the interface, such as ``http://127.0.0.1:11434/v1`` or ``https://api.openai.com/v1``.
        model: name of the chat model.
        hearing: "transcribe" sends speech to ``audio/transcriptions`` first; "audio" gives it to the chat model, which
            must take sound (``input_audio``).
        transcriber: name of the model that transcribes.
        instructions: what the model is told about its part.
        key: secret for the address; None: none is sent.
        timeout: seconds without a byte after which the server counts as lost.

    Raises:
        InputError: the address is none.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        hearing: Literal["transcribe", "audio"] = "transcribe",
        transcriber: str = "whisper-1",
        instructions: str = "",
        key: str | None = None,
        timeout: float = 30.0,
    ) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not host_of(url):
            raise InputError(f"{url!r} is not an address: give one such as http://127.0.0.1:11434/v1.")
        self._url, self._model, self._hearing, self._transcriber = url.rstrip("/"), model, hearing, transcriber
        self._instructions, self._key, self._timeout = instructions, key, timeout

    def understand(self, speech: Float[np.ndarray, " n"]) -> Message:
        """The message of a turn of the user, float32 mono at 16 kHz.

        Raises:
            InputError: the server cannot be reached, or refuses.
        """
        if self._hearing == "audio":
            return Message("user", "", speech)
        fields = {"model": self._transcriber, "response_format": "json"}
        body, kind = _form(fields, _wav(speech))
        answer = self._open("audio/transcriptions", body, kind)
        with closing(answer):
            return Message("user", str(_read_json(answer).get("text", "")).strip())

    def answer(self, history: Sequence[Message]) -> Iterator[str | Float[np.ndarray, " _"]]:
        """Pieces of the model's answer to the last message, as they come.

        Raises:
            InputError: the server cannot be reached, refuses, or breaks off.
        """
        messages = [_message(one) for one in history]
        if self._instructions:
            messages.insert(0, {"role": "system", "content": self._instructions})
        body = json.dumps({"model": self._model, "messages": messages, "stream": True}).encode()
        answer = self._open("chat/completions", body, "application/json")
        with closing(answer):
            if "event-stream" not in answer.headers.get("Content-Type", ""):
                yield _content(_read_json(answer), "message")
                return
            yield from self._events(answer)

    def _events(self, answer: http.client.HTTPResponse) -> Iterator[str]:
        """Pieces of text of a stream of server-sent events."""
        read = 0
        try:
            for line in answer:
                read += len(line)
                if read > _LARGEST:
                    raise InputError(f"the answer of {host_of(self._url)} has no end: ask another model.")
                data = line.decode("utf-8", "replace").strip()
                if not data.startswith("data:"):
                    continue
                if (data := data.removeprefix("data:").strip()) == "[DONE]":
                    return
                if piece := _content(_parsed(data, self._url), "delta"):
                    yield piece
        except NETWORK_ERRORS as error:
            raise InputError(f"the answer of {host_of(self._url)} broke off ({reason(error)}): try again.") from error

    def _open(self, path: str, body: bytes, kind: str) -> http.client.HTTPResponse:
        headers = {"Content-Type": kind, "Accept": "text/event-stream, application/json"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(f"{self._url}/{path}", body, headers)
        try:
            return urllib.request.urlopen(request, timeout=self._timeout)
        except NETWORK_ERRORS as error:
            raise InputError(
                f"{self._url}/{path} cannot be used ({reason(error)}): check the address, the model and the key."
            ) from error


def _message(message: Message) -> dict[str, Any]:
    """A message as the interface wants it."""
    if message.sound is None:
        return {"role": message.role, "content": message.text}
    sound = {"data": base64.b64encode(_wav(message.sound)).decode(), "format": "wav"}
    return {"role": message.role, "content": [{"type": "input_audio", "input_audio": sound}]}


def _wav(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLE_RATE, "PCM_16", format="WAV")
    return file.getvalue()


def _form(fields: dict[str, str], sound: bytes) -> tuple[bytes, str]:
    """A form with a sound file: body and content type."""
    mark = secrets.token_hex(16)
    rows = [
        part
        for name, value in fields.items()
        for part in (f"--{mark}", f'Content-Disposition: form-data; name="{name}"', "", value)
    ]
    rows += [
        f"--{mark}",
        'Content-Disposition: form-data; name="file"; filename="speech.wav"',
        "Content-Type: audio/wav",
    ]
    head = "\r\n".join([*rows, "", ""]).encode()
    return head + sound + f"\r\n--{mark}--\r\n".encode(), f"multipart/form-data; boundary={mark}"


def _read_json(answer: http.client.HTTPResponse) -> dict[str, Any]:
    try:
        return _parsed(answer.read(_LARGEST), answer.url)
    except NETWORK_ERRORS as error:
        raise InputError(f"the answer of {host_of(answer.url)} broke off ({reason(error)}): try again.") from error


def _parsed(data: bytes | str, url: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"the answer of {host_of(url)} is no JSON: give the address of an OpenAI interface."
        ) from error
    if not isinstance(value, dict):
        raise InputError(f"the answer of {host_of(url)} is no JSON object: give the address of an OpenAI interface.")
    return value


def _content(answer: dict[str, Any], key: str) -> str:
    """Text of the first choice; empty where there is none."""
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    inner = first.get(key) if isinstance(first, dict) else None
    text = inner.get("content") if isinstance(inner, dict) else None
    return text if isinstance(text, str) else ""
