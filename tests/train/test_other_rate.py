"""A subject of another rate than 25 all the way: training windows, avatar, rendered video and its sound."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from emotalking import api
from emotalking.data import Subject
from emotalking.data.readers import read_table
from emotalking.testing.actor.actor import Actor
from emotalking.testing.actor.performance import Performance
from emotalking.testing.actor_subject import write_actor_subject
from emotalking.train import run

from .small import small

NTSC = Fraction(30000, 1001)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    script, actor = Performance.generate(1.4, seed=3, fps=float(NTSC)), Actor(size=64)
    return write_actor_subject(
        tmp_path_factory.mktemp("ntsc") / "subject",
        (actor.render(state) for state in script.states),
        script.waveform,
        NTSC,
        actor.layout,
        actor.neutral_landmarks(),
    )


def test_the_rate_reaches_the_rendered_video(subject: Subject, tmp_path: Path) -> None:
    assert subject.fps == NTSC
    stamps = read_table(subject.files.action_units)["timestamp"]
    assert stamps[30] == pytest.approx(1.001, abs=5e-4)
    made = run.train(subject.files.root, tmp_path / "a.safetensors", "tiny", "cpu", small(pretraining=2))
    assert made.avatar.fps == NTSC
    sound = Performance.generate(1.0, seed=5).waveform.astype(np.float32)
    rendered = api.render(made.avatar, sound, tmp_path / "a.mp4")
    assert rendered.frames == 30
    with av.open(str(tmp_path / "a.mp4")) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert video.average_rate == NTSC
        assert video.start_time is not None and audio.duration is not None and audio.time_base is not None
        assert float(audio.duration * audio.time_base) == pytest.approx(1.0, abs=0.05)
        times = [frame.time for frame in container.decode(video)]
    assert np.allclose(times, np.arange(30) * 1001 / 30000, atol=1e-4)
