"""Training of an avatar file from a subject folder."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emotalking.audio.features import write_features
from emotalking.cores import keep_memory
from emotalking.data import Subject
from emotalking.data.audio_features import DEFAULT_FEATURE, audio_feature
from emotalking.data.labels import Label
from emotalking.emotion.mesh_warp.warp import MeshWarp
from emotalking.errors import InputError
from emotalking.io.files import holding
from emotalking.io.settings import override, to_dict
from emotalking.models.avatar import Avatar
from emotalking.models.avatar_file import read_avatar_metadata
from emotalking.models.config import MAX_STEPS
from emotalking.models.head import TalkingHead
from emotalking.models.scene import Scene, TorsoStack, encode_torso
from emotalking.progress import track
from emotalking.provenance.consent import KEY as CONSENT
from emotalking.provenance.consent import Consent
from emotalking.provenance.manifest import LICENCES
from emotalking.train.audio_augmentation import LipExamples, augmented_examples, silent_examples
from emotalking.train.audio_pretraining import pretrain_audio
from emotalking.train.callbacks.log import require_writer
from emotalking.train.callbacks.report import PAGE, recorded, versions
from emotalking.train.checkpoint import Checkpoint
from emotalking.train.config import TrainConfig, upgrade_record
from emotalking.train.context import Context
from emotalking.train.data import TrainingData
from emotalking.train.expressions import Expressions, uses_expressions
from emotalking.train.initial import initial_gaussians, jaw_line
from emotalking.train.motion_pretraining import convex_eyes, pretrain_motion
from emotalking.train.perceptual import make_perceptual, with_backbone
from emotalking.train.presets import preset
from emotalking.train.skin import colour_skin
from emotalking.train.stages.emotion import EmotionStage
from emotalking.train.stages.face import FaceStage, combined_face_stage
from emotalking.train.stages.finetune import FinetuneStage, closed_frames, learn_closed_mouth_codes
from emotalking.train.stages.mouth import MouthStage
from emotalking.train.step import Stage
from emotalking.train.sync import make_sync
from emotalking.train.targets import GeneratorChoice
from emotalking.train.trainer import Trainer

_logger = logging.getLogger(__name__)


def emotion_generator(data: TrainingData) -> MeshWarp:
    """Make the embedded generator of emotional targets from the training frames.

    Raises:
        InputError: if the subject has no tracked 3-D face shape.
    """
    if data.shape is None:
        raise InputError(
            "This subject has no tracked 3-D face shape, which the emotional targets need: complete the folder with "
            "'emotalking import', or train without emotion (setting model.emotion.branch=none)."
        )
    return MeshWarp(data.shape.cpu().numpy(), data.layout, data.K.cpu().numpy())


MESH_WARP = GeneratorChoice("mesh-warp", emotion_generator)
"""Choice of the embedded generator of emotional targets."""
MOUTH_ELSEWHERE = "mouth"
"""Folder in the run folder of a training of 0.2 whose mouth another process was training."""


@dataclass(frozen=True)
class TrainResult:
    """Result of a run."""

    avatar: Avatar
    path: Path
    """The avatar file."""
    page: Path
    """HTML report of the run."""
    stage_seconds: dict[str, float]
    """Time of each stage."""


def train(
    subject: Path | str,
    out: Path | str,
    preset_name: str = "fast",
    device: torch.device | str = "cpu",
    overrides: list[str] | None = None,
    resume: bool = True,
    tensorboard: bool = False,
    maker: GeneratorChoice = MESH_WARP,
    command: str = "",
    consent: Consent | None = None,
) -> TrainResult:
    """Train an avatar of a subject (paper 3.4, S4.3): mouth, face, emotion and fine-tune stages.

    Args:
        subject: subject folder (``emotalking prepare``).
        out: avatar file to write; the run folder ``<out>.run`` next to it has the checkpoint, the run's record
            (:mod:`emotalking.train.callbacks.log`) and the page made from it.
        preset_name: `tiny`, `fast` or `paper`.
        overrides: settings ``key=value`` with dotted keys.
        resume: go on from the run folder's checkpoint if there is one.
        tensorboard: write TensorBoard events into the run folder too (needs tensorboardX).
        maker: choice of the generator of emotional targets.
        command: command line, stored in avatar and record.
        consent: statement of the person shown, stored in the avatar.

    Raises:
        InputError: if the subject or a setting cannot be used, another command trains this avatar, or a loss stops
            being finite.
    """
    if tensorboard:
        require_writer()
    keep_memory()
    requested = override(preset(preset_name), overrides or [])
    source = Subject.open(subject)
    config = resolve_config(requested, source)
    out, device = Path(out), torch.device(device)
    folder = out.with_name(out.name + ".run")
    record = fingerprint(config, preset_name, source, maker)
    checkpoint_path = folder / "checkpoint.pt"
    with holding(folder):
        elsewhere = folder / MOUTH_ELSEWHERE
        if elsewhere.is_dir():  # of 0.2, which could train the mouth in another process: the checkpoint may lack it
            _logger.info("%s was begun on two devices by an older version: it begins anew", out)
            resume = False
        checkpoint = Checkpoint.read(checkpoint_path, record) if resume and checkpoint_path.exists() else None
        context = make_context(config, source, device, folder, checkpoint)
        head, data = context.head, context.data
        metadata = _metadata(source, record, context, maker, command)
        if consent is not None:
            metadata[CONSENT] = consent.to_json()
        with recorded(
            folder,
            context,
            source,
            metadata,
            maker_of=maker.open,
            checkpoint=checkpoint,
            tensorboard=tensorboard,
        ) as callbacks:
            if not resume:  # A run that is killed before its first checkpoint must not go on from an older one.
                checkpoint_path.unlink(missing_ok=True)
                shutil.rmtree(elsewhere, ignore_errors=True)
            stages, every = stage_builders(context, maker), config.checkpoint_every
            trainer = Trainer(head, stages, context.generator, folder, record, every, callbacks)
            trainer.run(checkpoint)
            learn_closed_mouth_codes(head, data, config.closed_mouth_code)
            if data.shape is not None and head.emotional:
                shaded = maker == MESH_WARP and head.emotion is not None and config.model.emotion.shade
                colour_skin(head, data, emotion_generator(data) if shaded else None)
            avatar = Avatar(head, _scene(source, data, config), metadata)
            avatar.save(out)
            checkpoint_path.unlink(missing_ok=True)
    return TrainResult(avatar, out, folder / PAGE, trainer.stage_seconds)


def is_up_to_date(
    avatar: Path, subject: Path | str, preset_name: str, overrides: list[str], maker: GeneratorChoice = MESH_WARP
) -> bool:
    """True if an avatar file equals the result of :func:`train` for a subject.

    Raises:
        InputError: avatar, subject or a setting cannot be used.
    """
    recorded_run = read_avatar_metadata(avatar).get("run")
    source = Subject.open(subject)
    config = resolve_config(override(preset(preset_name), overrides), source)
    expected = json.loads(json.dumps(fingerprint(config, preset_name, source, maker)))
    return upgrade_record(recorded_run) == expected


def resolve_config(config: TrainConfig, source: Subject) -> TrainConfig:
    """Resolve the config for a subject: the available perceptual backbone, the audio features and their width.

    Raises:
        InputError: the audio features cannot be used.
    """
    config = with_backbone(config)
    features = features_in(source, config.model.audio.features)
    _, steps, channels = source.audio_features(features).shape
    if not 1 <= steps <= MAX_STEPS:
        raise InputError(
            f"The '{features}' audio features of {source.files.root} have {steps} steps a frame and "
            f"the audio encoder takes 1 to {MAX_STEPS}: use others (setting model.audio.features={DEFAULT_FEATURE})."
        )
    audio = replace(config.model.audio, features=features, channels=channels, steps=steps)
    gaze = config.model.gaze and source.gaze is not None and source.landmarks.shape is not None
    if gaze != config.model.gaze:
        _logger.info("%s has no irises to measure the gaze from: the eyes will not be steered", source.files.root)
    reach = config.model.gaze_reach if gaze else 0.0
    return replace(config, model=replace(config.model, audio=audio, gaze=gaze, gaze_reach=reach))


def make_context(
    config: TrainConfig,
    source: Subject,
    device: torch.device,
    folder: Path,
    checkpoint: Checkpoint | None,
) -> Context:
    """Create the context of the stages: untrained, or from ``checkpoint``.

    Args:
        config: result of :func:`resolve_config`.
        folder: of the run.
    """
    perceptual = make_perceptual(config, device)
    data = TrainingData.load(source, source.train_indices, config.model.audio.features, device, normals=config.normals)
    if config.model.gaze and data.shape is not None:
        data.shape = convex_eyes(data.shape, data.layout)
    if config.normals and data.normals is None:
        _logger.info("%s has no normal maps: the normal terms are left out", source.files.root)
    sync = make_sync(config, source, data, folder, fresh=checkpoint is None)
    generator = torch.Generator().manual_seed(config.seed)
    if checkpoint is None:
        examples: list[LipExamples] = []
        if config.audio_augmentation and config.audio_pretraining:
            examples = augmented_examples(source, data.indices, config.model.audio.features, device)
            examples.append(silent_examples(data.conditions.audio, closed_frames(data)))
        head = build_head(config, data, generator, examples)
    else:
        head = checkpoint.head(config.model, device)
    expressions = None
    if uses_expressions(config, source):
        expressions = Expressions.load(source, data, normals=config.emotion.losses.normals)
    return Context(head, data, config, generator, sync, perceptual, expressions)


def features_in(source: Subject, name: str) -> str:
    """Name of the audio features ``name`` in the folder; missing ones are computed if possible.

    Raises:
        InputError: no such features, or the model that computes them is missing.
    """
    feature = audio_feature(name)
    path = source.files.audio_features(name)
    there = path.exists() or source.unnamed_feature() is feature
    if not there and feature.module is not None and source.files.audio.exists():
        write_features(path, source.files.audio, feature.name, source.num_frames, source.fps)
    return feature.name


def build_head(
    config: TrainConfig,
    data: TrainingData,
    generator: torch.Generator,
    augmented: Sequence[LipExamples] = (),
) -> TalkingHead:
    """The untrained model on the data's device; deterministic under the config's seed.

    Args:
        generator: draws the initial positions of the Gaussians.
        augmented: further examples for the audio encoders' pretraining.
    """
    face = initial_gaussians(config.model.face, data, (Label.HEAD, Label.HAIR), generator)
    mouth = initial_gaussians(config.model.mouth, data, (Label.MOUTH,), generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        head = TalkingHead(config.model, face.cpu(), mouth.cpu()).to(data.device)
        if config.model.mouth.init == "surface":
            head.mouth.motion.jaw = jaw_line(data)
        if config.model.gaze and data.shape is not None:
            head.face.motion.eyes = torch.stack(data.layout.eye_centres(data.shape))
        for name, branch in (("face", head.face), ("mouth", head.mouth)):
            draw = draws(config, f"audio of the {name}")
            pretrain_audio(branch.audio, data, config.audio_pretraining, draw, augmented)
        draw, reach = draws(config, "motion of the face"), config.model.gaze_reach
        pretrain_motion(head.face, data, config.motion_pretraining, draw, gaze_reach=reach)
    return head


def draws(config: TrainConfig, name: str, generator: torch.Generator | None = None) -> torch.Generator:
    """A generator at the beginning of the draws called ``name``, whatever was drawn before; a new one if None."""
    digest = hashlib.sha256(f"{config.seed} {name}".encode()).digest()
    return (generator or torch.Generator()).manual_seed(int.from_bytes(digest[:4]))


@dataclass
class StageClasses:
    """Class of each stage; a program may put a subclass of its own in one's place (``examples/custom_loss.py``)."""

    mouth: type[MouthStage] = MouthStage
    face: type[FaceStage] = FaceStage
    emotion: type[EmotionStage] = EmotionStage
    finetune: type[FinetuneStage] = FinetuneStage


