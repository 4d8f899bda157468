"""The HTTP application: session protocol, avatars, health and metrics; other parts are mounted as routers."""

from collections.abc import Sequence

from fastapi import APIRouter, FastAPI

from emotalking import __version__
from emotalking.serve.scheduler import Scheduler
from emotalking.serve.settings import ServeSettings


def make_app(scheduler: Scheduler, settings: ServeSettings, routers: Sequence[APIRouter] = ()) -> FastAPI:
    """Make the application.

    Args:
        scheduler: with the avatars; the caller starts and stops it.
        settings: as the scheduler's.
        routers: further parts: the page, jobs, WebRTC. Their handlers find the scheduler and the settings as
            ``request.app.state.scheduler`` and ``request.app.state.settings``. All they serve below ``/v1`` is behind
            the token.
    """
    app = FastAPI(title="emotalking", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.scheduler, app.state.settings = scheduler, settings

    @app.get("/health")
    def health() -> dict[str, object]:
        return {"status": "ok", "version": __version__, "sessions": len(scheduler.sessions)}

    for router in routers:
        app.include_router(router)
    return app
