"""The networks: public layouts to the last key, published sizes, and agreement with plain formulas."""

from pathlib import Path

import numpy as np
import pytest
import torch

from emotalking.data.labels import Label
from emotalking.networks.bisenet import LABEL_OF_PART, BiSeNet, FacePart, label_scores, part_scores
from emotalking.networks.easyportrait import TEETH, PortraitParser, find_teeth
from emotalking.networks.emonet import EXPRESSIONS, FIVE_EXPRESSIONS, EmoNet
from emotalking.networks.face_normals import FaceNormals

from . import plain, public_layouts


def needed(network: type[torch.nn.Module], layout: public_layouts.Layout) -> public_layouts.Layout:
    """The part of a public layout that the network uses."""
    return {name: shape for name, shape in layout.items() if not name.startswith(getattr(network, "UNUSED", ()))}


@pytest.mark.parametrize(
    ("network", "layout"),
    [
        (BiSeNet(), public_layouts.bisenet()),
        (PortraitParser(), public_layouts.easyportrait()),
        (EmoNet(8), public_layouts.emonet(8)),
        (EmoNet(5), public_layouts.emonet(5)),
        (FaceNormals(), public_layouts.face_normals()),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, torch.nn.Module) else "",
)
def test_names_and_shapes_are_the_public_ones(network: torch.nn.Module, layout: public_layouts.Layout) -> None:
    ours = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert ours == needed(type(network), layout)


def floats(layout: public_layouts.Layout) -> int:
    """Numbers in the float tensors of a layout."""
    return sum(int(np.prod(shape)) for name, shape in layout.items() if not name.endswith("num_batches_tracked"))


def test_sizes_are_the_published_ones() -> None:
    whole = public_layouts.bisenet()
    used = {name for name in needed(BiSeNet, whole) if not name.endswith("num_batches_tracked")}
    # A public converter of 79999_iter.pth counts 191 tensors, keeps these 148 in 52,650,752 bytes.
    assert (len(whole), len(used)) == (191, 148)
    assert 4 * floats(needed(BiSeNet, whole)) == 52_650_752
    # EasyPortrait's tables: 28.5 million parameters, 108.91 MB.
    assert sum(p.numel() for p in PortraitParser().parameters()) == pytest.approx(28.5e6, abs=5e4)
    assert 4 * floats(public_layouts.easyportrait()) / 2**20 == pytest.approx(108.91, abs=0.01)
    # emonet_8.pth and emonet_5.pth have 56,087,163 and 56,085,615 bytes: pickled names, and three expressions more.
    eight, five = (4 * floats(public_layouts.emonet(count)) for count in (8, 5))
    assert eight - five == 56_087_163 - 56_085_615
    assert 0 < 56_087_163 - eight < 200 * len(public_layouts.emonet(8))


def test_bisenet_agrees_with_plain_formulas() -> None:
    weights = public_layouts.random_weights(public_layouts.bisenet())
    network = BiSeNet().eval()
    network.load_state_dict({name: weights[name] for name in network.state_dict()})
    image = torch.randn(1, 3, 96, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(image), plain.bisenet(weights, image), rtol=1e-4, atol=1e-4)


