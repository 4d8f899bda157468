"""Where the skin's weights lie, on the actor's face."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emotalking.data import Subject
from emotalking.models.gaussians import Gaussians
from emotalking.models.head import render_layer
from emotalking.models.skin import NO_SHADE, SHADE_KNOTS
from emotalking.testing.actor.actor import Actor
from emotalking.train.run import emotion_generator, train
from emotalking.train.skin import shade_weights, skin_weights
from emotalking.train.stages import emotion

from .small import small, training_data


def weights_at(names_and_places: dict[str, np.ndarray], bright: str) -> dict[str, np.ndarray]:
    """Mean weights in [0, 1] of points of the same colour, but for the brighter ones of ``bright``."""
    actor = Actor(size=64)
    points = np.concatenate(list(names_and_places.values()))
    colours = torch.full((len(points), 3), 0.5)
    ends = np.cumsum([len(part) for part in names_and_places.values()])
    spans = {
        name: slice(end - len(part), end) for (name, part), end in zip(names_and_places.items(), ends, strict=True)
    }
    colours[spans[bright]] = 0.7
    gaussians = Gaussians(torch.from_numpy(points.astype(np.float32)), colours, 0, torch.full((len(points),), 0.001))
    found = skin_weights(actor.neutral_landmarks(), actor.layout, gaussians)
    assert found.dtype == torch.uint8
    return {name: found[span].float().mean(0).numpy() / 255 for name, span in spans.items()}


def test_cheeks_flush_lights_shine_and_eyes_lips_and_the_back_do_not() -> None:
    actor = Actor(size=64)
    shape, layout = actor.neutral_landmarks().astype(np.float64), actor.layout
    right, left = layout.eye_centres(shape)
    unit, middle = np.linalg.norm(left - right), (left + right) / 2
    near = shape[np.argsort(np.abs(shape[:, :2] - (middle + [0.62 * unit, -0.6 * unit, 0])[:2]).sum(1))[:3]]
    forehead = shape[np.argsort(-shape[:, 1])[:1]] * [1, 0.93, 1]
    lips = shape[list(layout.lips_outer)]
    eyes = np.stack([right, left])
    rows = weights_at(
        {
            "cheek": near,
            "forehead": forehead,
            "lips": lips,
            "eyes": eyes,
            "back": near - [0, 0, 1.5 * unit],
            "all": shape,
        },
        "cheek",
    )
    assert rows["cheek"][0] > 0.7 and rows["cheek"][0] > rows["forehead"][0]
    for name in ("lips", "eyes", "back"):
        assert rows[name].max() < 0.05, name
    assert rows["cheek"][1] > rows["forehead"][1]


def test_shade_lies_on_the_skin_alone(actor_subject: Subject) -> None:
    data = training_data(actor_subject)
    assert data.shape is not None
    layout, skin = data.layout, data.shape[list(data.layout.right_brow)]
    hidden = skin - skin.new_tensor([0, 0, 2 * float((skin[0] - data.shape[layout.left_brow[0]]).norm())])
    points = torch.cat([skin, data.shape[list(layout.lips_outer)], data.shape[list(layout.right_iris)], hidden])
    gaussians = Gaussians(points, torch.full((len(points), 3), 0.5), 0, torch.full((len(points),), 0.001))
    codes = shade_weights(emotion_generator(data), data, gaussians)
    assert codes.shape == (len(points), SHADE_KNOTS)
    change = (codes.int() - NO_SHADE).abs()
    assert change[: len(skin)].max() > 10 and change[len(skin) :].max() <= 3


def test_trained_heads_have_the_shade_that_their_settings_want(
    actor_subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the emotion stage renders with it, in every step."""
    tinted = []

    def rendered(*given: Any, tint: torch.Tensor | None = None, **named: Any) -> Any:
        tinted.append(tint is not None)
        return render_layer(*given, tint=tint, **named)

    monkeypatch.setattr(emotion, "render_layer", rendered)
    for wanted in (True, False):
        settings = small(f"model.emotion.shade={str(wanted).lower()}")
        made = train(actor_subject.files.root, tmp_path / f"{wanted}.safetensors", "tiny", overrides=settings)
        gaussians = made.avatar.head.face.gaussians
        assert gaussians.skin is not None and (gaussians.shade is not None) == wanted
        assert tinted == [wanted] * 2
        tinted.clear()
