"""Names of before 0.2.0: every one reaches the verb and the option that it is now, with one note."""

import shlex
from typing import Any

import pytest

from emotalking.cli import main as cli
from emotalking.cli.aliases import ALIASES, find
from emotalking.cli.arguments import parameters
from emotalking.cli.main import load, main, verbs


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What the verbs were called with, without doing it."""
    found: list[tuple[str, dict[str, Any]]] = []
    for name in verbs():
        monkeypatch.setattr(load(name), "run", recorder(name, load(name).run, found))
    return found


def recorder(name: str, run: Any, found: list[tuple[str, dict[str, Any]]]) -> Any:
    def record(arguments: dict[str, Any], **extras: Any) -> None:
        found.append((name, arguments | extras))

    record.__wrapped__ = run  # type: ignore[attr-defined]
    return record


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            "ablate s -o a --judge emonet --only full,combined",
            "ablate s -o a --emotion-model emonet --variants full,combined",
        ),
        ("compare s a=b c=d -o t --judge emonet5", "compare s a=b c=d -o t --emotion-model emonet5"),
        ("demo --out d", "demo -o d"),
        ("evaluate a s -o r --judge landmarks --scenario all", "evaluate a s -o r --scenarios self,cross,emotion"),
        (
            "evaluate a s -o r --scenario=cross --audio a.wav b.wav",
            "evaluate a s -o r --scenarios cross --audio a.wav b.wav",
        ),
        ("evaluate --again r.json -o r2", "reproduce r.json -o r2"),
        ("evaluate --again=r.json -o r2", "reproduce r.json -o r2"),
        (
            "faces apply a.png b.png --emotion happy --habit 0,0",
            "faces apply a.png -o b.png --emotion happy --resting-expression 0,0",
        ),
        ("faces sheet --grid 3 a.png b.png --fixed-lips", "faces sheet a.png -o b.png --grid 3 --fixed-lips"),
        ("faces train s --out f --squares 9", "faces train s -o f --frames 9"),
        ("import f --out n", "import f -o n"),
        ("prepare --size 128 c.mp4 s --force --emotion-judge landmarks", "prepare c.mp4 -o s --size 128 --force"),
        ("prepare c.mp4 s --preview", "prepare c.mp4 -o s --preview"),
        (
            "render a --audio b --frames d --transparent --no-silence-gate",
            "render a --audio b --frames-folder d --background transparent --no-vad",
        ),
        ("say hello -o a.wav --voice f2", "tts hello -o a.wav --voice f2"),
        (
            "say --curated de -o d --voice m3,f2 --rate 1,1.2 --takes 2",
            "tts-sentences --language de -o d --voices m3,f2 --rates 1,1.2 --takes 2",
        ),
        ("say --coverage --language es --page p", "tts-coverage --language es --page p"),
        ("say --voices --language fr", "tts-voices --language fr"),
        ("study -o d a=1.mp4 b=2.mp4 --emotion happy", "study make a=1.mp4 b=2.mp4 -o d --emotions happy"),
        ("study -o d --serve --port 80", "study serve d --port 80"),
        ("study -o d --results", "study results d"),
        ("study -o d --results a.csv b.csv", "study results d --answers a.csv b.csv"),
        ("sync train s --out e", "sync train s -o e"),
        ("train s a --fresh --set seed=1 --device cpu", "train s -o a --no-resume --set seed=1 --device cpu"),
        ("train --preset tiny s a", "train s -o a --preset tiny"),
        ("validate s --peer ernerf", "validate s --compat ernerf"),
    ],
)
def test_old_names_are_accepted_with_a_note(
    old: str, new: str, calls: list[tuple[str, dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(shlex.split(new)) == 0 and capsys.readouterr().err == ""
    assert main(shlex.split(old)) == 0
    note = capsys.readouterr().err
    assert note.startswith("emotalking: note: ") and note.count("\n") == 1
    (name, expected), (other, got) = calls
    assert name == other
    for both in (expected, got):
        both.pop("command", None)
    assert got == expected


def test_the_table_names_what_there_is() -> None:
    for alias in ALIASES:
        module = load(alias.new_verb)
        known = {one.flag for one in (*parameters(module.FUNCTION), *parameters(module.run, skip=("arguments",)))}
        known |= {f"--no-{flag[2:]}" for flag in known}
        for new in alias.flags.values():
            assert not new or new.split()[0] in known, f"{alias.new_verb} has no {new}"
    assert find("info", ["x"]) is None


def test_a_new_name_is_used_without_a_note(
    calls: list[tuple[str, dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", "s", "-o", "a"]) == 0 and cli.main(["study", "serve", "d"]) == 0
    assert capsys.readouterr().err == "" and [name for name, _ in calls] == ["train", "study serve"]
