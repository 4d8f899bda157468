"""Kernels of rendering without gradient against the modules they stand for, and frames by graphs of them: on a GPU, or
emulated."""

import logging
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from emotalking.models.avatar import Avatar
from emotalking.models.compositor import Conditions
from emotalking.models.config import AudioConfig, BranchConfig, EmotionConfig, ModelConfig
from emotalking.models.fixed import FixedHead
from emotalking.models.gaussians import Deformed, Gaussians
from emotalking.models.head import TalkingHead
from emotalking.models.scene import Scene, TorsoStack, encode_torso
from emotalking.models.skin import SHADE_KNOTS
from emotalking.ops.backends import use_backends
from emotalking.ops.composite import composite, quantised
from emotalking.ops.cuda import motion as cuda_motion
from emotalking.ops.cuda.compose import Finish, addresses, compose
from emotalking.ops.cuda.splat import splat
from emotalking.ops.geometry import camera_centre
from emotalking.ops.motion import MAX_GPU_WIDTH, EmotionNetwork, FixedBranch, move
from emotalking.ops.rasterize import rasterize
from emotalking.ops.sh import view_colours
from emotalking.ops.splat import Look
from emotalking.ops.triplane import TriplaneSpec, entries_per_plane
from emotalking.player import finish as finishing
from emotalking.player import graphs as graphs_module
from emotalking.player.finish import finished_frames
from emotalking.player.graphs import FrameGraphs
from emotalking.player.on_device import Torsos, graphs_of
from emotalking.provenance.mark import Mark
from emotalking.provenance.payload import Payload


