"""``emotalking faces train``: the paper's generator for one subject, from the published networks.

Aligned crops of the clip are inverted by e4e, StyleGAN2 is tuned to reproduce them from these styles (pivotal tuning),
then lip encoder and LipExtract are trained with the paper's losses while StyleGAN2 is tuned further. EmoExtract is
EmoStyle's, frozen; without its file it is trained on the subject by EmoStyle's own losses.
"""

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from emotalking.data import Subject
from emotalking.errors import InputError
from emotalking.networks.lpips import Lpips, found_backbone, licences_of
from emotalking.networks.registry import models
from emotalking.progress import track
from emotalking.stylegan.critics import FaceCritics
from emotalking.stylegan.e4e import E4e
from emotalking.stylegan.edit_training import EditConfig, EmotionTask, LipTask, Sources, steps_of
from emotalking.stylegan.emostyle import WIDTHS, EmoExtract
from emotalking.stylegan.ffhq import FaceAlignment, aligned_crops
from emotalking.stylegan.inversion import Distance, PivotalTask
from emotalking.stylegan.lip_aligned import LARGEST, LipAligned, Small, StyleEncoder, save_faces
from emotalking.stylegan.published_critics import LICENCES, PublishedCritics
from emotalking.stylegan.stylegan2 import StyleGAN2
from emotalking.stylegan.stylegan2_files import open_stylegan2
from emotalking.stylegan.training import clear, run

FRAMES = 400
"""Maximum number of training crops of a clip, evenly spread."""
PIVOTAL_STEPS = 2000
PERSONAL_LIMIT = 0.7
"""Valence and arousal of EmoStyle's personal runs."""


@dataclass(frozen=True)
class Networks:
    """Initial networks of a training."""

    generator: StyleGAN2
    encoder: StyleEncoder
    critics: FaceCritics
    emotion: EmoExtract | None = None
    """None: trained on the subject."""
    perceptual: Distance | None = None
    """Added in pivotal tuning (LPIPS)."""
    widths: tuple[int, ...] = WIDTHS
    """Hidden layers of LipExtract's (and, where it is trained, EmoExtract's) MLPs."""
    small: Small | None = None
    """Encoder and landmark network to be kept in the file; None: they are the published ones."""
    licences: dict[str, str] | None = None

    @classmethod
    def open(cls, device: torch.device | str = "cpu") -> "Networks":
        """Open the published networks; EmoExtract only if present.

        Raises:
            InputError: StyleGAN2, e4e, EmoNet, FAN or VGGFace2 is missing or does not fit.
        """
        needed = ("stylegan2_ffhq", "e4e", "emonet8", "fan", "vggface2")
        missing = [models()[name] for name in needed if models()[name].find() is None]
        if missing:
            names = ", ".join(f"{model.files[0]} ({model.title.split(',')[0].split(' (')[0]})" for model in missing)
            raise InputError(
                f"the paper's generator needs networks that are not in the model folder: {names}; 'emotalking models'"
                " tells where each comes from and under which licence, and the mesh warp needs none of them."
            )
        emotion = EmoExtract.open().to(device) if models()["emostyle"].find() is not None else None
        licences = LICENCES if emotion is None else LICENCES | {"EmoStyle": models()["emostyle"].licence}
        generator, encoder = open_stylegan2().to(device), E4e.open().to(device)
        if generator.size.styles != len(encoder.styles):
            raise InputError(
                f"StyleGAN2 in the model folder draws {generator.size.resolution} pixels with {generator.size.styles}"
                f" styles, and e4e gives {len(encoder.styles)}: put FFHQ's of 1024 pixels there."
            )
        critics, backbone = PublishedCritics.open(device), found_backbone()
        licences = licences | licences_of(backbone)
        return cls(generator, encoder, critics, emotion, Lpips.open(backbone).to(device), licences=licences)


