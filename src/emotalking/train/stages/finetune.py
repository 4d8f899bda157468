"""The last stage: colours and opacities against the whole composed frame (S16)."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.optim import Adam, Optimizer

from emotalking.losses.l1_dssim import d_ssim, l1, l1_dssim_in_boxes
from emotalking.models.audio import AudioEncoder
from emotalking.models.compositor import Compositor, Conditions
from emotalking.models.fixed import FixedHead
from emotalking.models.head import TalkingHead
from emotalking.train.context import Context
from emotalking.train.data import TrainingData, lip_window
from emotalking.train.optim import SH_REST_SLOWER, FactorSchedule, gaussians_factor
from emotalking.train.prune import drop_unseen
from emotalking.train.sampler import FrameSampler
from emotalking.train.step import GraphKey, Stage, StepInputs


class FinetuneStage(Stage):
    """Erases the artefacts at the borders of face and mouth; geometry and networks are frozen."""

    name = "finetune"

    def __init__(self, context: Context) -> None:
        self.settings = context.config.finetune
        super().__init__(context, self.settings.iterations)
        self.sampler = FrameSampler(context.data.count, context.generator)
        self._growth = {"grown": 0, "pruned": 0}
        self._fixed: FixedHead | None = None
        """Its geometry and networks, once its weights are loaded."""
        self._train_colours()

    def _train_colours(self) -> None:
        head = self.context.head.requires_grad_(False)
        opacity = head.face.gaussians.opacity_logits.requires_grad_(True)
        groups = [{"name": "face_opacity", "params": [opacity], "lr": self.settings.opacity}]
        coloured = {"face": head.face, "mouth": head.mouth} if self.settings.mouth_colours else {"face": head.face}
        for name, branch in coloured.items():
            base, rest = branch.gaussians.sh0.requires_grad_(True), branch.gaussians.sh_rest.requires_grad_(True)
            groups.append({"name": f"{name}_sh0", "params": [base], "lr": self.settings.sh0})
            groups.append({"name": f"{name}_sh_rest", "params": [rest], "lr": self.settings.sh0 / SH_REST_SLOWER})
        colours = Adam(groups, eps=1e-15, fused=True)
        self.optimizers: dict[str, Optimizer] = {"colours": colours}
        self._schedule = FactorSchedule(colours)

    def begin(self) -> None:
        """Remove the Gaussians that hardly show; what little they gave is learned again by the others."""
        if self.settings.prune:
            self._growth["pruned"] = sum(drop_unseen(self.context, self.settings.prune).values())
            self._fixed = None
            self._train_colours()

    def growth(self) -> dict[str, int]:
        """See :class:`Stage`."""
        growth, self._growth = self._growth, {"grown": 0, "pruned": 0}
        return growth

    def inputs(self, iteration: int) -> tuple[GraphKey, StepInputs]:
        """See :class:`Stage`."""
        losses = self.settings.losses
        frame = self.sampler.draw()
        patches = None
        if losses.lpips_due(iteration, self.iterations):
            patches = self.context.draw_patches(iteration, losses, self.context.data.size)
        return GraphKey(), StepInputs(frame, patches=patches)

    def terms(self, key: GraphKey, inputs: StepInputs) -> dict[str, Tensor]:
        """See :class:`Stage`."""
        data, head, losses = self.context.data, self.context.head, self.settings.losses
        conditions = data.conditions.at(inputs.frame)
        with torch.no_grad():
            if self._fixed is None:
                self._fixed = FixedHead(head)
            face, mouth = self._fixed.deformed(conditions.audio, conditions.aus, conditions.va, conditions.gaze)
            corrections = self.context.corrections
            if corrections is not None:
                coefficients = corrections.coefficients(inputs.frame)
                face, mouth = (corrections.apply(each, coefficients) for each in (face, mouth))
        face.opacities = head.face.gaussians.opacities[None]
        behind = data.behind(inputs.frame)
        rendered = Compositor(data.K, data.size).deformed_frames(head, face, mouth, conditions.viewmats, behind).rgb
        target = data.image(inputs.frame)
        difference, dissimilarity = l1_dssim_in_boxes(rendered, target, self.context.whole)
        terms = {"l1": difference[0], "d_ssim": losses.d_ssim * dissimilarity[0]}
        if inputs.patches is not None and self.context.perceptual is not None:
            distance = self.context.perceptual.patches(rendered, target, inputs.patches)
            terms["lpips"] = losses.lpips * distance
        return terms

    def before_update(self, iteration: int) -> None:
        """See :class:`Stage`."""
        self._schedule.set(gaussians_factor(iteration, 0, self.iterations, self.context.config.optim))

    def state_dict(self) -> dict[str, Any]:
        """See :class:`Stage`."""
        return {"sampler": self.sampler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`Stage`."""
        self.sampler.load_state_dict(state["sampler"])


