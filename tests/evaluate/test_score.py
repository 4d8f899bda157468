"""Scoring a run of frames: known answers on frames made from a subject's own, and what is refused."""

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from emotalking.data import Subject
from emotalking.emotion.circumplex import TEST_POINTS
from emotalking.errors import InputError
from emotalking.evaluate.evaluation_models import ActionUnitModel, EvaluationModels
from emotalking.evaluate.faces import MirroredFrames
from emotalking.evaluate.measure import Stopwatch, measure
from emotalking.evaluate.metrics import METRICS, Metric
from emotalking.evaluate.metrics.image import neck_band, outline_band
from emotalking.preprocess.landmarks import MEDIAPIPE_LAYOUT, MediaPipeMesh
from emotalking.testing.actor.actor import Actor, head_viewmat
from emotalking.testing.actor.performance import Performance
from emotalking.testing.actor.state import ActorState
from emotalking.testing.actor_subject import write_actor_subject

INDICES = np.arange(3, 8)


def recorded(subject: Subject) -> list[np.ndarray]:
    """The frames that the subject really showed."""
    return [subject.target(int(index)) for index in INDICES]


def test_the_recording_itself_is_perfect(actor_subject: Subject) -> None:
    found = measure(
        recorded(actor_subject), subject=actor_subject, indices=INDICES, models=EvaluationModels.none()
    ).metrics
    assert math.isinf(found["psnr"].value) and found["ssim"].value == pytest.approx(1, abs=1e-5)
    assert found["psnr"].frames == 5 and found["psnr"].missing == 0
    assert math.isnan(found["lpips"].value) and "not asked for" in found["lpips"].reason
    assert list(found) == [name for name in METRICS if name in found]


def test_one_error_of_known_size(actor_subject: Subject) -> None:
    frames = [torch.from_numpy(frame).float() / 255 + 0.1 for frame in recorded(actor_subject)]
    found = measure(frames, subject=actor_subject, indices=INDICES, models=EvaluationModels.none()).metrics
    for name in ("psnr", "psnr_head", "psnr_mouth", "psnr_outline", "psnr_neck"):
        assert found[name].value == pytest.approx(20, abs=1e-3), name
        values = found[name].per_frame
        assert values is not None and values.shape == (5,)


def test_an_error_in_the_background_leaves_the_head_alone(actor_subject: Subject) -> None:
    frames = []
    for index, frame in zip(INDICES, recorded(actor_subject), strict=True):
        labels = actor_subject.masks(int(index)).labels
        frames.append(np.where((labels == 0)[..., None], 255 - frame, frame))
    found = measure(frames, subject=actor_subject, indices=INDICES, models=EvaluationModels.none()).metrics
    assert found["psnr"].value < 20 and math.isinf(found["psnr_head"].value)


def test_the_outline_is_a_band_on_both_sides_and_the_edge_of_the_frame_is_none() -> None:
    head = np.zeros((512, 512), bool)
    head[200:, 100:400] = True
    band = outline_band(head)
    assert band[300, 100 - 12 : 100 + 12].all() and not band[300, :88].any() and not band[300, 113:387].any()
    assert not band[500:, 120:380].any() and band[188:212, 250].all()
    assert outline_band(head[::4, ::4]).sum() == pytest.approx(band.sum() / 16, rel=0.1)
    assert not outline_band(np.zeros((64, 64), bool)).any()


def test_the_neck_is_where_the_outline_meets_the_body() -> None:
    head, body = np.zeros((512, 512), bool), np.zeros((512, 512), bool)
    head[100:300, 150:350], body[300:, 200:300] = True, True
    band = neck_band(head, body)
    assert band[290:310, 200:300].all() and not band[:285].any() and not band[:, :188].any()
    assert not neck_band(head, np.zeros_like(body)).any()


def test_without_truth_nothing_is_made_up(actor_subject: Subject) -> None:
    found = measure(
        recorded(actor_subject), subject=actor_subject, indices=None, models=EvaluationModels.none()
    ).metrics
    for name in ("psnr", "psnr_head", "psnr_mouth", "psnr_outline", "psnr_neck", "ssim", "lpips"):
        assert math.isnan(found[name].value) and found[name].reason, name


