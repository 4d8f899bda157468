"""Training of the personal sync expert on the subject's clips, for use without SyncNet.

Contrastive: in a run of consecutive frames, the lips of a window must be nearer to their own sound than to the sound of
every other window of the run, one frame off and more, and the other way round (InfoNCE, van den Oord et al. 2018, arXiv
1807.03748; for SyncNet's task Chung et al. 2019, "Perfect match", arXiv 1809.08001). Windows of other runs are no
negatives: a minute's poses, voices and faces can be memorised. A minute is soon overfitted: from some
hundreds of steps on, held-out seconds get no better, and after 1500 they are worse.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

import emotalking
from emotalking.data import Subject
from emotalking.errors import InputError
from emotalking.lipsync.dataset import (
    STORED,
    TalkingClip,
    augment_bands,
    augment_images,
    augment_recording,
    subject_clip,
)
from emotalking.lipsync.expert import EXPERT_FILE
from emotalking.lipsync.personal import SIZE, PersonalNetwork, save_expert
from emotalking.lipsync.scores import VSHIFT, SyncScores, sync_scores
from emotalking.lipsync.windows import FPS, FRAMES, step_windows
from emotalking.progress import bar

RUN = 36
"""Frames of a run: 32 windows, contrasted with each other."""
VERSIONS = 8
"""Augmented versions of each recording."""
STEPS_GPU, STEPS_CPU = 600, 200
"""Optimizer steps by default."""
RUNS_GPU, RUNS_CPU = 16, 8
"""Runs in a batch by default."""
PIECE = 2 * FPS
"""Windows of the pieces of held-out seconds whose offset is measured."""

_RATE = 1e-3
_DECAY = 0.05
_DROPOUT = 0.2
_SHARPEST = 50.0
"""Largest factor of the cosines before the softmax; 10 at the start, and learned."""
_QUIET = -1.2
"""Windows whose bands are lower than this on average are silence ..."""
_QUIET_WEIGHT = 0.2
"""... and have this weight: all silences are the same."""


@dataclass(frozen=True)
class HeldOut:
    """Scores of an expert on held-out seconds."""

    seconds: float
    offset: int
    """Measured offset of the whole in frames, as :class:`~emotalking.lipsync.scores.SyncScores` counts them."""
    sync_e: float
    sync_c: float
    pieces: int
    """Overlapping pieces of two seconds."""
    within_one: float
    """Share of the pieces whose offset is at most one frame from 0."""


@dataclass(frozen=True)
class ExpertReport:
    """Result of :func:`train_expert`."""

    path: Path
    seconds: float
    steps: int
    loss: float
    """Mean of the last tenth of the steps, nats; log 32 = 3.47 at the start."""
    held_out: tuple[HeldOut | None, ...]
    """For each subject; None where no two held-out seconds show a face."""


def train_expert(
    subjects: Sequence[Subject],
    out: Path | str | None = None,
    *,
    steps: int | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> ExpertReport:
    """Train an expert on the training frames of subject folders and write its file.

    Args:
        subjects: the person the expert is for, then further ones.
        out: file; None: ``sync_expert.safetensors`` in the first folder.
        steps: optimizer steps; None: 600 on a GPU, 200 on a CPU. More clips allow more of them.
        device: of the training.
        seed: random seed.

    Raises:
        InputError: no subject, or less than three seconds to train on.
    """
    started = time.monotonic()
    if not subjects:
        raise InputError("no subject folder was given: name at least one.")
    clips = [subject_clip(subject) for subject in subjects]
    on_gpu = torch.device(device).type == "cuda"
    steps = steps or (STEPS_GPU if on_gpu else STEPS_CPU)
    network, loss = fit(clips, steps=steps, runs=RUNS_GPU if on_gpu else RUNS_CPU, device=device, seed=seed)
    held_out = tuple(score_held_out(network, clip) for clip in clips)
    path = Path(out) if out is not None else subjects[0].files.root / EXPERT_FILE
    report = ExpertReport(path, time.monotonic() - started, steps, loss, held_out)
    save_expert(network, path, _facts(report, clips, seed))
    return report


def _facts(report: ExpertReport, clips: Sequence[TalkingClip], seed: int) -> dict[str, Any]:
    """Facts for the file's header."""
    return {
        "emotalking": emotalking.__version__,
        "licence": "Apache-2.0; the clips' own rights remain with the persons shown",
        "clips_sha256": [clip.fingerprint for clip in clips],
        "learned_seconds": [round(float((clip.training & clip.detected).sum()) / FPS, 2) for clip in clips],
        "steps": report.steps,
        "seed": seed,
        "training_seconds": round(report.seconds, 1),
        "held_out": [None if part is None else asdict(part) for part in report.held_out],
    }


