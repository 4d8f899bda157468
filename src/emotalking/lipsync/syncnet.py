"""SyncNet: do these lips and this sound belong together (Chung and Zisserman 2016, "Out of time").

Written from the paper and the layout of the public weights: two towers, one of five frames of a face and one of 0.2 s
of sound, whose vectors are near each other where both are in step. :mod:`emotalking.lipsync.expert` uses it.
"""

from pathlib import Path

from jaxtyping import Float
from torch import Tensor, nn

from emotalking.networks.registry import model_path
from emotalking.networks.weights import load_frozen

SIZE = 224
"""Side of the pictures that it sees, pixels."""
FRAMES = 5
STEPS = 20
"""Of 10 ms, beside five frames at 25 frames a second."""
WIDTH = 1024
"""Length of a vector."""

_Triple = tuple[int, int, int]


def _flat(channels_in: int, channels_out: int, kernel: int | tuple[int, int], padding: int = 1) -> list[nn.Module]:
    """Convolution of the sound's cepstra, BatchNorm, rectifier."""
    convolution = nn.Conv2d(channels_in, channels_out, kernel, padding=padding)
    return [convolution, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)]


def _deep(channels_in: int, channels_out: int, kernel: _Triple, stride: int = 1, padding: int = 1) -> list[nn.Module]:
    """Convolution of the frames, BatchNorm, rectifier; stride and padding are those in the picture."""
    convolution = nn.Conv3d(channels_in, channels_out, kernel, (1, stride, stride), (0, padding, padding))
    return [convolution, nn.BatchNorm3d(channels_out), nn.ReLU(inplace=True)]


def _ending() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(inplace=True), nn.Linear(512, WIDTH))


class SyncNet(nn.Module):
    """Both towers, in the published order of layers."""

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

    @classmethod
    def open(cls, path: Path | None = None) -> "SyncNet":
        """The published network, frozen.

        Args:
            path: checkpoint; None: ``syncnet_v2.model`` in the model folder.

        Raises:
            UserError: if the file is missing or does not fit.
        """
        return load_frozen(cls(), path or model_path("syncnet"))

    def lips(self, frames: Float[Tensor, "B 3 5 224 224"]) -> Float[Tensor, "B 1024"]:
        """Vectors of five consecutive frames each: BGR, 0 to 255, 25 frames a second."""
        return self.netfclip(self.netcnnlip(frames).flatten(1))

    def audio(self, cepstra: Float[Tensor, "B 1 13 20"]) -> Float[Tensor, "B 1024"]:
        """Vectors of 0.2 s of sound each: MFCC (:func:`emotalking.audio.mfcc.mfcc`), time last."""
        return self.netfcaud(self.netcnnaud(cepstra).flatten(1))
