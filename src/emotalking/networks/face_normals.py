"""Surface normals of a face from its image (Abrevaya et al. 2020, arXiv 2003.09691).

Written from the paper and the layout of the public checkpoint: the path from image to normals, which is an encoder
(ResNet-18), a decoder, and "deactivable" skip connections that join by a maximum over some of the channels. The
other half of the published file (normal encoder, image decoder) only served the training.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, Shaped, UInt8
from torch import Tensor, nn

from emotalking.errors import InputError
from emotalking.networks.blocks import BasicBlock, stage
from emotalking.networks.crops import crop, inside, square_around, uncrop
from emotalking.networks.weights import Published
from emotalking.ops.box import Box

SIZE = 256
"""Side of the face crop in pixels."""
MARGIN = 1.2
"""Side of the crop over the longer side of the landmarks' bounding box."""
TO_OPENCV = (1.0, -1.0, -1.0)
"""From the network's axes (x right, y up, z towards the viewer) to the camera's (x right, y down, z forward)."""


def _conv(channels_in: int, channels_out: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2), nn.ReLU())


class FaceNormals(Published):
    """Image to normals."""

    MODEL = "face_normals"
    # The file repeats the trunk under base_model; names in _2 are those of the training's other half.
    UNUSED = (
        "base_model.",
        *(f"layer{i}_2." for i in range(5)),
        *(f"conv_up{i}_2." for i in range(4)),
        *(f"conv_original_size{i}_2." for i in range(3)),
        "conv_last_2.",
    )

    def __init__(self) -> None:
        super().__init__()
        self.layer0 = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU())
        self.layer1 = nn.Sequential(nn.MaxPool2d(3, 2, 1), stage(BasicBlock, 64, 64, 2, 1))
        self.layer2 = stage(BasicBlock, 64, 128, 2, 2)
        self.layer3 = stage(BasicBlock, 128, 256, 2, 2)
        self.layer4 = stage(BasicBlock, 256, 512, 2, 2)
        self.layer0_1x1 = _conv(64, 64, 1)
        self.layer1_1x1 = _conv(64, 64, 1)
        self.layer2_1x1 = _conv(128, 128, 1)
        self.layer3_1x1 = _conv(256, 256, 1)
        self.layer4_1x1 = _conv(512, 512 + 256, 1)
        self.conv_up3 = _conv(512 + 256, 512 + 128, 3)
        self.conv_up2 = _conv(512 + 128, 256 + 64, 3)
        self.conv_up1 = _conv(256 + 64, 256 + 64, 3)
        self.conv_up0 = _conv(256 + 64, 128 + 64, 3)
        self.conv_original_size0 = _conv(3, 64, 3)
        self.conv_original_size1 = _conv(64, 64, 3)
        self.conv_original_size2 = _conv(128 + 64, 64, 3)
        self.conv_last = nn.Conv2d(64, 3, 1)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
        """Unit normals in the network's axes: x right, y up, z towards the viewer.

        Args:
            images: RGB in [0, 1], cut by :func:`normals_square`; sides are multiples of 32, 256 in training.
        """
        half = self.layer0(images)
        quarter = self.layer1(half)
        eighth = self.layer2(quarter)
        sixteenth = self.layer3(eighth)
        x = self.layer4_1x1(self.layer4(sixteenth))
        x = self.conv_up3(_join(x, self.layer3_1x1(sixteenth)))
        x = self.conv_up2(_join(x, self.layer2_1x1(eighth)))
        x = self.conv_up1(_join(x, self.layer1_1x1(quarter)))
        x = self.conv_up0(_join(x, self.layer0_1x1(half)))
        full = self.conv_original_size1(self.conv_original_size0(images))
        return F.normalize(self.conv_last(self.conv_original_size2(_join(x, full))), dim=1)


def _join(coarse: Tensor, skip: Tensor) -> Tensor:
    """A deactivable skip connection: features doubled in size, their last channels the maximum with the encoder's."""
    coarse = F.interpolate(coarse, scale_factor=2.0, mode="bilinear", align_corners=True)
    plain = coarse.shape[1] - skip.shape[1]
    return torch.cat([coarse[:, :plain], torch.maximum(coarse[:, plain:], skip)], 1)


def normals_square(points: Shaped[np.ndarray, "68 2"], width: int, height: int) -> Box:
    """The crop of the authors: 1.2 times the longer side of the 68 iBUG landmarks' box, moved into the image."""
    longer = float((points.max(0) - points.min(0)).max())
    return inside(square_around(points, MARGIN * longer), width, height)


@torch.inference_mode()
def estimate_normals(
    network: nn.Module,
    images: list[UInt8[np.ndarray, "H W 3"]],
    points: Shaped[np.ndarray, "B 68 2"],
    device: torch.device | str = "cpu",
) -> tuple[Float32[np.ndarray, "B H W 3"], Bool[np.ndarray, "B H W"]]:
    """Camera-space normals of faces, OpenCV axes (x right, y down, z forward: a face towards the camera has z < 0).

    Args:
        network: :class:`FaceNormals` on ``device``.
        images: RGB, all of one size.
        points: their iBUG landmarks, pixels, finite.
        device: where the network is.

    Returns:
        Unit normals, and where they were estimated (the crop); zero elsewhere.
    """
    height, width = images[0].shape[:2]
    squares = [normals_square(place, width, height) for place in points]
    cuts = np.stack([crop(image, square, SIZE) for square, image in zip(squares, images, strict=True)])
    batch = torch.from_numpy(cuts).to(device).permute(0, 3, 1, 2).float() / 255
    found = network(batch).permute(0, 2, 3, 1).float().cpu().numpy() * np.array(TO_OPENCV, np.float32)
    pasted = [uncrop(cut, square, height, width) for square, cut in zip(squares, found, strict=True)]
    inside = np.stack([mask for _, mask in pasted])
    normals = np.stack([normal for normal, _ in pasted])
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-6)
    return normals * inside[..., None], inside


def check_directions(normals: Shaped[np.ndarray, "H W 3"], face: Bool[np.ndarray, "H W"], source: Path | str) -> None:
    """See that the normals of a face bulge towards the camera and outwards, as a head does.

    The axes of the published network are known from how others use it, not from its paper; a file with other axes
    would spoil a training silently.

    Args:
        normals: of one frame, OpenCV axes.
        face: where the face is; a frame whose face is nearly empty passes.
        source: the checkpoint, for the message.

    Raises:
        InputError: if the normals point away from the camera, or inwards, on the whole.
    """
    rows, cols = np.nonzero(face)
    if len(rows) < 100:
        return
    x, y, z = normals[rows, cols].T
    outwards = np.mean(x * (cols - cols.mean())), np.mean(y * (rows - rows.mean())), -np.mean(z)
    if min(outwards) <= 0:
        raise InputError(
            f"the normals that {source} gives do not bulge towards the camera as a face does: give the published file,"
            " or choose the normals of the mesh (normals=mesh)."
        )
