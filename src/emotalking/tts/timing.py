"""Times of words and phonemes: aligned with a recording, kept through a change of tempo, written to files and read.

Source of the alignment: dynamic time warping (Sakoe and Chiba 1978) against synthesised speech, as in aeneas and,
before it, Malfrere and Dutoit 1997; the spectra are normalised log-mel steps, which forget voice and microphone. Files
are JSON, which is read back, and Praat's TextGrid.
"""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import av.error
import numpy as np
from av.filter import Graph
from jaxtyping import Float, Float32, Int

from emotalking.audio.mel import HOP, log_mel
from emotalking.errors import InputError
from emotalking.io.audio import SAMPLE_RATE
from emotalking.io.files import write_bytes
from emotalking.io.reading import parse_json, read_text, reading
from emotalking.tts.base import TimedLabel, Utterance

_STEP_S = HOP / SAMPLE_RATE
_PIECE = 4096
"""Samples fed at once."""
_STALL = 0.4
"""Cost of a recorded step without a step of the reading, or with two, relative to the mean distance: keeps the path
near the diagonal where the spectra do not decide."""

ENDINGS = (".json", ".textgrid")


def warped(reading: Utterance, recording: Utterance) -> Utterance:
    """``recording`` with the times of ``reading``, moved to where the recording has the same phonemes.

    Words and phonemes without a place in the recording are left out. Unchanged if one of them is silent, or the
    recording is less than half as long as the reading.
    """
    source, target = (log_mel([each.samples])[:] for each in (reading, recording))
    if not source.any() or not target.any():
        return recording
    first, last = _extent(source)
    if last - first + 2 > 2 * len(target) - 1:
        return recording
    # A step of silence at both ends of the reading takes what the recording has before and behind the words.
    steps = first - 1 + warp_path(target, np.pad(source[first:last], ((1, 1), (0, 0))))

    def warp(times_s: np.ndarray) -> np.ndarray:
        edges = times_s / _STEP_S
        return np.interp(edges.clip(first, last), steps + 0.5, np.arange(len(steps)) + 0.5) * _STEP_S

    return replace(recording, words=_moved(reading.words, warp), phonemes=_moved(reading.phonemes, warp))


def _moved(
    timed: tuple[TimedLabel, ...] | None, warp: Callable[[np.ndarray], np.ndarray]
) -> tuple[TimedLabel, ...] | None:
    """Labels at other times; those that are left without length are dropped."""
    if timed is None:
        return None
    times = warp(np.array([[each.start_s, each.end_s] for each in timed]).reshape(-1, 2))
    placed = zip(timed, times, strict=True)
    return tuple(TimedLabel(each.label, float(start), float(end)) for each, (start, end) in placed if end > start)


def _extent(spectra: np.ndarray) -> tuple[int, int]:
    """First step that is not silent, and the one behind the last."""
    audible = np.flatnonzero(spectra.any(1))
    return int(audible[0]), int(audible[-1]) + 1


def warp_path(
    target: Float[np.ndarray, "n channels"], source: Float[np.ndarray, "m channels"]
) -> Int[np.ndarray, " n"]:
    """For each target step the most similar source step: non-decreasing, from the first to the last.

    Each target step takes the same source step again, the next, or the one after the next, which needs m < 2 n.
    """
    n, m = len(target), len(source)
    squares = (target**2).sum(1)[:, None] + (source**2).sum(1)[None] - 2.0 * target @ source.T
    distance = np.sqrt(np.maximum(squares, 0.0))
    uneven = np.where(source.any(1), _STALL * distance.mean(), 0.0)  # silence may last
    total = np.full(m, np.inf)
    total[0] = distance[0, 0]
    moves = np.zeros((n, m), np.uint8)
    for step in range(1, n):
        options = np.full((3, m), np.inf)
        options[0] = total + uneven
        options[1, 1:] = total[:-1]
        options[2, 2:] = total[:-2] + uneven[2:]
        moves[step] = options.argmin(0)
        total = options.min(0) + distance[step]
    path = np.empty(n, np.int64)
    path[-1] = m - 1
    for step in range(n - 1, 0, -1):
        path[step - 1] = max(path[step] - moves[step, path[step]], 0)
    return path


