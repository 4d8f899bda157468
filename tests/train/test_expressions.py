"""Recorded frames of a person's own expressions in the emotion stage; without them nothing changes."""

import json
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from emotalking.data import Subject
from emotalking.data.audio_features import DEFAULT_FEATURE
from emotalking.data.frame import from_neutral
from emotalking.data.labels import Label
from emotalking.errors import InputError
from emotalking.io.settings import override
from emotalking.testing.actor.actor import Actor
from emotalking.testing.actor.performance import Performance
from emotalking.testing.actor_subject import write_actor_subject
from emotalking.train.context import Context
from emotalking.train.data import TrainingData
from emotalking.train.expressions import SAME_GAP, Expressions, _face, _same_gap, gaps, uses_expressions
from emotalking.train.presets import preset
from emotalking.train.run import MESH_WARP, build_head, fingerprint, resolve_config, train
from emotalking.train.stages.emotion import EmotionStage
from emotalking.train.targets import EmotionalTargets

pytestmark = pytest.mark.usefixtures("one_thread")
SETTINGS = [
    "model.face.initial_points=200",
    "model.mouth.initial_points=40",
    "audio_pretraining=0",
    "motion_pretraining=0",
    "emotion.pretraining=0",
    "perceptual.backbone=none",
    "closed_mouth_code=0",
]
MATCH = [[0.5, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.1], [1.0, 0.0, 0.0, 0.0]]


