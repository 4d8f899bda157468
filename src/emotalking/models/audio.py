"""The audio encoder of a branch: AudioNet per frame and AudioAttNet over the window (paper-spec 4.2)."""

from jaxtyping import Float
from torch import Tensor, nn

WINDOW = 8
"""Frames in an audio window: four past, the current and three future."""
STEPS = 16
"""Feature steps of 20 ms per frame."""


class AudioEncoder(nn.Module):
    """An audio window to one code.

    AudioNet is four stride-2 convolutions over a frame's 16 steps and two linear layers; AudioAttNet weighs the
    eight frames' codes by a small convolutional attention, which is the only temporal smoothing of the model.
    """

    def __init__(self, channels: int, code: int = 32) -> None:
        super().__init__()
        widths = (channels, 32, 32, 64, 64)
        layers: list[nn.Module] = []
        for wide_in, wide_out in zip(widths, widths[1:], strict=False):
            layers += [nn.Conv1d(wide_in, wide_out, 3, stride=2, padding=1), nn.LeakyReLU(0.02)]
        self.frames = nn.Sequential(*layers)
        self.project = nn.Sequential(nn.Linear(64, 64), nn.LeakyReLU(0.02), nn.Linear(64, code))
        attention: list[nn.Module] = []
        widths = (code, 16, 8, 4, 2, 1)
        for wide_in, wide_out in zip(widths, widths[1:], strict=False):
            attention += [nn.Conv1d(wide_in, wide_out, 3, padding=1), nn.LeakyReLU(0.02)]
        self.attention = nn.Sequential(*attention)
        self.attention_weights = nn.Sequential(nn.Linear(WINDOW, WINDOW), nn.Softmax(dim=-1))

    def forward(self, windows: Float[Tensor, "B 8 C 16"]) -> Float[Tensor, "B code"]:
        """Codes of B windows (`speech.features.audio_windows`)."""
        batch = windows.shape[0]
        codes = self.project(self.frames(windows.flatten(0, 1)).squeeze(-1)).unflatten(0, (batch, WINDOW))
        weights = self.attention_weights(self.attention(codes.transpose(1, 2)).squeeze(1))
        return (weights[:, :, None] * codes).sum(1)
