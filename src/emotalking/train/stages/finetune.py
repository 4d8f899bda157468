"""The last stage: colours and opacities against the whole composed frame (S16)."""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from emotalking.losses.l1_dssim import l1_dssim_in_boxes
from emotalking.models.compositor import Compositor
from emotalking.train.context import Context
from emotalking.train.optim import SH_REST_SLOWER
from emotalking.train.sampler import FrameSampler
from emotalking.train.step import GraphKey, Stage, StepInputs


class FinetuneStage(Stage):
    """Erases the artefacts at the borders of face and mouth; geometry and networks are frozen."""

    name = "finetune"

    def __init__(self, context: Context) -> None:
        self.settings = context.config.finetune
        super().__init__(context, self.settings.iterations)
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

    def inputs(self, iteration: int) -> tuple[GraphKey, StepInputs]:
        """See :class:`Stage`."""
        losses, frame, patches = self.settings.losses, self.sampler.draw(), None
        if losses.lpips_due(iteration, self.iterations):
            patches = self.context.draw_patches(losses, self.context.data.size)
        return GraphKey(), StepInputs(frame, patches=patches)

    def terms(self, key: GraphKey, inputs: StepInputs) -> dict[str, Tensor]:
        """See :class:`Stage`."""
        data, head, losses = self.context.data, self.context.head, self.settings.losses
        conditions = data.conditions.at(inputs.frame)
        with torch.no_grad():
            face = head.deform_emotional_face(conditions.audio, conditions.aus, conditions.va)
            mouth = head.deform_mouth(conditions.audio)
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

    def state_dict(self) -> dict[str, Any]:
        """See :class:`Stage`."""
        return {"sampler": self.sampler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`Stage`."""
        self.sampler.load_state_dict(state["sampler"])
