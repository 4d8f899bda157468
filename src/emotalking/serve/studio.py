"""The Studio page: the files of the folder ``page``, served as they are, and the voices that it offers."""

from collections.abc import Callable
from importlib.resources import files
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from emotalking.tts.backends import open_synthesizer

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_HEADERS = {"Cache-Control": "no-cache"}


def page_router(place: Callable[[], str | None] = lambda: None) -> APIRouter:
    """Make a route for each file of the page, ``/`` for ``index.html``, and those for what can be chosen to speak, and
    for where sessions are.

    The files are read once.

    Args:
        place: gives the address of a server for a new session; None: this one.
    """
    router = APIRouter()

    @router.get("/v1/place")
    def find_place() -> dict[str, str | None]:
        return {"address": place()}

    router.add_api_route("/v1/voices", voices)
    for file in (files("emotalking.serve") / "page").iterdir():
        media_type = _TYPES.get(file.name.rpartition(".")[2])
        if media_type is None:
            continue
        paths = ("/", "/index.html") if file.name == "index.html" else (f"/{file.name}",)
        for path in paths:
            router.add_api_route(path, _answer(file.read_bytes(), media_type), methods=["GET", "HEAD"])
    return router


def _answer(content: bytes, media_type: str) -> Callable[[], Response]:
    return lambda: Response(content, media_type=media_type, headers=_HEADERS)


def voices(language: Annotated[str, Query(max_length=20)] = "en") -> dict[str, tuple[str, ...]]:
    """Voices of a language, and all languages.

    Raises:
        InputError: nobody speaks it.
    """
    synthesizer = open_synthesizer("auto")
    return {"voices": synthesizer.voices(language), "languages": synthesizer.languages()}
