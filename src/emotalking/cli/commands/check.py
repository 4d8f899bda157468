"""``emotalking check``."""

from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import Annotated

from emotalking import api
from emotalking.cli.commands import Arguments
from emotalking.cli.console import note
from emotalking.errors import InputError
from emotalking.io.files import write_bytes
from emotalking.options import Overwrite, PathLike, Writes

SECTION = "make an avatar"
FUNCTION = api.check
IF_INTERRUPTED = "no page was written"


def run(
    arguments: Arguments,
    *,
    page: Annotated[PathLike | None, Writes("html page")] = None,
    json: Annotated[PathLike | None, Writes("measures")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Check the clip; an unusable one raises an error after its page is written.

    Args:
        page: HTML page to write; None: CLIP.check.html next to the clip.
        json: also write all measures as JSON.
    """
    from emotalking.preprocess.check.page import default_page, summary_lines, write_page

    footage = api.check(**arguments)
    print("\n".join(summary_lines(footage)), flush=True)  # first: not lost where the page cannot be written
    page = Path(page) if page is not None else default_page(Path(arguments["clip"]))
    write_page(footage, page)
    if json is not None:
        facts = asdict(footage)
        for one in (facts, *facts["expressions"]):
            del one["stills"]
        write_bytes(Path(json), (dumps(facts, indent=2) + "\n").encode())
    unusable = [Path(one.clip).name for one in (footage, *footage.expressions) if one.verdict == "unusable"]
    if unusable:
        raise InputError(f"{', '.join(unusable)} cannot be used: {page} shows why")
    note(f"{page} shows why")
