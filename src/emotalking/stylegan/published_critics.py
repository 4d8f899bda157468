"""The paper's critics for faces of real people: EmoNet, FAN and VGGFace2, each with the crop of its training."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from emotalking.networks import emonet
from emotalking.networks.blocks import Block, Bottleneck, Hourglass, stage
from emotalking.networks.emonet import EmoNet
from emotalking.networks.weights import Published
from emotalking.stylegan.critics import FoundPoints, read_maps

EMOTION_SIDE = 1.1
"""EmoNet's crop: (width + height) of the landmarks' box by this (``emonet_square``)."""

LICENCES = {
    "StyleGAN2 for FFHQ": "NVIDIA Source Code License-NC",
    "e4e": "MIT (code); rests on StyleGAN2 for FFHQ",
    "EmoNet": "CC BY-NC-ND 4.0",
    "FAN": "BSD-3-Clause (code); none stated for the weights",
    "ResNet-50 of VGGFace2": "MIT (code); none stated for the weights",
}
"""Licences of the networks that such a generator is derived from."""

FAN_SIZE = 256
"""Side of FAN's face crop in pixels."""
LANDMARKS = 68
HOURGLASSES = 4
CHANNELS = 256

FOREHEAD = 0.25
"""Distance of a detector box's top above the brows, as a share of the landmarks' height."""
RAISED = 0.12
"""Distance of the crop's centre above the box's, as a share of the box's height."""
WIDER = 200 / 195
"""Side of the crop, as a multiple of (width + height) of the box."""

VGGFACE2_SIZE = 224
"""Side of the face crop in pixels."""
MEAN_BGR = (91.4953, 103.8827, 131.0912)
"""Mean of images in [0, 255]."""
MIDDLE = 0.7
"""EmoStyle's crop: this share of the FFHQ-aligned crop, around its centre."""


