"""An avatar that speaks with emotions that move: quadrants, ways through the origin, a full circle, sudden changes.

    python benchmarks/emotion_motion.py AVATAR SUBJECT --audio WAV --out FOLDER [--seconds 12.0] [--acted CLIPS]
        [--neutral CLIP ...] [--device cpu] [--threads 1] [--name emotion_motion]

Every run says the first seconds of WAV with the recorded head motion, by the package's own player, so that frame t of
two runs differs by the emotion alone: "shift" is that difference from the neutral run, and a jump in it is the fault of
the emotion, whatever head and lips do. DIR gets a video with sound and pictures to look at of each run.

- "step": mean absolute change of the face's pixels from frame to frame (grey levels of 255), and how it compares with
  the same frames of the runs whose emotion stands still.
- "shift_step": the same of the shift; "jump" is the largest over the median of its ten neighbours. In the runs that
  stand still it is what speech and head do to an emotional face, and so the floor.
- "lips": the opening against the neutral run's, frame by frame, pixels.
- "units": what the embedded judge reads (its reference is SUBJECT); "fitted": what benchmarks/faces.py's regression
  from blendshapes reads (acted clips only); "fitted_change": that less its reading of the neutral run.
- "learned": on held-out frames, how far the avatar's face moves beside its targets' (mesh warp), by landmarks of the
  project's detector: the share of the targets' mean movement ("gain") and their likeness (cosine) in parts of the face.
  What is missing here training did not learn; what is weak in spite of it is weak in the targets.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from _expressive import BlendshapeReader, ibug68
from _report import arguments, write

from emotalking.data import Subject
from emotalking.data.frame import lip_gap
from emotalking.emotion.mesh_warp.warp import MeshWarpConfig
from emotalking.emotion.tracks import EmotionTrack
from emotalking.evaluate.evaluation_models import EvaluationModels
from emotalking.evaluate.held_out import pick_frames, reconstruct
from emotalking.evaluate.measure import measure
from emotalking.faces.edit import FaceEditor
from emotalking.faces.generators import open_generator
from emotalking.faces.source import SubjectFaces
from emotalking.io.audio import SAMPLE_RATE, iter_audio, load_audio
from emotalking.io.images import write_image
from emotalking.io.video_writer import AUDIO_RATE, VideoWriter
from emotalking.models.avatar import Avatar
from emotalking.ops.box import Box
from emotalking.ops.composite import to_uint8
from emotalking.player.player import Player
from emotalking.player.strip import mouth_box
from emotalking.preprocess.landmarks import MediaPipeMesh
from emotalking.progress import track
from emotalking.report.contact_sheet import contact_sheet
from emotalking.report.images import grid
from emotalking.train.callbacks.preview import QUADRANTS
from faces import FittedJudge, agreement, blendshapes, fit_judge

RADIUS, TURN_S = 0.8, 6.0
"""Radius of the circle around neutral, and the seconds of one turn."""
HOLD_S = 2.0
"""Seconds between two changes of emotion."""
EASE_S = 0.6
"""A smooth change takes this long."""
NEAR = 5
"""Neighbours of a step on either side."""
EACH = 5
"""Stride in frames of the fitted emotion model."""
COMPARED = 24
"""Held-out frames on which movements are compared."""
PARTS = {"brows": range(17, 27), "lids": range(36, 48), "corners": (48, 54), "lips": (*range(49, 54), *range(55, 60))}
"""Indices among the 68 points."""
ORDER = ("neutral", "excited", "sad", "calm", "angry")
"""Order of the emotions: every change is large, two of them through neutral."""
PLACES = {"neutral": (0.0, 0.0)} | QUADRANTS


class Curve:
    """Valence and arousal as any function of time; what the player asks of a track."""

    def __init__(self, places: Callable[[np.ndarray], np.ndarray]) -> None:
        self._places = places

    def at(self, times_s: np.ndarray) -> np.ndarray:
        """[T] -> [T, 2]."""
        return self._places(np.asarray(times_s, np.float64)).astype(np.float32)


def circle(times: np.ndarray) -> np.ndarray:
    """Once around in :data:`TURN_S`, from pleasant over excited."""
    angle = 2 * np.pi * times / TURN_S
    return RADIUS * np.stack([np.cos(angle), np.sin(angle)], -1)


def line(axis: int, seconds: float) -> Callable[[np.ndarray], np.ndarray]:
    """From one end of an axis to the other and back, at a steady rate."""

    def at(times: np.ndarray) -> np.ndarray:
        way = RADIUS * (1 - np.abs(4 * times / seconds - 2))
        return np.stack([way, 0 * way] if axis == 0 else [0 * way, way], -1)

    return at


def hard(times: np.ndarray) -> np.ndarray:
    """Another emotion every :data:`HOLD_S`, at once."""
    return np.array([PLACES[ORDER[int(time / HOLD_S + 1e-6) % len(ORDER)]] for time in times])


def eased(seconds: float) -> EmotionTrack:
    """The same emotions by keyframes, as a user would write them: held, and :data:`EASE_S` from one to the next."""
    times, values = [0.0], [PLACES[ORDER[0]]]
    for number in range(1, int(seconds / HOLD_S + 1)):
        before, after = (PLACES[ORDER[k % len(ORDER)]] for k in (number - 1, number))
        times += [number * HOLD_S, number * HOLD_S + EASE_S]
        values += [before, after]
    return EmotionTrack(np.array(times), np.array(values))


def runs_of(seconds: float) -> dict[str, Any]:
    """Rendered emotions, neutral first."""
    still = {name: EmotionTrack.constant(*place) for name, place in PLACES.items()}
    lines = {"valence": Curve(line(0, seconds)), "arousal": Curve(line(1, seconds))}
    return still | lines | {"circle": Curve(circle), "hard": Curve(hard), "eased": eased(seconds)}


@dataclass
class Run:
    """Measurements of one rendering."""

    va: np.ndarray
    """[N, 2] commanded."""
    faces: list[np.ndarray] = field(default_factory=list)
    """Cuts around the face, RGB."""
    mouths: list[np.ndarray] = field(default_factory=list)
    fitted: np.ndarray | None = None
    """[N / EACH, 2]"""
    points: np.ndarray | None = None
    """[N, 68, 2]"""
    units: np.ndarray | None = None
    """[N, 2]"""


def play(player: Player, emotion: Any, run: Run, video: Path, args: argparse.Namespace, face: Box) -> Any:
    """Yield the frames of a run, keep their cuts and write the video."""
    avatar = player.avatar
    mouth = Box(*(round(edge) for edge in mouth_box(avatar)))
    sound = iter_audio(args.audio, AUDIO_RATE)
    with VideoWriter(video, avatar.width, avatar.height, avatar.fps, sound) as writer:
        for frame in player.frames(args.audio, emotion, seconds=args.seconds):
            writer.write(frame)
            run.faces.append(_cut(frame, face))
            run.mouths.append(_cut(frame, mouth))
            yield frame


def _cut(image: np.ndarray, box: Box) -> np.ndarray:
    return image[box.index].copy()


def face_box(subject: Subject) -> Box:
    """Around all places of the face in the clip."""
    points = subject.landmarks.points[subject.landmarks.detected]
    margin = 0.04 * subject.width
    box = Box.around(points.reshape(-1, 2)).grown(margin).clipped(subject.width, subject.height)
    return Box(*(int(edge) for edge in box))


def steps(series: list[np.ndarray], base: list[np.ndarray] | None = None) -> np.ndarray:
    """[N - 1] mean absolute change between neighbours, of the series or of its difference from ``base``."""

    def at(index: int) -> np.ndarray:
        value = series[index].astype(np.float32)
        return value if base is None else value - base[index]

    return np.array([np.abs(at(k + 1) - at(k)).mean() for k in range(len(series) - 1)])


def jumps(change: np.ndarray) -> tuple[float, int]:
    """The largest step over the median of its neighbours, and its frame."""
    around = np.pad(change, NEAR, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(around, 2 * NEAR + 1)
    near = np.median(np.delete(windows, NEAR, axis=1), axis=1)
    ratio = change / np.maximum(near, 0.05)
    return float(ratio.max()), int(ratio.argmax()) + 1


def lips_against(run: Run, neutral: Run) -> dict[str, float]:
    """Opening of the lips in a run against the neutral one."""
    assert run.points is not None and neutral.points is not None
    ours, theirs = lip_gap(run.points), lip_gap(neutral.points)
    both = np.isfinite(ours) & np.isfinite(theirs)
    ours, theirs = ours[both], theirs[both]
    slope = float(np.polyfit(theirs, ours, 1)[0])
    away = ours - theirs
    figures = {"r": float(np.corrcoef(ours, theirs)[0, 1]), "slope": slope}
    return figures | {
        "mean_px": float(np.abs(away).mean()),
        "bias_px": float(away.mean()),
        "spread_px": float(ours.std()),
    }


def figures_of(name: str, runs: dict[str, Run]) -> dict[str, Any]:
    """Smoothness, lips and emotion of a run."""
    run, neutral = runs[name], runs["neutral"]
    still = [steps(runs[other].faces) for other in PLACES]
    own, moved = steps(run.faces), steps(run.faces, neutral.faces)
    ratio, at = jumps(moved) if name != "neutral" else (0.0, 0)
    figures: dict[str, Any] = {
        "step": float(own.mean()),
        "step_to_still": float(own.mean() / np.mean(still)),
        "step_largest": float(own.max()),
        "shift_step": float(moved.mean()),
        "shift_step_largest": float(moved.max()),
        "jump": ratio,
        "jump_frame": at,
    }
    if name != "neutral":
        figures["lips"] = lips_against(run, neutral)
    standing = name in PLACES
    for judge, read, base, said in (
        ("units", run.units, None, run.va),
        ("fitted", run.fitted, None, run.va[::EACH]),
        ("fitted_change", run.fitted, neutral.fitted, run.va[::EACH]),
    ):
        if read is not None:
            seen = read if base is None else read - base[: len(read)]
            figures[judge] = {"mean": np.nanmean(seen, 0).round(3).tolist()} | ({} if standing else _moving(seen, said))
    return figures


def _moving(read: np.ndarray, said: np.ndarray) -> dict[str, float]:
    """Correlation and signs for axes that are commanded at all."""
    with np.errstate(invalid="ignore"):  # of an axis that stands still, which is left out
        found = agreement(read, said)
    return {key: value for key, value in found.items() if said[:, "va".index(key[0])].std() > 0}


def together(runs: dict[str, Run]) -> dict[str, Any]:
    """The four quadrants at once: correlation and signs over their frames."""
    found = {}
    for name in ("units", "fitted", "fitted_change"):
        reads, said = [], []
        for quadrant in QUADRANTS:
            read, base = getattr(runs[quadrant], name.removesuffix("_change")), runs["neutral"].fitted
            if read is None:
                continue
            reads.append(read - base if name.endswith("_change") and base is not None else read)
            said.append(np.tile(QUADRANTS[quadrant], (len(read), 1)))
        if reads:
            found[name] = agreement(np.concatenate(reads), np.concatenate(said))
    return found


def learned(avatar: Avatar, subject: Subject) -> dict[str, Any]:
    """Movement of the avatar's landmarks by each quadrant's emotion beside that of the targets."""
    indices = pick_frames(subject, COMPARED, evenly=True)
    source, detector = SubjectFaces(subject), MediaPipeMesh()
    editor = FaceEditor(source, open_generator(source, MeshWarpConfig()))

    def painted(va: np.ndarray | None) -> np.ndarray:
        return ibug68(detector, (to_uint8(image) for image in reconstruct(avatar, subject, indices, va)))

    recorded, plain = ibug68(detector, (subject.original(int(index)) for index in indices)), painted(None)
    rows = {}
    for name, place in QUADRANTS.items():
        target = ibug68(detector, (editor.images(int(index), [place])[0] for index in indices)) - recorded
        own = painted(np.tile(np.array(place, np.float32), (len(indices), 1))) - plain
        row = {}
        for part, points in PARTS.items():
            a, b = (np.nanmean(moved[:, list(points)], 0) for moved in (own, target))
            far = {"target_px": np.linalg.norm(b, axis=-1).mean(), "gain": (a * b).sum() / (b * b).sum()}
            row[part] = far | {"cosine": (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())}
        rows[name] = {
            part: {key: round(float(value), 3) for key, value in found.items()} for part, found in row.items()
        }
    detector.close()
    return rows


def draw(runs: dict[str, Run], fps: float, out: Path) -> None:
    """Pictures of all runs."""
    count = len(runs["neutral"].faces)
    some = np.linspace(0, count - 1, 10).round().astype(int)
    write_image(
        out / "quadrants.png", grid([[runs[name].faces[k] for k in some] for name in PLACES], 170, list(PLACES))
    )
    loud = _busiest(runs["neutral"], 18)
    write_image(out / "lips.png", grid([[runs[name].mouths[k] for k in loud] for name in PLACES], 100, list(PLACES)))
    for name in ("valence", "arousal"):
        half = np.linspace(0, count // 2, 17).round().astype(int)
        _sheet(out / f"{name}.png", runs[name], half, 9)
    turn = np.linspace(0, TURN_S * fps, 25).round().astype(int)[:-1]
    _sheet(out / "circle.png", runs["circle"], turn[turn < count], 8)
    for name in ("hard", "eased"):
        rows, labels = [], []
        for number in range(1, int((count / fps - 1) / HOLD_S) + 1):
            begin = round(number * HOLD_S * fps) - 2
            every = 1 if name == "hard" else 2
            rows.append([runs[name].faces[k] for k in range(begin, begin + 10 * every, every) if k < count])
            labels.append("to\n" + ORDER[number % len(ORDER)])
        write_image(out / f"{name}.png", grid(rows, 150, labels))


def _busiest(run: Run, count: int) -> range:
    """Neighbouring frames over which the lips' opening varies most."""
    assert run.points is not None
    gaps = np.lib.stride_tricks.sliding_window_view(lip_gap(run.points), count)
    begin = int(np.nan_to_num(gaps.std(1)).argmax())
    return range(begin, begin + count)


