"""The HTTP application: session protocol, avatars, health and metrics; other parts are mounted as routers."""

from collections.abc import Sequence
from urllib.parse import quote

from fastapi import APIRouter, FastAPI, HTTPException, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, Response
from starlette.routing import WebSocketRoute

from emotalking import __version__
from emotalking.emotion.circumplex import PRESETS
from emotalking.errors import InputError
from emotalking.serve.encoding import encode
from emotalking.serve.safety import Guard
from emotalking.serve.scheduler import Scheduler
from emotalking.serve.settings import ServeSettings
from emotalking.serve.websocket import SessionSocket


def make_app(scheduler: Scheduler, settings: ServeSettings, routers: Sequence[APIRouter] = ()) -> FastAPI:
    """Make the application.

    Args:
        scheduler: with the avatars, started; the caller stops it.
        settings: as the scheduler's.
        routers: further parts: the page, jobs, WebRTC. Their handlers find the scheduler and the settings as
            ``request.app.state.scheduler`` and ``request.app.state.settings``; what a router starts, its ``lifespan``
            ends. All that they serve below ``/v1/`` is behind the token; bodies are at most 64 KiB, but below
            ``/v1/jobs``. An `InputError` of a handler is answered with status 400 and its sentence.
    """
    app = FastAPI(title="emotalking", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.scheduler, app.state.settings = scheduler, settings
    app.router.routes.append(WebSocketRoute("/v1/session", SessionSocket(scheduler, settings).serve))
    app.add_exception_handler(InputError, _complain)
    app.include_router(_facts(scheduler))
    for router in routers:
        app.include_router(router)
    app.add_middleware(Guard, settings=settings, metrics=scheduler.metrics)
    return app


def _complain(request: Request, error: Exception) -> Response:
    """A sentence for what the client can change."""
    return JSONResponse({"error": str(error)}, status_code=400)


def _facts(scheduler: Scheduler) -> APIRouter:
    """Avatars, health and metrics."""
    router = APIRouter()

    @router.get("/health")
    def health() -> dict[str, object]:
        return {"status": "stopping" if scheduler.stopping else "ok", "version": __version__}

    @router.get("/metrics")
    def metrics() -> Response:
        return Response(scheduler.metrics.page(), media_type=CONTENT_TYPE_LATEST)

    @router.get("/v1/avatars")
    def avatars() -> dict[str, object]:
        known = [_about(name, scheduler) for name in scheduler.avatars]
        return {"avatars": known, "emotions": PRESETS, "synthetic": True}

    @router.get("/v1/avatars/{name}/image")
    def image(name: str) -> Response:
        if name not in scheduler.images:
            raise HTTPException(404, "there is no avatar of this name")
        return Response(encode(scheduler.images[name][..., :3], "jpeg", 85)[0], media_type="image/jpeg")

    return router


def _about(name: str, scheduler: Scheduler) -> dict[str, object]:
    avatar = scheduler.avatars[name]
    return {
        "name": name,
        "width": avatar.width,
        "height": avatar.height,
        "fps": float(avatar.fps),
        "emotional": avatar.emotional,
        "thumbnail": f"/v1/avatars/{quote(name, safe='')}/image",
    }
