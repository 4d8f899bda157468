"""Metrics of the expression: action units against the recording, emotion against the command (docs/paper.md 9)."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from jaxtyping import Float, Int

from emotalking.emotion.circumplex import TEST_POINTS, TestPoint
from emotalking.evaluate.metrics.base import Metric, MetricSpec, per_frame, register
from emotalking.evaluate.observation import Observation

UPPER_AUS = ("AU01", "AU02", "AU04", "AU05", "AU06", "AU07", "AU09", "AU45")
"""Action units of AUE-U (docs/paper.md 9.1)."""
LOWER_AUS = ("AU10", "AU12", "AU14", "AU15", "AU17", "AU20", "AU23", "AU25", "AU26")
"""Action units of AUE-L (docs/paper.md 9.1)."""
SAME_POINT = 0.02
"""A commanded valence and arousal within this of a labelled point is that point."""


def unit_error(
    units: Mapping[str, Float[np.ndarray, " N"]],
    truth: Mapping[str, Float[np.ndarray, " N"]],
    names: tuple[str, ...],
) -> Float[np.ndarray, " N"]:
    """AUE: squared differences of action units' intensities (0 to 5), summed over ``names``.

    The baseline's script takes the mean over frames of this sum (docs/paper.md 9.1).
    """
    return np.sum([(units[name] - truth[name]) ** 2 for name in names], 0)


def unit_power(units: Mapping[str, Float[np.ndarray, " N"]], names: tuple[str, ...]) -> Float[np.ndarray, " N"]:
    """Squared intensities of action units, summed over ``names``: the AUE of a face at rest, where all units are 0.

    An AUE means something only far below it. Embedded units are 0 up to the noise of landmarks, so it is next to
    nothing in frames without a blink or an expression.
    """
    return np.sum([units[name] ** 2 for name in names], 0)


def squared_error(measured: Float[np.ndarray, " N"], commanded: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """Squared error of each frame; V-RMSE and A-RMSE are the root of its mean. Valence and arousal lie in [-1, 1]."""
    return (measured - commanded) ** 2


def sign_agreement(measured: Float[np.ndarray, " N"], commanded: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """V-SA, A-SA: 1 where both have the same sign, else 0; the sign of 0 is 0. nan where not measured."""
    same = (np.sign(measured) == np.sign(commanded)).astype(np.float64)
    return np.where(np.isnan(measured), np.nan, same)


def label_of(commanded: Float[np.ndarray, "N 2"], points: Sequence[TestPoint]) -> list[str | None]:
    """The expression that belongs to each commanded valence and arousal; None where no labelled point is there."""
    places = np.array([(point.valence, point.arousal) for point in points])
    distance = np.abs(commanded[:, None] - places).max(-1)
    nearest = distance.argmin(1)
    return [points[at].label if gap[at] <= SAME_POINT else None for at, gap in zip(nearest, distance, strict=True)]


def ranks(
    scores: Float[np.ndarray, "N E"], classes: Sequence[str], labels: Sequence[str | None]
) -> Int[np.ndarray, " N"]:
    """Place of each frame's label among its class scores, 0: the highest; -1: no label, no such class, or no face."""
    out = np.full(len(scores), -1)
    for frame, label in enumerate(labels):
        if label is not None and label in classes and not np.isnan(scores[frame]).any():
            out[frame] = int((scores[frame] > scores[frame, list(classes).index(label)]).sum())
    return out


def top_k(place: Int[np.ndarray, " N"], k: int) -> Float[np.ndarray, " N"]:
    """E-Acc, percent: 100 where the label is among the ``k`` highest scores, else 0; nan where :func:`ranks` has -1."""
    return np.where(place < 0, np.nan, 100.0 * (place < k))


def _aue(name: str, run: Observation, aus: tuple[str, ...]) -> Metric:
    return per_frame(name, unit_error(run.units, run.recorded_units, aus), f"action units ({run.detector})")


def _aue_rest(name: str, run: Observation, aus: tuple[str, ...]) -> Metric:
    return per_frame(name, unit_power(run.recorded_units, aus), f"action units ({run.detector})")


def _command(run: Observation) -> Float[np.ndarray, "N 2"]:
    assert run.condition.va is not None
    return run.condition.va.astype(np.float64)


def _of_axis(name: str, run: Observation, axis: int, compare: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Metric:
    """Valence (0) or arousal (1) as read against the command."""
    assert run.models.emotion is not None and run.va is not None
    return per_frame(name, compare(run.va[:, axis], _command(run)[:, axis]), run.models.emotion.name)


def _accuracy(name: str, run: Observation, k: int) -> Metric:
    model, prediction = run.models.emotion, run.prediction
    assert model is not None and prediction is not None
    labels = label_of(_command(run), TEST_POINTS)
    places = ranks(prediction.scores, model.classes, labels)
    labelled = np.array([label is not None for label in labels])
    return per_frame(name, top_k(places, k), model.name, labelled)


_aue_spec = partial(
    MetricSpec,
    needs=("faces", "recorded_faces"),
    undefined="no frame shows a face both in the recording and in what is scored",
)
_aue_avatar = partial(_aue_spec, better="lower")
_aue_resting = partial(_aue_spec, of_recording=True)
_upper = partial(_aue, aus=UPPER_AUS)
_lower = partial(_aue, aus=LOWER_AUS)
register("aue_u", _aue_avatar("AUE-U", measure=_upper, columns={"self": 6}, ablation={"self": 8}))
register("aue_l", _aue_avatar("AUE-L", measure=_lower, columns={"self": 7}, ablation={"self": 9}))
register("aue", _aue_avatar("AUE", measure=partial(_aue, aus=UPPER_AUS + LOWER_AUS)))
register("aue_u_rest", _aue_resting("AUE-U of a face at rest", measure=partial(_aue_rest, aus=UPPER_AUS)))
register("aue_l_rest", _aue_resting("AUE-L of a face at rest", measure=partial(_aue_rest, aus=LOWER_AUS)))

_emotion_spec = partial(MetricSpec, needs=("faces", "emotion_model", "command"), of_recording=True)
for _place, (_kind, _compare, _axis_spec) in enumerate(
    (
        ("rmse", squared_error, partial(_emotion_spec, better="lower", aggregate="root_mean")),
        ("sa", sign_agreement, partial(_emotion_spec, better="higher")),
    )
):
    for _axis, _letter in enumerate("va"):
        register(
            f"{_letter}_{_kind}",
            _axis_spec(
                f"{_letter}-{_kind}".upper(),
                measure=partial(_of_axis, axis=_axis, compare=_compare),
                columns={"emotion": 2 + 2 * _place + _axis},
                ablation={"emotion": 13 + 2 * _place + _axis},
            ),
        )
_no_label = "the commanded emotions are none of the labelled points, or the model knows none of their labels"
_accuracy_spec = partial(_emotion_spec, unit="%", better="higher", digits=1, undefined=_no_label)
register("e_top1", _accuracy_spec("E-Acc top-1", measure=partial(_accuracy, k=1), columns={"emotion": 7}))
register(
    "e_top3",
    _accuracy_spec("E-Acc top-3", measure=partial(_accuracy, k=3), columns={"emotion": 6}, ablation={"emotion": 3}),
)