@pytest.fixture(scope="module")
def subject(actor_subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """The actor with a clip in which she is angry, of another size."""
    root = tmp_path_factory.mktemp("expressive") / "subject"
    shutil.copytree(actor_subject.files.root, root)
    script, actor = Performance.generate(22 / 25, seed=5, emotion=(-0.7, 0.4)), Actor(size=48)
    folder = root / "expressions" / "angry"
    frames = (actor.render(state) for state in script.states)
    write_actor_subject(folder, frames, script.waveform, Fraction(25), actor.layout, actor.neutral_landmarks())
    manifest = json.loads((folder / "subject.json").read_text())
    manifest |= {"clip": {"name": "angry.mp4", "sha256": "0" * 64}, "steps": {"colours": {"coefficients": MATCH}}}
    (folder / "subject.json").write_text(json.dumps(manifest))
    return Subject.open(root)


@pytest.fixture(scope="module")
def data(subject: Subject) -> TrainingData:
    return TrainingData.load(subject, subject.train_indices, DEFAULT_FEATURE, "cpu")


@pytest.fixture(scope="module")
def expressions(subject: Subject, data: TrainingData) -> Expressions:
    found = Expressions.load(subject, data)
    assert found is not None
    return found


def stage(subject: Subject, data: TrainingData, expressions: Expressions | None, share: float) -> EmotionStage:
    config = override(preset("tiny"), [*SETTINGS, f"emotion.expression_share={share}", "emotion.iterations=4"])
    config = resolve_config(config, subject)
    generator = torch.Generator().manual_seed(1)
    head = build_head(config, data, generator)
    context = Context(head, data, config, generator, expressions=expressions)
    return EmotionStage(context, MESH_WARP.open(data))


def test_a_frame_has_the_main_clips_speech_and_units(
    subject: Subject, data: TrainingData, expressions: Expressions
) -> None:
    (clip,) = expressions.clips
    angry = subject.expressions["angry"]
    assert expressions.count == len(clip.indices) == len(angry.train_indices) == 20
    conditions = clip.conditions
    assert torch.allclose(conditions.aus[:, :-1], data.conditions.aus[:, :-1].median(0).values.expand(20, -1))
    assert np.allclose(conditions.aus[:, -1], angry.aus[clip.indices, -1])
    assert np.allclose(conditions.va, angry.read_emotion[clip.indices])  # pyright: ignore[reportOptionalSubscript]
    wanted, known = gaps(angry)[clip.indices], gaps(subject)[data.indices]
    for row in range(20):
        nearest = int(np.abs(known - wanted[row]).argmin())
        assert torch.equal(conditions.audio[row], data.conditions.audio[nearest])
    image = clip.target(0).image[0].numpy()
    recorded = angry.original(int(clip.indices[0])) / 255.0
    assert np.abs(image - (recorded * [0.5, 1, 1] + [0, 0.1, 0]).clip(0, 1)).max() < 0.5 / 255 + 1e-6


def test_only_the_face_is_compared_and_no_lips_of_an_unknown_gap(expressions: Expressions, subject: Subject) -> None:
    rows, near = _same_gap(np.array([0.0, 0.004, 0.02]), np.array([np.nan, 0.001, 0.0045]))
    assert rows.tolist() == [1, 2, 2] and near.tolist() == [True, True, False]
    assert 0.0045 - 0.004 < SAME_GAP < 0.02 - 0.0045
    track, frame = subject.landmarks, 3
    labels, points = subject.masks(frame).labels, track.points[frame].astype(float)
    whole, upper = (_face(points, track.layout, labels, lips=lips) for lips in (True, False))
    assert not whole[labels == Label.HAIR].any() and (labels[whole] == Label.BACKGROUND).mean() < 0.03
    assert whole[labels == Label.HEAD].mean() > 0.5
    lips = points[list(track.layout.lips_outer)].round().astype(int)
    eyes = points[list(track.layout.right_upper_lid)].round().astype(int)
    assert whole[lips[:, 1], lips[:, 0]].all() and not upper[lips[:, 1], lips[:, 0]].any()
    assert upper[eyes[:, 1], eyes[:, 0]].all()


def test_their_share_is_drawn_and_a_cut_run_goes_on(data: TrainingData, expressions: Expressions) -> None:
    def source(draw: torch.Generator) -> EmotionalTargets:
        more = {"expressions": expressions, "expression_share": 0.5}
        return EmotionalTargets(data, MESH_WARP.open(data), draw, va_limit=1.0, real_share=1.0, **more)

    draw = torch.Generator().manual_seed(2)
    whole = source(draw)
    frames = [whole.draw(0)[0] for _ in range(60)]
    beyond = [frame - data.count for frame in frames if frame >= data.count]
    assert 20 <= len(beyond) <= 40 and 0 <= min(beyond) and max(beyond) < expressions.count
    whole._drawn = [whole._choose() for _ in range(9)]
    state, drawn = whole.state_dict(), draw.get_state()
    assert any(frame >= data.count for frame, _ in state["plans"])
    wanted = [whole.draw(0) for _ in range(15)]
    again = torch.Generator()
    again.set_state(drawn)
    resumed = source(again)
    resumed.load_state_dict(state)
    for (frame, target), (same, other) in zip(wanted, [resumed.draw(0) for _ in range(15)], strict=True):
        assert frame == same and torch.equal(target.image, other.image) and torch.equal(target.va, other.va)
    state["plans"] = [(data.count + expressions.count, None)]
    with pytest.raises(ValueError, match="a plan for frame"):
        resumed.load_state_dict(state)


def test_what_is_not_compared_has_no_say(subject: Subject, data: TrainingData, expressions: Expressions) -> None:
    one = stage(subject, data, expressions, 1.0)
    key, inputs = one.inputs(0)
    assert inputs.target is not None and inputs.target.compared is not None
    assert inputs.frame >= data.count and one.subject_frame(inputs) in expressions.clips[0].indices
    seen = inputs.target.compared[..., None]
    noise = torch.rand(inputs.target.image.shape, generator=torch.Generator().manual_seed(0))
    terms = one.terms(key, inputs)
    outside = inputs._replace(target=inputs.target._replace(image=torch.where(seen, inputs.target.image, noise)))
    inside = inputs._replace(target=inputs.target._replace(image=torch.where(seen, noise, inputs.target.image)))
    assert torch.equal(one.terms(key, outside)["l1"], terms["l1"])
    assert not torch.equal(one.terms(key, inside)["l1"], terms["l1"])
    sum(terms.values()).backward()  # pyright: ignore[reportAttributeAccessIssue]
    moved = [p.grad for p in one.network.parameters() if p.grad is not None]
    assert moved and all(bool(torch.isfinite(gradient).all()) for gradient in moved)


def test_the_main_clip_is_neutral_in_the_same_measure(actor_subject: Subject, subject: Subject) -> None:
    read, found = subject.read_emotion, subject.valence_arousal
    assert read is not None and found is not None
    assert np.allclose(found, from_neutral(read, np.median(read, 0)), atol=1e-6) and not np.allclose(found, read)
    assert actor_subject.valence_arousal is actor_subject.read_emotion
    assert from_neutral(np.array([[0.5, -0.2]]), np.array([0.5, -0.2])).tolist() == [[0, 0]]
    assert np.allclose(from_neutral(np.array([[0.4, 0.0]]), np.zeros(2), 2.0), [[np.tanh(2 * np.arctanh(0.4)), 0]])


def test_a_subject_without_them_is_trained_as_before(actor_subject: Subject, subject: Subject, tmp_path: Path) -> None:
    quick = [f"{name}.iterations=2" for name in ("mouth", "face", "emotion", "finetune")]
    quick += ["mouth.warmup=1", "face.warmup=1", *SETTINGS]
    for source, share, marked in (
        (actor_subject, 0.3, False),
        (subject, 0.0, False),
        (subject, 1.0, True),
    ):
        config = resolve_config(override(preset("tiny"), [*quick, f"emotion.expression_share={share}"]), source)
        assert uses_expressions(config, source) == marked
        assert ("expressions" in fingerprint(config, "tiny", source, MESH_WARP)) == marked
    combined = override(preset("tiny"), ["model.emotion.branch=combined"])
    assert not uses_expressions(combined, subject)
    settings = {"plain": [], "own": ["emotion.expression_share=1"]}
    made = {
        name: train(source.files.root, tmp_path / f"{name}.safetensors", "tiny", overrides=[*quick, *settings[name]])
        for name, source in (("plain", actor_subject), ("own", subject))
    }
    weights = {name: one.avatar.head.state_dict() for name, one in made.items()}
    same = {key for key, value in weights["plain"].items() if torch.equal(value, weights["own"][key])}
    other = {key for key in weights["plain"] if not key.startswith("emotion.")} - same
    assert {key.split(".gaussians.")[-1] for key in other} <= {"sh0", "sh_rest", "opacity_logits"}  # fine-tuned later
    assert {key for key in weights["plain"] if key.startswith("emotion.trunk")}.isdisjoint(same)
    assert made["own"].avatar.metadata["run"]["expressions"] == {"angry": ["0" * 64, 22]}


def test_a_folder_that_is_no_clip_of_expressions_is_refused(subject: Subject, data: TrainingData) -> None:
    clip = subject.expressions["angry"]
    kept = clip.manifest["steps"]
    clip.manifest["steps"] = {}
    vars(clip).pop("colour_match", None)
    try:
        with pytest.raises(InputError, match="is no clip of expressions"):
            Expressions.load(subject, data)
    finally:
        clip.manifest["steps"] = kept
        vars(clip).pop("colour_match", None)