CLOSED_SHARE = 0.1
"""The frames with the least opening between the tracked lips. Quiet frames are no guide: many people rest with their
lips parted (one reporter's are 7 px apart in pauses, and 2 px when closed)."""
RATE = 0.1
"""Learning rate, in standard deviations of the codes of closed lips."""
LEAST_SPREAD = 0.1
"""Least of those, in standard deviations of all codes: closed lips in digital silence have one code."""
STAY = 1e-3
"""Weight of the squared distance from the initial codes, in those standard deviations: a tenth of it does not close the
lips further and causes specks around them."""
D_SSIM = 0.2
_BATCH = 256
_ROUNDS = 30


def learn_closed_mouth_codes(head: TalkingHead, data: TrainingData, steps: int) -> None:
    """Give both audio encoders the codes whose rendering is closest to this person's closed lips.

    They begin as the geometric median of the codes of the frames whose lips are closed (single frames give distorted
    faces, and a mean follows the odd ones). Audio predicts closed lips poorly, so those codes are an average over the
    frames of similar audio, and their lips stay parted: on one reporter by 2.7 % of the distance between his eyes;
    in the recording by 0.3. Then the two codes, all else frozen, are optimized for ``steps`` updates on the lip region
    of those frames, and his part by 0.3 %.
    """
    head.requires_grad_(False)
    frames = closed_frames(data)
    encoders = (head.face.audio, head.mouth.audio)
    begin, spread = [], []
    for encoder in encoders:
        every = torch.cat([encoder(part) for part in data.conditions.audio.split(_BATCH)])
        codes = every[frames]
        begin.append(geometric_median(codes))
        least = max(1e-3, LEAST_SPREAD * float(every.std(0, unbiased=False).mean()))
        spread.append(codes.std(0, unbiased=False).mean().clamp_min(least))
        encoder.closed = begin[-1].clone().requires_grad_(True)
    learned = [_code(encoder) for encoder in encoders]
    groups = [{"params": [code], "lr": RATE * float(s)} for code, s in zip(learned, spread, strict=True)]
    optimizer = torch.optim.Adam(groups)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        frame = int(frames[torch.randint(len(frames), (1,), generator=generator)])
        moved = sum(((code - a) / s).square().mean() for code, a, s in zip(learned, begin, spread, strict=True))
        (difference(head, data, frame) + STAY * moved).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    for encoder, code in zip(encoders, learned, strict=True):
        encoder.closed = code.detach()


def closed_frames(data: TrainingData) -> Int64[Tensor, " F"]:
    """The frames whose lips are closed; a lost track is not a closed mouth."""
    opening = np.where(np.isfinite(data.mouth_opening), data.mouth_opening, np.inf)
    count = max(1, round(CLOSED_SHARE * data.count))
    return torch.from_numpy(np.sort(np.argsort(opening, kind="stable")[:count])).to(data.device)


def _code(encoder: AudioEncoder) -> Tensor:
    assert encoder.closed is not None  # given by the caller
    return encoder.closed


def difference(head: TalkingHead, data: TrainingData, frame: int) -> Float[Tensor, ""]:
    """Image difference between the lips of ``frame`` and those rendered with the closed-mouth codes."""
    recorded = data.conditions.at(frame)
    silence = torch.zeros(1, device=data.device)
    # Without the emotion branch, so that the codes are the same whether there is one or not.
    va = recorded.va if head.face.motion.takes_emotion else None
    conditions = Conditions(recorded.viewmats, recorded.audio, recorded.aus, va, silence, recorded.gaze)
    window = lip_window(data, frame)
    behind = data.behind(frame, *window.index)
    rendered = Compositor(data.K, data.size).frames(head, conditions, behind, window).rgb
    target = data.image(frame)[:, *window.index]
    return l1(rendered, target) + D_SSIM * d_ssim(rendered, target)


def geometric_median(points: Float[Tensor, "N D"]) -> Float[Tensor, " D"]:
    """The point with the least sum of distances to ``points`` (Weiszfeld 1937)."""
    middle = points.mean(0)
    for _ in range(_ROUNDS):
        weights = 1.0 / (points - middle).norm(dim=1).clamp(min=1e-6)
        middle = (weights[:, None] * points).sum(0) / weights.sum()
    return middle
