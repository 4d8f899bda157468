"""``emotalking sync train``."""

from emotalking import api
from emotalking.cli.commands import Arguments

SECTION = "evaluate"
FUNCTION = api.train_sync_expert
IF_INTERRUPTED = "no expert was written"
EXAMPLES = """examples:
  emotalking sync train someone
  emotalking sync train someone other another -o shared_expert.safetensors
"""


def run(arguments: Arguments) -> None:
    """Train the expert and print how well it measures held-out seconds."""
    device = api.choose_device(arguments["device"]).type
    report = api.train_sync_expert(**arguments)
    print(f"{report.path}: {report.steps} steps in {report.seconds:.0f} s on {device}")
    for folder, part in zip(arguments["subjects"], report.held_out, strict=True):
        if part is None:
            print(f"  {folder}: too few held-out seconds to measure")
            continue
        print(
            f"  {folder}, {part.seconds:.1f} held-out seconds: offset {part.offset:+d} frames, Sync-E {part.sync_e:.3f}"
            f", Sync-C {part.sync_c:.3f}; {part.within_one:.0%} of {part.pieces} pieces of 2 s within one frame"
        )
