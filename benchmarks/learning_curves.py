"""Learning curves on the synthetic actor, whose normals, poses and valence/arousal are known exactly.

    python benchmarks/learning_curves.py SUBJECT FOLDER [--preset fast] [--device cuda] [--jobs 1] [--only NAME ...]
        [--set KEY=VALUE ...] [--name learning_curves_actor]

SUBJECT is the actor's clip (`Performance.generate`, seed 1) as `emotalking prepare` made it. FOLDER/truth becomes the
same performance without any error of capture (true masks, poses, action units, valence/arousal and normals). Avatars
are trained on either, without normals, with the paper's terms (L1), and with the cosine instead. While they learn, and
at the end on all held-out frames, rendered normals (shortest axis and residual) are compared with the actor's own, and
the twelve points of docs/paper.md 9.3 are rendered and read by the actor's model. FOLDER keeps what is done, so that it
is not done again; curves.png and normals.png in it show the curves and the maps.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from functools import cache, partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from _actor_truth import degrees_between, given, make_truth, normals_of, script_of
from _report import arguments, write
from loss_terms import ROWS as RECIPES

from emotalking.data import Subject
from emotalking.data.labels import Label
from emotalking.emotion.circumplex import TEST_POINTS
from emotalking.evaluate.held_out import evaluate_held_out
from emotalking.io.arrays import load_array
from emotalking.io.files import write_bytes
from emotalking.io.settings import override
from emotalking.models.avatar import Avatar
from emotalking.models.head import TalkingHead
from emotalking.models.scene import Scene, TorsoStack, encode_torso
from emotalking.ops.composite import to_uint8
from emotalking.ops.normals import decode_normals
from emotalking.player.views import normal_colours
from emotalking.report import Plot
from emotalking.report.images import grid
from emotalking.testing.actor import ActorEmotionModel, ActorState, Performance
from emotalking.train.callbacks.log import LOG, RunLog, StepLog, of_kind
from emotalking.train.callbacks.preview import Preview, pick_frames
from emotalking.train.callbacks.rows import read_log
from emotalking.train.callbacks.warnings import EarlyWarnings
from emotalking.train.data import TrainingData
from emotalking.train.presets import preset
from emotalking.train.run import MESH_WARP, make_context, resolve_config, stage_builders
from emotalking.train.stage_renderer import EMOTIONAL, StageRenderer
from emotalking.train.stages.finetune import learn_closed_mouth_codes
from emotalking.train.trainer import Trainer

L1 = tuple(RECIPES["with normals"])
COSINE = tuple(setting.replace(".losses.normal=", ".losses.normal_cosine=") for setting in L1)
ROWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "as prepared, no normals": ("prepared", ()),
    "as prepared, L1": ("prepared", L1),
    "as prepared, cosine": ("prepared", COSINE),
    "truth, no normals": ("truth", ()),
    "truth, L1": ("truth", L1),
    "truth, cosine": ("truth", COSINE),
}
"""Which folder is learned from, with which terms; the weights are the paper's."""
MEASURED_FRAMES = 4
"""Held-out frames on which the test points are shown at the end; one while it learns."""
Picture = tuple[int, tuple[float, float], np.ndarray]
"""Frame of the clip, commanded valence and arousal, RGB uint8."""