def a_head(count: int, branch: str = "separate", seed: int = 0, *, gaze: bool = True) -> TalkingHead:
    """A head whose networks move something: their weights are those of a fresh network, larger."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = ModelConfig(
            audio=AudioConfig(encoder="conv"),
            face=BranchConfig(count),
            mouth=BranchConfig(count // 2 + 1, hidden=32),
            emotion=EmotionConfig(branch=branch, radius=0.8),
            gaze=gaze,
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
        if gaze:
            head.face.motion.eyes = sets[0].means[:2].detach().clone()
        head.mouth.motion.jaw.copy_(torch.tensor([0.4, 3.0]))
        for each in (head.face, head.mouth):
            each.audio.closed = torch.randn(32)
    return head.requires_grad_(False)


def some_conditions(
    head: TalkingHead, frames: int, device: str, feeling: bool = True, seed: int = 1, *, looking: bool = True
) -> Conditions:
    rng = torch.Generator().manual_seed(seed)
    config = head.config.audio
    views = torch.eye(4).repeat(frames, 1, 1)
    views[:, 2, 3], views[:, 0, 3] = 0.6, torch.linspace(0, 0.02, frames)
    conditions = (
        views,
        torch.randn(frames, 8, config.channels, config.steps, generator=rng),
        torch.rand(frames, 6, generator=rng) * 3,
        torch.rand(frames, 2, generator=rng) * 1.6 - 0.8 if feeling else None,
        torch.rand(frames, generator=rng),
        torch.rand(frames, 2, generator=rng) * 0.6 - 0.3 if looking else None,
    )
    return Conditions(*(None if each is None else each.to(device) for each in conditions))


def raw(deformed: Deformed, frames: int) -> Tensor:
    parts = deformed.means, deformed.quats, deformed.scales
    return torch.cat([part.expand(frames, -1, -1) for part in parts], -1)


@pytest.mark.parametrize(
    ("count", "frames", "branch", "feeling"),
    [(67, 2, "separate", True), (16, 1, "separate", False), (20, 1, "combined", True), (5, 3, "combined", False)],
)
def test_moved_gaussians(kernels_on: str, count: int, frames: int, branch: str, feeling: bool) -> None:
    """Operands are sums of two numbers in half precision: errors are near those of single precision."""
    head = a_head(count, branch).to(kernels_on)
    conditions = some_conditions(head, frames, kernels_on, feeling)
    fixed = FixedHead(head)
    inputs = conditions.audio, conditions.aus, conditions.va
    face = head.deform_emotional_face(*inputs, speech=conditions.speech, gaze=conditions.gaze)
    mouth = head.deform_mouth(conditions.audio, speech=conditions.speech)
    ours = (
        cuda_motion.moved(fixed.face_branch, *fixed.face_codes(*inputs, conditions.speech, conditions.gaze)),
        cuda_motion.moved(fixed.mouth_branch, *fixed.mouth_codes(conditions.audio, conditions.speech)),
    )
    found = (ours[0], face, head.face), (ours[1], mouth, head.mouth)
    for ours, reference, of in found:
        truth, still = raw(reference, frames), raw(of.gaussians.deform(), frames)
        moves = (truth - still).abs().amax((0, 1))
        assert (moves[:3] > 1e-5).all()
        error = (ours - truth).abs().amax((0, 1))
        assert (error <= 2e-5 * moves + 1e-6).all(), (error / moves.clamp(min=1e-9)).tolist()


@pytest.mark.parametrize("branch", ["separate", "combined", "none"])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_deformed_gaussians_of_a_fixed_head(branch: str, device: str) -> None:
    head = a_head(67, branch).to(device)
    given = some_conditions(head, 2, device, feeling=branch != "none")
    face, mouth = FixedHead(head).deformed(given.audio, given.aus, given.va, given.gaze)
    truth = head.deform_emotional_face(given.audio, given.aus, given.va, gaze=given.gaze)
    for ours, wanted in ((face, truth), (mouth, head.deform_mouth(given.audio))):
        for name in ("means", "quats", "scales", "opacities"):
            part = getattr(ours, name)
            torch.testing.assert_close(part, getattr(wanted, name).expand_as(part), rtol=2e-5, atol=2e-6)
        assert ours.means.is_contiguous() and not ours.offsets


@pytest.mark.parametrize(("hidden", "keys", "emotion"), [(37, 5, (3, 5, 11)), (64, 54, None), (16, 0, (16, 20, 64))])
def test_networks_of_other_sizes(kernels_on: str, hidden: int, keys: int, emotion: tuple[int, int, int] | None) -> None:
    """Widths are filled up to sixteens; points outside the planes, and scales above the softplus' threshold."""
    spec, count, rng = TriplaneSpec(levels=3, base=3.0, finest=5.5, bound=0.5), 21, torch.Generator().manual_seed(4)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng) / max(shape[-1], 1) ** 0.5

    network, felt = None, None
    if emotion is not None:
        inner, code, width = emotion
        attention = normal(inner, 9), normal(code, inner)
        last = normal(width, 9 + code), normal(width, width), normal(10, width) * 1e-4
        network = EmotionNetwork(normal(3, entries_per_plane(spec)) * 10, spec, attention, *last)
        felt = normal(2, code)
    gaussians = torch.randn(count, 10, generator=rng)
    gaussians[::7, 7:] += 30
    layers = normal(hidden, keys), normal(hidden, hidden), normal(10, hidden) * 0.1
    shares = torch.rand(count, generator=rng)
    branch = FixedBranch(gaussians * 0.3, normal(count, hidden), normal(count, keys), *layers, shares, network)
    given = normal(2, keys), normal(2, hidden), felt
    truth = torch.cat(move(branch, *given, backend="reference"), -1)

    def there(value: object) -> object:
        if isinstance(value, tuple):
            return tuple(map(there, value))
        return value.to(kernels_on) if isinstance(value, Tensor) else value

    def placed(each: EmotionNetwork | FixedBranch, **other: object) -> dict[str, object]:
        return {name: there(value) for name, value in vars(each).items()} | other

    on_device = FixedBranch(**placed(branch, emotion=None if network is None else EmotionNetwork(**placed(network))))
    ours = cuda_motion.moved(on_device, *(there(each) for each in given)).cpu()
    assert (ours - truth).abs().max() < 1e-5 and (truth - gaussians * 0.3).abs().max() > 0.05
    assert ours.shape == truth.shape


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
    tint = torch.randn(frames, count, 3, generator=rng, dtype=torch.float64) * 0.2 if frames > 1 else None
    views = scene["viewmats"][:, 0]
    seen = [
        view_colours(sh0 if tint is None else sh0 + tint[i][:, None], rest, means[None], centre[None], degree)
        for i, (means, centre) in enumerate(zip(scene["means"], camera_centre(views), strict=True))
    ]
    truth = rasterize(**{**scene, "features": torch.cat(seen)}, backend="reference")
    moved = torch.cat([scene[name] for name in ("means", "quats", "scales")], -1)
    parts = moved, scene["opacities"][0], sh0, rest, views, scene["Ks"][0, 0]
    moved, opacities, *colours, views, K = (part.float().contiguous().to(kernels_on) for part in parts)
    look = Look(opacities, *colours, degree, None if tint is None else tint.float().to(kernels_on))
    layer = splat(*moved.split([3, 4, 3], -1), look, views, K, *size).cpu().double()
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