def change_tempo(samples: Float[np.ndarray, " n"], rate: float) -> Float32[np.ndarray, " m"]:
    """``samples`` (16 kHz mono) played ``rate`` times as fast (0.5 to 100) without a change of pitch.

    FFmpeg's ``atempo``: waveform similarity overlap-add (Verhelst and Roelands 1993).
    """
    graph = Graph()
    source = graph.add_abuffer(sample_rate=SAMPLE_RATE, format="flt", layout="mono", time_base=None)
    tempo, sink = graph.add("atempo", f"{rate:.6f}"), graph.add("abuffersink")
    source.link_to(tempo)
    tempo.link_to(sink)
    graph.configure()
    pieces: list[np.ndarray] = []

    def drain() -> None:
        while True:
            try:
                pieces.append(graph.pull().to_ndarray()[0])  # type: ignore[union-attr]
            except (av.error.BlockingIOError, av.error.EOFError):
                return

    for start in range(0, len(samples), _PIECE):
        piece = np.ascontiguousarray(samples[None, start : start + _PIECE], np.float32)
        frame = av.AudioFrame.from_ndarray(piece, format="flt", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, start
        graph.push(frame)
        drain()
    graph.push(None)
    drain()
    return np.concatenate([np.zeros(0, np.float32), *pieces]).clip(-1.0, 1.0)


def at_tempo(utterance: Utterance, rate: float) -> Utterance:
    """The same words ``rate`` times as fast, their times with them."""
    if rate == 1.0:
        return utterance

    return replace(
        utterance,
        samples=change_tempo(utterance.samples, rate),
        words=_moved(utterance.words, lambda times_s: times_s / rate),
        phonemes=_moved(utterance.phonemes, lambda times_s: times_s / rate),
        rate=utterance.rate * rate,
    )


def write_times(path: str | Path, utterance: Utterance) -> None:
    """Write the times of an utterance; the ending chooses between JSON and TextGrid.

    Raises:
        InputError: another ending, or the times are not known.
    """
    path = Path(path)
    check_ending(path)
    if utterance.words is None or utterance.phonemes is None:
        raise InputError(f"the times of {utterance.text[:40]!r} are not known, so that {path} was not written.")
    text = _json(utterance) if path.suffix.lower() == ".json" else _text_grid(utterance)
    write_bytes(path, text.encode("utf-8", "replace"))  # a terminal may hand on halves of characters


def check_ending(path: Path) -> None:
    """Refuse a file that :func:`write_times` cannot write.

    Raises:
        InputError: its ending is another.
    """
    if path.suffix.lower() not in ENDINGS:
        raise InputError(f"times cannot be written to {path}: use the suffix .json or .TextGrid.")


def read_times(path: Path, samples: Float32[np.ndarray, " n"]) -> Utterance:
    """The utterance whose times are in a JSON file of :func:`write_times`, with its sound.

    Raises:
        InputError: the file is not such a file, or its times do not fit the sound.
    """
    with reading(path, "does not hold the times of a recording", "remove it"):
        facts = parse_json(read_text(path), dict)
        words, phonemes = (
            tuple(TimedLabel(str(each["label"]), float(each["start_s"]), float(each["end_s"])) for each in facts[kind])
            for kind in ("words", "phonemes")
        )
        made = Utterance(
            str(facts["text"]),
            str(facts["language"]),
            str(facts["voice"]),
            samples,
            words,
            phonemes,
            float(facts["rate"]),
        )
        edges = [edge for each in (*words, *phonemes) for edge in (each.start_s, each.end_s)]
        if not all(map(math.isfinite, [*edges, made.rate])) or made.rate <= 0:
            raise ValueError("a time or a rate that is not finite")
    for timed in (words, phonemes):
        edges = [edge for each in timed for edge in (each.start_s, each.end_s)]
        if edges != sorted(edges) or (edges and not 0 <= edges[0] <= edges[-1] <= made.seconds + 1 / SAMPLE_RATE):
            raise InputError(
                f"the times in {path} are out of order or beyond the sound of {made.seconds:.2f} s: remove it."
            )
    return made


def _json(utterance: Utterance) -> str:
    facts = {name: getattr(utterance, name) for name in ("text", "language", "voice", "rate", "seconds")}
    facts |= {
        kind: [
            {"label": each.label, "start_s": round(each.start_s, 5), "end_s": round(each.end_s, 5)}
            for each in getattr(utterance, kind)
        ]
        for kind in ("words", "phonemes")
    }
    return json.dumps(facts, indent=1, ensure_ascii=False) + "\n"


def _text_grid(utterance: Utterance) -> str:
    """Praat's long text form: two interval tiers without gaps, silence as empty labels."""
    tiers = {"words": utterance.words or (), "phonemes": utterance.phonemes or ()}
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    lines += ["xmin = 0", f"xmax = {utterance.seconds:.6f}", "tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, timed) in enumerate(tiers.items(), 1):
        intervals = without_gaps(timed, utterance.seconds)
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f'        name = "{name}"']
        lines += ["        xmin = 0", f"        xmax = {utterance.seconds:.6f}"]
        lines += [f"        intervals: size = {len(intervals)}"]
        for index, each in enumerate(intervals, 1):
            label = each.label.replace('"', '""')
            lines += [f"        intervals [{index}]:", f"            xmin = {each.start_s:.6f}"]
            lines += [f"            xmax = {each.end_s:.6f}", f'            text = "{label}"']
    return "\n".join(lines) + "\n"


def without_gaps(timed: tuple[TimedLabel, ...], seconds: float) -> list[TimedLabel]:
    """``timed`` with the silences between, before and behind as intervals with an empty label."""
    whole: list[TimedLabel] = []
    reached = 0.0
    for each in timed:
        if each.start_s > reached:
            whole.append(TimedLabel("", reached, each.start_s))
        if each.end_s > each.start_s:
            whole.append(each)
        reached = max(reached, each.end_s)
    if seconds > reached or not whole:
        whole.append(TimedLabel("", reached, seconds))
    return whole
