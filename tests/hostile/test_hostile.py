"""Hostile and damaged files: a few mutations of each reader's; ``EMOTALKING_FUZZ=10000`` makes that many."""

import io
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from emotalking.errors import InputError

from . import mutations
from .readers import Reader
from .run import outcome

ROOT = Path(__file__).parents[2]
COUNT = int(os.environ.get("EMOTALKING_FUZZ", "6"))
"""Mutations of each reader."""


def test_every_reader_ends_with_values_or_a_sentence() -> None:
    """In a process of its own, whose memory and computing are limited, and which reports what would run."""
    command = [sys.executable, "-m", "tests.hostile.run", "--count", str(COUNT)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    faults = {
        f"{name} ({' '.join(command[3:])})": one["faults"] for r in reports for name, one in r.items() if one["faults"]
    }
    assert done.returncode == 0 and not faults, f"{faults}\n{done.stderr[-2000:]}"
    assert len(reports) >= 30
    refused = sum(one.get("refused", 0) for report in reports for one in report.values())
    assert 0.3 * COUNT * len(reports) < refused < COUNT * len(reports)


@pytest.mark.parametrize(
    "mutation", sorted({*mutations.ZIP, *mutations.JSON, mutations.claim}, key=lambda m: m.__name__)
)
def test_mutations_change_a_file_and_are_reproduced(mutation: mutations.Mutation) -> None:
    packed = io.BytesIO()
    np.savez(packed, a=np.arange(9.0), b=np.ones(3))
    data = packed.getvalue() if mutation in mutations.ZIP else b'{"a": [1, 2.5, "x"],\n "b": {"c": null}}'
    made = [mutation(data, random.Random(number)) for number in range(8)]
    assert made == [mutation(data, random.Random(number)) for number in range(8)]
    assert any(one != data for one in made)


def test_the_harness_tells_faults_from_sentences(tmp_path: Path) -> None:
    def fails(error: BaseException) -> str:
        def read(_: Path) -> None:
            raise error

        return outcome(Reader(tmp_path / "a", read, ()), b"x")

    assert fails(InputError("a sentence")) == "refused"
    assert fails(KeyError("a")).startswith("KeyError") and fails(AssertionError()).startswith("AssertionError")
    assert fails(InputError("two\nlines")).startswith("no sentence")
    wrapped = InputError("a sentence")
    wrapped.__cause__ = MemoryError()
    assert fails(wrapped).startswith("memory")
