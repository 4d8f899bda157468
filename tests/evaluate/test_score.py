"""Scoring a run of frames: known answers on frames made from a subject's own, and what is refused."""

import math

import numpy as np
import pytest
import torch

from emotalking.errors import UserError
from emotalking.evaluate.figures import KINDS
from emotalking.evaluate.judges import Judges
from emotalking.evaluate.score import Stopwatch, score
from emotalking.subject import Subject

INDICES = np.arange(3, 8)


def recorded(subject: Subject) -> list[np.ndarray]:
    """The frames that the subject really showed."""
    return [subject.target(int(index)) for index in INDICES]


def test_the_recording_itself_is_perfect(actor_subject: Subject) -> None:
    found = score(recorded(actor_subject), subject=actor_subject, indices=INDICES, judges=Judges.none())
    assert math.isinf(found["psnr"].value) and found["ssim"].value == pytest.approx(1, abs=1e-5)
    assert found["psnr"].frames == 5 and found["psnr"].missing == 0
    assert math.isnan(found["lpips"].value) and "not asked for" in found["lpips"].why_not
    assert list(found) == [name for name in KINDS if name in found]


def test_one_error_of_known_size(actor_subject: Subject) -> None:
    frames = [torch.from_numpy(frame).float() / 255 + 0.1 for frame in recorded(actor_subject)]
    found = score(frames, subject=actor_subject, indices=INDICES, judges=Judges.none())
    for name in ("psnr", "psnr_head", "psnr_mouth"):
        assert found[name].value == pytest.approx(20, abs=1e-3), name
        values = found[name].per_frame
        assert values is not None and values.shape == (5,)


def test_an_error_in_the_background_leaves_the_head_alone(actor_subject: Subject) -> None:
    frames = []
    for index, frame in zip(INDICES, recorded(actor_subject), strict=True):
        labels, _ = actor_subject.labels_and_teeth(int(index))
        frames.append(np.where((labels == 0)[..., None], 255 - frame, frame))
    found = score(frames, subject=actor_subject, indices=INDICES, judges=Judges.none())
    assert found["psnr"].value < 20 and math.isinf(found["psnr_head"].value)


def test_without_truth_nothing_is_made_up(actor_subject: Subject) -> None:
    found = score(recorded(actor_subject), subject=actor_subject, indices=None, judges=Judges.none())
    for name in ("psnr", "psnr_head", "psnr_mouth", "ssim", "lpips"):
        assert math.isnan(found[name].value) and found[name].why_not, name


def test_frames_of_another_size_or_number_are_refused(actor_subject: Subject) -> None:
    frames = recorded(actor_subject)
    with pytest.raises(UserError, match="fewer frames than the 5"):
        score(frames[:4], subject=actor_subject, indices=INDICES, judges=Judges.none())
    with pytest.raises(UserError, match="more frames than the 5"):
        score([*frames, frames[0]], subject=actor_subject, indices=INDICES, judges=Judges.none())
    with pytest.raises(UserError, match="frame 1 is 32x64"):
        score([frames[0], frames[1][:, :32]], subject=actor_subject, indices=None, judges=Judges.none())


def test_the_rate_of_a_renderer(actor_subject: Subject) -> None:
    watch = Stopwatch(recorded(actor_subject))
    found = score(watch, subject=actor_subject, indices=INDICES, judges=Judges.none())
    assert found["fps"].value > 10 and found["fps"].frames == 5
    silent = score(recorded(actor_subject), subject=actor_subject, indices=INDICES, judges=Judges.none())
    assert math.isnan(silent["fps"].value) and silent["fps"].why_not


def test_an_unknown_backbone() -> None:
    with pytest.raises(UserError, match="no LPIPS backbone 'resnet'"):
        Judges.open(lpips="resnet")
