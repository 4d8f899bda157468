"""Early warnings: from the rows of a run's record to sentences. Pure functions; every threshold has its trial.

The thresholds come from runs that were broken on purpose and from healthy ones (`benchmarks/early_warnings.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from emotalking.models.config import BranchConfig
from emotalking.train.callbacks.log import Callback, Row, RunLog, is_preview_due, of_kind
from emotalking.train.config import BranchStageConfig, TrainConfig

if TYPE_CHECKING:
    from emotalking.train.trainer import Trainer


@dataclass(frozen=True)
class Alarm:
    """A suspected failure of training."""

    name: str
    """Name of the rule; each rule warns once per stage."""
    text: str
    """One sentence: observation, place and remedy."""


def limits(config: TrainConfig) -> dict[str, dict[str, Any]]:
    """Values that the rules need of each stage, for its `stage` row."""
    return {name: _branch_limits(getattr(config, name), getattr(config.model, name)) for name in ("mouth", "face")}


def _branch_limits(settings: BranchStageConfig, model: BranchConfig) -> dict[str, Any]:
    settled = SETTLED * settings.warmup if model.init == "cube" else 0
    return {"warmup": settings.warmup, "grows_every": settings.densify.every, "settled": settled}


RISE = 1.5
RISE_WINDOW = 0.08
RISE_STEPS = 100
"""A rising loss: mean of this share of the stage's iterations (at least so many) over the lowest such mean before."""
DOUBLED = 0.95
"""Exploding: of a branch that has not shrunk, so many Gaussians grow at two densifications running. Healthy branches
grow by 0.4 at the most, and by 0.93 and 0.84 in trials of a few hundred iterations at 64 pixels; with a threshold that
every gradient passes it is 1.00. How full the limit is tells nothing: a healthy `fast` face soon fills it."""
VANISHED = 0.25
"""Vanishing: less than this share of the branch's largest count is left. A healthy `fast` mouth keeps 0.47."""
SETTLED = 2
"""Warm-ups after which a branch is judged so that began as a cube of random places: of the paper's 10,000 for the mouth
a thousand lie where it is."""
COVERED = 0.5
REGION = 0.002
WHOLE = 0.95
"""Empty: mean alpha inside the recorded region; and the least and the largest share of the frame that it can be."""
FROZEN_PX, FROZEN_AT = 0.02, 0.4
"""Frozen: the most moved Gaussians move less, at this share of the moving iterations."""
NO_AUDIO_RESPONSE_DB, NO_AUDIO_RESPONSE_AT = 0.1, 0.6
"""Lips that do not follow the sound: its gain is less, from this share of the face stage's moving iterations on. Silent
sound gives 0.00; healthy heads ended at 0.8 (a real clip in `tiny`), 2.1 (one in `fast`) and 3.7 to 6.4 (the actor)."""
NO_BLINK_DB, NO_BLINK_AT = 0.75, 0.6
"""Eyes that do not close: the gain of the action units is less, from this share of the face stage on. Two heads
that never blinked, of the actor and of a real clip, had 0.27 dB: lids that move a little already gain something."""
NO_EMOTION_RESPONSE_DB, NO_EMOTION_RESPONSE_AT = 0.05, 0.5
"""An emotion without effect: its gain is less, from this share of the emotion stage."""
SYNC_RISE = 1.05
SYNC_ERRORS = 3.0
SYNC_ROWS = 30
SYNC_AT = 0.95
"""A sync loss that gets worse: mean of its last third over that of its first, and that rise in standard errors, from so
many rows on and at this share of the stage. Rows scatter by a quarter of their mean, whatever came before them, so that
the ratio is known to 0.04 to 0.07: healthy faces end between 0.75 and 1.01, healthy emotion stages between 0.96 and
1.08 (1.6 errors). The mouth's is not judged: it sees recorded lips."""


class EarlyWarnings(Callback):
    """Add what the rules find to the run's record, whenever there is a preview."""

    def __init__(self, log: RunLog) -> None:
        self._log = log

    def on_interval(self, trainer: "Trainer", done: int) -> None:
        """Apply the rules to the running stage."""
        if is_preview_due(done, trainer.stage.iterations):
            self._apply(trainer.stage.name, done)

    def on_stage_end(self, trainer: "Trainer") -> None:
        """Apply them once more: another process may have brought its branch."""
        self._apply(trainer.stage.name, trainer.stage.iterations)

    def _apply(self, stage: str, done: int) -> None:
        for alarm in alarms_of(self._log.rows, stage):
            self._log.warn(alarm.name, alarm.text, stage, done)


