"""Views of a head: what each shows, of Gaussians whose attention, normals and depth are known."""

from pathlib import Path

import numpy as np
import pytest
import torch

from emotalking.data.audio_features import AUDIO_FEATURES, DEFAULT_FEATURE
from emotalking.errors import InputError
from emotalking.io.images import read_image
from emotalking.models.avatar import Avatar
from emotalking.models.config import BranchConfig, EmotionConfig, ModelConfig
from emotalking.models.gaussians import Gaussians, raw_scales_of
from emotalking.models.head import TalkingHead
from emotalking.models.maps import attention_of, head_maps
from emotalking.ops.rasterize import rasterize
from emotalking.options import View
from emotalking.player.clip import render_clip
from emotalking.player.views import ViewedAvatar, depth_range, full_attention, viewed

from ..scenes import still_scene
from .conftest import FakeAvatar

SIZE, DISTANCE = 40, 0.7
MIDDLE = SIZE // 2


def wall(z: float, count: int, half: float) -> Gaussians:
    """Flat opaque Gaussians on a square that faces the camera, at a height above the head's origin."""
    side = torch.linspace(-half, half, count)
    x, y = torch.meshgrid(side, side, indexing="xy")
    points = torch.stack([x, y, torch.full_like(x, z)], -1).reshape(-1, 3)
    made = Gaussians(points, torch.full_like(points, 0.6), 0)
    with torch.no_grad():
        made.raw_scales.copy_(raw_scales_of(torch.tensor([1.5 * half / count] * 2 + [1e-4]).expand(len(points), 3)))
        made.opacity_logits.fill_(6.0)
    return made


def made(branch: str = "separate", *, gaze: bool = False) -> Avatar:
    """A wall for a face, before a wider one for the inside of the mouth."""
    torch.manual_seed(0)
    config = ModelConfig(
        face=BranchConfig(64, sh_degree=0),
        mouth=BranchConfig(256, sh_degree=0, hidden=32),
        emotion=EmotionConfig(branch),
        gaze=gaze,
    )
    head = TalkingHead(config, wall(0.02, 8, 0.045), wall(-0.05, 16, 0.1))
    for motion in (head.face.motion, head.mouth.motion):
        torch.nn.init.zeros_(motion.trunk[-1].weight)  # nothing moves
    if head.emotion is not None:
        torch.nn.init.zeros_(head.emotion.trunk[-1].weight)
        torch.nn.init.normal_(head.emotion.encoder.table, std=0.5)
    torch.nn.init.normal_(head.face.motion.encoder.table, std=0.5)
    return Avatar(head, still_scene(SIZE, SIZE, distance=DISTANCE + np.array([0.0, 0.05, 0.1]), grey=200))


@pytest.fixture(scope="module")
def walls() -> Avatar:
    return made()


def given(avatar: Avatar, frames: int = 1) -> tuple[torch.Tensor, ...]:
    steps, channels = AUDIO_FEATURES[DEFAULT_FEATURE].shape
    views = torch.from_numpy(avatar.viewmats[:frames])
    return views, torch.zeros(frames, 8, channels, steps), torch.zeros(frames, 6), torch.full((frames, 2), 0.5)


def shown(avatar: Avatar, view: View) -> torch.Tensor:
    behind = torch.full((1, SIZE, SIZE, 3), 0.8)
    return ViewedAvatar(avatar, view).render(*given(avatar), background=behind).rgb[0]


def test_depth_is_that_of_the_layer_that_is_seen(walls: Avatar) -> None:
    maps = head_maps(walls.head, walls.conditions(*given(walls)), walls.K, (SIZE, SIZE))
    depth = maps.depth[0]
    assert abs(float(depth[MIDDLE, MIDDLE]) - (DISTANCE - 0.02)) < 2e-3
    beside = MIDDLE + round(100 * 0.09 / 0.75)  # the mouth's wall is wider than the face's
    assert abs(float(depth[MIDDLE, beside]) - (DISTANCE + 0.05)) < 2e-3
    assert float(depth[0, 0]) == 0.0
    face = walls.head.face.gaussians.deform()
    ones = torch.ones(1, face.means.shape[1], 1)
    made = rasterize(
        face.means,
        face.quats,
        face.scales,
        face.opacities,
        ones,
        given(walls)[0][:, None],
        walls.K[None, None],
        SIZE,
        SIZE,
    )
    assert torch.allclose(made.alpha[:, 0], maps.face.alpha, atol=1e-5)


def test_depth_view_has_near_and_far_in_its_colours(walls: Avatar) -> None:
    near, far = depth_range(walls)
    assert (near, far) == pytest.approx((DISTANCE - 0.02, DISTANCE + 0.08), abs=1e-4)
    image = shown(walls, "depth")
    red, green, blue = (image[MIDDLE, MIDDLE] * 255).tolist()
    assert (red, green) > (200, 200) and blue < 60  # viridis ends in yellow
    assert float(image[0, 0].max()) == 0.0