def _sheet(path: Path, run: Run, frames: np.ndarray, columns: int) -> None:
    captions = [f"V {run.va[k, 0]:+.2f}  A {run.va[k, 1]:+.2f}" for k in frames]
    write_image(path, contact_sheet([run.faces[k] for k in frames], captions, columns=columns, cell=190))


def observed(
    name: str, emotion: Any, player: Player, subject: Subject, models: EvaluationModels, args: argparse.Namespace
) -> Run:
    """Render a run and let the models see it."""
    fps = float(player.avatar.fps)
    seconds = min(args.seconds, len(load_audio(args.audio)) / SAMPLE_RATE)
    count = int(np.ceil(seconds * fps - 1e-6))
    run = Run(np.asarray(emotion.at(np.arange(count) / fps)))
    kept: list[np.ndarray] = []

    def frames() -> Iterator[np.ndarray]:
        made = play(player, emotion, run, args.out / f"{name}.mp4", args, face_box(subject))
        for number, frame in enumerate(track(made, name, count)):
            if number % EACH == 0:
                kept.append(frame)
            yield frame

    seen = measure(frames(), subject=subject, indices=None, va=run.va, models=models).observation
    assert seen is not None
    run.points, run.units = seen.points, seen.va
    if args.judge is not None:
        judge: FittedJudge = args.judge
        run.fitted = judge(blendshapes(BlendshapeReader(), kept))
    return run


def main() -> None:
    args = arguments(__doc__)
    args.out.mkdir(parents=True, exist_ok=True)
    args.judge, ceiling = (None, None) if args.acted is None else fit_judge(args)
    avatar, subject = Avatar.load(args.avatar, args.device), Subject.open(args.subject)
    player = Player(avatar)
    models = EvaluationModels.open(lpips="none", identity=False)
    runs: dict[str, Run] = {}
    for name, emotion in runs_of(args.seconds).items():
        runs[name] = observed(name, emotion, player, subject, models, args)
    draw(runs, float(player.avatar.fps), args.out)
    rows = {name: figures_of(name, runs) for name in runs}
    for name, row in rows.items():
        print(name, row)
    facts = {"seconds": args.seconds, "radius": RADIUS, "turn_s": TURN_S, "hold_s": HOLD_S, "ease_s": EASE_S}
    results = {"arguments": facts, "quadrants": together(runs), "runs": rows, "learned": learned(avatar, subject)}
    for name, row in results["learned"].items():
        print("learned", name, row)
    print(results["quadrants"])
    print(write(args.name, results if ceiling is None else results | {"ceiling": ceiling["means"]}))


if __name__ == "__main__":
    main()
