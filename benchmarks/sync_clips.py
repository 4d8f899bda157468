"""Clips for benchmarks/sync_expert.py in one small file: mouths as JPEG and the sound.

python benchmarks/sync_clips.py OUT NAME=FOLDER ...

A folder of clips is taken for one person; every tenth clip is held out. Subjects keep their own held-out frames.
"""

from pathlib import Path

import cv2
import numpy as np
from _report import arguments

from emotalking.data import Subject
from emotalking.io.arrays import load_archive
from emotalking.io.audio import SAMPLE_RATE, load_audio
from emotalking.io.video import read_frames
from emotalking.lipsync.dataset import TalkingClip, make_clip, subject_clip
from emotalking.lipsync.windows import FPS
from emotalking.preprocess.landmarks import open_provider

EVERY = 10


def from_folder(folder: Path) -> TalkingClip:
    """All clips of a folder, one after another, as one."""
    parts = []
    for number, path in enumerate(sorted(p for p in folder.iterdir() if p.suffix in (".mp4", ".mpg", ".mkv"))):
        provider = open_provider()
        frames = list(read_frames(path, FPS))
        points = np.full((len(frames), 68, 2), np.nan)
        for index, image in enumerate(frames):
            found = provider.detect(image)
            if found is not None:
                points[index] = found[list(provider.layout.ibug68), :2]
        provider.close()
        count = len(frames) * SAMPLE_RATE // FPS
        sound = np.resize(np.pad(load_audio(path), (0, count)), count)
        learn = np.full(len(frames), number % EVERY != EVERY - 1)
        parts.append(make_clip(frames, points, sound, learn, folder.name))
        print(path.name, len(frames), int(parts[-1].detected.sum()), flush=True)
    fields = ("pictures", "seen", "learn", "samples")
    return TalkingClip(*(np.concatenate([getattr(p, f) for p in parts]) for f in fields), fingerprint=folder.name)


def pack(path: Path, clips: dict[str, TalkingClip]) -> None:
    """Write clips."""
    arrays = {}
    for name, clip in clips.items():
        coded = [cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].ravel() for picture in clip.images]
        arrays[f"{name}/jpeg"] = np.concatenate(coded)
        arrays[f"{name}/ends"] = np.cumsum([len(part) for part in coded])
        arrays[f"{name}/seen"], arrays[f"{name}/learn"] = clip.detected, clip.training
        arrays[f"{name}/samples"] = np.round(clip.samples * 32767).astype(np.int16)
        arrays[f"{name}/fingerprint"] = np.array(clip.fingerprint)
    np.savez(path, **arrays)


def unpack(path: Path) -> dict[str, TalkingClip]:
    """Inverse of :func:`pack`."""
    clips = {}
    file = load_archive(path)
    for name in dict.fromkeys(key.split("/")[0] for key in file):
        part = {key: file[f"{name}/{key}"] for key in ("jpeg", "ends", "seen", "learn", "samples", "fingerprint")}
        coded = np.split(part["jpeg"], part["ends"][:-1])
        pictures = np.stack([cv2.imdecode(picture, cv2.IMREAD_GRAYSCALE) for picture in coded])
        samples = part["samples"].astype(np.float32) / 32767
        clips[name] = TalkingClip(pictures, part["seen"], part["learn"], samples, str(part["fingerprint"]))
    return clips


def main() -> None:
    args = arguments(__doc__)
    clips = {}
    for entry in args.folders:
        name, folder = entry.split("=", 1)
        is_subject = (Path(folder) / "transforms_train.json").exists()
        clips[name] = subject_clip(Subject.open(folder)) if is_subject else from_folder(Path(folder))
        clip = clips[name]
        print(name, clip.images.shape, int(clip.detected.sum()), int(clip.training.sum()), flush=True)
    pack(args.out, clips)
    print(args.out, args.out.stat().st_size)


if __name__ == "__main__":
    main()