def alarms_of(rows: list[Row], stage: str) -> list[Alarm]:
    """Alarms about ``stage`` in the record ``rows`` so far."""
    opened = of_kind(rows, "stage", stage)
    steps, frames = of_kind(rows, "step", stage), of_kind(rows, "frames", stage)
    if not opened or not steps:
        return []
    found = (rule(opened[0], steps, frames) for rule in RULES)
    return [alarm for alarm in found if alarm is not None]


def rising(stage: Row, steps: list[Row], frames: list[Row]) -> Alarm | None:
    """The image error has been rising for long."""
    since = max(stage.get("warmup", 0), 0)
    span = max(RISE_STEPS, RISE_WINDOW * stage["iterations"])
    rows = [row for row in steps if row["iteration"] > since] or steps
    values = np.array([row["terms"]["l1"] for row in rows])
    at = np.array([row["iteration"] for row in rows])
    last, before = at > at[-1] - span, at <= at[-1] - span
    if at[-1] - at[0] < 2 * span:
        return None
    windows = [values[(at > end - span) & (at <= end)].mean() for end in at[before] if end - span >= at[0] - 1]
    if not windows or values[last].mean() < RISE * min(windows):
        return None
    best = at[before][-len(windows) :][int(np.argmin(windows))]
    return Alarm(
        "loss rises",
        f"The '{stage['stage']}' stage gets worse: its image error (l1) is {values[last].mean() / min(windows):.1f} "
        f"times what it was around iteration {best} and has been for {span:.0f} iterations; lower the learning rates "
        "(settings optim.networks and optim.means) and train again.",
    )


def exploding(stage: Row, steps: list[Row], frames: list[Row]) -> Alarm | None:
    """Nearly all of the branch's Gaussians are cloned or split, repeatedly: growth is not selective."""
    name, first = stage["stage"], steps[0]["iteration"]
    # Rows that hold several densifications do not tell how much each added.
    if stage.get("grows_every", 0) < max((b["iteration"] - a["iteration"] for a, b in pairwise(steps)), default=first):
        return None
    grew = [row for row in steps if row["grown"]]
    before = [row["gaussians"][name] - row["grown"] + row["pruned"] for row in grew]
    all_grew = [
        row["grown"] >= DOUBLED * count >= DOUBLED * steps[0]["gaussians"][name]
        for row, count in zip(grew, before, strict=True)
    ]
    twice = [at for at in range(1, len(grew)) if all_grew[at - 1] and all_grew[at]]
    if not twice:
        return None
    at = twice[0]
    return Alarm(
        "gaussians explode",
        f"The {name}'s Gaussians grew from {before[at - 1]} to {grew[at]['gaussians'][name]} in two densifications "
        f"until iteration {grew[at]['iteration']}, nearly all each time: raise {name}.densify.grad_threshold.",
    )


def vanishing(stage: Row, steps: list[Row], frames: list[Row]) -> Alarm | None:
    """Most of the branch's Gaussians were removed."""
    if "grows_every" not in stage:
        return None
    name = stage["stage"]
    counts = [row["gaussians"][name] for row in steps if row["iteration"] >= stage.get("settled", 0)]
    if not counts or counts[-1] >= VANISHED * max(counts):
        return None
    return Alarm(
        "gaussians vanish",
        f"Of the {name}'s {max(counts)} Gaussians {counts[-1]} are left at iteration {steps[-1]['iteration']}: lower "
        f"{name}.densify.prune_opacity and prune_opacity_gain, and look at the {name} in the masks "
        "(the preview of the prepared subject).",
    )


def empty(stage: Row, steps: list[Row], frames: list[Row]) -> Alarm | None:
    """The masks show nothing of the branch, or nothing else, or the branch covers little of what they show."""
    if not frames or stage["stage"] == "finetune":
        return None
    last, name = frames[-1], "mouth" if stage["stage"] == "mouth" else "head"
    if name == "head" and last.get("region", 1.0) < REGION:
        return Alarm(
            "masks empty",
            f"The masks of the preview frames show a head on {last['region']:.1%} of the image, so there is nothing to "
            f"learn in the '{stage['stage']}' stage: prepare the clip again and look at its preview.",
        )
    if name == "head" and last.get("region", 0.0) > WHOLE:
        return Alarm(
            "masks full",
            f"The masks of the preview frames show a head on {last['region']:.1%} of the image, so the background is "
            f"learned, too, in the '{stage['stage']}' stage: prepare the clip again and look at its preview.",
        )
    early = last["iteration"] <= max(stage.get("warmup", 0), RISE_STEPS)
    if stage["stage"] == "emotion" or early or last.get("cover", 1.0) >= COVERED:
        return None
    return Alarm(
        "silhouette empty",
        f"At iteration {last['iteration']} of the '{stage['stage']}' stage the Gaussians cover {last['cover']:.0%} of "
        f"the recorded {name}: raise its losses.silhouette, or lower its densify.prune_opacity.",
    )


