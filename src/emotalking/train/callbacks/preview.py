"""Preview: the same few held-out frames, measured and rendered repeatedly during training."""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from emotalking.data import Subject
from emotalking.data.blink import CLOSURE_SHUT
from emotalking.data.labels import Label
from emotalking.emotion.generator import EmotionGenerator, GeneratedFaces
from emotalking.io.images import write_image
from emotalking.models.head import TalkingHead
from emotalking.ops.box import Box
from emotalking.ops.composite import to_uint8
from emotalking.report.images import error_map, grid
from emotalking.train.callbacks.log import Callback, RunLog, is_preview_due
from emotalking.train.data import TrainingData, class_mask, face_boxes, lip_window
from emotalking.train.stage_renderer import EMOTIONAL, StageFrame, StageRenderer

if TYPE_CHECKING:
    from emotalking.train.trainer import Trainer

IMAGES = "frames"
"""Folder of the images in the run folder."""
FRAMES = 8
"""Frames that are measured, of every degree of mouth opening."""
SHEET_FRAMES = 3
"""Number of them on the image."""
STRIP = 6
"""Neighbouring frames for the strip of the four emotions."""
QUADRANTS = {"excited": (0.6, 0.6), "angry": (-0.6, 0.6), "sad": (-0.6, -0.6), "calm": (0.6, -0.6)}
"""A point of each quadrant of the valence/arousal plane."""
EYES = 4
"""Most frames with closed eyes: the held-out ones with the least open eyes."""
EYE_MARGIN = 0.35
"""The compared box is this share of an eye's width larger than its lids, on each side."""
MOST_MOVED = 0.95
"""The motion of a branch is that of the Gaussian at this quantile: most of a face does not move."""
_CELL = 200
_FACE = 132
_QUALITY = 88


@dataclass(frozen=True)
class PreviewFrames:
    """Held-out frames to preview (training frames where none are held out), by their numbers in the clip."""

    fixed: Int64[np.ndarray, " F"]
    """Up to :data:`FRAMES` frames, by increasing mouth opening."""
    eyes: Int64[np.ndarray, " E"]
    """Up to :data:`EYES` frames with closed eyes, then one with open eyes; empty without closed eyes."""
    strip: Int64[np.ndarray, " S"]
    """The :data:`STRIP` neighbours over which the mouth opens widest."""

    @property
    def all(self) -> Int64[np.ndarray, " N"]:
        """All of these, concatenated."""
        return np.concatenate([self.fixed, self.eyes, self.strip])


def pick_frames(subject: Subject) -> PreviewFrames:
    """The preview frames of ``subject``; a face was found in each."""
    found = subject.landmarks.detected
    held_out, others = subject.val_indices, subject.train_indices
    pool = np.asarray(held_out[found[held_out]] if found[held_out].any() else others[found[others]], np.int64)
    opening = subject.mouth_opening[pool]
    ranked = pool[np.argsort(opening, kind="stable")]
    fixed = ranked[np.linspace(0, len(pool) - 1, min(FRAMES, len(pool))).round().astype(int)]
    windows = np.lib.stride_tricks.sliding_window_view(opening, min(STRIP, len(pool)))
    begin = int((windows.max(-1) - windows.min(-1)).argmax())
    blink = np.nan_to_num(subject.blink[pool])
    shut = np.argsort(-blink, kind="stable")[:EYES]
    shut = pool[shut[blink[shut] >= CLOSURE_SHUT]]
    eyes = np.append(shut, pool[blink.argmin()]) if len(shut) else shut
    return PreviewFrames(fixed, eyes, pool[begin : begin + STRIP])


