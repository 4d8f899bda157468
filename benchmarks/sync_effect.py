"""Effect of training with the sync loss, on unseen sound: two avatars of one subject side by side.

python benchmarks/sync_effect.py SUBJECT WITHOUT WITH_SYNC [--expert personal] --judge NAME [--languages de,es]
    [--speech FOLDER] [--device cpu] [--pictures FOLDER] [--name sync_effect]

--expert E is that of the training, --judge J one that it never saw (another seed, other clips, or SyncNet): only J
can tell better lips from lips that please E. Sounds: the clip's held-out seconds (with their poses and action units),
and the curated sentences of languages that were not trained on. Beside Sync-E, Sync-C and the distance at shift 0
(Euclidean, as in SyncNet's evaluation): chance (the same lips beside the sound of other speech) and, for the held-out
seconds, the recording.

Painting instead of moving would show in "grain" (mean absolute Laplacian in the expert's square) and "flicker" (mean
absolute second difference in time), both in grey levels of 255, against the recording's own. PSNR tells whether the
picture got worse. `--pictures FOLDER` writes strips of mouths to look at.
"""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import torch
from _report import arguments, write
from jaxtyping import Float, UInt8

from emotalking.data import Subject
from emotalking.evaluate.metrics.image import psnr
from emotalking.io.audio import SAMPLE_RATE, load_audio
from emotalking.lipsync.expert import SyncExpert, crop_frames, open_expert
from emotalking.lipsync.scores import sync_scores
from emotalking.lipsync.windows import FRAMES
from emotalking.models.avatar import Avatar
from emotalking.networks.crops import crop
from emotalking.ops.box import Box
from emotalking.ops.composite import to_uint8
from emotalking.player.player import Player
from emotalking.progress import track
from emotalking.train.data import TrainingData
from emotalking.tts.backends import open_synthesizer
from emotalking.tts.sentences import curated_speech

Pictures = UInt8[np.ndarray, "N S S 3"]
STRIP = range(20, 60, 2)


def lips_of(expert: SyncExpert, frames: list[np.ndarray], square: Box) -> torch.Tensor:
    """Vectors of the windows that begin with each frame but the last four."""
    crops = []
    for frame in frames:
        image = torch.from_numpy(frame)[None].to(expert.device).float() / 255.0
        crops.append(crop_frames(image, square, expert.size))
    windows = torch.cat(crops).unfold(0, FRAMES, 1).permute(0, 4, 1, 2, 3)
    with torch.no_grad():
        return torch.cat([expert.embed_lips(part) for part in windows.split(64)])


def sound_of(expert: SyncExpert, samples: np.ndarray, frames: int) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([expert.embed_audio(part) for part in expert.audio_windows(samples, frames, 25).split(64)])