def test_frames_of_another_size_or_number_are_refused(actor_subject: Subject) -> None:
    frames = recorded(actor_subject)
    with pytest.raises(InputError, match="fewer frames than the 5"):
        measure(frames[:4], subject=actor_subject, indices=INDICES, models=EvaluationModels.none())
    with pytest.raises(InputError, match="more frames than the 5"):
        measure([*frames, frames[0]], subject=actor_subject, indices=INDICES, models=EvaluationModels.none())
    with pytest.raises(InputError, match="frame 1 is 32x64"):
        measure([frames[0], frames[1][:, :32]], subject=actor_subject, indices=None, models=EvaluationModels.none())


def test_the_rate_of_a_renderer(actor_subject: Subject) -> None:
    watch = Stopwatch(recorded(actor_subject))
    found = measure(watch, subject=actor_subject, indices=INDICES, models=EvaluationModels.none()).metrics
    assert found["fps"].value > 10 and found["fps"].frames == 5
    silent = measure(
        recorded(actor_subject), subject=actor_subject, indices=INDICES, models=EvaluationModels.none()
    ).metrics
    assert math.isnan(silent["fps"].value) and silent["fps"].reason


def test_an_unknown_backbone() -> None:
    with pytest.raises(InputError, match="no LPIPS backbone 'resnet'"):
        EvaluationModels.open(lpips="resnet")


class Painted:
    """Takes the colour of the image's corner for the place of a face; black there means no face."""

    name = "painted"
    layout = MEDIAPIPE_LAYOUT

    def __init__(self, shape: np.ndarray) -> None:
        self._shape = shape

    def detect(self, image: np.ndarray) -> np.ndarray | None:
        """A face in the middle, moved by the corner's red, with an open mouth by its green."""
        red, green, blue = (int(value) for value in image[0, 0])
        if blue == 0:
            return None
        points = self._shape.copy()
        points[list(MEDIAPIPE_LAYOUT.lips_inner[11:]), 1] += green / 10
        points[list(MEDIAPIPE_LAYOUT.ibug68[61:64]), 1] -= green / 10
        return (points + [red, 0, 0]).astype(np.float32)

    def detect_many(self, images: Sequence[np.ndarray]) -> list[np.ndarray | None]:
        """See ``LandmarkProvider``."""
        return [self.detect(image) for image in images]

    def close(self) -> None:
        """Nothing to free."""


@pytest.fixture(scope="module")
def painted() -> Painted:
    """A detector with exact answers, and MediaPipe's shape of the actor."""
    face = MediaPipeMesh().detect(Actor(size=128).render(ActorState(viewmat=head_viewmat())).image)
    assert face is not None
    return Painted(face)


def marked(subject: Subject, corners: list[tuple[int, int, int]]) -> list[np.ndarray]:
    """Recorded frames with a coloured corner pixel."""
    frames = [subject.target(index).copy() for index in range(len(corners))]
    for frame, corner in zip(frames, corners, strict=True):
        frame[0, 0] = corner
    return frames


def speaking(subject: Subject, greens: np.ndarray, lost: tuple[int, ...] = ()) -> list[np.ndarray]:
    """Frames whose mouth opens by ``greens``, without a face in the frames ``lost``."""
    return marked(subject, [(0, int(green), 0 if at in lost else 255) for at, green in enumerate(greens)])


def watched(painted: Painted, emotion: bool = False) -> EvaluationModels:
    """EvaluationModels who see faces through the painted detector."""
    return EvaluationModels(torch.device("cpu"), lambda: painted, emotion=ActionUnitModel() if emotion else None)


def test_frames_without_a_face_are_counted(actor_subject: Subject, painted: Painted) -> None:
    frames = marked(actor_subject, [(0, 0, 255)] * 3 + [(0, 0, 0)] + [(0, 0, 255)] * 4)
    found = measure(frames, subject=actor_subject, indices=None, models=watched(painted))
    jitter = found.metrics["jitter_head"]
    assert jitter.value == pytest.approx(0, abs=1e-4) and (jitter.frames, jitter.missing) == (3, 3)
    assert (
        found.observation.found is not None
        and np.isnan(found.observation.points[:, 0, 0]).tolist() == [False] * 3 + [True] + [False] * 4
    )
    assert "no recorded frame" in found.metrics["lmd"].reason and found.metrics["lmd"].missing == 8


def test_a_head_that_jumps(actor_subject: Subject, painted: Painted) -> None:
    frames = marked(actor_subject, [(0, 0, 255)] * 3 + [(2, 0, 255)] * 3)
    found = measure(frames, subject=actor_subject, indices=None, models=watched(painted)).metrics
    assert found["jitter_head"].value == pytest.approx(1, abs=1e-3)  # 2 px at two of four places
    va = np.repeat([[0.5, 0.5], [-0.5, 0.5]], 3, 0)
    cut = measure(frames, subject=actor_subject, indices=None, va=va, models=watched(painted)).metrics
    assert cut["jitter_head"].value == pytest.approx(0, abs=1e-4)