class Preview(Callback):
    """Add `frames` rows to the run's record, and render images of the preview frames.

    Args:
        log: the run's record.
        data: the frames ``picked.all``.
        picked: selection of these frames.
        folder: run folder; images go into :data:`IMAGES` in it.
        maker: makes emotional targets; None: the emotions are not compared with any.
    """

    def __init__(
        self, log: RunLog, data: TrainingData, picked: PreviewFrames, folder: Path, maker: EmotionGenerator | None
    ) -> None:
        self._log = log
        self._data = data
        self._folder = folder
        self._maker = maker
        self._count = len(picked.fixed)
        self._eyes = range(self._count, self._count + len(picked.eyes))
        self._strip = range(self._count + len(picked.eyes), data.count)
        self._renderer = StageRenderer(data)
        self._faces = [Box(*row) for row in face_boxes(data.points, data.size).tolist()]
        self._targets: GeneratedFaces | None = None
        self._wholes: dict[int, UInt8[np.ndarray, "H W 3"]] = {}
        self._points = torch.tensor(list(QUADRANTS.values()), device=data.device)
        self._trainer: Trainer | None = None

    def on_stage_begin(self, trainer: "Trainer") -> None:
        """Remember the trainer, for an interruption."""
        self._trainer = trainer

    def on_interval(self, trainer: "Trainer", done: int) -> None:
        """Add a row where one is due."""
        if is_preview_due(done, trainer.stage.iterations):
            self._add(trainer, done)

    def on_stage_end(self, trainer: "Trainer") -> None:
        """Save the strip."""
        self.save_strip(trainer.head, trainer.stage.name)

    def on_run_end(self, outcome: str) -> None:
        """Save the strip of an interrupted stage."""
        if outcome == "interrupted" and self._trainer is not None:
            self.save_strip(self._trainer.head, self._trainer.stage.name)

    def _add(self, trainer: "Trainer", done: int) -> None:
        stage = trainer.stage.name
        self._log.add("frames", stage=stage, iteration=done, **self.measure(trainer.head, stage, done))

    def measure(self, head: TalkingHead, stage: str, iteration: int) -> dict[str, Any]:
        """Measure and render the preview frames.

        Returns:
            Metrics of a `frames` row: `seconds` that they took; `picture`, the image file; `cover`, mean alpha of the
            trained branch inside its recorded region, and `region`, that region's share of the frame; `motion_px`
            (:meth:`StageRenderer.motion_px`); PSNR [dB] of the whole frame, the head and the lip box (in the mouth
            stage `psnr_mouth` and `sound_gain_mouth`, inside the lips alone).
            `sound_gain` [dB]: loss of PSNR at the lips when they are driven by the sound of another frame, whose mouth
            is open where this one is closed. `emotion_gain` [dB]: loss of PSNR of faces with a commanded emotion,
            against their targets, when neutral is commanded (not when the branch is off: a branch that learned
            nothing else may still render every face a little better). Both are 0 where the lips, or the emotion, have
            learned nothing.
            `eye_gain` [dB]: likewise, for closed eyes, with the action units of an open-eyed frame.
            What cannot be measured is left out.
        """
        began = time.perf_counter()
        self._renderer.begin(head)
        image = self._folder / IMAGES / f"{stage}_{iteration:06d}.jpg"
        metrics = self._mouth(head) if stage == "mouth" else self._face(head, stage)
        metrics["motion_px"] = self._renderer.motion_px(head, stage, self._points, MOST_MOVED)
        if self._maker is not None and self._renderer.takes_emotion(head, stage) and iteration > 0:
            metrics["emotion_gain"] = self._emotion_gain(head, stage, self._maker)
        if self._eyes and stage != "mouth":
            metrics["eye_gain"] = self._eye_gain(head, stage)
        write_image(image, self._sheet(head, stage), _QUALITY)
        known = {name: round(value, 5) for name, value in metrics.items() if math.isfinite(value)}
        return known | {"image": f"{IMAGES}/{image.name}", "seconds": round(time.perf_counter() - began, 3)}

    def save_strip(self, head: TalkingHead, stage: str) -> None:
        """Save the strip with the recorded sound: as recorded, with its own emotion, with one of each quadrant.

        Before the emotions are learned there is none.
        """
        if stage not in EMOTIONAL:
            return
        self._renderer.begin(head)
        boxes = torch.tensor([[*self._faces[at]] for at in self._strip])
        box = Box(*boxes[:, :2].amin(0).tolist(), *boxes[:, 2:].amax(0).tolist())
        emotions: dict[str, Tensor | None] = {"own": None}
        if head.emotional:
            emotions |= {name: point[None] for name, point in zip(QUADRANTS, self._points, strict=True)}
        rows = [[self._recorded(at, box) for at in self._strip]]
        rows += [[self._rendered(head, "finetune", at, box, va) for at in self._strip] for va in emotions.values()]
        sheet = grid(rows, _FACE, ["recorded", *emotions])
        write_image(self._folder / IMAGES / "emotions.jpg", sheet, _QUALITY)

    def _mouth(self, head: TalkingHead) -> dict[str, float]:
        """Measure the inside of the mouth, where it is visible."""
        own, other, cover, region = (PixelMean() for _ in range(4))
        for at in range(self._count):
            box = self._lips(at)
            truth = self._truth(at, box)
            inside = self._data.mask(at, Label.MOUTH)[0]
            visible = inside[box.index]
            frame = self._renderer.render(head, "mouth", at, box, va=None)
            swapped = self._renderer.render(head, "mouth", at, box, va=None, audio_from=self._partner(at))
            own.add_error(frame, truth, visible)
            other.add_error(swapped, truth, visible)
            cover.add(frame.alpha, visible)
            region.add(inside.float())
        metrics = {"psnr_mouth": own.psnr, "sound_gain_mouth": own.psnr - other.psnr}
        return metrics | {"cover": cover.value, "region": region.value}

    def _face(self, head: TalkingHead, stage: str) -> dict[str, float]:
        """Measure whole frames, their heads and their lips."""
        whole, inside, lips, other, cover, region = (PixelMean() for _ in range(6))
        for at in range(self._count):
            truth, va = self._truth(at, self._renderer.whole), self._renderer.own(head, stage, at)
            frame = self._renderer.render(head, stage, at, self._renderer.whole, va=va)
            self._wholes[at] = to_uint8(frame.rgb)
            visible = self._data.mask(at, Label.HEAD, Label.HAIR)[0]
            box = self._lips(at)
            near = torch.zeros_like(visible)
            near[box.index] = True
            swapped = self._renderer.render(head, stage, at, box, va=va, audio_from=self._partner(at))
            whole.add_error(frame, truth)
            inside.add_error(frame, truth, visible)
            lips.add_error(frame, truth, near)
            other.add_error(swapped, truth[box.index])
            cover.add(frame.alpha, visible)
            region.add(visible.float())
        metrics = {"psnr": whole.psnr, "psnr_head": inside.psnr, "psnr_lips": lips.psnr}
        metrics["sound_gain"] = lips.psnr - other.psnr
        return metrics | {"cover": cover.value, "region": region.value}

    def _emotion_gain(self, head: TalkingHead, stage: str, maker: EmotionGenerator) -> float:
        """See :meth:`measure`."""
        targets = self._emotional_targets(maker)
        emotional, neutral = PixelMean(), PixelMean()
        for at in range(0, self._count, 2):
            box, va = self._faces[at], self._commanded(at)
            target = targets.images[at, *box.index]
            visible = class_mask(targets.labels[at, *box.index], Label.HEAD, Label.HAIR)
            emotional.add_error(self._renderer.render(head, stage, at, box, va=va), target, visible)
            neutral.add_error(self._renderer.render(head, stage, at, box, va=torch.zeros_like(va)), target, visible)
        return emotional.psnr - neutral.psnr

    def _eye_gain(self, head: TalkingHead, stage: str) -> float:
        """See :meth:`measure`."""
        own, opened = PixelMean(), PixelMean()
        *shut, awake = self._eyes
        for at in shut:
            for box in self._eye_boxes(at):
                truth, va = self._truth(at, box), self._renderer.own(head, stage, at)
                own.add_error(self._renderer.render(head, stage, at, box, va=va), truth)
                opened.add_error(self._renderer.render(head, stage, at, box, va=va, aus_from=awake), truth)
        return own.psnr - opened.psnr

    def _eye_boxes(self, at: int) -> list[Box]:
        """Both eyes of a frame, with their lids and some skin."""
        width, height = self._data.size
        boxes: list[Box] = []
        for side in ("right", "left"):
            points = self._data.points[at, list(self._data.layout.eye_loop(side))]
            low, high = points.amin(0).tolist(), points.amax(0).tolist()
            grow = EYE_MARGIN * (high[0] - low[0])
            left, top = max(int(low[0] - grow), 0), max(int(low[1] - grow), 0)
            box = Box(top, left, min(int(high[1] + grow) + 1, height), min(int(high[0] + grow) + 1, width))
            if box.width > 1 and box.height > 1:
                boxes.append(box)
        return boxes

    def _emotional_targets(self, maker: EmotionGenerator) -> GeneratedFaces:
        """The preview frames with one commanded emotion each, made once."""
        if self._targets is None:
            data, some = self._data, slice(0, self._count)
            va = torch.cat([self._commanded(at) for at in range(self._count)])
            images = torch.cat([data.image(at) for at in range(self._count)])
            with torch.no_grad():
                self._targets = maker(images, data.points[some], data.labels[some], data.conditions.viewmats[some], va)
        return self._targets

    def _sheet(self, head: TalkingHead, stage: str) -> UInt8[np.ndarray, "h w 3"]:
        """One row per frame: recorded, rendered, error, normals if it has them, then the lips of both."""
        rows = []
        for at in np.linspace(0, self._count - 1, min(SHEET_FRAMES, self._count)).round().astype(int).tolist():
            lips = self._lips(at)
            row = []
            if stage != "mouth":
                recorded, rendered = self._recorded(at, self._renderer.whole), self._wholes[at]
                row = [recorded, rendered, error_map(rendered, recorded)]
                if self._data.normals is not None:
                    row += [to_uint8(image) for image in self._renderer.normals(head, stage, at)]
                if self._targets is not None:
                    row += [to_uint8(self._targets.images[at])]
                    row += [self._rendered(head, stage, at, va=self._commanded(at))]
            recorded_lips = self._recorded(at, lips)
            mouth = stage == "mouth"
            rendered_lips = self._rendered(head, stage, at, lips) if mouth else self._wholes[at][lips.index]
            row += [recorded_lips, rendered_lips]
            if mouth:
                row.append(error_map(rendered_lips, recorded_lips))
            rows.append(row)
        return grid(rows, _CELL)

    def _commanded(self, at: int) -> Float[Tensor, "1 2"]:
        return self._points[at // 2 % len(QUADRANTS)][None]

    def _partner(self, at: int) -> int:
        """The preview frame whose mouth is open where this one's is closed."""
        return (at + self._count // 2) % self._count

    def _lips(self, at: int) -> Box:
        return lip_window(self._data, at)

    def _truth(self, at: int, box: Box) -> Float[Tensor, "h w 3"]:
        return self._data.image(at)[0, *box.index]

    def _recorded(self, at: int, box: Box) -> UInt8[np.ndarray, "h w 3"]:
        return to_uint8(self._truth(at, box))

    def _rendered(
        self, head: TalkingHead, stage: str, at: int, box: Box | None = None, va: Tensor | None = None
    ) -> UInt8[np.ndarray, "h w 3"]:
        va = self._renderer.own(head, stage, at) if va is None else va
        return to_uint8(self._renderer.render(head, stage, at, box or self._renderer.whole, va=va).rgb)


class PixelMean:
    """Mean over the pixels of many images; NaN of none."""

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0

    def add(self, values: Float[Tensor, "h w"], where: Bool[Tensor, "h w"] | None = None) -> None:
        """Add the pixels ``where`` (None: all)."""
        chosen = values if where is None else values[where]
        self._sum += float(chosen.sum())
        self._count += chosen.numel()

    def add_error(
        self, frame: StageFrame, truth: Float[Tensor, "h w 3"], where: Bool[Tensor, "h w"] | None = None
    ) -> None:
        """Add the squared error of the pixels ``where`` (None: all)."""
        self.add((frame.rgb - truth).square().mean(-1), where)

    @property
    def value(self) -> float:
        """The mean."""
        return self._sum / self._count if self._count else math.nan

    @property
    def psnr(self) -> float:
        """PSNR [dB] of a mean of squared errors, at most 100."""
        return -10.0 * math.log10(max(self.value, 1e-10)) if self._count else math.nan