def an_avatar(device: str, width: int, height: int, count: int) -> Avatar:
    """Of a random head before a torso whose layers differ."""
    layers = [np.full((height, width, 4), (40 * n, 60, 200, 255), np.uint8) for n in range(4)]
    for layer in layers:
        layer[: height // 2, :, 3] = 0
    scene = Scene(
        width=width,
        height=height,
        fps=Fraction(25),
        focal=1.3 * width,
        viewmats=np.tile(np.eye(4, dtype=np.float32), (4, 1, 1)),
        aus=np.zeros((4, 6), np.float32),
        va=np.zeros((4, 2), np.float32),
        background=np.full((height, width, 3), 90, np.uint8),
        torso=TorsoStack.encode([encode_torso(layer) for layer in layers]),
        gaze=np.tile(np.array([[0.3, -0.2]], np.float32), (4, 1)),
    )
    head = a_head(count)
    head.face.gaussians.shade = torch.randint(
        256, (count, SHADE_KNOTS), dtype=torch.uint8, generator=torch.Generator().manual_seed(3)
    )
    head.face.gaussians.skin = torch.randint(
        256, (count, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(2)
    )
    return Avatar(head, scene).to(device)


@pytest.fixture
def graphs_on(kernels_on: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The device of graphs; where kernels are emulated, a graph is run instead of launched."""
    if kernels_on == "cpu":
        monkeypatch.setattr(graphs_module, "capture", lambda run, *_: run)
    return kernels_on


Frames = tuple[Conditions, list[Tensor], list[Tensor]]


def some_frames(avatar: Avatar, frames: int, seed: int, on_host: bool) -> Frames:
    device = str(avatar.device)
    conditions = some_conditions(avatar.head, frames, "cpu" if on_host else device, seed=seed)
    layers = Torsos(avatar)
    rng = torch.Generator().manual_seed(seed)
    plates = [torch.rand(avatar.height, avatar.width, 3, generator=rng).to(device) for _ in range(frames)]
    return conditions, [layers((n + seed) % 4) for n in range(frames)], plates


def plainly(avatar: Avatar, frames: Frames, monkeypatch: pytest.MonkeyPatch, **options: object) -> Tensor:
    conditions, torsos, plates = frames
    with monkeypatch.context() as patch, use_backends(motion="reference", splat="reference", compose="reference"):
        patch.setattr(finishing, "graphs_of", lambda _: None)
        return finished_frames(avatar, conditions, torsos, None if options.pop("bare", False) else plates, **options)


def same(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape and ours.dtype == torch.uint8
    off = (ours.cpu().int() - theirs.cpu().int()).abs()
    assert off.float().mean() < 0.1 and off.max() <= 4, (float(off.float().mean()), int(off.max()))


@pytest.mark.parametrize(
    "kind", ["plate", "matte", "transparent", "marked", "without emotion", "without gate", "without gaze"]
)
def test_graphs_show_what_the_plain_path_shows(graphs_on: str, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Twice each, so that the second set of frames is that of a launched graph; three sizes of a batch."""
    if graphs_on == "cpu" and kind in ("matte", "marked", "without gate"):
        pytest.skip("emulated, two ways to finish a frame are enough")
    size = (36, 28, 40) if graphs_on == "cpu" else (250, 190, 3000)
    avatar = an_avatar(graphs_on, *size)
    graphs = FrameGraphs(avatar)
    options = {
        "matte": {"matte": True},
        "marked": {"mark": Mark(Payload(5))},
    }.get(kind, {})
    for count, seed in ((1, 1), (1, 2)) if graphs_on == "cpu" else ((1, 1), (1, 2), (5, 3), (5, 4), (3, 5), (1, 6)):
        conditions, torsos, plates = some_frames(avatar, count, seed, on_host=seed % 2 == 0)
        if kind == "without emotion":
            conditions = replace(conditions, va=None)
        if kind == "without gate":
            conditions = replace(conditions, speech=None)
        if kind == "without gaze":
            conditions = replace(conditions, gaze=None)
        bare = kind == "transparent"
        truth = plainly(avatar, (conditions, torsos, plates), monkeypatch, bare=bare, **options)
        ours = graphs.frames(conditions, torsos, None if bare else plates, articulated=avatar.articulates, **options)
        assert ours is not None and truth.float().std() > 10
        same(ours, truth)


def test_without_a_gaze_the_eyes_of_graphs_look_where_they_usually_do(graphs_on: str) -> None:
    """The eyes of this small head hardly show it: what the graph reads is looked at."""
    avatar = an_avatar(graphs_on, 20, 16, 20)
    conditions, torsos, plates = some_frames(avatar, 1, 1, on_host=True)
    graphs = FrameGraphs(avatar)
    assert graphs.frames(replace(conditions, gaze=None), torsos, plates) is not None
    (captured,) = graphs._known.values()
    assert captured.inputs.conditions.gaze is not None and avatar.usual_gaze is not None
    torch.testing.assert_close(captured.inputs.conditions.gaze[0].cpu(), avatar.usual_gaze)


def test_more_frames_than_a_graph_has(graphs_on: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs_module, "BUCKETS", (1, 2))
    avatar = an_avatar(graphs_on, 20, 16, 20)
    frames = some_frames(avatar, 3, 1, on_host=True)
    ours = FrameGraphs(avatar).frames(*frames, articulated=True)
    assert ours is not None
    same(ours, plainly(avatar, frames, monkeypatch))


@pytest.mark.gpu
def test_frames_wait_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the finished frames of an avatar on a GPU are those of graphs."""
    avatar = an_avatar("cuda", 250, 190, 3000)
    assert graphs_of(avatar) is not None
    sets = [some_frames(avatar, 4, seed, on_host=True) for seed in range(6)]
    mark = Mark(Payload(9))
    made = [finished_frames(avatar, *sets[0], mark=mark)]
    torch.cuda.set_sync_debug_mode("error")
    try:
        made += [finished_frames(avatar, *each, mark=mark) for each in sets[1:]]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graphs = graphs_of(avatar)
    assert graphs is not None and graphs.works and graphs_of(avatar) is graphs
    for images, frames in zip(made, sets, strict=True):
        same(images, plainly(avatar, frames, monkeypatch, mark=mark))


def test_what_cannot_be_captured_is_rendered_plainly(
    kernels_on: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> Callable[[], None]:
        raise RuntimeError("operation not permitted when stream is capturing\nmore of it")

    avatar = an_avatar(kernels_on, 32, 24, 30)
    graphs = FrameGraphs(avatar)
    monkeypatch.setattr(graphs_module, "capture", refuse)
    monkeypatch.setattr(finishing, "graphs_of", lambda _: graphs if graphs.works else None)
    frames = some_frames(avatar, 2, 1, on_host=True)
    with caplog.at_level(logging.WARNING):
        made = [finished_frames(avatar, *frames) for _ in range(2)]
    assert [record.message for record in caplog.records] == [
        "frames are rendered without CUDA graphs: operation not permitted when stream is capturing"
    ]
    for each in made:
        same(each, plainly(avatar, frames, monkeypatch))


@pytest.mark.gpu
def test_a_failed_capture_leaves_the_device_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy to the host cannot be captured."""
    avatar = an_avatar("cuda", 64, 48, 300)
    shown = graphs_module.compose

    def peek(face: Tensor, *others: object) -> None:
        assert torch.isfinite(face).all().cpu()
        shown(face, *others)

    monkeypatch.setattr(graphs_module, "compose", peek)
    frames = some_frames(avatar, 2, 1, on_host=True)
    same(finished_frames(avatar, *frames), plainly(avatar, frames, monkeypatch))


@pytest.mark.gpu
def test_torso_layers_stay_on_the_gpu() -> None:
    avatar = an_avatar("cuda", 64, 48, 30)
    layers = Torsos(avatar)
    assert layers(2) is layers(2) and layers(2).is_cuda
    assert np.array_equal(layers(3).cpu().numpy(), avatar.torso(3))
    layers._most = 1
    assert layers(1) is layers(1) and len(layers._kept) == 1


@pytest.mark.parametrize(("branch", "width"), [("separate", 64), ("combined", 64), ("none", 64)])
def test_kernels_take_the_networks_of_presets(branch: str, width: int) -> None:
    """And the width that decides it is that of the layers as they are."""
    fixed = FixedHead(a_head(3, branch))
    assert max(fixed.face_branch.width, fixed.mouth_branch.width) == width <= MAX_GPU_WIDTH
    layers = [fixed.face_branch.hidden, fixed.face_branch.attention, fixed.mouth_branch.hidden]
    if (emotion := fixed.face_branch.emotion) is not None:
        layers += [emotion.first, emotion.second]
    assert max(layer.shape[1] for layer in layers) == width


def test_an_avatar_on_the_cpu_has_no_graphs() -> None:
    assert graphs_of(an_avatar("cpu", 32, 24, 5)) is None