def test_no_face_in_any_frame(actor_subject: Subject, painted: Painted) -> None:
    frames = marked(actor_subject, [(0, 0, 0)] * 4)
    found = measure(frames, subject=actor_subject, indices=np.arange(4), models=watched(painted, emotion=True))
    assert found.observation.found is None
    for name in ("lmd", "aue_u", "v_rmse", "jitter_head", "flicker", "sync_e", "mouth_in_silence"):
        metric = found.metrics[name]
        assert math.isnan(metric.value) and metric.reason and metric.missing == 4, name
    assert found.metrics["psnr"].frames == 4


def test_the_command_is_compared_with_what_the_emotion_model_reads(actor_subject: Subject, painted: Painted) -> None:
    frames = marked(actor_subject, [(0, 0, 255)] * 6)
    point = TEST_POINTS[0]
    va = np.tile([point.valence, point.arousal], (6, 1))
    found = measure(frames, subject=actor_subject, indices=None, va=va, models=watched(painted, emotion=True))
    assert found.observation.va is not None
    expected = np.sqrt(((found.observation.va - va) ** 2).mean(0))
    assert found.metrics["v_rmse"].value == pytest.approx(expected[0])
    assert found.metrics["a_rmse"].value == pytest.approx(expected[1])
    assert found.metrics["e_top1"].model == "rules on action units" and found.metrics["e_top1"].frames == 6


def test_mouth_motion_in_silence_needs_enough_of_both(actor_subject: Subject, painted: Painted) -> None:
    """A babbling voice in the last two of four seconds; the mouth moves in the same way all the time."""
    voice = Performance.generate(2.0, seed=2).waveform.astype(np.float64)
    samples = np.concatenate([np.zeros(32000), voice])
    corners = [(0, 20 * (frame % 2), 255) for frame in range(100)]
    frames = [frame for _ in range(4) for frame in marked(actor_subject, corners[:25])]
    found = measure(frames, subject=actor_subject, indices=None, samples=samples, models=watched(painted)).metrics
    metric = found["mouth_in_silence"]
    assert metric.value == pytest.approx(1, rel=0.05) and 45 <= metric.frames < 60
    short = measure(frames[:40], subject=actor_subject, indices=None, samples=samples, models=watched(painted)).metrics
    assert math.isnan(short["mouth_in_silence"].value) and "25 of each" in short["mouth_in_silence"].reason


