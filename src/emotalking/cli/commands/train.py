"""``emotalking train``."""

from emotalking import api
from emotalking.cli.commands import Arguments
from emotalking.cli.console import announce_device, note

SECTION = "make an avatar"
FUNCTION = api.train
IF_INTERRUPTED = "rerun the same command: it continues from the last checkpoint, or begins again if there is none yet"
EXAMPLES = """examples:
  emotalking train someone -o someone.safetensors
  emotalking train someone -o someone.safetensors --preset paper --device cuda:1
  emotalking train someone -o someone.safetensors --preset tiny --set seed=3 --set face.iterations=2000
"""


def run(arguments: Arguments) -> None:
    """Train the avatar."""
    announce_device("training", arguments["device"])
    from emotalking.ops.devices import choose_device

    if arguments["preset"] != "tiny" and choose_device(arguments["device"]).type == "cpu":
        note(f"the preset {arguments['preset']} is made for a GPU and may take hours on a CPU: tiny takes minutes")
    made = api.train(**arguments)
    took = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in made.stage_seconds.items())
    note(f"{made.path} is ready ({took}): 'emotalking render {made.path} --audio SPEECH -o out.mp4'")
    note(f"training report: {made.page}")
