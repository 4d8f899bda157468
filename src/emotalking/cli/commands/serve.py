"""``emotalking serve``."""

from emotalking import api
from emotalking.cli.commands import Arguments
from emotalking.cli.console import announce_device, note

SECTION = "use it"
FUNCTION = api.serve
IF_INTERRUPTED = "the server has stopped"
EXAMPLES = """examples:
  emotalking serve someone.safetensors
  emotalking serve someone.safetensors another.safetensors --host 0.0.0.0 --max-sessions 4
"""


def run(arguments: Arguments) -> None:
    """Serve until interrupted."""
    from emotalking.progress import asking

    announce_device("rendering", arguments["device"])
    with api.serve(**arguments) as server:
        note(f"open {server.link}; stop with Ctrl+C")
        with asking():  # waiting for clients is no work to tell of
            server.serve_forever()
    note("the server has stopped")
