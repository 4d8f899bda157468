"""Break runs on purpose and see which early warnings come; healthy runs must give none.

python benchmarks/early_warnings.py WORKDIR [--only NAME ...] [--subject SUBJECT] [--set KEY=VALUE ...]
    [--name early_warnings]

Without SUBJECT the actor is filmed (64 px, 16 s, exact truth) and every trial below is run. With one, only the healthy
run is made on it. A trial is a short training with the same settings but for what is broken; all with preset `tiny`.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from _report import arguments, write

from emotalking.data.files import SubjectFiles
from emotalking.errors import InputError
from emotalking.io.arrays import load_array
from emotalking.testing.actor.actor import Actor
from emotalking.testing.actor.performance import Performance
from emotalking.testing.actor_subject import write_actor_subject
from emotalking.train.callbacks.log import LOG, of_kind
from emotalking.train.callbacks.rows import read_log
from emotalking.train.run import train

SIZE, SECONDS, SEED = 64, 16.0, 4
"""Seed of the actor's clip; with it the actor blinks among the held-out frames."""
OTHER_SOUND = ("audio_augmentation=false",)
"""Where the features are not the recording's: the start reads them alone."""
SHORT = """model.face.initial_points=800 model.mouth.initial_points=150 mouth.iterations=100 mouth.warmup=20
mouth.densify.start=20 mouth.densify.until=80 mouth.densify.every=20 face.iterations=400 face.warmup=80
face.densify.start=60 face.densify.every=40 face.densify.until=280 face.densify.max_gaussians=3000
emotion.iterations=0 finetune.iterations=0 checkpoint_every=100000""".split()
"""A run of well under a minute on one core."""
UNTAUGHT = ("motion_pretraining=0", "audio_pretraining=0")
"""The starts teach the networks before the first stage, at rates of their own."""
EMOTION = ("emotion.iterations=160", "finetune.iterations=20")


def silent(features: np.ndarray) -> np.ndarray:
    """Every frame hears silence, which is about zero in the features trained on."""
    return np.zeros_like(features)


def shuffled(features: np.ndarray) -> np.ndarray:
    """Every frame hears some other frame."""
    return features[np.random.default_rng(0).permutation(len(features))]


def other_blinks(text: str) -> str:
    """The table of action units with AU45 of other frames."""
    header, *rows = text.splitlines()
    column = [name.strip() for name in header.split(",")].index("AU45_r")
    cells = [row.split(",") for row in rows]
    order = np.random.default_rng(0).permutation(len(cells))
    blinks = [cells[at][column] for at in order]
    for row, blink in zip(cells, blinks, strict=True):
        row[column] = blink
    return "\n".join([header, *(",".join(row) for row in cells)]) + "\n"


@dataclass(frozen=True)
class Trial:
    """Injected fault, and the warnings that it must raise."""

    expected: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    sound: Callable[[np.ndarray], np.ndarray] | None = None
    units: Callable[[str], str] | None = None
    masks: bool = True
    also: tuple[str, ...] = field(default=())
    """Warnings that may come too, because they are true."""


TRIALS = {
    "healthy": Trial(settings=EMOTION),
    "network rates x100": Trial(
        ("mouth not learning",),
        (*EMOTION, "optim.networks=0.3", "optim.grids=2.0", "optim.audio=0.01"),
        also=(
            *("loss rises", "emotion without effect", "silhouette empty", "motion frozen", "eyes not learning"),
            "gaussians vanish",
        ),
    ),
    "position rate grows x250000": Trial(
        ("loss rises",),
        ("optim.means_final=0.4", "face.means_until=400", "mouth.means_until=100"),
        also=("gaussians vanish", "silhouette empty", "motion frozen", "mouth not learning", "eyes not learning"),
    ),
    "position rate x1000": Trial(
        ("gaussians vanish",),
        ("optim.means=0.4", "optim.means_final=0.4"),
        also=("loss rises", "silhouette empty", "motion frozen", "mouth not learning", "eyes not learning"),
    ),
    "grows at every gradient": Trial(
        ("gaussians explode",), ("face.densify.grad_threshold=1e-7", "mouth.densify.grad_threshold=1e-7")
    ),
    "prunes nearly all": Trial(
        ("gaussians vanish",),
        ("face.densify.prune_opacity=0.97", "mouth.densify.prune_opacity=0.97"),
        also=("silhouette empty", "mouth not learning", "eyes not learning", "loss rises", "motion frozen"),
    ),
    "silent sound": Trial(
        ("mouth not learning",), OTHER_SOUND, sound=silent, also=("motion frozen", "eyes not learning")
    ),
    "shuffled sound": Trial(("mouth not learning",), OTHER_SOUND, sound=shuffled),
    "blinks of other frames": Trial(("eyes not learning",), units=other_blinks),
    "networks do not learn": Trial(
        ("motion frozen",),
        ("optim.networks=0.0", "optim.grids=0.0", "optim.audio=0.0", "optim.temporal=0.0", *UNTAUGHT),
        also=("mouth not learning", "eyes not learning", "emotion without effect"),
    ),
    "emotion always neutral": Trial(("emotion without effect",), (*EMOTION, "emotion.va_limit=0.0")),
    "masks black": Trial(("masks full",), masks=False, also=("silhouette empty", "mouth not learning")),
}
"""By name."""


