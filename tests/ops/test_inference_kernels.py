"""The kernels of rendering without gradient against the modules they stand for: on a GPU, or emulated."""

import pytest
import torch
from torch import Tensor

from emotalking.models.compositor import Conditions
from emotalking.models.config import AudioConfig, BranchConfig, EmotionConfig, ModelConfig
from emotalking.models.gaussians import Deformed, Gaussians
from emotalking.models.head import TalkingHead
from emotalking.models.inference import MovingHead, takes_head
from emotalking.ops.composite import composite, quantised
from emotalking.ops.cuda import motion as cuda_motion
from emotalking.ops.cuda.compose import Finish, addresses, compose
from emotalking.ops.cuda.splat import splat
from emotalking.ops.geometry import camera_centre
from emotalking.ops.rasterize import rasterize
from emotalking.ops.sh import view_colours


def a_head(count: int, branch: str = "separate", seed: int = 0) -> TalkingHead:
    """A head whose networks move something: their weights are those of a fresh network, larger."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = ModelConfig(
            audio=AudioConfig(encoder="conv"),
            face=BranchConfig(count),
            mouth=BranchConfig(count // 2 + 1, hidden=32),
            emotion=EmotionConfig(branch=branch, radius=0.8),
        )
        sets = [Gaussians(torch.randn(n, 3) * 0.06, torch.rand(n, 3), 2) for n in (count, count // 2 + 1)]
        for gaussians in sets:
            gaussians.sh_rest.data.normal_(0, 0.1)
            gaussians.raw_quats.data.normal_()
            gaussians.opacity_logits.data.normal_()
            gaussians.raw_scales.data.normal_(-4.5, 0.3)
        head = TalkingHead(config, *sets)
        for name, value in head.named_parameters():
            if "encoder.table" in name:
                value.data.normal_(0, 0.5)
            elif ".motion." in name or name.startswith("emotion."):
                value.data *= 1.5
        head.mouth.motion.jaw.copy_(torch.tensor([0.4, 3.0]))
        for each in (head.face, head.mouth):
            each.audio.closed = torch.randn(32)
    return head.requires_grad_(False)


def some_conditions(head: TalkingHead, frames: int, device: str, feeling: bool = True) -> Conditions:
    rng = torch.Generator().manual_seed(1)
    config = head.config.audio
    views = torch.eye(4).repeat(frames, 1, 1)
    views[:, 2, 3], views[:, 0, 3] = 0.6, torch.linspace(0, 0.02, frames)
    conditions = (
        views,
        torch.randn(frames, 8, config.channels, config.steps, generator=rng),
        torch.rand(frames, 6, generator=rng) * 3,
        torch.rand(frames, 2, generator=rng) * 1.6 - 0.8 if feeling else None,
        torch.rand(frames, generator=rng),
    )
    return Conditions(*(None if each is None else each.to(device) for each in conditions))


def raw(deformed: Deformed, frames: int) -> Tensor:
    parts = deformed.means, deformed.quats, deformed.scales
    return torch.cat([part.expand(frames, -1, -1) for part in parts], -1)


@pytest.mark.parametrize(
    ("count", "frames", "branch", "feeling"),
    [(83, 2, "separate", True), (16, 1, "separate", False), (40, 1, "combined", True), (5, 3, "combined", False)],
)
def test_moved_gaussians(kernels_on: str, count: int, frames: int, branch: str, feeling: bool) -> None:
    """Operands in half precision have errors of 2^-11 of the offsets; the conditions' codes are exact."""
    head = a_head(count, branch).to(kernels_on)
    conditions = some_conditions(head, frames, kernels_on, feeling)
    assert takes_head(head)
    moving = MovingHead(head)
    inputs = conditions.audio, conditions.aus, conditions.va
    face = head.deform_emotional_face(*inputs, speech=conditions.speech)
    mouth = head.deform_mouth(conditions.audio, speech=conditions.speech)
    found = (moving.face(conditions), face, head.face), (moving.mouth(conditions), mouth, head.mouth)
    for ours, reference, of in found:
        truth, still = raw(reference, frames), raw(of.gaussians.deform(), frames)
        moves = (truth - still).abs().amax((0, 1))
        assert (moves[:3] > 1e-5).all()
        error = (ours - truth).abs().amax((0, 1))
        assert (error <= 4e-3 * moves + 1e-6).all(), (error / moves.clamp(min=1e-9)).tolist()


