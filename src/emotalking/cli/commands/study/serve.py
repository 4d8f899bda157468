"""``emotalking study serve``."""

from pathlib import Path

from emotalking import api
from emotalking.cli.commands import Arguments
from emotalking.cli.console import note
from emotalking.io.files import holding

SECTION = "evaluate"
FUNCTION = api.serve_study
IF_INTERRUPTED = "the server has stopped; stored answers are whole"


def run(arguments: Arguments) -> None:
    """Serve until interrupted."""
    with holding(Path(arguments["study"])), api.serve_study(**arguments) as server:
        note(f"open {server.address}; answers go to {server.answers}; stop with Ctrl+C")
        server.serve_forever()
