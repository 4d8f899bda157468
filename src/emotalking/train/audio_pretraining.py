"""A head start for the audio encoders: learn the tracked lip shape from sound before any image is rendered."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from emotalking.models.audio import AudioEncoder
from emotalking.ops.geometry import project
from emotalking.train.data import TrainingData

BATCH = 128
RATE = 2e-3
NOISE = 0.2
"""Standard deviation of the noise on the features, against learning single frames by heart."""


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


def pretrain_audio(encoder: AudioEncoder, data: TrainingData, steps: int, generator: torch.Generator) -> float:
    """Train ``encoder`` with a linear head, dropped afterwards, to predict :func:`lip_motion`.

    Deviation: the published encoders learn from images alone, through an attention map that starts at zero. In a
    short run that signal comes too late: after two passes over a real clip the lips did not follow the sound at all.

    Args:
        steps: updates of `BATCH` frames each; 0 does nothing.

    Returns:
        The share of the lip motion's variance explained in the last quarter of the steps.
    """
    if steps < 1 or data.count < 2:
        return 0.0
    target = lip_motion(data)
    head = nn.Linear(encoder(data.conditions.audio[:1]).shape[-1], target.shape[1]).to(data.device)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    errors = []
    for _ in range(steps):
        pick = torch.randint(data.count, (min(BATCH, data.count),), generator=generator).to(data.device)
        windows = data.conditions.audio[pick]
        noise = torch.randn(windows.shape, generator=generator).to(data.device) * NOISE
        error = (head(encoder(windows + noise)) - target[pick]).square().mean()
        optimizer.zero_grad(set_to_none=True)
        error.backward()
        optimizer.step()
        schedule.step()
        errors.append(error.detach())
    optimizer.zero_grad(set_to_none=True)  # else the first stage would add to these gradients
    return 1.0 - float(torch.stack(errors[-max(1, steps // 4) :]).mean())
