"""Reports without an evaluation."""

from typing import Any

from emotalking.evaluate.results import Report, Result

NOTHING: dict[str, Any] = {"va": None, "classes": None, "expressions": None, "sync": None, "spectrum": None}
"""Record of a run of which nothing was observed."""
_SPLIT = {"frames": "0", "count": 1, "contiguous": True, "numbers_sha256": "0", "targets_sha256": "0"}
_PROVENANCE: dict[str, Any] = {
    "code": {"version": "0", "commit": None, "uncommitted_changes": False},
    "machine": {"processor": "p", "cores": 1, "gpu": None},
    "data": {"clip": None, "train": _SPLIT, "val": _SPLIT},
    "device": "cpu",
    "avatar": {"file": "a", "sha256": "0"},
    "training": {},
    "sounds": [],
    "evaluation_models": {},
    "packages": {},
}


def a_report(*results: Result) -> Report:
    return Report({"avatar": "a", "subject": "s"}, _PROVENANCE, results, "test")
