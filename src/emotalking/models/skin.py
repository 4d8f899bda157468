"""Colour of the skin with emotion: shaded where it folds, flushed or pale, glossy or matt; of the person's own light.

The emotion network moves Gaussians and knows no colours. So each Gaussian of the face has fixed weights (`train.skin`),
and emotion grades them over the disc:
- shade: how much brighter or darker the embedded generator's relighting makes the skin there, at 16 angles: furrows
  between the brows, folds beside the nose, cheeks that rise. Without it heads showed of the targets' expressions the
  moves alone, and the network moved Gaussians to look darker.
- flush: where blood shows (cheeks and nose, less elsewhere). Blood takes away green most, then blue, hardly any
  red (Anderson and Parrish, The optics of human skin, 1981); as a factor of the colour that is there, so that dark
  skin changes in proportion and hair hardly at all. Negative: pale.
- gloss: how far the clip's own light on the skin is brighter than its middle brightness. Glossy skin shows more of
  these lights, matt skin less.

Flush and gloss are set when training ends; shade is there in the emotion stage as well.

Deviation: the paper's emotion moves Gaussians alone (eq. 5).
"""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from emotalking.models.motion import RADIAL_POWER
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
"""Circumplex radius at which the embedded generator's expressions, and colours, are full; beyond it they stay (stronger
is caricature)."""
SHADE_KNOTS = 16
"""Angles at which the shade is known, evenly spaced from 0."""
NO_SHADE, MOST_SHADE = 128, 0.33
"""Stored weight of unchanged brightness, and the share by which the largest weight changes it."""
SHADE_COLOUR = (0.8, 1.05, 1.15)
"""Change of red, green and blue for a mean of 1: light that passed through skin is red, so that shade on skin is redder
than shade on paper (Jensen et al., 2001; the amounts are an assumption)."""
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


def tones(va: Float[Tensor, "B 2"], table: Float[Tensor, "knots K"]) -> Float[Tensor, "B K"]:
    """Columns of a table of even angles from 0 at valence and arousal: linear in the angle, growing with the radius as
    the embedded generator's moves do; 0 at neutral."""
    count = len(table)
    angle = torch.atan2(va[:, 1], va[:, 0]) / (2 * torch.pi) * count
    low = angle.floor()
    index = low.long() % count
    ring = torch.lerp(table[index], table[(index + 1) % count], (angle - low)[:, None])
    return (va.norm(dim=1, keepdim=True) / FULL_RADIUS).clamp(max=1.0) ** RADIAL_POWER * ring


def shade_codes(change: Float[Tensor, "N knots"]) -> UInt8[Tensor, "N knots"]:
    """Stored weights of a change of brightness, as a share of it, at each of :data:`SHADE_KNOTS` angles."""
    steps = (change / MOST_SHADE).clamp(-1, 1) * (FULL - NO_SHADE)
    return (steps.round() + NO_SHADE).to(torch.uint8)


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


class SkinTint:
    """Colours of a face's Gaussians with emotion: constant tensors, no gradient."""

    @torch.no_grad()
    def __init__(
        self,
        sh0: Float[Tensor, "N 1 3"],
        skin: UInt8[Tensor, "N 2"] | None,
        shade: UInt8[Tensor, "N knots"] | None,
    ) -> None:
        """Keep what the weights make of the constant coefficients ``sh0``; one kind of them may be absent."""
        self._maps = None if skin is None else tint_maps(skin, sh0)
        self._change, columns = None, [] if skin is None else [tones_table(sh0.device)]
        if shade is not None:
            self._change = (shade.T.contiguous().float() - NO_SHADE) * (MOST_SHADE / (FULL - NO_SHADE))
            self._lit = (C0 * sh0[:, 0] + 0.5).clamp(0, 1) * sh0.new_tensor(SHADE_COLOUR) / C0
            columns.append(torch.eye(SHADE_KNOTS, device=sh0.device))
        self._table = torch.cat(columns, 1)

    @torch.no_grad()
    def __call__(self, va: Float[Tensor, "B 2"]) -> Float[Tensor, "B N 3"]:
        """What valence and arousal add to the constant coefficients; 0 at neutral."""
        weights = tones(va, self._table)
        tints = []
        if self._maps is not None:
            tints.append(torch.einsum("bk,knc->bnc", weights[:, :2], self._maps))
        if self._change is not None:
            tints.append((weights[:, -SHADE_KNOTS:] @ self._change)[..., None] * self._lit)
        return sum(tints[1:], tints[0])