def frozen(stage: Row, steps: list[Row], frames: list[Row]) -> Alarm | None:
    """The motion network moves nothing."""
    if stage["stage"] not in ("mouth", "face") or not _late(stage, frames, FROZEN_AT):
        return None
    last = frames[-1]
    if last.get("motion_px", 1.0) >= FROZEN_PX:
        return None
    return Alarm(
        "motion frozen",
        f"At iteration {last['iteration']} the {stage['stage']}'s Gaussians move {last['motion_px']:.3f} pixels when "
        "sound and expression change, so the motion network is not learning: change its rates (settings "
        "optim.networks and optim.grids).",
    )


@dataclass(frozen=True)
class GainRule:
    """A gain of the preview frames [dB] that stays below what a stage that learns would reach.

    Measured as the mean of the last two previews, from a share of the stage's moving iterations on.
    """

    gain: str
    stage: str
    least_db: float
    share: float
    name: str
    text: str
    """The rest of the sentence, with the gain as ``{gain}``."""

    def __call__(self, stage: Row, steps: list[Row], frames: list[Row]) -> Alarm | None:
        """Apply the rule; None also where the gain cannot be measured."""
        known = [row[self.gain] for row in frames if self.gain in row]
        if stage["stage"] != self.stage or not known or not _late(stage, frames, self.share):
            return None
        gain = float(np.mean(known[-2:]))
        if gain >= self.least_db:
            return None
        where = f"At iteration {frames[-1]['iteration']} of the {self.stage} stage "
        return Alarm(self.name, where + self.text.format(gain=f"{gain:+.2f} dB"))


no_audio_response = GainRule(
    "sound_gain",
    "face",
    NO_AUDIO_RESPONSE_DB,
    NO_AUDIO_RESPONSE_AT,
    "mouth not learning",
    "the lips of held-out frames look as good with other sound as with their own ({gain}), so they do not follow "
    "speech: check that the clip's sound is its own and in step ('emotalking sync measure'), or raise "
    "face.losses.lips and audio_pretraining.",
)
no_blink = GainRule(
    "eye_gain",
    "face",
    NO_BLINK_DB,
    NO_BLINK_AT,
    "eyes not learning",
    "closed eyes of held-out frames look as good with the action units of open ones ({gain}), so the avatar will not "
    "blink: check AU45 in au.csv (the preview of the prepared subject), or train the face stage longer.",
)
no_emotion_response = GainRule(
    "emotion_gain",
    "emotion",
    NO_EMOTION_RESPONSE_DB,
    NO_EMOTION_RESPONSE_AT,
    "emotion without effect",
    "faces with a commanded emotion come no nearer to their targets than neutral ones ({gain}): raise optim.networks "
    "and optim.grids, or emotion.iterations.",
)


def out_of_sync(stage: Row, steps: list[Row], frames: list[Row]) -> Alarm | None:
    """The sync loss gets worse."""
    rows = [row for row in steps if "sync" in row["terms"]]
    if stage["stage"] == "mouth" or len(rows) < SYNC_ROWS or rows[-1]["iteration"] < SYNC_AT * stage["iterations"]:
        return None
    values, third = np.array([row["terms"]["sync"] for row in rows]), len(rows) // 3
    first, last = values[:third], values[-third:]
    ratio, error = last.mean() / first.mean(), np.sqrt((first.var(ddof=1) + last.var(ddof=1)) / third)
    if ratio <= SYNC_RISE or last.mean() - first.mean() <= SYNC_ERRORS * error:
        return None
    return Alarm(
        "sync loss rises",
        f"The sync loss of the '{stage['stage']}' stage has risen from iteration {rows[0]['iteration']} to "
        f"{rows[-1]['iteration']} (to {ratio:.2f} of what it was): check the expert on this clip ('emotalking sync "
        "measure'), or raise the stage's losses.sync.",
    )


def _late(stage: Row, frames: list[Row], share: float) -> bool:
    """True if the last preview is after ``share`` of the iterations with motion."""
    warmup = stage.get("warmup", 0)
    return bool(frames) and frames[-1]["iteration"] >= warmup + share * (stage["iterations"] - warmup)


Rule = Callable[[Row, list[Row], list[Row]], Alarm | None]
RULES: tuple[Rule, ...] = (
    rising,
    exploding,
    vanishing,
    empty,
    frozen,
    no_audio_response,
    no_blink,
    no_emotion_response,
    out_of_sync,
)
"""Each checks a stage's `stage` row, its `step` rows and its `frames` rows."""
