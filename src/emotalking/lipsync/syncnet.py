"""SyncNet, the published sync expert (Chung and Zisserman 2016, "Out of time").

Written from the paper and the layout of the public weights: two towers, one of five frames of a face and one of 0.2 s
of sound, whose embeddings are near each other where both are in sync.
"""

from fractions import Fraction

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from emotalking.audio.mfcc import mfcc
from emotalking.lipsync.windows import FPS, FRAMES, known_points, pad_audio, step_windows
from emotalking.networks.weights import Published
from emotalking.ops.box import Box

SIZE = 224
"""Side of its input images in pixels."""
WIDTH = 1024
"""Length of an embedding."""

_Triple = tuple[int, int, int]


def _flat(channels_in: int, channels_out: int, kernel: int | tuple[int, int], padding: int = 1) -> list[nn.Module]:
    """Convolution of the sound's cepstra, BatchNorm, rectifier."""
    convolution = nn.Conv2d(channels_in, channels_out, kernel, padding=padding)
    return [convolution, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)]


def _deep(channels_in: int, channels_out: int, kernel: _Triple, stride: int = 1, padding: int = 1) -> list[nn.Module]:
    """Convolution of the frames, BatchNorm, rectifier; stride and padding are those in the image."""
    convolution = nn.Conv3d(channels_in, channels_out, kernel, (1, stride, stride), (0, padding, padding))
    return [convolution, nn.BatchNorm3d(channels_out), nn.ReLU(inplace=True)]


def _ending() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(inplace=True), nn.Linear(512, WIDTH))


class SyncNet(Published):
    """Both towers, in the published order of layers."""

    MODEL = "syncnet"

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_flat(1, 64, 3),
            nn.Identity(),  # the public layout has a pooling of one pixel here
            *_flat(64, 192, 3),
            nn.MaxPool2d(3, (1, 2)),
            *_flat(192, 384, 3),
            *_flat(384, 256, 3),
            *_flat(256, 256, 3),
            nn.MaxPool2d(3, 2),
            *_flat(256, 512, (5, 4), 0),
        )
        self.netfcaud = _ending()
        self.netcnnlip = nn.Sequential(
            *_deep(3, 96, (FRAMES, 7, 7), 2, 0),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_deep(96, 256, (1, 5, 5), 2),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            *_deep(256, 256, (1, 3, 3)),
            *_deep(256, 256, (1, 3, 3)),
            *_deep(256, 256, (1, 3, 3)),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_deep(256, 512, (1, 6, 6), padding=0),
        )
        self.netfclip = _ending()

    def lips(self, frames: Float[Tensor, "B 3 5 224 224"]) -> Float[Tensor, "B 1024"]:
        """Embeddings of five consecutive frames each: BGR, 0 to 255, 25 fps."""
        return self.netfclip(self.netcnnlip(frames).flatten(1))

    def audio(self, cepstra: Float[Tensor, "B 1 13 20"]) -> Float[Tensor, "B 1024"]:
        """Embeddings of 0.2 s of sound each: MFCC (:func:`emotalking.audio.mfcc.mfcc`), time last."""
        return self.netfcaud(self.netcnnaud(cepstra).flatten(1))


class SyncNetExpert:
    """The published SyncNet as a :class:`~emotalking.lipsync.expert.SyncExpert`.

    Deviation: its evaluation crops around the box of the S3FD detector; here the box is found from the landmarks (jaw,
    and brows plus a fifth for the forehead). The crop is the same multiple of that box.
    """

    name = "SyncNet v2"
    size = SIZE
    width = WIDTH

    def __init__(self, network: SyncNet, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self._network = network.to(self.device)

    def square(self, points: Float[np.ndarray, "N 68 2"]) -> Box:
        """See ``SyncExpert``: 2.8 times half the box's longer side, from the box's centre 1 up and 1.8 down."""
        known = known_points(points)
        low, high = known.min(1), known.max(1)
        forehead = 0.2 * (high[:, 1] - low[:, 1])
        low[:, 1] -= forehead
        centre = np.median((low + high) / 2, 0)
        half = float(np.median((high - low).max(1) / 2))
        x, y = float(centre[0]), float(centre[1])
        return Box(y - half, x - 1.4 * half, y + 1.8 * half, x + 1.4 * half)

    def embed_lips(self, crops: Float[Tensor, "B 5 S S 3"]) -> Float[Tensor, "B D"]:
        """See ``SyncExpert``."""
        return self._network.lips(crops.flip(-1).permute(0, 4, 1, 2, 3) * 255.0)

    def audio_windows(
        self, samples: Float[np.ndarray, " n"], frames: int, fps: Fraction | float | int = FPS
    ) -> Float[Tensor, "frames *A"]:
        """See ``SyncExpert``. [frames, 1, 13, 20]"""
        cepstra = mfcc(pad_audio(samples, frames, fps))[step_windows(frames, fps)]
        return torch.from_numpy(cepstra.astype(np.float32)).transpose(1, 2)[:, None].to(self.device)

    def embed_audio(self, windows: Float[Tensor, "B *A"]) -> Float[Tensor, "B D"]:
        """See ``SyncExpert``."""
        return self._network.audio(windows)