STAGES = StageClasses()
"""Classes of the stages of every run of this process."""


def stage_builders(context: Context, maker: GeneratorChoice = MESH_WARP) -> list[Callable[[], Stage]]:
    """Builders of the run's stages, in order; a stage of no iterations is left out.

    Each begins with its own random draws, from the run's seed and its name: the draws of a stage do not depend on
    earlier draws.
    """
    config = context.config
    branch = config.model.emotion.branch

    def face() -> Stage:
        if branch == "combined":
            return combined_face_stage(context, maker.open(context.data), STAGES.face)
        return STAGES.face(context)

    def emotion() -> Stage:
        return STAGES.emotion(context, maker.open(context.data))

    def seeded(name: str, build: Callable[[], Stage]) -> Callable[[], Stage]:
        def begin() -> Stage:
            draws(config, name, context.generator)
            return build()

        return begin

    stages: list[tuple[str, int, Callable[[], Stage]]] = [
        ("mouth", config.mouth.iterations, lambda: STAGES.mouth(context)),
        ("face", config.face.iterations, face),
        ("emotion", config.emotion.iterations if branch == "separate" else 0, emotion),
        ("finetune", config.finetune.iterations, lambda: STAGES.finetune(context)),
    ]
    return [seeded(name, build) for name, iterations, build in stages if iterations > 0]