def test_portrait_parser_agrees_with_plain_formulas() -> None:
    weights = public_layouts.random_weights(public_layouts.easyportrait())
    network = PortraitParser().eval()
    network.load_state_dict(weights)
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = plain.easyportrait(weights, image)
        torch.testing.assert_close(network(image), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
        assert network(image[..., :70]).shape == (1, 8, 64, 70)  # not a multiple of 32


@pytest.mark.parametrize(("count", "names"), [(8, EXPRESSIONS), (5, FIVE_EXPRESSIONS)])
def test_emonet_agrees_with_plain_formulas(count: int, names: tuple[str, ...]) -> None:
    weights = public_layouts.random_weights(public_layouts.emonet(count))
    network = EmoNet(count).eval()
    network.load_state_dict(weights)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        found = network(image)
        values, maps = plain.emonet(weights, image)
    scale = 1e-4 * float(values.abs().max())
    torch.testing.assert_close(torch.cat([found.expression, found.va], 1), values, rtol=1e-3, atol=scale)
    torch.testing.assert_close(found.heatmaps, maps, rtol=1e-3, atol=1e-4 * float(maps.abs().max()))
    assert found.expression.shape == (1, len(names)) and network.expressions == names


def test_emonet_is_differentiable_in_the_picture() -> None:
    network = EmoNet(8).eval().requires_grad_(False)
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    network(image).va.sum().backward()
    assert image.grad is not None and torch.isfinite(image.grad).all() and image.grad.abs().sum() > 0


def test_face_normals_agree_with_plain_formulas() -> None:
    weights = public_layouts.random_weights(public_layouts.face_normals())
    network = FaceNormals().eval()
    network.load_state_dict({name: weights[name] for name in network.state_dict()})
    image = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        normals, expected = network(image), plain.face_normals(weights, image)
    torch.testing.assert_close(normals.norm(dim=1), torch.ones(2, 64, 96))
    torch.testing.assert_close(normals, expected / expected.norm(dim=1, keepdim=True), rtol=1e-3, atol=1e-3)


def test_every_class_has_its_label() -> None:
    labels = {part.name: Label(LABEL_OF_PART[part]) for part in FacePart}
    # docs/paper.md 1.2: head 1-10, 12, 13, 18; mouth 11; neck 14, 15; torso 16; hair 17; background 0.
    assert [part for part in FacePart if labels[part.name] == Label.HEAD] == [*range(1, 11), 12, 13, 18]
    assert labels["INNER_MOUTH"] == Label.MOUTH and labels["CLOTH"] == Label.TORSO and labels["HAIR"] == Label.HAIR
    assert labels["NECK"] == labels["NECKLACE"] == Label.NECK and labels["BACKGROUND"] == Label.BACKGROUND


class Thresholds(torch.nn.Module):
    """A stand-in that gives the class ``second`` where red is above the mean, and the class 0 elsewhere."""

    def __init__(self, classes: int, second: int) -> None:
        super().__init__()
        self.classes, self.second = classes, second
        self.seen: tuple[int, ...] = ()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores."""
        self.seen = tuple(images.shape)
        scores = torch.zeros(len(images), self.classes, *images.shape[2:])
        scores[:, self.second] = images[:, 0]
        return scores


@pytest.mark.parametrize("size", [(64, 96), (512, 512)])
def test_pictures_go_in_normalised_and_classes_come_back(size: tuple[int, int]) -> None:
    images = [np.full((*size, 3), 20, np.uint8) for _ in range(2)]
    images[1][:, size[1] // 2 :] = 200
    network = Thresholds(19, FacePart.HAIR)
    parts = part_scores(network, images)
    assert network.seen == parts.shape[:1] + (3,) + parts.shape[1:3] == (2, 3, 512, 512)
    np.testing.assert_allclose(parts.sum(-1), 1, atol=1e-5)
    found = parts.argmax(-1)
    assert (found[0] == 0).all() and (found[1][:, :245] == 0).all() and (found[1][:, 267:] == FacePart.HAIR).all()
    teeth = find_teeth(Thresholds(8, TEETH), images)
    assert teeth.shape == (2, *size) and teeth.dtype == bool
    assert not teeth[0].any() and teeth[1][:, size[1] // 2 + 2 :].all()


def test_parts_of_one_label_add_up() -> None:
    parts = np.zeros((1, 2, 19), np.float32)
    parts[0, 0, [FacePart.SKIN, FacePart.NOSE, FacePart.HAIR]] = 0.3, 0.3, 0.4  # hair is the likeliest single part
    parts[0, 1, [FacePart.NECK, FacePart.NECKLACE, FacePart.CLOTH]] = 0.25, 0.25, 0.5
    scores = label_scores(parts)
    assert scores[0, 0].argmax() == Label.HEAD
    np.testing.assert_allclose(scores[0, 0, [Label.HEAD, Label.HAIR]], [0.6, 0.4], rtol=1e-6)
    np.testing.assert_allclose(scores[0, 1, [Label.NECK, Label.TORSO]], [0.5, 0.5], rtol=1e-6)


def test_the_published_files_load(tmp_path: Path) -> None:
    path = public_layouts.write_checkpoint(tmp_path / "79999_iter.pth", public_layouts.bisenet())
    network = BiSeNet.open(path)
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    public_layouts.write_checkpoint(path, public_layouts.easyportrait(), wrapped=True)
    assert PortraitParser.open(path).decode_head.conv_seg.weight.abs().sum() > 0
    public_layouts.write_checkpoint(path, public_layouts.emonet(5))
    assert EmoNet.open(5, path).expressions == FIVE_EXPRESSIONS
    public_layouts.write_checkpoint(path, public_layouts.face_normals())
    assert not any(p.requires_grad for p in FaceNormals.open(path).parameters())
