"""The last stage: colours and opacities against the whole composed frame (S16)."""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from emotalking.losses.l1_dssim import l1_dssim_in_boxes
from emotalking.models.compositor import Compositor
from emotalking.train.optim import SH_REST_SLOWER
from emotalking.train.sampler import FrameSampler
from emotalking.train.stages.base import Context, ContextStage
from emotalking.train.step import Inputs, Plan, Program


class FinetuneStage(ContextStage):
    """Erases the artefacts at the borders of face and mouth; geometry and networks are frozen."""

    name = "finetune"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.settings = context.config.finetune
        self.iterations = self.settings.iterations
        self.sampler = FrameSampler(context.data.count, context.generator)
        head = context.head.requires_grad_(False)
        opacity = head.face.gaussians.opacity_logits.requires_grad_(True)
        groups = [{"name": "face_opacity", "params": [opacity], "lr": self.settings.opacity}]
        coloured = {"face": head.face, "mouth": head.mouth} if self.settings.mouth_colours else {"face": head.face}
        for name, branch in coloured.items():
            base, rest = branch.gaussians.sh0.requires_grad_(True), branch.gaussians.sh_rest.requires_grad_(True)
            groups.append({"name": f"{name}_sh0", "params": [base], "lr": self.settings.sh0})
            groups.append({"name": f"{name}_sh_rest", "params": [rest], "lr": self.settings.sh0 / SH_REST_SLOWER})
        self.optimizers: dict[str, Optimizer] = {"colours": Adam(groups, eps=1e-15, fused=True)}

    def plan(self, iteration: int) -> Plan:
        """See :class:`Stage`."""
        weights, perceptual = self.settings.losses, self.context.perceptual
        frame, side, where = self.sampler.draw(), None, {}
        if perceptual is not None and weights.lpips_due(iteration, self.iterations):
            side, where = perceptual.draw(self.context.data.size, weights, self.context.generator)
        return Plan(frame, Program(patch=side), (), where)

    def terms(self, program: Program, inputs: Inputs) -> dict[str, Tensor]:
        """See :class:`Stage`."""
        data, head, weights = self.context.data, self.context.head, self.settings.losses
        conditions = data.conditions.at(inputs.frame)
        with torch.no_grad():
            face = head.deform_emotional_face(conditions.audio, conditions.aus, conditions.va)
            mouth = head.deform_mouth(conditions.audio)
        face.opacities = head.face.gaussians.opacities[None]
        behind = data.behind(inputs.frame)
        rendered = Compositor(data.K, data.size).deformed_frames(head, face, mouth, conditions.viewmats, behind).rgb
        target = data.image(inputs.frame)
        difference, unlike = l1_dssim_in_boxes(rendered, target, self.whole)
        terms = {"l1": difference[0], "d_ssim": weights.d_ssim * unlike[0]}
        if program.patch and self.context.perceptual is not None:
            distance = self.context.perceptual.patches(rendered, target, program.patch, inputs.tensors)
            terms["lpips"] = weights.lpips * distance
        return terms

    def state_dict(self) -> dict[str, Any]:
        """See :class:`Stage`."""
        return {"sampler": self.sampler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`Stage`."""
        self.sampler.load_state_dict(state["sampler"])
