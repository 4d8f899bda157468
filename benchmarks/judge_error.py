"""How much the embedded judges err themselves: no avatar can score better than its judge.

python benchmarks/judge_error.py [--judge landmarks] [--seeds N] [--subject FOLDER]

1. On actors of every look, whose valence and arousal are known exactly: a clip in which they mostly rest, then a run at
   each of the twelve test points while they talk; RMSE, sign agreement, accuracy of the labels.
2. On recorded frames that only passed through another JPEG: what LMD and AUE are for next to no change.
"""

import argparse
import math
import sys
import tempfile
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from _report import write

from emotalking.actor.actor import Actor
from emotalking.actor.performance import Performance
from emotalking.actor.style import STYLES, ActorStyle
from emotalking.capture.actor_source import write_actor_subject
from emotalking.emotion.circumplex import TEST_POINTS
from emotalking.evaluate.judges import Judges
from emotalking.evaluate.score import Scored, measure
from emotalking.subject import Subject
from emotalking.subject.layouts import FaceLayout

REST_S, RUN_S, SIZE = 8.0, 1.2, 256
"""Seconds of rest and of each point; side of the pictures."""
NAMES = ("v_rmse", "a_rmse", "v_sa", "a_sa", "e_top1", "e_top3")


def actor_subject(folder: Path, style: ActorStyle, seed: int) -> tuple[Subject, Actor]:
    """A subject folder with a person who mostly rests."""
    script, actor = Performance.generate(REST_S, seed), Actor(style, SIZE)
    states = (actor.render(state) for state in script.states)
    layout = FaceLayout(**asdict(actor.layout))
    rate = Fraction(25)
    return write_actor_subject(folder, states, script.waveform, rate, layout, actor.neutral_landmarks()), actor


def on_actor(judges: Judges, style: ActorStyle, seed: int) -> Scored:
    """The twelve points played by an actor who talks meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        subject, actor = actor_subject(Path(folder) / "subject", style, seed)
        script = Performance.generate(RUN_S * len(TEST_POINTS), seed + 100)
        length = len(script.states) // len(TEST_POINTS)
        va = np.repeat([(point.valence, point.arousal) for point in TEST_POINTS], length, 0)
        states = [
            replace(state, valence=float(v), arousal=float(a))
            for state, (v, a) in zip(script.states[: len(va)], va, strict=True)
        ]
        frames = (actor.render(state).image for state in states)
        return measure(frames, subject=subject, indices=None, va=va, judges=judges)


def through_jpeg(judges: Judges, subject: Subject, quality: int) -> dict[str, float]:
    """LMD and AUE of the recording against itself, compressed once more."""
    indices = subject.val_indices[:75]

    def again(index: int) -> np.ndarray:
        _, data = cv2.imencode(".jpg", subject.target(index), [cv2.IMWRITE_JPEG_QUALITY, quality])
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))

    frames = (again(int(index)) for index in indices)
    found = measure(frames, subject=subject, indices=indices, judges=judges).figures
    return {name: found[name].value for name in ("psnr", "lmd", "aue_u", "aue_l")}


def report(title: str, scored: Scored) -> dict[str, float | int]:
    """Prints and returns the figures of one actor."""
    found = {name: scored.figures[name].value for name in NAMES}
    found["missing"] = scored.figures["v_rmse"].missing
    print(f"{title:24s} " + "  ".join(f"{name} {value:.3f}" for name, value in found.items()), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subject", type=Path, help="a prepared subject for the JPEG test")
    parser.add_argument("--judge", default="landmarks")
    parser.add_argument("--seeds", type=int, default=1, help="performances of each look")
    args = parser.parse_args()
    judges = Judges.open(lpips="none", emotion=args.judge)
    assert judges.emotion is not None
    rows: dict[str, Any] = {"judge": judges.emotion.name, "actors": {}}
    for name, style in STYLES.items():
        for seed in range(args.seeds):
            title = f"{name}, seed {seed}"
            rows["actors"][title] = report(title, on_actor(judges, style, seed))
    tables = list(rows["actors"].values())
    rows["mean"] = {name: float(np.mean([t[name] for t in tables])) for name in NAMES}
    print("mean", {name: round(value, 3) for name, value in rows["mean"].items()})
    rows["rmse_of_a_reader_that_always_says_0"] = math.sqrt(float(np.mean([p.valence**2 for p in TEST_POINTS])))
    if args.subject is not None:
        rows["jpeg"] = {q: through_jpeg(judges, Subject.open(args.subject), q) for q in (95, 75)}
        print(rows["jpeg"])
    print(write("judge_error", rows))


if __name__ == "__main__":
    main()
