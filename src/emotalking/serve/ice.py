"""STUN and TURN servers, by which WebRTC connects from outside the local network."""

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from emotalking.errors import InputError
from emotalking.io.reading import reason

VARIABLE = "EMOTALKING_ICE_SERVERS"
_MOST_BYTES = 1 << 16
_SCHEMES = ("stun:", "stuns:", "turn:", "turns:")


class IceServer(BaseModel):
    """One entry of the ``iceServers`` of WebRTC."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    urls: list[str] = Field(min_length=1, max_length=8)
    """Addresses, such as ``turn:turn.example.org:3478?transport=tcp``; in a file also one alone."""
    username: str | None = Field(None, min_length=1, max_length=500)
    credential: str | None = Field(None, min_length=1, max_length=500, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _one_address(cls, given: object) -> object:
        if isinstance(given, dict) and isinstance(given.get("urls"), str):
            return {**given, "urls": [given["urls"]]}
        return given

    @model_validator(mode="after")
    def _usable(self) -> "IceServer":
        if not all(url.startswith(_SCHEMES) and len(url) < 300 for url in self.urls):
            raise ValueError("an address begins with stun:, stuns:, turn: or turns:")
        if any(url.startswith("turn") for url in self.urls) and (self.username is None or self.credential is None):
            raise ValueError("a TURN server needs username and credential")
        return self


_ANY: TypeAdapter[list[IceServer]] = TypeAdapter(list[IceServer])


def ice_servers(source: str | Path | None) -> list[IceServer]:
    """The servers that are to be used; none: nobody is asked.

    Args:
        source: address of a STUN server (``stun:host:port``), or a JSON file with a list as in the ``iceServers`` of
            WebRTC; None: what the environment variable `VARIABLE` holds, in either form or as the JSON itself.

    Raises:
        InputError: it is none of them. The sentence holds no credential.
    """
    where = f"the environment variable {VARIABLE}" if source is None else str(source)
    text = os.environ.get(VARIABLE, "").strip() if source is None else str(source)
    if not text:
        return []
    if text.startswith(("stun:", "stuns:")):
        return [IceServer.model_validate({"urls": text})]
    try:
        return _ANY.validate_json(text if text.startswith("[") else _content(Path(text)))
    except OSError as error:
        raise InputError(f"{where}: the ICE servers cannot be read ({reason(error)}).") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{where}: give a list of servers, each with urls and, for TURN, username and credential "
            f"({place + ': ' if place else ''}{first['msg'].lower()})."
        ) from None


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MOST_BYTES)