def test_other_sizes_are_left_to_the_modules() -> None:
    assert not cuda_motion.takes(40, 16) and not cuda_motion.takes(64, 8) and cuda_motion.takes(32, 0)


@pytest.mark.parametrize(
    ("count", "frames", "degree", "size"), [(120, 2, 2, (53, 37)), (1500, 1, 0, (53, 37)), (1, 1, 1, (16, 16))]
)
def test_a_layer_is_the_rasterizers(
    random_scene, kernels_on: str, count: int, frames: int, degree: int, size: tuple[int, int]
) -> None:
    """Thin and round ones, at the edges and out of sight; 1,500 are more than one look at the boxes takes in."""
    scene = random_scene(batch=(frames,), count=count, width=size[0], height=size[1], dtype=torch.float64)
    scene["opacities"] = scene["opacities"][:1].expand(frames, -1)
    scene["viewmats"][:, 0, 0, 3] = torch.linspace(0.0, 0.1, frames)
    rng = torch.Generator().manual_seed(3)
    sh0, rest = (torch.randn(count, n, 3, generator=rng, dtype=torch.float64) * 0.4 for n in (1, 8))
    views = scene["viewmats"][:, 0]
    truth = rasterize(
        **{**scene, "features": view_colours(sh0, rest, scene["means"], camera_centre(views), degree)},
        backend="reference",
    )
    moved = torch.cat([scene[name] for name in ("means", "quats", "scales")], -1)
    parts = moved, scene["opacities"][0], sh0, rest
    parts = [part.float().contiguous().to(kernels_on) for part in (*parts, views, scene["Ks"][0, 0])]
    layer = splat(*parts[:4], degree, *parts[4:], *size).cpu().double()
    expected = torch.cat([truth.features[:, 0], truth.alpha[:, 0, ..., None]], -1)
    # A contribution at the threshold of 1/255 may be kept by one and dropped by the other.
    off = (layer - expected).abs()
    assert off.max() < 1.05 / 255 and (off > 2e-5).double().mean() < 2e-3
    assert expected[..., 3].max() > 0.5 or count == 1


@pytest.mark.parametrize("finish", ["plate", "matte", "transparent"])
@pytest.mark.parametrize("size", [(53, 37), (270, 48)])
def test_a_finished_frame(kernels_on: str, finish: Finish, size: tuple[int, int]) -> None:
    width, height = size
    rng = torch.Generator().manual_seed(5)
    alphas = [torch.rand(2, height, width, generator=rng) ** power for power in (0.5, 3)]
    alphas[0][:, height // 3 : height // 2, width // 3 : width // 2] = 0.0
    colours = [torch.rand(2, height, width, 3, generator=rng) * alpha[..., None] for alpha in alphas]
    torso = torch.randint(0, 256, (2, height, width, 4), generator=rng, dtype=torch.uint8)
    plate = torch.rand(2, height, width, 3, generator=rng)
    body = torso[..., :3] / 255.0 * (torso[..., 3:] / 255.0)
    behind = torch.zeros_like(plate) if finish == "transparent" else body + plate * (1 - torso[..., 3:] / 255.0)
    rgb, alpha = composite(colours[0], alphas[0], colours[1], alphas[1], behind)
    rgb, alpha = rgb.clamp(0, 1), alpha[..., None]
    if finish == "transparent":
        whole = alpha + torso[..., 3:] / 255.0 * (1 - alpha)
        rgb, alpha = (rgb + body * (1 - alpha)) / whole.clamp(min=1e-6), whole
    expected = quantised(rgb if finish == "plate" else torch.cat([rgb, alpha], -1))
    layers = [torch.cat([c, a[..., None]], -1).to(kernels_on) for c, a in zip(colours, alphas, strict=True)]
    torsos, plates = list(torso.to(kernels_on)), list(plate.to(kernels_on))
    out = torch.full_like(expected, 77).to(kernels_on)
    places = [addresses(each).to(kernels_on) for each in (torsos, plates)]
    compose(*layers, *places, finish, out)
    off = (out.cpu().int() - expected.int()).abs()
    assert off.max() <= 1 and (off > 0).double().mean() < 1e-3
