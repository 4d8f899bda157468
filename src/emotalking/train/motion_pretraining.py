"""A head start for the face's motion: learn the tracked mesh's motion before any image is rendered."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from scipy.spatial import Delaunay
from torch import Tensor

from emotalking.data.blink import AU45_CLIP, AU45_OPEN
from emotalking.data.gaze import IRIS_DEPTH
from emotalking.data.layouts import FaceLayout
from emotalking.emotion.mesh_warp.template import RINGS, ring_points
from emotalking.models.head import Branch
from emotalking.models.motion import POSITION_SCALE, FaceMotion
from emotalking.ops.geometry import project
from emotalking.progress import track
from emotalking.train.data import TrainingData
from emotalking.train.glances import iris_moves, sideways

FRAMES, POINTS = 32, 1024
"""Size of a batch."""
CODES = 256
"""Frames whose audio codes are computed at once."""
RATE = 2e-3
GRID_RATE = 1e-2
IRIS_DRAWS = 6
"""How much more often triangles at an iris are drawn: they are 4 % of all, and else nothing comes of them. What their
motion is not told, Gaussians behind the face's surface show: a hollow eye looks at the camera from everywhere."""
GLANCES = 0.5
"""Share of frames whose irises are turned."""
STILL = 0.1
"""Weight of the turns and stretches, which the mesh says nothing about, against the offsets."""


@dataclass(frozen=True)
class MeshMotion:
    """The face as triangles that move."""

    vertices: Float[Tensor, "V 3"]
    """Rest positions in world units: the landmarks, then rings around the face."""
    triangles: Int64[Tensor, "T 3"]
    frames: Int64[Tensor, "S"]
    """Those with a face."""
    moves: Float[Tensor, "S V 3"]
    """Offset of each vertex in each of ``frames``, world units: parallel to the image, because the tracked points
    have no depth; the outer ring rests."""
    irises: Float[Tensor, " V"]
    """1 for vertices of irises, 0 for others."""


def convex_eyes(shape: Float[Tensor, "K 3"], layout: FaceLayout) -> Float[Tensor, "K 3"]:
    """The shape with irises as far out as they are in a head.

    Eyes that stay on the camera turn against the head, which tracking takes for depth: it puts the irises of two real
    clips 6 mm behind the lids. From there they follow the camera by themselves, and no gaze moves them.
    """
    shape = shape.clone()
    for iris, lid in ((layout.right_iris, layout.right_upper_lid), (layout.left_iris, layout.left_upper_lid)):
        shape[list(iris), 2] = shape[[lid[0], lid[-1]], 2].mean() + IRIS_DEPTH
    return shape


def mesh_motion(data: TrainingData, shape: Float[Tensor, "K 3"], *, irises: bool = False) -> MeshMotion:
    """Motion of the tracked points away from their median place, without the head's own motion.

    Args:
        irises: with their motion, for a network with an input that tells where they look. What is behind closing lids
            is drawn together by them, and goes with the gaze besides.
    """
    layout = data.layout
    eyes = [*layout.right_iris, *layout.left_iris]
    kept = torch.tensor([i for i in range(len(shape)) if irises or i not in eyes], device=data.device)
    seen = torch.isfinite(data.points).all(-1).all(-1).nonzero()[:, 0]
    neutral, count = shape[kept], len(seen)
    views = data.conditions.viewmats[seen]
    still = project(neutral.expand(count, -1, -1), views, data.K.expand(count, 3, 3))
    depth = (neutral @ views[:, 2, :3].T).T + views[:, 2, 3:]
    across = (data.points[seen][:, kept] - still) * depth[..., None] / torch.stack([data.K[0, 0], data.K[1, 1]])
    moves = across @ views[:, :2, :3]
    moves = moves - moves.median(0).values
    if irises:
        places = {int(i): place for place, i in enumerate(kept)}
        opened = data.blink[seen.cpu().numpy()] < AU45_OPEN / AU45_CLIP
        for side, iris in (("right", layout.right_iris), ("left", layout.left_iris)):
            lids = moves[:, [places[i] for i in layout.eye_loop(side)]].mean(1, keepdim=True)
            at = [places[i] for i in iris]
            moves[:, at] = lids + _bridged(moves[:, at] - lids, opened)
    oval = torch.tensor([int((kept == i).nonzero()) for i in layout.oval], device=data.device)
    share = torch.linspace(0.5, 0.0, len(RINGS), device=data.device)
    around = (moves[:, None, oval] * share[:, None, None]).flatten(1, 2)
    rings = torch.from_numpy(ring_points(neutral[oval].cpu().numpy())).to(neutral)
    vertices = torch.cat([neutral, rings])
    triangles = torch.from_numpy(Delaunay(vertices[:, :2].cpu().numpy()).simplices.astype(np.int64))
    if irises:
        of_eyes = torch.tensor([places[i] for i in eyes])
        triangles = torch.cat([triangles, *[triangles[torch.isin(triangles, of_eyes).any(1)]] * IRIS_DRAWS])
    of_irises = torch.zeros(len(vertices), device=data.device)
    if irises:
        of_irises[[places[i] for i in eyes]] = 1.0
    return MeshMotion(vertices, triangles.to(data.device), seen, torch.cat([moves, around], 1), of_irises)


