"""Result of many jobs, and the page about them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from emotalking.jobs.job import Outcome
from emotalking.report import Link, Page, Table

INDEX = "index.html"
"""Name of the page about all jobs of a folder."""
_HEADER = ("name", "outcome", "time [s]")


@dataclass(frozen=True)
class ManyResult:
    """Outcomes of many jobs."""

    outcomes: Sequence[Outcome]
    page: Path
    """The page about all of them."""

    @property
    def table(self) -> Table:
        """A row for each job."""
        return Table(_HEADER, [(one.name, one.state, f"{one.seconds:.1f}") for one in self.outcomes])

    @property
    def failures(self) -> dict[str, str]:
        """Reasons by the job's name."""
        return {one.name: one.why for one in self.outcomes if one.state == "failed"}


def verdicts(page: Page, failures: dict[str, str], total: int, what: str) -> None:
    """Begin a page with how many jobs succeeded, such as "2 of 3 subjects have an avatar", and why the others did not.

    Args:
        what: what is true of those that succeeded.
    """
    good = total - len(failures)
    page.verdict(f"{good} of {total} {what}.", "good" if good == total else "warn")
    for name, why in failures.items():
        page.verdict(f"{name}: {why}.", "bad")


def write_page(outcomes: Sequence[Outcome], folder: Path, title: str, what: str) -> ManyResult:
    """Write the page :data:`INDEX`: verdict, and a table with links to what was made.

    Args:
        folder: holds what was made.
        title: heading.
        what: as in :func:`verdicts`.
    """
    result = ManyResult(outcomes, folder / INDEX)
    page = Page(title, time.strftime("%Y-%m-%d %H:%M"))
    verdicts(page, result.failures, len(outcomes), what)
    rows = []
    for one, row in zip(outcomes, result.table.rows, strict=True):
        linked = Link(one.name, one.output.relative_to(folder)) if one.output.exists() else one.name
        rows.append((linked, *row[1:]))
    page.table(_HEADER, rows)
    page.write(result.page)
    return result
