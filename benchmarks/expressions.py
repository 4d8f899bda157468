"""What a person's own expressions add to a head (prepare --expressions): held-out frames of such clips, rendered.

python benchmarks/expressions.py SUBJECT [--preset tiny] [--set KEY=VALUE ...] [--device cpu] [--seed 0]
    [--threads 1] [--frames FILE] [--from FILE] [--acted CLIPS ...] [--neutral CLIP ...] [--sheet PNG]
    [--name expressions]

Heads of one mouth and face stage: emotion and fine-tune stages `without` the clips, with them as prepared (`with`), and
with them at the valence and arousal that are read in them, whatever their names say (`read`). Of every three blocks of
half a second of each clip the last is held out. Held-out frames are rendered as the training frames are conditioned,
with the valence and arousal of the variant (by the head without clips with both: `without, read`), and at neutral, and
compared with the recorded ones, in the main clip's colours, where the face shows:
- `psnr`, and `lpips` (squeeze) of the face's box with all else as recorded;
- moves of landmarks from the neutral rendering, against those to the recorded frame: `gain` (factor that brings the
  recorded moves nearest to the head's), `cosine`, `px` (mean recorded move);
- main clip: `psnr_main` of its held-out frames with their own emotion.
With `--from`, the frames that `--frames` wrote are read by judges fitted to acted clips (benchmarks/_judges.py; leave
the person out of --acted): distance of valence and arousal from those read in the recorded frames, relative to the
neutral rendering and to the main clip's frames.
"""

import argparse
import copy
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from _report import arguments, write
from _stored import packed, store, stored
from emotion_branch import PARTS, compared

from emotalking.data import Subject
from emotalking.data.frame import from_neutral
from emotalking.data.readers import read_intensities
from emotalking.emotion.estimator import ACTED_GAIN, ActionUnitEmotion
from emotalking.io.settings import override
from emotalking.models.compositor import Compositor, Conditions
from emotalking.models.head import TalkingHead
from emotalking.networks.lpips import Lpips
from emotalking.ops.composite import to_uint8
from emotalking.preprocess.landmarks import MediaPipeMesh
from emotalking.preprocess.person import Person
from emotalking.train.context import Context
from emotalking.train.data import TrainingData, face_boxes
from emotalking.train.expressions import ExpressionClip, Expressions
from emotalking.train.presets import preset
from emotalking.train.run import make_context, resolve_config, stage_builders
from emotalking.train.trainer import Trainer

BLOCK, OUT_OF = 12, 3
"""Frames of a block, and blocks of which one is held out."""
EACH = 14
"""Held-out frames of a clip that are measured."""
VARIANTS = ("without", "with", "read")


