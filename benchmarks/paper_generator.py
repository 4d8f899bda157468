"""The paper's lip-aligned generator trained from nothing at 64 pixels on synthetic people (paper 3.3.1, figure 2).

python benchmarks/paper_generator.py PEOPLE FOLDER [--device cpu] [--batch 32] [--size N] [--channels 64]
    [--phases critics,encoder,adversarial,emotion,lips,measure] [--critics 32] [--encoder 64] [--steps N]
    [--limits PHASE=SECONDS ...] [--name NAME]

Phases: critics and, from other people and another seed, judges; encoder and synthesis as an autoencoder; StyleGAN2
against its discriminator, the encoder along with it; EmoExtract with EmoStyle's losses; lip encoder, LipExtract and
StyleGAN2 with the paper's five; figures on people whom no network has seen, by the judges. What a phase makes lies in
FOLDER, from where later phases take it, so that a run can be cut in pieces. Pictures: drawn.png (random styles),
inverted.png (seen people, then unseen), edits.png (unseen people: source, inversion, five emotions; first EmoStyle
alone, below with LipExtract), curves.png. PEOPLE: of benchmarks/_people.py. --limits: other seconds of phases.
"""

import argparse
import copy
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from _people import People
from _report import arguments, write
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from emotalking.io.files import write_bytes
from emotalking.report import Plot
from emotalking.stylegan.adversarial import AdversarialConfig, AdversarialTask
from emotalking.stylegan.critics import LIPS, CriticsTask, FoundPoints, SmallCritics, SmallEncoder, VariedCritics
from emotalking.stylegan.edit_training import EditConfig, EmotionTask, LipTask, Sources
from emotalking.stylegan.generator_losses import lip_rectangles
from emotalking.stylegan.inversion import EncoderTask, Inversion
from emotalking.stylegan.lip_aligned import LipAligned
from emotalking.stylegan.stylegan2 import StyleGAN2, StyleGAN2Size, to_images
from emotalking.stylegan.training import Task, clear, run
from emotalking.train.callbacks.log import LOG, of_kind
from emotalking.train.callbacks.rows import read_log

SECONDS = {"critics": 24, "judges": 16, "encoder": 90, "adversarial": 50, "emotion": 30, "lips": 45}
"""Maximum, by phase."""
STEPS = {"critics": 1600, "judges": 1300, "encoder": 100_000, "adversarial": 100_000, "emotion": 4000, "lips": 4000}
WIDTHS = (512, 256, 256)
UNSEEN = 0.1
"""Share of the people whom nothing learns from."""
RING = [(0.8, 22.5 + 45 * k) for k in range(8)] + [(0.5, 45 + 90 * k) for k in range(4)]
"""The paper's twelve points: radius and degrees (docs/paper.md 9.3)."""


