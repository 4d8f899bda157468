"""``emotalking tts-sentences``."""

from emotalking import api
from emotalking.cli.commands import Arguments
from emotalking.cli.console import note

SECTION = "use it"
FUNCTION = api.synthesize_sentences
EXAMPLES = """examples:
  emotalking tts-sentences -o sentences --language de
  emotalking tts-sentences -o sentences --voices m3,f2 --rates 1,1.2 --takes 2
"""


def run(arguments: Arguments) -> None:
    """Synthesize the set."""
    utterances = api.synthesize_sentences(**arguments)
    seconds = sum(one.seconds for one in utterances)
    summary = f"{len(utterances)} sentences, {seconds:.1f} s, each with its words (.txt) and times (.json)"
    note(f"{arguments['output']}: {summary}")