def _scene(subject: Subject, data: TrainingData, config: TrainConfig) -> Scene:
    """The clip's part of the avatar, from the training frames alone."""
    gaze = data.conditions.gaze if config.model.gaze else None

    def packed(frame: int) -> bytes:
        return encode_torso(np.ascontiguousarray(data.torso[frame].cpu().numpy()))

    with ThreadPoolExecutor() as pool:
        images = list(track(pool.map(packed, range(data.count)), "pack torso", data.count))
    return Scene(
        width=subject.width,
        height=subject.height,
        fps=subject.fps,
        focal=float(subject.focal),
        viewmats=data.conditions.viewmats.cpu().numpy(),
        aus=data.conditions.aus.cpu().numpy(),
        va=data.conditions.va.cpu().numpy(),
        gaze=None if gaze is None else gaze.cpu().numpy(),
        background=np.asarray(subject.background),
        torso=TorsoStack.encode(images),
        place=None if subject.place is None else subject.place.only(data.indices),
    )


def fingerprint(config: TrainConfig, preset_name: str, subject: Subject, maker: GeneratorChoice) -> dict[str, Any]:
    """Record that identifies a run: a checkpoint is resumed only under the same one."""
    record = {
        "preset": preset_name,
        "train": to_dict(config),
        "clip": _clip_hash(subject),
        "frames": subject.num_frames,
        "size": [subject.width, subject.height],
        "generator": [maker.name, maker.file_hash],
    }
    if uses_expressions(config, subject):
        clips = subject.expressions.items()
        record["expressions"] = {name: [_clip_hash(clip), clip.num_frames] for name, clip in clips}
    return record


def _clip_hash(subject: Subject) -> str:
    clip = subject.manifest.get("clip")
    return str(clip.get("sha256", "")) if isinstance(clip, dict) else ""


def _metadata(
    subject: Subject, record: dict[str, Any], context: Context, maker: GeneratorChoice, command: str
) -> dict[str, Any]:
    sync, perceptual = context.sync, context.perceptual
    brought = [subject.licences, maker.licences, *(term.licences for term in (sync, perceptual) if term is not None)]
    network = audio_feature(context.config.model.audio.features).licence
    if network is not None:
        brought.append(dict([network]))
    if record["train"]["gpu"] == "gsplat":
        brought.append({"gsplat (training on a GPU)": "Apache-2.0"})
    return {
        "run": record,
        "subject": {key: subject.manifest[key] for key in sorted(subject.manifest)},
        "licences": LICENCES | {name: licence for licences in brought for name, licence in licences.items()},
        "normal_maps": context.data.normals is not None,
        "sync": None if sync is None else sync.record,
        "perceptual": None if perceptual is None else perceptual.distance.name,
        "generator": maker.name if record["train"]["model"]["emotion"]["branch"] != "none" else "none",
        "versions": versions(),
        "command": command,
    }
