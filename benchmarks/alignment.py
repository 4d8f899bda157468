"""Error of aligned word times, on clips with known word times, against words spread evenly over the speech.

EMOTALKING_DATA=DIR python benchmarks/alignment.py   (DIR/clips/grid_s1: GRID corpus, *.mpg with *.align)
"""

import argparse
import os
from pathlib import Path

import numpy as np
from _report import write

from emotalking.audio.mel import HOP, log_mel
from emotalking.io.audio import load_audio
from emotalking.progress import track
from emotalking.tts.base import SAMPLE_RATE, TimedLabel, Utterance
from emotalking.tts.timing import align

UNITS_A_SECOND = 25_000
"""Of the .align files: 1000 units are one frame of 25 a second."""


def known_words(path: Path) -> tuple[TimedLabel, ...]:
    """Words of an .align file, without the silences."""
    rows = [line.split() for line in path.read_text().splitlines()]
    return tuple(
        TimedLabel(word, int(a) / UNITS_A_SECOND, int(b) / UNITS_A_SECOND)
        for a, b, word in rows
        if word not in ("sil", "sp")
    )


def evenly(samples: np.ndarray, words: tuple[TimedLabel, ...]) -> tuple[TimedLabel, ...]:
    """The words at equal lengths from the first sounding step to the last."""
    sounding = np.flatnonzero(log_mel([samples])[:].any(1)) * HOP / SAMPLE_RATE
    edges = np.linspace(sounding[0], sounding[-1], len(words) + 1)
    return tuple(TimedLabel(w.label, float(a), float(b)) for w, a, b in zip(words, edges[:-1], edges[1:], strict=True))


def errors(found: tuple[TimedLabel, ...], truth: tuple[TimedLabel, ...]) -> list[float]:
    """Milliseconds, of every start and end."""
    pairs = zip(found, truth, strict=True)
    return [1e3 * abs(e) for a, b in pairs for e in (a.start_s - b.start_s, a.end_s - b.end_s)]


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    clips = sorted((Path(os.environ["EMOTALKING_DATA"]) / "clips" / "grid_s1").glob("*.align"))
    aligned, spread, incomplete = list[float](), list[float](), 0
    for path in track(clips, "align"):
        truth, samples = known_words(path), load_audio(path.with_suffix(".mpg"))
        text = " ".join(word.label for word in truth)
        found = align(Utterance(text, "en-gb", "recorded", samples, None, None)).words or ()
        if [word.label for word in found] != [word.label for word in truth]:
            incomplete += 1
            continue
        aligned += errors(found, truth)
        spread += errors(evenly(samples, truth), truth)
    results: dict[str, float | dict[str, float]] = {"clips": len(clips), "clips_with_a_word_lost": incomplete}
    for name, values in (("aligned", aligned), ("spread evenly", spread)):
        low, high = np.percentile(values, [50, 90])
        results[name] = {"median_ms": float(low), "mean_ms": float(np.mean(values)), "p90_ms": float(high)}
        print(f"{name:<14} median {low:.0f} ms, mean {np.mean(values):.0f} ms, 90 % below {high:.0f} ms")
    print(f"{len(clips)} clips, {incomplete} with a word lost; {write('alignment', results)}")


if __name__ == "__main__":
    main()