class _Batches:
    """Draws runs of frames and their sounds."""

    def __init__(self, clips: Sequence[TalkingClip], runs: int, device: torch.device | str, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._rng, self._runs = rng, runs
        self._changes = torch.Generator(device).manual_seed(seed)
        starts = [clip.starts(True, RUN) for clip in clips]
        self._starts = np.concatenate([np.stack([np.full(len(s), i), s], 1) for i, s in enumerate(starts)])
        if len(self._starts) < 3 * FPS - RUN:
            raise InputError("there are less than three seconds of a visible face with sound to train on.")
        self._images = [torch.from_numpy(clip.images).to(device) for clip in clips]
        self._recordings: list[Tensor] = []
        for clip in clips:
            others = [other.samples for other in clips if other is not clip]
            self._recordings.append(torch.from_numpy(augment_recording(clip, VERSIONS, others, rng)).to(device))
        self._steps = [torch.from_numpy(step_windows(len(clip.images), FPS)) for clip in clips]

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """Images [R, T, S, S], bands of the windows [R, W, 20, 40], and their weights [R, W]."""
        chosen = self._starts[self._rng.integers(len(self._starts), size=self._runs)]
        images = []
        bands = []
        loudness = []
        for clip, start in chosen:
            images.append(self._images[clip][start : start + RUN])
            sound = self._recordings[clip]
            first = int(self._steps[clip][start, 0])
            last = int(self._steps[clip][start + RUN - FRAMES, -1]) + 1
            bands.append(sound[self._rng.integers(len(sound)), first:last])
            loudness.append(sound[0, first:last].mean(1))
        windows = torch.from_numpy(step_windows(RUN - FRAMES + 1, FPS)).to(self._changes.device)
        audio = augment_bands(torch.stack(bands), self._changes)[:, windows]
        loud = torch.stack(loudness)[:, windows].mean(-1) > _QUIET
        lips = augment_images(torch.stack(images).float() / 255.0, self._changes)
        return lips, audio, torch.where(loud, 1.0, _QUIET_WEIGHT)


def fit(
    clips: Sequence[TalkingClip], *, steps: int, runs: int, device: torch.device | str, seed: int
) -> tuple[PersonalNetwork, float]:
    """Train a network; see the module's text.

    Args:
        runs: in a batch; each has 36 frames.

    Returns:
        The network, in evaluation mode on ``device``, and the mean loss of the last tenth of the steps.
    """
    batches = _Batches(clips, runs, device, seed)
    with torch.random.fork_rng():  # the networks' first weights and drop-out draw from torch's own generator
        torch.manual_seed(seed)
        network = PersonalNetwork(_DROPOUT).to(device).train()
        loss = _learn(network, batches, steps, torch.device(device))
    return network.eval().requires_grad_(False), loss


def _learn(network: PersonalNetwork, batches: _Batches, steps: int, device: torch.device) -> float:
    """The loop; returns the mean loss of the last tenth of the steps."""
    scale = torch.tensor(np.log(10.0), dtype=torch.float32, device=device, requires_grad=True)
    groups = [{"params": network.parameters(), "weight_decay": _DECAY}, {"params": [scale], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=_RATE, betas=(0.9, 0.98))
    # Not a tenth: of ten steps PyTorch divides by zero then.
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps, pct_start=0.11)
    losses = []
    with bar() as progress:
        task = progress.add_task("sync expert", total=steps, note="")
        for step in range(steps):
            images, bands, weights = batches.draw()
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                lips, audio = _embeddings(network, images, bands)
            loss = contrastive_loss(lips, audio, scale.exp().clamp(max=_SHARPEST), weights)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            if step >= int(0.9 * steps):
                losses.append(loss.detach())
            progress.advance(task)
            if step % 20 == 0:
                progress.update(task, note=f"loss {float(loss.detach()):.3f}")
    return float(torch.stack(losses).mean())


def _embeddings(network: PersonalNetwork, images: Tensor, bands: Tensor) -> tuple[Tensor, Tensor]:
    """Embeddings of all windows of all runs, [R, W, D] each; every image is embedded once."""
    frames = network.embed_frames(images.flatten(0, 1)).unflatten(0, images.shape[:2])
    lips = network.embed_windows(frames.unfold(1, FRAMES, 1).transpose(2, 3).flatten(0, 1))
    audio = network.embed_bands(bands.flatten(0, 1))
    return lips.unflatten(0, bands.shape[:2]), audio.unflatten(0, bands.shape[:2])


def contrastive_loss(
    lips: Float[Tensor, "R W D"], audio: Float[Tensor, "R W D"], scale: Tensor, weights: Float[Tensor, "R W"]
) -> Float[Tensor, ""]:
    """InfoNCE within each run: weighted mean of -log of the softmax of each window's own partner, both ways.

    Args:
        scale: factor of the cosines.
        weights: of the windows.
    """
    logits = scale * lips @ audio.transpose(1, 2)
    own = torch.arange(logits.shape[1], device=logits.device).expand(len(logits), -1)
    both = [F.cross_entropy(side, own, reduction="none") for side in (logits, logits.transpose(1, 2))]
    return (weights * (both[0] + both[1])).sum() / (2 * weights.sum())


@torch.no_grad()
def embed_clip(
    network: PersonalNetwork, clip: TalkingClip, begin: int, end: int, late: int = 0
) -> tuple[Float[Tensor, "W D"], Float[Tensor, "W D"]]:
    """Embeddings of the windows of lips and sound within the frames ``begin`` to ``end``, unchanged by augmentation.

    Args:
        late: the sound is taken so many frames later (its windows must lie in the clip).
    """
    device = next(network.parameters()).device
    edge = (STORED - SIZE) // 2
    images = torch.from_numpy(clip.images[begin:end, edge : edge + SIZE, edge : edge + SIZE]).to(device)
    frames = torch.cat([network.embed_frames(part.float() / 255.0) for part in images.split(256)])
    lips = network.embed_windows(frames.unfold(0, FRAMES, 1).transpose(1, 2))
    bands = torch.from_numpy(clip.bands).to(device)
    windows = torch.from_numpy(step_windows(len(clip.images), FPS)[begin + late : end + late - FRAMES + 1]).to(device)
    return lips, network.embed_bands(bands[windows])


def score_held_out(network: PersonalNetwork, clip: TalkingClip) -> HeldOut | None:
    """Score a network on the held-out frames of a clip, a contiguous end of it.

    Returns:
        None where fewer than two seconds and the reach of the shifts are there.
    """
    frames = np.flatnonzero(~clip.training & clip.detected)
    if len(frames) < PIECE + FRAMES + VSHIFT or len(clip.starts(False, len(frames))) == 0:
        return None
    lips, audio = embed_clip(network, clip, int(frames[0]), int(frames[-1]) + 1)
    whole = sync_scores(lips, audio, expert="in training", edges="inside")
    pieces = [SyncScores(whole.expert, whole.distances[b : b + PIECE]) for b in range(0, len(lips) - PIECE + 1, 5)]
    return HeldOut(
        seconds=len(frames) / FPS,
        offset=whole.offset,
        sync_e=whole.error,
        sync_c=whole.confidence,
        pieces=len(pieces),
        within_one=float(np.mean([abs(piece.offset) <= 1 for piece in pieces])),
    )
