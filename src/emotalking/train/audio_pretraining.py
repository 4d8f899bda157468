"""A head start for the audio encoders: learn the tracked lip shape from sound before any image is rendered."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from emotalking.models.audio import AudioEncoder, ConvEncoder
from emotalking.ops.geometry import project
from emotalking.progress import track
from emotalking.train.audio_augmentation import LipExamples
from emotalking.train.data import TrainingData

RATE = 2e-3


@dataclass(frozen=True)
class Regularisation:
    """Against learning single frames by heart."""

    batch: int
    """Frames of an update."""
    weight_decay: float
    noise: float = 0.2
    """Standard deviation of the noise on the features."""
    dropout: float = 0.0
    longest_mask: int = 0
    """Steps of 20 ms that a time mask hides at most."""
    mask_every: int = 128
    """Steps among which there is one time mask."""
    channel_share: float = 0.0
    """Share of the channels that each window lacks."""


PUBLISHED = Regularisation(batch=128, weight_decay=1e-2)
CONV = Regularisation(batch=512, weight_decay=0.1, dropout=0.3, longest_mask=12, channel_share=1 / 8)
"""Masks as in SpecAugment (Park et al. 2019, arXiv 1904.08779)."""


def lip_motion(data: TrainingData) -> Float[Tensor, "F M"]:
    """Difference of each frame's lips from the neutral head in the same pose, standardised per coordinate.

    A folder of another tool has no neutral shape; then it is the mouth opening alone. A frame without landmarks
    counts as average.
    """
    if data.shape is None:
        motion = torch.from_numpy(data.mouth_opening)[:, None].to(data.device)
    else:
        lips = torch.tensor(data.layout.ibug68[48:], device=data.device)
        count = data.count
        neutral = project(data.shape[lips].expand(count, -1, -1), data.conditions.viewmats, data.K.expand(count, 3, 3))
        motion = (data.points[:, lips] - neutral).flatten(1)
    seen = motion[torch.isfinite(motion).all(1)]
    return ((motion - seen.mean(0)) / seen.std(0).clamp_min(1e-6)).nan_to_num(0.0)


def pretrain_audio(
    encoder: AudioEncoder,
    data: TrainingData,
    steps: int,
    generator: torch.Generator,
    augmented: Sequence[LipExamples] = (),
) -> float:
    """Train ``encoder`` with a linear head, dropped afterwards, to predict :func:`lip_motion`.

    Deviation: the published encoders learn from images alone, through an attention map that starts at zero. In a
    short run that signal comes too late: after two passes over a real clip the lips did not follow the sound at all.

    Args:
        steps: updates; 0 does nothing but standardise the features (:class:`ConvEncoder`).
        augmented: further examples (``train.audio_augmentation``).

    Returns:
        The share of the lip motion's variance explained in the last quarter of the steps.
    """
    windows = data.conditions.audio
    if isinstance(encoder, ConvEncoder):
        encoder.standardise(windows)
    if steps < 1 or data.count < 2:
        return 0.0
    settings = CONV if isinstance(encoder, ConvEncoder) else PUBLISHED
    target = lip_motion(data)
    sources = [(windows, target), *((part.windows, part.targets(target)) for part in augmented)]
    if isinstance(encoder, ConvEncoder):  # Nothing of it learns: once, not once an update.
        sources = [(encoder.timeline(part), lips) for part, lips in sources]
    ends = torch.tensor([len(part) for part, _ in sources]).cumsum(0)
    head = nn.Linear(encoder(windows[:1]).shape[-1], target.shape[1]).to(data.device)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    # Two million random numbers an update: a core draws them for longer than a GPU takes for all else.
    draws = torch.Generator(data.device).manual_seed(int(torch.randint(2**62, (), generator=generator)))
    errors = []
    for _ in track(range(steps), "audio pretraining"):
        pick = torch.randint(int(ends[-1]), (min(settings.batch, data.count),), generator=generator)
        heard, lips = _gather(sources, ends, pick)
        error = (head(_regularised_codes(encoder, heard, settings, draws)) - lips).square().mean()
        optimizer.zero_grad(set_to_none=True)
        error.backward()
        optimizer.step()
        schedule.step()
        errors.append(error.detach())
    optimizer.zero_grad(set_to_none=True)  # else the first stage would add to these gradients
    return 1.0 - float(torch.stack(errors[-max(1, steps // 4) :]).mean())


def _gather(sources: list[tuple[Tensor, Tensor]], ends: Tensor, pick: Tensor) -> tuple[Tensor, Tensor]:
    """Rows ``pick`` of all sources in a row, source by source."""
    source = torch.searchsorted(ends, pick, right=True)
    windows, targets = [], []
    for number, (part, lips) in enumerate(sources):
        rows = (pick[source == number] - (int(ends[number]) - len(part))).to(part.device)
        windows.append(part[rows])
        targets.append(lips[rows])
    return torch.cat(windows), torch.cat(targets)


def _regularised_codes(
    encoder: AudioEncoder, heard: Float[Tensor, "B ..."], settings: Regularisation, generator: torch.Generator
) -> Float[Tensor, "B code"]:
    """Codes of noisy, partly hidden windows, or of the timelines of those where the encoder has them."""

    def noisy(values: Tensor) -> Tensor:
        return values + torch.randn(values.shape, generator=generator, device=values.device) * settings.noise

    def drop(values: Tensor) -> Tensor:
        kept = torch.rand(values.shape, generator=generator, device=values.device) >= settings.dropout
        return values * kept / (1.0 - settings.dropout)

    if not isinstance(encoder, ConvEncoder):
        return encoder(noisy(heard))
    return encoder.encode(noisy(heard) * _mask(heard.shape, settings, generator), drop)


def _mask(shape: torch.Size, settings: Regularisation, generator: torch.Generator) -> Bool[Tensor, "B C T"]:
    """False in a stretch of time of some windows, and in some neighbouring channels of each."""
    batch, channels, steps = shape
    device = generator.device

    def draw(low: int, high: int) -> Tensor:
        return torch.randint(low, high, (batch, 1), generator=generator, device=device)

    begin, length = draw(steps - settings.mask_every, steps), draw(0, settings.longest_mask + 1)
    time = torch.arange(steps, device=device)
    hidden = int(channels * settings.channel_share)
    first, channel = draw(0, channels - hidden + 1), torch.arange(channels, device=device)
    seen = (channel < first) | (channel >= first + hidden)
    return seen[:, :, None] & ((time < begin) | (time >= begin + length))[:, None, :]