class Study:
    """Data, networks and their files."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.folder, self.device = options, options.folder, torch.device(options.device)
        self.folder.mkdir(parents=True, exist_ok=True)
        people = People.read(options.people)
        self.count = int(people.person.max()) + 1
        size = options.size or people.images.shape[1]
        images = [cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA) for image in people.images]
        self.images = torch.from_numpy(np.stack(images)).to(self.device)
        self.ibug68 = torch.from_numpy(people.ibug68).to(self.device)
        self.va = torch.from_numpy(people.va).to(self.device)
        self.person = torch.from_numpy(people.person).to(self.device)
        self.free = torch.from_numpy(people.free).to(self.device)
        self.unseen = self.person >= round(self.count * (1 - UNSEEN))
        self.size = StyleGAN2Size(size, options.channels * size, 4 * options.channels, 4 * options.channels, 4)
        self.seconds: dict[str, float] = {}
        self.steps: dict[str, int] = {}

    def learn(self, task: Task, phase: str, seed: int) -> None:
        """One phase."""
        began = time.monotonic()
        steps = min(STEPS[phase], self.options.steps or STEPS[phase])
        seconds = self.options.limits.get(phase, SECONDS[phase])
        rows = run(task, steps, self.folder, seed=seed, seconds=seconds, checkpoint_every=steps)
        clear([task.name], self.folder)
        self.seconds[phase] = round(time.monotonic() - began, 1)
        self.steps[phase] = rows[-1]["iteration"] if rows else 0
        print(
            phase, self.seconds[phase], "s", self.steps[phase], "steps", rows[-1]["terms"] if rows else "", flush=True
        )

    def keep(self, name: str, module: nn.Module) -> None:
        """Half precision, which is less to carry."""
        halves = {k: v.half() if v.is_floating_point() else v for k, v in module.state_dict().items()}
        save_file({k: v.contiguous() for k, v in halves.items()}, self.folder / f"{name}.safetensors")

    def take(self, name: str, module: nn.Module) -> Any:
        """A phase's network, frozen."""
        loaded = load_file(self.folder / f"{name}.safetensors")
        module.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in loaded.items()})
        return module.to(self.device).eval().requires_grad_(False)

    def new_critics(self, name: str) -> SmallCritics:
        """Judges are a little narrower than critics."""
        width = self.options.critics
        return SmallCritics(self.count, width if name == "critics" else 3 * width // 4)

    def critics(self, name: str) -> SmallCritics:
        """Critics of the first half of the seen people, or judges of the second."""
        return self.take(name, self.new_critics(name))

    def varied(self) -> VariedCritics:
        """Critics as losses ask them."""
        return VariedCritics(self.critics("critics"))

    def generator(self) -> StyleGAN2:
        return self.take("generator", StyleGAN2(self.size))

    def encoder(self) -> SmallEncoder:
        return self.take("encoder", SmallEncoder(self.size, self.options.encoder))

    def sources(self, chosen: Tensor) -> Sources:
        """Recorded faces with the encoder's styles."""
        encoder, images = self.encoder(), self.images[chosen]
        with torch.no_grad():
            styles = torch.cat([encoder(part.float() / 255) for part in images.split(256)])
        return Sources(images, self.ibug68[chosen], styles)


def learn_critics(study: Study) -> None:
    """Critics that the losses use, judges that only measure: other people, another seed, another width.

    Lips mostly go with the face, as in life: every third of the pictures where they do not is learnt from.
    """
    seen_people = round(study.count * (1 - UNSEEN))
    usual = ~study.free | (torch.arange(len(study.free), device=study.device) % 3 == 0)
    for seed, name in enumerate(("critics", "judges")):
        half = ((study.person * 2 // seen_people) == seed) & usual
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            critics = study.new_critics(name).to(study.device)
        data = (study.images[half], study.ibug68[half], study.va[half], study.person[half])
        steps = min(STEPS[name], study.options.steps or STEPS[name])
        study.learn(
            CriticsTask(critics, *data, steps=steps, batch=min(64, 3 * study.options.batch), name=name), name, seed
        )
        study.keep(name, critics)
        print(name, "on the unseen:", critic_errors(study, critics.eval()), flush=True)


@torch.no_grad()
def critic_errors(study: Study, critics: SmallCritics) -> dict[str, float]:
    """Accuracy of the critics on unseen people."""
    found, points = [], []
    images, truth = study.images[study.unseen], study.ibug68[study.unseen]
    for part, places in zip(images.split(256), truth.split(256), strict=True):
        faces = part.float() / 255
        found.append(critics.emotion(faces, places))
        points.append((critics.points(faces, places).points - (places + 1) * 32).norm(dim=2).mean(1))
    va = torch.cat(found)
    return {
        **{f"r_{name}": correlation(va[:, i], study.va[study.unseen][:, i]) for i, name in enumerate(("v", "a"))},
        "rmse": float((va - study.va[study.unseen]).square().mean().sqrt()),
        "points_px": float(torch.cat(points).mean()),
    }


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's."""
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


def inversion(study: Study, encoder: SmallEncoder) -> Inversion:
    """Inversion of the training people."""
    return Inversion(encoder, study.varied(), study.images[~study.unseen], study.ibug68[~study.unseen])


def learn_encoder(study: Study) -> None:
    """Encoder and synthesis alone."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network = StyleGAN2(study.size).to(study.device)
        encoder = SmallEncoder(study.size, study.options.encoder).to(study.device)
    study.learn(EncoderTask(network, inversion(study, encoder), batch=study.options.batch // 2), "encoder", 2)
    study.keep("generator", network)
    study.keep("encoder", encoder)


def learn_adversarial(study: Study) -> None:
    """StyleGAN2 and its encoder."""
    network, encoder = study.generator().requires_grad_(True), study.encoder().train().requires_grad_(True)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        config = AdversarialConfig(batch=study.options.batch, r1=2.0, rate=1e-3)
        task = AdversarialTask(network, study.images[~study.unseen], config, inversion(study, encoder))
    study.learn(task, "adversarial", 3)
    task.settle()
    study.keep("generator", task.average)
    study.keep("encoder", task.average_encoder)
    with torch.no_grad():
        z = torch.randn(64, study.size.style_dim, generator=torch.Generator().manual_seed(0)).to(study.device)
        drawn = to_images(task.average(z, psi=0.8))
    picture(study.folder / "drawn.png", drawn.view(8, 8, *drawn.shape[1:]))
    rows = []
    for images in (study.images[~study.unseen], study.images[study.unseen]):
        shown = images[:: max(1, len(images) // 16)][:16].float() / 255
        with torch.no_grad():
            back = to_images(task.average.synthesis(task.average_encoder(shown)))
        rows += [shown[:8], back[:8], shown[8:16], back[8:16]]
    picture(study.folder / "inverted.png", torch.stack(rows))


def edit_config(study: Study) -> EditConfig:
    """Rates and batch for minutes instead of epochs."""
    return replace(EditConfig(), batch=study.options.batch, mapping_rate=1e-3)


def learn_emotion(study: Study) -> None:
    """EmoExtract."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        network = LipAligned(study.size, WIDTHS).to(study.device)
    network.generator = study.generator()
    task = EmotionTask(network, study.varied(), study.sources(~study.unseen), edit_config(study))
    study.learn(task, "emotion", 4)
    study.keep("emotion", network.emotion)


def learn_lips(study: Study) -> None:
    """Lip encoder, LipExtract, StyleGAN2."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = LipAligned(study.size, WIDTHS).to(study.device)
    network.generator = study.generator()
    study.take("emotion", network.emotion)
    task = LipTask(network, study.varied(), study.sources(~study.unseen), edit_config(study))
    study.learn(task, "lips", 5)
    study.keep("lip_aligned", network)


@torch.no_grad()
def measure(study: Study) -> dict[str, Any]:
    """Both generators on unseen people, by judges that took no part."""
    whole = study.take("lip_aligned", LipAligned(study.size, WIDTHS))
    alone = copy.deepcopy(whole)
    alone.generator = study.generator()
    sources = study.sources(study.unseen)
    critics, judges = study.critics("critics"), study.critics("judges")
    rows = torch.arange(0, len(sources), max(1, len(sources) // 240))[:240]
    faces, ibug68, styles = sources.pick(rows)
    angle = np.radians([degrees for _, degrees in RING])
    ring = np.array([[radius] for radius, _ in RING]) * np.stack([np.cos(angle), np.sin(angle)], 1)
    ring = torch.from_numpy(ring.astype(np.float32)).to(study.device)
    lips = critics.points(faces, ibug68).lips
    made: dict[str, list[Tensor]] = {"EmoStyle alone": [], "with LipExtract": []}
    for va in ring:
        command = va.expand(len(faces), 2)
        made["EmoStyle alone"].append(alone.draw(alone.move(styles, command).styles))
        made["with LipExtract"].append(whole.draw(whole.move(styles, command, lips).styles))
    found = {"source": judged(judges, faces, faces, ibug68)}
    figures: dict[str, Any] = {"judges_on_unseen": critic_errors(study, judges)}
    figures["inverted, no edit"] = compared(found["source"], judged(judges, alone.draw(styles), faces, ibug68))
    for name, parts in made.items():
        seen = [judged(judges, part, faces, ibug68) for part in parts]
        rates = [compared(found["source"], one) for one in seen]
        figures[name] = {key: float(np.mean([rate[key] for rate in rates])) for key in rates[0]}
        va = torch.cat([one["va"] for one in seen])
        wanted = ring.repeat_interleave(len(faces), 0)
        figures[name] |= {
            "r_valence": correlation(va[:, 0], wanted[:, 0]),
            "r_arousal": correlation(va[:, 1], wanted[:, 1]),
            "rmse_valence": float((va - wanted)[:, 0].square().mean().sqrt()),
            "rmse_arousal": float((va - wanted)[:, 1].square().mean().sqrt()),
            "sign_valence": float((va.sign() == wanted.sign())[:, 0].float().mean()),
            "sign_arousal": float((va.sign() == wanted.sign())[:, 1].float().mean()),
        }
    chosen = [0, 2, 3, 4, 7]
    some = list(range(0, len(faces), max(1, len(faces) // 6)))[:6]
    grid = [
        torch.stack([faces[i], alone.draw(styles[i : i + 1])[0], *[parts[k][i] for k in chosen]])
        for i in some
        for parts in made.values()
    ]
    picture(study.folder / "edits.png", torch.stack(grid))
    return figures


def judged(judges: SmallCritics, made: Tensor, source: Tensor, ibug68: Tensor) -> dict[str, Tensor]:
    """Predictions of the evaluation models for images."""
    points: FoundPoints = judges.points(made, ibug68)
    inside = lip_rectangles(ibug68, source.shape[1])
    off = ((made - source).abs().mean(3) * inside).sum((1, 2)) / inside.sum((1, 2))
    return {
        "va": judges.emotion(made, ibug68),
        "lips": points.points[:, LIPS],
        "identity": judges.identity(made, ibug68),
        "lip_colours": off,
    }


def compared(source: dict[str, Tensor], made: dict[str, Tensor]) -> dict[str, float]:
    """Against the source; pixels of 64, correlations over faces."""

    def opening(lips: Tensor) -> Tensor:
        return (lips[:, [17, 18, 19]] - lips[:, [15, 14, 13]])[..., 1].mean(1)

    def width(lips: Tensor) -> Tensor:
        return lips[:, 6, 0] - lips[:, 0, 0]

    return {
        "lip_landmarks_px": float((made["lips"] - source["lips"]).norm(dim=2).mean()),
        "r_opening": correlation(opening(made["lips"]), opening(source["lips"])),
        "r_width": correlation(width(made["lips"]), width(source["lips"])),
        "opening_px": float((opening(made["lips"]) - opening(source["lips"])).abs().mean()),
        "width_px": float((width(made["lips"]) - width(source["lips"])).abs().mean()),
        "lip_colours": float(made["lip_colours"].mean()),
        "identity_cosine": float((made["identity"] * source["identity"]).sum(1).mean()),
    }


def picture(path: Path, rows: Tensor) -> None:
    """Rows of pictures [R, C, S, S, 3] as one, twice as large."""
    tall = torch.cat([torch.cat(list(row), 1) for row in rows.clamp(0, 1)], 0)
    image = (tall * 255).round().byte().cpu().numpy()
    large = cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)  # type: ignore[call-overload]
    cv2.imwrite(str(path), large[..., ::-1])


def draw_curves(folder: Path) -> None:
    """curves.png: the terms of every phase that left a record."""
    records = {phase: folder / phase / LOG for phase in SECONDS}
    records = {phase: path for phase, path in records.items() if path.exists()}
    if not records:
        return
    plot = Plot(rows=-(-len(records) // 2), columns=2, width=11, height=2.6 * -(-len(records) // 2))
    for axes, (phase, path) in zip(plot.axes, records.items(), strict=False):
        rows = of_kind(read_log(path), "step")
        for term in rows[-1]["terms"]:
            points = [(row["iteration"], row["terms"][term]) for row in rows if row["terms"].get(term, 0.0) > 0]
            if points:
                axes.plot(*zip(*points, strict=True), label=term, linewidth=1)
        axes.set(title=phase, yscale="log", xlabel="step")
        axes.legend(ncols=3, fontsize=6)
    write_bytes(folder / "curves.png", plot.png())


PHASES = {
    "critics": learn_critics,
    "encoder": learn_encoder,
    "adversarial": learn_adversarial,
    "emotion": learn_emotion,
    "lips": learn_lips,
}


def main() -> None:
    options = arguments(__doc__)
    pairs = [pair.split("=") for pair in options.limits]
    options.limits = {name: float(seconds) for name, seconds in pairs}
    torch.set_float32_matmul_precision("high")
    study = Study(options)
    results: dict[str, Any] = {}
    for phase in options.phases.split(","):
        if phase == "measure":
            results["figures"] = measure(study)
            for name, row in results["figures"].items():
                print(name, {key: round(value, 3) for key, value in row.items()})
        else:
            PHASES[phase](study)
    draw_curves(study.folder)
    results |= {"seconds": study.seconds, "steps": study.steps}
    results["arguments"] = {**vars(options), "people": "PEOPLE", "folder": "FOLDER"}
    if options.name:
        print(write(options.name, results, study.folder))


if __name__ == "__main__":
    main()