def judged(expert: SyncExpert, lips: list[torch.Tensor], sounds: list[torch.Tensor]) -> dict[str, float]:
    """Means over the recordings; chance: every recording's lips beside the next one's sound."""
    pairs = list(zip(lips, sounds, strict=True))
    scores = [sync_scores(a, b[: len(a)], expert=expert.name, edges="inside") for a, b in pairs]
    at_zero = torch.cat([(a - b[: len(a)]).norm(dim=1) for a, b in pairs]).mean()
    if len(sounds) > 1:
        others = [(a, b) for a, b in zip(lips, [*sounds[1:], sounds[0]], strict=True)]
    else:  # half a recording away
        others = [(a, b[: len(a)].roll(len(a) // 2, 0)) for a, b in pairs]
    chance = torch.cat([(a[: len(b)] - b[: len(a)]).norm(dim=1) for a, b in others]).mean()
    return {
        "sync_e": float(np.mean([s.error for s in scores])),
        "sync_c": float(np.mean([s.confidence for s in scores])),
        "offset": float(np.mean([s.offset for s in scores])),
        "distance": float(at_zero),
        "chance": float(chance),
    }


def texture(mouths: list[Float[np.ndarray, "N S S"]]) -> dict[str, float]:
    """Grain and flicker of grey cuts."""
    grain = [float(np.abs(cv2.Laplacian(cut, cv2.CV_32F)).mean()) for part in mouths for cut in part]
    flicker = [float(np.abs(np.diff(part, 2, axis=0)).mean()) for part in mouths]
    return {"grain": float(np.mean(grain)), "flicker": float(np.mean(flicker))}


def held_out(avatar: Avatar, subject: Subject) -> Iterator[np.ndarray]:
    """The held-out frames rendered from their own conditions, without emotion."""
    data = TrainingData.load(subject, subject.val_indices, avatar.audio_features, avatar.device)
    for frame in range(data.count):
        at = data.conditions.at(frame)
        made = avatar.render(at.viewmats, at.audio, at.aus, None, data.behind(frame)).rgb[0]
        yield to_uint8(made)


def measure(
    takes: list[list[np.ndarray]], sounds: list[np.ndarray], experts: dict[str, SyncExpert], points: np.ndarray
) -> dict[str, Any]:
    """Everything about one maker's frames of some recordings."""
    found: dict[str, Any] = {}
    for role, expert in experts.items():
        square = expert.square(points)
        lips = [lips_of(expert, frames, square) for frames in takes]
        heard = [sound_of(expert, samples, len(frames)) for samples, frames in zip(sounds, takes, strict=True)]
        found[role] = judged(expert, lips, heard)
    square = experts["expert"].square(points)
    cuts = [np.stack([cv2.cvtColor(crop(f, square, 96), cv2.COLOR_RGB2GRAY) for f in frames]) for frames in takes]
    return found | texture([cut.astype(np.float32) for cut in cuts])


def likeness(made: list[np.ndarray], truth: list[np.ndarray], square: Box) -> dict[str, float]:
    """PSNR of whole frames and of the expert's square, dB."""

    def mean_psnr(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
        pairs = zip(ours, theirs, strict=True)
        return float(np.mean([float(psnr(torch.from_numpy(a) / 255.0, torch.from_numpy(b) / 255.0)) for a, b in pairs]))

    cuts = ([crop(frame, square, 96) for frame in frames] for frames in (made, truth))
    return {"psnr": mean_psnr(made, truth), "psnr_square": mean_psnr(*cuts)}


def strip(frames: list[np.ndarray], square: Box) -> np.ndarray:
    return np.concatenate([crop(frames[i], square, 128) for i in STRIP if i < len(frames)], 1)


def main() -> None:
    args = arguments(__doc__)
    subject = Subject.open(args.subject)
    names = {"expert": args.expert, "judge": args.judge}
    experts = {role: open_expert(which, subject, args.device) for role, which in names.items()}
    points = subject.landmarks.ibug68[subject.train_indices].astype(np.float32)
    first, last = int(subject.val_indices[0]), int(subject.val_indices[-1])
    whole = load_audio(subject.files.audio)
    rate = SAMPLE_RATE / float(subject.fps)
    own = whole[round(first * rate) : round((last + 1) * rate)]
    truth = [subject.frame(int(index)).image for index in subject.val_indices]
    speaker = open_synthesizer(str(args.speech) if args.speech else "espeak")
    languages = args.languages.split(",")[: 1 if args.speech else None]
    said = [each.samples for language in languages for each in curated_speech(speaker, language)]
    results: dict[str, Any] = {role: expert.name for role, expert in experts.items()}
    results["recording"] = {"held_out": measure([truth], [own], experts, points)}
    square = experts["expert"].square(points)
    rows = [[strip(truth, square)], []]
    for name, path in (("without", args.without), ("with", args.with_sync)):
        avatar = Avatar.load(path, args.device)
        made = list(track(held_out(avatar, subject), f"{name}: held out", len(truth)))
        player = Player(avatar)
        spoken = [list(player.frames(samples)) for samples in track(said, f"{name}: unseen speech")]
        results[name] = {
            "sync": avatar.metadata.get("sync"),
            "held_out": measure([made], [own], experts, points) | likeness(made, truth, square),
            "unseen_speech": measure(spoken, said, experts, points),
        }
        rows[0].append(strip(made, square))
        rows[1].append(strip(spoken[0], square))
    for kind in ("held_out", "unseen_speech"):
        for name in ("recording", "without", "with"):
            if kind in results[name]:
                print(f"{kind:<14} {name:<10}", shown(results[name][kind]))
    if args.pictures:
        args.pictures.mkdir(parents=True, exist_ok=True)
        for name, row in zip(("held_out", "unseen_speech"), rows, strict=True):
            cv2.imwrite(str(args.pictures / f"{name}.png"), np.concatenate(row)[..., ::-1])
    print(write(args.name, results))


def shown(found: dict[str, Any]) -> str:
    """One row for the terminal."""
    parts = [
        f"{role}: E {found[role]['sync_e']:.3f} C {found[role]['sync_c']:.3f} at 0 {found[role]['distance']:.3f} "
        f"(chance {found[role]['chance']:.3f})"
        for role in ("expert", "judge")
    ]
    parts += [f"grain {found['grain']:.2f} flicker {found['flicker']:.2f}"]
    parts += [f"PSNR {found['psnr']:.2f}, square {found['psnr_square']:.2f} dB"] if "psnr" in found else []
    return " | ".join(parts)


if __name__ == "__main__":
    main()
