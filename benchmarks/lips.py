"""How much a head's lips move, and how well: rendered against recorded opening and width, for features and encoders.

    python benchmarks/lips.py FOLDER SUBJECT ... [--variants mel-published hama-conv ...] [--seeds 0 1 2 ...]
        [--stretches last ...] [--preset fast] [--device cpu] [--jobs 1] [--set KEY=VALUE ...] [--causal] [--until inf]
        [--score-device NAME] [--score-jobs 1] [--heads FOLDER] [--name lips]

Trains each variant on each subject with each stretch of the clip held out, renders the held-out frames from their own
sound, pose and action units, and finds the lips in rendered and recorded frames with one detector. `last` is the last
eleventh, as prepared; `first` and `middle` are eleventh parts elsewhere in the clip. Heads on hama features are
rendered from live features too, with 80 and 160 ms of future sound (--causal), and all heads a second time with the
mouth's gate, which the player applies: it shuts the lips where nobody speaks, also in an audible breath.
`mel-subtracted` is `mel-published` with the spectrum of steady noise taken off the sound's (Boll 1979), as earlier
versions did. lip_voices.py drives such heads by other people.

Heads are scored in processes of their own, on the CPU if wished, while the next are trained. --heads: a folder of heads
that were trained elsewhere, SUBJECT_SEED/avatar.safetensors, with the last stretch held out; they are only scored.
Every result is stored in FOLDER at once, and a rerun continues; after --until seconds no run is begun, and the table
has those that are done.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import binary_opening

sys.path.insert(0, str(Path(__file__).parent))
from _report import arguments, write

from emotalking.audio import mel
from emotalking.audio.streams import feature_streams, live_windows
from emotalking.audio.tracks import StepFeatures
from emotalking.audio.vad import voice_activity
from emotalking.audio.windows import PAST_FRAMES
from emotalking.data import Subject
from emotalking.data.audio_features import audio_feature
from emotalking.evaluate.evaluation_models import EvaluationModels
from emotalking.evaluate.held_out import own_emotion, reconstruct
from emotalking.evaluate.measure import measure
from emotalking.evaluate.metrics.lips import LIP_MOTION, PARTS, lip_series, series_scores
from emotalking.evaluate.observation import Observation
from emotalking.io.audio import SAMPLE_RATE, load_audio
from emotalking.io.rows import GrowingRows
from emotalking.models.avatar import Avatar
from emotalking.networks.lpips import Lpips
from emotalking.preprocess.landmarks import MediaPipeMesh
from emotalking.train.run import train

HELD_OUT = 1 / 11
"""Share of the clip that a stretch holds out."""
STRETCHES = {"last": 10 / 11, "first": 0.0, "middle": 5 / 11}
"""Begin of the held-out stretch, as a share of the clip."""
SHUT, PAUSE_S = 0.01, 0.3
"""Opening of shut lips, in distances between the eyes, and how long they are shut in a pause."""
PIXELS = ("psnr", "psnr_head", "psnr_mouth", "psnr_outline", "psnr_neck", "ssim", "lpips")

VARIANTS: dict[str, list[str]] = {
    f"{feature}-{encoder}": [
        f"model.audio.features={feature}",
        f"model.audio.encoder={encoder}",
        f"audio_augmentation={'true' if encoder == 'conv' else 'false'}",
        *(["optim.audio=1e-4"] if encoder == "published" else []),
    ]
    for feature in ("mel", "phones", "hama")
    for encoder in ("published", "conv")
}
VARIANTS["hama-conv-frozen"] = [*VARIANTS["hama-conv"], "optim.audio=0"]
VARIANTS["mel-subtracted"] = VARIANTS["mel-published"]
VARIANTS["hama-conv-plain"] = [*VARIANTS["hama-conv"], "audio_augmentation=false"]


@dataclass(frozen=True)
class Run:
    """One training."""

    subject: Path
    variant: str
    seed: int
    stretch: str
    preset: str
    device: str
    settings: tuple[str, ...]
    causal: bool

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.subject.name}_{self.preset}_{self.variant}_{self.stretch}_{self.seed}"


@dataclass(frozen=True)
class Places:
    """Where the runs' files are."""

    folder: Path
    """Trained heads, and a result of each run."""
    heads: Path | None
    """Heads that were trained elsewhere."""

    def head(self, run: Run) -> Path:
        """The run's head."""
        if self.heads is not None:
            return self.heads / f"{run.subject.name}_{run.seed}" / "avatar.safetensors"
        return self.folder / f"{run.name}.safetensors"

    def subject(self, run: Run) -> Path:
        """Its view of the subject."""
        return self.folder / f"{run.name}_subject"

    def row(self, run: Run) -> Path:
        """Its result."""
        return self.folder / f"{run.name}.json"


