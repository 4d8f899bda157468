"""Hours of sound through the render path and into a training file: memory, disk and time, beside ten minutes of it.

python benchmarks/long_sound.py AVATAR --speech WAV ... [--hours 10.0] [--scratch FOLDER] [--only NAME ...]
    [--task NAME]

The sound is made of the given speech and pauses, as one 16-bit wav. Every task runs in a process of its own:

- read: the file is decoded, and nothing kept: the baseline of time.
- render: ``emotalking render --seconds 2`` as a function: what happens before the first frame, and with it.
- play hama / play mel / play phones: features and gate of all frames in order, in the player's batches, without the
  avatar's networks.
- file hama: the .npy file that training reads.

"grown" is the peak of anonymous memory over what the process held before the task (with everything imported): the
figure that must not grow with the sound. Disk is the largest sum of its temporary files. Processor seconds count the
process alone, so that they hold on a busy machine. Avatars that have not learned closed lips get a stand-in for their
code, because the gate is what takes time and memory.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from _report import arguments, peak_mb, write

from emotalking.audio.features import feature_track, write_features
from emotalking.audio.vad import voice_activity
from emotalking.io.audio import SAMPLE_RATE, iter_audio, load_audio
from emotalking.models.avatar import Avatar
from emotalking.player.clip import render_clip

TASKS = ("read", "render", "play hama", "file hama", "play mel", "play phones")
SHORT_S = 600.0
FPS, BATCH = Fraction(25), 8
PAUSE_S = 5


def make_sound(path: Path, speech: np.ndarray, seconds: float) -> None:
    """Talk and pauses for so long, never held as a whole."""
    piece = np.concatenate([speech, np.zeros(PAUSE_S * SAMPLE_RATE, np.float32)])
    left = round(seconds * SAMPLE_RATE)
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, "PCM_16") as file:
        while left > 0:
            file.write(piece[:left])
            left -= len(piece)


def anonymous_mb() -> float:
    """Memory that no file backs, now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


def open_files_mb(folder: Path) -> float:
    """Files under ``folder`` that this process has open, deleted ones too."""
    total = 0
    for link in Path("/proc/self/fd").iterdir():
        try:
            if os.readlink(link).startswith(str(folder)):
                total += link.stat().st_size
        except OSError:  # closed meanwhile
            continue
    return total / 2**20


@contextmanager
def watched(folder: Path) -> Iterator[dict[str, float]]:
    """Peaks of memory and disk while the block runs, looked at every 20 ms, and its time."""
    found = {"grown_mb": 0.0, "disk_mb": 0.0}
    before, over = anonymous_mb(), threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            found["grown_mb"] = max(found["grown_mb"], anonymous_mb() - before)
            found["disk_mb"] = max(found["disk_mb"], open_files_mb(folder))

    watcher = threading.Thread(target=look)
    begun, worked = time.monotonic(), time.process_time()
    watcher.start()
    try:
        yield found
    finally:
        found |= {"seconds": time.monotonic() - begun, "cpu_seconds": time.process_time() - worked}
        over.set()
        watcher.join()
        found |= {"peak_mb": peak_mb() or 0}


def read(sound: Path) -> None:
    for _ in iter_audio(sound):
        pass


def play(sound: Path, kind: str) -> None:
    features, speech = feature_track(sound, kind), voice_activity(iter_audio(sound))
    total = features.num_frames(FPS)
    for start in range(0, total, BATCH):
        stop = min(start + BATCH, total)
        features.windows(start, stop, FPS, total)
        speech.frames(start, stop, FPS)


def render(avatar: Avatar, sound: Path, folder: Path, found: dict[str, float]) -> None:
    begun, worked = time.monotonic(), time.process_time()

    def shown(done: int, _: int) -> None:
        if done == 1:
            found["first_frame_s"], found["first_frame_cpu_s"] = time.monotonic() - begun, time.process_time() - worked

    found["frames"] = render_clip(avatar, sound, folder / "out.mp4", seconds=2.0, progress=shown).frames


def task(name: str, avatar_file: Path, sound: Path, folder: Path) -> dict[str, float]:
    """One task in this process."""
    short = folder / "warm.wav"
    make_sound(short, load_audio(sound, longest_s=20.0), 20.0)
    jobs: dict[str, Callable[[Path, dict[str, float]], Any]] = {
        "read": lambda file, _: read(file),
        "play hama": lambda file, _: play(file, "hama"),
        "play mel": lambda file, _: play(file, "mel"),
        "play phones": lambda file, _: play(file, "phones"),
        "file hama": lambda file, _: write_features(folder / "aud.npy", file, "hama", int(seconds(file) * FPS), FPS),
    }
    if name == "render":
        avatar = Avatar.load(avatar_file)
        for branch in (avatar.head.face, avatar.head.mouth):
            if branch.audio.closed is None:
                branch.audio.closed = torch.zeros(avatar.head.config.audio.code)
        jobs["render"] = lambda file, found: render(avatar, file, folder, found)
    jobs[name](short, {})  # everything that is made once is there
    with watched(folder) as found:
        jobs[name](sound, found)
    return found


def seconds(sound: Path) -> float:
    return soundfile.info(str(sound)).duration


def main() -> None:
    """Measure, print, write ``results/long_sound.json``."""
    args = arguments(__doc__)
    if args.task:
        print(json.dumps(task(args.task, args.avatar, args.speech[0], Path(tempfile.gettempdir()))))
        return
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        speech = np.concatenate([load_audio(path) for path in args.speech])
        sounds = {"short": Path(scratch, "short.wav"), "long": Path(scratch, "long.wav")}
        make_sound(sounds["short"], speech, SHORT_S)
        make_sound(sounds["long"], speech, args.hours * 3600)
        facts = {"short_s": SHORT_S, "hours": args.hours, "speech_s": len(speech) / SAMPLE_RATE}
        facts["command"] = "python benchmarks/long_sound.py AVATAR --speech WAV ..."
        path = None
        for name in args.only or TASKS:
            rows[name] = {}
            for length, sound in sounds.items():
                with tempfile.TemporaryDirectory(dir=scratch) as folder:
                    command = [sys.executable, __file__, str(args.avatar), "--speech", str(sound), "--task", name]
                    env = os.environ | {"TMPDIR": folder}
                    out = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout
                rows[name][length] = row = json.loads(out.splitlines()[-1])
                said = "  ".join(f"{key} {value:.1f}" for key, value in row.items())
                print(f"{name:<12} {length:<6} {said}", flush=True)
            rows[name]["peak_ratio"] = rows[name]["long"]["peak_mb"] / rows[name]["short"]["peak_mb"]
            print(
                f"{name:<12} peak of {args.hours:g} h over that of 10 min: {rows[name]['peak_ratio']:.2f}", flush=True
            )
            path = write("long_sound", facts | {"tasks": rows})
        print(path)


if __name__ == "__main__":
    main()
