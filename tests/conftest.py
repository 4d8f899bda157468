"""Fixtures for all rooms."""

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import jaxtyping
import pytest
import torch

from emotalking.data import Subject
from emotalking.provenance.certificates import VARIABLE, make_pem
from emotalking.testing.actor.actor import Actor
from emotalking.testing.actor.performance import Performance
from emotalking.testing.actor_subject import write_actor_subject


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, what this machine cannot run."""
    no_gpu = pytest.mark.skip(reason="needs a CUDA device")
    no_data = pytest.mark.skip(reason="needs the real sample clips: set EMOTALKING_DATA to their folder")
    for item in items:
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(no_gpu)
        if "realdata" in item.keywords and "EMOTALKING_DATA" not in os.environ:
            item.add_marker(no_data)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real sample clips (tests that use it carry the mark ``realdata``)."""
    return Path(os.environ["EMOTALKING_DATA"])


@pytest.fixture(scope="session", autouse=True)
def signing_key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """File of a signing key for all tests and the processes that they begin: none is made in the user's folders."""
    file = tmp_path_factory.mktemp("signing") / "signing.pem"
    file.write_text(make_pem())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(file))
        yield file


@pytest.fixture
def no_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model folder, the test's own and empty; the home folder has none."""
    monkeypatch.setenv("EMOTALKING_MODELS", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Sums of threads may differ in the last bit; one thread makes runs comparable exactly."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # of the processes that a run begins
        yield
    torch.set_num_threads(before)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Without the checks of shapes, a fifth of a short training: for tests that repeat what others check."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture(scope="session")
def actor_subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A subject folder of 33 frames at 64x64 with exact ground truth; read it only."""
    script, actor = Performance.generate(33 / 25, seed=3), Actor(size=64)
    return write_actor_subject(
        tmp_path_factory.mktemp("actor") / "subject",
        (actor.render(state) for state in script.states),
        script.waveform,
        Fraction(25),
        actor.layout,
        actor.neutral_landmarks(),
    )