def test_lips_that_open_half_as_far_and_late(actor_subject: Subject, painted: Painted) -> None:
    rng = np.random.default_rng(8)
    greens = 2 * rng.integers(0, 50, 32)
    indices = np.arange(30)
    truth = speaking(actor_subject, greens[2:], lost=(5,))
    half, late = speaking(actor_subject, greens[2:] // 2, lost=(9,)), speaking(actor_subject, greens[:30])
    found = [
        measure(frames, subject=actor_subject, indices=indices, models=watched(painted), recorded=truth).metrics
        for frames in (half, late)
    ]
    assert found[0]["opening_r"].value == pytest.approx(1, abs=1e-3)
    assert found[0]["opening_spread"].value == pytest.approx(0.5, abs=0.01)
    assert found[0]["opening_lag"].value == pytest.approx(0, abs=5)
    assert (found[0]["opening_r"].frames, found[0]["opening_r"].missing) == (28, 2)
    assert found[1]["opening_r"].value < 0.5 and found[1]["opening_spread"].value == pytest.approx(1, abs=0.2)
    assert found[1]["opening_lag"].value == pytest.approx(80, abs=5)
    # These lips open and never widen.
    assert math.isnan(found[0]["width_r"].value) and "width of the mouth never changes" in found[0]["width_r"].reason
    few = measure(
        half[:9], subject=actor_subject, indices=indices[:9], models=watched(painted), recorded=truth[:9]
    ).metrics
    assert math.isnan(few["opening_r"].value) and few["opening_r"].reason.startswith("8 frames show a face both")
    nobody = measure(half, subject=actor_subject, indices=None, models=watched(painted)).metrics
    assert "no recorded frame" in nobody["opening_r"].reason


def test_the_recordings_lips_are_measured_in_mirrored_frames(actor_subject: Subject, painted: Painted) -> None:
    """The painted detector reads the left corner, so that the right one is what it finds in a mirrored frame."""
    rng = np.random.default_rng(9)
    greens, noise, indices = rng.integers(0, 100, 30), rng.integers(0, 60, 30), np.arange(30)
    frames = speaking(actor_subject, greens)
    for frame, green in zip(frames, greens + noise, strict=True):
        frame[0, -1] = (0, green, 255)

    def lips_of(of_recording: bool) -> dict[str, Metric]:
        return measure(
            frames,
            subject=actor_subject,
            indices=indices,
            models=watched(painted),
            recorded=frames,
            of_recording=of_recording,
        ).metrics

    found = lips_of(True)
    expected = float(np.corrcoef(greens, greens + noise)[0, 1])
    assert found["opening_r"].value == pytest.approx(expected, abs=1e-3) and 0.5 < expected < 0.95
    ratio = (greens + noise).std() / greens.std()
    assert found["opening_spread"].value == pytest.approx(float(ratio), rel=0.01)
    assert lips_of(False)["opening_r"].value == pytest.approx(1)
    for frame in frames:
        frame[0, -1] = 0
    blind = lips_of(True)["opening_r"]
    assert math.isnan(blind.value) and "mirrored frames" in blind.reason and blind.missing == 30


def test_several_frames_are_mirrored_as_one_is(painted: Painted) -> None:
    rng = np.random.default_rng(3)
    frames = [rng.integers(0, 255, (96, 96, 3), dtype=np.uint8) for _ in range(3)]
    for frame, green in zip(frames, (7, 40, 90), strict=True):
        frame[0, -1] = (0, green, 255)
    mirrored = MirroredFrames(painted)
    found = mirrored.detect_many(frames)
    assert all(row is not None for row in found)
    for row, frame in zip(found, frames, strict=True):
        np.testing.assert_array_equal(row, mirrored.detect(frame))


def test_commands_and_frames_must_be_as_many(actor_subject: Subject, painted: Painted) -> None:
    frames = marked(actor_subject, [(0, 0, 255)] * 4)
    with pytest.raises(InputError, match="3 commanded emotions for 4 frames"):
        measure(frames, subject=actor_subject, indices=None, va=np.zeros((3, 2)), models=watched(painted))
    with pytest.raises(InputError, match="3 commanded emotions for 4 frames"):
        measure(frames, subject=actor_subject, indices=np.arange(4), va=np.zeros((3, 2)), models=watched(painted))


def test_a_model_without_its_checkpoint(no_models: Path) -> None:
    with pytest.raises(InputError, match=r"emonet_8\.pth.*is not in"):
        EvaluationModels.open(emotion="emonet")
    with pytest.raises(InputError, match=r"alexnet.*is not in"):
        EvaluationModels.open(lpips="alex")
    with pytest.raises(InputError, match="emotion model 'me'"):
        EvaluationModels.open(emotion="me")
    models = EvaluationModels.open()
    assert models.lpips is not None and models.lpips.name == "LPIPS (squeeze)"
    assert EvaluationModels.open(lpips="none").lpips is None
    found = EvaluationModels.open(sync="auto", identity=False)
    assert found.sync is None and "syncnet_v2.model" in found.no_sync and "train a sync expert" in found.no_sync
    with pytest.raises(InputError, match=r"syncnet_v2\.model.*is not in"):
        EvaluationModels.open(sync="syncnet")
    assert EvaluationModels.open(sync="none").no_sync == "no sync expert was asked for"


@pytest.mark.realdata
def test_the_actors_recording_against_itself(real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All models are open: distances are zero, and nothing is missing."""
    monkeypatch.setenv("EMOTALKING_MODELS", str(real_data / "models" / "lpips"))
    script, actor = Performance.generate(1.2, seed=5), Actor(size=192)
    states = (actor.render(state) for state in script.states)
    layout, neutral = actor.layout, actor.neutral_landmarks()
    subject = write_actor_subject(tmp_path / "subject", states, script.waveform, Fraction(25), layout, neutral)
    indices = np.arange(subject.num_frames)
    frames = (subject.target(index) for index in range(subject.num_frames))
    va = subject.valence_arousal
    models = EvaluationModels.open()
    found = measure(frames, subject=subject, indices=indices, samples=script.waveform, va=va, models=models).metrics
    for name in ("lpips", "lmd", "aue_u", "aue_l"):
        assert found[name].value == pytest.approx(0, abs=1e-6) and found[name].missing == 0, name
    assert found["lpips"].model == "LPIPS (squeeze)" and found["jitter_head"].value == found["jitter_head_truth"].value
