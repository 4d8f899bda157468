"""The audio encoder of a branch: a window of audio features to one code."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from emotalking.audio.windows import PAST_FRAMES, WINDOW_FRAMES
from emotalking.models.config import AudioConfig

LOUDER, SOFTER = 0.75, 0.2
"""Change of the lips' motion per arousal above and below 0."""


def articulation(arousal: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Size of the lips' motion about closed lips, 1 at arousal 0: calm people speak smaller, excited ones wider.

    Limits: actors' lips part 1.2 (sad) to 2 times (furious) as much as those of people who just talk, fear, surprise
    and happiness 1.3 to 1.8 times (spread of the opening, benchmarks/emotion_judges.py), 1.55 times here at arousal
    .74. No clip of calm speech was at hand: the decrease is an assumption, within what leaves the opening's timing
    (correlation with the neutral one .9; with .35 it was .85). Only the size changes: the timing is that of the sound.

    Deviation: the paper keeps the lips of the neutral face (its lip alignment): ``lips="strict"`` of an avatar.
    """
    return 1.0 + torch.where(arousal > 0, LOUDER * arousal, SOFTER * arousal)


class AudioEncoder(nn.Module, ABC):
    """An audio window to one code."""

    def __init__(self) -> None:
        super().__init__()
        self.closed: Float[Tensor, " code"] | None
        """Closed-mouth code of this person; None until training has ended (``train.stages.finetune``)."""
        self.register_buffer("closed", None)

    @abstractmethod
    def codes(self, windows: Float[Tensor, "B 8 C S"]) -> Float[Tensor, "B code"]:
        """Codes of B windows, whoever speaks."""

    def forward(
        self, windows: Float[Tensor, "B 8 C S"], speech: Float[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B code"]:
        """Codes of B windows of S steps a frame, 1 <= S <= 16 (`audio.windows.audio_windows`).

        Args:
            speech: 1 keeps the code, 0 replaces it by the closed-mouth code, values between blend
                (``audio.vad``), values above exaggerate (:func:`articulation`); None keeps it.

        Raises:
            ValueError: ``speech`` is given without a closed-mouth code.
        """
        code = self.codes(windows)
        if speech is None:
            return code
        if self.closed is None:
            raise ValueError("speech: expected None, because this encoder has no closed-mouth code")
        return torch.lerp(self.closed.expand_as(code), code, speech[:, None])


class PublishedEncoder(AudioEncoder):
    """AudioNet per frame and AudioAttNet over the window (docs/paper.md 4.2).

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

    def codes(self, windows: Float[Tensor, "B 8 C S"]) -> Float[Tensor, "B code"]:
        """See :class:`AudioEncoder`."""
        batch = windows.shape[0]
        codes = self.project(self.frames(windows.flatten(0, 1)).squeeze(-1)).unflatten(0, (batch, WINDOW_FRAMES))
        weights = self.attention_weights(self.attention(codes.transpose(1, 2)).squeeze(1))
        return (weights[:, :, None] * codes).sum(1)


class ConvEncoder(AudioEncoder):
    """Convolutions over the steps around the frame, each 20 ms: the same whether a frame's row has 2 steps or 16.

    Deviation: the published encoder loses some of what features tell. In the few hundred updates of a short run it
    does not fit lips from two steps a frame, and of log-mel a linear map of the same window predicts them better. After
    1,500 updates its lips are as good as this one's, but follow streamed features less (benchmarks/results/lips.json).
    It reads `STEPS` steps, from 80 ms before the frame's begin to 80 ms after its end (at 25 fps; at other rates the
    steps of neighbouring frames overlap or leave gaps, as they did in training).

    Features are standardised by the training clip's (:meth:`standardise`), which the avatar file keeps.
    """

    STEPS = 10
    """Steps that are read."""
    KEPT = 6
    """Steps around the frame's middle that the code is made of, each having seen three to either side."""

    mean: Float[Tensor, " C"]
    scale: Float[Tensor, " C"]

    def __init__(self, channels: int, code: int = 32, steps: int = 2, width: int = 48) -> None:
        super().__init__()
        own = WINDOW_FRAMES * steps if steps <= 2 else steps  # of the line in `timeline`
        self._read = _around(own, self.STEPS)
        read = self._read.stop - self._read.start
        self._kept = _around(read, self.KEPT, own // 2 - self._read.start)
        kept = self._kept.stop - self._kept.start
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))
        self.narrow = nn.Conv1d(channels, width, 1)
        self.norms = nn.ModuleList(nn.GroupNorm(1, width) for _ in range(2))
        self.convolutions = nn.ModuleList(nn.Conv1d(width, width, 3, padding=d, dilation=d) for d in (1, 2))
        self.project = nn.Linear(width * kept, code)

    def standardise(self, windows: Float[Tensor, "F 8 C S"]) -> None:
        """Take mean and scale of the training clip's windows.

        A channel is divided by the root of its variance and the mean variance of all, so that one that hardly moves is
        not amplified.
        """
        values = windows[:, PAST_FRAMES]  # every step is in its own frame's row
        variance = values.var((0, 2), unbiased=False)
        self.mean = values.mean((0, 2))
        self.scale = (variance + variance.mean()).sqrt().clamp_min(1e-6)

    def timeline(self, windows: Float[Tensor, "B 8 C S"]) -> Float[Tensor, "B C T"]:
        """The standardised steps around the frame, one each 20 ms.

        Rows of more than two steps overlap their neighbours', and the frame's own has all that is read.
        """
        steps = windows.shape[-1]
        line = windows.transpose(1, 2).flatten(2) if steps <= 2 else windows[:, PAST_FRAMES]
        return (line[..., self._read] - self.mean[:, None]) / self.scale[:, None]

    def encode(
        self, timeline: Float[Tensor, "B C T"], drop: Callable[[Tensor], Tensor] = lambda x: x
    ) -> Float[Tensor, "B code"]:
        """Codes of timelines.

        Args:
            drop: dropout, of training.
        """
        x = self.narrow(drop(timeline))
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            x = x + drop(F.gelu(convolution(norm(x))))
        return self.project(x[..., self._kept].flatten(1))

    def codes(self, windows: Float[Tensor, "B 8 C S"]) -> Float[Tensor, "B code"]:
        """See :class:`AudioEncoder`."""
        return self.encode(self.timeline(windows))


def _around(count: int, wanted: int, first: int | None = None) -> slice:
    """``wanted`` of ``count`` steps, or all, around the pair that begins at ``first`` (default: the middle of a
    window).

    The window [i-4, i+4) of frame i holds its own two steps right behind its middle, and so does a row of 16.
    """
    middle = count // 2 if first is None else first
    begin = min(max(0, middle + 1 - wanted // 2), max(0, count - wanted))
    return slice(begin, min(begin + wanted, count))


def audio_encoder(config: AudioConfig) -> AudioEncoder:
    """The untrained encoder that a config names."""
    if config.encoder == "conv":
        return ConvEncoder(config.channels, config.code, config.steps)
    return PublishedEncoder(config.channels, config.code)
