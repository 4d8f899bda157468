"""Inverted fields and moved images: kernels against torch in double precision."""

import pytest
import torch
import torch.nn.functional as F

from emotalking.ops.warp import INVERT_FIELD, REMAP, invert_field, remap


def smooth(*shape: int) -> torch.Tensor:
    """Random planes [B, C, h, w] whose values change slowly."""
    return F.interpolate(torch.randn(*shape[:2], 5, 6), shape[2:], mode="bicubic")


@pytest.mark.parametrize(("scale", "channels"), [(4, 3), (2, 3), (2, 6), (1, 2)])
def test_kernel_inverts_as_the_reference(scale: int, channels: int) -> None:
    torch.manual_seed(0)
    planes = smooth(2, channels, 37, 41)
    places = torch.cat([smooth(2, 2, 9, 13) * 12 + 18, smooth(2, 1, 9, 13)], 1)  # some are outside
    jacobian = torch.randn(2, 2, 2)
    found = invert_field(planes, places, jacobian, scale, 4 // scale, backend="cpu")
    expected = invert_field(planes.double(), places.double(), jacobian.double(), scale, 4 // scale, backend="reference")
    assert expected[0].shape == (2, 2, 9 * scale, 13 * scale) and found[1].shape == expected[1].shape
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=1e-4)
    invert_field(planes, places, jacobian, scale, 4 // scale)
    assert INVERT_FIELD.last_run == "cpu"


def test_stretched_images_are_inverted() -> None:
    """To 2.1 times the length, as skin under a raised brow; full steps alone end ten pixels away."""
    y = torch.arange(64.0)
    moves = -12 * ((40 - y) / 16).clamp(0, 1) ** 2 * (3 - 2 * ((40 - y) / 16).clamp(0, 1))
    planes = torch.stack([0 * moves, moves])[None, :, :, None].expand(-1, -1, -1, 64).contiguous()
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    places = torch.stack([columns, rows, torch.ones(64, 64)])[None]
    flow, _ = invert_field(planes, places, torch.eye(2)[None], 1, 1)
    source = (y + flow[0, 1, :, 32]).clamp(0, 63)
    low = source.long().clamp(max=62)
    ends = source + moves[low] + (source - low) * (moves[low + 1] - moves[low])
    assert (ends - y)[:50].abs().max() < 1.2


@pytest.mark.parametrize("size", [(18, 23), (17, 24), (1, 3)])
@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("channels", [3, 4])
def test_kernel_moves_pixels_as_the_reference(size: tuple[int, int], scale: int, channels: int) -> None:
    torch.manual_seed(0)
    images, labels = torch.rand(2, channels, *size), torch.randint(0, 3, (2, *size)).to(torch.uint8)
    field = [-(-side // scale) for side in size]
    flow, gain = torch.randn(2, 2, *field) * 4, torch.randn(2, 1, *field)
    colour = (0.8, 1.0, 1.2)
    found = remap(images, labels, flow, gain, 1, colour, backend="cpu")
    doubles = (each.double() for each in (flow, gain))
    expected = remap(images.double(), labels, *doubles, 1, colour, backend="reference")
    torch.testing.assert_close(found[0].double(), expected[0], rtol=0, atol=2e-5)
    assert torch.equal(found[1], expected[1])
    still = remap(images, labels, flow * 0, gain, 7, colour, backend="cpu")
    torch.testing.assert_close(still[0], images, rtol=0, atol=1e-6)
    assert torch.equal(still[1], labels)
    remap(images, labels, flow, gain, 1, colour)
    assert REMAP.last_run == "cpu"
