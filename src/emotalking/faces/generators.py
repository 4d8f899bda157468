"""Open generators of emotional faces for images, clips and subject folders."""

from pathlib import Path

import torch

from emotalking.data import Subject
from emotalking.emotion.generator import EmotionGenerator
from emotalking.emotion.mesh_warp.warp import MeshWarp, MeshWarpConfig
from emotalking.errors import InputError
from emotalking.faces.paste_back import PaperGenerator
from emotalking.faces.reader import SubjectReader
from emotalking.faces.source import FaceSource, SubjectFaces
from emotalking.networks.registry import sha256_of
from emotalking.stylegan.lip_aligned import NAME, StyleEditor, TrainedFaces, open_faces
from emotalking.train.run import MESH_WARP
from emotalking.train.targets import GeneratorChoice


def open_generator(source: FaceSource, config: MeshWarpConfig | None = None) -> EmotionGenerator:
    """The embedded generator, made for the face of ``source``.

    Args:
        source: of the face.
        config: settings.
    """
    return MeshWarp(source.shape, source.layout, source.K, config)


def open_paper_generator(
    source: FaceSource, faces: Path | None, device: torch.device | str
) -> tuple[EmotionGenerator, dict[str, str]]:
    """The paper's generator as trained by ``faces train``, for the subject of its training.

    Args:
        source: a subject folder.
        faces: its file; None: the one in the folder.
        device: of the networks.

    Returns:
        The generator, and the licences of the networks that it rests on.

    Raises:
        InputError: the source is no subject folder, the file is missing or damaged, or a network that it needs is.
    """
    if not isinstance(source, SubjectFaces):
        raise InputError(
            "The generator paper edits only the person of its training: give the subject folder, or use the mesh warp."
        )
    trained = open_faces(faces_file(source.subject, faces), device)
    return paper_generator(source.subject, trained, device), trained.licences


def paper_generator(subject: Subject, faces: TrainedFaces, device: torch.device | str) -> EmotionGenerator:
    """StyleGAN2, EmoStyle and LipExtract in the aligned crop, eyes and mouth cloned into the frame (paper S4.1)."""
    return PaperGenerator(StyleEditor(faces), SubjectReader.open(subject, device), subject.landmarks.layout)


def faces_file(subject: Subject, faces: Path | None) -> Path:
    """The file of the paper's generator for a subject.

    Raises:
        InputError: it is not there.
    """
    path = faces or subject.files.root / NAME
    if not path.is_file():
        raise InputError(
            f"{path} is missing, which the generator paper needs: make it with 'emotalking faces train"
            f" {subject.files.root}', or train with the embedded mesh warp (generator mesh)."
        )
    return path


def choose_generator(kind: str, subject: Path, faces: Path | None, device: torch.device | str) -> GeneratorChoice:
    """Choose the generator of a training's emotional targets.

    Args:
        kind: ``mesh`` or ``paper``.
        subject: its folder.
        faces: file of the paper's generator; None: the one in the folder.
        device: of the networks.

    Raises:
        InputError: no such kind, a file without the generator paper, or as :func:`open_paper_generator`.
    """
    if kind == "mesh":
        if faces is not None:
            raise InputError("faces is the file of the paper's generator: also choose the generator paper.")
        return MESH_WARP
    if kind != "paper":
        raise InputError(f"there is no generator '{kind}': expected mesh or paper.")
    source = Subject.open(subject)
    path = faces_file(source, faces)
    digest = sha256_of(path)
    trained = open_faces(path, device)
    # One generator for training and for the preview frames: the networks are large, and the parser is fitted once.
    made = paper_generator(source, trained, device)
    return GeneratorChoice(made.name, lambda _: made, digest, trained.licences)