def test_normals_face_the_camera(walls: Avatar) -> None:
    assert np.allclose(shown(walls, "normals")[MIDDLE, MIDDLE].numpy(), (0.5, 0.5, 1.0), atol=0.02)
    angle = 0.5
    rotation = torch.tensor([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    views, *others = given(walls)
    views = views.clone()
    views[:, :3, :3] = views[:, :3, :3] @ rotation.float()  # the wall's normal turns to the image's right
    normal = ViewedAvatar(walls, "normals").render(views, *others).rgb[0, MIDDLE, MIDDLE] * 2 - 1
    assert np.allclose(normal.numpy(), (np.sin(angle), 0.0, np.cos(angle)), atol=0.03)


def test_alpha_is_that_of_the_image(walls: Avatar) -> None:
    image = walls.render(*given(walls))
    assert torch.allclose(shown(walls, "alpha"), image.alpha[0, ..., None].expand(-1, -1, 3), atol=2e-3)


@pytest.mark.parametrize("branch", ["separate", "combined"])
def test_attention_is_the_norm_of_the_vectors_that_multiply_the_codes(branch: str) -> None:
    head = made(branch, gaze=True).head
    means = head.face.gaussians.means
    motion = head.face.motion
    networks = {"audio": motion.audio_attention, "units": motion.expression_attention, "gaze": motion.gaze_attention}
    features = {name: motion.encoder(means) for name in networks}
    if head.emotion is None:
        networks["emotion"], features["emotion"] = motion.emotion_attention, motion.encoder(means)
    else:
        networks["emotion"], features["emotion"] = head.emotion.attention, head.emotion.encoder(means)
    found = attention_of(head)
    assert found.keys() == networks.keys()
    for name, network in networks.items():
        wanted = network(features[name]) * (motion._at_eyes(means) if name == "gaze" else 1.0)
        assert torch.allclose(found[name], wanted.square().sum(-1).sqrt(), atol=1e-6)


def test_attention_is_shown_where_it_is(walls: Avatar) -> None:
    """With attention to audio in the upper half alone, red is there alone."""
    head = walls.head
    below = head.face.gaussians.means[:, 1] < 0
    maps = head_maps(head, walls.conditions(*given(walls)), walls.K, (SIZE, SIZE))
    assert set(maps.attention) == {"audio", "units", "emotion"}
    full = full_attention(walls)
    strength = attention_of(head)["audio"]
    assert full["audio"] == pytest.approx(float(torch.quantile(strength, 0.99)))
    half = head_maps_with(walls, torch.where(below, 0.0, 1.0))
    assert float(half[MIDDLE - 4, MIDDLE]) > 0.9 and float(half[MIDDLE + 4, MIDDLE]) < 0.05


def head_maps_with(walls: Avatar, strength: torch.Tensor) -> torch.Tensor:
    """The map of a given attention to audio."""
    from emotalking.models import maps

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maps, "attention_of", lambda head, face=None: {"audio": strength})
        return head_maps(walls.head, walls.conditions(*given(walls)), walls.K, (SIZE, SIZE)).attention["audio"][0]


def test_overlay_leaves_the_background_grey_and_colours_the_face(walls: Avatar) -> None:
    for view in ("attention", "attention-audio", "attention-units", "attention-emotion"):
        image = shown(walls, view)
        assert np.allclose(image[0, 0].numpy(), 0.4, atol=0.01), view
        assert float(image[MIDDLE, MIDDLE].max() - image[MIDDLE, MIDDLE].min()) > 0.1, view


def test_without_emotion_there_is_no_attention_to_it() -> None:
    plain = made("none")
    assert float(shown(plain, "attention")[0, 0, 0]) > 0
    with pytest.raises(InputError, match="without its emotion stage"):
        ViewedAvatar(plain, "attention-emotion")
    with pytest.raises(InputError, match="does not take the direction of the eyes"):
        ViewedAvatar(plain, "attention-gaze")


def test_views_are_written_as_frames_and_videos(walls: Avatar, talk: np.ndarray, tmp_path: Path) -> None:
    options = {"view": "depth", "seconds": 0.12, "provenance": "off"}
    made = render_clip(walls, talk, tmp_path / "a.mp4", folder=tmp_path / "frames", **options)
    assert made.frames == 3 and (tmp_path / "a.mp4").is_file()
    frame = read_image(tmp_path / "frames" / "000000.png")
    wanted = (ViewedAvatar(walls, "depth").render(*given(walls)[:3]).rgb[0] * 255).round()
    assert np.abs(frame.astype(int) - wanted.numpy()).max() <= 1


def test_what_does_not_fit_is_refused(walls: Avatar, talk: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="background of its own"):
        render_clip(walls, talk, tmp_path / "a.mp4", view="normals", background="white")


@pytest.mark.usefixtures("unchecked")
def test_an_unknown_view_is_refused(walls: Avatar) -> None:
    with pytest.raises(ValueError, match="expected one of image, attention"):
        viewed(walls, "heat")  # type: ignore[arg-type]


def test_a_programs_own_avatar_has_no_views(avatar: FakeAvatar, talk: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="loaded from their files"):
        render_clip(avatar, talk, tmp_path / "a.mp4", view="alpha")
