"""Drawing for rendering: kernel against the reference, in float64, and its edges."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from emotalking.ops.reference import splat as reference
from emotalking.ops.splat import SPLAT, Look, splat

Scene = dict[str, torch.Tensor | int]


def arguments(scene: Scene, degree: int = 2, seed: int = 3) -> dict:
    """Arguments of `splat` for a scene of one camera a batch entry."""
    rng = torch.Generator().manual_seed(seed)
    means = scene["means"]
    count = means.shape[1]
    sh0, rest = (torch.randn(count, n, 3, generator=rng, dtype=torch.float64).to(means) * 0.5 for n in (1, 15))
    opacities = scene["opacities"][0]
    return {
        **{name: scene[name] for name in ("means", "quats", "scales", "width", "height")},
        "look": Look(opacities, sh0, rest, degree),
        "viewmats": scene["viewmats"][:, 0],
        "K": scene["Ks"][0, 0],
    }


def compare(single: dict, double: dict) -> None:
    image = splat(**single, backend="cpu")
    expected = reference.splat(**double)
    assert image.shape == expected.shape
    torch.testing.assert_close(image.double(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("width", "height"), [(53, 37), (16, 16), (1, 1), (130, 70)])
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_kernel_equals_reference(random_scene: Callable[..., Scene], width: int, height: int, degree: int) -> None:
    options = {"batch": (1,), "width": width, "height": height, "count": 150}
    compare(arguments(random_scene(**options), degree), arguments(random_scene(**options, dtype=torch.float64), degree))


@pytest.mark.parametrize("count", [0, 1, 17])
def test_few_gaussians(random_scene: Callable[..., Scene], count: int) -> None:
    options = {"batch": (1,), "count": count}
    compare(arguments(random_scene(**options)), arguments(random_scene(**options, dtype=torch.float64)))


def test_each_frame_has_its_tint(random_scene: Callable[..., Scene]) -> None:
    options = {"batch": (2,), "count": 77}
    scenes = [arguments(random_scene(**options, dtype=dtype)) for dtype in (torch.float32, torch.float64)]
    plain = splat(**scenes[0], backend="cpu")  # packs the look
    tint = torch.randn(2, 77, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64) * 0.3
    tint[1] = 0
    tinted = [{**scene, "look": replace(scene["look"], tint=tint.to(scene["means"]))} for scene in scenes]
    compare(*tinted)
    image = splat(**tinted[0], backend="cpu")
    assert torch.equal(image[1], plain[1]) and (image[0] - plain[0]).abs().max() > 0.01
    assert torch.equal(splat(**scenes[0], backend="cpu"), plain)


def test_frames_of_a_batch_are_drawn_alone(random_scene: Callable[..., Scene]) -> None:
    scene = arguments(random_scene(batch=(3,), count=80))
    image = splat(**scene, backend="cpu")
    for frame in range(3):
        one = {name: scene[name][frame : frame + 1] for name in ("means", "quats", "scales", "viewmats")}
        assert torch.equal(splat(**{**scene, **one}, backend="cpu")[0], image[frame])


def test_long_thin_gaussians(random_scene: Callable[..., Scene]) -> None:
    """Their covariances are nearly singular."""
    scenes = []
    for dtype in (torch.float32, torch.float64):
        scene = random_scene(batch=(1,), count=60, dtype=dtype)
        scene["scales"] = scene["scales"] * torch.tensor([40.0, 0.001, 0.001], dtype=dtype)
        scenes.append(arguments(scene))
    image, expected = splat(**scenes[0], backend="cpu"), reference.splat(**scenes[1])
    assert (image.double() - expected).abs().mean() < 1e-5


def test_what_is_behind_the_camera_or_faint_is_not_seen(random_scene: Callable[..., Scene]) -> None:
    scene = arguments(random_scene(batch=(1,), count=40))
    assert splat(**scene, backend="cpu").abs().max() > 0
    behind = scene | {"viewmats": scene["viewmats"] @ torch.diag(torch.tensor([1.0, -1, -1, 1]))}
    behind["viewmats"][:, 2, 3] = -2
    assert not splat(**behind, backend="cpu").any()
    look = scene["look"]
    faint = Look(torch.full_like(look.opacities, 0.9 / 255), look.sh0, look.sh_rest, look.degree)
    assert not splat(**{**scene, "look": faint}, backend="cpu").any()
    none = Look(torch.zeros_like(look.opacities), look.sh0, look.sh_rest, look.degree)
    assert not splat(**{**scene, "look": none}, backend="cpu").any()


def test_numbers_that_are_not_finite_do_no_harm(random_scene: Callable[..., Scene]) -> None:
    scene = arguments(random_scene(batch=(1,), count=64))
    clean = splat(**scene, backend="cpu")
    for name, value in (("means", torch.nan), ("scales", torch.inf), ("quats", torch.nan), ("means", 1e30)):
        broken = scene[name].clone()
        broken[:, ::5] = value
        assert splat(**{**scene, name: broken}, backend="cpu").shape == clean.shape


def test_choice_of_back_ends_and_refusals(random_scene: Callable[..., Scene]) -> None:
    scene = arguments(random_scene(batch=(1,), count=20))
    splat(**scene)
    assert SPLAT.last_run == "cpu"
    splat(**arguments(random_scene(batch=(1,), count=20, dtype=torch.float64)))
    assert SPLAT.last_run == "reference"
    look = scene["look"]
    with pytest.raises(ValueError, match="needs 8"):
        splat(**{**scene, "look": Look(look.opacities, look.sh0, look.sh_rest[:, :7], 2)})