def view(subject: Path, folder: Path, stretch: str) -> Path:
    """A copy of the subject folder, by links, with another stretch held out."""
    folder.mkdir(parents=True, exist_ok=True)
    cameras = {split: json.loads((subject / f"transforms_{split}.json").read_text()) for split in ("train", "val")}
    frames = sorted(cameras["train"]["frames"] + cameras["val"]["frames"], key=lambda frame: frame["img_id"])
    begin = round(STRETCHES[stretch] * len(frames))
    end = begin + round(HELD_OUT * len(frames))
    parts = {"train": frames[:begin] + frames[end:], "val": frames[begin:end]}
    for path in subject.iterdir():
        link = folder / path.name
        if path.name.startswith("transforms_") and stretch != "last":
            split = path.stem.removeprefix("transforms_")
            link.write_text(json.dumps(cameras[split] | {"frames": parts[split]}))
        elif not link.exists():
            link.symlink_to(path.resolve())
    return folder


def streamed(subject: Subject, look_ahead_ms: int) -> np.ndarray:
    """The features of the subject's frames from live windows, each frame's with so much sound after its end."""
    frames, streams = np.arange(subject.num_frames), feature_streams("hama", torch.device("cpu"))
    windows = live_windows(load_audio(subject.files.audio), frames, subject.fps, look_ahead_ms, streams)
    return windows[:, PAST_FRAMES].transpose(1, 2).numpy()


def subtracted(subject: Subject) -> np.ndarray:
    """Mel features of the subject's frames from power spectra without their steady noise.

    The noise of a channel is 1.5 times the 10th percentile of its power over 180 ms, at most .8 of its mean.
    """
    spectra, feature = mel.mel_spectra([load_audio(subject.files.audio)]), audio_feature("mel")
    power = spectra.power[:]
    smooth = np.stack([np.convolve(channel, np.full(9, 1 / 9), "same") for channel in power.T], axis=1)
    noise = np.minimum(1.5 * np.percentile(smooth, 10, axis=0), 0.8 * power.mean(0))
    clean = np.maximum(power - noise, 0.0).astype(np.float32)
    square = spectra.mean_square * clean.sum(-1) / np.maximum(power.sum(-1), 1e-20)
    rows = GrowingRows(feature.channels)
    rows.append(clean)
    values = mel.normalise(mel.MelSpectra(rows, square.astype(np.float32), spectra.num_samples))
    line = StepFeatures(values, feature.rate_hz, feature.steps, spectra.num_samples / SAMPLE_RATE)
    return line.frames(np.arange(subject.num_frames), subject.fps)


class WithFeatures:
    """A subject whose audio features are others."""

    def __init__(self, subject: Subject, features: np.ndarray) -> None:
        self._subject, self._features = subject, features

    def __getattr__(self, name: str) -> Any:
        return getattr(self._subject, name)

    def audio_features(self, name: str) -> np.ndarray:
        """The other features."""
        return self._features


def scores(
    avatar: Avatar,
    subject: Any,
    indices: np.ndarray,
    va: np.ndarray | None,
    *,
    lpips: bool = False,
    gate: np.ndarray | None = None,
) -> dict[str, float]:
    """Pixels and lips of the rendered frames ``indices``, against the recorded ones."""
    models = EvaluationModels(avatar.device, MediaPipeMesh)
    if lpips:
        models.lpips = Lpips.open("squeeze").to(avatar.device)
    frames = reconstruct(avatar, subject, indices, va, gate)
    found = measure(frames, subject=subject, indices=indices, va=None, models=models)
    metrics = {name: found.metrics[name].value for name in (*PIXELS, *LIP_MOTION) if name in found.metrics}
    return metrics | (speaking(found.observation, float(subject.fps)) if found.observation is not None else {})


def speaking(seen: Observation, fps: float) -> dict[str, float]:
    """The lips outside pauses, in which the recorded ones are shut for ``PAUSE_S``: pressed, pulled, licked."""
    shown, recorded = (lip_series(faces.points) for faces in (seen.faces, seen.recorded_faces))
    pause = binary_opening(recorded[0] < SHUT, np.ones(round(PAUSE_S * fps)))
    values: dict[str, float] = {"pauses": float(pause.mean())}
    for part, ours, theirs in zip(PARTS, shown, recorded, strict=True):
        agreement = series_scores(np.where(pause, np.nan, ours), theirs, fps)
        values |= {f"speaking_{part}_r": agreement.r, f"speaking_{part}_spread": agreement.spread}
    return values


def train_head(run: Run, places: Places) -> float:
    """Train the head of a run; its seconds."""
    torch.set_num_threads(1 if run.device != "cpu" else torch.get_num_threads())
    place = view(run.subject, places.subject(run), run.stretch)
    if run.variant == "mel-subtracted":
        file = place / audio_feature("mel").file_name
        file.unlink(missing_ok=True)  # a link to the subject's own
        np.save(file, subtracted(Subject.open(place)))
    settings = [*VARIANTS[run.variant], *run.settings, f"seed={run.seed}"]
    made = train(place, places.head(run), run.preset, run.device, settings, resume=False)
    return sum(made.stage_seconds.values())