class Probe:
    """Rendered normals of some frames against the actor's own.

    Args:
        subject: what is learned from.
        prepared: the folder whose face region counts, for all rows alike.
        truth: the actor's own.
        indices: frames of the clip.
        features: name of the audio features.
    """

    def __init__(
        self, subject: Subject, prepared: Subject, truth: Subject, indices: np.ndarray, features: str, device: str
    ) -> None:
        self.data = TrainingData.load(subject, indices, features, device, normals=True)
        self.renderer = StageRenderer(self.data)
        self.true = np.stack([normals_of(truth, int(index)) for index in indices])
        known = np.stack([normals_of(prepared, int(index)).any(-1) for index in indices])
        face = np.stack([truth.masks(int(index)).labels == Label.HEAD for index in indices])
        self.inside, self.rest = face & known, face & ~known

    def errors(self, head: TalkingHead, stage: str) -> dict[str, float]:
        """Degrees: mean and median where the prepared folder has a normal, mean on the rest of the head's skin; and
        the share of the former that is covered."""
        self.renderer.begin(head)
        maps = np.stack([self.rendered(head, stage, at) for at in range(self.data.count)])
        covered = maps.any(-1)
        angles = degrees_between(maps, self.true)
        inside, rest = angles[self.inside & covered], angles[self.rest & covered]
        share = (self.inside & covered).sum() / self.inside.sum()
        figures = {"mean": inside.mean(), "median": np.median(inside), "rest": rest.mean(), "covered": share}
        return {f"normal_{name}": float(value) for name, value in figures.items()}

    def rendered(self, head: TalkingHead, stage: str, at: int) -> np.ndarray:
        """[H, W, 3] unit normals in camera space, zero where nothing is drawn."""
        _, encoded = self.renderer.normals(head, stage, at)
        return (decode_normals(encoded) * (encoded.amax(-1, keepdim=True) > 0)).cpu().numpy()

    def shown(self, head: TalkingHead, stage: str, at: int) -> list[Picture]:
        """The twelve test points on frame ``at``."""
        self.renderer.begin(head)
        pictures = []
        for point in TEST_POINTS:
            commanded = (point.valence, point.arousal)
            va = torch.tensor([commanded], device=self.data.device, dtype=torch.float32)
            rgb = self.renderer.render(head, stage, at, self.renderer.whole, va=va).rgb
            pictures.append((int(self.data.indices[at]), commanded, to_uint8(rgb)))
        return pictures