def train_faces(
    subject: Subject,
    out: Path,
    networks: Networks,
    *,
    config: EditConfig | None = None,
    pivotal_steps: int = PIVOTAL_STEPS,
    frames: int = FRAMES,
    seed: int = 0,
) -> Path:
    """Train the lip-aligned generator on a subject; an interrupted training is resumed.

    Args:
        subject: prepared folder; its training frames are used.
        out: file to write (``.safetensors``); the folder ``<out>.run`` next to it holds checkpoints and logs.
        networks: initial networks; the generator's weights are changed.
        config: rates, weights, epochs.
        pivotal_steps: of pivotal tuning, a few faces each.
        frames: maximum number of crops of the clip.
        seed: random seed.

    Returns:
        ``out``.

    Raises:
        InputError: the subject has no landmarks, a loss is not finite, or the disk is full.
    """
    config = config or EditConfig()
    device = networks.generator.mapping.w_avg.device
    faces, ibug68 = aligned_faces(subject, networks.generator.size.resolution, frames, device)
    with torch.no_grad():
        parts = [networks.encoder(part.float() / 255) for part in faces.split(8)]
    sources = Sources(faces, ibug68, torch.cat(parts))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = LipAligned(networks.generator.size, networks.widths).to(device)
    network.generator = networks.generator
    folder = out.with_name(out.name + ".run")
    started_from = fingerprint(faces, networks.generator, networks.encoder)
    settings = {"config": asdict(config), "pivotal_steps": pivotal_steps, "begun_with": started_from, "seed": seed}

    pivotal = PivotalTask(network.generator, faces, sources.styles, perceptual=networks.perceptual)
    run(pivotal, pivotal_steps, folder, seed=seed, settings=settings)
    steps = steps_of(config, len(sources))
    if networks.emotion is not None:
        network.emotion = networks.emotion
    else:
        personal = replace(config, va_limit=min(config.va_limit, PERSONAL_LIMIT))
        task = EmotionTask(network, networks.critics, sources, personal)
        run(task, steps, folder, seed=seed, settings=settings)
    run(LipTask(network, networks.critics, sources, config), steps, folder, seed=seed, settings=settings)
    save_faces(out, network, networks.licences or {}, networks.small)
    clear([PivotalTask.name, EmotionTask.name, LipTask.name], folder)
    return out


def fingerprint(faces: Tensor, *networks: object) -> str:
    """SHA-256 of a training's initial data and networks; checkpoints of other ones are refused."""
    digest = hashlib.sha256(faces.cpu().numpy().tobytes())
    for network in networks:
        tensors = network.state_dict() if isinstance(network, nn.Module) else {}
        for name, tensor in tensors.items():
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def aligned_faces(subject: Subject, size: int, most: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """FFHQ-aligned crops of training frames, evenly spread, and their landmarks.

    Args:
        subject: prepared folder.
        size: pixels a side of the generator; the crops have at most :data:`LARGEST`.
        most: maximum number of crops.
        device: of the result.

    Returns:
        uint8 ``[N, S, S, 3]`` and float ``[N, 68, 2]`` from -1 to 1.

    Raises:
        InputError: no training frame has a detected face.
    """
    points = subject.landmarks.ibug68
    known = [int(i) for i in subject.train_indices if subject.landmarks.detected[i]]
    if not known:
        raise InputError(f"{subject.files.root} has no training frame with landmarks: prepare the clip again.")
    chosen = [known[i] for i in np.unique(np.linspace(0, len(known) - 1, min(most, len(known))).round().astype(int))]
    faces, places = [], []
    for index in track(chosen, "cut squares"):
        image = torch.from_numpy(np.ascontiguousarray(subject.original(index)))[None].float() / 255
        ibug68 = torch.from_numpy(points[index].astype(np.float32))[None]
        alignment = FaceAlignment.around(ibug68)
        faces.append((aligned_crops(image, alignment, min(size, LARGEST)).clamp(0, 1) * 255).round().byte())
        places.append(alignment.from_frame(ibug68))
    return torch.cat(faces).to(device), torch.cat(places).to(device)
