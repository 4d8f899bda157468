"""Answers to a user study: their file, and the table of the paper's S1."""

import csv
import errno
import io
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from emotalking.errors import InputError
from emotalking.evaluate.intervals import DRAWS, Interval
from emotalking.evaluate.study import COLUMNS, KEY, NONE, QUESTIONS, Answer, Study
from emotalking.report import Bold, Table

_logger = logging.getLogger(__name__)

ANSWERS = "answers.csv"
MOST_ROWS = 1_000_000
"""Rows that one file of answers may have."""
FEWEST_PEOPLE = 5
"""Minimum number of participants for an interval."""
_HEADS = {"emotion": "emotion", "lips": "lip sync", "quality": "overall quality"}


def read_answers(paths: Iterable[Path], study: Study) -> list[Answer]:
    """Answers of several files; a duplicate row counts once.

    Raises:
        InputError: a file cannot be read, a row is malformed, or a participant answered a question twice, differently.
    """
    found: dict[tuple[str, int, str], Answer] = {}
    for path in paths:
        try:
            with path.open(newline="", encoding="utf-8") as file:
                rows = csv.DictReader(file)
                for number, row in enumerate(rows, 2):
                    if number > MOST_ROWS:
                        raise InputError(f"{path} has more than {MOST_ROWS} rows: give the answers of one study.")
                    try:
                        answer = Answer.of(row, study)
                    except ValueError as error:
                        if next(rows, None) is None and _is_torn(path):
                            _logger.warning("%s, line %d is torn and was left out (%s)", path, number, error)
                            break
                        raise InputError(f"{path}, line {number}: {error}; give the file as it was saved.") from error
                    key = (answer.participant, answer.group, answer.question)
                    if found.setdefault(key, answer).choice != answer.choice:
                        raise InputError(f"{path}, line {number}: this participant has answered differently before.")
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{path} cannot be read as a table ({error}): give the answers' CSV file.") from error
    return list(found.values())


def _is_torn(path: Path) -> bool:
    """True if a file does not end with the end of a line."""
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def write_rows(path: Path, answers: Sequence[Answer]) -> None:
    """Append answers, all or none, with a header if the file is new; a last line that is torn is written over.

    Raises:
        OSError: the disk is full, ...; the file is as it was.
    """
    size, ends = _whole(path)
    text = io.StringIO(newline="")
    text.write("" if ends else "\r\n")
    writer = csv.writer(text)
    if size == 0:
        writer.writerow(COLUMNS)
    writer.writerows(astuple(answer) for answer in answers)
    if path.exists():
        os.truncate(path, size)
    # One write to the file, so that a server that is killed leaves all of a participant's answers or none.
    with path.open("ab", buffering=0) as file:
        data = text.getvalue().encode()
        try:
            if file.write(data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
        except OSError:
            os.truncate(path, size)
            raise


def _whole(path: Path) -> tuple[int, bool]:
    """Bytes of a file of answers without a torn last line, and whether its last line has an end."""
    if not path.exists():
        return 0, True
    with open(path, "rb") as file:
        data = file.read()
    whole = data.rfind(b"\n") + 1
    if whole < len(data) and data[whole:].count(b",") == len(COLUMNS) - 1:
        return len(data), False
    return whole, True


@dataclass(frozen=True)
class Share:
    """Share of answers that chose a system at a question."""

    share: float
    """0..1."""
    interval: Interval | None
    """95 %; None with too few participants."""
    answers: int


def preferences(answers: Sequence[Answer], study: Study) -> dict[str, dict[str, Share]]:
    """Question to system (and "none") to its share of the answers.

    Intervals are percentiles of a bootstrap over participants, because one person's answers are correlated.
    """
    people = sorted({answer.participant for answer in answers})
    names = (*study.systems, NONE)
    counts = {question["id"]: np.zeros((len(people), len(names))) for question in QUESTIONS}
    for answer in answers:
        name = NONE if answer.choice == NONE else study.groups[answer.group][answer.choice]
        counts[answer.question][people.index(answer.participant), names.index(name)] += 1
    enough = len(people) >= FEWEST_PEOPLE
    drawn = np.random.default_rng(0).integers(len(people), size=(DRAWS, len(people))) if enough else None
    found: dict[str, dict[str, Share]] = {}
    for question, each in counts.items():
        total = int(each.sum())
        if total:
            intervals = [None] * len(names) if drawn is None else _intervals(each, drawn)
            shares = zip(names, each.sum(0) / total, intervals, strict=True)
            found[question] = {name: Share(float(share), interval, total) for name, share, interval in shares}
    return found


def _intervals(counts: Float[np.ndarray, "P S"], drawn: Int[np.ndarray, "D P"]) -> list[Interval | None]:
    resampled = counts[drawn].sum(1)
    totals = resampled.sum(1)
    shares = resampled[totals > 0] / totals[totals > 0, None]
    low, high = np.percentile(shares, [2.5, 97.5], axis=0)
    return [Interval(float(a), float(b)) for a, b in zip(low, high, strict=True)]


@dataclass(frozen=True)
class Results:
    """A study with the answers to it."""

    study: Study
    answers: list[Answer]

    @property
    def table(self) -> Table:
        """Table in the form of the paper's S1: a row per system, a column per question, in % with 95 % intervals."""
        found = preferences(self.answers, self.study)
        best = {question: max(share.share for share in shares.values()) for question, shares in found.items()}
        rows = []
        for name in (*self.study.systems, NONE):
            cells = [name]
            for question, shares in found.items():
                share = shares[name]
                text = f"{100 * share.share:.1f}"
                if share.interval is not None:
                    text += f" ({100 * share.interval.low:.1f}–{100 * share.interval.high:.1f})"
                cells.append(Bold(text) if share.share == best[question] else text)
            rows.append(cells)
        return Table(["system", *(f"{_HEADS[question]} [%]" for question in found)], rows)

    @property
    def summary(self) -> str:
        """Number of participants, groups and answers in one line."""
        people = len({answer.participant for answer in self.answers})
        groups = len({(answer.participant, answer.group) for answer in self.answers})
        line = f"{people} participants, {groups} groups of clips answered, {len(self.answers)} answers"
        return f"{line}; intervals need at least {FEWEST_PEOPLE} participants" if people < FEWEST_PEOPLE else line


def read_results(folder: Path, files: Sequence[Path] = ()) -> Results:
    """Results of a study folder.

    Args:
        files: of answers; none: those that the server collected.

    Raises:
        InputError: no study there, no answers, or answers cannot be read.
    """
    study, stored = Study.read(folder / KEY), folder / ANSWERS
    if not files and not stored.exists():
        raise InputError(f"nobody has answered yet ({stored} is not there): serve the study, or name .csv files.")
    return Results(study, read_answers(files or [stored], study))
