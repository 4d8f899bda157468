"""Prepare many clips: a subject folder of each, and one page about all of them."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from emotalking.io.files import holding
from emotalking.jobs.engine import Engine
from emotalking.jobs.job import Job, by_name
from emotalking.jobs.page import ManyResult, write_page
from emotalking.preprocess.config import PrepareConfig
from emotalking.preprocess.prepare import is_prepared, prepare


def prepare_many(videos: Sequence[Path], folder: Path, config: PrepareConfig, engine: Engine) -> ManyResult:
    """Make a subject folder of every clip; finished folders are kept, and started ones are completed.

    Args:
        videos: clips.
        folder: gets the subject folder ``<name>`` and ``<name>.log`` of each, and the page.
        config: options of all of them; its device is the engine's.
        engine: runs the preparations.

    Raises:
        InputError: two clips of one name; nothing is begun then.
    """
    names = by_name(videos, lambda video: video.stem)
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    config = replace(config, device=engine.device)
    jobs = []
    for name, video in names.items():
        out = folder / name
        work, finished = partial(_prepare, video, out, config), partial(is_prepared, video, out, config)
        jobs.append(Job(name, out, work, folder / f"{name}.log", finished))
    return write_page(engine.run(jobs), folder, "Subjects", "clips are prepared")


def _prepare(video: Path, out: Path, config: PrepareConfig) -> None:
    with holding(out):
        prepare(video, out, config)
