"""Routes of clips and jobs, below ``/v1/jobs``."""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, StringConstraints
from starlette.requests import ClientDisconnect

from emotalking.errors import InputError
from emotalking.provenance.consent import MOST_TEXT
from emotalking.serve.jobs import PRESETS, SIZES, Clip, Job, JobError, Jobs
from emotalking.train.callbacks.log import LOG, of_kind, preview_image, stage_starts
from emotalking.train.callbacks.rows import read_log

_logger = logging.getLogger(__name__)
MOST_POINTS = 300
"""Points of a curve that a client is told."""
_QUALITIES = {"psnr": "Whole frame", "psnr_lips": "Lips", "psnr_mouth": "Inside of the mouth"}
_DIGITS = 18
"""Of the length of an upload."""
_PAGES = {"check": "check.html", "training": "avatar.safetensors.run/report.html"}
_PAGE_HEADERS = {"Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"}
"""A report is shown without scripts and without this origin's rights."""


class _Start(BaseModel):
    """What to do with a clip."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["check", "prepare", "train"]
    clip: str
    preset: Literal["tiny", "fast", "paper"] = "fast"
    size: Literal[256, 512] | None = None
    consent: Annotated[str, StringConstraints(strip_whitespace=True, max_length=MOST_TEXT)] = ""


def job_router(jobs: Jobs | None) -> APIRouter:
    """Make the routes.

    Args:
        jobs: None: the server takes no uploads, and says so.
    """
    router = APIRouter(prefix="/v1/jobs")

    @router.get("")
    def listing() -> dict[str, object]:
        if jobs is None:
            return {"enabled": False}
        return {
            "enabled": True,
            "max_bytes": jobs.max_bytes,
            "presets": PRESETS,
            "sizes": SIZES,
            "clips": [jobs.facts(clip) for clip in jobs.clips()],
            "jobs": [jobs.progress(job) for job in jobs.jobs()],
        }

    if jobs is not None:
        _add_clips(router, jobs)
        _add_jobs(router, jobs)
        _add_results(router, jobs)
    return router


def _add_clips(router: APIRouter, jobs: Jobs) -> None:
    @router.post("/clips", status_code=201)
    async def upload(request: Request, name: Annotated[str, Query(max_length=255)] = "clip") -> dict[str, object]:
        promised = request.headers.get("content-length", "0")
        if not promised.isdecimal() or len(promised) > _DIGITS or int(promised) > jobs.max_bytes:
            raise _too_large(jobs)
        with _refusals():
            part = jobs.new_file()
        try:
            await _receive(request, part, jobs)
            with _refusals():
                return jobs.facts(jobs.add(part, name))
        except ClientDisconnect:
            raise HTTPException(400, "the upload was broken off.") from None
        finally:
            part.unlink(missing_ok=True)

    @router.delete("/clips/{identity}", status_code=204)
    def remove(identity: str) -> None:
        with _refusals():
            jobs.remove(_clip(jobs, identity))


async def _receive(request: Request, part: Path, jobs: Jobs) -> None:
    """Write a body to a file as it comes, however long it claims to be."""
    count, unchecked = 0, 0
    with _refusals(), part.open("wb") as file:
        async for chunk in request.stream():
            count, unchecked = count + len(chunk), unchecked + len(chunk)
            if count > jobs.max_bytes:
                raise _too_large(jobs)
            if unchecked > 64 << 20:
                with _refusals():
                    jobs.check_space()
                unchecked = 0
            await run_in_threadpool(file.write, chunk)
    if count == 0:
        raise HTTPException(400, "the clip is empty.")


def _add_jobs(router: APIRouter, jobs: Jobs) -> None:
    @router.post("", status_code=201)
    def start(wanted: _Start) -> dict[str, object]:
        clip = _clip(jobs, wanted.clip)
        with _refusals():
            return jobs.progress(
                jobs.start(clip, wanted.kind, preset=wanted.preset, size=wanted.size, consent=wanted.consent)
            )

    @router.get("/{identity}")
    def state(identity: str) -> dict[str, object]:
        return jobs.progress(_job(jobs, identity))

    @router.post("/{identity}/cancel")
    def cancel(identity: str) -> dict[str, object]:
        job = _job(jobs, identity)
        jobs.cancel(job)
        return jobs.progress(job)


def _add_results(router: APIRouter, jobs: Jobs) -> None:
    @router.get("/clips/{identity}/training")
    def training(identity: str) -> dict[str, object]:
        folder = jobs.path(_clip(jobs, identity), "avatar.safetensors.run")
        try:
            return curves(read_log(folder / LOG)) if (folder / LOG).is_file() else {}
        except InputError:
            raise HTTPException(409, "the record of this training cannot be read.") from None

    @router.get("/clips/{identity}/frames/{name}")
    def frame(identity: str, name: str) -> FileResponse:
        folder = jobs.path(_clip(jobs, identity), "avatar.safetensors.run") / "frames"
        if name not in {file.name for file in folder.glob("*.jpg")}:
            raise HTTPException(404, "there is no such image.")
        return FileResponse(folder / name, media_type="image/jpeg")

    @router.get("/clips/{identity}/reports/{name}")
    def page(identity: str, name: str) -> FileResponse:
        clip = _clip(jobs, identity)
        file = jobs.path(clip, _PAGES[name]) if name in _PAGES else None
        if file is None or not file.is_file():
            raise HTTPException(404, "there is no such report yet.")
        return FileResponse(file, media_type="text/html", headers=_PAGE_HEADERS)

    @router.post("/clips/{identity}/avatar")
    def use(identity: str) -> dict[str, object]:
        clip = _clip(jobs, identity)
        with _refusals():
            return {"avatar": jobs.offer_avatar(clip)}


def curves(rows: Sequence[dict[str, Any]]) -> dict[str, object]:
    """A training's record as curves over the iterations of the whole run.

    Returns:
        ``stages`` (name, start, iterations), ``loss`` ([iteration, loss] of each stage), ``quality`` ([iteration, dB]
        by what is measured), ``images``, ``warnings``, ``speed`` in steps a second, and ``end`` (None: it goes on).
    """
    rows = list(rows)
    starts = stage_starts(rows)
    quality: dict[str, list[list[float]]] = {}
    loss: dict[str, list[list[float]]] = {}
    for stage, start in starts.items():
        steps = of_kind(rows, "step", stage)
        points = [[start + row["iteration"], row["loss"]] for row in steps if math.isfinite(row["loss"])]
        loss[stage] = points[:: max(1, math.ceil(len(points) / MOST_POINTS))]
    images: list[dict[str, object]] = []
    for row in of_kind(rows, "frames"):
        at = starts.get(row["stage"], 0) + row["iteration"]
        for key, title in _QUALITIES.items():
            if key in row and math.isfinite(row[key]):
                quality.setdefault(title, []).append([at, row[key]])
        if name := Path(preview_image(row)).name:
            images.append({"stage": row["stage"], "iteration": row["iteration"], "name": name})
    begun = max((at for at, row in enumerate(rows) if row["kind"] == "run"), default=0)
    ends, steps = of_kind(rows[begun:], "end"), of_kind(rows, "step")
    return {
        "stages": [
            {"name": row["stage"], "start": starts[row["stage"]], "iterations": row["iterations"]}
            for row in of_kind(rows, "stage")
        ],
        "loss": loss,
        "quality": quality,
        "images": images,
        "warnings": [row["text"] for row in of_kind(rows, "warning")],
        "speed": steps[-1]["steps_per_second"] if steps else None,
        "end": {"outcome": ends[-1]["outcome"], "why": ends[-1].get("why", "")} if ends else None,
    }


@contextmanager
def _refusals() -> Iterator[None]:
    """Answer with what cannot be done now."""
    try:
        yield
    except JobError as error:
        raise HTTPException(409, str(error)) from None
    except (InputError, OSError) as error:
        _logger.exception("a clip or job cannot be stored")
        raise HTTPException(507, "the server cannot store this now: its disk may be full.") from error


def _too_large(jobs: Jobs) -> HTTPException:
    return HTTPException(413, f"the clip is larger than {jobs.max_bytes / 1e9:.3g} GB: cut it, or make it smaller.")


def _clip(jobs: Jobs, identity: str) -> Clip:
    try:
        return jobs.clip(identity)
    except KeyError:
        raise HTTPException(404, "there is no such clip.") from None


def _job(jobs: Jobs, identity: str) -> Job:
    try:
        return jobs.job(identity)
    except KeyError:
        raise HTTPException(404, "there is no such job.") from None
