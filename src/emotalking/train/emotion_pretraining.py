"""A head start for the emotion network: learn how the generator moves the face before any image is rendered."""

import torch
from torch import Tensor

from emotalking.data.frame import emotion_share
from emotalking.emotion.mesh_warp.points import PointFields
from emotalking.emotion.mesh_warp.warp import MeshWarp
from emotalking.models.head import TalkingHead
from emotalking.models.motion import EmotionMotion, FaceCanonical
from emotalking.progress import track
from emotalking.train.data import TrainingData, random_index

EMOTIONS, POINTS = 16, 1024
"""Size of a batch: emotions of one frame, and Gaussians."""
FRAMES = 24
"""Frames whose mean is the face at rest."""
RATE = 1e-2
GRID_RATE = 3e-2
FLOOR = 0.3
"""Least of how far a Gaussian usually moves, as a share of the mean of all."""
LEAST = 0.5
"""Errors count in proportion to how far a Gaussian moves in an emotion, but at least to this share of its usual move.

In proportion to its usual move alone, small moves come last. Of each emotion's own squared moves around the corners of
a man's mouth, .094 were missed after 400 updates (a surprised mouth narrowed by half as much as its targets); with this
.033, with the rates above too .016 (by .8)."""
STILL = 0.02
"""Weight of the turns and stretches, which the moves say nothing about, against the offsets."""


def pretrain_emotion(
    head: TalkingHead, data: TrainingData, maker: MeshWarp, steps: int, generator: torch.Generator, va_limit: float
) -> float:
    """Train the emotion network to move the Gaussians as the targets' pixels were moved.

    Deviation: the paper learns emotion from images alone. A mouth that stretches by two pixels in one emotion of ten
    and narrows in the next is a thousandth of their error: heads showed the mean of both, .4 and .35 of what fearful
    and surprised mouths moved on one man, .5 and -.3 on another, after 4,000 steps (benchmarks/emotion_branch.py).

    Args:
        maker: of the targets.
        steps: updates; 0 does nothing.
        generator: draws frames, Gaussians and emotions.
        va_limit: valence and arousal lie in [-limit, limit].

    Returns:
        The share of the moves' variance explained in the last quarter of the steps; 0 without a frame to move.
    """
    network, face = head.emotion, head.face
    share = torch.from_numpy(emotion_share(data.conditions.viewmats.cpu().numpy())).to(data.device)
    usable = (torch.isfinite(data.points).flatten(1).all(1) & (share > 0)).nonzero()[:, 0].tolist()
    if network is None or steps < 1 or not usable:
        return 0.0
    with torch.no_grad():
        canonical = face.motion.canonical(face.gaussians.means)
        # At its present place, an open mouth's lower lip would move as the chin behind it.
        fields = maker.fields_at(_at_rest(head, data, canonical, usable))
        scale = _usual(fields, maker, data.points[usable[:1]], va_limit)
    optimizer, schedule = _optimizer(network, steps)
    shares = []
    for _ in track(range(steps), "emotion pretraining"):
        frame = usable[random_index(len(usable), generator)]
        conditions = data.conditions.at(frame)
        va = ((torch.rand(EMOTIONS, 2, generator=generator) * 2 - 1) * va_limit).to(data.device) * share[frame]
        chosen = torch.randint(face.gaussians.count, (POINTS,), generator=generator).to(data.device)
        with torch.no_grad():
            code = face.audio(conditions.audio)
            spoken = face.motion(canonical.at(chosen), code, conditions.aus, gaze=conditions.gaze)["d_means"]
            means = face.gaussians.means[chosen] + spoken
            landmarks = data.points[frame].expand(EMOTIONS, -1, -1)
            wanted = fields.moves(maker.coefficients(va, landmarks), chosen)
        moved = network(means, va)
        size = torch.maximum(wanted.norm(dim=-1, keepdim=True), LEAST * scale[chosen])
        error = ((moved["d_means"] - wanted) / size).square().mean()
        still = moved["d_quats"].square().mean() + moved["d_scales"].square().mean()
        optimizer.zero_grad(set_to_none=True)
        (error + STILL * still).backward()
        optimizer.step()
        schedule.step()
        shares.append(torch.stack([error.detach(), (wanted / size).square().mean()]))
    optimizer.zero_grad(set_to_none=True)  # else the stage would add to these gradients
    error, whole = torch.stack(shares[-max(1, steps // 4) :]).mean(0)
    return 1.0 - float(error / whole.clamp_min(1e-12))


def _optimizer(
    network: EmotionMotion, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    groups = [
        {"params": network.encoder.parameters(), "lr": GRID_RATE},
        {"params": [p for n, p in network.named_parameters() if not n.startswith("encoder.")], "lr": RATE},
    ]
    rates = [float(group["lr"]) for group in groups]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=0.0)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps)


def _at_rest(head: TalkingHead, data: TrainingData, canonical: FaceCanonical, usable: list[int]) -> Tensor:
    """Mean places of the Gaussians [N, 3] in frames that are spread over the clip."""
    chosen = [data.conditions.at(frame) for frame in usable[:: -(-len(usable) // FRAMES)]]
    places = (head.deform_face(one.audio, one.aus, canonical, gaze=one.gaze).means[0] / len(chosen) for one in chosen)
    return sum(places, start=torch.zeros_like(head.face.gaussians.means))


def _usual(fields: PointFields, maker: MeshWarp, landmarks: Tensor, va_limit: float) -> Tensor:
    """How far each Gaussian usually moves [N, 1], world units, at least :data:`FLOOR` of the mean."""
    angles = torch.arange(16, device=landmarks.device) * (torch.pi / 8)
    ring = va_limit * torch.stack([angles.cos(), angles.sin()], 1)
    moves = fields.moves(maker.coefficients(ring, landmarks.expand(len(ring), -1, -1)))
    lengths = moves.square().sum(-1).mean(0).sqrt()
    moving = lengths[lengths > 0]
    return lengths.clamp_min(FLOOR * float(moving.mean()) if len(moving) else 1.0)[:, None]
