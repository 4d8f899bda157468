"""``emotalking tts-coverage``."""

from emotalking import api
from emotalking.cli.commands import Arguments
from emotalking.cli.console import note

SECTION = "use it"
FUNCTION = api.phoneme_coverage


def run(arguments: Arguments) -> None:
    """Count and print."""
    from emotalking.tts.phonemes import summary

    covered = api.phoneme_coverage(**arguments)
    print(summary(covered))
    for kind, group in (("consonants", covered.inventory.consonants), ("vowels", covered.inventory.vowels)):
        print(f"{kind}: " + "  ".join(f"{sound} {covered.counts[sound]}" for sound in group))
    if arguments["page"] is not None:
        note(f"see {arguments['page']}")
