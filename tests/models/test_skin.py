"""Flush and gloss: graded over the disc, in proportion to the skin that is there, and kept by the avatar file."""

from dataclasses import replace
from pathlib import Path

import torch
from tests.models.test_avatar import made

from emotalking.data.audio_features import AUDIO_FEATURES, DEFAULT_FEATURE
from emotalking.emotion.circumplex import PRESETS
from emotalking.models.avatar import Avatar
from emotalking.models.fixed import FixedHead
from emotalking.models.motion import RADIAL_POWER
from emotalking.models.skin import (
    FULL,
    FULL_RADIUS,
    MOST_LIGHT,
    MOST_SHADE,
    NO_SHADE,
    SHADE_COLOUR,
    SHADE_KNOTS,
    SkinTint,
    shade_codes,
    tint_maps,
    tones,
    tones_table,
)
from emotalking.ops.sh import C0, rgb_to_sh0

TABLE = tones_table(torch.device("cpu"))


def of(*names: str) -> torch.Tensor:
    return tones(torch.tensor([PRESETS[name] for name in names]), TABLE)


def test_tones_are_those_of_the_emotions() -> None:
    neutral, angry, excited, afraid, calm, tired = of("neutral", "angry", "excited", "afraid", "calm", "tired")
    assert not neutral.any()
    assert angry[0] > excited[0] > 0.3 and afraid[0] < -0.3
    assert min(angry[1], excited[1]) > 0.5 and max(calm[1], tired[1]) < -0.5


def test_tones_move_without_a_jump_and_stay_limited() -> None:
    angle = torch.linspace(0, 2 * torch.pi, 721)
    ring = torch.stack([angle.cos(), angle.sin()], 1)
    whole = tones(ring, TABLE)
    assert whole.abs().max() <= 1 and whole.diff(dim=0).abs().max() < 0.04
    torch.testing.assert_close(tones(0.4 * ring, TABLE), whole * 0.5**RADIAL_POWER)
    torch.testing.assert_close(whole[0], whole[-1], atol=1e-4, rtol=0)


def test_flush_is_a_share_of_each_skin_and_gloss_is_light() -> None:
    colours = torch.tensor([[0.9, 0.7, 0.6], [0.3, 0.2, 0.15], [0.9, 0.7, 0.6]])
    skin = torch.tensor([[FULL, 0], [FULL, 0], [0, FULL]], dtype=torch.uint8)
    flush, gloss = tint_maps(skin, rgb_to_sh0(colours)[:, None]) * C0
    torch.testing.assert_close(flush[0] / colours[0], flush[1] / colours[1])
    share = flush[0] / colours[0]
    assert share[1] < share[2] < share[0] < 0  # green goes first, red hardly
    assert not flush[2].any() and not gloss[:2].any()
    assert (gloss[2] > 0.1).all() and (gloss[2] < MOST_LIGHT).all()


def test_shade_is_a_share_of_each_colour_and_full_at_its_own_angle() -> None:
    change = torch.zeros(3, SHADE_KNOTS)
    change[0, 4], change[1, 5], change[2] = -0.2, 0.1, 2.0
    codes = shade_codes(change)
    assert (codes[:2] == NO_SHADE).sum() == 2 * SHADE_KNOTS - 2 and (codes[2] == FULL).all()
    colours = torch.tensor([[0.8, 0.6, 0.4], [0.4, 0.3, 0.2], [0.5, 0.5, 0.5]])
    shade = SkinTint(rgb_to_sh0(colours)[:, None], None, codes)
    step = 2 * torch.pi / SHADE_KNOTS
    angles = torch.tensor([4.0, 4.5, 5.0]) * step
    ring = FULL_RADIUS * torch.stack([angles.cos(), angles.sin()], 1)
    share = shade(ring) * C0 / colours / torch.tensor(SHADE_COLOUR)
    torch.testing.assert_close(share[..., 0], share[..., 2])
    wanted = torch.tensor([[-0.2, 0, MOST_SHADE], [-0.1, 0.05, MOST_SHADE], [0, 0.1, MOST_SHADE]])
    torch.testing.assert_close(share[..., 1], wanted, atol=MOST_SHADE / 254 + 1e-6, rtol=0)
    torch.testing.assert_close(shade(1.25 * ring), shade(ring))  # beyond the full radius it stays
    weaker = shade(ring / 2) / shade(ring)
    torch.testing.assert_close(weaker[0, 0], torch.full((3,), 0.5**RADIAL_POWER))
    assert not shade(torch.zeros(1, 2)).any()


def coloured() -> Avatar:
    avatar = made()
    avatar.head.face.gaussians.skin = torch.full((40, 2), 200, dtype=torch.uint8)
    return avatar


def shaded() -> Avatar:
    avatar = made()
    change = torch.linspace(-0.3, -0.1, SHADE_KNOTS).repeat(40, 1)
    avatar.head.face.gaussians.shade = shade_codes(change)
    return avatar


def frame(avatar: Avatar, name: str) -> torch.Tensor:
    views = torch.from_numpy(avatar.viewmats[:1])
    sound = torch.zeros(1, 8, AUDIO_FEATURES[DEFAULT_FEATURE].channels, 16)
    return avatar.render(views, sound, torch.zeros(1, 6), torch.tensor([PRESETS[name]])).rgb


def test_the_skin_is_coloured_by_emotion_alone_and_can_be_left() -> None:
    avatar = coloured()
    plain = replace(avatar, skin=False)
    assert torch.equal(frame(avatar, "neutral"), frame(plain, "neutral"))
    angry, without = frame(avatar, "angry"), frame(plain, "angry")
    less = (without - angry).mean((0, 1, 2))
    afraid = (frame(plain, "afraid") - frame(avatar, "afraid")).mean((0, 1, 2))
    # Gloss adds to all; of what flush takes green has most.
    assert less[1] > less[0] and afraid[1] < afraid[0]
    assert float((without - angry).abs().max()) > 0.01
    none = FixedHead(made().head)
    assert none.face_look_with(torch.tensor([PRESETS["angry"]])) is none.face_look


def test_the_file_keeps_the_weights(tmp_path: Path) -> None:
    avatar = coloured()
    avatar.save(tmp_path / "a.safetensors")
    again = Avatar.load(tmp_path / "a.safetensors")
    assert again.head.face.gaussians.skin is not None
    assert torch.equal(again.head.face.gaussians.skin, torch.full((40, 2), 200, dtype=torch.uint8))
    assert torch.equal(frame(again, "angry"), frame(avatar, "angry"))


def test_shade_belongs_to_the_emotion_and_the_file_keeps_it(tmp_path: Path) -> None:
    avatar = shaded()
    unshaded = made()
    assert torch.equal(frame(avatar, "neutral"), frame(unshaded, "neutral"))
    darker = frame(unshaded, "angry") - frame(avatar, "angry")
    assert float(darker.min()) > -1e-6 and float(darker.max()) > 0.01
    assert torch.equal(frame(avatar, "angry"), frame(replace(avatar, skin=False), "angry"))
    avatar.save(tmp_path / "a.safetensors")
    again = Avatar.load(tmp_path / "a.safetensors")
    assert torch.equal(frame(again, "angry"), frame(avatar, "angry"))
    both = shaded()
    both.head.face.gaussians.skin = torch.full((40, 2), 200, dtype=torch.uint8)
    va = torch.tensor([PRESETS["angry"]])
    tints = [FixedHead(head).face_look_with(va).tint for head in (coloured().head, avatar.head, both.head)]
    torch.testing.assert_close(tints[0] + tints[1], tints[2])