def score_head(run: Run, places: Places, device: str) -> dict[str, Any]:
    """The run's row, without its seconds."""
    torch.set_num_threads(1)
    subject = Subject.open(view(run.subject, places.subject(run), run.stretch))
    avatar, indices = Avatar.load(places.head(run)).to(device), np.asarray(subject.val_indices)
    va = own_emotion(subject, indices) if avatar.head.emotion is not None else None
    row: dict[str, Any] = {"whole file": scores(avatar, subject, indices, va, lpips=True)}
    if avatar.closes_lips:
        activity = voice_activity([load_audio(subject.files.audio)])
        gate = activity.frames(0, subject.num_frames, subject.fps)[indices]
        row["with the mouth's gate"] = scores(avatar, subject, indices, va, gate=gate)
    if run.causal and avatar.audio_features == "hama":
        for look_ahead in (80, 160):
            heard = WithFeatures(subject, streamed(subject, look_ahead))
            row[f"causal {look_ahead} ms"] = scores(avatar, heard, indices, va)
    return row


def work_off(todo: list[Run], places: Places, args: argparse.Namespace) -> Iterator[tuple[Run, dict[str, Any]]]:
    """Train and score, and yield each run with its row; a run that fails is reported and left out."""
    began, spawn = time.monotonic(), get_context("spawn")
    device = args.score_device or args.device
    with ProcessPoolExecutor(args.jobs, spawn) as trainings, ProcessPoolExecutor(args.score_jobs, spawn) as scorings:
        training: dict[Future[Any], Run] = {}
        scoring: dict[Future[Any], tuple[Run, dict[str, Any]]] = {}
        while True:
            while todo and len(training) < args.jobs and time.monotonic() - began < args.until:
                run = todo.pop(0)
                if args.heads is None:
                    training[trainings.submit(train_head, run, places)] = run
                else:
                    scoring[scorings.submit(score_head, run, places, device)] = run, {}
            if not training and not scoring:
                return
            for done in wait([*training, *scoring], return_when=FIRST_COMPLETED).done:
                trained = training.pop(done, None)
                run, row = (trained, {}) if trained is not None else scoring.pop(done)
                if done.exception() is not None:
                    print(f"{run.name}: {done.exception()!r}", flush=True)
                elif trained is not None:
                    row = {"seconds": done.result()}
                    scoring[scorings.submit(score_head, run, places, device)] = run, row
                else:
                    yield run, row | done.result()


def table(rows: dict[str, dict[str, Any]], runs: list[Run]) -> dict[str, Any]:
    """Mean and deviation over the seeds, by subject, variant, stretch and way of hearing."""
    found: dict[str, Any] = {}
    for run in runs:
        if run.name not in rows:
            continue
        place = found.setdefault(f"{run.subject.name} {run.stretch}", {}).setdefault(run.variant, {})
        for way, values in rows[run.name].items():
            if isinstance(values, dict):
                for name, value in values.items():
                    place.setdefault(way, {}).setdefault(name, []).append(value)
    for variants in found.values():
        for ways in variants.values():
            for values in ways.values():
                for name, of_seeds in values.items():
                    spread = float(np.std(of_seeds, ddof=1)) if len(of_seeds) > 1 else 0.0
                    values[name] = {"mean": float(np.mean(of_seeds)), "deviation": spread, "seeds": len(of_seeds)}
    return found


def show(found: dict[str, Any]) -> None:
    """Print the means."""
    for place, variants in found.items():
        for variant, ways in variants.items():
            for way, values in ways.items():
                line = "  ".join(
                    f"{name} {value['mean']:.3f}±{value['deviation']:.3f}" for name, value in values.items()
                )
                print(f"{place:<16} {variant:<18} {way:<14} {line}", flush=True)


def main() -> None:
    """Run the benchmark."""
    args = arguments(__doc__)
    args.folder.mkdir(parents=True, exist_ok=True)
    runs = [
        Run(subject, variant, seed, stretch, args.preset, args.device, tuple(args.set), args.causal)
        for seed in args.seeds
        for stretch in args.stretches
        for subject in args.subjects
        for variant in args.variants
    ]
    places = Places(args.folder, args.heads)
    rows = {run.name: json.loads(places.row(run).read_text()) for run in runs if places.row(run).exists()}
    for run, row in work_off([run for run in runs if run.name not in rows], places, args):
        rows[run.name] = row
        places.row(run).write_text(json.dumps(row))
        show(table({run.name: row}, [run]))
    found = table(rows, runs)
    print()
    show(found)
    described = [asdict(run) | {"subject": run.subject.name} for run in runs]
    seconds = {name: row["seconds"] for name, row in rows.items() if "seconds" in row}
    write(args.name, {"runs": described, "seconds": seconds, "found": found})


if __name__ == "__main__":
    main()