def hold_out(subject: Subject) -> dict[str, np.ndarray]:
    """Take every third block of each clip out of training; returns those frames."""
    held = {}
    for name, clip in subject.expressions.items():
        frames = np.arange(clip.num_frames)
        out = (frames // BLOCK) % OUT_OF == OUT_OF - 1
        clip.train_indices, clip.val_indices = frames[~out], frames[out]
        held[name] = frames[out]
    return held


def as_read(subject: Subject) -> None:
    """Give the clips the valence and arousal that are read in them, whatever their names say."""
    neutral = Person.of(subject).neutral
    for clip in subject.expressions.values():
        units = read_intensities(clip.files.action_units)
        found = from_neutral(ActionUnitEmotion().estimate(units, float(clip.fps)), neutral, ACTED_GAIN)
        vars(clip)["read_emotion"] = found


def held_out(subject: Subject, context: Context, held: dict[str, np.ndarray]) -> Expressions:
    """The held-out frames as the stage would see them."""
    before = {name: clip.train_indices for name, clip in subject.expressions.items()}
    for name, clip in subject.expressions.items():
        clip.train_indices = held[name][np.linspace(0, len(held[name]) - 1, EACH).round().astype(int)]
    found = Expressions.load(subject, context.data)
    for name, clip in subject.expressions.items():
        clip.train_indices = before[name]
    assert found is not None
    return found


@torch.no_grad()
def rendered(head: TalkingHead, clip: ExpressionClip, *, emotional: bool) -> torch.Tensor:
    """[F, H, W, 3] over grey."""
    out = []
    compositor = Compositor(clip.K, clip.size)
    width, height = clip.size
    for row in range(len(clip.indices)):
        c = clip.conditions.at(row)
        conditions = Conditions(c.viewmats, c.audio, c.aus, c.va if emotional else None, gaze=c.gaze)
        grey = torch.full((1, height, width, 3), 0.5, device=c.va.device)
        out.append(compositor.frames(head, conditions, grey).rgb[0].clamp(0, 1))
    return torch.stack(out)


def trained(context: Context, folder: Path, first: int, last: int | None) -> dict[str, float]:
    """Train the stages from ``first`` to ``last``; returns their seconds."""
    builders = stage_builders(context)[first:last]
    trainer = Trainer(context.head, builders, context.generator, folder, {}, 10**9)
    trainer.run()
    return trainer.stage_seconds


def landmarks(images: np.ndarray, detector: MediaPipeMesh) -> np.ndarray:
    """[F, 68, 2], nan without a face."""
    none = np.full((68, 2), np.nan)
    seen = (detector.detect(image) for image in images)
    return np.stack([none if face is None else face[list(detector.layout.ibug68), :2] for face in seen])


def numbers(clip: ExpressionClip, images: dict[str, torch.Tensor], lpips: Lpips) -> dict[str, Any]:
    """All measures of a clip; ``images``: recorded, neutral and the variants."""
    detector, boxes = MediaPipeMesh(), face_boxes(clip.points, clip.size)
    points = {name: landmarks(to_uint8(frames.cpu()), detector) for name, frames in images.items()}
    recorded, result = images["recorded"], {}
    for name, frames in images.items():
        if name == "recorded":
            continue
        errors, distances = [], []
        for row in range(len(frames)):
            seen = clip.compared[row]
            errors.append(float(((frames[row] - recorded[row])[seen] ** 2).mean()))
            top, left, bottom, right = boxes[row].tolist()
            ours = torch.where(seen[..., None], frames[row], recorded[row])[None, top:bottom, left:right]
            with torch.no_grad():
                distances.append(float(lpips(ours, recorded[row][None, top:bottom, left:right]).mean()))
        moves, wanted = points[name] - points["neutral"], points["recorded"] - points["neutral"]
        row = {
            "psnr": round(float(np.mean(-10 * np.log10(errors))), 2),
            "lpips": round(float(np.mean(distances)), 4),
            "landmarks_px": {
                part: round(
                    float(np.nanmean(np.linalg.norm((points[name] - points["recorded"])[:, list(ids)], axis=-1))), 2
                )
                for part, ids in PARTS.items()
            },
        }
        if name != "neutral":
            row["moves"] = {part: compared(moves[:, list(ids)], wanted[:, list(ids)]) for part, ids in PARTS.items()}
        result[name] = row
    return result


@torch.no_grad()
def main_clip(head: TalkingHead, context: Context, subject: Subject) -> float:
    """PSNR of the main clip's held-out frames, with the emotion read from them."""
    data = TrainingData.load(subject, subject.val_indices, context.config.model.audio.features, context.device)
    compositor, errors = Compositor(data.K, data.size), []
    for row in range(data.count):
        image = compositor.frames(head, data.conditions.at(row), data.behind(row)).rgb.clamp(0, 1)
        errors.append(float(((image - data.image(row)) ** 2).mean()))
    return round(float(np.mean(-10 * np.log10(errors))), 2)


def train_and_measure(args: argparse.Namespace) -> dict[str, Any]:
    """All heads; see the module."""
    subject, device = Subject.open(args.subject), torch.device(args.device)
    held = hold_out(subject)
    config = resolve_config(override(preset(args.preset), [*args.set, f"seed={args.seed}"]), subject)
    results: dict[str, Any] = {"preset": args.preset, "settings": args.set, "seed": args.seed, "frames": EACH}
    kept: dict[str, list[np.ndarray]] = {}
    with tempfile.TemporaryDirectory() as folder:
        context = make_context(config, subject, device, Path(folder), None)
        results["seconds"] = {"shared": trained(context, Path(folder) / "shared", 0, 2)}
        named = context.expressions, held_out(subject, context, held)
        as_read(subject)
        read = Expressions.load(subject, context.data), held_out(subject, context, held)
        wanted = named[1]
        shown = {
            clip.name: {"recorded": torch.cat([clip.target(k).image for k in range(EACH)])} for clip in wanted.clips
        }
        results["psnr_main"], begin = {}, context.generator.get_state()
        for variant, (clips, frames) in {"without": (None, wanted), "with": named, "read": read}.items():
            draws = torch.Generator()
            draws.set_state(begin)
            part = replace(context, head=copy.deepcopy(context.head), expressions=clips, generator=draws)
            results["seconds"][variant] = trained(part, Path(folder) / variant, 2, None)
            for clip, other in zip(frames.clips, read[1].clips, strict=True):
                images = shown[clip.name]
                images[variant] = rendered(part.head, clip, emotional=True)
                if variant == "without":
                    images["neutral"] = rendered(part.head, clip, emotional=False)
                    images["without, read"] = rendered(part.head, other, emotional=True)
            results["psnr_main"][variant] = main_clip(part.head, context, subject)
    lpips = Lpips.open("squeeze").to(device)
    results["clips"] = {}
    for clip, other in zip(wanted.clips, read[1].clips, strict=True):
        row = numbers(clip, shown[clip.name], lpips)
        for name, one in (("va", clip), ("va_read", other)):
            row[name] = one.conditions.va.mean(0).cpu().numpy().round(3).tolist()
        results["clips"][clip.name] = row
        for name, images in shown[clip.name].items():
            kept[f"{clip.name}/{name}"] = packed(to_uint8(images))
        print(clip.name, row)
    chosen = np.linspace(0, subject.num_frames - 1, EACH).round().astype(int)
    kept["main/recorded"] = packed(np.stack([subject.target(int(index)) for index in chosen]))
    if args.frames is not None:
        store(args.frames, kept)
    return results


def judged(args: argparse.Namespace) -> dict[str, Any]:
    """What judges read in the stored frames; see the module."""
    from _expressive import BlendshapeReader
    from _judges import fit, look_at
    from emotion_judges import read_some

    frames, reader = stored(args.from_), BlendshapeReader()
    bench = fit(args.acted, args.neutral, read_some)
    results: dict[str, Any] = {}
    main = look_at(frames["main/recorded"], reader)
    clips = sorted({name.split("/")[0] for name in frames} - {"main"})
    for clip in clips:
        neutral = look_at(frames[f"{clip}/neutral"], reader)
        read = {"recorded": bench.read(look_at(frames[f"{clip}/recorded"], reader), main)}
        read |= {name: bench.read(look_at(frames[f"{clip}/{name}"], reader), neutral) for name in VARIANTS}
        results[clip] = {}
        for judge in bench.judges:
            means = {name: np.nanmean(found[judge][0], 0) for name, found in read.items()}
            results[clip][judge] = {name: mean.round(3).tolist() for name, mean in means.items()} | {
                f"distance {name}": round(float(np.linalg.norm(means[name] - means["recorded"])), 3)
                for name in VARIANTS
            }
        print(clip, results[clip])
    if args.sheet is not None:
        rows = [
            np.hstack([frames[f"{clip}/{name}"][EACH // 2] for name in ("recorded", *VARIANTS, "neutral")])
            for clip in clips
        ]
        cv2.imwrite(str(args.sheet), np.vstack(rows)[..., ::-1])
    return results


def main() -> None:
    args = arguments(__doc__)
    results = train_and_measure(args) if args.from_ is None else judged(args)
    print(write(args.name, results))


if __name__ == "__main__":
    main()