class Fan(Published):
    """FAN, the 2-D face alignment network of four hourglasses (Bulat and Tzimiropoulos 2017, arXiv 1703.07332).

    Heat maps of the 68 iBUG landmarks. Written from the paper and the names and shapes of the public checkpoints: the
    ``.pth.tar`` and the TorchScript archives, of which the tensors alone are read. Not verified here: that the archives
    of the versions 1.5 and 1.6 hold exactly these names (no file was available; a difference raises an error that names
    it).
    """

    MODEL = "fan"

    def __init__(self, hourglasses: int = HOURGLASSES) -> None:
        super().__init__()
        self._hourglasses = hourglasses
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = Block(64, 128)
        self.conv3 = Block(128, 128)
        self.conv4 = Block(128, CHANNELS)
        for i in range(hourglasses):
            self.add_module(f"m{i}", Hourglass(CHANNELS, F.avg_pool2d))
            self.add_module(f"top_m_{i}", Block(CHANNELS, CHANNELS))
            self.add_module(f"conv_last{i}", nn.Conv2d(CHANNELS, CHANNELS, 1))
            self.add_module(f"bn_end{i}", nn.BatchNorm2d(CHANNELS))
            self.add_module(f"l{i}", nn.Conv2d(CHANNELS, LANDMARKS, 1))
            if i < hourglasses - 1:
                self.add_module(f"bl{i}", nn.Conv2d(CHANNELS, CHANNELS, 1))
                self.add_module(f"al{i}", nn.Conv2d(LANDMARKS, CHANNELS, 1))

    def forward(self, faces: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B 68 M M"]:
        """The last hourglass's maps, about 1 where a landmark is; M = S / 4.

        Args:
            faces: RGB in [0, 1], cut by :func:`fan_crop`; 256 pixels a side in training.
        """
        x = F.avg_pool2d(self.conv2(self.bn1(self.conv1(faces)).relu()), 2)
        x, maps = self.conv4(self.conv3(x)), x
        for i in range(self._hourglasses):
            features = self.get_submodule(f"top_m_{i}")(self.get_submodule(f"m{i}")(x))
            features = self.get_submodule(f"bn_end{i}")(self.get_submodule(f"conv_last{i}")(features)).relu()
            maps = self.get_submodule(f"l{i}")(features)
            if i < self._hourglasses - 1:
                x = x + self.get_submodule(f"bl{i}")(features) + self.get_submodule(f"al{i}")(maps)
        return maps


def fan_crop(ibug68: Float[Tensor, "B 68 2"]) -> tuple[Float[Tensor, "B 2"], Float[Tensor, " B"]]:
    """Centre and half side of the network's crop around a face, in the units of the landmarks (y down).

    Assumption: the published rule starts from a face detector's box; here that box is the landmarks', with room for a
    forehead.
    """
    low, high = ibug68.amin(1), ibug68.amax(1)
    top = low[:, 1] - FOREHEAD * (high - low)[:, 1]
    height, width = high[:, 1] - top, (high - low)[:, 0]
    centre = torch.stack([(low + high)[:, 0] / 2, (top + high[:, 1]) / 2 - RAISED * height], 1)
    return centre, WIDER * (width + height) / 2


class _CaffeBottleneck(Bottleneck):
    """The stride in the first convolution instead of the second."""

    def __init__(self, channels_in: int, width: int, stride: int = 1) -> None:
        super().__init__(channels_in, width, stride)
        self.conv1.stride, self.conv2.stride = self.conv2.stride, self.conv1.stride


class VggFace2(Published):
    """Face identity: ResNet-50 trained on VGGFace2 (Cao et al. 2018, arXiv 1710.08092), as EmoStyle uses it.

    Written from the paper and the names and shapes of the widespread conversion ``resnet50_ft_weight.pkl`` (a pickle of
    a dict of numpy arrays, which is read without executing anything in it; no file was available). In these networks,
    which come from Caffe, the first 1x1 convolution of a block carries the stride.
    """

    MODEL = "vggface2"
    UNUSED = ("fc.",)
    """The classifier over 8631 people."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = stage(_CaffeBottleneck, 64, 64, 3, 1)
        self.layer2 = stage(_CaffeBottleneck, 256, 128, 4, 2)
        self.layer3 = stage(_CaffeBottleneck, 512, 256, 6, 2)
        self.layer4 = stage(_CaffeBottleneck, 1024, 512, 3, 2)
        self.register_buffer("mean", torch.tensor(MEAN_BGR).view(1, 3, 1, 1), persistent=False)
        self.mean: Tensor

    def forward(self, faces: Float[Tensor, "B 3 224 224"]) -> Float[Tensor, "B 2048"]:
        """Embeddings of unit length of RGB faces in [0, 1]."""
        x = faces.flip(1) * 255 - self.mean
        x = F.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, ceil_mode=True)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return F.normalize(F.avg_pool2d(x, 7).flatten(1))


def cut_faces(
    faces: Float[Tensor, "B S S 3"], centre: Float[Tensor, "B 2"], half: Float[Tensor, " B"], size: int
) -> Float[Tensor, "B 3 C C"]:
    """Crop squares of aligned crops, bilinear; pixels outside are black.

    Args:
        faces: RGB.
        centre: of the new squares, -1 to 1 in the old ones.
        half: half their sides, in the same units.
        size: pixels a side, C.
    """
    move = torch.zeros(len(faces), 2, 3, device=faces.device, dtype=faces.dtype)
    move[:, 0, 0] = move[:, 1, 1] = half
    move[:, :, 2] = centre
    grid = F.affine_grid(move, [len(faces), 3, size, size], align_corners=False)
    return F.grid_sample(faces.permute(0, 3, 1, 2), grid, align_corners=False)


class PublishedCritics:
    """A :class:`~emotalking.stylegan.critics.FaceCritics`."""

    def __init__(self, emotions: EmoNet, landmarks: Fan, identities: VggFace2) -> None:
        self.emotions = emotions
        self.landmarks = landmarks
        self.identities = identities

    @classmethod
    def open(cls, device: torch.device | str = "cpu") -> "PublishedCritics":
        """Open the networks from the model folder.

        Raises:
            InputError: a file is missing or does not fit.
        """
        return cls(EmoNet.open().to(device), Fan.open().to(device), VggFace2.open().to(device))

    def emotion(self, faces: Float[Tensor, "B S S 3"], ibug68: Float[Tensor, "B 68 2"]) -> Float[Tensor, "B 2"]:
        """EmoNet's valence and arousal."""
        low, high = ibug68.amin(1), ibug68.amax(1)
        half = (high - low).sum(1) / EMOTION_SIDE / 2
        return self.emotions(cut_faces(faces, (low + high) / 2, half, emonet.SIZE)).va

    def points(self, faces: Float[Tensor, "B S S 3"], ibug68: Float[Tensor, "B 68 2"]) -> FoundPoints:
        """FAN's maps, whose pixels are those of its crop."""
        return fan_points(self.landmarks, faces, ibug68)

    def identity(self, faces: Float[Tensor, "B S S 3"], ibug68: Float[Tensor, "B 68 2"]) -> Float[Tensor, "B D"]:
        """VGGFace2's embeddings of the middle of the aligned crop (EmoStyle's crop).

        Deviation: EmoStyle shrinks to the nearest pixel in two steps; here it is one bilinear step.
        """
        half = faces.new_full((len(faces),), MIDDLE)
        return self.identities(cut_faces(faces, torch.zeros_like(ibug68[:, 0]), half, VGGFACE2_SIZE))


def fan_points(network: Fan, faces: Float[Tensor, "B S S 3"], ibug68: Float[Tensor, "B 68 2"]) -> FoundPoints:
    """Landmarks of FFHQ-aligned faces, in pixels of the network's own crop."""
    maps = network(cut_faces(faces, *fan_crop(ibug68), FAN_SIZE))
    return FoundPoints(maps, read_maps(maps))