def _bridged(moves: Float[Tensor, "S V 3"], known: Bool[np.ndarray, "S"]) -> Float[Tensor, "S V 3"]:
    """The moves, with those that are not ``known`` between their neighbours'; all zero where none is."""
    rows = np.flatnonzero(known)
    if not len(rows):
        return torch.zeros_like(moves)
    at = np.interp(np.arange(len(known)), rows, np.arange(len(rows)))
    low, share = torch.from_numpy(rows[at.astype(int)]), torch.from_numpy(at % 1.0)
    high = torch.from_numpy(rows[np.ceil(at).astype(int)])
    return torch.lerp(moves[low], moves[high], share.to(moves)[:, None, None])


def pretrain_motion(
    face: Branch[FaceMotion], data: TrainingData, steps: int, generator: torch.Generator, *, gaze_reach: float = 0.0
) -> float:
    """Train the face's network to move points of the mesh as they were tracked.

    Deviation: the published networks learn from images alone. Lids are one pixel in a hundred and closed in one
    frame of twelve, and a colour error tells a Gaussian only about the pixels that it touches: in a short run no
    avatar ever blinked. Every triangle of the mesh is drawn equally often; it has most of them at lids and lips.

    The audio encoder stays as its own pretraining left it, which hides parts of the sound and adds other voices: let
    learn here, it learns frames by heart.

    Args:
        steps: updates; 0 does nothing.
        gaze_reach: see :attr:`ModelConfig.gaze_reach`; in half of the frames, irises are turned.

    Returns:
        The share of the motion's variance explained in the last quarter of the steps; 0 without a tracked shape.
    """
    if steps < 1 or data.shape is None:
        return 0.0
    mesh = mesh_motion(data, data.shape, irises=data.conditions.gaze is not None and face.motion.takes_gaze)
    if len(mesh.frames) < 2:
        return 0.0
    groups = [
        {"params": face.motion.encoder.parameters(), "lr": GRID_RATE},
        {"params": [p for n, p in face.motion.named_parameters() if not n.startswith("encoder.")], "lr": RATE},
    ]
    rates = [float(group["lr"]) for group in groups]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps)
    with torch.no_grad():
        codes = torch.cat([face.audio(windows) for windows in data.conditions.audio.split(CODES)])
    shares = []
    for _ in track(range(steps), "motion pretraining"):
        rows, points, wanted, of_irises = _draw(mesh, generator)
        at = mesh.frames[rows]
        va = data.conditions.va[at] if face.motion.takes_emotion else None
        gaze = None if data.conditions.gaze is None else data.conditions.gaze[at]
        if gaze is not None and gaze_reach:
            turned = sideways(gaze, gaze_reach, GLANCES, generator)
            wanted = wanted + of_irises[:, None] * iris_moves(gaze, turned)[:, None]
            gaze = turned
        moved = face.motion.offsets(points, face.motion.codes(codes[at], data.conditions.aus[at], va, gaze))
        error = ((moved["d_means"] - wanted) / POSITION_SCALE).square().mean()
        still = moved["d_quats"].square().mean() + moved["d_scales"].square().mean()
        optimizer.zero_grad(set_to_none=True)
        (error + STILL * still).backward()
        optimizer.step()
        schedule.step()
        shares.append(torch.stack([error.detach(), (wanted / POSITION_SCALE).square().mean()]))
    optimizer.zero_grad(set_to_none=True)  # else the first stage would add to these gradients
    error, whole = torch.stack(shares[-max(1, steps // 4) :]).mean(0)
    return 1.0 - float(error / whole.clamp_min(1e-12))


def _draw(
    mesh: MeshMotion, generator: torch.Generator
) -> tuple[Int64[Tensor, "B"], Float[Tensor, "P 3"], Float[Tensor, "B P 3"], Float[Tensor, " P"]]:
    """Rows of ``mesh.frames``, points on the mesh at rest, how they move, and to what share they are of an iris."""
    device = mesh.vertices.device
    rows = torch.randint(len(mesh.frames), (min(FRAMES, len(mesh.frames)),), generator=generator).to(device)
    chosen = torch.randint(len(mesh.triangles), (POINTS,), generator=generator).to(device)
    weights = torch.rand(POINTS, 3, generator=generator).clamp_min(1e-6).log().neg().to(device)
    weights = weights / weights.sum(1, keepdim=True)
    corners = mesh.triangles[chosen]
    points = (mesh.vertices[corners] * weights[..., None]).sum(1)
    moves = (mesh.moves[rows][:, corners] * weights[..., None]).sum(2)
    return rows, points, moves, (mesh.irises[corners] * weights).sum(1)
