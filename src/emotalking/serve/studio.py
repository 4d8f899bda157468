"""The Studio page: the files of the folder ``page``, served as they are."""

from collections.abc import Callable
from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import Response

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_HEADERS = {"Cache-Control": "no-cache"}


def page_router() -> APIRouter:
    """Make a route for each file of the page, and ``/`` for ``index.html``; the files are read once."""
    router = APIRouter()
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