def film(folder: Path) -> Path:
    """The actor's subject folder."""
    if folder.exists():
        return folder
    script, actor = Performance.generate(SECONDS, seed=SEED), Actor(size=SIZE)
    write_actor_subject(
        folder,
        (actor.render(state) for state in script.states),
        script.waveform,
        Fraction(25),
        actor.layout,
        actor.neutral_landmarks(),
    )
    return folder


def broken(subject: Path, folder: Path, trial: Trial) -> Path:
    """``subject`` with what the trial changes in it; the rest is linked."""
    if trial.sound is None and trial.units is None and trial.masks:
        return subject
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(subject, folder, copy_function=os.link)

    def replace(path: Path, save: Callable[[Path], Any]) -> None:
        path.unlink()
        save(path)

    if trial.sound is not None:
        features = SubjectFiles(folder).audio_features()
        sound = trial.sound(load_array(features))
        replace(features, lambda path: np.save(path, sound))
    if trial.units is not None:
        table = trial.units((folder / "au.csv").read_text())
        replace(folder / "au.csv", lambda path: path.write_text(table))
    if not trial.masks:
        from PIL import Image

        for picture in sorted((folder / "parsing").glob("*.png")):
            black = Image.new("RGB", Image.open(picture).size)
            replace(picture, black.save)
    return folder


def run(subject: Path, avatar: Path, settings: list[str]) -> dict[str, Any]:
    """Train, and say what was warned of."""
    failure = None
    try:
        train(subject, avatar, "tiny", "cpu", settings, resume=False)
    except InputError as error:
        failure = str(error)
    rows = read_log(avatar.with_name(avatar.name + ".run") / LOG)
    warned = [{k: row[k] for k in ("name", "stage", "iteration", "text")} for row in of_kind(rows, "warning")]
    looks = {row["stage"]: {k: v for k, v in row.items() if isinstance(v, float)} for row in of_kind(rows, "frames")}
    steps = {row["stage"]: row["seconds"] for row in of_kind(rows, "step")}
    watching = sum(row["seconds"] for row in of_kind(rows, "frames"))
    return {"warnings": warned, "failure": failure, "last_looks": looks, "seconds": steps, "seconds_looking": watching}


def main() -> None:
    args = arguments(__doc__)
    args.workdir.mkdir(parents=True, exist_ok=True)
    subject = args.subject or film(args.workdir / "actor")
    chosen = ["healthy"] if args.subject else args.only or list(TRIALS)
    results = {}
    for name in chosen:
        trial, place = TRIALS[name], args.workdir / name.replace(" ", "_")
        base = args.set if args.subject else SHORT + args.set
        source = broken(subject, place.with_name(place.name + "_subject"), trial)
        made = run(source, place.with_suffix(".safetensors"), [*base, *trial.settings])
        came = {warning["name"] for warning in made["warnings"]}
        missing, extra = set(trial.expected) - came, came - set(trial.expected) - set(trial.also)
        results[name] = {"expected": trial.expected, "missing": sorted(missing), "unexpected": sorted(extra)} | made
        print(f"{name:<26} {'as expected' if not missing | extra else f'MISSING {missing} UNEXPECTED {extra}'}", came)
        for stage, look in made["last_looks"].items():
            print("   ", stage, {k: round(v, 3) for k, v in look.items()}, flush=True)
    print(write(args.name, {"settings": args.set, "trials": results}))


if __name__ == "__main__":
    main()
