"""Answers of a study: the CSV that browsers and the server write, and what they prefer."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from emotalking.errors import UserError
from emotalking.evaluate.intervals import DRAWS, Interval
from emotalking.evaluate.study import COLUMNS, NONE, QUESTIONS, Study
from emotalking.report import Bold, Table

MOST_ROWS = 1_000_000
"""Rows that one file of answers may have."""
FEWEST_PEOPLE = 5
"""With fewer participants there is no interval."""
_PARTICIPANT = re.compile(r"[0-9a-f]{8}")
_HEADS = {"emotion": "emotion", "lips": "lip sync", "quality": "overall quality"}


@dataclass(frozen=True)
class Answer:
    """One row, in the order of ``study.COLUMNS``."""

    study: str
    participant: str
    """8 hexadecimal digits, drawn by the browser."""
    seed: int
    """Of the participant's order of groups and clips."""
    group: int
    order: str
    """Codes of the clips from left to right."""
    question: str
    choice: str
    """A code, or "none"."""
    seconds: float


def checked(row: Mapping[str, Any], study: Study) -> Answer:
    """A row of answers as typed values.

    Raises:
        ValueError: in a few words, what cannot be.
    """
    if set(row) != set(COLUMNS):
        raise ValueError(f"the columns are not {', '.join(COLUMNS)}")
    try:
        seed, group, seconds = int(row["seed"]), int(row["group"]), float(row["seconds"])
    except (TypeError, ValueError) as error:
        raise ValueError("seed, group or seconds is no number") from error
    answer = Answer(
        str(row["study"]), str(row["participant"]), seed, group, str(row["order"]), str(row["question"]),
        str(row["choice"]), seconds,
    )  # fmt: skip
    if answer.study != study.id:
        raise ValueError("it is of another study")
    if not _PARTICIPANT.fullmatch(answer.participant):
        raise ValueError("the participant is not 8 hexadecimal digits")
    if not 0 <= seed < 2**32 or not 0 <= group < len(study.groups) or not 0 <= seconds < 1e6:
        raise ValueError("seed, group or seconds is out of range")
    if sorted(answer.order.split(" ")) != sorted(study.groups[group]):
        raise ValueError("the order does not hold the group's clips once each")
    if answer.question not in {question["id"] for question in QUESTIONS}:
        raise ValueError("there is no such question")
    if answer.choice != NONE and answer.choice not in study.groups[group]:
        raise ValueError("the choice is no clip of the group")
    return answer


def read_answers(paths: Iterable[Path], study: Study) -> list[Answer]:
    """Answers of several files; a row that comes twice counts once.

    Raises:
        UserError: a file cannot be read, a row is malformed, or somebody answered a question twice, differently.
    """
    found: dict[tuple[str, int, str], Answer] = {}
    for path in paths:
        try:
            with path.open(newline="", encoding="utf-8") as file:
                for number, row in enumerate(csv.DictReader(file), 2):
                    if number > MOST_ROWS:
                        raise UserError(f"{path} has more than {MOST_ROWS} rows: give the answers of one study.")
                    try:
                        answer = checked(row, study)
                    except ValueError as error:
                        raise UserError(f"{path}, line {number}: {error}; give the file as it was saved.") from error
                    key = (answer.participant, answer.group, answer.question)
                    if found.setdefault(key, answer).choice != answer.choice:
                        raise UserError(f"{path}, line {number}: this participant has answered differently before.")
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{path} cannot be read as a table ({error}): give the answers' CSV file.") from error
    return list(found.values())


def write_rows(path: Path, answers: Sequence[Answer]) -> None:
    """Append answers, with a header if the file is new."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    if not path.exists():
        writer.writerow(COLUMNS)
    writer.writerows(astuple(answer) for answer in answers)
    # One write to the file, so that a server that is killed leaves all of a participant's answers or none.
    with path.open("ab", buffering=0) as file:
        file.write(text.getvalue().encode())


@dataclass(frozen=True)
class Share:
    """How often a system was chosen at a question."""

    share: float
    """0..1."""
    interval: Interval | None
    """95 %; None with too few participants."""
    answers: int


def preferences(answers: Sequence[Answer], study: Study, *, seed: int = 0) -> dict[str, dict[str, Share]]:
    """Question to system (and "none") to its share of the answers.

    Intervals are percentiles of a bootstrap over participants, because one person's answers are alike.
    """
    people = sorted({answer.participant for answer in answers})
    names = (*study.systems, NONE)
    counts = np.zeros((len(people), len(QUESTIONS), len(names)))
    rows = {question["id"]: at for at, question in enumerate(QUESTIONS)}
    for answer in answers:
        name = NONE if answer.choice == NONE else study.groups[answer.group][answer.choice]
        counts[people.index(answer.participant), rows[answer.question], names.index(name)] += 1
    generator = np.random.default_rng(seed)
    drawn = generator.integers(len(people), size=(DRAWS, len(people))) if len(people) >= FEWEST_PEOPLE else None
    found: dict[str, dict[str, Share]] = {}
    for question, at in rows.items():
        total = int(counts[:, at].sum())
        if total:
            intervals = [None] * len(names) if drawn is None else _intervals(counts[:, at], drawn)
            shares = counts[:, at].sum(0) / total
            found[question] = {
                name: Share(float(share), interval, total)
                for name, share, interval in zip(names, shares, intervals, strict=True)
            }
    return found


def _intervals(counts: Float[np.ndarray, "P S"], drawn: np.ndarray) -> list[Interval | None]:
    resampled = counts[drawn].sum(1)
    totals = resampled.sum(1)
    shares = resampled[totals > 0] / totals[totals > 0, None]
    low, high = np.percentile(shares, [2.5, 97.5], axis=0)
    return [Interval(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def preference_table(found: Mapping[str, Mapping[str, Share]], study: Study) -> Table:
    """Table S1 of the paper's form: a row a system, a column a question, in per cent with 95 % intervals."""
    best = {question: max(share.share for share in shares.values()) for question, shares in found.items()}
    rows = []
    for name in (*study.systems, NONE):
        cells = [name]
        for question, shares in found.items():
            share = shares[name]
            text = f"{100 * share.share:.1f}"
            if share.interval is not None:
                text += f" ({100 * share.interval.low:.1f}–{100 * share.interval.high:.1f})"
            cells.append(Bold(text) if share.share == best[question] else text)
        rows.append(cells)
    return Table(["system", *(f"{_HEADS[question]} [%]" for question in found)], rows)


def summary(answers: Sequence[Answer], study: Study) -> str:
    """One line: how many answered how much."""
    people = len({answer.participant for answer in answers})
    groups = len({(answer.participant, answer.group) for answer in answers})
    line = f"{people} participants, {groups} groups of clips answered, {len(answers)} answers"
    return (
        line if people >= FEWEST_PEOPLE else f"{line}; for intervals at least {FEWEST_PEOPLE} participants are needed"
    )
