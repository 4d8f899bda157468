"""Colour of the skin with emotion: flushed or pale, glossy or matt; subtle, and of the person's own skin and light.

The emotion network moves Gaussians and knows no colours. So each Gaussian of the face has two fixed weights, set when
training ends (`train.skin`), and emotion grades both over the disc:
- flush: where blood shows (cheeks and nose, less elsewhere). Blood takes away green most, then blue, hardly any
  red (Anderson and Parrish, The optics of human skin, 1981); as a factor of the colour that is there, so that dark
  skin changes in proportion and hair hardly at all. Negative: pale.
- gloss: how far the clip's own light on the skin is brighter than its middle brightness. Glossy skin shows more of
  these lights, matt skin less.

Deviation: the paper's emotion moves Gaussians alone (eq. 5).
"""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from emotalking.ops.sh import C0

FLUSH = (-0.02, -0.11, -0.09)
"""Change of red, green and blue at full flush, as a share of each. An assumption: subtle, about half of a blush."""
GLOSS = 0.6
"""Share by which the lights on glossy skin grow, and those on matt skin shrink."""
FULL = 255
"""Of a stored weight: 1 of flush; :data:`MOST_LIGHT` of gloss."""
MOST_LIGHT = 0.4
"""Largest light above the middle brightness, in colours of [0, 1]."""
FULL_RADIUS = 0.8
"""Radius on the disc at which the tones are full; beyond it they stay."""
TONES = (
    (0.25, 0.1),
    (0.6, 0.7),
    (0.1, 0.6),
    (0.4, 0.5),
    (0.5, 0.2),
    (-0.15, -0.4),
    (-0.3, -0.8),
    (0.1, -0.6),
)
"""Flush and gloss at 0, 45, ... 315 degrees, with those of :data:`PEAKS` added: directions as people describe them."""
PEAKS = ((157.5, (0.45, 0.6)), (112.5, (-0.6, 0.0)))
"""Anger flushes and shines, fear pales: around these angles, gone 45 degrees away. Skin at rest has less blood to lose
than to gain: twice as pale, warm skin looked yellow."""


def tones_table(device: torch.device) -> Float[Tensor, "knots 2"]:
    """Flush and gloss at 16 even angles from 0."""
    angles = torch.arange(16) * 22.5
    even = torch.tensor(TONES)
    table = torch.lerp(
        even.repeat_interleave(2, 0), even.roll(-1, 0).repeat_interleave(2, 0), (angles % 45 / 45)[:, None]
    )
    for centre, tone in PEAKS:
        away = ((angles - centre + 180) % 360 - 180).abs()
        table = table + (1 - away / 45).clamp_min(0)[:, None] * torch.tensor(tone)
    return table.clamp(-1, 1).to(device)


def tones(va: Float[Tensor, "B 2"], table: Float[Tensor, "knots 2"]) -> Float[Tensor, "B 2"]:
    """Flush and gloss in [-1, 1] of valence and arousal: linear in the angle and in the radius; 0 at neutral."""
    count = len(table)
    angle = torch.atan2(va[:, 1], va[:, 0]) / (2 * torch.pi) * count
    low = angle.floor()
    index = low.long() % count
    ring = torch.lerp(table[index], table[(index + 1) % count], (angle - low)[:, None])
    return (va.norm(dim=1, keepdim=True) / FULL_RADIUS).clamp(max=1.0) * ring


def tint_maps(skin: UInt8[Tensor, "N 2"], sh0: Float[Tensor, "N 1 3"]) -> Float[Tensor, "2 N 3"]:
    """What full flush and full gloss add to the constant coefficients.

    Args:
        skin: weights of flush and gloss.
        sh0: constant coefficients.
    """
    weights = skin.float() / FULL
    base = (C0 * sh0[:, 0] + 0.5).clamp(0, 1)
    flush = base * sh0.new_tensor(FLUSH) * weights[:, :1]
    gloss = (GLOSS * MOST_LIGHT * weights[:, 1:]).expand(-1, 3)
    return torch.stack([flush, gloss]) / C0
