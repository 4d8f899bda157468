"""Many subjects: finished ones are kept, broken ones stop nobody, and a page tells of all."""

import shutil
from pathlib import Path

import pytest

from emotalking.cli.main import main
from emotalking.data import Subject
from emotalking.errors import InputError
from emotalking.jobs.engine import Sequential
from emotalking.models.avatar_file import read_avatar_metadata
from emotalking.provenance.consent import consent_of
from emotalking.train import many
from emotalking.train.many import TrainManyResult, train_many

from .small import small

pytestmark = pytest.mark.usefixtures("one_thread", "unchecked")
STATEMENT = "Anna and Ben agree to avatars for the museum's guide"
SHORT = small("model.emotion.branch=none", "finetune.iterations=2", steps=4, pretraining=2, face=120)


@pytest.fixture
def subjects(actor_subject: Subject, tmp_path: Path) -> list[Path]:
    """One that is well, and one without a table."""
    folders = [tmp_path / "subjects" / name for name in ("anna", "ben")]
    for folder in folders:
        shutil.copytree(actor_subject.files.root, folder)
    (folders[1] / "au.csv").unlink()
    return folders


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the subjects that a training was begun of."""
    names: list[str] = []
    train = many.train

    def noted(subject: Path, *arguments: object, **more: object) -> object:
        names.append(subject.name)
        return train(subject, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(many, "train", noted)
    return names


def test_one_broken_subject_stops_nobody_and_what_is_finished_is_kept(
    subjects: list[Path], tmp_path: Path, trained: list[str]
) -> None:
    out = tmp_path / "avatars"

    def made(settings: list[str], consent: str = STATEMENT) -> TrainManyResult:
        trained.clear()
        return train_many(subjects, out, "tiny", settings, Sequential("cpu"), consent)

    first = made(SHORT)
    assert trained == ["anna", "ben"]
    assert "au.csv" in first.failures["ben"] and list(first.failures) == ["ben"]
    assert "au.csv" in (out / "ben.log").read_text()
    anna, ben = first.table.rows
    assert anna[:2] == ("anna", "trained") and 5.0 < float(anna[2]) < 40.0 and int(anna[3]) > 100 and int(anna[4]) > 10
    assert ben == ("ben", "failed", "–", "–", "–", "–")
    metadata = read_avatar_metadata(out / "anna.safetensors")
    command, agreed = metadata["command"], consent_of(metadata)
    assert agreed is not None and agreed.statement == STATEMENT
    assert command.startswith(f"emotalking train {subjects[0]} -o {out / 'anna.safetensors'} --preset tiny --set ")
    shutil.copyfile(subjects[0] / "au.csv", subjects[1] / "au.csv")
    (out / "anna.safetensors.run" / "report.html").write_text("its page")
    second = made(SHORT)
    assert trained == ["ben"] and not second.failures
    assert [row[1] for row in second.table.rows] == ["kept", "trained"] and second.table.rows[0][2:] == anna[2:]
    page = (out / "index.html").read_text()
    assert '<a href="anna.safetensors.run/report.html">anna</a>' in page and "2 of 2 subjects have an avatar" in page
    assert page.count("data:image/jpeg") == 2
    third = made([*SHORT, "seed=3"])
    assert not trained and "other settings" in third.failures["anna"]
    assert "anna: " in (out / "index.html").read_text()
    fourth = made(SHORT, "They agree to something else")
    assert not trained and "another statement of consent" in fourth.failures["anna"]


def test_what_cannot_be_is_refused_before_anything_begins(
    subjects: list[Path], tmp_path: Path, trained: list[str]
) -> None:
    out, engine = tmp_path / "avatars", Sequential("cpu")
    twin = tmp_path / "others" / "anna"
    with pytest.raises(InputError, match="have one name, 'anna'"):
        train_many([*subjects, twin], out, "tiny", SHORT, engine)
    with pytest.raises(InputError, match="names no field"):
        train_many(subjects, out, "tiny", ["colour=red"], engine)
    with pytest.raises(InputError, match="holds 0 of anna, 0 of ben"):
        train_many(subjects, out, "tiny", SHORT, engine, tmp_path)
    assert not trained and not out.exists()


def test_the_command_ends_with_2_and_a_sentence_for_each_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train-many", str(tmp_path / "a"), str(tmp_path / "b"), "-o", str(tmp_path / "out"), "--device", "cpu"]
    assert main(words) == 2
    shown = capsys.readouterr()
    assert "| a | failed |" in shown.out
    lines = shown.err.splitlines()
    assert sum("There is no subject folder" in line for line in lines if line.startswith("a: ")) == 2
    assert lines[-1].startswith("emotalking: error: a, b could not be trained")
