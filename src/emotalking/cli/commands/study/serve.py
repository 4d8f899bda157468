"""``emotalking study serve``."""

from typing import Any

from emotalking import api

SECTION = "evaluate"
FUNCTION = api.serve_study
IF_INTERRUPTED = "the server has stopped; stored answers are whole"


def run(arguments: dict[str, Any]) -> None:
    """Serve until interrupted."""
    from emotalking.cli.console import note

    with api.serve_study(**arguments) as server:
        note(f"open {server.address}; answers go to {server.answers}; stop with Ctrl+C")
        server.serve_forever()
