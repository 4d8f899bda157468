"""The audio encoder of a branch: AudioNet per frame and AudioAttNet over the window (docs/paper.md 4.2)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from emotalking.audio.windows import WINDOW_FRAMES

MAX_STEPS = 16
"""Feature steps per frame that four stride-2 convolutions reduce to one; fewer are reduced as well."""


class AudioEncoder(nn.Module):
    """An audio window to one code.

    AudioNet is four stride-2 convolutions over a frame's steps and two linear layers; AudioAttNet weighs the eight
    frames' codes by a small convolutional attention, which is the only temporal smoothing of the model.

    Assumption: HuBERT's two steps a frame ([N, 2, 1024], docs/paper.md 2) enter the same convolutions unchanged: 16
    steps shrink as 16, 8, 4, 2, 1, and two as 2, 1, 1, 1, 1 (kernel 3, stride 2, padding 1). Nothing more
    is published; repeating them eight times to 16 would feed the convolutions little besides their own padding.
    """

    def __init__(self, channels: int, code: int = 32) -> None:
        super().__init__()
        widths = (channels, 32, 32, 64, 64)
        layers: list[nn.Module] = []
        for wide_in, wide_out in zip(widths, widths[1:], strict=False):
            layers += [nn.Conv1d(wide_in, wide_out, 3, stride=2, padding=1), nn.LeakyReLU(0.02)]
        # AudioNet's convolutions, for each frame of the window.
        self.frames = nn.Sequential(*layers)
        self.project = nn.Sequential(nn.Linear(64, 64), nn.LeakyReLU(0.02), nn.Linear(64, code))
        attention: list[nn.Module] = []
        widths = (code, 16, 8, 4, 2, 1)
        for wide_in, wide_out in zip(widths, widths[1:], strict=False):
            attention += [nn.Conv1d(wide_in, wide_out, 3, padding=1), nn.LeakyReLU(0.02)]
        self.attention = nn.Sequential(*attention)
        self.attention_weights = nn.Sequential(nn.Linear(WINDOW_FRAMES, WINDOW_FRAMES), nn.Softmax(dim=-1))
        self.closed: Float[Tensor, " code"] | None
        """Closed-mouth code of this person; None until training has ended (``train.stages.finetune``)."""
        self.register_buffer("closed", None)

    def forward(
        self, windows: Float[Tensor, "B 8 C S"], speech: Float[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B code"]:
        """Codes of B windows of S steps a frame, 1 <= S <= 16 (`audio.windows.audio_windows`).

        Args:
            speech: 1 keeps the code, 0 replaces it by the closed-mouth code, values between blend
                (``audio.vad``); None keeps it.

        Raises:
            ValueError: ``speech`` is given without a closed-mouth code.
        """
        batch = windows.shape[0]
        codes = self.project(self.frames(windows.flatten(0, 1)).squeeze(-1)).unflatten(0, (batch, WINDOW_FRAMES))
        weights = self.attention_weights(self.attention(codes.transpose(1, 2)).squeeze(1))
        code = (weights[:, :, None] * codes).sum(1)
        if speech is None:
            return code
        if self.closed is None:
            raise ValueError("speech: expected None, because this encoder has no closed-mouth code")
        return torch.lerp(self.closed.expand_as(code), code, speech[:, None])
