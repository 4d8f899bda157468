"""``emotalking verify``."""

from dataclasses import asdict
from json import dumps
from typing import TYPE_CHECKING

from emotalking import api
from emotalking.cli.commands import Arguments

if TYPE_CHECKING:
    from emotalking.provenance.signing import Signature
    from emotalking.provenance.verify import MarkReport

SECTION = "inspect"
FUNCTION = api.verify
EXAMPLES = """examples:
  emotalking verify video.mp4
  emotalking verify screenshot.png --json

A file without a mark can still be synthetic: made by another program, or with the mark removed.
"""


def run(arguments: Arguments, *, json: bool = False) -> None:
    """Say what was found.

    Args:
        json: print JSON, for other programs.
    """
    found = api.verify(**arguments)
    if json:
        print(dumps({"verdict": found.verdict, **asdict(found)}, indent=2))
        return
    print(found.verdict)
    print(f"  signature: {found.unreadable or _signature(found.signature)}")
    for line in ["no images"] if found.mark is None else _mark(found.mark):
        print(f"  mark: {line}")


def _signature(signature: "Signature | None") -> str:
    """A signature in one line."""
    if signature is None:
        return "none"
    if not signature.valid:
        return f"does not fit this file ({', '.join(signature.problems)})"
    known = (
        "your own key" if signature.own else "a trusted key" if signature.trusted else "a key that is not known here"
    )
    facts = [
        f"valid, by {known}",
        signature.issuer,
        signature.tool,
        signature.time,
        ", ".join(signature.source_types),
        "" if signature.avatar is None else f"avatar {signature.avatar[:16]}",
        "" if signature.consent is None else f"consent {signature.consent[:16]}",
    ]
    return "; ".join(fact for fact in facts if fact)


def _mark(report: "MarkReport") -> list[str]:
    """The mark in a few lines."""
    best = report.best
    if best is None:
        return ["none (the images are too small or too smooth to carry one)"]
    certainty = f"a false alarm has a probability of at most {best.false_alarm:.1g}"
    if not report.marked:
        return [f"none (files without one hold as strong a pattern with a probability of up to {best.false_alarm:.1g})"]
    if best.payload is None:
        lines = [f"found, but its content is not readable; {certainty}"]
    else:
        tool = best.payload.tool_name or f"tool {best.payload.tool}"
        avatar = "no avatar" if best.payload.avatar_id is None else f"avatar {best.payload.avatar_id}"
        lines = [f"{tool}, {avatar}; {100 * (best.bit_error or 0):.0f} % of the bits were wrong; {certainty}"]
    if report.stretches:
        lines.append("at " + ", ".join(f"{begin:.1f} to {end:.1f} s" for begin, end in report.stretches))
    return lines
