"""Report of an evaluation as data, and its JSON."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from emotalking.errors import InputError
from emotalking.evaluate.config import Scenario
from emotalking.evaluate.metrics import METRICS, Metric, single
from emotalking.io.files import write_bytes
from emotalking.io.reading import parse_json, read_text, reading

FORMAT, VERSION = "emotalking-evaluation", 2
AVATAR, RECORDED = "avatar", "recorded video"
"""The two systems of a report; the second is the subject's own recording, measured in the same way."""
NEUTRAL = "avatar, neutral"
"""The avatar under the neutral command, beside the commanded points: it has readings, and no metrics of its own."""

_DIGITS = 7
"""Significant digits of values per frame; the metrics themselves are stored in full."""


@dataclass(frozen=True)
class Run:
    """One system on one run of consecutive frames."""

    system: str
    """:data:`AVATAR`, :data:`RECORDED` or :data:`NEUTRAL`."""
    title: str
    """"held-out frames", the sound's name, or the commanded point."""
    frames: int
    metrics: dict[str, Metric]
    subject_frames: str = ""
    """The subject's frame of each, as runs such as "1617-1640"; empty where there is none."""
    sound: str = ""
    sound_sha256: str = ""
    commanded: tuple[float, float] | None = None
    """Valence and arousal, where one pair holds for all frames."""
    label: str = ""
    """The emotion that a classifier should read at the commanded point."""
    observed: dict[str, Any] = field(default_factory=dict)
    """Record of what was observed (:func:`emotalking.evaluate.scenarios.observation_record`)."""


@dataclass(frozen=True)
class ReportImage:
    """An image file of a scenario, for the page."""

    file: str
    """Relative to the report's folder."""
    caption: str


@dataclass(frozen=True)
class Result:
    """One finished scenario."""

    scenario: Scenario
    key: str
    """Fingerprint of its inputs, by which an interrupted evaluation reuses it."""
    seconds: float
    runs: tuple[Run, ...]
    images: tuple[ReportImage, ...] = ()
    notes: tuple[str, ...] = ()
    """Limits of the metrics, for the reader."""

    def of(self, system: str) -> tuple[Run, ...]:
        """The runs of one system."""
        return tuple(run for run in self.runs if run.system == system)

    def summary(self, system: str) -> dict[str, Metric]:
        """The metrics of a system over all its runs (:func:`pool`)."""
        return pool([run.metrics for run in self.of(system)])


@dataclass(frozen=True)
class Report:
    """Results and provenance of one evaluation."""

    options: dict[str, Any]
    """``EvaluateConfig`` with the paths of avatar and subject."""
    provenance: dict[str, Any]
    """Record of ``provenance.provenance``, with the models, the avatar's training and the evaluation's device."""
    results: tuple[Result, ...]
    command: str = ""

    def result(self, scenario: str) -> Result | None:
        """A scenario's result, if it was evaluated."""
        return next((result for result in self.results if result.scenario == scenario), None)


def pool(runs: Sequence[Mapping[str, Metric]]) -> dict[str, Metric]:
    """The metrics of several runs as one: over all their frames where values per frame are there, else their mean
    weighted by frames. A metric that some run lacks states it.
    """
    if len(runs) == 1:
        return dict(runs[0])
    names = dict.fromkeys(name for metrics in runs for name in metrics)
    return {name: _pooled([metrics[name] for metrics in runs if name in metrics]) for name in names}


def _pooled(parts: Sequence[Metric]) -> Metric:
    there = [part for part in parts if not math.isnan(part.value)]
    if not there:
        return parts[0]
    frames, missing = sum(part.frames for part in there), sum(part.missing for part in parts)
    series = [part.per_frame for part in there if part.per_frame is not None]
    if len(series) == len(there):
        values = np.concatenate(series)
        known = values[~np.isnan(values)]
        value = METRICS[parts[0].name].summary(known)
        return replace(there[0], value=value, frames=frames, missing=missing, per_frame=values)
    weights = np.array([max(part.frames, 1) for part in there], np.float64)
    value = float(np.average([part.value for part in there], weights=weights))
    return single(parts[0].name, value, there[0].model, frames, missing)


