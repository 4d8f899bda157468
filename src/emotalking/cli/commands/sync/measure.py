"""``emotalking sync measure``."""

from json import dumps
from pathlib import Path
from typing import Annotated

from emotalking import api
from emotalking.cli.commands import Arguments
from emotalking.io.files import write_bytes
from emotalking.options import PathLike, Writes

SECTION = "evaluate"
FUNCTION = api.measure_sync
IF_INTERRUPTED = "no page was written"
EXAMPLES = """examples:
  emotalking sync measure out.mp4 --expert someone/sync_expert.safetensors
  emotalking sync measure someone --page sync.html
"""


def run(arguments: Arguments, *, json: Annotated[PathLike | None, Writes("measures")] = None) -> None:
    """Measure and print.

    Args:
        json: also write the measures as JSON.
    """
    scores = api.measure_sync(**arguments)
    if json is not None:
        facts: dict[str, object] = {
            "clip": Path(arguments["clip"]).name,
            "expert": scores.expert,
            "sync_e": scores.error,
        }
        facts |= {"sync_c": scores.confidence, "offset_frames": scores.offset, "curve": scores.curve.tolist()}
        write_bytes(Path(json), (dumps(facts, indent=2) + "\n").encode())
    print(f"{arguments['clip']}: {scores.summary()}")
