"""One comparison from paths to files."""

from collections.abc import Mapping
from pathlib import Path

import torch

from emotalking.data import Subject
from emotalking.errors import UserError
from emotalking.evaluate.compare import Comparison, common_frames, compare
from emotalking.evaluate.compare_report import write_report
from emotalking.evaluate.evaluation_models import EvaluationModels
from emotalking.evaluate.provenance import file_sha256, provenance
from emotalking.evaluate.scenarios import model_names
from emotalking.evaluate.speech import sounds_to_speak
from emotalking.evaluate.systems import RECORDING, is_avatar, open_system
from emotalking.evaluate.unseen import UnseenSpeech, open_unseen, to_same_length
from emotalking.progress import bar


def run_comparison(
    folder_of_subject: Path,
    systems: Mapping[str, str],
    folder: Path,
    device: torch.device,
    start: Mapping[str, int],
    frames: int | None,
    as_published: bool,
    models: Mapping[str, str],
    unseen: UnseenSpeech | None = None,
    command: str = "",
) -> Comparison:
    """Open the systems, score them and write the report; arguments as for :func:`emotalking.api.compare`.

    Raises:
        UserError: a system, start or model cannot be used, or ``folder`` cannot be made.
    """
    if frames is not None and frames < 1:
        raise UserError(f"frames: expected at least 1, got {frames}.")
    unknown = next((name for name in start if name and name not in systems), None)
    if unknown is not None:
        raise UserError(f"start: '{unknown}' is no system here; there are {', '.join(systems)}.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be made ({error.strerror}): choose another.") from error
    subject = Subject.open(folder_of_subject)
    if len(subject.val_indices) == 0:
        raise UserError(f"{subject.files.root} has no held-out frames (transforms_val.json is empty).")
    if unseen is not None and (start or as_published):
        word = "a start" if start else "the published protocol"
        raise UserError(f"{word} needs recorded frames, and with audio there are none: omit one of them.")
    if unseen is not None:
        opened = [open_unseen(name, path, subject, device, unseen) for name, path in systems.items()]
        opened = to_same_length(opened, unseen, float(subject.fps), frames)
    else:
        opened = []
        for name, path in systems.items():
            made_here = path == RECORDING or is_avatar(path)
            chosen = start.get(name, None if made_here else start.get(""))
            opened.append(open_system(name, path, subject, device, chosen))
    evaluation_models = EvaluationModels.open(
        lpips=models["lpips"], emotion=models["emotion_model"], sync=models["expert"], subject=subject, device=device
    )
    num_frames = len(common_frames(opened, frames)) * len(opened) * (1 + as_published)
    with bar() as progress:
        task = progress.add_task("compare", total=num_frames, note="")
        made = compare(
            subject,
            opened,
            evaluation_models,
            limit=frames,
            published=as_published,
            unseen=unseen,
            advance=lambda: progress.advance(task),
        )
    facts = provenance(subject, command=command)
    facts |= {"device": str(device), "evaluation_models": model_names(evaluation_models)}
    facts["systems"] = {
        name: {"path": path, "sha256": file_sha256(Path(path)) if Path(path).is_file() else None}
        for name, path in systems.items()
    }
    if unseen is not None:
        facts["sound"] = {"name": unseen.speech.name, "sha256": unseen.speech.sha256, "va": unseen.va}
    write_report(made, opened, subject, facts, folder)
    return made


def unseen_of(audio: Path | None, va: tuple[float, float] | None) -> UnseenSpeech | None:
    """Speech and emotion of a comparison without recorded frames; None without ``audio``.

    Raises:
        UserError: a sound that cannot be read, or an emotion without one.
    """
    if va is not None and audio is None:
        raise UserError("va: commands the emotion of speech that was never recorded, so it needs audio too.")
    return None if audio is None else UnseenSpeech(sounds_to_speak([audio], audio.parent)[0], va)
