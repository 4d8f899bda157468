"""Results of `prepare` for every clip of a folder: verdict, clock, offset, time and memory of the steps, errors.

python benchmarks/capture.py [CLIP ...] [--work FOLDER] [--seconds X] [--one CLIP FOLDER ...]

Clips, or folders of them, of which --seconds uses only the beginning; the synthetic actor is one more clip. Every clip
is prepared in a process of its own, into --work or a temporary folder. Prints a Markdown table; everything measured
goes to results/capture.json.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import _report

VIDEOS = (".mp4", ".mov", ".mkv", ".avi", ".mpg", ".webm", ".m4v")
ACTOR_S, ACTOR_SIZE = 16.0, 256
COLUMNS = (
    "clip", "verdict", "fps stored / true", "used s", "sound late ms (confidence)", "s per minute of video", "peak MB",
    "reprojection px", "jitter px before / after", "masks",
)  # fmt: skip


def one(clip: Path, out: Path, seconds: float | None) -> dict[str, Any]:
    """Prepare one clip in this process; what cannot be used is told, not raised."""
    from emotalking.errors import InputError
    from emotalking.preprocess.check.clip import check_clip
    from emotalking.preprocess.config import PrepareConfig
    from emotalking.preprocess.prepare import prepare

    try:
        manifest = prepare(clip, out, PrepareConfig(seconds=seconds)).manifest
    except InputError as error:
        try:
            verdict = check_clip(clip).verdict
        except InputError:
            verdict = "unusable"
        return {"clip": clip.name, "verdict": verdict, "refused": str(error).replace(str(clip), clip.name)}
    return {
        "clip": clip.name,
        "verdict": manifest["check"]["verdict"],
        "warnings": manifest["warnings"],
        "fps": manifest["fps"],
        "frames": manifest["frames"],
        "part_s": manifest["part"],
        "providers": manifest["providers"],
        "steps": {name: {k: v for k, v in facts.items() if k != "key"} for name, facts in manifest["steps"].items()},
        "peak_mb": _report.peak_mb(),
    }


def film_actor(folder: Path) -> Path:
    """The actor's clip, 16 s."""
    from emotalking.testing.actor.performance import Performance
    from emotalking.testing.demo import film

    clip = folder / "actor.mp4"
    if not clip.exists():
        film(clip, Performance.generate(ACTOR_S, seed=1), ACTOR_SIZE)
    return clip


def run(clip: Path, work: Path, seconds: float | None) -> dict[str, Any]:
    """:func:`one` in a process of its own; a crash is a row too."""
    command = [sys.executable, __file__, "--one", str(clip), str(work / clip.stem)]
    command += [] if seconds is None else ["--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"clip": clip.name, "verdict": "crashed", "refused": done.stderr.strip().splitlines()[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def row(found: dict[str, Any]) -> list[str]:
    """One line of the table."""
    if "steps" not in found:
        return [found["clip"], found["verdict"], found["refused"], *[""] * (len(COLUMNS) - 3)]
    steps = found["steps"]
    clock, offset, pose = steps["clock"], steps["audio offset"], steps["pose"]
    used = found["part_s"][1] - found["part_s"][0]
    per_minute = [(name, facts["seconds"] * 60 / used) for name, facts in steps.items()]
    masks = {k: v for k, v in steps["masks"].items() if isinstance(v, float) and k != "seconds"}
    late = "-" if "measured_s" not in offset else f"{1000 * offset['measured_s']:.0f} ({offset['confidence']:.2f})"
    return [
        found["clip"],
        found["verdict"],
        f"{float_rate(clock['stored_fps'])} / {float_rate(clock['true_fps'])}",
        f"{used:.1f}",
        late,
        f"**{sum(value for _, value in per_minute):.0f}**: "
        + ", ".join(f"{name} {value:.0f}" for name, value in per_minute if value >= 0.5),
        str(found["peak_mb"]),
        number(pose, "reprojection_px"),
        f"{number(pose, 'jitter_landmarks_px')} / {number(pose, 'jitter_px')}",
        ", ".join(f"{name} {value:.3g}" for name, value in masks.items()) or "-",
    ]


def float_rate(text: str) -> str:
    """A rational rate for reading."""
    above, _, below = text.partition("/")
    return f"{int(above) / int(below or 1):.5g}"


def number(facts: dict[str, Any], name: str) -> str:
    """A figure, or a dash where this step does not record it."""
    return f"{facts[name]:.3f}" if name in facts else "-"


def main() -> None:
    """Prepare all clips and print the table."""
    args = _report.arguments(__doc__)
    if args.one:
        print(json.dumps(one(args.one[0], args.one[1], args.seconds)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        work = args.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        clips = [film_actor(work)]
        for place in args.clips:
            inside = sorted(p for p in place.iterdir() if p.suffix.lower() in VIDEOS) if place.is_dir() else [place]
            clips += inside
        print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS), flush=True)
        results = []
        for clip in clips:
            results.append(run(clip, work, args.seconds))
            print("| " + " | ".join(cell.replace("|", "/") for cell in row(results[-1])) + " |", flush=True)
    print(f"\nwritten: {_report.write('capture', {'clips': results}).name}")


if __name__ == "__main__":
    main()
