"""How soon does each command say something, and how long is it silent, on quiet cores and on shared ones?

python benchmarks/first_words.py FOLDER [--busy 0] [--only NAME ...] [--pipe] [--name first_words] [--out FOLDER]

FOLDER holds the results of 'emotalking demo' (actor.mp4, subject, actor.safetensors, speech.wav). Every command runs in
a process of its own at a terminal (or into a pipe) while --busy endless loops share the cores. Per command: seconds to
the first output and to the end, the longest silence, what had been said before it, and how many outputs came. A bar
that is drawn again without a change of its text other than its clock counts as an output: the reader sees it live.
"""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _report import arguments, write

SHORT = (
    "mouth.iterations=40 mouth.warmup=10 mouth.lr_decay_from=30 mouth.means_until=30 mouth.densify.until=30 "
    "face.iterations=80 face.warmup=20 face.lr_decay_from=60 face.means_until=60 face.densify.until=60 "
    "emotion.iterations=40 emotion.lr_decay_from=30 finetune.iterations=20 audio_pretraining=60 motion_pretraining=40 "
    "emotion.pretraining=40"
)
"""A training of seconds that has all its parts."""
LONGEST_S = 900.0


def commands(folder: Path, out: Path) -> dict[str, list[str]]:
    """Arguments of each command; what it writes goes to ``out``."""
    clip, subject, avatar, speech = (
        str(folder / name) for name in ("actor.mp4", "subject", "actor.safetensors", "speech.wav")
    )
    settings = [word for setting in SHORT.split() for word in ("--set", setting)]
    return {
        "help": ["--help"],
        "info": ["info", avatar],
        "models": ["models"],
        "validate": ["validate", subject],
        "check": ["check", clip, "--page", str(out / "check.html")],
        "prepare": ["prepare", clip, "-o", str(out / "prepared")],
        "train": ["train", subject, "-o", str(out / "a.safetensors"), "--preset", "tiny", "--device", "cpu", *settings],
        "render": [
            "render",
            avatar,
            "--audio",
            speech,
            "-o",
            str(out / "out.mp4"),
            "--seconds",
            "2",
            "--device",
            "cpu",
        ],
        "render text": ["render", avatar, "--text", "Hello there.", "-o", str(out / "t.mp4"), "--device", "cpu"],
        "tts": ["tts", "Hello there.", "-o", str(out / "hello.wav")],
        "evaluate": ["evaluate", avatar, subject, "-o", str(out / "report"), "--frames", "8", "--device", "cpu"],
        "compare": ["compare", subject, f"one={avatar}", f"two={avatar}", "-o", str(out / "compared"), "--frames", "8"],
        "faces": ["faces", "sheet", subject, "-o", str(out / "sheet.png")],
        "sync train": ["sync", "train", subject, "-o", str(out / "expert.safetensors"), "--steps", "20"],
        "sync measure": ["sync", "measure", subject, "--expert", str(out / "expert.safetensors")],
    }


def watch(arguments: list[str], pipe: bool) -> dict[str, object]:
    """Run a command and time its outputs."""
    master, slave = os.pipe() if pipe else pty.openpty()
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "emotalking", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=slave,
        env=os.environ | {"COLUMNS": "120"},
    )
    os.close(slave)
    first: float | None = None
    last, longest, before, text, count = 0.0, 0.0, "", "", 0
    while True:
        ready = select.select([master], [], [], 0.2)[0]
        now = time.perf_counter() - begun
        chunk = b""
        if ready:
            try:
                chunk = os.read(master, 65536)
            except OSError:  # the terminal's other end is closed
                pass
        if chunk or (ready and not chunk) or now > LONGEST_S:
            first = now if first is None else first
            if now - last > longest:
                longest, before = now - last, text
            last, count = now, count + 1
            shown = [
                line.strip()
                for line in re.split(r"[\r\n]", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", chunk.decode("utf-8", "replace")))
            ]
            text = next((line for line in reversed(shown) if line), text)[-100:]
        if (ready and not chunk) or now > LONGEST_S:
            break
    if process.poll() is None and now > LONGEST_S:
        process.kill()
    code = process.wait()
    os.close(master)
    return {
        "exit_code": code,
        "first_output_s": round(first or 0.0, 2),
        "longest_silence_s": round(longest, 2),
        "said_before_it": before,
        "total_s": round(last, 2),
        "outputs": count,
    }


def main() -> None:
    """Measure and write the report."""
    args = arguments(__doc__)
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(args.busy)]
    rows = {}
    out = Path(tempfile.mkdtemp())
    try:
        for name, words in commands(args.folder, out).items():
            if not args.only or name in args.only:
                rows[name] = watch(words, args.pipe)
                print(name, rows[name], flush=True)
    finally:
        for loop in loops:
            loop.kill()
        shutil.rmtree(out, ignore_errors=True)
    settings = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    results = {"busy": args.busy, "terminal": not args.pipe, "environment": settings, "commands": rows}
    print(write(args.name, results, args.out))


if __name__ == "__main__":
    main()
