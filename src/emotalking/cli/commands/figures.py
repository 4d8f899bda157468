"""``emotalking figures``."""

from emotalking import api
from emotalking.cli.commands import Arguments
from emotalking.cli.console import announce_device, note

SECTION = "evaluate"
FUNCTION = api.draw_figures
IF_INTERRUPTED = "finished figures are kept: rerun the same command to continue"
EXAMPLES = """examples:
  emotalking figures someone.safetensors someone -o figures
  emotalking figures someone.safetensors someone -o figures --only attention,normals --frames 4
  emotalking figures someone.safetensors someone -o figures --audio speech.wav --seconds 12
  emotalking figures someone.safetensors someone -o figures --against TalkingGaussian=out --against ER-NeRF=trial

index.html in the folder shows all figures with their captions.
"""


def run(arguments: Arguments) -> None:
    """Draw the figures, and tell which were drawn, kept and left out."""
    announce_device("drawing", arguments["device"])
    made = api.draw_figures(**arguments)
    for what, names in (("drawn", made.drawn), ("kept from before", made.kept)):
        if names:
            note(f"{what}: {', '.join(names)}")
    for name, why in made.left_out.items():
        note(f"left out: {name}, as {why}")
    note(f"see {made.page}")