def to_json(value: object) -> Any:
    """Plain values: nan becomes null, infinities "inf" and "-inf", arrays lists."""
    if isinstance(value, Metric | Run | Result | Report | ReportImage):
        return {name: to_json(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, np.ndarray):
        return [to_json(item) for item in _rounded(value).tolist()]
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return str(value) if isinstance(value, Path) else value


def _rounded(values: np.ndarray) -> np.ndarray:
    """Values per frame to :data:`_DIGITS` significant digits, so that a report stays readable."""
    if values.dtype.kind != "f":
        return values
    return np.array([float(f"{value:.{_DIGITS}g}") for value in values.ravel()], np.float64).reshape(values.shape)


def write_report(report: Report, path: Path) -> None:
    """Write ``report`` as JSON."""
    write_json(path, {"format": FORMAT, "version": VERSION} | to_json(report))


def read_report(path: Path) -> Report:
    """Read a report.

    Raises:
        InputError: the file is missing, no report, or of a newer program.
    """
    data = _read(path)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InputError(f"{path} is no report of an evaluation: give the report.json that an evaluation wrote.")
    if data.get("version") != VERSION:
        raise InputError(
            f"{path} has version {str(data.get('version'))[:20]}, this program reads {VERSION}: update emotalking."
        )
    with reading(path, "lacks something that a report has", "evaluate again"):
        results = tuple(_result(item) for item in data["results"])
        return Report(dict(data["options"]), data["provenance"], results, data["command"])


def read_result(path: Path, key: str) -> Result | None:
    """Read a finished scenario if its key equals ``key``."""
    try:
        with reading(path, "is no result of an evaluation", "evaluate again"):
            result = _result(_read(path))
    except InputError:
        return None
    whole = all((path.parent / image.file).is_file() for image in result.images)
    return result if result.key == key and whole else None


def _result(data: dict[str, Any]) -> Result:
    runs = tuple(_run(item) for item in data["runs"])
    images = tuple(ReportImage(**item) for item in data["images"])
    return Result(data["scenario"], data["key"], float(data["seconds"]), runs, images, tuple(data["notes"]))


def _run(data: dict[str, Any]) -> Run:
    commanded = data["commanded"]
    metrics = {name: _metric(item) for name, item in data["metrics"].items()}
    pair = None if commanded is None else (float(commanded[0]), float(commanded[1]))
    return Run(**(data | {"metrics": metrics, "commanded": pair}))


def _metric(data: dict[str, Any]) -> Metric:
    series = data["per_frame"]
    return Metric(**(data | {"value": number(data["value"]), "per_frame": None if series is None else array(series)}))


def number(value: float | int | str | None) -> float:
    """Inverse of :func:`to_json` for one number."""
    return math.nan if value is None else float(value)


def array(values: Sequence[Any]) -> Float[np.ndarray, "..."]:
    """Inverse of :func:`to_json` for an array."""
    nested = [array(item) if isinstance(item, list) else number(item) for item in values]
    return np.array(nested, np.float64)


def make_folder(folder: Path) -> None:
    """Make the folder of a report.

    Raises:
        InputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be made ({error.strerror}): choose another.") from error


def write_json(path: Path, data: object) -> None:
    """Write plain values and the records of this module; see :func:`to_json`."""
    text = json.dumps(to_json(data), indent=1, allow_nan=False)
    # Lists of numbers on one line each: no string is in them, so none can be changed.
    text = re.sub(r"\[\n\s+([^\[\]{}\"]*?)\n\s+\]", lambda list_: f"[{' '.join(list_[1].split())}]", text)
    write_bytes(path, f"{text}\n".encode())


def _read(path: Path) -> Any:
    with reading(path, "is not whole JSON", "give a report.json"):
        return parse_json(read_text(path))