class ProbedPreview(Preview):
    """The run's usual preview, and the probe's."""

    probe: Probe

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.pictures: dict[tuple[str, int], list[Picture]] = {}

    def measure(self, head: TalkingHead, stage: str, iteration: int) -> dict[str, Any]:
        """See :meth:`Preview.measure`."""
        metrics = super().measure(head, stage, iteration)
        if stage in EMOTIONAL and head.emotional:
            self.pictures[stage, iteration] = self.probe.shown(head, stage, self.probe.data.count // 2)
        return metrics if stage == "mouth" else metrics | self.probe.errors(head, stage)


def learn(subject: Path, truth: Path, folder: Path, row: str, args: argparse.Namespace) -> dict[str, Any]:
    """Train one row, without its readings of emotion; the pictures that are to be read are among what comes back."""
    kind, terms = ROWS[row]
    prepared, true = Subject.open(subject), Subject.open(truth)
    source = prepared if kind == "prepared" else true
    config = resolve_config(override(preset(args.preset), [*terms, *args.set]), source)
    context = make_context(config, source, torch.device(args.device), folder, None)
    head, data = context.head, context.data
    picked = pick_frames(source)
    features = config.model.audio.features
    fixed = TrainingData.load(source, picked.all, features, args.device, normals=config.normals)
    probe = Probe(source, prepared, true, picked.fixed, features, args.device)
    log = RunLog(folder)
    preview = ProbedPreview(log, fixed, picked, folder, MESH_WARP.open(fixed))
    preview.probe = probe
    callbacks = [StepLog(log), preview, EarlyWarnings(log)]
    began = time.perf_counter()
    stages = stage_builders(context)
    Trainer(head, stages, context.generator, folder, {}, config.checkpoint_every, callbacks).run()
    learn_closed_mouth_codes(head, data, config.closed_mouth_code)
    seconds = time.perf_counter() - began
    avatar = Avatar(head, _scene(source, data))
    held_out = Probe(source, prepared, true, source.val_indices, features, args.device)
    steps = np.linspace(0, held_out.data.count - 1, MEASURED_FRAMES).round().astype(int)
    final = [picture for at in steps for picture in held_out.shown(head, "finetune", int(at))]
    shown = [held_out.rendered(head, "finetune", int(at)) for at in steps[:3]]
    return {
        "figures": held_out.errors(head, "finetune") | evaluate_held_out(avatar, source).summary(),
        "gaussians": head.face.gaussians.count,
        "seconds": seconds,
        "pictures": preview.pictures,
        "final": final,
        "maps": shown,
    }


def _scene(source: Subject, data: TrainingData) -> Scene:
    """Scoring inputs of a scene."""
    conditions = data.conditions
    return Scene(
        width=source.width,
        height=source.height,
        fps=source.fps,
        focal=float(source.focal),
        viewmats=conditions.viewmats.cpu().numpy(),
        aus=conditions.aus.cpu().numpy(),
        va=conditions.va.cpu().numpy(),
        background=np.asarray(source.background),
        torso=TorsoStack.encode([encode_torso(source.torso(0))]),
    )


@cache
def _model() -> ActorEmotionModel:
    cv2.setNumThreads(1)
    return ActorEmotionModel()


def read(task: tuple[Picture, ActorState]) -> tuple[float, float]:
    """Valence and arousal that the actor's emotion model sees; for a worker process."""
    (_, _, image), state = task
    # The targets keep the lips' opening and the skin's tint, so those must not count for or against them.
    found = _model().fit(image / 255.0, replace(state, emotional_jaw=False, emotional_tint=False))
    return found.valence, found.arousal


def readback(pictures: list[Picture], script: Performance, pool: Executor) -> dict[str, Any]:
    """Commanded against read emotion: correlation and error per axis."""
    tasks = [(picture, script.states[picture[0]]) for picture in pictures]
    measured = np.array(list(pool.map(read, tasks)))
    commanded = np.array([picture[1] for picture in pictures])
    rmse = np.sqrt(((measured - commanded) ** 2).mean(0))
    figures = {}
    for axis, name in enumerate(("valence", "arousal")):
        steady = measured[:, axis].std() < 1e-9
        figures[f"{name}_r"] = 0.0 if steady else float(np.corrcoef(commanded[:, axis], measured[:, axis])[0, 1])
        figures[f"{name}_rmse"] = float(rmse[axis])
    return figures


def row_of(name: str, args: argparse.Namespace, truth: Subject, trainers: Executor, judges: Executor) -> dict[str, Any]:
    """Train and read one row, unless that was done before."""
    folder = args.folder / name.replace(",", "").replace(" ", "_")
    kept, maps = folder / "row.json", folder / "maps.npy"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        made = trainers.submit(learn, args.subject, truth.files.root, folder, name, args).result()
        script = script_of(truth)
        pictures, final = made.pop("pictures"), made.pop("final")
        np.save(maps, np.stack(made.pop("maps")).astype(np.float16))
        made["figures"] |= readback(final, script, judges) if pictures else {}
        emotion = {at: readback(shown, script, judges) for at, shown in pictures.items()}
        made["settings"] = list(ROWS[name][1])
        made["curve"] = _curve(folder, emotion)
        kept.write_text(json.dumps(made))
    made = json.loads(kept.read_text())
    print(name, {figure: round(value, 3) for figure, value in made["figures"].items()}, flush=True)
    return made


def _curve(folder: Path, emotion: dict[tuple[str, int], dict[str, Any]]) -> list[dict[str, Any]]:
    """All looks of a run, on one axis of iterations."""
    rows, curve, start = read_log(folder / LOG), [], 0
    for stage in of_kind(rows, "stage"):
        for look in of_kind(rows, "frames", stage["stage"]):
            names = [name for name in look if name.startswith(("normal_", "psnr"))]
            at = {"stage": stage["stage"], "iteration": start + look["iteration"]}
            known = emotion.get((stage["stage"], look["iteration"]), {})
            curve.append(at | {name: look[name] for name in names} | known)
        start += stage["iterations"]
    return curve


def draw_curves(path: Path, rows: dict[str, dict[str, Any]], prepared: dict[str, Any]) -> None:
    """Normal error, correlations and PSNR over the iterations."""
    names = {
        "normal_mean": "normal error, mean [°]",
        "valence_r": "valence: r",
        "arousal_r": "arousal: r",
        "psnr_head": "PSNR of the head [dB]",
    }
    starts: dict[int, str] = {}
    for before, after in pairwise([{"stage": "", "iteration": 0}, *next(iter(rows.values()))["curve"]]):
        if after["stage"] != before["stage"]:
            starts[before["iteration"]] = after["stage"]
    plot = Plot(rows=len(names), height=2.3 * len(names), sharex=True)
    for axes, (figure, label) in zip(plot.axes, names.items(), strict=True):
        for row, made in rows.items():
            points = [(look["iteration"], look[figure]) for look in made["curve"] if figure in look]
            if points:
                style = "-" if ROWS[row][0] == "prepared" else "--"
                colour = ("#8a93a5", "#2f6fde", "#e0672f")[list(ROWS).index(row) % 3]
                axes.plot(*zip(*points, strict=True), style, marker=".", color=colour, label=row)
        for at, stage in starts.items():
            axes.axvline(at, color="#c9ced8", linewidth=0.8)
            axes.annotate(stage, (at, 1), (3, -9), ("data", "axes fraction"), "offset points", fontsize=7)
        axes.set(ylabel=label)
    plot.axes[0].axhline(prepared["normals"]["normal_mean"], color="#1d2330", linewidth=0.8, linestyle=":")
    plot.axes[0].legend(ncols=3, fontsize=7, title="dotted: the maps that 'as prepared' is given", title_fontsize=7)
    plot.axes[-1].set(xlabel="iteration of the run")
    write_bytes(path, plot.png())


def draw_normals(path: Path, args: argparse.Namespace, truth: Subject, prepared: Subject) -> None:
    """True, given and rendered normals of three held-out frames."""
    count = len(prepared.val_indices)
    indices = prepared.val_indices[np.linspace(0, count - 1, MEASURED_FRAMES).round().astype(int)[:3]]

    def colours(vectors: np.ndarray) -> np.ndarray:
        known = torch.from_numpy(vectors.any(-1))[None].float()
        shown = normal_colours(torch.from_numpy(vectors.astype(np.float32))[None], known)[0]
        return (255 * shown.numpy()).astype(np.uint8)

    rows = {name: [colours(normals_of(folder, int(index))) for index in indices]
            for name, folder in (("true", truth), ("prepared", prepared))}  # fmt: skip
    for name in args.only:
        maps = args.folder / name.replace(",", "").replace(" ", "_") / "maps.npy"
        rows[name.replace("as ", "").replace(", ", "\n")] = [colours(one) for one in load_array(maps)]
    write_bytes(path, cv2.imencode(".png", grid(list(rows.values()), 256, list(rows))[..., ::-1])[1].tobytes())


def main() -> None:
    args = arguments(__doc__)
    args.only = args.only or list(ROWS)
    prepared = Subject.open(args.subject)
    truth = make_truth(args.folder / "truth", prepared)
    about = given(prepared, truth)
    print(json.dumps(about), flush=True)
    workers: Callable[..., Executor] = partial(ProcessPoolExecutor, mp_context=get_context("spawn"))
    judging = os.cpu_count() or 1
    with workers(args.jobs) as trainers, workers(judging) as judges, ThreadPoolExecutor(len(args.only)) as threads:
        made = threads.map(lambda name: row_of(name, args, truth, trainers, judges), args.only)
        rows = dict(zip(args.only, made, strict=True))
    draw_curves(args.folder / "curves.png", rows, about)
    draw_normals(args.folder / "normals.png", args, truth, prepared)
    facts = {"preset": args.preset, "jobs": args.jobs, "settings": args.set}
    print(write(args.name, {"arguments": facts, "given": about, "rows": rows}))


if __name__ == "__main__":
    main()
